"""The queue as the integration tests use it: pushes of Pub/Sub to a function."""

import base64
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from google.pubsub_v1 import PubsubMessage

from deploy.local.cloud import topic_name
from deploy.local.pubsub import PubSub
from tests.support.relay import JSON_TYPE, Relay

TOPICS = {"apify": topic_name("apify-updates"), "data.world": topic_name("data-world-updates")}
DEAD_LETTERS = topic_name("dead-letters")


def push_body(data: bytes, attributes: Mapping[str, str] | None = None, *, age: float = 0.0) -> dict[str, Any]:
    """Return the body of a push of a message that is `age` seconds old."""
    published = datetime.now(UTC) - timedelta(seconds=age)
    return {
        "message": {
            "data": base64.b64encode(data).decode(),
            "attributes": dict(attributes or {}),
            "messageId": f"{time.time_ns()}",
            "publishTime": published.isoformat().replace("+00:00", "Z"),
        },
        "subscription": "projects/local-project/subscriptions/apify-updates",
    }


def push(
    relay: Relay,
    message: PubsubMessage | bytes,
    *,
    token: str | None = None,
    age: float = 0.0,
    path: str = "/deliveries",
) -> requests.Response:
    """Push a message to the function, as Pub/Sub does."""
    data, attributes = (message, {}) if isinstance(message, bytes) else (message.data, dict(message.attributes))
    body = json.dumps(push_body(data, attributes, age=age))
    credential = relay.cloud.google.token() if token is None else token
    return relay.send(body, path=path, headers={"Content-Type": JSON_TYPE, "Authorization": f"Bearer {credential}"})


def message_of(relay: Relay, event: Mapping[str, Any], pubsub: PubSub) -> PubsubMessage:
    """Send a native event, and return its message in the queue."""
    response = relay.post(event)
    assert response.status_code == 202, response.text
    message: PubsubMessage = pubsub.messages[TOPICS[event["provider"]]][-1]
    return message


def dead_letters(pubsub: PubSub) -> list[tuple[str, dict[str, str]]]:
    """Return the data and the attributes of each dead letter."""
    return [(message.data.decode(), dict(message.attributes)) for message in pubsub.messages.get(DEAD_LETTERS, [])]
