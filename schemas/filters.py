"""The filters and tests of templates: Jinja2's own as far as they are of use here, and ours for this job.

Left out of Jinja2's: what pads or formats without a limit, HTML, what is random, and what reaches into Python. What
is kept gets only what it can handle in bounded time: no operation of Python's can be interrupted.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from jinja2 import pass_context
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.runtime import Context
from jinja2.tests import TESTS as JINJA_TESTS

from schemas import looking_filters
from schemas import own_filters as own
from schemas.bounds import Budget, Failed, as_text, present

#: Where the budget is in a template's context: no name that a template could write.
BUDGET = "=budget"

#: Filters that apply another filter or a test, which a template names.
APPLYING = ("map", "select", "reject", "selectattr", "rejectattr")
_OF_TEXT = ("capitalize", "lower", "title", "trim", "upper", "urlencode", "wordcount")
_OF_ANYTHING = (
    "abs", "count", "d", "default", "dictsort", "filesizeformat", "float", "int", "items", "length", "reverse",
    "round",
)  # fmt: skip
_OF_ENVIRONMENT = ("first", "last")
_KEPT_TESTS = (
    "boolean", "defined", "divisibleby", "eq", "==", "equalto", "even", "false", "float", "ge", ">=", "gt", ">",
    "greaterthan", "in", "integer", "iterable", "le", "<=", "lower", "lt", "<", "lessthan", "mapping", "ne", "!=",
    "none", "number", "odd", "sequence", "string", "true", "undefined", "upper",
)  # fmt: skip
_FOR_MISSING_NAMES = {"d", "default", "defined", "undefined"}
# To a string these are Python's formatting.
_OF_NUMBERS = {"divisibleby", "even", "odd"}


def _ticking(budget: Budget, values: Any) -> Iterator[Any]:
    for each in values:
        budget.check()
        yield each


def _filter(name: str, function: Callable[..., object]) -> Callable[..., Any]:
    """`function` as the filter `name`: what goes in is there, what comes out is measured."""

    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> object:
        if name not in _FOR_MISSING_NAMES:
            present(value, *args, *kwargs.values())
        budget: Budget = context[BUDGET]
        budget.check()
        if name in _OF_TEXT:
            value = as_text(value)
        elif name in APPLYING:
            value = _ticking(budget, value)
        at_hand = {"context": context, "environment": context.environment, "budget": budget}
        first = [at_hand[each] for each in _NEEDS.get(name, ())]
        return budget.measured(function(*first, value, *args, **kwargs))

    return call


def _test(name: str) -> Callable[..., bool]:
    function: Any = JINJA_TESTS[name]

    @pass_context
    def call(context: Context, value: object, *args: object) -> bool:
        budget: Budget = context[BUDGET]
        budget.check()
        if name not in _FOR_MISSING_NAMES:
            present(value, *args)
        if name in _OF_NUMBERS and not all(own.is_whole(each) for each in (value, *args)):
            raise Failed(f"{name}: is for whole numbers.")
        return bool(function(value, *args))

    return call


_OF_BUDGET: Mapping[str, Callable[..., object]] = {
    "join": own.join,
    "replace": own.replace,
    "unique": own.unique,
}
_LOOKING: Mapping[str, Callable[..., object]] = {
    "sort": looking_filters.sort,
    "min": looking_filters.smallest,
    "max": looking_filters.largest,
    "sum": looking_filters.summed,
}
#: What a filter's function takes before the value.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(APPLYING, ("context",)),
    **dict.fromkeys(_OF_ENVIRONMENT, ("environment",)),
    **dict.fromkeys(_LOOKING, ("environment", "budget")),
    **dict.fromkeys(_OF_BUDGET, ("budget",)),
}
_FUNCTIONS: Mapping[str, Callable[..., object]] = {
    **{name: JINJA_FILTERS[name] for name in (*APPLYING, *_OF_TEXT, *_OF_ANYTHING, *_OF_ENVIRONMENT)},
    **_OF_BUDGET,
    **_LOOKING,
    "apify_name": own.apify_name,
    "date": own.date,
    "limit": own.limit,
    "list": own.listed,
    "round": own.rounded,
    "string": own.string,
    "tojson": own.tojson,
    "trim": own.trim,
}

FILTERS: Mapping[str, Callable[..., Any]] = {name: _filter(name, function) for name, function in _FUNCTIONS.items()}
TESTS: Mapping[str, Callable[..., bool]] = {name: _test(name) for name in _KEPT_TESTS}


def misused(kind: Literal["filter", "test"], name: str, args: int, kwargs: list[str]) -> bool:
    """Whether the filter or test `name` can't be given so many arguments, or none by these names."""
    if kind == "test" and kwargs:
        return True
    function: Any = _FUNCTIONS[name] if kind == "filter" else JINJA_TESTS[name]
    before = len(_NEEDS.get(name, ())) if kind == "filter" else 0
    try:
        inspect.signature(function).bind(*[None] * (before + 1 + args), **dict.fromkeys(kwargs))
    except TypeError:
        return True
    return False
