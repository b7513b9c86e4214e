"""Secrets: where a reference leads, and for how long what was found there is used.

The Secret Manager client takes a quarter of a second and some 27 MB to import, so it is imported and built
when the first reference needs it, and never by a function whose secrets are in files or variables.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers.deadline import Deadline
from schemas.problem import SecretUnreachable, SecretUnusable, TimeUp
from schemas.reference import SecretReference

if TYPE_CHECKING:
    from google.cloud.secretmanager import SecretManagerServiceClient

# Secret Manager answers in tens of milliseconds; the library's own default would go on for a minute. One try
# gets 1 s, all tries together 3 s: a dead service is known well before most senders hang up, at 10 s.
_TRY_SECONDS = 1.0
_FETCH_SECONDS = 3.0
# How long an outage is taken for granted, rather than asked after on every request.
_OUTAGE_SECONDS = 5.0


@dataclass(frozen=True)
class Secret:
    """A secret's text, and where it came from: with the version, where there are versions."""

    text: str = field(repr=False)
    source: str


Fetch = Callable[[str, float], Secret]


@dataclass(frozen=True)
class _Kept:
    secret: Secret
    until: float


class Secrets:
    """Fetches secrets and keeps them for `ttl` seconds; threads that want the same one share one fetch."""

    def __init__(self, fetches: Mapping[str, Fetch], ttl: float) -> None:
        """`fetches` has, for each kind of reference, what fetches it: from name and seconds to a Secret."""
        self._fetches = fetches
        self._ttl = ttl
        self._lock = threading.Lock()
        self._kept: dict[SecretReference, _Kept] = {}
        self._under_way: dict[SecretReference, Future[Secret]] = {}

    def get(self, reference: SecretReference, deadline: Deadline) -> Secret:
        """The secret that `reference` names.

        While its place can't be reached, a value past its time is still given. Raises SecretUnreachable,
        SecretUnusable, or TimeUp.
        """
        with self._lock:
            kept = self._kept.get(reference)
            if kept and time.monotonic() < kept.until:
                return kept.secret
            fetch = self._under_way.get(reference)
            if mine := fetch is None:
                fetch = self._under_way[reference] = Future()
        assert fetch is not None
        if mine:
            self._fetch(reference, kept, deadline, fetch)
        try:
            return fetch.result(timeout=deadline.remaining())
        except FutureTimeout:
            raise TimeUp("The time was up before the secret had come.") from None

    def _fetch(
        self, reference: SecretReference, kept: _Kept | None, deadline: Deadline, promise: Future[Secret]
    ) -> None:
        ttl = self._ttl
        try:
            try:
                secret = self._fetches[reference.kind](reference.name, min(_FETCH_SECONDS, deadline.remaining()))
            except SecretUnreachable:
                if kept is None:
                    raise
                secret, ttl = kept.secret, min(ttl, _OUTAGE_SECONDS)
        except BaseException as error:
            with self._lock:
                del self._under_way[reference]
            promise.set_exception(error)
            return
        with self._lock:
            self._kept[reference] = _Kept(secret, time.monotonic() + ttl)
            del self._under_way[reference]
        promise.set_result(secret)


def fetches(environ: Mapping[str, str], emulator: str | None) -> Mapping[str, Fetch]:
    """What fetches each kind of reference; `emulator` is SECRET_MANAGER_EMULATOR_HOST."""

    def from_environment(name: str, _seconds: float) -> Secret:
        return _secret(environ.get(name, "").encode(), f"env:{name}")

    return {"env": from_environment, "file": from_file, "manager": SecretManager(emulator).fetch}


def from_file(path: str, _seconds: float) -> Secret:
    """The secret in the file at `path`; read again when its time is up, as mounted secrets are replaced in place."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise SecretUnusable(f"file:{path} can't be read: {error.strerror}.") from None
    return _secret(raw, f"file:{path}")


class SecretManager:
    """The official client, built when it is first needed."""

    def __init__(self, emulator: str | None) -> None:
        self._emulator = emulator
        self._lock = threading.Lock()
        self._client: SecretManagerServiceClient | None = None

    def fetch(self, name: str, seconds: float) -> Secret:
        """The secret of the version called `name`, within `seconds`.

        Raises SecretUnreachable where another try may help, else SecretUnusable.
        """
        import google_crc32c
        from google.api_core import exceptions
        from google.api_core.retry import Retry, if_exception_type
        from google.auth.exceptions import GoogleAuthError

        # Tried again at once, by the client; GoogleAPICallError is of all that a server can answer, and
        # RetryError, which isn't one, is what the client says when `seconds` have passed.
        passing = (
            exceptions.ServerError,
            exceptions.TooManyRequests,
            exceptions.Aborted,
            exceptions.Cancelled,
        )
        retry: Any = Retry(predicate=if_exception_type(*passing), initial=0.1, maximum=1, multiplier=2, timeout=seconds)
        try:
            found = self._built().access_secret_version(
                name=name, retry=retry, timeout=max(0.05, min(_TRY_SECONDS, seconds))
            )
        except (*passing, exceptions.RetryError):
            raise _unreachable(name) from None
        except exceptions.GoogleAPICallError as error:
            raise SecretUnusable(f"{name} can't be had: {_reason(error)}.") from None
        except GoogleAuthError as error:
            if getattr(error, "retryable", False):
                raise _unreachable(name) from None
            raise SecretUnusable(f"{name} can't be had: there are no usable Google credentials here.") from None
        payload = found.payload
        # The service sends a checksum with every version that it keeps one of; the client doesn't compare it.
        if "data_crc32c" in payload and google_crc32c.value(payload.data) != payload.data_crc32c:
            raise SecretUnusable(f"{found.name} came damaged: its checksum differs.")
        return _secret(payload.data, found.name or name)

    def _built(self) -> "SecretManagerServiceClient":
        with self._lock:
            if self._client is None:
                self._client = _build_client(self._emulator)
            return self._client


def _build_client(emulator: str | None) -> "SecretManagerServiceClient":
    from google.cloud.secretmanager import SecretManagerServiceClient

    if emulator is None:
        return SecretManagerServiceClient()
    import grpc
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
        SecretManagerServiceGrpcTransport,
    )

    # client_options can only speak TLS; what the client takes as a channel is its own to use.
    # It is on this machine, whatever proxy the environment names for the world.
    channel = grpc.insecure_channel(emulator, options=[("grpc.enable_http_proxy", 0)])
    return SecretManagerServiceClient(transport=SecretManagerServiceGrpcTransport(channel=channel))


def _unreachable(name: str) -> SecretUnreachable:
    return SecretUnreachable(
        f"Secret Manager can't be reached for {name}.", headers={"Retry-After": str(round(_OUTAGE_SECONDS))}
    )


def _reason(error: Any) -> str:
    """The server's status in words (`PERMISSION_DENIED`), without its message."""
    code = error.grpc_status_code
    return str(code.name if code is not None else type(error).__name__)


def _secret(raw: bytes, source: str) -> Secret:
    """The secret in `raw`, without the line end that `echo` puts behind it. Raises SecretUnusable."""
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretUnusable(f"{source} is damaged: it isn't UTF-8 text.") from None
    if not text.strip():
        raise SecretUnusable(f"{source} is empty.")
    return Secret(text, source)
