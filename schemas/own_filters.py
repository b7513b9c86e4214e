"""The filters for this job, and those of Jinja2's that need a limit. Each raises Failed for what it can't take."""

import re
import unicodedata
from typing import Any

from jinja2.filters import FILTERS as JINJA_FILTERS

from schemas.bounds import Budget, Failed, as_text
from schemas.moment import moment

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
        raise Failed(f"date: {_kind(value)} is no time in any known format.")
    check_date_format(format)
    # glibc writes the year 987 with three digits.
    year = f"{found.year:04d}"
    return found.strftime(_DIRECTIVE.sub(lambda each: year if each[1] == "Y" else each[0], format))


def check_date_format(wanted: object) -> None:
    """Raises Failed for what is no format of `date`."""
    directives = _DIRECTIVE.findall(wanted) if isinstance(wanted, str) and len(wanted) <= _LONGEST_FORMAT else []
    if not directives or not all(each and each in _DIRECTIVES for each in directives):
        raise Failed(
            f"date: its format is as '%Y-%m-%d', of up to {_LONGEST_FORMAT} characters, % before one of {_DIRECTIVES}."
        )


def _kind(value: object) -> str:
    """What `value` is, without what it says."""
    kinds = {type(None): "null", bool: "true or false", str: "the text", dict: "an object"}
    return kinds.get(type(value), "the number" if isinstance(value, int | float) else "a list")


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
    if not is_whole(length) or length < 0 or not isinstance(end, str) or len(end) > length:
        raise Failed("limit: takes a length of 0 or more, and an end no longer than that.")
    return text if len(text) <= length else text[: length - len(end)] + end


def string(value: object) -> str:
    """A string as it is, anything else as JSON."""
    return as_text(value)


def tojson(value: object) -> str:
    """`value` as JSON, strings in quotes."""
    return as_text([value])[1:-1]


def unique(budget: Budget, value: object, case_sensitive: bool = False) -> list[Any]:
    """The distinct items, in their order; `true` is not 1, and `A` is `a` unless it is told otherwise."""
    seen: dict[str, Any] = {}
    for each in several(value, "unique"):
        budget.check()
        # As text: numbers can be chosen so that their hashes are all the same.
        key = as_text([each])
        seen.setdefault(key if case_sensitive else key.lower(), each)
    return list(seen.values())


def listed(value: object) -> list[Any]:
    """`value` as a list: an object's keys, a text's characters."""
    return several(value, "list")


def join(budget: Budget, value: object, d: str = "") -> str:
    """The items as one text, with `d` between."""
    between, parts, size = as_text(d), [], 0
    for each in several(value, "join"):
        budget.check()
        parts.append(as_text(each))
        size += len(parts[-1]) + len(between)
        budget.room(size - len(between))
    return between.join(parts)


def replace(budget: Budget, value: object, old: str, new: str, count: int = -1) -> str:
    """`value` with `new` for `old`, everywhere or `count` times."""
    text, old, new = as_text(value), as_text(old), as_text(new)
    if not is_whole(count):
        raise Failed("replace: its count must be a whole number.")
    times = text.count(old) if count < 0 else min(text.count(old), count)
    budget.room(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, count)


def several(value: object, name: str) -> list[Any]:
    """What the filter `name` goes through. Raises Failed: nothing."""
    if not isinstance(value, list | tuple | dict | str):
        raise Failed(f"{name}: takes a list.")
    return list(value)


def is_whole(value: object) -> bool:
    """Whether `value` is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether `value` is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def rounded(value: float, precision: int = 0, method: str = "common") -> Any:
    """A number with so many digits behind the point; its method is one of Jinja2's."""
    if not is_number(value):
        raise Failed("round: takes a number.")
    if not is_whole(precision) or not 0 <= precision <= _MAX_DIGITS:
        raise Failed(f"round: takes a precision of 0 to {_MAX_DIGITS}.")
    return JINJA_FILTERS["round"](value, precision, method)


def trim(value: str, chars: str | None = None) -> Any:
    """`value` without white space, or without `chars`, at its ends."""
    if chars is not None and not (isinstance(chars, str) and len(chars) <= _LONGEST_TRIM):
        raise Failed(f"trim: takes up to {_LONGEST_TRIM} characters.")
    return value.strip(chars)
