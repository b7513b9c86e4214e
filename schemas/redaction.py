"""Taking secrets out of what is shown: by name where the shape is known, by value wherever they turn up."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from html import escape
from urllib.parse import quote, quote_plus, unquote

from schemas.strict_json import JSON

MARK = "[redacted]"

# Keys, in any case, whose whole value is a credential.
_CREDENTIAL_KEYS = {"credentials", "password"}
_HEADERS_KEY = "requestHeaders"
# Headers that say what is wanted, not who wants it; every other value is masked.
_PLAIN_HEADER = re.compile(r"accept.*|cache-control|content-.*|if-.*|range|user-agent", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*(?=@)")
# Apify's key that signs public links to private data.
_NEVER_SHOWN = "urlSigningSecretKey"

# In characters. A shorter value is a part of too many words: it is only taken out where it stands alone.
_DISTINCTIVE = 4
# A key of an answer says what a value is, and mostly is a word: only what is no word is taken out of it.
_DISTINCTIVE_KEY = 8
# Credentials in one update. With more, nothing is shown of what the platform says to it: to look for all of them
# would take longer than the request has.
_MOST_VALUES = 200
# Characters of an answer, times what to look for in them: 0.3 s, measured on the worst that came to mind.
_MOST_WORK = 200_000_000


def without_signing_keys(value: JSON) -> JSON:
    """`value` without Apify's urlSigningSecretKey, at any depth: senders store our answers.

    A text that speaks of it, such as JSON within a string, or broken JSON, is not shown: nothing tells where in it
    the key's value ends.
    """
    if isinstance(value, dict):
        return {key: without_signing_keys(each) for key, each in value.items() if key != _NEVER_SHOWN}
    if isinstance(value, list):
        return [without_signing_keys(each) for each in value]
    if isinstance(value, str) and _NEVER_SHOWN in value and value != _NEVER_SHOWN:
        return MARK
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
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _of_header(text: str) -> Iterator[str]:
    """`Bearer …`, `Basic …`, `Digest a="…", b=…`, cookies: the whole, and each part that can be a secret."""
    yield text
    scheme, _, rest = text.strip().partition(" ")
    secret = rest.strip() or scheme
    yield secret
    if scheme.lower() == "basic":
        with suppress(ValueError):  # what isn't base64 is on the list as it is
            yield base64.b64decode(secret, validate=True).decode().partition(":")[2]
    for pair in re.split("[;,]", secret):
        yield pair.partition("=")[2].strip(' "')
    for pair in text.split(";"):
        yield pair.partition("=")[2].strip(' "')


def _of_userinfo(userinfo: str) -> Iterator[str]:
    password = userinfo.partition(":")[2]
    yield from (userinfo, password, unquote(password), _base64(unquote(userinfo)))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Redactor:
    """Takes values out of JSON, also where they stand escaped as the web's formats do it."""

    def __init__(self, values: Iterable[str]) -> None:
        distinct = {value for value in values if value}
        self._too_many = len(distinct) > _MOST_VALUES
        forms = {form for value in distinct for form in _forms(value)} if not self._too_many else set()
        # The longest first: a value that is part of another must not leave the rest of it standing.
        self._forms = [(form, _in_json(form)) for form in sorted(forms, key=len, reverse=True)]

    def json(self, value: JSON) -> JSON:
        """`value` without the values: in strings, in keys, and as numbers.

        Where looking for them would take too long, nothing of `value` is left.
        """
        # One look over the whole, at the speed of C, tells which are there: mostly none.
        whole = _in_json(value)
        if self._too_many or len(whole) * len(self._forms) > _MOST_WORK:
            return MARK
        present = [form for form, escaped in self._forms if escaped in whole]
        return self._walk(value, present) if present else value

    def _walk(self, value: JSON, present: list[str]) -> JSON:
        if isinstance(value, str):
            return _replaced(value, present)
        if isinstance(value, list):
            return [self._walk(each, present) for each in value]
        if isinstance(value, dict):
            distinctive = [form for form in present if len(form) >= _DISTINCTIVE_KEY]
            shown: dict[str, JSON] = {}
            for key, each in value.items():
                name = _replaced(key, distinctive)
                while name in shown:
                    name = f"{name}{len(shown)}"
                shown[name] = self._walk(each, present)
            return shown
        if isinstance(value, int | float) and not isinstance(value, bool) and str(value) in present:
            return MARK
        return value


def _in_json(value: JSON) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text[1:-1] if isinstance(value, str) else text


def _replaced(text: str, forms: list[str]) -> str:
    for form in forms:
        if len(form) >= _DISTINCTIVE:
            text = text.replace(form, MARK)
        elif form in text:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", MARK, text)
    return text


def _forms(value: str) -> Iterator[str]:
    """`value` as it may stand in plain text, JSON (once and twice), URLs, forms and HTML."""
    yield value
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield from (once, once.replace("/", "\\/"), json.dumps(once, ensure_ascii=ascii_only)[1:-1])
    for encoded in (quote(value), quote(value, safe=""), quote_plus(value)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)
    yield escape(value)
    yield escape(value).replace("&#x27;", "&#39;")
