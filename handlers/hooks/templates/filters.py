"""The filters and tests of templates: a selection of Jinja2's filters and tests, and the function's own.

The selection leaves out filters that pad or format text, produce HTML, or choose at random. A filter must not take a
long time for any payload, because Python can't interrupt a filter.
"""

import difflib
import inspect
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import tzinfo
from functools import partial
from itertools import islice
from typing import Any, Literal

from jinja2 import (
    ChainableUndefined,
    Environment,
    StrictUndefined,
    Undefined,
    UndefinedError,
    pass_context,
    pass_environment,
)
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.runtime import Context
from jinja2.tests import TESTS as JINJA_TESTS

from handlers.hooks.templates.limits import Budget, RenderError, as_text, json_type, require_defined
from handlers.hooks.templates.timestamps import parse_timestamp, time_zone, time_zone_names
from schemas.problem import InvalidJSONError
from schemas.strict_json import JSON, MAX_DEPTH, parse_payload, quoted

#: The key of the budget in the context of a template. A template can't contain this name.
BUDGET = "=budget"

_DATE_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_DATE_DIRECTIVES = "YmdHMSjGVuyBbAapIfzZ%"
_MAX_FORMAT_LENGTH = 100
_MAX_PRECISION = 15
_MAX_TRIM_CHARACTERS = 100
_MAX_KEY_LENGTH = 60
_MAX_PATH_LENGTH = 120
# The minimum similarity of nearly identical names, as in difflib: `titel` and `title` have 0.8, `data` and `date` 0.75.
_MIN_SIMILARITY = 0.8
# The comparison of two names takes up to 0.4 ms.
_MAX_COMPARISONS = 100
# https://docs.apify.com/api/v2/dataset-put
_APIFY_NAME_LENGTH = 63
# https://developer.data.world/reference/patchdataset
_MIN_TAG_LENGTH, _MAX_TAG_LENGTH = 2, 25
# Shorten a text before its normalization, which can turn one character into 18 characters.
_MAX_NAME_SOURCE = 1000
# A tag can't contain these characters, so these characters can separate the tags in a text.
_TAG_SEPARATORS = re.compile(r"[,;\r\n]")


class Missing(ChainableUndefined, StrictUndefined):
    """The value of a missing name, and of every name below it: `event.a.b | default('x')` works without an `a`."""

    __slots__ = ()


class MissingNameError(UndefinedError):
    """A template uses a missing name. `has_similar_name` is True if the payload has a nearly identical name there."""

    def __init__(self, path: str, similar_path: str | None) -> None:
        super().__init__(f"{path} is missing{f'; did you mean {similar_path}?' if similar_path else '.'}")
        self.has_similar_name = similar_path is not None


def path_step(key: object) -> str:
    """Return the form in which a template looks up a literal key: `.name`, `["x-name"]`, or `[0]`."""
    if not isinstance(key, str):
        return f"[{key}]"
    is_name = key.isascii() and key.isidentifier() and len(key) <= _MAX_KEY_LENGTH
    return f".{key}" if is_name else f"[{quoted(key, _MAX_KEY_LENGTH)}]"


def look_up(value: Any, key: Any, path: str = "") -> Any:
    """Return a member of an object, an item of a list, or Missing. Never return an attribute of a Python object.

    `path` is the path of `value` in the template, such as `event.run`. The key must be a literal in the template: the
    message of Missing contains the key.
    """
    if isinstance(value, Undefined):
        return value
    is_member = isinstance(value, dict) and isinstance(key, str)
    is_item = isinstance(value, list | tuple | str) and isinstance(key, int)
    try:
        if is_member or is_item:
            return value[key]
    except LookupError:
        pass
    # Jinja2 calls `exc` only if the template uses the missing value. `default` and `is defined` don't.
    error: Any = partial(_missing_name_error, path, value, key)
    return Missing(exc=error)


def _missing_name_error(path: str, parent: object, key: object, _message: str) -> MissingNameError:
    if len(path) > _MAX_PATH_LENGTH:
        path = f"…{path[-_MAX_PATH_LENGTH:]}"
    similar = _similar_name(parent, key) if isinstance(parent, dict) and isinstance(key, str) else None
    steps = [path_step(name) if path else path_step(name).removeprefix(".") for name in (key, similar)]
    return MissingNameError(path + steps[0], path + steps[1] if similar else None)


def _similar_name(names: Iterable[str], name: str) -> str | None:
    """Return the name that is nearly identical to `name`, or None."""
    if len(name) > _MAX_KEY_LENGTH:
        return None
    # A payload can have many names, and names of any length.
    by_folded_name = {
        other.casefold(): other
        for other in islice((other for other in names if len(other) <= _MAX_KEY_LENGTH), _MAX_COMPARISONS)
    }
    matches = difflib.get_close_matches(name.casefold(), by_folded_name, n=1, cutoff=_MIN_SIMILARITY)
    return by_folded_name[matches[0]] if matches else None


def budget_of(context: Context) -> Budget:
    """Return the budget of the event for which the template is rendered."""
    budget: Budget = context[BUDGET]
    return budget


def date(value: object, format: str = "%Y-%m-%d", tz: str = "UTC") -> str:  # noqa: A002 - the name in templates
    """Return a timestamp in a format of strftime, in UTC or in the time zone with the IANA name `tz`.

    By default, `2026-11-22T23:30:00-05:00` becomes `2026-11-23`.
    """
    check_date_format(format)
    zone = check_time_zone(tz)
    time = parse_timestamp(value)
    if time is None:
        raise RenderError("date: the value is not a timestamp in a known format.")
    try:
        time = time.astimezone(zone)
    except OverflowError:
        raise RenderError("date: in this time zone, the year is not between 1 and 9999.") from None
    # strftime writes the year 987 with three digits.
    year = f"{time.year:04d}"
    return time.strftime(_DATE_DIRECTIVE.sub(lambda match: year if match[1] == "Y" else match[0], format))


def check_date_format(format: object) -> None:  # noqa: A002
    """Raise RenderError if `date` doesn't support a format. strftime itself would pad the result, as in %1000000d."""
    directives = []
    if isinstance(format, str) and len(format) <= _MAX_FORMAT_LENGTH:
        directives = _DATE_DIRECTIVE.findall(format)
    if not directives or not all(directive and directive in _DATE_DIRECTIVES for directive in directives):
        raise RenderError(
            f"date: the format must be like '%Y-%m-%d', with at most {_MAX_FORMAT_LENGTH} characters, and with one of "
            f"{_DATE_DIRECTIVES} after each %."
        )


def check_time_zone(tz: object) -> tzinfo:
    """Return the time zone with the name `tz`, or raise RenderError if there is none."""
    if zone := time_zone(tz):
        return zone
    if not time_zone_names():
        raise RenderError("date: this machine has no time zone database. Install the Python package tzdata.")
    raise RenderError("date: there is no time zone with this name. A valid name is, for example, Europe/Berlin.")


def apify_name(value: object) -> str:
    """Return a name that Apify accepts: `Größe (2026)` becomes `Gro-e-2026`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RenderError("apify_name: the value must be a string or a number.")
    name = _plain_words(as_text(value), "-")[:_APIFY_NAME_LENGTH].rstrip("-")
    if not name:
        raise RenderError("apify_name: the value must contain a letter (a-z, A-Z) or a digit.")
    return name


@pass_context
def tags(context: Context, value: object) -> list[str]:
    """Return tags that data.world accepts: `["open-data", "x", "Open data!"]` becomes `["open data", "Open data"]`.

    The value is a list, or a text with a comma, a semicolon, or a line end between the tags. An item that is not a
    string becomes JSON. null, an item without two letters or digits, and a repeated tag disappear. A long tag ends
    after a word, if possible.
    """
    if isinstance(value, str):
        value = _TAG_SEPARATORS.split(value)
    if not isinstance(value, list | tuple | dict):
        raise RenderError(f"tags: the value must be a list or a text, but is {json_type(value)}.")
    items = budget_of(context).count_steps(value)
    names = (_tag(as_text(item)) for item in items if item is not None)
    return list(dict.fromkeys(name for name in names if len(name) >= _MIN_TAG_LENGTH))


def _tag(text: str) -> str:
    name = _plain_words(text, " ")
    if len(name) <= _MAX_TAG_LENGTH:
        return name
    words = name[: _MAX_TAG_LENGTH + 1].rpartition(" ")[0]
    return words if len(words) >= _MIN_TAG_LENGTH else name[:_MAX_TAG_LENGTH]


def _plain_words(text: str, separator: str) -> str:
    """Return the ASCII letters and digits of a text, without accents, and with `separator` for all other characters."""
    plain = text[:_MAX_NAME_SOURCE]
    if not plain.isascii():
        normalized = unicodedata.normalize("NFKD", plain)
        plain = "".join(character for character in normalized if not unicodedata.combining(character))
    return re.sub(r"[^a-zA-Z0-9]+", separator, plain).strip(separator)


def split(value: object, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    """Return the parts of a text between the separators `sep`, or between whitespace, as Python's str.split."""
    if not isinstance(value, str):
        raise RenderError(f"split: the value must be text, but is {json_type(value)}.")
    if not (sep is None or (isinstance(sep, str) and sep)) or not _is_integer(maxsplit):
        raise RenderError("split: the separator must be a text of at least one character, and maxsplit a whole number.")
    return value.split(sep, maxsplit)


def fromjson(value: object) -> JSON:
    """Return the value of a JSON text, with the rules for a payload (see strict_json.parse_payload)."""
    if not isinstance(value, str):
        raise RenderError(f"fromjson: the value must be text, but is {json_type(value)}.")
    try:
        return parse_payload(value.encode())
    except (InvalidJSONError, UnicodeEncodeError):
        # The messages of the standard library can contain a part of the text.
        raise RenderError(f"fromjson: the text is not JSON, or has more than {MAX_DEPTH} nested levels.") from None


def limit(value: object, length: int, end: str = "") -> str:
    """Return the first `length` characters of a text. A shortened text ends with `end`, such as '…'."""
    text = as_text(value)
    if not _is_integer(length) or length < 0 or not isinstance(end, str) or len(end) > length:
        raise RenderError("limit: the length must be 0 or more, and the end must not be longer than the length.")
    return text if len(text) <= length else text[: length - len(end)] + end


def tojson(value: object) -> str:
    """Return a value as JSON text. A string gets quotes."""
    return as_text([value])[1:-1]


@pass_context
def join(context: Context, value: Iterable[Any], d: str = "") -> str:
    """Return the items of a list as one text, separated by `d`. An item that is not a string becomes JSON."""
    parts: list[str] = []
    separator = as_text(d)
    size = -len(separator)
    for item in value:
        parts.append(as_text(item))
        size += len(parts[-1]) + len(separator)
        budget_of(context).check_size(size)
    return separator.join(parts)


@pass_context
def replace(context: Context, value: object, old: str, new: str, count: int = -1) -> str:
    """Return a text with `new` in place of every `old`, or in place of the first `count` occurrences of `old`."""
    text, old, new = as_text(value), as_text(old), as_text(new)
    if not _is_integer(count):
        raise RenderError("replace: the count must be a whole number.")
    times = text.count(old) if count < 0 else min(text.count(old), count)
    budget_of(context).check_size(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, count)


def unique(value: list[Any], case_sensitive: bool = False) -> list[Any]:
    """Return the distinct items in their order. `true` differs from 1, and `A` equals `a` unless `case_sensitive`."""
    # Compare the items as JSON text: a payload can contain many numbers with the same hash, and a list has no hash.
    distinct: dict[str, Any] = {}
    for item in value:
        key = tojson(item)
        distinct.setdefault(key if case_sensitive else key.lower(), item)
    return list(distinct.values())


@pass_environment
def add_up(environment: Environment, value: object, attribute: str | int | None = None, start: float = 0) -> Any:
    """Return the sum of numbers, or of an attribute of each item. The addition of lists would take quadratic time."""
    if not _is_number(start):
        raise RenderError("sum: the start must be a number.")
    return JINJA_FILTERS["sum"](environment, value, attribute, start)


def round_number(value: object, precision: int = 0, method: str = "common") -> Any:
    """Return a rounded number. For a negative precision, Python would compute 10 ** -precision."""
    if not _is_number(value) or not _is_integer(precision) or not 0 <= precision <= _MAX_PRECISION:
        raise RenderError(f"round: the value must be a number, and the precision must be 0 to {_MAX_PRECISION}.")
    return JINJA_FILTERS["round"](value, precision, method)


def filesizeformat(value: Any, binary: bool = False) -> Any:
    """Return a size, such as `1.5 kB`. Jinja2 itself would turn an infinity into text."""
    if isinstance(value, float) and not math.isfinite(value):
        raise RenderError("filesizeformat: the value must be a finite number.")
    return JINJA_FILTERS["filesizeformat"](value, binary)


def trim(value: str, chars: str | None = None) -> str:
    """Return a text without the whitespace, or without the characters `chars`, at its ends.

    The length of `chars` is limited, because Python compares each character of the text with `chars`.
    """
    if chars is not None and not (isinstance(chars, str) and len(chars) <= _MAX_TRIM_CHARACTERS):
        raise RenderError(f"trim: chars must be a string of at most {_MAX_TRIM_CHARACTERS} characters.")
    return value.strip(chars)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# These filters receive text: any other value becomes JSON text.
_TEXT_FILTERS = ("capitalize", "lower", "title", "trim", "upper", "urlencode", "wordcount")
# These filters receive a list. An object becomes the list of its keys, and a string becomes the list of its characters.
# Any other value is an error. Jinja2 itself accepts null as an empty list.
_LIST_FILTERS = (
    "first", "join", "last", "list", "map", "max", "min", "reject", "rejectattr", "select", "selectattr", "sort", "sum",
    "unique",
)  # fmt: skip
_OTHER_FILTERS = (
    "abs", "count", "d", "default", "dictsort", "float", "int", "items", "length", "reverse",
)  # fmt: skip
_TESTS = (
    "boolean", "defined", "divisibleby", "eq", "==", "equalto", "even", "false", "float", "ge", ">=", "gt", ">",
    "greaterthan", "in", "integer", "iterable", "le", "<=", "lower", "lt", "<", "lessthan", "mapping", "ne", "!=",
    "none", "number", "odd", "sequence", "string", "true", "undefined", "upper",
)  # fmt: skip
# These tests compute `value % number`. For a string, `%` is a format that can pad the text.
_INTEGER_TESTS = {"divisibleby", "even", "odd"}
_ACCEPT_MISSING = {"d", "default", "defined", "undefined"}


class _Functions(Environment):
    """An environment with the filters and tests, without the limits."""

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return the attribute by which sort, min, max, or sum processes an item.

        Reject a missing attribute: in a list of one item, these filters would accept a missing attribute.
        """
        member = look_up(obj, argument)
        require_defined(member)
        return member


_FUNCTIONS = _Functions(undefined=Missing)
_FUNCTIONS.tests = {name: JINJA_TESTS[name] for name in _TESTS}
_FUNCTIONS.filters = {name: JINJA_FILTERS[name] for name in (*_TEXT_FILTERS, *_LIST_FILTERS, *_OTHER_FILTERS)} | {
    "apify_name": apify_name,
    "date": date,
    "filesizeformat": filesizeformat,
    "fromjson": fromjson,
    "join": join,
    "limit": limit,
    "list": list,
    "replace": replace,
    "round": round_number,
    "split": split,
    "string": as_text,
    "sum": add_up,
    "tags": tags,
    "tojson": tojson,
    "trim": trim,
    "unique": unique,
}


def _bounded_filter(name: str) -> Callable[..., Any]:
    """Return a filter that rejects a missing value as an argument, and charges its result to the budget."""

    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        if name not in _ACCEPT_MISSING:
            require_defined(value, *args, *kwargs.values())
        if name in _TEXT_FILTERS:
            value = as_text(value)
        elif name in _LIST_FILTERS:
            if not isinstance(value, list | tuple | dict | str):
                raise RenderError(f"{name}: the value must be a list.")
            value = list(value)
        return budget_of(context).charge(_FUNCTIONS.call_filter(name, value, args, kwargs, context))

    return call


def _bounded_test(name: str) -> Callable[..., bool]:
    """Return a test that rejects a missing value as an argument."""

    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> bool:
        budget_of(context).check_deadline()
        if name not in _ACCEPT_MISSING:
            require_defined(value, *args, *kwargs.values())
        if name in _INTEGER_TESTS and not all(map(_is_integer, (value, *args, *kwargs.values()))):
            raise RenderError(f"{name}: the value must be a whole number.")
        return bool(_FUNCTIONS.call_test(name, value, args, kwargs))

    return call


FILTERS: Mapping[str, Callable[..., Any]] = {name: _bounded_filter(name) for name in _FUNCTIONS.filters}
TESTS: Mapping[str, Callable[..., bool]] = {name: _bounded_test(name) for name in _FUNCTIONS.tests}


def accepts_arguments(kind: Literal["filter", "test"], name: str, count: int, keywords: Collection[str]) -> bool:
    """Return True if a filter or a test accepts `count` positional arguments and the named arguments `keywords`."""
    function: Any = _FUNCTIONS.filters[name] if kind == "filter" else _FUNCTIONS.tests[name]
    # pass_context and pass_environment mark a function that has one more argument.
    own_arguments = 2 if hasattr(function, "jinja_pass_arg") else 1
    try:
        inspect.signature(function).bind(*[None] * (own_arguments + count), **dict.fromkeys(keywords))
    except TypeError:
        return False
    return True
