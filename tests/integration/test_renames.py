"""Tests of renames by name whose response is lost: the retry can't find the dataset by its old name."""

import json
from collections.abc import Callable

import pytest
from flask import Response

from deploy.local.cloud import APIFY_USER
from tests.support.relay import Relay, assert_problem, lose_responses, unique

#: The ways to lose a response: a status of a gateway, or None for a broken connection.
LOSSES = {"500": 500, "502": 502, "503": 503, "504": 504, "reset": None}


@pytest.mark.parametrize("loss", LOSSES)
def test_rename_with_lost_response_is_a_success(relay: Relay, loss: str) -> None:
    old, new = unique("old"), unique("new")
    dataset = relay.apify_dataset(old)
    lose_responses(relay.cloud.apify, f"/datasets/{APIFY_USER}~{old}", LOSSES[loss])
    event = {
        "provider": "apify",
        "dataset": f"{APIFY_USER}~{old}",
        "update": {"name": new, "generalAccess": "RESTRICTED"},
    }
    response = relay.post(event)
    assert response.status_code == 200, response.text
    record = relay.cloud.apify.datasets[dataset]
    assert response.json()["data"] == {key: value for key, value in record.items() if key != "urlSigningSecretKey"}
    assert [call.method for call in relay.cloud.apify.seen(f"/datasets/{APIFY_USER}~{old}")] == ["PUT", "PUT"]
    (confirmation,) = relay.cloud.apify.seen(f"/datasets/{APIFY_USER}~{new}")
    assert (confirmation.method, confirmation.body) == ("GET", b"")
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["attempts"], entry["upstream_status"]) == ("delivered", 2, 200)


def test_rename_confirmation_that_fails_is_retried(relay: Relay) -> None:
    old, new = unique("old"), unique("new")
    relay.apify_dataset(old)
    lose_responses(relay.cloud.apify, f"/datasets/{APIFY_USER}~{old}", 500)
    failures = iter([lambda: Response(b"", 503), relay.cloud.apify.break_off])

    def fail() -> Response | None:
        failure = next(failures, None)
        return failure() if failure else None

    relay.cloud.apify.instead[f"/datasets/{APIFY_USER}~{new}"] = fail
    response = relay.post({"provider": "apify", "dataset": f"{APIFY_USER}~{old}", "update": {"name": new}})
    assert (response.status_code, response.json()["data"]["name"]) == (200, new)


def another_dataset(relay: Relay, new: str) -> None:
    """Give the new name to a dataset that doesn't match the update."""
    relay.apify_dataset(new)


def html_page(relay: Relay, new: str) -> None:
    """Return an HTML page for the new name."""
    relay.cloud.apify.instead[f"/datasets/{APIFY_USER}~{new}"] = lambda: Response("<p>Hello</p>", 200)


def forbidden(relay: Relay, new: str) -> None:
    """Return 403 for the new name."""
    relay.cloud.apify.instead[f"/datasets/{APIFY_USER}~{new}"] = lambda: Response("{}", 403)


def no_dataset(_relay: Relay, _new: str) -> None:
    """Leave the new name unused: the rename failed, or the dataset has been renamed again."""


@pytest.mark.parametrize("arrange", [another_dataset, html_page, forbidden, no_dataset])
def test_rename_that_can_not_be_confirmed_is_not_found(relay: Relay, arrange: Callable[[Relay, str], None]) -> None:
    old, new = unique("old"), unique("new")
    arrange(relay, new)
    failures = iter([Response(b"", 500)])
    relay.cloud.apify.instead[f"/datasets/{APIFY_USER}~{old}"] = lambda: next(failures, None)
    event = {
        "provider": "apify",
        "dataset": f"{APIFY_USER}~{old}",
        "update": {"name": new, "generalAccess": "ANYONE_WITH_ID_CAN_READ"},
    }
    problem = assert_problem(relay.post(event), 404, "upstream-rejected")
    assert "it may have succeeded" in problem["detail"]
    assert problem["upstream"]["status"] == 404


def test_rename_404_of_the_first_attempt_is_not_confirmed(relay: Relay) -> None:
    # The dataset with the new name matches the update, but may have had this name for a long time.
    old, new = unique("old"), unique("new")
    relay.apify_dataset(new)
    response = relay.post({"provider": "apify", "dataset": f"{APIFY_USER}~{old}", "update": {"name": new}})
    problem = assert_problem(response, 404, "upstream-rejected")
    assert "may have succeeded" not in problem["detail"]
    assert relay.cloud.apify.seen(f"/datasets/{APIFY_USER}~{new}") == []


def test_removal_of_a_name_with_lost_response_is_not_found(relay: Relay) -> None:
    old = unique("old")
    dataset = relay.apify_dataset(old)
    lose_responses(relay.cloud.apify, f"/datasets/{APIFY_USER}~{old}", 500)
    response = relay.post({"provider": "apify", "dataset": f"{APIFY_USER}~{old}", "update": {"name": None}})
    assert "it may have succeeded" in assert_problem(response, 404, "upstream-rejected")["detail"]
    assert relay.cloud.apify.datasets[dataset]["name"] is None


@pytest.mark.parametrize("loss", LOSSES)
def test_rename_by_id_with_lost_responses_is_retried(relay: Relay, loss: str) -> None:
    dataset, new = relay.apify_dataset(unique("old")), unique("new")
    lose_responses(relay.cloud.apify, f"/datasets/{dataset}", LOSSES[loss], times=2)
    response = relay.post({"provider": "apify", "dataset": dataset, "update": {"name": new}})
    assert (response.status_code, response.json()["data"]["name"]) == (200, new)
    calls = [json.loads(call.body) for call in relay.cloud.apify.seen(f"/datasets/{dataset}")]
    assert calls == [{"name": new}] * 3
