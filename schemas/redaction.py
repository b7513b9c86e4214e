"""Taking secrets out of what is shown: by name, where the shape is known, and by value, wherever it turns up."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from html import escape
from urllib.parse import quote, unquote

from schemas.strict_json import JSON

MARK = "[redacted]"

#: Keys whose whole value is a credential, in an update and in a platform's copy of it.
_CREDENTIAL_KEYS = {"credentials", "password"}
# Headers that authenticate, by the words that their names are made of: Authorization, Cookie, X-Api-Key, X-Auth-Token …
_CREDENTIAL_HEADER = re.compile(r"auth|cookie|token|secret|password|credential|signature|session|key", re.IGNORECASE)
_HEADERS_KEY = "requestHeaders"
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*(?=@)")
# Apify's key that signs public links to private data.
_NEVER_SHOWN = "urlSigningSecretKey"
# The same with its value where it is no key of ours to drop: in broken JSON, or in JSON inside a string.
_NEVER_SHOWN_TEXT = re.compile(_NEVER_SHOWN + r"""[\\"'\s]*[:=][\\"'\s]*[^\\"'\s,&}]*""")
# A value of fewer characters is only taken out where it stands alone: it is a part of too many words.
_DISTINCTIVE = 4


def without_signing_keys(value: JSON) -> JSON:
    """`value` without Apify's urlSigningSecretKey, at any depth: senders store our answers."""
    if isinstance(value, dict):
        return {key: without_signing_keys(each) for key, each in value.items() if key != _NEVER_SHOWN}
    if isinstance(value, list):
        return [without_signing_keys(each) for each in value]
    if isinstance(value, str):
        return _NEVER_SHOWN_TEXT.sub(MARK, value)
    return value


def masked(value: JSON) -> JSON:
    """A copy of an update's body to show: same shape, no credential."""
    if isinstance(value, dict):
        return {key: _masked_member(key, each) for key, each in value.items()}
    if isinstance(value, list):
        return [masked(each) for each in value]
    if isinstance(value, str):
        return _USERINFO.sub(MARK, value)
    return value


def _masked_member(key: str, value: JSON) -> JSON:
    if key in _CREDENTIAL_KEYS:
        return _blank(value)
    if key == _HEADERS_KEY and isinstance(value, dict):
        return {name: _blank(each) if _CREDENTIAL_HEADER.search(name) else masked(each) for name, each in value.items()}
    return masked(value)


def _blank(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {key: _blank(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_blank(each) for each in value]
    return None if value is None else MARK


def credentials(value: JSON) -> Iterator[str]:
    """Every credential that an update's body holds: what `masked` hides, as values to look for elsewhere."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in _CREDENTIAL_KEYS:
                yield from _strings(each)
            elif key == _HEADERS_KEY and isinstance(each, dict):
                for name, text in each.items():
                    if _CREDENTIAL_HEADER.search(name):
                        yield from _header_credentials(text)
                    else:
                        yield from credentials(text)
            else:
                yield from credentials(each)
    elif isinstance(value, list):
        for each in value:
            yield from credentials(each)
    elif isinstance(value, str) and "@" in value and "://" in value:
        yield from _url_credentials(value)


def _strings(value: JSON) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _header_credentials(value: JSON) -> Iterator[str]:
    for text in _strings(value):
        yield text
        scheme, space, rest = text.partition(" ")
        if space:
            yield rest.strip()
        if scheme.lower() == "basic":
            # What isn't Basic after all is on the list as it is.
            with suppress(ValueError):
                yield base64.b64decode(rest, validate=True).decode().partition(":")[2]
        for cookie in text.split(";"):
            yield cookie.partition("=")[2].strip()


def _url_credentials(text: str) -> Iterator[str]:
    for found in _USERINFO.findall(text):
        yield found
        user, _, password = found.partition(":")
        for part in (user, password):
            yield part
            yield unquote(part)


class Redactor:
    """Takes values out of text and JSON, also where they stand escaped for JSON, a URL or HTML."""

    def __init__(self, values: Iterable[str]) -> None:
        wanted = {form for value in values if value for form in _forms(value)}
        # The longest first: a value that is part of another must not leave the rest of it standing.
        ordered = sorted(wanted, key=len, reverse=True)
        patterns = [
            re.escape(each) if len(each) >= _DISTINCTIVE else rf"(?<!\w){re.escape(each)}(?!\w)" for each in ordered
        ]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def text(self, text: str) -> str:
        """`text` with every value replaced by a mark."""
        return self._pattern.sub(MARK, text) if self._pattern else text

    def json(self, value: JSON) -> JSON:
        """`value` with every string in it, keys too, as `text` gives it."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.json(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.json(each) for each in value]
        return value


def _forms(value: str) -> Iterator[str]:
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="")
    yield quote(value)
    yield escape(value)
