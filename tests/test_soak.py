"""The soak's reckoning finds what it is there to find; the soak itself is a command of its own, `make soak`."""

import pytest

from tests.soak.plot import quantile
from tests.soak.reckoning import Sent, Wanted, reckon


def sent(number: int, dataset: str = "a", status: int | None = 200, kind: str = "native") -> Sent:
    return Sent(number, kind, dataset, ((dataset, f"m{number}"),), status=status)


APPLIED: list[Wanted] = [("a", "m0"), ("b", "m1"), ("a", "m2")]
EVENTS = [sent(0), sent(1, "b"), sent(2)]


def test_what_adds_up() -> None:
    assert reckon(EVENTS, APPLIED).adds_up
    again = reckon(EVENTS, [APPLIED[0], *APPLIED, APPLIED[2]])
    assert (again.adds_up, again.repeated) == (True, 2)


@pytest.mark.parametrize("missing", APPLIED)
def test_a_lost_update_is_found(missing: Wanted) -> None:
    found = reckon(EVENTS, [each for each in APPLIED if each != missing])
    assert not found.adds_up
    assert found.lost == [f"native {missing[1][1]}: {missing[0]} {missing[1]}"]


def test_one_of_an_events_updates_that_is_lost_is_found() -> None:
    both = Sent(0, "dbt", "a", (("a", "m0"), ("b", "m0")), status=200)
    assert reckon([both], [("a", "m0")]).lost == ["dbt 0: b m0"]


def test_an_update_out_of_nowhere_is_found() -> None:
    assert reckon(EVENTS, [*APPLIED, ("b", "m0")]).unexplained == [("b", "m0")]


def test_an_event_that_is_never_confirmed_is_found() -> None:
    for status in (None, 404, 503):
        found = reckon([*EVENTS, sent(3, status=status)], [*APPLIED, ("a", "m3")])
        assert found.undelivered == [f"native 3: {status}"]
        assert not found.adds_up
    # A rename that has happened, and whose dataset is not found again under its old name; one that hasn't is lost.
    gone = sent(3, status=404, kind="rename")
    assert reckon([*EVENTS, gone], [*APPLIED, ("a", "m3")]).adds_up
    assert reckon([*EVENTS, gone], APPLIED).undelivered == ["rename 3: 404"]


def test_a_newer_update_that_an_older_one_overwrote_is_found() -> None:
    assert reckon(EVENTS, [APPLIED[2], *APPLIED[:2]]).overwritten == [("a", "m2")]
    assert reckon(EVENTS, [*APPLIED, APPLIED[0]]).overwritten == [("a", "m2")]


def test_quantiles() -> None:
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile(list(range(1000)), 0.99) == 990
    assert quantile([7], 0.99) == 7
