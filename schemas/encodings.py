"""How web formats write a text: what a secret may look like when somebody repeats it, and what is behind a look."""

import base64
import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import unquote, unquote_plus

#: Whether there may be anything to decode in a text.
ENCODED = re.compile(r"[%&\\+]")

_ROUNDS = 3
_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
# Base64 that is shorter, in characters, stands in too many texts by chance.
_SHORTEST_DIGITS = 8


def in_base64(text: str) -> str:
    """`text` in base64."""
    return base64.b64encode(text.encode()).decode()


def forms(value: str) -> Iterator[str]:
    """`value`, and how it looks in hexadecimal and in base64, also behind something else."""
    yield value
    octets = value.encode()
    yield octets.hex()
    yield octets.hex().upper()
    yield in_base64(value)
    # What stands before it moves it by a part of a digit; digits that it shares with its neighbours aren't its own.
    for before, shared in enumerate((0, 2, 3)):
        digits = base64.b64encode(bytes(before) + octets).decode()[shared : (before + len(octets)) * 8 // 6]
        if len(digits) >= _SHORTEST_DIGITS:
            yield digits
            yield digits.replace("+", "-").replace("/", "_")


def decoded(text: str) -> Iterator[str]:
    """`text` as URLs, HTML and JSON write it, decoded once, twice, three times."""
    for _ in range(_ROUNDS):
        before = text
        if "\\" in text:
            text = _JSON_ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
        if "&" in text:
            text = unescape(text)
        yield text
        if "+" in text or "%" in text:
            # A '+' is a space in a form, and itself in the rest of a URL.
            yield unquote(text)
            text = unquote_plus(text)
            yield text
        if text == before:
            return
