"""The kinds of proof by which a caller shows that it knows a secret. Pure: the time is part of what comes in.

An attacker here sends any headers, any query and any body, and sees how long each answer takes. So every comparison
is constant-time, and a malformed proof is a wrong one, never an error.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import unquote_plus, unquote_to_bytes

#: How far a signed timestamp may be from now, in seconds, either way;
#: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
TOLERANCE_SECONDS = 300

_SIGNING_PREFIX = "whsec_"


class BadKey(Exception):
    """A secret can't be what a proof needs; the message says why, without it."""


@dataclass(frozen=True)
class Incoming:
    """What a proof is looked for in: `headers` by lower-case names, `query` as it came, `now` in seconds since 1970."""

    headers: Mapping[str, str]
    query: str
    body: bytes
    now: float


class Proof(Protocol):
    """One way to prove who calls."""

    @property
    def headers(self) -> frozenset[str]:
        """The headers that carry it, in lower case."""

    def given(self, incoming: Incoming) -> bool:
        """Whether there is anything to check, right or wrong."""

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether it shows that the caller knows `secret`. Raises BadKey."""


@dataclass(frozen=True)
class _InHeader:
    """A proof in one header, by its lower-case name."""

    header: str

    @property
    def headers(self) -> frozenset[str]:
        """The one."""
        return frozenset({self.header})

    def given(self, incoming: Incoming) -> bool:
        """Whether the header is there."""
        return self.header in incoming.headers


@dataclass(frozen=True)
class Signature(_InHeader):
    """HMAC-SHA256 of the body in a header of its own, behind a prefix; with a `separator`, one right one is enough."""

    prefix: str = ""
    encoding: Literal["hex", "base64"] = "hex"
    separator: str | None = None

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether one of the signatures is the body's."""
        digest = hmac.digest(secret.encode(), incoming.body, hashlib.sha256)
        expected = base64.b64encode(digest) if self.encoding == "base64" else digest.hex().encode()
        text = incoming.headers.get(self.header, "")
        given = text.split(self.separator) if self.separator else [text]
        matches = [self._is(each.strip(" \t"), expected) for each in given]
        return any(matches)

    def _is(self, given: str, expected: bytes) -> bool:
        value = given.removeprefix(self.prefix)
        # Both are looked at, whatever the first says.
        same = hmac.compare_digest(_bytes(value.lower() if self.encoding == "hex" else value), expected)
        return given.startswith(self.prefix) and same


@dataclass(frozen=True)
class TimedSignature(_InHeader):
    """`timestamp=…,signature=…`: hexadecimal HMAC-SHA256 of the timestamp, a dot, and the body."""

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether the signature is right, and the timestamp near."""
        pairs = [part.strip(" \t").partition("=") for part in incoming.headers.get(self.header, "").split(",")]
        named = {name: value for name, _, value in pairs}
        if len(named) != len(pairs):
            return False
        timestamp, signature = named.get("timestamp", ""), named.get("signature", "")
        expected = hmac.digest(secret.encode(), _bytes(timestamp) + b"." + incoming.body, hashlib.sha256).hex()
        same = hmac.compare_digest(_bytes(signature.lower()), expected.encode())
        return same and _is_fresh(timestamp, incoming.now)


@dataclass(frozen=True)
class StandardWebhooks:
    """https://www.standardwebhooks.com: three headers, under one of the `spellings`; the first that is there counts."""

    spellings: tuple[str, ...] = ("webhook", "svix")

    @property
    def headers(self) -> frozenset[str]:
        """Of the three only the signature proves anything; the id is the delivery's."""
        return frozenset(f"{spelling}-signature" for spelling in self.spellings)

    def given(self, incoming: Incoming) -> bool:
        """Whether there is a signature."""
        return self._spelling(incoming) is not None

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether one of the signatures is right, and the timestamp near."""
        spelling = self._spelling(incoming)
        if spelling is None:
            return False
        headers = incoming.headers
        message_id, timestamp = headers.get(f"{spelling}-id", ""), headers.get(f"{spelling}-timestamp", "")
        # The literal text is what was signed: it is looked at as a number, but never written anew.
        signed = b".".join((_bytes(message_id), _bytes(timestamp), incoming.body))
        expected = b"v1," + base64.b64encode(hmac.digest(signing_key(secret), signed, hashlib.sha256))
        matches = [hmac.compare_digest(_bytes(each), expected) for each in headers[f"{spelling}-signature"].split(" ")]
        return any(matches) and bool(message_id) and _is_fresh(timestamp, incoming.now)

    def _spelling(self, incoming: Incoming) -> str | None:
        return next((each for each in self.spellings if f"{each}-signature" in incoming.headers), None)


@dataclass(frozen=True)
class Plain(_InHeader):
    """The secret itself in a header of its own."""

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether it is the secret."""
        return _same(incoming.headers.get(self.header, ""), secret)


@dataclass(frozen=True)
class Authorization(_InHeader):
    """`Authorization: Bearer <secret>`, or `Basic`, where the secret is `user:password`."""

    scheme: Literal["Bearer", "Basic"]

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether it is of this scheme, and the secret."""
        scheme, _, given = incoming.headers.get(self.header, "").partition(" ")
        if self.scheme == "Basic":
            if ":" not in secret:
                raise BadKey("it must be user:password.")
            given, secret = given.strip(" \t").rstrip("="), base64.b64encode(secret.encode()).decode().rstrip("=")
        # Compared whatever the scheme: the answer's time says nothing of the secret.
        same = _same(given, secret)
        return same and scheme.lower() == self.scheme.lower()


@dataclass(frozen=True)
class QueryToken:
    """The secret itself in the query, `?token=…`: for senders that can set nothing but the URL."""

    name: str

    @property
    def headers(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def given(self, incoming: Incoming) -> bool:
        """Whether there is one."""
        return bool(self._values(incoming))

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether there is just one, and it is the secret; a '+' may stand for itself, or for a space."""
        values = self._values(incoming)
        expected = secret.encode()
        matches = [
            hmac.compare_digest(form, expected)
            for each in values
            for form in (unquote_to_bytes(each), unquote_to_bytes(each.replace("+", " ")))
        ]
        return any(matches) and len(values) == 1

    def _values(self, incoming: Incoming) -> list[str]:
        pairs = [pair.partition("=") for pair in incoming.query.split("&")]
        return [value for name, _, value in pairs if unquote_plus(name) == self.name]


@dataclass(frozen=True)
class SignedOrPlain:
    """A signature, or the secret itself. A signature that is there alone decides: to spoil it must not help.

    With `by_prefix` a secret that begins with `whsec_` only signs, and any other never does.
    """

    signed: Proof
    plain: Proof
    by_prefix: bool = False

    @property
    def headers(self) -> frozenset[str]:
        """Those of both."""
        return self.signed.headers | self.plain.headers

    def given(self, incoming: Incoming) -> bool:
        """Whether there is either."""
        return self.signed.given(incoming) or self.plain.given(incoming)

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether the one that counts does."""
        is_signed = self.signed.given(incoming)
        if self.by_prefix and is_signed != secret.startswith(_SIGNING_PREFIX):
            return False
        return (self.signed if is_signed else self.plain).holds(incoming, secret)


def signing_key(secret: str) -> bytes:
    """The bytes that `secret` signs with: what is base64 behind `whsec_`, else its UTF-8.

    Raises BadKey. An empty key must not pass: anybody can sign with that.
    """
    if not secret.startswith(_SIGNING_PREFIX):
        return secret.encode()
    text = secret.removeprefix(_SIGNING_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise BadKey("behind whsec_ there must be base64, and something.")
    return key


def _same(given: str, secret: str) -> bool:
    """Whether a header is `secret`. White space at a header's ends is no part of it, and so can be none of a secret."""
    return hmac.compare_digest(_bytes(given.strip(" \t")), secret.strip(" \t").encode())


def _is_fresh(timestamp: str, now: float) -> bool:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    return abs(now - int(timestamp)) <= TOLERANCE_SECONDS


def _bytes(header: str) -> bytes:
    """A header as it was on the wire (WSGI reads headers as Latin-1)."""
    return header.encode("latin-1", "replace")
