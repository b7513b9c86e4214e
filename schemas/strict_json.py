"""JSON that every parser reads in the same way: RFC 8259, and I-JSON (RFC 7493) where RFC 8259 leaves a choice.

`json.loads` keeps the last of two equal keys, accepts NaN, turns 1e999 into infinity, and has a depth limit that
depends on the interpreter. The meaning of a signed body must not depend on such choices of a parser.

A sender's own payload follows fewer rules, because a hook uses only a part of the payload.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NoReturn, Self, TypeAlias

from schemas.problem import InvalidJSONError

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

#: The maximum number of nested objects and lists. The outermost object counts as 1.
MAX_DEPTH = 64
#: The maximum number of values in a provider's response. The record of a dataset has a few dozen values.
MAX_RESPONSE_VALUES = 25_000

# Every item of a list, and every member of an object, follows one of these characters.
_SEPARATORS = (b",", b"[", b"{")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{},"'))
# An opening bracket adds a level (1), and a closing bracket removes a level (-1, as a signed byte).
_LEVEL_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
# Every integer with at most this many digits is within the range of a double.
_MAX_SAFE_DIGITS = 300
_BYTE_ORDER_MARK = "\ufeff"


class ExactNumber(float):
    """A number with the text that a sender wrote, if Python would write another text.

    Examples are `-0`, `1e2`, and `12345678901234567890.123`. `dump` writes the text of the sender.
    """

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> Self:
        """Create the number with this JSON text, in time that is linear in the length of the text."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        """Return the text of the sender."""
        return self.text

    @property
    def is_in_range(self) -> bool:
        """False if a double can't represent the number, or could represent a tiny number only as zero."""
        return math.isfinite(self) and (bool(self) or not _NONZERO.match(self.text))


# A number with a digit other than 0 before the exponent.
_NONZERO = re.compile(r"[-0.]*[1-9]")


def parse_object(raw: bytes) -> dict[str, JSON]:
    """Return the JSON object in the body of a request. A byte order mark before the JSON is ignored.

    Raises:
        InvalidJSONError: The body is not UTF-8, not JSON, or not an object, or has a duplicate key, NaN, a number
            out of a double's range, a lone surrogate, or more than MAX_DEPTH levels.
    """
    value = _parse(raw, _STRICT)
    if not isinstance(value, dict):
        raise InvalidJSONError(f"The JSON must be an object{_not_an_object_hint(value)}")
    if _SURROGATE_ESCAPE.search(raw):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InvalidJSONError(
                "The JSON has a lone surrogate (\\ud800 to \\udfff), which isn't a character."
            ) from None
    return value


def parse_payload(raw: bytes) -> JSON:
    """Return the JSON value in the body of a sender's own payload. A byte order mark before the JSON is ignored.

    Of two equal keys, the last one counts. NaN, infinities, numbers out of a double's range, and lone surrogates are
    accepted. An update with such a value is invalid: `dump_text` and UTF-8 can't represent the value.

    Raises:
        InvalidJSONError: The body is not UTF-8 or not JSON, or has more than MAX_DEPTH levels.
    """
    return _parse(raw, _PAYLOAD)


def parse_text(text: str) -> JSON:
    """Return the JSON value that `dump_text` has written as `text`."""
    value: JSON = _LENIENT.decode(text)
    return value


def parse_response(raw: bytes) -> JSON:
    """Return the JSON value in the body of a provider's response.

    Of two equal keys, the last one counts. A lone surrogate and a byte order mark are accepted.

    Raises:
        InvalidJSONError: The body breaks another rule of parse_object, or has more than MAX_RESPONSE_VALUES values.
            Many small values need a hundred times the memory of their text, and seconds of redaction.
    """
    if _has_too_many_values(raw):
        raise InvalidJSONError(f"The JSON has more than {MAX_RESPONSE_VALUES} values.")
    return _parse(raw, _LENIENT)


def dump(value: object) -> bytes:
    """Return `value` as compact JSON in UTF-8, with its key order and its non-ASCII characters."""
    # UTF-8 can't represent a lone surrogate, which only a provider's response can contain. Write its escape.
    return dump_text(value).encode("utf-8", "backslashreplace")


def dump_text(value: object, encoder: json.JSONEncoder | None = None) -> str:
    """Return `value` as compact JSON, with its key order, its non-ASCII characters, and its lone surrogates.

    `encoder` writes every value except an ExactNumber.

    Raises:
        ValueError: `value` contains NaN, an infinity, or a number out of a double's range.
    """
    encoder = encoder or _ENCODER
    if next(exact_numbers(value), None) is None:
        return encoder.encode(value)
    parts: list[str] = []
    _add_exact_text(value, encoder, parts)
    return "".join(parts)


def exact_numbers(value: object) -> Iterator[ExactNumber]:
    """Yield each ExactNumber in `value`, in any order."""
    items: list[Any] = [value]
    for item in items:
        # A type comparison takes a third of the time of isinstance, and few values contain an ExactNumber.
        kind = type(item)
        if kind is dict:
            items += item.values()
        elif kind is list or kind is tuple:
            items += item
        elif kind is ExactNumber:
            yield item


def _add_exact_text(value: object, encoder: json.JSONEncoder, parts: list[str]) -> None:
    """Add `value` as JSON to `parts`. The encoder of the standard library can't write the text of a number."""
    if isinstance(value, dict) and value:
        for position, (key, member) in enumerate(value.items()):
            parts.append(f"{',' if position else '{'}{encoder.encode(key)}:")
            _add_exact_text(member, encoder, parts)
        parts.append("}")
    elif isinstance(value, list | tuple) and value:
        for position, item in enumerate(value):
            parts.append("," if position else "[")
            _add_exact_text(item, encoder, parts)
        parts.append("]")
    elif isinstance(value, ExactNumber):
        if not value.is_in_range:
            raise ValueError("A number is out of range (IEEE 754 double).")
        parts.append(value.text)
    else:
        parts.append(encoder.encode(value))


def value_at(value: JSON, *path: str) -> JSON:
    """Return the member of `value` at `path`, key by key, or None if the member does not exist.

    A key such as `0` is also the position of an item in a list.
    """
    for key in path:
        if isinstance(value, list) and key.isdecimal():
            value = next(iter(value[int(key) : int(key) + 1]), None)
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def quoted(text: str, limit: int = 60) -> str:
    """Return `text` for use in a message: in quotes, in ASCII, and cut at `limit` characters."""
    return json.dumps(text if len(text) <= limit else text[:limit] + "…").replace("\\u2026", "…")


def _parse(raw: bytes, decoder: json.JSONDecoder) -> JSON:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSONError(f"The JSON is not UTF-8 (byte {error.start}).") from None
    check_depth(raw)
    try:
        value: JSON = decoder.decode(text.removeprefix(_BYTE_ORDER_MARK))
    except json.JSONDecodeError as error:
        location = f"line {error.lineno}, column {error.colno}"
        raise InvalidJSONError(f"The JSON is malformed: {error.msg} ({location}).") from None
    return value


def _not_an_object_hint(value: JSON) -> str:
    """Return the end of a message about a body that must be an object: the mistake, and the correct form to send."""
    if isinstance(value, list):
        return ", not a list. Send each event in a request of its own."
    if isinstance(value, str):
        contains_json = value.lstrip(f'{_BYTE_ORDER_MARK} \t\r\n"')[:1] in ("{", "[")
        mistake = ", not a string with JSON inside." if contains_json else ", not a string."
        return f'{mistake} Send the object itself: {{"provider": …}}, without quotes around it and without backslashes.'
    return "."


def _has_too_many_values(raw: bytes) -> bool:
    # This count includes the characters inside strings. Most responses are below the limit even so.
    if _count_separators(raw) <= MAX_RESPONSE_VALUES:
        return False
    structure = _structure(raw)
    # A value has at most two strings: its key and the value itself. The limit bounds the memory for the exact count.
    quotes = structure.count(b'"')
    return quotes > 4 * MAX_RESPONSE_VALUES or _count_separators(_without_strings(structure)) > MAX_RESPONSE_VALUES


def _count_separators(raw: bytes) -> int:
    return sum(map(raw.count, _SEPARATORS))


def check_depth(raw: bytes) -> None:
    """Check the depth of a JSON text, before a parser whose recursion limit depends on the version of Python.

    Raises:
        InvalidJSONError: `raw` has more than MAX_DEPTH levels.
    """
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return
    steps = _without_strings(_structure(raw)).translate(_LEVEL_STEPS, b",")
    if max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_DEPTH:
        raise InvalidJSONError(f"The JSON is nested deeper than {MAX_DEPTH} levels.")


def _structure(raw: bytes) -> bytes:
    """Return the brackets, commas, and quotes of a JSON text, without the strings that have no bracket and no comma."""
    without_escapes = raw.replace(rb"\\", b"").replace(rb"\"", b"")
    return without_escapes.translate(None, _NOT_STRUCTURE).replace(b'""', b"")


def _without_strings(structure: bytes) -> bytes:
    # The text before the first quote is outside a string, the text after the first quote is inside a string, and so on.
    return b"".join(structure.split(b'"')[::2])


def _unique_object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) != len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise InvalidJSONError(f"The JSON has the key {quoted(key)} twice in one object.")
    return value


def _reject_constant(name: str) -> NoReturn:
    raise InvalidJSONError(f"The JSON has the value {name}, which is not a JSON number.")


def _parse_any_int(text: str) -> int | float:
    # Python's int has no negative zero, and needs quadratic time for many digits.
    if text == "-0" or (len(text) > _MAX_SAFE_DIGITS and not ExactNumber(text).is_in_range):
        return ExactNumber(text)
    return int(text)


def _parse_any_float(text: str) -> float:
    value = float(text)
    return value if repr(value) == text else ExactNumber(text)


def _parse_int(text: str) -> int | float:
    return _in_range(_parse_any_int(text))


def _parse_float(text: str) -> int | float:
    return _in_range(_parse_any_float(text))


def _in_range(number: int | float) -> int | float:
    if isinstance(number, ExactNumber) and not number.is_in_range:
        raise InvalidJSONError("The JSON has a number that is out of range (IEEE 754 double).")
    return number


# json.loads and json.dumps would create a decoder and an encoder for each call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_PAYLOAD = json.JSONDecoder(parse_float=_parse_any_float, parse_int=_parse_any_int)
_LENIENT = json.JSONDecoder(parse_constant=_reject_constant, parse_float=_parse_float, parse_int=_parse_int)
_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique_object,
    parse_constant=_reject_constant,
    parse_float=_parse_float,
    parse_int=_parse_int,
)
