"""Fetch secrets from Google Secret Manager, with the official client.

https://cloud.google.com/secret-manager/docs/reference/rpc/google.cloud.secretmanager.v1
"""

import threading
from typing import TYPE_CHECKING

from handlers import google_api
from handlers.secret_store.fetch_error import FetchError
from schemas.secret_reference import SecretReference

if TYPE_CHECKING:
    from google.cloud.secretmanager import SecretManagerServiceClient

# The time limit of one attempt, in seconds. The client's own default is 60 s.
_ATTEMPT_SECONDS = 1.0
# The remedy for each error status. Source: https://cloud.google.com/secret-manager/docs/troubleshooting
_REMEDIES = {
    "FAILED_PRECONDITION": "The version is disabled or destroyed. Enable it, or add a new version.",
    "INVALID_ARGUMENT": "Correct the secret reference.",
    "NOT_FOUND": "Create the secret and add a version, or correct the secret reference.",
    "PERMISSION_DENIED": "Grant the function's service account the role Secret Manager Secret Accessor on the secret.",
    "UNAUTHENTICATED": "Check the credentials of the function's service account.",
}


class SecretManager:
    """The connections to Secret Manager: one for global secrets, and one for each location of regional secrets.

    A connection opens at the first fetch.

    The imports are inside the methods, because importing the client takes a quarter of a second and 28 MB (measured).
    A function whose secrets are in files or variables never needs the client.
    """

    def __init__(self, emulator: str | None) -> None:
        """Create the connection without I/O. `emulator` is the host and port of a local server without TLS, or None."""
        self._emulator = emulator
        self._lock = threading.Lock()
        self._clients: dict[str | None, SecretManagerServiceClient] = {}

    def fetch(self, reference: SecretReference, seconds: float) -> tuple[bytes, str]:
        """Return the bytes of a version of a secret, and the resource name of the version, within `seconds`.

        Raises:
            FetchError: Secret Manager is unreachable or asks to retry, or the version is missing, denied, disabled, or
                damaged, or there are no credentials.
        """
        import google_crc32c
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError

        unreachable = FetchError("is unavailable: Secret Manager is unreachable.", is_transient=True)
        try:
            response = self._get_client(reference.location).access_secret_version(
                name=reference.name, retry=google_api.create_retry(seconds), timeout=min(_ATTEMPT_SECONDS, seconds)
            )
        except google_api.transient_errors():
            raise unreachable from None
        except exceptions.GoogleAPICallError as error:
            status = google_api.status_name(error)
            remedy = _REMEDIES.get(status, "Check the secret reference.")
            raise FetchError(f"is unavailable: Secret Manager returned {status}. {remedy}") from None
        except GoogleAuthError as error:
            if error.retryable:
                raise unreachable from None
            raise FetchError(
                "is unavailable: the function has no usable Google credentials. Give the function a service account."
            ) from None
        payload = response.payload
        # Secret Manager sends a checksum with every version that has one. The client doesn't verify the checksum.
        if "data_crc32c" in payload and google_crc32c.value(payload.data) != payload.data_crc32c:
            raise FetchError("is damaged: its bytes don't match its checksum. Add a new version.")
        return payload.data, response.name

    def _get_client(self, location: str | None) -> "SecretManagerServiceClient":
        with self._lock:
            if location not in self._clients:
                self._clients[location] = _create_client(self._emulator, location)
            return self._clients[location]


def _create_client(emulator: str | None, location: str | None) -> "SecretManagerServiceClient":
    """Return a client for the global endpoint, or for the endpoint of a location.

    https://cloud.google.com/secret-manager/docs/reference/rpc#service-endpoint
    """
    from google.cloud.secretmanager import SecretManagerServiceClient

    if emulator is None:
        endpoint = {"api_endpoint": f"secretmanager.{location}.rep.googleapis.com"} if location else None
        return SecretManagerServiceClient(client_options=endpoint)
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
        SecretManagerServiceGrpcTransport,
    )

    channel = google_api.open_emulator_channel(emulator)
    return SecretManagerServiceClient(transport=SecretManagerServiceGrpcTransport(channel=channel))
