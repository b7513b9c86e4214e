"""When a call is made again: pure, and so without waiting."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.providers.call import Answer, retry_after, wait_asked
from handlers.retries import Failure, answered, pause
from schemas.problem import Unreachable

ERROR = Unreachable("Not there.")
SECONDS = st.floats(0, 100)
CHANCES = st.floats(0, 1, exclude_max=True)


def failure(asked: float = 0.0, *, passing: bool = True) -> Failure:
    return Failure(ERROR, passing=passing, asked=asked)


def test_the_pauses_double_up_to_a_limit() -> None:
    longest = [pause(failure(), tries, left=1000, took=0, chance=1) for tries in range(1, 8)]
    assert longest == [0.5, 1, 2, 4, 4, 4, 4]
    assert pause(failure(), 10_000, left=1000, took=0, chance=1) == 4
    assert pause(failure(), 3, left=1000, took=0, chance=0.25) == 0.5


def test_what_does_not_pass_is_not_tried_again() -> None:
    assert pause(failure(passing=False), 1, left=1000, took=0, chance=0) is None


@given(asked=SECONDS, tries=st.integers(1, 50), left=SECONDS, took=SECONDS, chance=CHANCES)
def test_a_try_always_has_the_time_that_it_takes(
    asked: float, tries: int, left: float, took: float, chance: float
) -> None:
    wait = pause(failure(asked), tries, left, took, chance)
    room = left - max(took, 0.2)
    if wait is None:
        assert room <= 0 or room < asked
    else:
        assert asked <= wait <= room


@pytest.mark.parametrize(
    ("status", "passing", "unknown"),
    [
        *[(status, True, True) for status in (408, 500, 502, 503, 504, 520, 599)],
        (429, True, False),
        *[(status, False, False) for status in (101, 204, 302, 400, 401, 403, 404, 409, 418, 422, 451)],
    ],
)
def test_what_a_status_says_of_another_try(status: int, passing: bool, unknown: bool) -> None:
    found = answered(ERROR, Answer(status, {"retry-after": "7"}, b""), now=0)
    assert (found.passing, found.unknown, found.status, found.asked) == (passing, unknown, status, 7)


@given(st.integers(0, 999_999_999))
def test_a_wait_in_seconds(seconds: int) -> None:
    assert wait_asked(str(seconds), now=0) == seconds
    assert retry_after(f" {seconds} ") == str(seconds)


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)), st.floats(0, 4_102_444_800))
def test_a_wait_as_a_date(moment: datetime, now: float) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    asked = wait_asked(format_datetime(moment, usegmt=True), now)
    assert asked == max(0.0, moment.timestamp() - now)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d+:\d+:\d+ ([+-]\d{1,12}|GMT)"))
def test_a_wait_is_never_an_accident(text: str) -> None:
    """Whatever a platform sends: a number of seconds, and a header that can be sent on, or none."""
    assert 0 <= wait_asked(text, now=1e9) < 1e12
    sent_on = retry_after(text)
    assert sent_on is None or (sent_on.isascii() and sent_on.isprintable())
