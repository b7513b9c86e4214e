import pytest

from tests.soak.ledger import Event, Update, audit


def event(number: int, dataset: str = "a", status: int | None = 200, kind: str = "native") -> Event:
    return Event(number, kind, ((dataset, f"mark-{number}"),), status)


APPLIED: list[Update] = [("a", "mark-0"), ("b", "mark-1"), ("a", "mark-2")]
EVENTS = [event(0), event(1, "b"), event(2)]


def test_audit_every_update_applied_once_is_clean() -> None:
    result = audit(EVENTS, APPLIED)
    assert result.is_clean
    assert result.repeated == 0


def test_audit_update_applied_again_is_clean() -> None:
    result = audit(EVENTS, [APPLIED[0], *APPLIED, APPLIED[2]])
    assert result.is_clean
    assert result.repeated == 2


@pytest.mark.parametrize("missing", APPLIED)
def test_audit_update_not_applied_is_lost(missing: Update) -> None:
    result = audit(EVENTS, [update for update in APPLIED if update != missing])
    assert not result.is_clean
    assert result.lost == [f"native {missing[1][-1]}: {missing[0]} {missing[1]}"]


def test_audit_second_update_of_event_not_applied_is_lost() -> None:
    both = Event(0, "dbt", (("a", "mark-0"), ("b", "mark-0")), 200)
    assert audit([both], [("a", "mark-0")]).lost == ["dbt 0: b mark-0"]


def test_audit_update_without_event_is_unexpected() -> None:
    result = audit(EVENTS, [*APPLIED, ("b", "mark-0")])
    assert not result.is_clean
    assert result.unexpected == [("b", "mark-0")]


@pytest.mark.parametrize("status", [None, 404, 503])
def test_audit_event_without_success_is_unconfirmed(status: int | None) -> None:
    result = audit([*EVENTS, event(3, status=status)], [*APPLIED, ("a", "mark-3")])
    assert not result.is_clean
    assert result.unconfirmed == [f"native 3: {status}"]


def test_audit_applied_rename_with_404_is_clean() -> None:
    renamed = event(3, status=404, kind="rename")
    assert audit([*EVENTS, renamed], [*APPLIED, ("a", "mark-3")]).is_clean


def test_audit_rename_not_applied_with_404_is_unconfirmed() -> None:
    renamed = event(3, status=404, kind="rename")
    assert audit([*EVENTS, renamed], APPLIED).unconfirmed == ["rename 3: 404"]


@pytest.mark.parametrize("applied", [[APPLIED[2], *APPLIED[:2]], [*APPLIED, APPLIED[0]]])
def test_audit_older_update_applied_last_is_overwritten(applied: list[Update]) -> None:
    result = audit(EVENTS, applied)
    assert not result.is_clean
    assert result.overwritten == [("a", "mark-2")]
