"""Taking secrets out of what is shown: by name where the shape is known, by value wherever they turn up."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from html import unescape
from urllib.parse import unquote, unquote_plus

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

# In characters. A shorter value is a part of too many words: it only counts where it stands alone.
_DISTINCTIVE = 4
# A key says what a value is, and mostly is a word: a shorter value is only looked for in keys if it is none.
_DISTINCTIVE_WORD = 8
# What looking may cost, in characters times values: 0.3 s, measured on the worst that came to mind. A short value
# costs as much as fifty.
_MOST_WORK = 200_000_000
_SHORT_COSTS = 50
# What looking into what is encoded may cost, likewise: 0.5 s.
_MOST_DECODED = 3_000_000
# Characters of a text that are decoded to look for the name of the signing key in it.
_LONGEST_DECODED = 1_000_000
_ROUNDS = 3
_ENCODED = re.compile(r"[%&\\+]")
_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)


def without_signing_keys(value: JSON) -> JSON:
    """`value` without Apify's urlSigningSecretKey, at any depth: senders store our answers.

    What only speaks of it (a text with JSON in it, a pair of name and value) is not shown: nothing tells where in it
    the key's value ends.
    """
    if isinstance(value, dict):
        if any(isinstance(each, str) and each.lower() == _NEVER_SHOWN for each in value.values()):
            return MARK
        return {key: without_signing_keys(each) for key, each in value.items() if not _names_signing_key(key)}
    if isinstance(value, list):
        return [without_signing_keys(each) for each in value]
    if isinstance(value, str) and value.lower() != _NEVER_SHOWN and _names_signing_key(value):
        return MARK
    return value


def _names_signing_key(text: str) -> bool:
    if len(text) < len(_NEVER_SHOWN) or not _ENCODED.search(text):
        return _NEVER_SHOWN in text.lower()
    return any(_NEVER_SHOWN in each.lower() for each in (text, *_decoded(text[:_LONGEST_DECODED])))


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
            yield _base64(f"{user}:{password}")
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
    yield from (userinfo, password, unquote(password), _base64(unquote(userinfo)))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Redactor:
    r"""Takes values out of JSON.

    A value that stands there as it is is replaced, and what is around it stays. A text in which one is found only
    when it is decoded, as web formats encode (`%40`, `&#64;`, `\u0040`, in up to three layers), goes as a whole.
    """

    def __init__(self, values: Iterable[str]) -> None:
        distinct = {value for value in values if value}
        forms = {form for value in distinct for form in (value, _base64(value), value.encode().hex())}
        # The longest first: a value that is part of another must not leave the rest of it standing.
        ordered = sorted(forms, key=len, reverse=True)
        self._long = [form for form in ordered if len(form) >= _DISTINCTIVE]
        self._short = [form for form in ordered if len(form) < _DISTINCTIVE]

    def json(self, value: JSON) -> JSON:
        """`value` without the values: in strings, in keys, and as numbers.

        Where looking for them would take too long, nothing of `value` is left.
        """
        whole = json.dumps(value, ensure_ascii=False)
        if len(whole) * (len(self._long) + _SHORT_COSTS * len(self._short)) > _MOST_WORK:
            return MARK
        # One look over the whole, at the speed of C, tells which are there: mostly none.
        present = [form for form in self._long if json.dumps(form, ensure_ascii=False)[1:-1] in whole]
        alone = "|".join(map(re.escape, self._short))
        look = _Look(self._long, present, re.compile(rf"(?<!\w)(?:{alone})(?!\w)") if alone else None)
        return look.walk(value) if present or alone or _ENCODED.search(whole) else value


class _Look:
    """One look through an answer: `values` that are looked for, those `present` as they are, and the `alone` ones."""

    def __init__(self, values: list[str], present: list[str], alone: re.Pattern[str] | None) -> None:
        self._values = values
        self._present = present
        self._alone = alone
        self._present_in_keys = list(filter(_is_no_word, present))
        self._in_keys = list(filter(_is_no_word, values))
        self._left = _MOST_DECODED

    def walk(self, value: JSON) -> JSON:
        """`value` without the values."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.walk(each) for each in value]
        if isinstance(value, dict):
            shown: dict[str, JSON] = {}
            for key, each in value.items():
                name = self._key(key)
                while name in shown:
                    name = f"{name}{len(shown)}"
                shown[name] = self.walk(each)
            return shown
        if isinstance(value, int | float) and not isinstance(value, bool):
            digits = str(value)
            return value if self._text(digits) == digits else MARK
        return value

    def _text(self, text: str) -> str:
        for value in self._present:
            text = text.replace(value, MARK)
        hidden = (self._alone and self._alone.search(text)) or self._holds_encoded(text, self._values)
        return MARK if hidden else text

    def _key(self, key: str) -> str:
        hidden = any(value in key for value in self._present_in_keys) or self._holds_encoded(key, self._in_keys)
        return MARK if hidden else key

    def _holds_encoded(self, text: str, values: list[str]) -> bool:
        """Whether one of `values` is in `text` when that is decoded; also where there is too much to decode."""
        if not _ENCODED.search(text):
            return False
        self._left -= len(text) * max(len(values), 1)
        return self._left < 0 or any(value in each for each in _decoded(text) for value in values)


def _is_no_word(value: str) -> bool:
    return len(value) >= _DISTINCTIVE_WORD or not value.isalpha()


def _decoded(text: str) -> Iterator[str]:
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
