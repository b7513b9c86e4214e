"""JSON that every reader reads alike (RFC 8259, and I-JSON, RFC 7493, where the first leaves room).

`json.loads` keeps the last of two equal keys, takes NaN, turns 1e999 into infinity, and stops at a depth
that depends on the interpreter. What a sender signed and what a platform gets must not depend on such things.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn, TypeAlias

from schemas.problem import NotJSON

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

#: Levels of objects and lists, the outermost counted as 1.
MAX_DEPTH = 64
#: In a platform's answer; a dataset's record has some dozens.
MAX_ANSWER_VALUES = 25_000

# Possessive, and with an optional closing quote: an unclosed string costs one pass, not one for each of its quotes.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# Before each value but the first of all stands one of these.
_SEPARATORS = (b",", b"[", b"{")
_STRING_OR_SEPARATOR = re.compile(rb"%b|[,\[{]" % _STRING.pattern.encode(), re.DOTALL)
_PLAIN = bytes(set(range(256)) - set(b'[]{}"'))
_PLAIN_STRING = re.compile(rb'"[^"]*+"?')
_ALIKE = bytes.maketrans(b"{}", b"[]")
_OPENING = ord("[")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
# A double holds every number whose text is this short, whatever its digits.
_SAFE_INT_LENGTH = 300


def parse_object(raw: bytes) -> dict[str, JSON]:
    """A request's body as a JSON object.

    Raises NotJSON: not UTF-8, not JSON, not an object, a duplicate key, NaN, a number that a double can't
    hold, a lone surrogate, or more than MAX_DEPTH levels.
    """
    value = _parse(raw, unique_keys=True)
    if not isinstance(value, dict):
        raise NotJSON("The body must be a JSON object.")
    return value


def parse_answer(raw: bytes) -> JSON:
    """A platform's answer as JSON of any kind; of two equal keys the last one counts.

    Raises NotJSON as parse_object does, but for duplicate keys, surrogates and a byte order mark; also for more than
    MAX_ANSWER_VALUES, which would take a hundred times the room, and seconds to look through for secrets.
    """
    if sum(map(raw.count, _SEPARATORS)) > MAX_ANSWER_VALUES and _has_too_many_values(raw):
        raise NotJSON(f"The body holds more than {MAX_ANSWER_VALUES} values.")
    return _parse(raw.removeprefix(codecs.BOM_UTF8), unique_keys=False)


def _has_too_many_values(raw: bytes) -> bool:
    separators = 0
    for texts, found in enumerate(_STRING_OR_SEPARATOR.finditer(raw)):
        separators += found[0] in _SEPARATORS
        # A key and a value for each comma is all the text that there can be.
        if separators > MAX_ANSWER_VALUES or texts > 4 * MAX_ANSWER_VALUES:
            return True
    return False


def dump(value: object) -> bytes:
    """`value` as compact JSON in UTF-8: key order kept, non-ASCII characters as themselves."""
    text = _compact(value)
    # A lone surrogate, which only a platform's answer can hold, has no UTF-8: it stays the escape it was.
    return text.encode("utf-8", "backslashreplace")


def _parse(raw: bytes, *, unique_keys: bool) -> JSON:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJSON(f"The body is not UTF-8 (byte {error.start}).") from None
    if _deeper_than(raw, MAX_DEPTH):
        raise NotJSON(f"The body is nested deeper than {MAX_DEPTH} levels.")
    if text.startswith("\ufeff"):
        raise NotJSON("The body begins with a byte order mark (BOM).")
    try:
        value: JSON = (_STRICT if unique_keys else _LENIENT).decode(text)
    except json.JSONDecodeError as error:
        raise NotJSON(f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno}).") from None
    if unique_keys and _SURROGATE_ESCAPE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise NotJSON("The body holds half of a surrogate pair (\\ud800 to \\udfff).") from None
    return value


def _deeper_than(raw: bytes, limit: int) -> bool:
    """Whether brackets outside strings nest deeper than `limit`; looked at before json's own recursion."""
    if raw.count(b"{") + raw.count(b"[") <= limit:
        return False
    # Brackets and quotes, as JSON has them; a pair of quotes with nothing between them opens and closes nothing.
    plain = raw.replace(rb"\\", b"").replace(rb"\"", b"").translate(_ALIKE, _PLAIN).replace(b'""', b"")
    brackets = left = _PLAIN_STRING.sub(b"", plain)
    # Each round takes the innermost away: the whole, if it closes as it opens, in as many rounds as it has levels.
    for _ in range(limit if brackets.count(b"[") == brackets.count(b"]") else 0):
        before, left = len(left), left.replace(b"[]", b"")
        if not left:
            return False
        if len(left) == before:
            break
    depth = 0
    for bracket in brackets:
        if bracket == _OPENING:
            depth += 1
            if depth > limit:
                return True
        elif depth == 0:
            return False  # closed before it was opened: no JSON, whatever follows
        else:
            depth -= 1
    return False


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise NotJSON(f"The body holds the key {shown(_repeated(key for key, _ in pairs))} twice in one object.")
    return value


def _repeated(keys: Iterable[str]) -> str:
    return Counter(keys).most_common(1)[0][0]


def at(value: JSON, *path: str) -> JSON:
    """What is at `path` in `value`, key by key; None if there is nothing."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def shown(text: str, limit: int = 60) -> str:
    """`text` as it can stand in a message: quoted, in ASCII, and at most `limit` characters of it."""
    return json.dumps(text if len(text) <= limit else text[:limit] + "…").replace("\\u2026", "…")


def _constant(name: str) -> NoReturn:
    raise NotJSON(f"The body holds {name}, which JSON has no number for.")


def _int(text: str) -> int | float:
    if len(text) > _SAFE_INT_LENGTH:
        _float(text)
    # An integer has no negative zero, but what was sent is what is sent on.
    return -0.0 if text == "-0" else int(text)


def _float(text: str) -> float:
    value = float(text)
    overflowed = value in (float("inf"), float("-inf"))
    underflowed = value == 0 and any(digit in "123456789" for digit in re.split("[eE]", text, maxsplit=1)[0])
    if overflowed or underflowed:
        raise NotJSON("The body holds a number that is out of range.")
    return value


# Made once: json.loads and json.dumps would make them anew for each text.
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_LENIENT = json.JSONDecoder(parse_constant=_constant, parse_float=_float, parse_int=_int)
_STRICT = json.JSONDecoder(parse_constant=_constant, parse_float=_float, parse_int=_int, object_pairs_hook=_unique)
