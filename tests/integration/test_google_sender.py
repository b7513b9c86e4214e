"""Tests of the sender google: pushes of Pub/Sub and events of Eventarc that feed a hook."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.cloud import Cloud
from deploy.local.google_identity import ACCOUNT
from tests.support.hooks import update, written
from tests.support.queue import push, push_body
from tests.support.relay import JSON_TYPE, Launch, Relay, assert_problem, in_variables, running

HOOK_AUDIENCE = "https://relay.local/hooks/bucket"


@pytest.fixture(scope="module")
def relay_with_hook(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function without a queue, with a hook of the sender google."""
    folder = tmp_path_factory.mktemp("google")
    summary = update(
        "data.world", "{{ event.dataset }}", {"summary": "{{ event.name }}: {{ headers.eventtype | default('none') }}"}
    )
    hook = {"sender": "google", "audience": HOOK_AUDIENCE, "account": ACCOUNT, "updates": [summary]}
    settings = {
        **cloud.settings(),
        **in_variables(cloud),
        "RELAY_CONFIG": written(folder, {"bucket": hook}),
        "RELAY_ALLOW_UNAUTHENTICATED": "true",
    }
    with running(cloud, settings, folder) as started:
        yield started


def send(relay: Relay, body: Any, headers: dict[str, str] | None = None, **claims: Any) -> Any:
    token = relay.cloud.google.token(**{"aud": HOOK_AUDIENCE, **claims})
    all_headers = {"Content-Type": JSON_TYPE, "Authorization": f"Bearer {token}", **(headers or {})}
    return relay.send(json.dumps(body), path="/hooks/bucket", headers=all_headers)


def test_push_updates_the_dataset(relay_with_hook: Relay) -> None:
    dataset = relay_with_hook.data_world_dataset()
    body = push_body(json.dumps({"dataset": dataset, "name": "a.csv"}).encode(), {"eventType": "OBJECT_FINALIZE"})
    response = send(relay_with_hook, body)
    assert response.status_code == 200
    assert response.headers["Relay-Delivery"] == body["message"]["messageId"]
    record = relay_with_hook.cloud.data_world.datasets[dataset]
    assert record["summary"] == "a.csv: OBJECT_FINALIZE"


def test_attribute_never_replaces_a_header_of_the_request(relay_with_hook: Relay) -> None:
    dataset = relay_with_hook.data_world_dataset()
    body = push_body(json.dumps({"dataset": dataset, "name": "a.csv"}).encode(), {"eventType": "attribute"})
    assert send(relay_with_hook, body, {"eventtype": "header"}).status_code == 200
    assert relay_with_hook.cloud.data_world.datasets[dataset]["summary"] == "a.csv: header"


def test_event_of_eventarc_updates_the_dataset(relay_with_hook: Relay) -> None:
    """https://cloud.google.com/eventarc/docs/cloudevents"""
    dataset = relay_with_hook.data_world_dataset()
    headers = {
        "ce-id": "1234567890", "ce-source": "//storage.googleapis.com/projects/_/buckets/b", "ce-specversion": "1.0",
        "ce-type": "google.cloud.storage.object.v1.finalized", "ce-subject": "objects/a.csv",
    }  # fmt: skip
    response = send(relay_with_hook, {"dataset": dataset, "bucket": "b", "name": "a.csv"}, headers)
    assert (response.status_code, response.headers["Relay-Delivery"]) == (200, "1234567890")
    assert relay_with_hook.cloud.data_world.datasets[dataset]["summary"] == "a.csv: none"


def test_data_that_is_not_json_is_422(relay_with_hook: Relay) -> None:
    problem = assert_problem(send(relay_with_hook, push_body(b"not JSON")), 422, "invalid")
    assert list(problem["errors"]) == ["message.data"]


def test_allow_unauthenticated_never_applies(relay_with_hook: Relay) -> None:
    assert_problem(relay_with_hook.send(b"{}", path="/hooks/bucket"), 401, "unauthenticated")


@pytest.mark.parametrize("claims", [{"aud": "https://relay.local/deliveries"}, {"email": "other@p.example"}])
def test_token_with_another_identity_is_401(relay_with_hook: Relay, claims: dict[str, Any]) -> None:
    assert_problem(send(relay_with_hook, push_body(b"{}"), **claims), 401, "unauthenticated")


def test_hook_needs_no_queue(launch: Launch) -> None:
    assert_problem(push(launch(), b"{}"), 404, "not-found")
