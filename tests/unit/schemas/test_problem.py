"""Tests of schemas.problem."""

import pytest

from schemas import problem
from schemas.problem import (
    BusyError,
    InternalError,
    InvalidEventError,
    RelayError,
    UnauthenticatedError,
    Upstream,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    problem_body,
)

ERRORS = [
    value
    for value in vars(problem).values()
    if isinstance(value, type) and issubclass(value, RelayError) and value is not RelayError
]


def test_problem_names_are_distinct() -> None:
    names = [error.name for error in ERRORS]
    assert len(names) == len(set(names)) == 26
    assert all(name == name.lower() and " " not in name for name in names)


@pytest.mark.parametrize("error", ERRORS)
def test_error_has_title_description_and_status(error: type[RelayError]) -> None:
    assert error.title[0].isupper()
    assert error.__doc__
    if error is not UpstreamRejectedError:
        assert 400 <= error.status <= 599


def test_upstream_rejected_error_has_status_of_provider() -> None:
    assert UpstreamRejectedError(402, "No.", upstream=Upstream(402, None)).problem.status == 402


def test_problem_body_has_only_members_that_apply() -> None:
    assert problem_body(InvalidEventError("No.", errors={"update.name": ["Too long."]}).problem) == {
        "type": "urn:dataset-relay:problem:invalid",
        "title": "The event breaks a rule",
        "status": 422,
        "detail": "No.",
        "retryable": False,
        "errors": {"update.name": ["Too long."]},
    }


def test_problem_body_upstream_keeps_null_body() -> None:
    error = UpstreamRateLimitedError("Wait.", upstream=Upstream(429, None), headers={"Retry-After": "5"})
    body = problem_body(error.problem)
    assert body["upstream"] == {"status": 429, "body": None}
    assert body["retryable"] is True
    assert "headers" not in body


def test_error_with_own_wait_has_retry_after_header() -> None:
    assert BusyError("Wait.").problem.headers == {"Retry-After": "1"}
    assert BusyError("Wait.", headers={"Retry-After": "7"}).problem.headers == {"Retry-After": "7"}


def test_unauthenticated_error_never_names_cause() -> None:
    error = UnauthenticatedError("Bearer")
    assert error.problem == UnauthenticatedError("Bearer").problem
    assert error.problem.headers == {"WWW-Authenticate": 'Bearer realm="dataset-relay"'}


def test_problem_name_is_last_part_of_type() -> None:
    assert InvalidEventError("No.").problem.name == "invalid"


def test_internal_error_refers_to_log() -> None:
    assert InternalError().problem.detail == "Internal error. See the function's log."
