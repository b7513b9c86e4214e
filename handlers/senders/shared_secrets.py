"""Verify requests that carry the shared secret itself, in a header or in the query.

An attacker chooses every header, the query, and the body, and measures the time until the response. Therefore, each
comparison takes constant time, and a malformed credential counts as an invalid credential, never as an error.

This module does no I/O: the current time is part of the request.
"""

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import unquote_plus, unquote_to_bytes


class BadSecretError(Exception):
    """A configured secret is unusable for its verifier, regardless of the request.

    The message states the required form and never contains the secret.
    """


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of a request that can authenticate its sender.

    The names in `headers` are lowercase. `query` is the query string as received, without the question mark. `now` is
    the time of the verification, in seconds since 1970.
    """

    headers: Mapping[str, str] = field(repr=False)
    query: str = field(repr=False)
    body: bytes = field(repr=False)
    now: float


class Verifier(Protocol):
    """A method by which a sender authenticates its requests."""

    @property
    def headers(self) -> frozenset[str]:
        """The lowercase names of the headers that carry the credential."""

    def is_present(self, request: SignedRequest) -> bool:
        """Return True if the request has a credential of this kind, valid or invalid."""

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if the request shows that its sender knows the secret.

        Raises:
            BadSecretError: The secret is unusable for this verifier.
        """

    def explain(self, request: SignedRequest) -> str:
        """Return a probable reason why `request` has no valid credential, for the log, without any value of it."""


@dataclass(frozen=True, slots=True)
class HeaderVerifier:
    """Base class of the verifiers that read one header. The name of the header is lowercase."""

    header: str

    @property
    def headers(self) -> frozenset[str]:
        """The name of the header."""
        return frozenset({self.header})

    def is_present(self, request: SignedRequest) -> bool:
        """Return True if the request has the header."""
        return self.header in request.headers

    def explain(self, request: SignedRequest) -> str:
        """Return the name of the missing header, or of the header whose value doesn't match the secret."""
        if self.header not in request.headers:
            return missing_header(self.header)
        return f"The header {self.header} doesn't match the secret."


@dataclass(frozen=True, slots=True)
class HeaderSecret(HeaderVerifier):
    """Authentication by a header whose value is the secret."""

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if the value of the header is the secret.

        Raises:
            BadSecretError: The secret is empty.
        """
        return _equals_secret(request.headers.get(self.header, ""), secret)


@dataclass(frozen=True, slots=True)
class Authorization:
    """Authentication by the header `Authorization`: `Bearer <secret>`, or `Basic` with a secret `user:password`.

    With `may_be_encoded`, the user and the password can be percent-encoded, in the request and in the secret.
    """

    scheme: Literal["Bearer", "Basic"]
    may_be_encoded: bool = False

    @property
    def headers(self) -> frozenset[str]:
        """The name of the header."""
        return frozenset({"authorization"})

    def is_present(self, request: SignedRequest) -> bool:
        """Return True if the request has the header, with any scheme."""
        return "authorization" in request.headers

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if the header has this scheme and the secret.

        Raises:
            BadSecretError: The secret is empty, or a secret for `Basic` doesn't have the form `user:password`.
        """
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if self.scheme == "Basic":
            if ":" not in secret:
                raise BadSecretError("a secret for Basic authentication must have the form user:password.")
            # Some clients omit the padding.
            is_equal = _equals_secret(credentials.strip(" \t").rstrip("="), _basic_credentials(secret.encode()))
            if self.may_be_encoded:
                is_equal |= _equals_decoded(credentials.strip(" \t"), secret)
        else:
            is_equal = _equals_secret(credentials, secret)
        # RFC 9110, 11.1: the scheme is case-insensitive.
        return is_equal and scheme.lower() == self.scheme.lower()

    def explain(self, request: SignedRequest) -> str:
        """Return that the header is missing, has another scheme, or doesn't match the secret."""
        if "authorization" not in request.headers:
            return missing_header("authorization")
        scheme = request.headers["authorization"].partition(" ")[0]
        if scheme.lower() != self.scheme.lower():
            return f"The header authorization doesn't have the scheme {self.scheme}."
        return "The header authorization doesn't match the secret."


@dataclass(frozen=True, slots=True)
class QuerySecret:
    """Authentication by a query parameter whose value is the secret, for senders that can set only the URL."""

    parameter: str

    @property
    def headers(self) -> frozenset[str]:
        """No names, because the credential is in the query."""
        return frozenset()

    def is_present(self, request: SignedRequest) -> bool:
        """Return True if the query has the parameter at least once."""
        return bool(self._values(request))

    def verify(self, request: SignedRequest, secret: str) -> bool:
        """Return True if the query has the parameter exactly once, and its value is the secret.

        Some senders write a '+' for itself (RFC 3986), and other senders write a '+' for a space (HTML forms).

        Raises:
            BadSecretError: The secret is empty.
        """
        values = self._values(request)
        expected = _require_text(secret).encode()
        matches = [
            hmac.compare_digest(unquote_to_bytes(candidate), expected)
            for value in values
            for candidate in (value, value.replace("+", " "))
        ]
        return any(matches) and len(values) == 1

    def explain(self, request: SignedRequest) -> str:
        """Return that the parameter is missing, occurs more than once, or doesn't match the secret."""
        match len(self._values(request)):
            case 0:
                return f"The query has no parameter {self.parameter}."
            case 1:
                return f"The query parameter {self.parameter} doesn't match the secret."
            case _:
                return f"The query has the parameter {self.parameter} more than once."

    def _values(self, request: SignedRequest) -> list[str]:
        pairs = [pair.partition("=") for pair in request.query.split("&")]
        return [value for name, _, value in pairs if unquote_plus(name) == self.parameter]


def missing_header(name: str) -> str:
    """Return the reason for the rejection of a request without the header `name`."""
    return f"The header {name} is missing."


def _basic_credentials(user_and_password: bytes) -> str:
    return base64.b64encode(user_and_password).decode().rstrip("=")


def _equals_decoded(credentials: str, secret: str) -> bool:
    """Return True if the credentials and the secret are equal without percent-encoding on one or on both sides."""
    unpadded = credentials.rstrip("=")
    try:
        sent = base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except ValueError:
        sent = b""
    stored = secret.encode()
    # Compare every pair, so that the time doesn't depend on the pair that is equal.
    plain_sent, plain_stored = unquote_to_bytes(sent), unquote_to_bytes(stored)
    pairs = [(plain_sent, stored), (sent, plain_stored), (plain_sent, plain_stored)]
    matches = [hmac.compare_digest(*pair) for pair in pairs]
    return any(matches)


def header_bytes(value: str) -> bytes:
    """Return the bytes of a header as received: WSGI decodes headers as Latin-1 (PEP 3333)."""
    return value.encode("latin-1", "replace")


def _equals_secret(value: str, secret: str) -> bool:
    # RFC 9110, 5.5: whitespace around a header's value isn't part of the value, so it can't be part of the secret.
    expected = _require_text(secret.strip(" \t"))
    return hmac.compare_digest(header_bytes(value.strip(" \t")), expected.encode())


def _require_text(secret: str) -> str:
    # An empty secret would match a request without a credential.
    if not secret:
        raise BadSecretError("a secret must not be empty.")
    return secret
