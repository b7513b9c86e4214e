"""Problem answers: what RFC 9457 asks of them, and that each kind is told apart."""

import pytest

from schemas import problem
from schemas.problem import Invalid, RelayError, Unproven, Upstream, UpstreamLimited, UpstreamRefused, problem_body


def kinds() -> list[type[RelayError]]:
    return [each for each in vars(problem).values() if isinstance(each, type) and issubclass(each, RelayError)][1:]


def test_each_kind_has_a_name_of_its_own() -> None:
    names = [kind.name for kind in kinds()]
    assert len(names) == len(set(names)) == 20
    assert all(name == name.lower() and " " not in name for name in names)


@pytest.mark.parametrize("kind", kinds())
def test_each_kind_says_what_it_is(kind: type[RelayError]) -> None:
    assert kind.title[0].isupper()
    assert kind.__doc__
    if kind is not UpstreamRefused:
        assert 400 <= kind.status <= 599


def test_only_what_applies_is_in_the_body() -> None:
    assert problem_body(Invalid("No.", errors={"update.name": ["Too long."]}).problem) == {
        "type": "urn:dataset-relay:problem:invalid",
        "title": "The event breaks a rule",
        "status": 422,
        "detail": "No.",
        "retryable": False,
        "errors": {"update.name": ["Too long."]},
    }
    limited = UpstreamLimited("Wait.", upstream=Upstream(429, None), headers={"Retry-After": "5"}).problem
    assert problem_body(limited)["upstream"] == {"status": 429, "body": None}
    assert problem_body(limited)["retryable"] is True
    assert "headers" not in problem_body(limited)


def test_unproven_never_says_why() -> None:
    assert Unproven("Bearer").problem == Unproven("Bearer").problem
    assert Unproven("Bearer").problem.headers["WWW-Authenticate"]
