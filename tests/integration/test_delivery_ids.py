"""Tests of the delivery ID in the response to a native event."""

import json
import uuid
from typing import Any

import pytest

from tests.support.relay import JSON_TYPE, Relay, unique


def test_delivery_id_is_the_id_of_the_event(relay: Relay) -> None:
    event_id = unique("run")
    response = relay.post(relay.apify_event(id=event_id), headers={"webhook-id": "msg 7"})
    assert (response.status_code, response.headers["Relay-Delivery"]) == (200, event_id)


def test_delivery_id_is_the_id_of_an_invalid_event(relay: Relay) -> None:
    event_id = unique("run")
    response = relay.post(relay.apify_event(id=event_id, update={}))
    assert (response.status_code, response.headers["Relay-Delivery"]) == (422, event_id)


def test_delivery_id_falls_back_to_the_header(relay: Relay) -> None:
    response = relay.post(relay.apify_event(), headers={"webhook-id": "msg 7"})
    assert response.headers["Relay-Delivery"] == "msg 7"
    unauthenticated = relay.send(b"{}", headers={"Content-Type": JSON_TYPE, "webhook-id": "msg-8"})
    assert (unauthenticated.status_code, unauthenticated.headers["Relay-Delivery"]) == (401, "msg-8")


def test_delivery_id_falls_back_to_a_uuid(relay: Relay) -> None:
    assert uuid.UUID(relay.post(relay.apify_event()).headers["Relay-Delivery"]).version == 4
    assert uuid.UUID(relay.post(relay.apify_event(id=" ")).headers["Relay-Delivery"])


@pytest.mark.parametrize("header", ["x" * 201, "é"])
def test_delivery_id_unusable_header_is_ignored(relay: Relay, header: str) -> None:
    # requests sends bytes as they are, and refuses text outside of Latin-1.
    headers: dict[str, Any] = {"Content-Type": JSON_TYPE, **relay.bearer, "webhook-id": header.encode()}
    response = relay.send(json.dumps(relay.apify_event()), headers=headers)
    assert uuid.UUID(response.headers["Relay-Delivery"])
