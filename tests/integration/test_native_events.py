"""Tests of native events: one update of one dataset, from the event to the response."""

import json

import pytest
import requests

from tests.support.relay import Relay, assert_problem, unique


def send(relay: Relay, body: bytes, path: str = "/") -> requests.Response:
    """Send the body of an event unchanged."""
    return relay.send(body, path=path, headers={"Content-Type": "application/json", **relay.bearer})


def test_native_event_for_apify_sends_put(relay: Relay) -> None:
    dataset, name = relay.apify_dataset(), unique("products")
    event = {
        "provider": "apify",
        "dataset": dataset,
        "update": {"generalAccess": "ANYONE_WITH_NAME_CAN_READ", "name": name},
    }
    response = relay.post(event)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    record = relay.cloud.apify.datasets[dataset]
    assert record["name"] == name
    assert record["generalAccess"] == "ANYONE_WITH_NAME_CAN_READ"
    assert response.json()["data"] == {key: value for key, value in record.items() if key != "urlSigningSecretKey"}
    (call,) = relay.cloud.apify.seen(f"/datasets/{dataset}")
    assert (call.method, call.query) == ("PUT", "")
    assert call.headers["authorization"] == f"Bearer {relay.cloud.apify_token}"
    assert call.headers["content-type"] == "application/json"
    assert call.body == json.dumps(event["update"], separators=(",", ":")).encode()


def test_native_event_with_null_removes_the_name(relay: Relay) -> None:
    name = unique("named")
    dataset = relay.apify_dataset(name)
    response = relay.post({"provider": "apify", "dataset": f"jane~{name}", "update": {"name": None}})
    assert response.status_code == 200
    assert relay.cloud.apify.datasets[dataset]["name"] is None
    (call,) = relay.cloud.apify.seen(f"/datasets/jane~{name}")
    assert call.body == b'{"name":null}'


def test_native_event_for_data_world_sends_patch(relay: Relay) -> None:
    dataset = relay.data_world_dataset()
    update = {
        "properties": {"z": 1, "a": {"ü": [1.5, None, True, -0.0, 10**25]}},
        "title": "Products 💶",
        "summary": "# Größe\n\n価格\u2028\n",
        "files": [{"name": "a.csv", "labels": ["clean data"], "source": {"url": "https://example.com/a.csv"}}],
        "tags": [],
    }
    response = relay.post({"provider": "data.world", "dataset": dataset, "update": update})
    assert response.status_code == 200
    assert response.json() == {"message": "Dataset successfully updated."}
    (call,) = relay.cloud.data_world.seen(f"/datasets/{dataset}")
    assert call.method == "PATCH"
    assert call.headers["authorization"] == f"Bearer {relay.cloud.data_world_token}"
    assert call.body == json.dumps(update, separators=(",", ":"), ensure_ascii=False).encode()
    record = relay.cloud.data_world.datasets[dataset]
    assert {key: record[key] for key in update} == update
    assert record["visibility"] == "PRIVATE"


def test_native_event_numbers_reach_the_provider_as_sent(relay: Relay) -> None:
    dataset = relay.data_world_dataset()
    update = b'{"properties":{"a":-0,"b":[1.0,1e2,1E+2,-0.0,1.50],"c":12345678901234567890.123,"d":1E-7}}'
    event = f'{{"provider":"data.world","dataset":"{dataset}","update":'.encode() + update + b"}"
    preview = send(relay, event, path="/?dry_run=true")
    assert b'"body":' + update in preview.content
    assert send(relay, event).status_code == 200
    (call,) = relay.cloud.data_world.seen(f"/datasets/{dataset}")
    assert call.body == update


def test_native_event_with_byte_order_mark_is_accepted(relay: Relay) -> None:
    assert send(relay, b"\xef\xbb\xbf" + json.dumps(relay.apify_event()).encode()).status_code == 200


@pytest.mark.parametrize("levels", [1, 2])
def test_native_event_in_a_json_string_is_invalid_and_names_the_correct_form(relay: Relay, levels: int) -> None:
    body = json.dumps(relay.apify_event())
    for _ in range(levels):
        body = json.dumps(body)
    problem = assert_problem(send(relay, body.encode()), 400, "invalid-json")
    assert problem["detail"] == (
        "The JSON must be an object, not a string with JSON inside. "
        'Send the object itself: {"provider": …}, without quotes around it and without backslashes.'
    )


@pytest.mark.parametrize("value", ["NaN", "1E400", "1e-400", "9" * 5000, '"\\ud800"', '{"a": 1, "a": 1}'])
def test_native_event_value_that_json_does_not_have_is_invalid(relay: Relay, value: str) -> None:
    event = json.dumps(relay.apify_event())[:-1] + f', "id": {value}}}'
    assert_problem(send(relay, event.encode()), 400, "invalid-json")


def test_native_event_response_sets_no_cookie(relay: Relay) -> None:
    response = relay.post(relay.apify_event())
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
