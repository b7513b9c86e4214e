"""Verify requests that carry a signature. Every signature is an HMAC-SHA256 with the secret as the key.

An attacker who saw a signed request can send it again, change its body, or remove its signature. Therefore, a
signature must cover every byte of the body, a timestamp must be signed and recent, and a sender that signs can't fall
back to a weaker credential while a signature is present.

An attacker also sends malformed signatures and measures the time until the response. `shared_secrets` describes the
protection.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

from handlers.senders.shared_secrets import BadSecretError, HeaderVerifier, SignedRequest, Verifier, header_bytes

#: The largest difference between a signed timestamp and the current time, in the past or in the future, in seconds.
#: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
TOLERANCE_SECONDS = 300

# Longer than any timestamp in seconds since 1970. The limit bounds the cost of the conversion to a number.
_MAX_TIMESTAMP_DIGITS = 12

_SIGNING_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class BodySignature(HeaderVerifier):
    """Authentication by a header with a signature of the body, after a prefix.

    With a `separator`, the header is a list of signatures, and one valid signature is enough.
    """

    prefix: str = ""
    encoding: Literal["hex", "base64"] = "hex"
    separator: str | None = None

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if the header contains the signature of the body.

        Raises:
            BadSecretError: The secret is empty.
        """
        digest = _sign(secret.encode(), request.body)
        expected = base64.b64encode(digest) if self.encoding == "base64" else digest.hex().encode()
        value = request.headers.get(self.header, "")
        signatures = value.split(self.separator) if self.separator else [value]
        # Compare every signature, so that the time doesn't depend on the position of the valid signature.
        matches = [self._equals(signature.strip(" \t"), expected) for signature in signatures]
        return any(matches)

    def _equals(self, signature: str, expected: bytes) -> bool:
        encoded = signature.removeprefix(self.prefix)
        if self.encoding == "hex":
            encoded = encoded.lower()
        is_equal = hmac.compare_digest(header_bytes(encoded), expected)
        return is_equal and signature.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class TimestampedSignature(HeaderVerifier):
    """Authentication by a header `timestamp=…,signature=…`, with a hexadecimal signature of `timestamp.body`."""

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if the signature is valid and the timestamp is recent.

        Raises:
            BadSecretError: The secret is empty.
        """
        pairs = [part.strip(" \t").partition("=") for part in request.headers.get(self.header, "").split(",")]
        fields = {name: value for name, _, value in pairs}
        if len(fields) != len(pairs):
            return False
        timestamp, signature = fields.get("timestamp", ""), fields.get("signature", "")
        expected = _sign(secret.encode(), header_bytes(timestamp) + b"." + request.body).hex().encode()
        is_equal = hmac.compare_digest(header_bytes(signature.lower()), expected)
        return is_equal and _is_recent(timestamp, request.now)


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """Authentication by the three headers of https://www.standardwebhooks.com: ID, timestamp, and signature.

    A sender uses one of the `spellings` as the prefix of the headers. If a request has signatures in several
    spellings, only the first spelling counts: headers of different spellings never complete each other.
    """

    spellings: tuple[str, ...] = ("webhook", "svix")

    @property
    def headers(self) -> frozenset[str]:
        """The names of the signature headers. The ID and the timestamp aren't credentials."""
        return frozenset(f"{spelling}-signature" for spelling in self.spellings)

    def is_present(self, request: SignedRequest) -> bool:
        """Return True if the request has a signature header."""
        return self._spelling(request) is not None

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if one of the signatures is valid and the timestamp is recent.

        Raises:
            BadSecretError: The secret is empty, or isn't in the form of a Standard Webhooks secret.
        """
        spelling = self._spelling(request)
        if spelling is None:
            return False
        message_id = request.headers.get(f"{spelling}-id", "")
        timestamp = request.headers.get(f"{spelling}-timestamp", "")
        # Use the literal text of the timestamp: a number that is formatted again can differ from the signed text.
        signed = b".".join((header_bytes(message_id), header_bytes(timestamp), request.body))
        expected = b"v1," + base64.b64encode(_sign(signing_key(secret), signed))
        signatures = request.headers[f"{spelling}-signature"].split(" ")
        matches = [hmac.compare_digest(header_bytes(signature), expected) for signature in signatures]
        return any(matches) and bool(message_id) and _is_recent(timestamp, request.now)

    def _spelling(self, request: SignedRequest) -> str | None:
        return next((spelling for spelling in self.spellings if f"{spelling}-signature" in request.headers), None)


@dataclass(frozen=True, slots=True)
class SignatureOrSecret:
    """Authentication by a signature if the request has a signature, and otherwise by the plain secret.

    A signature that is present is the only credential that counts. Otherwise, an attacker could invalidate the
    signature and change the body.

    With `by_prefix`, a secret that begins with `whsec_` can only sign, and any other secret can only be sent plain.
    """

    signature: Verifier
    secret: Verifier
    by_prefix: bool = False

    @property
    def headers(self) -> frozenset[str]:
        """The names of the headers of both verifiers."""
        return self.signature.headers | self.secret.headers

    def is_present(self, request: SignedRequest) -> bool:
        """Return True if the request has either credential."""
        return self.signature.is_present(request) or self.secret.is_present(request)

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if the credential that counts is valid.

        Raises:
            BadSecretError: The secret is unusable for the verifier of that credential.
        """
        is_signed = self.signature.is_present(request)
        if self.by_prefix and is_signed != secret.startswith(_SIGNING_PREFIX):
            return False
        return (self.signature if is_signed else self.secret).verify(request, secret)


def signing_key(secret: str) -> bytes:
    """Return the signing key of a Standard Webhooks secret.

    The key is the base64 text after `whsec_`, with or without padding. For a secret without that prefix, the key is
    the UTF-8 bytes of the secret.

    Raises:
        BadSecretError: The text after `whsec_` is empty or isn't base64.
    """
    if not secret.startswith(_SIGNING_PREFIX):
        return secret.encode()
    text = secret.removeprefix(_SIGNING_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise BadSecretError("the text after whsec_ must be base64 and must not be empty.")
    return key


def _sign(key: bytes, message: bytes) -> bytes:
    # Anybody can sign with an empty key.
    if not key:
        raise BadSecretError("a secret must not be empty.")
    return hmac.digest(key, message, hashlib.sha256)


def _is_recent(timestamp: str, now: float) -> bool:
    # int() alone accepts signs, spaces, underscores, and digits of other scripts.
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MAX_TIMESTAMP_DIGITS):
        return False
    return abs(now - int(timestamp)) <= TOLERANCE_SECONDS
