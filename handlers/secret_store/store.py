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
from handlers.secret_store.fetch_error import FetchError
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
#: The function raises FetchError.
Fetch: TypeAlias = Callable[[SecretReference, float], tuple[bytes, str]]


_TIMEOUT = FetchError("is unavailable: the source didn't respond in time.", is_transient=True)


@dataclass(frozen=True, slots=True)
class _CachedSecret:
    """A secret, or the failure of an unusable secret. `expires_at` is in seconds on the monotonic clock."""

    result: Secret | FetchError
    expires_at: float


class SecretStore:
    """A store that fetches secrets, and caches each secret. The methods are thread-safe."""

    def __init__(
        self,
        fetchers: Mapping[str, Fetch],
        ttl: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create an empty store.

        `fetchers` maps each kind of reference to the function that fetches the secret. `ttl` is the time to live of a
        cached secret, in seconds.
        """
        self._fetchers = fetchers
        self._ttl = ttl
        self._clock = clock
        self._sleep = sleep
        # The lock protects the maps below.
        self._lock = threading.Lock()
        self._cache: dict[SecretReference, _CachedSecret] = {}
        self._fetches: dict[SecretReference, Future[Secret | FetchError]] = {}
        # The start of the last fetch after a refusal, on the clock.
        self._refreshed: dict[SecretReference, float] = {}
        # The fetches after a refusal that have not started to read.
        self._scheduled: set[SecretReference] = set()

    def get(self, reference: SecretReference, deadline: Deadline) -> Secret:
        """Return a secret, from the cache if possible.

        Raises:
            SecretUnreachableError: The source is unreachable or slow, and the cache doesn't have the secret.
            SecretUnusableError: The secret is missing, denied, empty, or damaged.
        """
        ((_, secret),) = self.iter_secrets([reference], deadline)
        return _require(secret)

    def refresh(self, reference: SecretReference, refused: Secret, deadline: Deadline) -> Secret:
        """Return the current secret, after a provider refused a cached secret.

        The result is a cached secret only if its text differs from the refused text. The result can still have the
        refused text, if the source has no newer secret. If the last fetch after a refusal is less than a second old,
        the next fetch waits for the rest of the second: the secret may have been rotated since then.

        Raises:
            SecretUnreachableError: The source is unreachable or slow. A refused secret isn't a fallback.
            SecretUnusableError: The secret is missing, denied, empty, or damaged.
        """
        with self._lock:
            if known := self._known(reference, refused):
                return _require(_secret_or_error(reference, known))
            earlier_fetch = None if reference in self._scheduled else self._fetches.get(reference)
        if earlier_fetch:
            # The fetch started before the refusal and may have read the refused secret just before its rotation. Only
            # a secret that differs from the refused secret is certain to be current.
            secret = self._wait_for(reference, earlier_fetch, deadline)
            if secret.text != refused.text:
                return secret
        with self._lock:
            if known := self._known(reference, refused):
                return _require(_secret_or_error(reference, known))
            fetch = self._fetches.get(reference) or self._start_refresh(reference)
        return self._wait_for(reference, fetch, deadline)

    def iter_secrets(
        self, references: Iterable[SecretReference], deadline: Deadline
    ) -> Iterator[tuple[SecretReference, Secret | SecretError]]:
        """Yield each reference with its secret, or with an error if the secret is unavailable.

        Cached secrets come first. The other secrets follow in the order of their arrival. The fetches start with the
        iteration and run at the same time.
        """
        fetches: dict[Future[Secret | FetchError], SecretReference] = {}
        for reference in references:
            cached_or_fetch = self._cached_or_fetch(reference)
            if isinstance(cached_or_fetch, Future):
                fetches[cached_or_fetch] = reference
            else:
                yield reference, _secret_or_error(reference, cached_or_fetch)
        if not fetches:
            return
        timeout = min(self._longest_wait(fetches.values()), deadline.remaining() / 2)
        try:
            for fetch in as_completed(fetches, timeout):
                reference = fetches.pop(fetch)
                yield reference, _secret_or_error(reference, self._with_fallback(reference, fetch.result()))
        except TimeoutError:
            for reference in fetches.values():
                yield reference, _secret_or_error(reference, self._with_fallback(reference, _TIMEOUT))

    def _cached_or_fetch(self, reference: SecretReference) -> Secret | FetchError | Future[Secret | FetchError]:
        with self._lock:
            cached = self._cache.get(reference)
            if cached and self._clock() < cached.expires_at:
                return cached.result
            # While another thread waits for the current value, use the expired value.
            if reference in self._fetches and (expired := self._cached_secret(reference)):
                return expired
            return self._join_or_start_fetch(reference)

    def _cached_secret(self, reference: SecretReference) -> Secret | None:
        """Return the cached secret, current or expired. The caller must hold the lock."""
        cached = self._cache.get(reference)
        return cached.result if cached and isinstance(cached.result, Secret) else None

    def _known(self, reference: SecretReference, refused: Secret) -> Secret | FetchError | None:
        """Return the cached result if it isn't the refused secret, or None. The caller must hold the lock."""
        cached = self._cache.get(reference)
        if cached is None or (isinstance(cached.result, FetchError) and self._clock() >= cached.expires_at):
            return None
        return None if isinstance(cached.result, Secret) and cached.result.text == refused.text else cached.result

    def _start_refresh(self, reference: SecretReference) -> Future[Secret | FetchError]:
        """Return a new fetch, which starts at least a second after the last fetch. The caller must hold the lock."""
        now = self._clock()
        starts_at = max(now, self._refreshed.get(reference, -math.inf) + REFRESH_SECONDS)
        self._refreshed[reference] = starts_at
        self._scheduled.add(reference)
        return self._join_or_start_fetch(reference, delay=starts_at - now)

    def _longest_wait(self, references: Iterable[SecretReference]) -> float:
        with self._lock:
            has_fallbacks = all(self._cached_secret(reference) for reference in references)
        return STALE_WAIT_SECONDS if has_fallbacks else FETCH_WAIT_SECONDS

    def _with_fallback(self, reference: SecretReference, result: Secret | FetchError) -> Secret | FetchError:
        """Return the result of a fetch, or the expired value in the cache if the source is unreachable."""
        if isinstance(result, Secret) or not result.is_transient:
            return result
        with self._lock:
            return self._cached_secret(reference) or result

    def _wait_for(self, reference: SecretReference, fetch: Future[Secret | FetchError], deadline: Deadline) -> Secret:
        try:
            result = fetch.result(min(FETCH_WAIT_SECONDS, deadline.remaining() / 2))
        except TimeoutError:
            result = _TIMEOUT
        return _require(_secret_or_error(reference, result))

    def _join_or_start_fetch(self, reference: SecretReference, *, delay: float = 0.0) -> Future[Secret | FetchError]:
        """Return the fetch in progress, or a new fetch after `delay` seconds. The caller must hold the lock."""
        if reference in self._fetches:
            return self._fetches[reference]
        fetch: Future[Secret | FetchError] = Future()
        arguments = (reference, fetch, delay)
        thread = threading.Thread(target=self._run_fetch, args=arguments, name="secret-fetch", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The process is out of threads.
            self._scheduled.discard(reference)
            fetch.set_result(FetchError("is unavailable: no thread is available.", is_transient=True))
        else:
            self._fetches[reference] = fetch
        return fetch

    def _run_fetch(self, reference: SecretReference, fetch: Future[Secret | FetchError], delay: float) -> None:
        if delay:
            self._sleep(delay)
        with self._lock:
            self._scheduled.discard(reference)
        result = self._fetch(reference)
        with self._lock:
            del self._fetches[reference]
            self._update_cache(reference, result)
        fetch.set_result(result)

    def _fetch(self, reference: SecretReference) -> Secret | FetchError:
        try:
            return _decode(*self._fetchers[reference.kind](reference, FETCH_SECONDS))
        except FetchError as error:
            if error.is_transient:
                LOGGER.warning("%s %s", reference.label, error)
            return error
        # Catch every exception: a fetch that ends without a result would leave other threads waiting.
        except Exception as error:  # noqa: BLE001
            LOGGER.error("%s is unavailable because of an unforeseen error.", reference.label, exc_info=error)
            return FetchError("is unavailable. The function's log has the reason.")

    def _update_cache(self, reference: SecretReference, result: Secret | FetchError) -> None:
        """Store the result of a fetch. The caller must hold the lock."""
        if isinstance(result, Secret):
            self._cache[reference] = _CachedSecret(result, self._clock() + self._ttl)
        elif not result.is_transient:
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
        raise FetchError(f"is unavailable: {error.strerror}. Check the file, and its permissions.") from None


def _decode(raw: bytes, source: str) -> Secret:
    """Return the secret in `raw`, without the newline that `echo` appends.

    Raises:
        FetchError: The bytes aren't UTF-8 text, or the text is empty.
    """
    try:
        # Some editors on Windows write a byte order mark.
        text = raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise FetchError("is damaged: a secret must be UTF-8 text. Store the secret again as UTF-8.") from None
    if not text.strip():
        raise FetchError("is empty. Store the secret again.")
    return Secret(text, source)


def _secret_or_error(reference: SecretReference, result: Secret | FetchError) -> Secret | SecretError:
    """Return the secret, or an error that names the setting with this reference."""
    if isinstance(result, Secret):
        return result
    kind = SecretUnreachableError if result.is_transient else SecretUnusableError
    return kind(f"{reference.label} {result}")


def _require(secret: Secret | SecretError) -> Secret:
    if isinstance(secret, Secret):
        return secret
    raise secret
