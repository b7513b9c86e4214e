"""Tests of dry runs of hooks, and of the credentials in the outcomes of several updates."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Response

from deploy.local.cloud import DATA_WORLD_OWNER, Cloud
from tests.support.canary import secret
from tests.support.hook_events import (
    APIFY_UPDATE,
    DATA_WORLD_UPDATE,
    HOOK_SECRET,
    apify_access,
    create_payload,
    running_with_hooks,
)
from tests.support.hooks import call, hook, update, written
from tests.support.relay import Launch, Relay, assert_problem


@pytest.fixture(scope="module")
def relay(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function with hooks for the tests of this module."""
    hooks = {
        "both": hook(APIFY_UPDATE, DATA_WORLD_UPDATE),
        "when": hook(APIFY_UPDATE, when="event.status == 'done'"),
    }
    with running_with_hooks(cloud, tmp_path_factory.mktemp("hooks"), hooks) as started:
        yield started


def test_dry_run_shows_each_request(relay: Relay) -> None:
    payload = create_payload(relay)
    response = call(relay, "both", payload, query="dry_run=true")
    assert response.status_code == 200
    preview = response.json()
    assert preview["dry_run"] is True
    apify, data_world = preview["results"]
    assert set(apify) == {"provider", "dataset", "request", "token"}
    assert apify["request"]["method"] == "PUT"
    assert apify["request"]["headers"]["Authorization"] == "Bearer [redacted]"
    assert data_world["request"]["body"] == {"summary": "Built 2026-11-22."}
    assert data_world["token"].endswith("/secrets/data-world-token/versions/1")
    assert apify_access(relay, payload) is None
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["dry_run"], entry["message"]) == ("dry_run", True, "POST /hooks/both: dry run")


def test_dry_run_misspelled_name_sends_nothing(relay: Relay) -> None:
    payload = create_payload(relay)
    assert_problem(call(relay, "both", payload, query="dryrun=true"), 422, "invalid")
    assert apify_access(relay, payload) is None


def test_dry_run_of_an_ignored_event_gives_the_reason(relay: Relay) -> None:
    assert "ignored" in call(relay, "when", {}, query="dry_run=true").json()


def test_dry_run_of_an_invalid_event_is_a_problem(relay: Relay) -> None:
    assert_problem(call(relay, "both", {}, query="dry_run=true"), 422, "invalid")


def test_dry_run_shows_no_credential(launch: Launch, tmp_path: Path) -> None:
    source = {
        "url": "https://u:{{ event.p }}@example.com/a.csv",
        "credentials": {"user": "u", "password": "{{ event.p }}"},
        "requestHeaders": {"Authorization": "Bearer {{ event.p }}"},
    }
    files = {"files": [{"name": "a.csv", "source": source}]}
    damaged = update("apify", "abc", {"name": None}, token="env:DAMAGED")
    hooks = {"a": hook(update("data.world", f"{DATA_WORLD_OWNER}/products", files), damaged)}
    relay = launch(
        RELAY_CONFIG=written(tmp_path, hooks),
        HOOK_SECRET=HOOK_SECRET,
        DAMAGED="CANARY two words",
        RELAY_DEADLINE_SECONDS="60",
    )
    password = secret("sword-")
    response = call(relay, "a", {"p": password}, query="dry_run=true")
    shown, failed = response.json()["results"]
    assert response.status_code == 502
    assert failed["status"] == 500
    assert failed["problem"]["type"] == "urn:dataset-relay:problem:secret-unusable"
    assert password not in response.text + relay.log_text()
    assert shown["request"]["body"]["files"][0]["source"]["requestHeaders"] == {"Authorization": "[redacted]"}


def test_credential_of_one_update_is_not_shown_by_another(launch: Launch, own_cloud: Cloud, tmp_path: Path) -> None:
    # One update uses a value of the payload as a credential. The provider of the other update repeats the payload.
    source = {"url": "https://example.com/a.csv", "credentials": {"user": "u", "password": "{{ event.p }}"}}
    first = update("data.world", "acme/first", {"files": [{"name": "a.csv", "source": source}]})
    second = update("data.world", "acme/second", {"summary": "debug: {{ event }}"})
    relay = launch(
        on=own_cloud,
        RELAY_CONFIG=written(tmp_path, {"a": hook(first, second)}),
        HOOK_SECRET=HOOK_SECRET,
        RELAY_DEADLINE_SECONDS="60",
    )
    own_cloud.data_world.add("acme/first")

    def repeat_the_update() -> Response:
        sent = next(call.json for call in own_cloud.data_world.calls if call.path.endswith("/acme/second"))
        return Response(json.dumps({"code": 422, "message": f"Not this: {sent}"}), 422)

    own_cloud.data_world.instead["/datasets/acme/second"] = repeat_the_update
    password = secret("sword-")
    for query, status in (("", 502), ("dry_run=true", 200)):
        response = call(relay, "a", {"p": password}, query=query)
        assert response.status_code == status
        assert password not in response.text
        assert "[redacted]" in response.text
