"""Tests of changes of the list of tags on data.world: read, change, and write."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Response

from tests.support.relay import Relay, assert_problem, lose_responses


def send(relay: Relay, dataset: str, tags: Any, **more: Any) -> Any:
    """Send a native event that changes the tags."""
    return relay.post({"provider": "data.world", "dataset": dataset, "update": {"tags": tags, **more}})


def methods(relay: Relay, dataset: str) -> list[str]:
    """Return the methods of the calls for a dataset."""
    return [call.method for call in relay.cloud.data_world.seen(f"/datasets/{dataset}")]


@pytest.fixture
def dataset(relay: Relay) -> str:
    """Create a dataset with two tags."""
    reference = relay.data_world_dataset()
    relay.cloud.data_world.datasets[reference]["tags"] = ["curated by hand", "old"]
    return reference


def test_tags_added_and_removed_keep_the_other_tags(relay: Relay, dataset: str) -> None:
    response = send(relay, dataset, {"add": ["daily", "curated by hand"], "remove": ["old"]}, title="x")
    assert (response.status_code, response.json()) == (200, {"message": "Dataset successfully updated."})
    record = relay.cloud.data_world.datasets[dataset]
    assert (record["tags"], record["title"]) == (["curated by hand", "daily"], "x")
    assert methods(relay, dataset) == ["GET", "PATCH"]


def test_tags_without_a_difference_are_not_written(relay: Relay, dataset: str) -> None:
    response = send(relay, dataset, {"add": ["old"], "remove": ["absent"]})
    assert (response.status_code, response.json()) == (200, {"unchanged": True})
    assert methods(relay, dataset) == ["GET"]
    assert relay.logged(response.headers["Relay-Delivery"])["outcome"] == "delivered"


def test_tags_lost_response_is_retried(relay: Relay, dataset: str) -> None:
    lose_responses(relay.cloud.data_world, f"/datasets/{dataset}", 502)
    assert send(relay, dataset, {"add": ["daily"]}).status_code == 200
    assert relay.cloud.data_world.datasets[dataset]["tags"] == ["curated by hand", "old", "daily"]


def test_tags_of_a_missing_dataset_are_not_found(relay: Relay) -> None:
    assert_problem(send(relay, "acme/no-such-dataset", {"add": ["daily"]}), 404, "upstream-rejected")


def test_tags_dry_run_reads_nothing(relay: Relay, dataset: str) -> None:
    event = {"provider": "data.world", "dataset": dataset, "update": {"tags": {"add": ["daily"]}}}
    response = relay.post(event, path="/?dry_run=true")
    assert response.json()["request"]["body"] == {"tags": {"add": ["daily"]}}
    assert methods(relay, dataset) == []


def test_tags_changed_by_several_updates_at_once_are_all_there(relay: Relay, dataset: str) -> None:
    names = [f"tag {number}" for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        responses = list(pool.map(lambda name: send(relay, dataset, {"add": [name]}), names))
    assert [response.status_code for response in responses] == [200] * 12
    assert set(relay.cloud.data_world.datasets[dataset]["tags"]) == {"curated by hand", "old", *names}


def test_tags_of_an_unreadable_record_are_not_written(relay: Relay, dataset: str) -> None:
    relay.cloud.data_world.instead[f"/datasets/{dataset}"] = lambda: Response(b"", 200)
    problem = assert_problem(send(relay, dataset, {"add": ["daily"]}), 502, "upstream-failed", retryable=True)
    assert "did not change the tags" in problem["detail"]
    assert methods(relay, dataset) == ["GET"]
