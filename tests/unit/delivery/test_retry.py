"""Tests of the retry decision and the retry delay."""

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from handlers.delivery.http_client import (
    InvalidResponseError,
    NotSentError,
    ResponseTimeoutError,
    TruncatedResponseError,
)
from handlers.delivery.retry import Failure, call_failure, next_delay, response_failure
from handlers.providers.base import Response
from schemas.problem import UpstreamUnreachableError

ERROR = UpstreamUnreachableError("Apify can't be reached.")
SECONDS = st.floats(0, 100)


def failure(retry_after: float = 0.0, *, is_transient: bool = True) -> Failure:
    return Failure(ERROR, is_transient=is_transient, retry_after=retry_after)


def test_next_delay_doubles_up_to_a_limit() -> None:
    delays = [next_delay(failure(), count, 1000, last_duration=0, jitter=1) for count in range(1, 8)]
    assert delays == [0.5, 1, 2, 4, 4, 4, 4]
    assert next_delay(failure(), 10_000, 1000, last_duration=0, jitter=1) == 4
    assert next_delay(failure(), 3, 1000, last_duration=0, jitter=0.25) == 0.5


def test_next_delay_permanent_failure_returns_none() -> None:
    assert next_delay(failure(is_transient=False), 1, 1000, last_duration=0, jitter=0) is None


@given(
    retry_after=SECONDS,
    attempts=st.integers(1, 50),
    remaining=SECONDS,
    last_duration=SECONDS,
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_next_delay_leaves_time_for_an_attempt(
    retry_after: float, attempts: int, remaining: float, last_duration: float, jitter: float
) -> None:
    delay = next_delay(failure(retry_after), attempts, remaining, last_duration=last_duration, jitter=jitter)
    available = remaining - max(last_duration, 0.2)
    if delay is None:
        assert available <= 0 or available < retry_after
    else:
        assert retry_after <= delay <= available


@pytest.mark.parametrize(
    ("status", "is_transient", "may_have_succeeded"),
    [
        *[(status, True, True) for status in (408, 500, 502, 503, 504, 520, 599)],
        (429, True, False),
        *[(status, False, False) for status in (101, 204, 302, 400, 401, 403, 404, 409, 418, 422, 451)],
    ],
)
def test_response_failure_status_decides(status: int, is_transient: bool, may_have_succeeded: bool) -> None:
    result = response_failure(ERROR, Response(status, retry_after=7))
    assert result == Failure(ERROR, status, is_transient, may_have_succeeded, 7)


@pytest.mark.parametrize(
    ("error", "name", "is_transient", "may_have_succeeded"),
    [
        (requests.exceptions.SSLError(), "upstream-unreachable", False, False),
        (NotSentError("timeout"), "upstream-unreachable", True, False),
        (ResponseTimeoutError(None), "deadline-exceeded", False, True),
        (InvalidResponseError("is too large", None), "upstream-failed", False, True),
        (TruncatedResponseError(200), "upstream-failed", True, True),
        (requests.exceptions.ConnectionError(), "upstream-unreachable", True, True),
    ],
)
def test_call_failure_exception_decides(
    error: requests.RequestException, name: str, is_transient: bool, may_have_succeeded: bool
) -> None:
    result = call_failure("Apify", error)
    assert result.error.problem.name == name
    assert (result.is_transient, result.may_have_succeeded) == (is_transient, may_have_succeeded)
    assert "Apify" in result.error.problem.detail
    assert result.status is None
