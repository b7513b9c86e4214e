"""The decision to retry a failed attempt, and the delay before the retry.

The delays follow exponential backoff with full jitter, within the deadline:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

Neither urllib3's `Retry` nor tenacity limits the time of a call including its last attempt. With either library, this
module would still need its rules about the wait that the provider requests, and about the time that an attempt needs.
"""

import math
from dataclasses import dataclass

import requests

from handlers.delivery.http_client import InvalidResponseError, NotSentError
from handlers.providers.base import Response
from schemas.problem import DeadlineExceededError, RelayError, UpstreamFailedError, UpstreamUnreachableError

# In seconds. The official client of Apify has the same first delay.
_FIRST_DELAY = 0.5
_MAX_DELAY = 4.0
# In seconds. An attempt with less time than this is unlikely to succeed.
_MIN_ATTEMPT = 0.2
_TRANSIENT_STATUSES = frozenset({408, 429})


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


def response_failure(error: RelayError, response: Response) -> Failure:
    """Return the failure of an attempt whose `response` represents `error`."""
    status = response.status
    return Failure(
        error,
        status,
        is_transient=status in _TRANSIENT_STATUSES or status >= 500,
        # A gateway can return an error although the server behind the gateway carries out the request.
        may_have_succeeded=status == 408 or status >= 500,
        retry_after=response.retry_after,
    )


def call_failure(title: str, error: requests.RequestException) -> Failure:
    """Return the failure of an attempt that ended without a complete response from the provider `title`."""
    match error:
        case requests.exceptions.SSLError():
            detail = f"The certificate of {title} can't be verified. The function sent nothing."
            return Failure(UpstreamUnreachableError(detail))
        case NotSentError():
            return Failure(UpstreamUnreachableError(f"{title} can't be reached."), is_transient=True)
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
    backoff = jitter * min(_MAX_DELAY, math.ldexp(_FIRST_DELAY, min(attempts - 1, 10)))
    return min(failure.retry_after + backoff, available)
