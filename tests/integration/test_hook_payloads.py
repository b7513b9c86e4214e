"""Tests of the payloads of hooks: the request, the events that a hook ignores, and the updates that a hook makes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cloud import Cloud
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

BEARER = {"Authorization": f"Bearer {HOOK_SECRET}"}

#: The values of an update with each kind of template.
TYPES = {
    "tags": "{{ event.tags }}",
    "properties": {
        "count": "{{ event.count }}",
        "text": "n={{ event.count }}",
        "digits": "{{ event.digits }}",
        "whole": "{{ event }}",
        "header": "{{ headers['x-run'] }}",
        "plain": 1.5,
    },
}


@pytest.fixture(scope="module")
def relay(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function with hooks for the tests of this module."""
    hooks = {
        "apify-only": hook(APIFY_UPDATE),
        "both": hook(APIFY_UPDATE, DATA_WORLD_UPDATE),
        "when": hook(APIFY_UPDATE, when="event.status == 'done' and event.count > 3"),
        "publish": hook(APIFY_UPDATE, when="event.publish"),
        "list": hook(update("apify", "{{ event[0].dataset }}", {"generalAccess": "RESTRICTED"})),
        "types": hook(update("data.world", "{{ event.record }}", TYPES)),
        **{
            sender: hook(APIFY_UPDATE, sender=sender)
            for sender in ("github", "fivetran", "buildkite", "apify", "circleci")
        },
    }
    with running_with_hooks(cloud, tmp_path_factory.mktemp("hooks"), hooks) as started:
        yield started


# The request


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_hook_unknown_name_is_not_found(relay: Relay, method: str) -> None:
    assert_problem(relay.send(b"", method=method, path="/hooks/unknown"), 404, "not-found")
    assert_problem(relay.send(b"", method=method, path="/hooks"), 404, "not-found")


def test_hook_wrong_method_is_405(relay: Relay) -> None:
    response = relay.send(b"", method="GET", path="/hooks/both")
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == "POST"


def test_hook_path_with_a_slash_at_the_end_is_the_same(relay: Relay) -> None:
    response = relay.send(json.dumps(create_payload(relay)), path="/hooks/apify-only/", headers=BEARER)
    assert response.status_code == 200


def test_hook_unknown_query_parameter_is_ignored(relay: Relay) -> None:
    assert call(relay, "apify-only", create_payload(relay), query="run=17&page=1").status_code == 200


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/octet-stream", "application/json;charset=x"])
def test_hook_body_of_any_media_type_is_read_as_json(relay: Relay, content_type: str | None) -> None:
    headers = {**BEARER, **({"Content-Type": content_type} if content_type else {})}
    response = relay.send(json.dumps(create_payload(relay)), path="/hooks/apify-only", headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_hook_form_is_415_and_names_the_setting(relay: Relay, content_type: str) -> None:
    response = call(relay, "github", b"payload=%7B%7D", sender="github", headers={"Content-Type": content_type})
    problem = assert_problem(response, 415, "unsupported-media-type")
    assert "set the content type of the webhook to application/json" in problem["detail"]


def test_hook_compressed_body_is_415(relay: Relay) -> None:
    response = call(relay, "apify-only", {}, headers={"Content-Encoding": "gzip"})
    assert_problem(response, 415, "unsupported-content-encoding")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"payload=%7B%7D", b"[" * 65 + b"]" * 65, b'"\xff"', '{"a":1}'.encode("utf-16"), b"{'a': 1}"]
)
def test_hook_body_that_is_no_json_is_invalid(relay: Relay, body: bytes) -> None:
    assert_problem(call(relay, "apify-only", body), 400, "invalid-json")


# The function does not validate a payload.


UNUSED = [
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1e-400", b"9" * 5000, b'"\\ud800"', b'{"\\udfff": 1}',
    b'{"a": 1, "a": 2}',
]  # fmt: skip


@pytest.mark.parametrize("value", UNUSED)
def test_hook_unused_value_that_json_does_not_have_passes(relay: Relay, value: bytes) -> None:
    payload = create_payload(relay)
    body = json.dumps(payload).encode()[:-1] + b', "unused": [' + value + b"]}"
    (result,) = call(relay, "apify-only", body).json()["results"]
    assert result["status"] == 200
    assert apify_access(relay, payload) == "RESTRICTED"


@pytest.mark.parametrize("value", [value for value in UNUSED if b'"a"' not in value])
def test_hook_used_value_that_json_does_not_have_is_invalid_with_its_path(relay: Relay, value: bytes) -> None:
    payload = create_payload(relay, tags=[], digits="")
    calls = len(relay.cloud.data_world.calls)
    body = json.dumps(payload).encode()[:-1] + b', "count": ' + value + b"}"
    response = call(relay, "types", body, headers={"X-Run": "r-1"})
    paths = {f"updates.0.update.properties.{name}" for name in ("count", "text", "whole")}
    problem = assert_problem(response, 422, "invalid")
    assert set(problem["errors"]) == paths
    assert len(relay.cloud.data_world.calls) == calls
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["errors"]) == ("rejected", problem["errors"])


def test_hook_duplicate_key_the_last_counts(relay: Relay) -> None:
    payload = create_payload(relay, access="RESTRICTED")
    body = b'{"access": "OPEN", ' + json.dumps(payload).encode()[1:]
    assert call(relay, "apify-only", body).json()["results"][0]["status"] == 200
    assert apify_access(relay, payload) == "RESTRICTED"


def test_hook_payload_that_is_a_list_sends_the_update(relay: Relay) -> None:
    payload = create_payload(relay)
    assert call(relay, "list", [payload]).json()["results"][0]["status"] == 200
    assert apify_access(relay, payload) == "RESTRICTED"


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"{}"', b"NaN"])
def test_hook_payload_of_any_type_is_read(relay: Relay, body: bytes) -> None:
    reason = "The hook's when condition is false for this event: event.status is missing."
    assert call(relay, "when", body).json() == {"ignored": reason}
    problem = assert_problem(call(relay, "apify-only", body), 422, "invalid")
    assert problem["errors"]["updates.0.dataset"] == ["event.dataset is missing."]


def test_hook_byte_order_mark_is_ignored(relay: Relay) -> None:
    payload = create_payload(relay)
    response = call(relay, "apify-only", b"\xef\xbb\xbf" + json.dumps(payload).encode())
    assert response.json()["results"][0]["status"] == 200


def test_hook_numbers_reach_the_provider_as_sent(relay: Relay) -> None:
    payload = create_payload(relay, tags=[], digits="")
    numbers = b"[-0,1e2,1E+2,1.50,12345678901234567890.123]"
    body = json.dumps(payload).encode()[:-1] + b', "count": ' + numbers + b"}"
    response = call(relay, "types", body, headers={"X-Run": "r-1"})
    assert response.status_code == 200, response.text
    (sent,) = relay.cloud.data_world.seen(f"/datasets/{payload['record']}")
    assert b'"count":' + numbers + b',"text":"n=' + numbers + b'"' in sent.body


# Ignored events


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"status": "failed", "count": 9}, "The hook's when condition is false for this event."),
        ({"status": "done", "count": 3}, "The hook's when condition is false for this event."),
        ({"status": "done"}, "The hook's when condition is false for this event: event.count is missing."),
        ({}, "The hook's when condition is false for this event: event.status is missing."),
    ],
)
def test_when_false_ignores_the_event(relay: Relay, values: dict[str, Any], reason: str) -> None:
    payload = create_payload(relay, **values)
    response = call(relay, "when", payload)
    assert (response.status_code, response.json()) == (200, {"ignored": reason})
    assert apify_access(relay, payload) is None
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["severity"], entry["outcome"]) == ("INFO", "ignored")
    assert entry["message"] == f"POST /hooks/when: {reason}"


def test_when_with_a_similar_name_ignores_the_event_with_a_hint_and_a_warning(relay: Relay) -> None:
    response = call(relay, "when", create_payload(relay, Status="done"))
    reason = "The hook's when condition is false for this event: event.status is missing; did you mean event.Status?"
    assert (response.status_code, response.json()) == (200, {"ignored": reason})
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["severity"], entry["outcome"]) == ("WARNING", "ignored")


@pytest.mark.parametrize(
    ("value", "kind", "comparison"),
    [
        ("false", "text", 'event.x == "true"'),
        ("true", "text", 'event.x == "true"'),
        (1, "a number", "event.x == 1"),
        (None, "null", "event.x is not none"),
        ([True], "a list", "event.x | length > 0"),
        (False, None, None),
    ],
)
def test_when_that_is_not_true_ignores_the_event(
    relay: Relay, value: Any, kind: str | None, comparison: str | None
) -> None:
    payload = create_payload(relay, publish=value)
    response = call(relay, "publish", payload)
    assert response.status_code == 200
    reason = response.json()["ignored"]
    assert apify_access(relay, payload) is None
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert entry["severity"] == ("WARNING" if kind else "INFO")
    if kind:
        assert f"The result is {kind}, not true or false. Compare the value, as in: {comparison}." in reason
        assert entry["message"] == f"POST /hooks/publish: {reason}"


def test_when_true_sends_the_update(relay: Relay) -> None:
    payload = create_payload(relay, status="done", count=4)
    assert call(relay, "when", payload).json()["results"][0]["status"] == 200
    assert apify_access(relay, payload) == "RESTRICTED"


def test_when_that_fails_ignores_the_event_with_a_warning(relay: Relay) -> None:
    payload = create_payload(relay, status="done", count="many")
    response = call(relay, "when", payload)
    assert response.status_code == 200
    assert "The hook's when condition fails on this event and so counts as false" in response.json()["ignored"]
    assert apify_access(relay, payload) is None
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["severity"], entry["outcome"]) == ("WARNING", "ignored")
    assert "many" not in json.dumps(entry)


@pytest.mark.parametrize(
    ("sender", "payload", "headers"),
    [
        ("github", {"zen": "Simple is better.", "hook_id": 1}, {"X-GitHub-Event": "ping"}),
        ("fivetran", {"event": "test_event", "created": "timestamp", "connector_id": "c"}, {}),
        ("buildkite", {"event": "ping", "service": {"id": "s"}}, {}),
        ("apify", {"eventType": "TEST", "resource": {}}, {}),
        ("circleci", {"type": "ping", "webhook": {"id": "w"}}, {}),
    ],
)
def test_test_message_of_a_sender_is_ignored(
    relay: Relay, sender: str, payload: dict[str, Any], headers: dict[str, str]
) -> None:
    response = call(relay, sender, payload, sender=sender, headers=headers)
    assert (response.status_code, response.json()) == (200, {"ignored": f"This is a test message of {sender}."})
    unauthenticated = relay.send(json.dumps(payload), path=f"/hooks/{sender}", headers=headers)
    assert_problem(unauthenticated, 401, "unauthenticated")


# The updates


def test_update_values_keep_their_types(relay: Relay) -> None:
    payload = create_payload(
        relay, tags=["one", "two"], count=10**20, digits="0123", nested={"ü": [None, 1.5, "{{ 7 * 7 }}"]}
    )
    response = call(relay, "types", payload, headers={"X-Run": "r-1"})
    assert response.status_code == 200, response.text
    (sent,) = relay.cloud.data_world.seen(f"/datasets/{payload['record']}")
    assert sent.json == {
        "tags": ["one", "two"],
        "properties": {
            "count": 10**20,
            "text": f"n={10**20}",
            "digits": "0123",
            "whole": payload,
            "header": "r-1",
            "plain": 1.5,
        },
    }


def test_update_whose_template_fails_sends_nothing(relay: Relay) -> None:
    payload = create_payload(relay)
    del payload["at"]
    response = call(relay, "both", payload)
    problem = assert_problem(response, 422, "invalid")
    assert problem["errors"] == {"updates.1.update.summary": ["event.at is missing."]}
    assert apify_access(relay, payload) is None
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["errors"]) == ("rejected", problem["errors"])


def test_update_that_breaks_a_rule_sends_nothing(relay: Relay) -> None:
    payload = create_payload(relay, access="OPEN", record="no slash")
    problem = assert_problem(call(relay, "both", payload), 422, "invalid")
    assert set(problem["errors"]) == {"updates.0.update.generalAccess", "updates.1.dataset"}
    assert problem["errors"]["updates.0.update.generalAccess"][0].startswith("Must be one of: ")
    assert apify_access(relay, payload) is None


@pytest.mark.parametrize("dataset", [None, 1.5, ["a"], {"a": 1}, "../users", "a/b?x=1", ""])
def test_update_dataset_that_leads_to_another_path_sends_nothing(relay: Relay, dataset: Any) -> None:
    calls = len(relay.cloud.apify.calls)
    response = call(relay, "apify-only", {"dataset": dataset})
    assert list(assert_problem(response, 422, "invalid")["errors"]) == ["updates.0.dataset"]
    assert len(relay.cloud.apify.calls) == calls


def test_update_dataset_that_is_a_number_becomes_text(relay: Relay) -> None:
    relay.cloud.apify.add("jane", dataset_id="1234567")
    (result,) = call(relay, "apify-only", {"dataset": 1234567}).json()["results"]
    assert (result["dataset"], result["status"]) == ("1234567", 200)


def test_log_line_of_a_huge_reference_stays_short(relay: Relay) -> None:
    # The reference is valid, but no server accepts a URL of this length.
    response = call(relay, "both", create_payload(relay, record="acme/" + "a" * 300_000))
    assert response.status_code == 502
    assert len(json.dumps(relay.logged(response.headers["Relay-Delivery"]))) < 4_000


@pytest.mark.parametrize(
    ("sent", "expected"),
    [("Größe 💶".encode(), "Größe 💶"), ("Größe".encode("latin-1"), "Größe"), (b"plain", "plain")],
)
def test_header_is_read_as_utf_8_and_otherwise_as_latin_1(
    launch: Launch, tmp_path: Path, sent: bytes, expected: str
) -> None:
    title = "{{ headers['x-title'] }}, {{ headers['x-run'] | default('none') }}"
    hooks = {"build": hook(update("data.world", "acme/products", {"title": title}))}
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET="CANARY-hook-secret")
    # The server drops a header whose name contains an underscore.
    headers: dict[str, Any] = {"X-Title": sent, "X_Run": "77"}
    preview = call(relay, "build", {}, headers=headers, query="dry_run=true").json()
    assert preview["results"][0]["request"]["body"] == {"title": f"{expected}, none"}
