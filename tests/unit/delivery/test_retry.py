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
from handlers.delivery.retry import (
    Failure,
    RetryBudget,
    call_failure,
    next_delay,
    response_failure,
    unrepeatable_failure,
)
from handlers.providers.base import Response
from schemas.problem import Upstream, UpstreamFailedError, UpstreamUnreachableError

ERROR = UpstreamUnreachableError("Apify can't be reached.")
SECONDS = st.floats(0, 100)


def failure(retry_after: float = 0.0, *, is_transient: bool = True) -> Failure:
    return Failure(ERROR, is_transient=is_transient, retry_after=retry_after)


def test_next_delay_doubles_up_to_a_limit() -> None:
    delays = [next_delay(failure(), count, 1000, last_duration=0, jitter=1) for count in range(1, 8)]
    assert delays == [0.5, 1, 2, 4, 4, 4, 4]
    assert next_delay(failure(), 10_000, 1000, last_duration=0, jitter=1) == 4
    assert next_delay(failure(), 3, 1000, last_duration=0, jitter=0.25) == 0.5


def test_next_delay_429_without_retry_after_waits_at_least_half() -> None:
    limited = Failure(ERROR, 429, is_transient=True)
    for jitter, expected in ((0.0, [0.5, 1, 2, 4, 4]), (1.0, [1, 2, 4, 8, 8])):
        delays = [next_delay(limited, count, 1000, last_duration=0, jitter=jitter) for count in range(1, 6)]
        assert delays == expected
    # The wait is the function's own. Less time is no reason to give up.
    assert next_delay(limited, 3, 1.2, last_duration=0, jitter=1) == 1.0
    requested = Failure(ERROR, 429, is_transient=True, retry_after=7)
    assert next_delay(requested, 1, 1000, last_duration=0, jitter=0) == 7


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
        *[(status, False, False) for status in (101, 302, 400, 401, 403, 404, 409, 418, 422, 451)],
        # A success is a failure if its body is not acceptable.
        *[(status, False, True) for status in (200, 204)],
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


def test_call_failure_not_sent_names_the_cause() -> None:
    detail = call_failure("Apify", NotSentError("connection refused")).error.problem.detail
    assert detail == "Apify can't be reached: connection refused."


@pytest.mark.parametrize(
    ("failure", "is_rejection"),
    [
        *[(response_failure(ERROR, Response(status)), True) for status in (302, 400, 401, 404, 422)],
        *[(response_failure(ERROR, Response(status)), False) for status in (200, 408, 429, 500, 503)],
        (call_failure("Apify", requests.exceptions.SSLError()), False),
        (call_failure("Apify", NotSentError("timeout")), False),
        (call_failure("Apify", InvalidResponseError("is too large", None)), False),
    ],
)
def test_failure_is_rejection_if_the_provider_works(failure: Failure, is_rejection: bool) -> None:
    assert failure.is_rejection is is_rejection


def test_unrepeatable_failure_is_permanent() -> None:
    upstream = Upstream(503, {"message": "Down."})
    error = UpstreamFailedError("It returned 503.", upstream=upstream, headers={"Retry-After": "1"})
    result = unrepeatable_failure("data.world", Failure(error, 503, is_transient=True, may_have_succeeded=True))
    problem = result.error.problem
    assert (problem.status, problem.retryable, problem.headers, problem.upstream) == (502, False, {}, upstream)
    assert problem.detail.startswith("It returned 503. The outcome of the update is unknown.")
    assert (result.status, result.is_transient) == (503, False)


# The retry budget


class Outage:
    """A budget, and its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.budget = RetryBudget(lambda: self.now)

    def fail_for(self, seconds: int) -> None:
        """Let a call fail at once, and one more at the end of each second."""
        self.budget.add_failure(0)
        for _ in range(seconds):
            self.now += 1
            self.budget.add_failure(0)


def test_retry_budget_short_outage_allows_every_retry() -> None:
    outage = Outage()
    outage.fail_for(4)
    assert outage.budget.has_retry()
    assert all(outage.budget.take_retry() for _ in range(100))


def test_retry_budget_outage_allows_one_retry_for_five_events() -> None:
    outage = Outage()
    # Events before the outage leave nothing.
    for _ in range(100):
        outage.budget.add_event()
    outage.fail_for(5)
    assert not outage.budget.has_retry()
    assert not outage.budget.take_retry()
    retries = 0
    for _ in range(100):
        outage.budget.add_event()
        has_retry = outage.budget.has_retry()
        assert outage.budget.take_retry() == has_retry
        retries += has_retry
    assert retries == 20


def test_retry_budget_outage_saves_at_most_one_retry() -> None:
    outage = Outage()
    outage.fail_for(5)
    for _ in range(100):
        outage.budget.add_event()
    assert [outage.budget.take_retry() for _ in range(3)] == [True, False, False]


def test_retry_budget_success_ends_the_outage() -> None:
    outage = Outage()
    outage.fail_for(10)
    outage.budget.add_success()
    assert outage.budget.has_retry()
    outage.fail_for(4)
    assert outage.budget.take_retry()


def test_retry_budget_pause_ends_the_outage() -> None:
    """A single failure per minute is not an outage."""
    outage = Outage()
    for _ in range(10):
        outage.fail_for(0)
        assert outage.budget.take_retry()
        outage.now += 60
    outage.fail_for(5)
    assert not outage.budget.has_retry()
    outage.now += 6
    assert outage.budget.has_retry()


def test_retry_budget_slow_failures_are_an_outage() -> None:
    """No time passes between the calls, although more than five seconds pass between the failures."""
    outage = Outage()
    outage.budget.add_failure(7)
    outage.now += 7
    outage.budget.add_failure(7)
    assert not outage.budget.has_retry()
