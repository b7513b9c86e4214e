"""The filters and tests of templates: Jinja2's own as far as they are of use here, and ours for this job.

Left out of Jinja2's: what pads or formats without a limit, HTML, what is random, and what reaches into Python.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Undefined, pass_context
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.runtime import Context
from jinja2.tests import TESTS as JINJA_TESTS

from schemas.bounds import Budget, Failed, as_text
from schemas.moment import moment

#: Where the budget is in a template's context: no name that a template could write.
BUDGET = "=budget"

_KEPT = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "filesizeformat", "first", "float", "int", "items",
    "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "select",
    "selectattr", "sort", "sum", "title", "trim", "unique", "upper", "urlencode", "wordcount",
)  # fmt: skip
_KEPT_TESTS = (
    "boolean", "defined", "divisibleby", "eq", "even", "false", "float", "ge", "gt", "in", "integer", "iterable", "le",
    "lower", "lt", "mapping", "ne", "none", "number", "odd", "sequence", "string", "true", "undefined", "upper",
)  # fmt: skip
_FOR_MISSING_NAMES = {"d", "default", "defined", "undefined"}

# What strftime may be asked for: a width, as in %1000000d, is padding without a limit.
_DATE_FORMAT = re.compile(r"(?:[^%]|%[YmdHMSjGVuyBbAapIf%]){1,100}")
_MAX_DIGITS = 15
_APIFY_NAME_LENGTH = 63


def date(value: object, format: str = "%Y-%m-%d") -> str:  # noqa: A002 - the name that templates use
    """The day, in UTC: for `2026-11-22T23:30:00-05:00` it is `2026-11-23`, and `2026-11` by the format `%Y-%m`."""
    found = moment(value)
    if found is None:
        raise Failed("date: what it gets is no time in any known format.")
    if not isinstance(format, str) or not _DATE_FORMAT.fullmatch(format):
        raise Failed("date: its format must be strftime's, without widths.")
    # glibc writes the year 987 with three digits.
    return found.strftime(format.replace("%Y", f"{found.year:04d}"))


def apify_name(value: object) -> str:
    """A name that Apify takes: `Größe (2026)` becomes `Gro-e-2026`, cut to 63 characters."""
    plain = "".join(
        character for character in unicodedata.normalize("NFKD", as_text(value)) if not unicodedata.combining(character)
    )
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


def _checked(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raises Failed where a filter of Jinja2's would be asked for too much."""
    if name == "round":
        digits = args[0] if args else kwargs.get("precision", 0)
        if not _is_whole(digits) or not 0 <= digits <= _MAX_DIGITS:
            raise Failed(f"round: takes a precision of 0 to {_MAX_DIGITS}.")
    if name == "sum":
        start = args[1] if len(args) > 1 else kwargs.get("start", 0)
        if not isinstance(start, int | float):
            raise Failed("sum: sums numbers.")


def _present(name: str, *values: object) -> None:
    """Raises UndefinedError where something is missing: Jinja2 itself lets some of it pass."""
    if name not in _FOR_MISSING_NAMES:
        for each in values:
            if isinstance(each, Undefined):
                str(each)


def _builtin(name: str) -> Callable[..., Any]:
    @pass_context
    def call(context: Context, value: object, *args: object, **kwargs: object) -> object:
        _present(name, value, *args, *kwargs.values())
        _checked(name, args, kwargs)
        budget: Budget = context[BUDGET]
        budget.check()
        made = context.environment.call_filter(f"={name}", value, args, kwargs, context=context)
        return budget.measured(made)

    return call


def _own(name: str, function: Callable[..., object], *, takes_budget: bool = False) -> Callable[..., Any]:
    @pass_context
    def call(context: Context, value: object, *args: object, **kwargs: object) -> object:
        _present(name, value, *args, *kwargs.values())
        budget: Budget = context[BUDGET]
        budget.check()
        return budget.measured(function(*([budget] if takes_budget else []), value, *args, **kwargs))

    return call


def _test(name: str) -> Callable[..., bool]:
    function: Any = JINJA_TESTS[name]

    def call(value: object, *args: object) -> bool:
        _present(name, value, *args)
        return bool(function(value, *args))

    return call


_OURS: Mapping[str, Callable[..., object]] = {
    "apify_name": apify_name,
    "date": date,
    "limit": limit,
    "string": string,
    "tojson": tojson,
}

FILTERS: Mapping[str, Callable[..., Any]] = {
    **{name: _builtin(name) for name in _KEPT},
    **{name: _own(name, function) for name, function in _OURS.items()},
    "join": _own("join", _join, takes_budget=True),
    "replace": _own("replace", _replace, takes_budget=True),
}
#: What those of Jinja2's are called by, under names that only code can write.
ORIGINALS: Mapping[str, Callable[..., Any]] = {f"={name}": JINJA_FILTERS[name] for name in _KEPT}

TESTS: Mapping[str, Callable[..., bool]] = {name: _test(name) for name in _KEPT_TESTS}
