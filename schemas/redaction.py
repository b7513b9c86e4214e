"""Taking secrets out of what is shown by name, where the shape is known; `redactor` does it by value."""

import base64
import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import unquote

from schemas.encodings import ENCODED, decoded, in_base64
from schemas.strict_json import JSON

MARK = "[redacted]"

# Keys, in any case, whose whole value is a credential.
_CREDENTIAL_KEYS = {"credentials", "password"}
_HEADERS_KEY = "requestHeaders"
# Headers that say what is wanted, not who wants it; every other value is masked.
_PLAIN_HEADER = re.compile(r"accept.*|cache-control|content-.*|if-.*|range|user-agent", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*(?=@)")
# Apify's key that signs public links to private data, in lower case.
_NEVER_SHOWN = "urlsigningsecretkey"

# Characters of a text that are decoded to look for the name of the signing key in it.
_LONGEST_DECODED = 1_000_000


def without_signing_keys(value: JSON) -> JSON:
    """`value` without Apify's urlSigningSecretKey, at any depth: senders store our answers.

    What only speaks of it (a text with JSON in it, a pair of name and value) is not shown: nothing tells where in it
    the key's value ends.
    """
    if isinstance(value, dict):
        if any(isinstance(each, str) and _is_signing_key(each) for each in value.values()):
            return MARK
        return {key: without_signing_keys(each) for key, each in value.items() if not _names_signing_key(key)}
    if isinstance(value, list):
        return [without_signing_keys(each) for each in value]
    if isinstance(value, str) and _names_signing_key(value) and not _is_signing_key(value):
        return MARK
    return value


def _is_signing_key(text: str) -> bool:
    # Most texts are of another length.
    return len(text) == len(_NEVER_SHOWN) and text.lower() == _NEVER_SHOWN


def _names_signing_key(text: str) -> bool:
    # What is decoded doesn't get longer.
    if len(text) < len(_NEVER_SHOWN):
        return False
    if not ENCODED.search(text):
        return _NEVER_SHOWN in text.lower()
    return any(_NEVER_SHOWN in each.lower() for each in (text, *decoded(text[:_LONGEST_DECODED])))


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
    if key.lower() in _CREDENTIAL_KEYS:
        return _blank(value)
    if key == _HEADERS_KEY and isinstance(value, dict):
        return {name: masked(each) if _PLAIN_HEADER.fullmatch(name) else _blank(each) for name, each in value.items()}
    return masked(value)


def _blank(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {key: _blank(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_blank(each) for each in value]
    return None if value is None else MARK


def credentials(value: JSON) -> Iterator[str]:
    """Every credential that an update's body holds, as values to look for elsewhere; some more than once."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key.lower() in _CREDENTIAL_KEYS:
                yield from _within(each)
            elif key == _HEADERS_KEY and isinstance(each, dict):
                for name, text in each.items():
                    plain = _PLAIN_HEADER.fullmatch(name) or not isinstance(text, str)
                    yield from credentials(text) if plain else _of_header(str(text))
            else:
                yield from credentials(each)
    elif isinstance(value, list):
        for each in value:
            yield from credentials(each)
    elif isinstance(value, str) and "@" in value:
        for found in _USERINFO.findall(value):
            yield from _of_userinfo(found)


def _within(value: JSON) -> Iterator[str]:
    """What stands under a key that says it is a credential."""
    if isinstance(value, dict):
        user, password = value.get("user"), value.get("password")
        if isinstance(user, str) and isinstance(password, str):
            yield in_base64(f"{user}:{password}")
        for each in value.values():
            yield from _within(each)
    elif isinstance(value, list):
        for each in value:
            yield from _within(each)
    elif isinstance(value, str):
        yield from _of_header(value)
        yield value.partition(":")[2]
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _of_header(text: str) -> Iterator[str]:
    """`Bearer …`, `Basic …`, `Digest a="…", b=…`, cookies: the whole, and each part that can be a secret."""
    yield text
    scheme, _, rest = text.strip().partition(" ")
    secret = rest.strip() or scheme
    yield secret
    with suppress(ValueError):  # what isn't base64, of user and password, is on the list as it is
        user, colon, password = base64.b64decode(secret, validate=True).decode().partition(":")
        if colon and user.isprintable() and password.isprintable():
            yield password
    for pair in (*re.split("[;,]", secret), *text.split(";")):
        yield pair.partition("=")[2].strip(' "')


def _of_userinfo(userinfo: str) -> Iterator[str]:
    password = userinfo.partition(":")[2]
    yield from (userinfo, password, unquote(password), in_base64(unquote(userinfo)))
