"""Tests of hooks with several updates: their order, their outcomes, the status of the response, and their tokens."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import requests
from flask import Response

from deploy.local.cloud import ROOT, Cloud, secret_name
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
from tests.support.relay import Launch, Relay, assert_problem, in_variables

# In seconds: longer than any event takes that is expected to succeed, and shorter than the deadline of `relay`.
LONG = 50

TYPE_PREFIX = "urn:dataset-relay:problem:"


@pytest.fixture(scope="module")
def relay(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function with a hook that has an update for each provider."""
    hooks = {"both": hook(APIFY_UPDATE, DATA_WORLD_UPDATE)}
    with running_with_hooks(cloud, tmp_path_factory.mktemp("hooks"), hooks) as started:
        yield started


# Execution


def test_updates_results_have_the_order_of_the_hook(relay: Relay) -> None:
    payload = create_payload(relay)
    response = call(relay, "both", payload)
    assert response.status_code == 200
    assert [(result["provider"], result["dataset"], result["status"]) for result in response.json()["results"]] == [
        ("apify", payload["dataset"], 200),
        ("data.world", payload["record"], 200),
    ]
    assert relay.cloud.data_world.datasets[payload["record"]]["summary"] == "Built 2026-11-22."
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["provider"], entry["outcome"], entry["status"]) == ("apify+data.world", "delivered", 200)
    assert [(each["provider"], each["status"], each["attempts"]) for each in entry["updates"]] == [
        ("apify", 200, 1),
        ("data.world", 200, 1),
    ]


def test_updates_run_at_the_same_time(relay: Relay) -> None:
    payload = create_payload(relay)
    both_called = threading.Barrier(2, timeout=LONG)

    def respond() -> Response:
        both_called.wait()
        return Response('{"data": {}}', mimetype="application/json")

    relay.cloud.apify.instead[f"/datasets/{payload['dataset']}"] = respond
    relay.cloud.data_world.instead[f"/datasets/{payload['record']}"] = respond
    assert call(relay, "both", payload).status_code == 200


def test_updates_more_than_slots_run_in_turns(launch: Launch, tmp_path: Path) -> None:
    count = 5
    updates = [
        update("data.world", f"{{{{ event.records[{number}] }}}}", {"title": f"Title {number}"})
        for number in range(count)
    ]
    relay = launch(
        RELAY_CONFIG=written(tmp_path, {"many": hook(*updates)}),
        HOOK_SECRET=HOOK_SECRET,
        RELAY_PROVIDER_CONCURRENCY="2",
        RELAY_DEADLINE_SECONDS="60",
    )
    records = [relay.data_world_dataset() for _ in range(count)]
    response = call(relay, "many", {"records": records})
    assert response.status_code == 200, response.text
    assert [result["dataset"] for result in response.json()["results"]] == records
    titles = [relay.cloud.data_world.datasets[record]["title"] for record in records]
    assert titles == [f"Title {number}" for number in range(count)]


# Failures


def test_update_that_fails_does_not_stop_the_other(relay: Relay) -> None:
    payload = create_payload(relay)
    del relay.cloud.apify.datasets[payload["dataset"]]
    response = call(relay, "both", payload)
    # Some senders disable a hook after a 4xx.
    assert response.status_code == 502
    assert response.headers["Content-Type"] == "application/json"
    assert "Retry-After" not in response.headers
    failed, done = response.json()["results"]
    assert (failed["status"], failed["problem"]["type"]) == (404, f"{TYPE_PREFIX}upstream-rejected")
    assert failed["problem"]["upstream"]["body"]["error"]["type"] == "record-or-token-not-found"
    assert (done["status"], done["body"]) == (200, {"message": "Dataset successfully updated."})
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["severity"], entry["outcome"], entry["status"]) == ("ERROR", "failed", 502)
    assert [(each["status"], each.get("problem")) for each in entry["updates"]] == [
        (404, "upstream-rejected"),
        (200, None),
    ]
    assert entry["problem"] == "upstream-rejected"


def test_update_whose_provider_hangs_does_not_hide_the_other(launch: Launch, cloud: Cloud, tmp_path: Path) -> None:
    relay = launch(
        RELAY_CONFIG=written(tmp_path, {"both": hook(APIFY_UPDATE, DATA_WORLD_UPDATE)}),
        HOOK_SECRET=HOOK_SECRET,
        RELAY_DEADLINE_SECONDS="5",
        **in_variables(cloud),
    )
    payload, response_arrived = create_payload(relay), threading.Event()

    def hang() -> Response:
        response_arrived.wait()
        return Response("{}", mimetype="application/json")

    relay.cloud.apify.instead[f"/datasets/{payload['dataset']}"] = hang
    try:
        response = call(relay, "both", payload)
    finally:
        response_arrived.set()
    late, done = response.json()["results"]
    assert (response.status_code, late["status"], done["status"]) == (503, 504, 200)
    assert late["problem"]["type"] == f"{TYPE_PREFIX}deadline-exceeded"
    assert late["problem"]["retryable"] is True


def test_update_with_a_fault_of_the_function_does_not_hide_the_other(launch: Launch, tmp_path: Path) -> None:
    relay = launch(
        FUNCTION_SOURCE=str(ROOT / "tests/support/faulty_function.py"),
        RELAY_CONFIG=written(tmp_path, {"both": hook(APIFY_UPDATE, DATA_WORLD_UPDATE)}),
        HOOK_SECRET=HOOK_SECRET,
        FAULTY_PROVIDER="apify",
        RELAY_DEADLINE_SECONDS="60",
    )
    response = call(relay, "both", create_payload(relay))
    assert response.status_code == 502
    failed, done = response.json()["results"]
    assert (failed["status"], failed["problem"]["type"]) == (500, f"{TYPE_PREFIX}internal-error")
    assert done["status"] == 200
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert "RuntimeError" in entry["stack_trace"]
    assert relay.cloud.apify_token not in relay.log_text()


# The status of the response

#: A response of a provider: the status, the headers, and the body.
ProviderResponse: TypeAlias = tuple[int, dict[str, str], str]

# A wait of 70 s or more doesn't fit into the deadline, so the function doesn't retry.
FINE: ProviderResponse = (200, {}, "{}")
UNINTELLIGIBLE: ProviderResponse = (200, {}, "<p>Hello</p>")
REJECTED: ProviderResponse = (404, {}, "{}")
DENIED: ProviderResponse = (401, {}, "{}")
LIMITED_70: ProviderResponse = (429, {"Retry-After": "70"}, "{}")
LIMITED_300: ProviderResponse = (429, {"Retry-After": "300"}, "{}")
DOWN_300: ProviderResponse = (503, {"Retry-After": "300"}, "{}")
IN_AN_HOUR = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
LIMITED_FOR_AN_HOUR: ProviderResponse = (429, {"Retry-After": IN_AN_HOUR}, "{}")


@pytest.mark.parametrize(
    ("apify", "data_world", "statuses", "status", "retry_after"),
    [
        (LIMITED_70, FINE, [429, 200], 503, 70),
        (LIMITED_70, LIMITED_300, [429, 429], 503, 300),
        (DOWN_300, LIMITED_70, [502, 429], 503, 300),
        # 5 s is the default for a problem without a wait.
        (REJECTED, UNINTELLIGIBLE, [404, 502], 503, 5),
        (UNINTELLIGIBLE, LIMITED_70, [502, 429], 503, 70),
        (REJECTED, DENIED, [404, 502], 502, None),
    ],
)
def test_updates_status_depends_on_all_outcomes(
    relay: Relay,
    apify: ProviderResponse,
    data_world: ProviderResponse,
    statuses: list[int],
    status: int,
    retry_after: int | None,
) -> None:
    response = call_with_responses(relay, apify, data_world)
    assert response.status_code == status
    assert [result["status"] for result in response.json()["results"]] == statuses
    assert response.headers.get("Retry-After") == (None if retry_after is None else str(retry_after))


def test_updates_retry_after_date_becomes_seconds(relay: Relay) -> None:
    response = call_with_responses(relay, LIMITED_FOR_AN_HOUR, REJECTED)
    assert response.status_code == 503
    # The function subtracts the present time: up to half an hour of delays doesn't change the outcome.
    assert 1800 < int(response.headers["Retry-After"]) <= 3600


def call_with_responses(relay: Relay, apify: ProviderResponse, data_world: ProviderResponse) -> requests.Response:
    """Send an event to the hook, for whose datasets the providers return these responses."""
    payload = create_payload(relay)
    for provider, dataset, (status, headers, body) in (
        (relay.cloud.apify, payload["dataset"], apify),
        (relay.cloud.data_world, payload["record"], data_world),
    ):
        provider.instead[f"/datasets/{dataset}"] = partial(Response, body, status, headers, mimetype="application/json")
    return call(relay, "both", payload)


# Tokens


def test_update_with_its_own_token_uses_that_token(launch: Launch, own_cloud: Cloud, tmp_path: Path) -> None:
    other_token = secret("other-token-")
    own_cloud.data_world.tokens[other_token] = "other"
    own_cloud.data_world.add("other/products")
    own_cloud.secret_manager.add_version(secret_name("other-data-world-token"), other_token)
    body = {"title": "{{ event.title }}"}
    hooks = {
        "own": hook(update("data.world", "other/products", body)),
        "other": hook(update("data.world", "other/products", body, token="other-data-world-token")),
    }
    relay = launch(
        on=own_cloud, RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=HOOK_SECRET, RELAY_DEADLINE_SECONDS="60"
    )
    denied = call(relay, "own", {"title": "x"})
    assert (denied.status_code, denied.json()["results"][0]["problem"]["upstream"]["status"]) == (502, 403)
    assert call(relay, "other", {"title": "y"}).status_code == 200
    assert own_cloud.data_world.calls[-1].headers["authorization"] == f"Bearer {other_token}"
    preview = call(relay, "other", {"title": "y"}, query="dry_run=true").json()
    assert preview["results"][0]["token"] == f"{secret_name('other-data-world-token')}/versions/1"


def test_update_without_a_token_stops_the_others(launch: Launch, tmp_path: Path) -> None:
    relay = launch(
        RELAY_CONFIG=written(tmp_path, {"both": hook(APIFY_UPDATE, DATA_WORLD_UPDATE)}),
        HOOK_SECRET=HOOK_SECRET,
        DATA_WORLD_TOKEN=None,
    )
    payload = create_payload(relay)
    problem = assert_problem(call(relay, "both", payload), 422, "invalid")
    assert list(problem["errors"]) == ["updates.1.provider"]
    assert apify_access(relay, payload) is None
    (warning,) = [json.loads(line) for line in relay.log_text().splitlines() if "Updates of hooks without" in line]
    assert warning["severity"] == "WARNING"
    assert warning["message"].endswith(
        ".yaml:10: hook both: updates.1: DATA_WORLD_TOKEN isn't set. Updates of hooks without a token: 1."
    )


def test_update_with_false_when_is_not_in_the_response(launch: Launch, tmp_path: Path) -> None:
    file = {"for": "file in event.files", "if": "file.publish", "name": "{{ file.name }}"}
    hooks = {
        "some": hook(
            update("apify", "{{ event.dataset }}", {"name": None}, when="event.branch == 'main'"),
            update("data.world", "acme/products", {"files": [file]}),
            update("data.world", "other/products", {"files": [file]}, when="event.branch"),
        ),
        "none": hook(update("apify", "abc", {"name": None}, when="event.branch == 'main'")),
    }
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=HOOK_SECRET)
    relay.cloud.data_world.add("acme/products")
    payload: dict[str, Any] = {
        "branch": "feature",
        "files": [{"name": "a", "publish": True}, {"name": "b", "publish": "true"}, {"name": "c", "publish": False}],
    }
    response = call(relay, "some", payload)
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    assert result["dataset"] == "acme/products"
    assert relay.cloud.data_world.datasets["acme/products"]["files"] == [{"name": "a"}]
    (line,) = [json.loads(line) for line in relay.log_text().splitlines() if '"warnings"' in line]
    assert line["severity"] == "WARNING"
    assert [warning.partition(" fails")[0] for warning in line["warnings"]] == [
        "updates.1.update.files.1.if",
        "The when condition of updates.2",
    ]
    ignored = call(relay, "none", payload)
    assert (ignored.status_code, ignored.json()) == (
        200,
        {"ignored": "The when condition of updates.0 is false for this event."},
    )
    payload["files"][0]["name"] = "a/b"
    problem = assert_problem(call(relay, "some", payload), 422, "invalid")
    assert list(problem["errors"]) == ["updates.1.update.files.0.name"]
    too_many = {**payload, "files": [{}] * 100_001}
    problem = assert_problem(call(relay, "some", too_many), 422, "invalid")
    assert list(problem["errors"]) == ["updates.1.update.files.0.for"]


def test_update_without_a_token_keeps_its_position_in_the_file(launch: Launch, tmp_path: Path) -> None:
    hooks = {
        "a": hook(
            update("apify", "abc", {"name": None}, when="false"), update("data.world", "acme/products", {"title": "x"})
        )
    }
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=HOOK_SECRET, DATA_WORLD_TOKEN=None)
    problem = assert_problem(call(relay, "a", {}), 422, "invalid")
    assert list(problem["errors"]) == ["updates.1.provider"]
