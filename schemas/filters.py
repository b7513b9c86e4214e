"""The filters and tests of templates: Jinja2's own as far as they are of use here, and ours for this job.

Left out of Jinja2's: what pads or formats without a limit, HTML, what is random, and what reaches into Python. What
is kept gets only what it can handle in bounded time: no operation of Python's can be interrupted.
"""

import inspect
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import Undefined, pass_context
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.runtime import Context
from jinja2.tests import TESTS as JINJA_TESTS

from schemas.bounds import Budget, Failed, as_text
from schemas.moment import moment

#: Where the budget is in a template's context: no name that a template could write.
BUDGET = "=budget"

#: Filters that apply another filter or a test, which a template names.
APPLYING = ("map", "select", "reject", "selectattr", "rejectattr")
#: Filters that may look at an attribute of each item.
LOOKING = ("sort", "min", "max", "sum")
_OF_TEXT = ("capitalize", "lower", "title", "trim", "upper", "urlencode", "wordcount")
_OF_ANYTHING = (
    "abs", "count", "d", "default", "dictsort", "filesizeformat", "float", "int", "items", "length", "reverse",
    "round",
)  # fmt: skip
_OF_ENVIRONMENT = ("first", "last", *LOOKING)
_KEPT_TESTS = (
    "boolean", "defined", "divisibleby", "eq", "==", "equalto", "even", "false", "float", "ge", ">=", "gt", ">",
    "greaterthan", "in", "integer", "iterable", "le", "<=", "lower", "lt", "<", "lessthan", "mapping", "ne", "!=",
    "none", "number", "odd", "sequence", "string", "true", "undefined", "upper",
)  # fmt: skip
_FOR_MISSING_NAMES = {"d", "default", "defined", "undefined"}
# To a string these are Python's formatting.
_OF_NUMBERS = {"divisibleby", "even", "odd"}

# What strftime may be asked for: a width, as in %1000000d, is padding without a limit.
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_DIRECTIVES = "YmdHMSjGVuyBbAapIf%"
_LONGEST_FORMAT = 100
_MAX_DIGITS = 15
_LONGEST_TRIM = 100
_APIFY_NAME_LENGTH = 63
# What a name is made of; the rest of a long text changes nothing.
_LONGEST_NAMED = 1000


def date(value: object, format: str = "%Y-%m-%d") -> str:  # noqa: A002 - the name that templates use
    """The day, in UTC: for `2026-11-22T23:30:00-05:00` it is `2026-11-23`, and `2026-11` by the format `%Y-%m`."""
    found = moment(value)
    if found is None:
        raise Failed("date: what it gets is no time in any known format.")
    wanted = _DIRECTIVE.findall(format) if isinstance(format, str) else [""]
    if not all(each and each in _DIRECTIVES for each in wanted) or len(format) > _LONGEST_FORMAT:
        raise Failed(
            f"date: its format is strftime's, up to {_LONGEST_FORMAT} characters, and % with one of {_DIRECTIVES}."
        )
    # glibc writes the year 987 with three digits.
    year = f"{found.year:04d}"
    return found.strftime(_DIRECTIVE.sub(lambda each: year if each[1] == "Y" else each[0], format))


def apify_name(value: object) -> str:
    """A name that Apify takes: `Größe (2026)` becomes `Gro-e-2026`, cut to 63 characters."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Failed("apify_name: takes text or a number.")
    text = unicodedata.normalize("NFKD", as_text(value)[:_LONGEST_NAMED])
    plain = "".join(character for character in text if not unicodedata.combining(character))
    name = re.sub(r"[^a-zA-Z0-9]+", "-", plain).strip("-")[:_APIFY_NAME_LENGTH].rstrip("-")
    if not name:
        raise Failed("apify_name: nothing is left of what it gets.")
    return name


def limit(value: object, length: int, end: str = "") -> str:
    """The first `length` characters (code points); with an `end`, as in `limit(120, '…')`, that is what was cut."""
    text = as_text(value)
    if not _is_whole(length) or length < 0 or not isinstance(end, str) or len(end) > length:
        raise Failed("limit: takes a length of 0 or more, and an end no longer than that.")
    return text if len(text) <= length else text[: length - len(end)] + end


def string(value: object) -> str:
    """A string as it is, anything else as JSON."""
    return as_text(value)


def tojson(value: object) -> str:
    """`value` as JSON, strings in quotes."""
    return as_text([value])[1:-1]


def unique(value: object, case_sensitive: bool = False) -> list[Any]:
    """The distinct items, in their order; `true` is not 1, and `A` is `a` unless it is told otherwise."""
    seen: dict[str, Any] = {}
    for each in _several(value, "unique"):
        # As text: numbers can be chosen so that their hashes are all the same.
        key = as_text([each])
        seen.setdefault(key if case_sensitive else key.lower(), each)
    return list(seen.values())


def _list(value: object) -> list[Any]:
    return _several(value, "list")


def _join(budget: Budget, value: object, d: str = "") -> str:
    parts = [as_text(each) for each in _several(value, "join")]
    between = as_text(d)
    budget.room(sum(map(len, parts)) + len(between) * len(parts))
    return between.join(parts)


def _replace(budget: Budget, value: object, old: str, new: str, count: int = -1) -> str:
    text, old, new = as_text(value), as_text(old), as_text(new)
    if not _is_whole(count):
        raise Failed("replace: its count must be a whole number.")
    times = text.count(old) if count < 0 else min(text.count(old), count)
    budget.room(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, count)


def concatenated(budget: Budget, values: list[object]) -> str:
    """What `~` makes of `values`."""
    return _join(budget, values)


def _several(value: object, name: str) -> list[Any]:
    if not isinstance(value, list | tuple | dict | str):
        raise Failed(f"{name}: takes a list.")
    return list(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _round(value: float, precision: int = 0, method: str = "common") -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Failed("round: takes a number.")
    if not _is_whole(precision) or not 0 <= precision <= _MAX_DIGITS:
        raise Failed(f"round: takes a precision of 0 to {_MAX_DIGITS}.")
    return JINJA_FILTERS["round"](value, precision, method)


def _trim(value: str, chars: str | None = None) -> Any:
    if chars is not None and not (isinstance(chars, str) and len(chars) <= _LONGEST_TRIM):
        raise Failed(f"trim: takes up to {_LONGEST_TRIM} characters.")
    return value.strip(chars)


def _sum(environment: Any, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    if not isinstance(start, int | float):
        raise Failed("sum: sums numbers.")
    return JINJA_FILTERS["sum"](environment, value, attribute, start)


def present(*values: object) -> None:
    """Raises UndefinedError where something is missing: Jinja2 itself lets some of it pass."""
    for each in values:
        if isinstance(each, Undefined):
            str(each)


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
        first: tuple[Any, ...] = ()
        if name in _OF_TEXT:
            value = as_text(value)
        elif name in _OF_ENVIRONMENT:
            first = (context.environment,)
        elif name in APPLYING:
            first, value = (context,), _ticking(budget, value)
        elif name in _OF_BUDGET:
            first = (budget,)
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
        if name in _OF_NUMBERS and not all(_is_whole(each) for each in (value, *args)):
            raise Failed(f"{name}: is for whole numbers.")
        return bool(function(value, *args))

    return call


_OF_BUDGET: Mapping[str, Callable[..., object]] = {"join": _join, "replace": _replace}
_FUNCTIONS: Mapping[str, Callable[..., object]] = {
    **{name: JINJA_FILTERS[name] for name in (*APPLYING, *_OF_TEXT, *_OF_ANYTHING, *_OF_ENVIRONMENT)},
    **_OF_BUDGET,
    "apify_name": apify_name,
    "date": date,
    "limit": limit,
    "list": _list,
    "round": _round,
    "string": string,
    "sum": _sum,
    "tojson": tojson,
    "trim": _trim,
    "unique": unique,
}

FILTERS: Mapping[str, Callable[..., Any]] = {name: _filter(name, function) for name, function in _FUNCTIONS.items()}
TESTS: Mapping[str, Callable[..., bool]] = {name: _test(name) for name in _KEPT_TESTS}


def misused(name: str, args: int, kwargs: list[str]) -> bool:
    """Whether the filter `name` can't be given so many arguments, or none by these names."""
    function = _FUNCTIONS[name]
    own = name in _OF_ENVIRONMENT or name in APPLYING or name in _OF_BUDGET
    try:
        inspect.signature(function).bind(*[None] * (args + 1 + own), **dict.fromkeys(kwargs))
    except TypeError:
        return True
    return False
