"""Resolve secret references, and cache the secrets.

The store protects the function from a slow source of secrets, and protects the source from too many requests:

- At most one fetch of a secret is in progress at a time. All threads that need the secret wait for the same fetch.
- Each fetch has its own thread, so a fetch that hangs doesn't delay the fetch of another secret.
- No thread waits for longer than half of the time until its deadline. The fetch continues without the thread.
- While the source of a secret is unreachable, the store returns the cached value, even after its time to live.
- For five seconds, the store remembers that a secret is unusable. After a provider refused a token, the store fetches
  the token again at most once a second.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from handlers.deadline import Deadline
from handlers.logs import LOGGER
from handlers.secret_store.google import SecretManager
from schemas.problem import SecretUnreachableError, SecretUnusableError
from schemas.secret_reference import SecretReference

#: The time limit of a fetch, in seconds. Secret Manager responds within tens of milliseconds, and most senders
#: disconnect after 10 s.
FETCH_SECONDS = 3.0
#: The longest wait for a fetch, in seconds, if the cache has an expired value of every secret that the request needs.
STALE_WAIT_SECONDS = 1.0
#: The longest wait for a fetch otherwise, in seconds. The wait exceeds FETCH_SECONDS, so that the fetch itself reports
#: the cause of an error.
FETCH_WAIT_SECONDS = FETCH_SECONDS + 1
#: The time between two fetches of a cached secret while the source is unreachable, in seconds. The value equals the
#: `Retry-After` of SecretUnreachableError.
OUTAGE_SECONDS = 5.0
#: The time for which the store remembers that a secret is unusable, in seconds.
UNUSABLE_SECONDS = 5.0
#: The time between two fetches of a secret that a provider refuses, in seconds.
REFRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret. `source` is its reference, with the number of the version if the source has versions."""

    text: str = field(repr=False)
    source: str


#: An error for an unavailable secret.
SecretError: TypeAlias = SecretUnreachableError | SecretUnusableError

#: A function that fetches the bytes of a secret within a number of seconds, and returns the bytes and their source.
#: The function raises SecretUnreachableError if another attempt can succeed, and SecretUnusableError otherwise.
Fetch: TypeAlias = Callable[[SecretReference, float], tuple[bytes, str]]


@dataclass(frozen=True, slots=True)
class _CachedSecret:
    """A secret, or the error of an unusable secret. `expires_at` is in seconds on the monotonic clock."""

    result: "Secret | SecretUnusableError"
    expires_at: float


class SecretStore:
    """A store that fetches secrets, and caches each secret. The methods are thread-safe."""

    def __init__(self, fetchers: Mapping[str, Fetch], ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Create an empty store.

        `fetchers` maps each kind of reference to the function that fetches the secret. `ttl` is the time to live of a
        cached secret, in seconds.
        """
        self._fetchers = fetchers
        self._ttl = ttl
        self._clock = clock
        # The lock protects the maps below.
        self._lock = threading.Lock()
        self._cache: dict[SecretReference, _CachedSecret] = {}
        self._fetches: dict[SecretReference, Future[Secret | SecretError]] = {}
        # The time of the last fetch after a refusal, on the clock.
        self._refreshed: dict[SecretReference, float] = {}
        # The error of the last fetch, if the source was unreachable.
        self._outages: dict[SecretReference, SecretUnreachableError] = {}

    def get(self, reference: SecretReference, deadline: Deadline) -> Secret:
        """Return a secret, from the cache if possible.

        Raises:
            SecretUnreachableError: The source is unreachable or slow, and the cache doesn't have the secret.
            SecretUnusableError: The secret is missing, denied, empty, or damaged.
        """
        ((_, secret),) = self.iter_secrets([reference], deadline)
        return _require_secret(secret)

    def refresh(self, reference: SecretReference, refused: Secret, deadline: Deadline) -> Secret:
        """Return the current secret, after a provider refused a cached secret.

        The result is a cached secret only if its text differs from the refused text. The result can still have the
        refused text, if the source has no newer secret.

        Raises:
            SecretUnreachableError: The source is unreachable or slow. A refused secret isn't a fallback.
            SecretUnusableError: The secret is missing, denied, empty, or damaged.
        """
        with self._lock:
            if recent := self._recent(reference, refused):
                return _require_secret(recent)
            earlier_fetch = self._fetches.get(reference)
        if earlier_fetch:
            # The fetch started before the refusal and may have read the refused secret just before its rotation. Only
            # a secret that differs from the refused secret is certain to be current.
            secret = self._wait_for(reference, earlier_fetch, deadline)
            if secret.text != refused.text:
                return secret
        with self._lock:
            if recent := self._recent(reference, refused):
                return _require_secret(recent)
            self._refreshed[reference] = self._clock()
            fetch = self._join_or_start_fetch(reference)
        return self._wait_for(reference, fetch, deadline)

    def iter_secrets(
        self, references: Iterable[SecretReference], deadline: Deadline
    ) -> Iterator[tuple[SecretReference, Secret | SecretError]]:
        """Yield each reference with its secret, or with an error if the secret is unavailable.

        Cached secrets come first. The other secrets follow in the order of their arrival. The fetches start with the
        iteration and run at the same time.
        """
        fetches: dict[Future[Secret | SecretError], SecretReference] = {}
        for reference in references:
            cached_or_fetch = self._cached_or_fetch(reference)
            if isinstance(cached_or_fetch, Future):
                fetches[cached_or_fetch] = reference
            else:
                yield reference, cached_or_fetch
        if not fetches:
            return
        timeout = min(self._longest_wait(fetches.values()), deadline.remaining() / 2)
        try:
            for fetch in as_completed(fetches, timeout):
                reference = fetches.pop(fetch)
                yield reference, self._with_fallback(reference, fetch.result())
        except TimeoutError:
            for reference in fetches.values():
                yield reference, self._with_fallback(reference, _timeout_error(reference))

    def _cached_or_fetch(self, reference: SecretReference) -> Secret | SecretError | Future[Secret | SecretError]:
        with self._lock:
            cached = self._cache.get(reference)
            if cached and self._clock() < cached.expires_at:
                return cached.result
            # While another thread waits for the current value, use the expired value.
            if reference in self._fetches and (expired := self._cached_secret(reference)):
                return expired
            return self._join_or_start_fetch(reference)

    def _cached_secret(self, reference: SecretReference) -> Secret | None:
        """Return the cached secret, current or expired. The lock must be held."""
        cached = self._cache.get(reference)
        return cached.result if cached and isinstance(cached.result, Secret) else None

    def _recent(self, reference: SecretReference, refused: Secret) -> Secret | SecretError | None:
        """Return the last result if it isn't the refused secret, or is too recent for a fetch. The lock must be held.

        A token that a provider keeps refusing must not cause a fetch for each event.
        """
        cached = self._cache.get(reference)
        if cached is None:
            return None
        if isinstance(cached.result, Secret) and cached.result.text != refused.text:
            return cached.result
        if isinstance(cached.result, SecretUnusableError):
            return cached.result if self._clock() < cached.expires_at else None
        is_recent = self._clock() - self._refreshed.get(reference, -math.inf) < REFRESH_SECONDS
        if not is_recent or reference in self._fetches:
            return None
        return self._outages.get(reference, cached.result)

    def _longest_wait(self, references: Iterable[SecretReference]) -> float:
        with self._lock:
            has_fallbacks = all(self._cached_secret(reference) for reference in references)
        return STALE_WAIT_SECONDS if has_fallbacks else FETCH_WAIT_SECONDS

    def _with_fallback(self, reference: SecretReference, result: Secret | SecretError) -> Secret | SecretError:
        """Return the result of a fetch, or the expired value in the cache if the source is unreachable."""
        if not isinstance(result, SecretUnreachableError):
            return result
        with self._lock:
            return self._cached_secret(reference) or result

    def _wait_for(self, reference: SecretReference, fetch: Future[Secret | SecretError], deadline: Deadline) -> Secret:
        try:
            result = fetch.result(min(FETCH_WAIT_SECONDS, deadline.remaining() / 2))
        except TimeoutError:
            raise _timeout_error(reference) from None
        return _require_secret(result)

    def _join_or_start_fetch(self, reference: SecretReference) -> Future[Secret | SecretError]:
        """Return the fetch in progress, or a new fetch. The lock must be held."""
        if reference in self._fetches:
            return self._fetches[reference]
        fetch: Future[Secret | SecretError] = Future()
        thread = threading.Thread(target=self._run_fetch, args=(reference, fetch), name="secret-fetch", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The process is out of threads.
            fetch.set_result(SecretUnreachableError(f"{reference.label} is unavailable: no thread is available."))
        else:
            self._fetches[reference] = fetch
        return fetch

    def _run_fetch(self, reference: SecretReference, fetch: Future[Secret | SecretError]) -> None:
        result = self._fetch(reference)
        with self._lock:
            del self._fetches[reference]
            self._update_cache(reference, result)
        fetch.set_result(result)

    def _fetch(self, reference: SecretReference) -> Secret | SecretError:
        try:
            return _decode(reference, *self._fetchers[reference.kind](reference, FETCH_SECONDS))
        except SecretUnreachableError as error:
            LOGGER.warning("%s", error)
            return error
        except SecretUnusableError as error:
            return error
        # Catch every exception: a fetch that ends without a result would leave other threads waiting.
        except Exception as error:  # noqa: BLE001
            LOGGER.error("%s is unavailable because of an unforeseen error.", reference.label, exc_info=error)
            return SecretUnusableError(f"{reference.label} is unavailable. The function's log has the reason.")

    def _update_cache(self, reference: SecretReference, result: Secret | SecretError) -> None:
        """Store the result of a fetch. The lock must be held."""
        self._outages.pop(reference, None)
        if isinstance(result, SecretUnreachableError):
            self._outages[reference] = result
        if isinstance(result, Secret):
            self._cache[reference] = _CachedSecret(result, self._clock() + self._ttl)
        elif isinstance(result, SecretUnusableError):
            # An operator may have disabled the secret because of a leak: never use the old value again.
            self._cache[reference] = _CachedSecret(result, self._clock() + UNUSABLE_SECONDS)
        elif secret := self._cached_secret(reference):
            self._cache[reference] = _CachedSecret(secret, self._clock() + OUTAGE_SECONDS)


def create_fetchers(environ: Mapping[str, str], emulator: str | None) -> Mapping[str, Fetch]:
    """Return the function that fetches each kind of reference.

    `emulator` is the value of SECRET_MANAGER_EMULATOR_HOST, or None for the real Secret Manager.
    """

    def read_variable(reference: SecretReference, _seconds: float) -> tuple[bytes, str]:
        return environ.get(reference.name, "").encode(), str(reference)

    return {"env": read_variable, "file": _read_file, "manager": SecretManager(emulator).fetch}


def _read_file(reference: SecretReference, _seconds: float) -> tuple[bytes, str]:
    try:
        return Path(reference.name).read_bytes(), str(reference)
    except OSError as error:
        raise SecretUnusableError(f"{reference.label} is unavailable: {error.strerror}.") from None


def _decode(reference: SecretReference, raw: bytes, source: str) -> Secret:
    """Return the secret in `raw`, without the newline that `echo` appends.

    Raises:
        SecretUnusableError: The bytes aren't UTF-8 text, or the text is empty.
    """
    try:
        # Some editors on Windows write a byte order mark.
        text = raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretUnusableError(f"{reference.label} is damaged: a secret must be UTF-8 text.") from None
    if not text.strip():
        raise SecretUnusableError(f"{reference.label} is empty.")
    return Secret(text, source)


def _require_secret(result: Secret | SecretError) -> Secret:
    if isinstance(result, Secret):
        return result
    raise result


def _timeout_error(reference: SecretReference) -> SecretUnreachableError:
    return SecretUnreachableError(f"{reference.label} is unavailable: the source didn't respond in time.")
