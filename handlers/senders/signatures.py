"""Verify requests that carry a signature. Every signature is an HMAC with the secret as the key.

An attacker who saw a signed request can send it again, change its body, or remove its signature. Therefore, a
signature must cover every byte of the body, a timestamp must be signed and recent, and a sender that signs can't fall
back to a weaker credential while a signature is present.

An attacker also sends malformed signatures and measures the time until the response. `shared_secrets` describes the
protection.
"""

import base64
import hmac
import math
from dataclasses import dataclass
from typing import Literal

from handlers.senders.shared_secrets import (
    BadSecretError,
    HeaderVerifier,
    SignedRequest,
    Verifier,
    header_bytes,
    missing_header,
)

#: The largest difference between a signed timestamp and the current time, in the past or in the future, in seconds.
#: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
TOLERANCE_SECONDS = 300

# Longer than any timestamp in seconds since 1970. The limit bounds the cost of the conversion to a number.
_MAX_TIMESTAMP_DIGITS = 12

_SIGNING_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class BodySignature(HeaderVerifier):
    """Authentication by a header with a signature of the body, after a prefix.

    With a `separator`, the header is a list of signatures, and one valid signature is enough. `algorithm` is the hash
    function of the HMAC.
    """

    prefix: str = ""
    encoding: Literal["hex", "base64"] = "hex"
    separator: str | None = None
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if the header contains the signature of the body.

        Raises:
            BadSecretError: The secret is empty.
        """
        digest = _sign(secret.encode(), request.body, self.algorithm)
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

    def explain(self, request: SignedRequest) -> str:
        """Return that the header is missing or doesn't match, or that the timestamp isn't recent."""
        if self.header not in request.headers:
            return missing_header(self.header)
        parts = (part.strip(" \t").partition("=") for part in request.headers[self.header].split(","))
        timestamp = next((value for name, _, value in parts if name == "timestamp"), "")
        return _explain_timestamp(timestamp, request.now) or f"The header {self.header} doesn't match the secret."


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """Authentication by three headers: an ID, a timestamp, and a signature `v1,<base64>` of `id.timestamp.body`.

    `names` has the lowercase names of the three headers, in each spelling that the sender uses. If a request has
    signatures in several spellings, only the first spelling counts: headers of different spellings never complete each
    other. With `has_key`, a secret that begins with `whsec_` is a key in base64, as Standard Webhooks specifies.
    """

    names: tuple[tuple[str, str, str], ...]
    has_key: bool = False

    @property
    def headers(self) -> frozenset[str]:
        """The names of the signature headers. The ID and the timestamp aren't credentials."""
        return frozenset(signature for _, _, signature in self.names)

    def is_present(self, request: SignedRequest) -> bool:
        """Return True if the request has a signature header."""
        return self._names(request) is not None

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if one of the signatures is valid and the timestamp is recent.

        Raises:
            BadSecretError: The secret is empty, or isn't in the form of a Standard Webhooks secret.
        """
        names = self._names(request)
        if names is None:
            return False
        message_id, timestamp = (request.headers.get(name, "") for name in names[:2])
        # Use the literal text of the timestamp: a number that is formatted again can differ from the signed text.
        signed = b".".join((header_bytes(message_id), header_bytes(timestamp), request.body))
        key = signing_key(secret) if self.has_key else secret.encode()
        expected = b"v1," + base64.b64encode(_sign(key, signed))
        signatures = request.headers[names[2]].split(" ")
        matches = [hmac.compare_digest(header_bytes(signature), expected) for signature in signatures]
        return any(matches) and bool(message_id) and _is_recent(timestamp, request.now)

    def explain(self, request: SignedRequest) -> str:
        """Return that a header is missing, that the timestamp isn't recent, or that no signature matches."""
        names = self._names(request)
        missing = [name for name in names or (self.names[0][2],) if not request.headers.get(name)]
        if names is None or missing:
            return missing_header(missing[0])
        timestamp = request.headers[names[1]]
        return _explain_timestamp(timestamp, request.now) or f"The header {names[2]} doesn't match the secret."

    def _names(self, request: SignedRequest) -> tuple[str, str, str] | None:
        return next((names for names in self.names if names[2] in request.headers), None)


def _header_names(prefix: str) -> tuple[str, str, str]:
    return (f"{prefix}-id", f"{prefix}-timestamp", f"{prefix}-signature")


#: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, and Svix
STANDARD_WEBHOOKS = SignedMessage((_header_names("webhook"), _header_names("svix")), has_key=True)
#: Standard Webhooks without the spelling of Svix.
STANDARD_WEBHOOKS_ONLY = SignedMessage((_header_names("webhook"),), has_key=True)


@dataclass(frozen=True, slots=True)
class AnyVerifier:
    """Authentication by one of several methods, of which one valid credential is enough."""

    verifiers: tuple[Verifier, ...]

    @property
    def headers(self) -> frozenset[str]:
        """The names of the headers of all methods."""
        return frozenset().union(*(verifier.headers for verifier in self.verifiers))

    def is_present(self, request: SignedRequest) -> bool:
        """Return True if the request has a credential of any method."""
        return any(verifier.is_present(request) for verifier in self.verifiers)

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if one of the credentials is valid.

        Raises:
            BadSecretError: The secret is unusable.
        """
        # Verify each credential, so that the time doesn't depend on the position of the valid one.
        matches = [verifier.verify(request, secret) for verifier in self.verifiers]
        return any(matches)

    def explain(self, request: SignedRequest) -> str:
        """Return the reason of the first method for which the request has a credential, or of the first method."""
        present = (verifier for verifier in self.verifiers if verifier.is_present(request))
        return next(present, self.verifiers[0]).explain(request)


@dataclass(frozen=True, slots=True)
class PreferredVerifier:
    """Authentication by a signature if the request has the signature, and otherwise by a fallback.

    A signature that is present is the only credential that counts. Otherwise, an attacker could invalidate the
    signature and change the body.

    With `by_prefix`, a secret that begins with `whsec_` can only sign, and any other secret is only for the fallback.
    """

    signature: Verifier
    fallback: Verifier
    by_prefix: bool = False

    @property
    def headers(self) -> frozenset[str]:
        """The names of the headers of both verifiers."""
        return self.signature.headers | self.fallback.headers

    def is_present(self, request: SignedRequest) -> bool:
        """Return True if the request has either credential."""
        return self.signature.is_present(request) or self.fallback.is_present(request)

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if the credential that counts is valid.

        Raises:
            BadSecretError: The secret is unusable for the verifier of that credential.
        """
        is_signed = self.signature.is_present(request)
        if self.by_prefix and is_signed != secret.startswith(_SIGNING_PREFIX):
            return False
        return (self.signature if is_signed else self.fallback).verify(request, secret)

    def explain(self, request: SignedRequest) -> str:
        """Return the reason of the verifier of the credential that counts, or of both without a credential."""
        verifiers = [self.signature, self.fallback]
        present = [verifier for verifier in verifiers if verifier.is_present(request)]
        return present[0].explain(request) if present else " ".join(each.explain(request) for each in verifiers)


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


def _sign(key: bytes, message: bytes, algorithm: str = "sha256") -> bytes:
    # Anybody can sign with an empty key.
    if not key:
        raise BadSecretError("a secret must not be empty.")
    return hmac.digest(key, message, algorithm)


def _is_recent(timestamp: str, now: float) -> bool:
    return _is_timestamp(timestamp) and abs(now - int(timestamp)) <= TOLERANCE_SECONDS


def _is_timestamp(text: str) -> bool:
    # int() alone accepts signs, spaces, underscores, and digits of other scripts.
    return text.isascii() and text.isdigit() and len(text) <= _MAX_TIMESTAMP_DIGITS


def _explain_timestamp(timestamp: str, now: float) -> str | None:
    """Return the reason why a timestamp isn't recent, or None for a recent timestamp."""
    if not _is_timestamp(timestamp):
        return "The timestamp isn't a number of seconds since 1970."
    if _is_recent(timestamp, now):
        return None
    age = now - int(timestamp)
    direction = "old" if age > 0 else "in the future"
    seconds = math.ceil(abs(age))
    return f"The timestamp is {seconds} s {direction}, and the limit is {TOLERANCE_SECONDS} s. Check the clocks."
