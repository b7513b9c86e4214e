"""Tests of native events that arrive as CloudEvents: structured, binary, and in batches."""

import json
from typing import Any

import pytest

from tests.support.relay import Relay, assert_problem, unique

STRUCTURED = "application/cloudevents+json"


def create_envelope(relay: Relay, delivery_id: str) -> dict[str, Any]:
    """Return a structured CloudEvent."""
    return {
        "specversion": "1.0",
        "id": delivery_id,
        "source": "/pipelines/7",
        "type": "com.example.done",
        "time": "2026-11-22T08:30:00.123456789Z",
        "comexample": True,
        "datacontenttype": "application/json",
        "data": relay.apify_event(id="inner"),
    }


@pytest.mark.parametrize("content_type", [STRUCTURED, f"{STRUCTURED}; charset=UTF-8"])
def test_structured_cloud_event_id_names_the_delivery(relay: Relay, content_type: str) -> None:
    delivery_id = unique("run")
    response = relay.post(create_envelope(relay, delivery_id), headers={"Content-Type": content_type})
    assert response.status_code == 200
    assert response.headers["Relay-Delivery"] == delivery_id


def test_structured_cloud_event_with_invalid_attribute_is_invalid(relay: Relay) -> None:
    delivery_id = unique("run")
    envelope = {**create_envelope(relay, delivery_id), "source": ""}
    response = relay.post(envelope, headers={"Content-Type": STRUCTURED})
    assert list(assert_problem(response, 422, "invalid")["errors"]) == ["source"]
    assert response.headers["Relay-Delivery"] == delivery_id


def test_binary_cloud_event_id_names_the_delivery(relay: Relay) -> None:
    delivery_id = unique("run")
    headers = {"ce-specversion": "1.0", "ce-id": delivery_id, "ce-source": "/p", "ce-type": "done", "ce-extra": "x"}
    response = relay.post(relay.apify_event(id="inner"), headers=headers)
    assert response.status_code == 200
    assert response.headers["Relay-Delivery"] == delivery_id


def test_binary_cloud_event_without_source_is_invalid(relay: Relay) -> None:
    delivery_id = unique("run")
    headers = {"ce-specversion": "1.0", "ce-id": delivery_id, "ce-type": "done"}
    response = relay.post(relay.apify_event(id="inner"), headers=headers)
    assert list(assert_problem(response, 422, "invalid")["errors"]) == ["ce-source"]
    assert response.headers["Relay-Delivery"] == delivery_id


@pytest.mark.parametrize("content_type", ["application/json", "application/vnd.acme+json"])
def test_structured_cloud_event_sent_as_json_names_the_correct_content_type(relay: Relay, content_type: str) -> None:
    delivery_id = unique("run")
    response = relay.post(create_envelope(relay, delivery_id), headers={"Content-Type": content_type})
    problem = assert_problem(response, 422, "invalid")
    assert "Content-Type: application/cloudevents+json" in problem["detail"]
    assert problem["errors"] == {"specversion": [problem["detail"]]}
    assert response.headers["Relay-Delivery"] == delivery_id


def test_structured_cloud_event_sent_in_binary_mode_names_the_correct_content_type(relay: Relay) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": unique("run"), "ce-source": "/p", "ce-type": "done"}
    problem = assert_problem(relay.post(create_envelope(relay, "x"), headers=headers), 422, "invalid")
    assert list(problem["errors"]) == ["specversion"]


def test_structured_cloud_event_with_byte_order_mark_is_accepted(relay: Relay) -> None:
    delivery_id = unique("run")
    body = b"\xef\xbb\xbf" + json.dumps(create_envelope(relay, delivery_id)).encode()
    assert relay.send(body, headers={"Content-Type": STRUCTURED, **relay.bearer}).status_code == 200


def test_batch_of_cloud_events_is_rejected(relay: Relay) -> None:
    response = relay.post([], headers={"Content-Type": "application/cloudevents-batch+json"})
    assert_problem(response, 415, "unsupported-media-type")
