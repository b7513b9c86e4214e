"""Google Secret Manager, through the official client.

That client takes a quarter of a second and some 28 MB to import, so it is imported and built when the first
reference needs it, and never by a function whose secrets are in files or variables.
"""

import gc
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from schemas.problem import SecretUnreachable, SecretUnusable
from schemas.reference import SecretReference

if TYPE_CHECKING:
    from google.cloud.secretmanager import SecretManagerServiceClient

# One try of several, in seconds: the library's default, with no limit of its own, would go on for a minute.
_TRY_SECONDS = 1.0


class SecretManager:
    """The client, built when it is first needed."""

    def __init__(self, emulator: str | None) -> None:
        """`emulator` is the host:port of a Secret Manager on this machine, without TLS."""
        self._emulator = emulator
        self._lock = threading.Lock()
        self._client: SecretManagerServiceClient | None = None

    def fetch(self, reference: SecretReference, seconds: float) -> tuple[bytes, str]:
        """The bytes of a version within `seconds`, and its resource name.

        Raises SecretUnreachable where another try may help, else SecretUnusable.
        """
        # Before what comes with it.
        _client_class()
        import google_crc32c
        from google.api_core import exceptions
        from google.api_core.retry import Retry, if_exception_type
        from google.auth.exceptions import GoogleAuthError

        passing = (exceptions.ServerError, exceptions.TooManyRequests, exceptions.Aborted, exceptions.Cancelled)
        retry: Any = Retry(predicate=if_exception_type(*passing), initial=0.1, maximum=1, multiplier=2, timeout=seconds)
        subject = f"{reference.label} can't be had"
        try:
            found = self._built().access_secret_version(
                name=reference.name, retry=retry, timeout=min(_TRY_SECONDS, seconds)
            )
        # RetryError, when `seconds` have passed, is no GoogleAPICallError.
        except (*passing, exceptions.RetryError):
            raise SecretUnreachable(f"{subject}: Secret Manager can't be reached.") from None
        except exceptions.GoogleAPICallError as error:
            raise SecretUnusable(f"{subject}: {_reason(error)}.") from None
        except GoogleAuthError as error:
            if error.retryable:
                raise SecretUnreachable(f"{subject}: Secret Manager can't be reached.") from None
            raise SecretUnusable(f"{subject}: there are no usable Google credentials here.") from None
        payload = found.payload
        # The service sends a checksum with every version that it keeps one of; the client doesn't compare it.
        if "data_crc32c" in payload and google_crc32c.value(payload.data) != payload.data_crc32c:
            raise SecretUnusable(f"{reference.label} came damaged: its checksum differs.")
        return payload.data, found.name

    def _built(self) -> "SecretManagerServiceClient":
        with self._lock:
            if self._client is None:
                self._client = _build(self._emulator)
            return self._client


@cache
def _client_class() -> "type[SecretManagerServiceClient]":
    """The client, imported without the collector, which looked through it for a ninth of the time: all of it stays.

    So it need not be looked through later either. What of requests under way stays with it is little, and that once.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        from google.cloud.secretmanager import SecretManagerServiceClient
    finally:
        if was_enabled:
            gc.enable()
    gc.freeze()
    return SecretManagerServiceClient


def _build(emulator: str | None) -> "SecretManagerServiceClient":
    if emulator is None:
        return _client_class()()
    import grpc
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
        SecretManagerServiceGrpcTransport,
    )

    # client_options can only speak TLS; a channel of our own need not. It is on this machine, whatever proxy the
    # environment names for the world.
    channel = grpc.insecure_channel(emulator, options=[("grpc.enable_http_proxy", 0)])
    return _client_class()(transport=SecretManagerServiceGrpcTransport(channel=channel))


def _reason(error: Any) -> str:
    """The server's status in words (`PERMISSION_DENIED`), without its message."""
    code = error.grpc_status_code
    return str(code.name if code is not None else type(error).__name__)
