"""Verify the ID token of a push from Google: https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions.

An attacker can send any token: forged, expired, for another audience, or of another service account. The response is
the same in each case. The signature `SIGNATURE_REMOVED_BY_GOOGLE` is invalid like any other: Cloud Run removes the
signature only after its own verification, which a public service doesn't perform.
"""

import time
from collections.abc import Mapping
from typing import Any, NoReturn

import requests

from handlers.deadline import Deadline
from handlers.secret_store.fetch_error import FetchError
from handlers.secret_store.store import SecretStore
from schemas.problem import InvalidJSONError, UnauthenticatedError
from schemas.pubsub import PushIdentity
from schemas.secret_reference import SecretReference
from schemas.strict_json import parse_response

_ISSUERS = ("accounts.google.com", "https://accounts.google.com")
# In seconds. Google publishes a new key days before the first use of the key, so an unknown key is nearly always a
# forgery.
_REFRESH_SECONDS = 10.0
# In seconds. The clocks of Google and of the instance differ.
_CLOCK_SKEW = 10


class GoogleIdentity:
    """The verification of Google's ID tokens, with certificates in the cache of the secret store.

    The certificates are public, but have the same needs as a secret: at most one fetch at a time, the old value while
    the source is unreachable, and another fetch after a refusal.
    """

    def __init__(self, certificates: SecretReference, store: SecretStore) -> None:
        self._certificates = certificates
        self._store = store
        # The time of the last fetch because of an unknown key, on the monotonic clock.
        self._refreshed = -_REFRESH_SECONDS

    def authenticate(self, headers: Mapping[str, str], expected: PushIdentity, deadline: Deadline) -> None:
        """Check that a request has an ID token of Google with the expected identity. The names are lowercase.

        Raises:
            UnauthenticatedError: The token is missing or invalid, or has another identity.
            SecretUnreachableError: The certificates are unavailable.
        """
        from google.auth import exceptions, jwt

        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            _reject("The header authorization has no Bearer token.")
        try:
            key_id = jwt.decode_header(token).get("kid")  # type: ignore[no-untyped-call]
        except (ValueError, RecursionError, exceptions.GoogleAuthError):
            _reject("The token isn't a JSON Web Token.")
        if not isinstance(key_id, str):
            _reject("The token names no key.")
        certificates = self._certificates_with(key_id, deadline)
        try:
            claims = jwt.decode(  # type: ignore[no-untyped-call]
                token, certificates, audience=expected.audience, clock_skew_in_seconds=_CLOCK_SKEW
            )
        except (ValueError, RecursionError, exceptions.GoogleAuthError) as error:
            _reject(_reason(error))
        if claims.get("iss") not in _ISSUERS:
            _reject("The issuer of the token isn't Google.")
        if claims.get("email") != expected.account or claims.get("email_verified") is not True:
            _reject("The token belongs to another account.")

    def _certificates_with(self, key_id: str, deadline: Deadline) -> Mapping[str, str]:
        """Return the certificates. Fetch them again if the key is unknown, but at most every ten seconds."""
        cached = self._store.get(self._certificates, deadline)
        certificates = _parse(cached.text)
        if key_id in certificates:
            return certificates
        if time.monotonic() - self._refreshed < _REFRESH_SECONDS:
            _reject("The key of the token is unknown.")
        certificates = _parse(self._store.refresh(self._certificates, cached, deadline).text)
        self._refreshed = time.monotonic()
        return certificates


def fetch_certificates(reference: SecretReference, seconds: float) -> tuple[bytes, str]:
    """Return the certificates at the URL in `reference`, within `seconds` for each read.

    Raises:
        FetchError: The server is unreachable, or its response isn't a list of certificates.
    """
    try:
        response = requests.get(reference.name, timeout=seconds, allow_redirects=False)
        response.raise_for_status()
    except requests.RequestException:
        raise FetchError("is unavailable: Google's certificates can't be fetched.", is_transient=True) from None
    try:
        _parse(response.content.decode())
    except ValueError:
        raise FetchError("is unavailable: the response has no certificates.", is_transient=True) from None
    return response.content, reference.name


def _parse(text: str) -> dict[str, str]:
    """Return the certificates in PEM format by key ID.

    Raises:
        ValueError: The text isn't an object with a string for each key ID.
    """
    try:
        certificates = parse_response(text.encode())
    except InvalidJSONError:
        raise ValueError("The text isn't JSON.") from None
    if not isinstance(certificates, dict) or not all(isinstance(each, str) for each in certificates.values()):
        raise ValueError("The text isn't an object with a string for each key ID.")
    return {key_id: str(certificate) for key_id, certificate in certificates.items()}


def _reason(error: Any) -> str:
    """Return the reason for a rejection, without any value of the token."""
    text = str(error).lower()
    if "audience" in text:
        return "The token has another audience."
    if "expired" in text:
        return "The token has expired."
    if "too early" in text:
        return "The token isn't valid yet."
    return "The signature or the form of the token is invalid."


def _reject(cause: str) -> NoReturn:
    raise UnauthenticatedError("Bearer", cause)
