"""A rename by name whose answer was lost: the next try finds nobody of the old name. The sender is told the truth."""

import json
from collections.abc import Callable

import pytest
from flask import Response, request

from deploy.local.cloud import APIFY_USER
from tests.conftest import Relay, assert_problem, unique

#: What a lost answer looks like: None is a connection that broke.
LOST = {"500": 500, "502": 502, "503": 503, "504": 504, "reset": None}


def losing(relay: Relay, path: str, lost: int | None, times: int = 1) -> None:
    """Lets the platform carry out the first calls to `path`, and not say so."""
    left = iter(range(times))

    def lose() -> Response | None:
        if request.method != "PUT" or next(left, None) is None:
            return None
        done = relay.cloud.apify.carry_out()
        assert done.status_code == 200
        return relay.cloud.apify.break_off() if lost is None else Response(b"", lost)

    relay.cloud.apify.instead[path] = lose


@pytest.mark.parametrize("lost", LOST)
def test_a_rename_whose_answer_was_lost_is_a_success(relay: Relay, lost: str) -> None:
    old, new = unique("old"), unique("new")
    dataset = relay.apify_dataset(old)
    losing(relay, f"/datasets/{APIFY_USER}~{old}", LOST[lost])
    event = {
        "provider": "apify",
        "dataset": f"{APIFY_USER}~{old}",
        "update": {"name": new, "generalAccess": "RESTRICTED"},
    }
    answer = relay.post(event)
    assert answer.status_code == 200, answer.text
    record = relay.cloud.apify.datasets[dataset]
    assert answer.json()["data"] == {key: value for key, value in record.items() if key != "urlSigningSecretKey"}
    assert [call.method for call in relay.cloud.apify.seen(f"/datasets/{APIFY_USER}~{old}")] == ["PUT", "PUT"]
    (look,) = relay.cloud.apify.seen(f"/datasets/{APIFY_USER}~{new}")
    assert (look.method, look.body) == ("GET", b"")
    entry = relay.logged(answer.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["attempts"], entry["upstream_status"]) == ("delivered", 2, 200)


def test_a_look_that_fails_is_made_again(relay: Relay) -> None:
    old, new = unique("old"), unique("new")
    relay.apify_dataset(old)
    losing(relay, f"/datasets/{APIFY_USER}~{old}", 500)
    failures = iter([lambda: Response(b"", 503), relay.cloud.apify.break_off])

    def fail() -> Response | None:
        failure = next(failures, None)
        return failure() if failure else None

    relay.cloud.apify.instead[f"/datasets/{APIFY_USER}~{new}"] = fail
    answer = relay.post({"provider": "apify", "dataset": f"{APIFY_USER}~{old}", "update": {"name": new}})
    assert (answer.status_code, answer.json()["data"]["name"]) == (200, new)


def another(relay: Relay, new: str) -> None:
    """Somebody else's dataset has the new name: it doesn't say what the update says."""
    relay.apify_dataset(new)


def page(relay: Relay, new: str) -> None:
    relay.cloud.apify.instead[f"/datasets/{APIFY_USER}~{new}"] = lambda: Response("<p>Hello</p>", 200)


def forbidden(relay: Relay, new: str) -> None:
    relay.cloud.apify.instead[f"/datasets/{APIFY_USER}~{new}"] = lambda: Response("{}", 403)


def nobody(relay: Relay, new: str) -> None:
    """Nothing of the new name: it was not carried out, or has been renamed again."""


@pytest.mark.parametrize("there", [another, page, forbidden, nobody])
def test_what_does_not_say_what_the_update_says_is_no_success(
    relay: Relay, there: Callable[[Relay, str], None]
) -> None:
    old, new = unique("old"), unique("new")
    there(relay, new)
    failures = iter([Response(b"", 500)])
    relay.cloud.apify.instead[f"/datasets/{APIFY_USER}~{old}"] = lambda: next(failures, None)
    event = {
        "provider": "apify",
        "dataset": f"{APIFY_USER}~{old}",
        "update": {"name": new, "generalAccess": "ANYONE_WITH_ID_CAN_READ"},
    }
    problem = assert_problem(relay.post(event), 404, "upstream-refused")
    assert "it may have been carried out" in problem["detail"]
    assert problem["upstream"]["status"] == 404


def test_a_404_at_once_is_not_looked_into(relay: Relay) -> None:
    """Even where the new name says what the update says: that may be so since yesterday."""
    old, new = unique("old"), unique("new")
    relay.apify_dataset(new)
    answer = relay.post({"provider": "apify", "dataset": f"{APIFY_USER}~{old}", "update": {"name": new}})
    problem = assert_problem(answer, 404, "upstream-refused")
    assert "may have been" not in problem["detail"]
    assert relay.cloud.apify.seen(f"/datasets/{APIFY_USER}~{new}") == []


def test_a_name_that_was_taken_away_cannot_be_looked_up(relay: Relay) -> None:
    old = unique("old")
    dataset = relay.apify_dataset(old)
    losing(relay, f"/datasets/{APIFY_USER}~{old}", 500)
    answer = relay.post({"provider": "apify", "dataset": f"{APIFY_USER}~{old}", "update": {"name": None}})
    assert "it may have been carried out" in assert_problem(answer, 404, "upstream-refused")["detail"]
    assert relay.cloud.apify.datasets[dataset]["name"] is None


@pytest.mark.parametrize("lost", LOST)
def test_an_update_by_id_has_no_such_trouble(relay: Relay, lost: str) -> None:
    dataset, new = relay.apify_dataset(unique("old")), unique("new")
    losing(relay, f"/datasets/{dataset}", LOST[lost], times=2)
    answer = relay.post({"provider": "apify", "dataset": dataset, "update": {"name": new}})
    assert (answer.status_code, answer.json()["data"]["name"]) == (200, new)
    calls = [json.loads(call.body) for call in relay.cloud.apify.seen(f"/datasets/{dataset}")]
    assert calls == [{"name": new}] * 3
