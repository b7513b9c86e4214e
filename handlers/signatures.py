"""Proofs by signature: all are HMAC-SHA256. Pure."""

import base64
import hashlib
import hmac
from typing import Literal, NamedTuple

from handlers.proofs import BadKey, Incoming, InHeader, Proof, wire_bytes

#: How far a signed timestamp may be from now, in seconds, either way;
#: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
TOLERANCE_SECONDS = 300

_SIGNING_PREFIX = "whsec_"


class Signature(InHeader):
    """HMAC-SHA256 of the body in a header of its own, behind a prefix; with a `separator`, one right one is enough."""

    def __init__(
        self, header: str, prefix: str = "", encoding: Literal["hex", "base64"] = "hex", separator: str | None = None
    ) -> None:
        super().__init__(header)
        self.prefix = prefix
        self.encoding = encoding
        self.separator = separator

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
        same = hmac.compare_digest(wire_bytes(value.lower() if self.encoding == "hex" else value), expected)
        return given.startswith(self.prefix) and same


class TimedSignature(InHeader):
    """`timestamp=…,signature=…`: hexadecimal HMAC-SHA256 of the timestamp, a dot, and the body."""

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether the signature is right, and the timestamp near."""
        pairs = [part.strip(" \t").partition("=") for part in incoming.headers.get(self.header, "").split(",")]
        named = {name: value for name, _, value in pairs}
        if len(named) != len(pairs):
            return False
        timestamp, signature = named.get("timestamp", ""), named.get("signature", "")
        expected = hmac.digest(secret.encode(), wire_bytes(timestamp) + b"." + incoming.body, hashlib.sha256).hex()
        same = hmac.compare_digest(wire_bytes(signature.lower()), expected.encode())
        return same and _is_fresh(timestamp, incoming.now)


class StandardWebhooks(NamedTuple):
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
        signed = b".".join((wire_bytes(message_id), wire_bytes(timestamp), incoming.body))
        expected = b"v1," + base64.b64encode(hmac.digest(signing_key(secret), signed, hashlib.sha256))
        matches = [
            hmac.compare_digest(wire_bytes(each), expected) for each in headers[f"{spelling}-signature"].split(" ")
        ]
        return any(matches) and bool(message_id) and _is_fresh(timestamp, incoming.now)

    def _spelling(self, incoming: Incoming) -> str | None:
        return next((each for each in self.spellings if f"{each}-signature" in incoming.headers), None)


class SignedOrPlain(NamedTuple):
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


def _is_fresh(timestamp: str, now: float) -> bool:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    return abs(now - int(timestamp)) <= TOLERANCE_SECONDS
