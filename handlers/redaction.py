"""The removal of secrets from everything that the function shows. This module is independent of the providers.

`mask` replaces the credentials in the updates of an event, and returns them. The schema of an update declares its
credentials, as `schemas.base` describes. In every string, the userinfo of a URL and the values of some query parameters
are also credentials. A `Redactor` removes copies of tokens and credentials from other values, such as a provider's
response.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias
from urllib.parse import unquote, unquote_plus

from marshmallow import Schema, fields

from schemas.problem import InvalidEventError
from schemas.strict_json import JSON, dump_text

MARK = "[redacted]"

#: The maximum number of credentials in the updates of one event. The search for a credential takes time and memory.
MAX_CREDENTIALS = 500

#: The length of the shortest piece of a token that counts as a leak, in characters.
PIECE_LENGTH = 12
# In characters. A shorter value occurs within many words, so the value counts only as a word of its own.
_MIN_LENGTH = 4
# In characters. A shorter value that consists of letters can be an ordinary key, such as "message".
_MIN_KEY_LENGTH = 8
# The maximum number of layers of escapes that a search in a string removes.
_MAX_LAYERS = 3
# The measured time of the steps of a search, in nanoseconds: removing one escape, starting the search for one text, and
# searching for the pieces of one token in one character. The search for one text has a speed in characters per
# nanosecond.
_ESCAPE_COST = 150
_NEEDLE_COST = 50
_PIECES_COST = 25
_NEEDLE_SPEED = 4
# The additional time for each string, key, and number, in nanoseconds.
_STRING_COST = 3_000
# In digits. Shorter base64 occurs in many texts by chance.
_MIN_BASE64_LENGTH = 8

# The userinfo of a URL is a credential in every string (RFC 3986, section 3.2.1). The URL can be the value of a
# parameter of another URL, in percent-encoding.
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*(?=@)|(?<=%3A%2F%2F)[^/?#&\s]*?(?=%40)", re.IGNORECASE)
# The beginning of a parameter in the query or the fragment of a URL, which can be in percent-encoding, too.
_PARAMETER = re.compile(
    r"(?:[?&#;]|%(?:25)*(?:3[Ff]|26|23|3[Bb]))(?P<name>[^=&?#;\s\"'<>]{1,200}?)(?:=|%(?:25)*3[Dd])", re.ASCII
)
# The value of a parameter, in a string that is only a URL, and in a longer text, where a quote can follow the URL.
_VALUE_IN_URL = re.compile(r"[^&#]*", re.DOTALL)
_VALUE_IN_TEXT = re.compile(r"[^&#;\s\"'<>]*")
_ONLY_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
# The names of parameters with a credential: of OAuth, of API keys, of sessions, and of the signed URLs of AWS, Azure,
# Google Cloud, and Apify. An index such as [0] can follow a name.
_CREDENTIAL_PARAMETER = re.compile(
    r"(?i:x-(?:amz|goog)-.*"
    r"|.*(?:token|secret|password|passwd|passphrase|passcode|passkey|signature|credential|authorization|session-?id"
    r"|sessid|bearer|oauth|hmac|jwt)s?"
    r"|.*(?:api|access|secret|auth|private|subscription|account|master|license|security|service|signing)[-_.+]?key"
    r"|.*(?:access-?key-?id|access-?id|basic-?auth)"
    r"|(?:.*[-_.\[])?(?:key|sig|auth|pwd|pass|pw|sid|sas|code))[\]0-9]*(?:\[[^\]]*\])*"
    r"|.*[a-z](?:Key|Sig|Auth)",
)
# The parameters of signed URLs whose values aren't secrets, and can be ordinary words.
_PLAIN_PARAMETER = re.compile(r"(?i:x-(?:amz|goog)-(?:algorithm|date|expires|signedheaders|content-sha256))")

_Field: TypeAlias = fields.Field[Any] | Schema | None
_Secret: TypeAlias = bool | Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Masked:
    """The bodies of an event's updates without the credentials, and the credentials of all updates with their parts."""

    bodies: tuple[JSON, ...]
    credentials: frozenset[str]


def mask(updates: Iterable[tuple[Schema, Mapping[str, JSON]]]) -> Masked:
    """Return copies of the bodies of an event's updates with MARK in place of each credential, and the credentials.

    `updates` has the schema and the body of each update.

    Raises:
        InvalidEventError: The updates have more than MAX_CREDENTIALS credentials.
    """
    credentials = _Credentials()
    bodies = tuple(_mask(dict(body), schema, False, credentials) for schema, body in updates)
    return Masked(bodies, frozenset(credentials))


class _Credentials(set[str]):
    """The credentials of an event."""

    def add_all(self, texts: Iterable[str]) -> None:
        """Add `texts`, except an empty text.

        Raises:
            InvalidEventError: The event has more than MAX_CREDENTIALS credentials.
        """
        for text in texts:
            if text:
                self.add(text)
                if len(self) > MAX_CREDENTIALS:
                    message = (
                        f"The event has more than {MAX_CREDENTIALS} credentials. Each part of a credential counts, "
                        "such as each cookie of a header. Send the update in several events."
                    )
                    raise InvalidEventError(message, errors={"update": [message]})


def _mask(value: JSON, field: _Field, secret: _Secret, credentials: _Credentials) -> JSON:
    """Return `value` with MARK in place of each credential, and add the credentials to `credentials`.

    `secret` is the declaration of the closest field above `value` that has one.
    """
    if isinstance(field, fields.Field):
        secret = field.metadata.get("secret", secret)
    if isinstance(value, list):
        item_field = field.inner if isinstance(field, fields.List) else field
        return [_mask(item, item_field, secret, credentials) for item in value]
    if isinstance(value, dict):
        if secret is True and "user" in value and "password" in value:
            # HTTP's Basic authentication sends this text, in base64 (RFC 7617).
            credentials.add_all([f"{value['user']}:{value['password']}"])
        masked: dict[str, JSON] = {}
        for name, member in value.items():
            is_secret = callable(secret) and secret(name)
            shown = _mask_url(name, credentials)
            masked[shown] = _mask(member, _member_field(field, name), is_secret or secret, credentials)
        return masked
    if secret is True:
        if value is not None and not isinstance(value, bool):
            credentials.add_all(_credential_parts(str(value)))
        return None if value is None else MARK
    return _mask_url(value, credentials) if isinstance(value, str) else value


def _member_field(field: _Field, name: str) -> _Field:
    """Return the field that declares the member `name` of an object, or None."""
    schema = field.schema if isinstance(field, fields.Nested) else field
    if isinstance(schema, Schema):
        return schema.fields.get(name)
    return schema.value_field if isinstance(schema, fields.Dict) else None


def has_url_credential(text: str) -> bool:
    """Return True if a URL in `text` has a credential."""
    credentials = _Credentials()
    _mask_url(text, credentials)
    return bool(credentials)


def _mask_url(text: str, credentials: _Credentials) -> str:
    if "@" in text or "%40" in text:
        for userinfo in _USERINFO.findall(text):
            plain = unquote(userinfo)
            passwords = (userinfo.partition(":")[2], plain.partition(":")[2])
            credentials.add_all((userinfo, plain, *passwords, *map(unquote, passwords)))
        text = _USERINFO.sub(MARK, text)

    if "=" not in text and "%" not in text:
        return text
    is_only_url = text.count("://") == 1 and _ONLY_URL.match(text)
    value_pattern = _VALUE_IN_URL if is_only_url else _VALUE_IN_TEXT
    parts, end = [], 0
    for match in _PARAMETER.finditer(text):
        if match.start() < end:
            continue
        name = _unquote_all(match["name"])
        if not _CREDENTIAL_PARAMETER.fullmatch(name):
            continue
        value = value_pattern.match(text, match.end())
        assert value is not None
        if not _PLAIN_PARAMETER.fullmatch(name):
            credentials.add_all(_parameter_values(value[0]))
        parts += [text[end : match.end()], MARK if value[0] else ""]
        end = value.end()
    return "".join([*parts, text[end:]])


def _parameter_values(value: str) -> Iterator[str]:
    """Yield the value of a credential parameter, and its decoded forms."""
    plain = _unquote_all(value)
    # In a percent-encoded URL, the value can end before the end of the text.
    yield from (value, unquote(value), unquote_plus(value), plain, re.split("[&#;]", plain)[0])


def _unquote_all(text: str) -> str:
    """Return `text` without percent-encoding of up to _MAX_LAYERS layers."""
    for _ in range(_MAX_LAYERS):
        text = unquote(text)
    return text


def _credential_parts(text: str) -> Iterator[str]:
    """Yield a credential, and each part that is a secret by itself.

    A credential can be the value of a header, such as `Bearer …`, `Basic …`, `Digest a="…", b=…`, or a list of cookies.
    """
    yield text
    scheme, _, rest = text.strip().partition(" ")
    value = rest.strip() or scheme
    yield value
    yield value.partition(":")[2]
    # The value of a cookie can contain commas, and semicolons separate the cookies.
    for pair in (*re.split("[;,]", value), *text.split(";")):
        yield pair.partition("=")[2].strip(' "')
    with suppress(ValueError):  # Most credentials are not the base64 of a user and a password (RFC 7617).
        user, colon, password = b64decode(value, validate=True).decode().partition(":")
        if colon and user.isprintable() and password.isprintable():
            yield password


class Redactor:
    """A filter that removes tokens, credentials, and secret members from JSON.

    MARK replaces every unchanged occurrence of a token or a credential in a text. MARK replaces a text as a whole if
    the text contains a token or a credential in another form, or a piece of a token. `secret_keys` are the names of the
    members to remove, in uppercase or lowercase. `expired` returns True after the deadline.
    """

    def __init__(
        self,
        tokens: Iterable[str],
        credentials: Iterable[str] = (),
        secret_keys: Iterable[str] = (),
        expired: Callable[[], bool] = lambda: False,
    ) -> None:
        tokens, credentials = set(tokens) - {""}, set(credentials) - {""}
        values = tokens | credentials
        # The longest value comes first, because a shorter value can be a part of it.
        self._values = sorted((value for value in values if len(value) >= _MIN_LENGTH), key=len, reverse=True)
        self._short_values = [value for value in values if len(value) < _MIN_LENGTH]
        self._tokens = [_token_search(token) for token in tokens]
        self._credentials = [value for value in credentials if len(value) >= _MIN_LENGTH]
        self._secret_keys = frozenset(key.lower() for key in secret_keys)
        self._expired = expired

    def redact(self, value: JSON) -> JSON:
        """Return `value` without secrets, or MARK if the search exceeds its budget or the deadline."""
        if value is None:
            return None
        budget = _Budget(self._expired)
        try:
            value = self._without_secret_keys(value)
            # For most values, which contain no secret, one search in all strings of the value together is enough.
            strings = _without_json_escapes(dump_text(value), budget)
            if not self._short_values and not self._finds(strings, self._needles, budget):
                return value
            return self._redact(value, budget)
        except _BudgetExceededError:
            return MARK

    @cached_property
    def _needles(self) -> list[str]:
        """The forms of the tokens and credentials that the search looks for."""
        token_forms = (form for token in self._tokens for form in token.forms)
        forms = (form for credential in self._credentials for form in _forms(credential))
        # The base64 of a short value is long enough for the search.
        short_forms = (b64encode(value.encode()).decode() for value in self._short_values)
        return list(dict.fromkeys((*token_forms, *forms, *short_forms)))

    @cached_property
    def _key_needles(self) -> list[str]:
        return [form for form in self._needles if len(form) >= _MIN_KEY_LENGTH or not form.isalpha()]

    def _without_secret_keys(self, value: JSON) -> JSON:
        if not self._secret_keys:
            return value
        if isinstance(value, list):
            return [self._without_secret_keys(item) for item in value]
        if not isinstance(value, dict):
            return value
        kept: dict[str, JSON] = {}
        for key, member in value.items():
            if isinstance(member, str) and member.lower() in self._secret_keys:
                return MARK  # An object such as {"name": "secretKey", "value": "…"}.
            if key.lower() not in self._secret_keys:
                kept[key] = self._without_secret_keys(member) if isinstance(member, dict | list) else member
        return kept

    def _redact(self, value: JSON, budget: "_Budget") -> JSON:
        if isinstance(value, list):
            return [self._redact(item, budget) for item in value]
        if isinstance(value, dict):
            redacted: dict[str, JSON] = {}
            for key, member in value.items():
                if self._mentions_secret_key(key, budget):
                    continue
                name = MARK if self._finds(key, self._key_needles, budget) else key
                while name in redacted:
                    name = f"{name}{len(redacted)}"
                redacted[name] = self._redact(member, budget)
            return redacted
        if isinstance(value, str):
            return self._redact_text(value, budget)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value if self._redact_text(str(value), budget) == str(value) else MARK
        return value

    def _redact_text(self, text: str, budget: "_Budget") -> str:
        if text.lower() in self._secret_keys:
            return text  # The name of a member is not a secret.
        budget.spend(_STRING_COST + len(self._values) * (_NEEDLE_COST + len(text) // _NEEDLE_SPEED))
        for short in self._short_values:
            budget.spend(_NEEDLE_COST + len(text) // _NEEDLE_SPEED)
            if short in text:
                budget.spend(100_000)  # The compilation of a pattern takes about 0.1 ms.
                if re.search(rf"(?<!\w){re.escape(short)}(?!\w)", text):
                    return MARK
        for value in self._values:
            text = text.replace(value, MARK)
        return MARK if self._finds(text, self._needles, budget) else text

    def _finds(self, text: str, needles: list[str], budget: "_Budget") -> bool:
        """Return True if `text`, or `text` without escapes, contains a needle, a piece of a token, or a secret key."""
        budget.spend(_STRING_COST)
        for variant in _variants(text, budget):
            budget.spend(len(needles) * (_NEEDLE_COST + len(variant) // _NEEDLE_SPEED))
            budget.spend((len(self._tokens) * _PIECES_COST + 1) * len(variant))
            if (
                any(needle in variant for needle in needles)
                or any(token.occurs_in(variant, budget) for token in self._tokens)
                or any(key in variant.lower() for key in self._secret_keys)
            ):
                return True
        return False

    def _mentions_secret_key(self, text: str, budget: "_Budget") -> bool:
        return any(key in variant.lower() for variant in _variants(text, budget) for key in self._secret_keys)


_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_JSON_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE_OR_LINE_BREAK = re.compile(r"[\\%\r\n]")
_LINE_BREAK = re.compile(r"[\r\n]+[ \t]*")


def _variants(text: str, budget: "_Budget") -> Iterator[str]:
    """Yield `text` without line breaks, and the texts that remain after each step of removing escapes.

    A layer consists of JSON escapes and of URL escapes. The text between the two steps counts, too: a credential can
    contain characters that look like a URL escape.
    """
    if not _ESCAPE_OR_LINE_BREAK.search(text):
        yield text
        return
    yield _without_line_breaks(text, budget)
    for _ in range(_MAX_LAYERS):
        without_json = _without_json_escapes(text, budget)
        if without_json != text:
            yield _without_line_breaks(without_json, budget)
        budget.spend(_ESCAPE_COST * without_json.count("%"))
        unescaped = unquote(without_json)
        if unescaped != without_json:
            yield _without_line_breaks(unescaped, budget)
        if unescaped == text:
            return
        text = unescaped


def _without_line_breaks(text: str, budget: "_Budget") -> str:
    budget.spend(_ESCAPE_COST * sum(map(text.count, "\r\n")))
    return _LINE_BREAK.sub("", text)


def _without_json_escapes(text: str, budget: "_Budget") -> str:
    budget.spend(_ESCAPE_COST * text.count("\\"))
    return _JSON_ESCAPE.sub(_unescape, text) if "\\" in text else text


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else _JSON_CONTROLS.get(match[2], match[2])


def _forms(value: str) -> Iterator[str]:
    """Yield `value` unchanged, with plus signs for spaces as in the query of a URL, in hex, and in base64."""
    raw = value.encode()
    yield from (_LINE_BREAK.sub("", value), value.replace(" ", "+"))
    yield from (raw.hex(), raw.hex().upper(), b64encode(raw).decode())
    yield from (digits for digits in _base64_forms(raw) if len(digits) >= _MIN_BASE64_LENGTH)


def _base64_forms(value: bytes) -> Iterator[str]:
    """Yield the base64 digits that represent `value` at each offset within a longer text, in both alphabets.

    A digit represents 6 bits. The result leaves out the digits that also represent bits of the neighboring bytes.
    """
    for offset in range(3):
        digits = b64encode(bytes(offset) + value).decode()
        digits = digits[-(-offset * 8 // 6) : (offset + len(value)) * 8 // 6]
        yield digits
        yield digits.replace("+", "-").replace("/", "_")


class _TokenSearch:
    """The forms of a token, and the search for a piece of one of them.

    Each form has a minimum length: the number of its characters that represent PIECE_LENGTH characters of the token.
    The search examines every 7th position of a text: a piece of 12 or more characters contains at least one of the
    6-character windows that begin there.
    """

    _WINDOW = 6
    _STEP = PIECE_LENGTH - _WINDOW + 1

    def __init__(self, token: str) -> None:
        #: The whole token in each form.
        self.forms = tuple(_forms(token)) if len(token) >= _MIN_LENGTH else ()
        raw = token.encode()
        self._min_lengths = {token: PIECE_LENGTH, raw.hex(): 2 * PIECE_LENGTH, raw.hex().upper(): 2 * PIECE_LENGTH}
        # 12 bytes at any offset contain at least 15 whole digits.
        self._min_lengths |= dict.fromkeys(_base64_forms(raw), PIECE_LENGTH * 8 // 6 - 1)
        self._windows = {
            form[start : start + self._WINDOW]
            for form in self._min_lengths
            for start in range(len(form) - self._WINDOW + 1)
        }

    def occurs_in(self, text: str, budget: "_Budget") -> bool:
        """Return True if `text` contains a piece of the token in one of the forms."""
        size = self._WINDOW
        starts = range(0, len(text) - size + 1, self._STEP)
        if self._windows.isdisjoint(text[start : start + size] for start in starts):
            return False
        return any(
            text[start : start + size] in self._windows and self._has_piece_at(text, start, budget) for start in starts
        )

    def _has_piece_at(self, text: str, position: int, budget: "_Budget") -> bool:
        """Return True if a piece of the token includes the window at `position`."""
        budget.spend(10_000)
        for form, length in self._min_lengths.items():
            for start in range(max(0, position + self._WINDOW - length), position + 1):
                piece = text[start : start + length]
                if len(piece) == length and piece in form:
                    return True
        return False


# Cache the search, because the function uses a few tokens for many events.
_token_search = lru_cache(maxsize=64)(_TokenSearch)


class _BudgetExceededError(Exception):
    """The search exceeds its budget or the deadline."""


class _Budget:
    """The limit on the time of one redaction. The unit is a nanosecond of CPU time, estimated before each step."""

    _LIMIT = 60_000_000
    # The work for about 64 kB is always allowed, because the function must show a short error even after the deadline.
    _FREE = 2_000_000

    def __init__(self, expired: Callable[[], bool]) -> None:
        self._spent = 0
        self._expired = expired

    def spend(self, cost: int) -> None:
        """Add the cost of the next step.

        Raises:
            _BudgetExceededError: The budget, or the time until the deadline, does not allow the step.
        """
        self._spent += cost
        if self._spent > self._LIMIT or (self._spent > self._FREE and self._expired()):
            raise _BudgetExceededError
