"""The decision to retry a failed attempt, the delay before the retry, and the bound on the retries of all events.

The delays follow exponential backoff with full jitter, within the deadline:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

Neither urllib3's `Retry` nor tenacity limits the time of a call including its last attempt. With either library, this
module would still need its rules about the wait that the provider requests, and about the time that an attempt needs.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import requests

from handlers.delivery.http_client import InvalidResponseError, NotSentError
from handlers.providers.base import Response
from schemas.problem import (
    DeadlineExceededError,
    RelayError,
    UpstreamFailedError,
    UpstreamOutcomeUnknownError,
    UpstreamUnreachableError,
)

# In seconds. The official client of Apify has the same first delay.
_FIRST_DELAY = 0.5
_MAX_DELAY = 4.0
# In seconds. An attempt with less time than this is unlikely to succeed.
_MIN_ATTEMPT = 0.2
_RATE_LIMITED = 429
_TRANSIENT_STATUSES = frozenset({408, _RATE_LIMITED})
# In seconds. A provider that fails for longer probably doesn't recover within the deadline of an event.
_OUTAGE_SECONDS = 5.0
# During an outage, one retry for this many events keeps the number of calls at 1.2 times the number of events.
_EVENTS_PER_RETRY = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt.

    `error` becomes the error of the delivery if no attempt follows. `status` is the status of the provider's
    response, if there was a complete response. `retry_after` is the wait that the provider requests, in seconds.
    """

    error: RelayError
    status: int | None = None
    is_transient: bool = False
    may_have_succeeded: bool = False
    retry_after: float = 0.0
    is_token_refused: bool = False

    @property
    def is_rejection(self) -> bool:
        """True if the provider works, and rejects the request."""
        return self.status is not None and not (self.is_transient or self.may_have_succeeded)


def response_failure(error: RelayError, response: Response, *, is_token_refused: bool = False) -> Failure:
    """Return the failure of an attempt whose `response` represents `error`."""
    status = response.status
    return Failure(
        error,
        status,
        is_transient=status in _TRANSIENT_STATUSES or status >= 500,
        # A gateway can return an error although the server behind the gateway carries out the request. A success
        # becomes an error if its body is not acceptable.
        may_have_succeeded=response.is_success or status == 408 or status >= 500,
        retry_after=response.retry_after,
        is_token_refused=is_token_refused,
    )


def call_failure(title: str, error: requests.RequestException) -> Failure:
    """Return the failure of an attempt that ended without a complete response from the provider `title`."""
    match error:
        case requests.exceptions.SSLError():
            detail = f"The certificate of {title} can't be verified. The function sent nothing."
            return Failure(UpstreamUnreachableError(detail))
        case NotSentError():
            return Failure(UpstreamUnreachableError(f"{title} can't be reached: {error.cause}."), is_transient=True)
        case requests.exceptions.ReadTimeout():
            detail = f"{title} did not complete its response before the deadline."
            return Failure(DeadlineExceededError(detail), may_have_succeeded=True)
        case InvalidResponseError():
            return Failure(UpstreamFailedError(f"The response of {title} {error}."), may_have_succeeded=True)
        case requests.exceptions.ChunkedEncodingError():
            detail = f"{title} closed the connection before the end of its response."
            return Failure(UpstreamFailedError(detail), is_transient=True, may_have_succeeded=True)
        case _:
            detail = f"{title} closed the connection before its response."
            return Failure(UpstreamUnreachableError(detail), is_transient=True, may_have_succeeded=True)


def unrepeatable_failure(title: str, failure: Failure) -> Failure:
    """Return the failure of an update that must not be sent again after `failure`, whose outcome is unknown."""
    problem = failure.error.problem
    detail = (
        f"{problem.detail} The outcome of the update is unknown. The function doesn't retry the update, because a "
        f"retry would make {title} repeat an action. Check the result of the action before you send the event again."
    )
    return Failure(UpstreamOutcomeUnknownError(detail, upstream=problem.upstream), failure.status)


def next_delay(
    failure: Failure, attempts: int, remaining: float, *, last_duration: float, jitter: float
) -> float | None:
    """Return the delay before the next attempt, in seconds, or None if there is no next attempt.

    `attempts` counts the attempts so far. The last attempt took `last_duration` seconds, and `remaining` seconds are
    left until the deadline. `jitter` is a random number from 0 to 1. The delay is the wait that the provider requests
    plus a random backoff, so that the retries of many events don't coincide.
    """
    available = remaining - max(last_duration, _MIN_ATTEMPT)
    if not failure.is_transient or available <= 0 or available < failure.retry_after:
        return None
    backoff = min(_MAX_DELAY, math.ldexp(_FIRST_DELAY, min(attempts - 1, 10)))
    # Apify asks for a first wait of 0.5-1 s: https://docs.apify.com/api/v2#rate-limiting
    must_wait = failure.status == _RATE_LIMITED and not failure.retry_after
    return min(failure.retry_after + backoff * (1 + jitter if must_wait else jitter), available)


class RetryBudget:
    """The bound on the retries of all events of an instance at one provider. The methods are thread-safe.

    A retry helps against a fault of one call. During an outage of the provider, retries multiply the calls of every
    event, and so delay the recovery. An outage begins when the provider has failed every call for five seconds. From
    then on, five events together have one retry. The next call that succeeds ends the outage. So do five seconds
    without a call, because the past then says nothing about the provider.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Create a budget without a failure."""
        self._clock = clock
        self._lock = threading.Lock()
        # The times of the first and the last failure since the last success.
        self._first_failure: float | None = None
        self._last_failure = 0.0
        # The events of the outage that no retry has used.
        self._events = 0

    def add_event(self) -> None:
        """Count an event, before its first call."""
        with self._lock:
            if self._is_outage():
                self._events = min(self._events + 1, _EVENTS_PER_RETRY)

    def add_success(self) -> None:
        """Note a call that shows that the provider works."""
        with self._lock:
            self._first_failure = None

    def add_failure(self, duration: float) -> None:
        """Note a call that the provider failed after `duration` seconds."""
        with self._lock:
            now = self._clock()
            if self._first_failure is None or now - duration - self._last_failure > _OUTAGE_SECONDS:
                self._first_failure, self._events = now, 0
            self._last_failure = now

    def has_retry(self) -> bool:
        """Return True if the budget has a retry."""
        with self._lock:
            return not self._is_outage() or self._events >= _EVENTS_PER_RETRY

    def take_retry(self) -> bool:
        """Take a retry. Return False if the budget has none."""
        with self._lock:
            if not self._is_outage():
                return True
            if self._events < _EVENTS_PER_RETRY:
                return False
            self._events -= _EVENTS_PER_RETRY
            return True

    def _is_outage(self) -> bool:
        """Return True during an outage. The caller must hold the lock."""
        if self._first_failure is None:
            return False
        now = self._clock()
        return now - self._first_failure >= _OUTAGE_SECONDS and now - self._last_failure <= _OUTAGE_SECONDS
