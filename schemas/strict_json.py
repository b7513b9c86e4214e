"""JSON that every parser reads in the same way: RFC 8259, and I-JSON (RFC 7493) where RFC 8259 leaves a choice.

`json.loads` keeps the last of two equal keys, accepts NaN, turns 1e999 into infinity, and has a depth limit that
depends on the interpreter. The meaning of a signed body must not depend on such choices of a parser.
"""

import codecs
import json
import re
from collections import Counter
from itertools import accumulate
from typing import NoReturn, TypeAlias

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


def parse_object(raw: bytes) -> dict[str, JSON]:
    """Return the JSON object in the body of a request.

    Raises:
        InvalidJSONError: The body is not UTF-8, not JSON, or not an object, or has a duplicate key, NaN, a number
            out of a double's range, a lone surrogate, a byte order mark, or more than MAX_DEPTH levels.
    """
    value = _parse(raw, _STRICT)
    if not isinstance(value, dict):
        raise InvalidJSONError("The body must be a JSON object.")
    if _SURROGATE_ESCAPE.search(raw):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InvalidJSONError(
                "The body has a lone surrogate (\\ud800 to \\udfff), which isn't a character."
            ) from None
    return value


def parse_response(raw: bytes) -> JSON:
    """Return the JSON value in the body of a provider's response.

    Of two equal keys, the last one counts. A lone surrogate and a byte order mark are accepted.

    Raises:
        InvalidJSONError: The body breaks another rule of parse_object, or has more than MAX_RESPONSE_VALUES values.
            Many small values need a hundred times the memory of their text, and seconds of redaction.
    """
    if _has_too_many_values(raw):
        raise InvalidJSONError(f"The body has more than {MAX_RESPONSE_VALUES} values.")
    return _parse(raw.removeprefix(codecs.BOM_UTF8), _LENIENT)


def dump(value: object) -> bytes:
    """Return `value` as compact JSON in UTF-8, with its key order and its non-ASCII characters."""
    # UTF-8 can't represent a lone surrogate, which only a provider's response can contain. Write its escape.
    return dump_text(value).encode("utf-8", "backslashreplace")


def dump_text(value: object) -> str:
    """Return `value` as compact JSON, with its key order, its non-ASCII characters, and its lone surrogates."""
    return _ENCODER.encode(value)


def value_at(value: JSON, *path: str) -> JSON:
    """Return the member of `value` at `path`, key by key, or None if the member does not exist."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def quoted(text: str, limit: int = 60) -> str:
    """Return `text` for use in a message: in quotes, in ASCII, and cut at `limit` characters."""
    return json.dumps(text if len(text) <= limit else text[:limit] + "…").replace("\\u2026", "…")


def _parse(raw: bytes, decoder: json.JSONDecoder) -> JSON:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSONError(f"The body is not UTF-8 (byte {error.start}).") from None
    if text.startswith("\ufeff"):
        raise InvalidJSONError("The body begins with a byte order mark (BOM). Send the JSON without the mark.")
    _check_depth(raw)
    try:
        value: JSON = decoder.decode(text)
    except json.JSONDecodeError as error:
        location = f"line {error.lineno}, column {error.colno}"
        raise InvalidJSONError(f"The body is not JSON: {error.msg} ({location}).") from None
    return value


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


def _check_depth(raw: bytes) -> None:
    """Raise InvalidJSONError if `raw` has more than MAX_DEPTH levels.

    The check precedes the parser, because the recursion limit of the parser depends on the version of Python.
    """
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return
    steps = _without_strings(_structure(raw)).translate(_LEVEL_STEPS, b",")
    if max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_DEPTH:
        raise InvalidJSONError(f"The body is nested deeper than {MAX_DEPTH} levels.")


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
        raise InvalidJSONError(f"The body has the key {quoted(key)} twice in one object.")
    return value


def _reject_constant(name: str) -> NoReturn:
    raise InvalidJSONError(f"The body has the value {name}, which is not a JSON number.")


def _parse_int(text: str) -> int | float:
    if len(text) > _MAX_SAFE_DIGITS:
        _parse_float(text)
    # Python's int has no negative zero, but the provider must receive the number that the sender sent.
    return -0.0 if text == "-0" else int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    overflow = value in (float("inf"), float("-inf"))
    underflow = value == 0 and re.search("[1-9]", re.split("[eE]", text, maxsplit=1)[0])
    if overflow or underflow:
        raise InvalidJSONError("The body has a number that is out of range (IEEE 754 double).")
    return value


# json.loads and json.dumps would create a decoder and an encoder for each call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_LENIENT = json.JSONDecoder(parse_constant=_reject_constant, parse_float=_parse_float, parse_int=_parse_int)
_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique_object,
    parse_constant=_reject_constant,
    parse_float=_parse_float,
    parse_int=_parse_int,
)
