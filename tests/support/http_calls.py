"""Calls of the HTTP client, as its tests make them."""

import time
from collections.abc import Callable
from typing import Any

from handlers.deadline import Deadline
from handlers.delivery.http_client import HTTPClient
from handlers.providers.base import Request, Response
from tests.support.misbehaving import MisbehavingProvider

# In seconds: longer than any call takes that is expected to succeed, on any machine.
LONG = 60.0
TOKEN = "CANARY-token"

CreateClient = Callable[[str], HTTPClient]


def call(
    client: HTTPClient, provider: MisbehavingProvider, path: str = "/x", *, seconds: float = LONG, body: Any = None
) -> Response:
    """Send an update, and return the response."""
    request = Request("PUT", provider.url + path, body or {"a": 1})
    return client.send("apify", request, TOKEN, Deadline.after(seconds))


def port_of(url: str) -> int:
    """Return the port in a URL."""
    return int(url.rpartition(":")[2])


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` is true, and fail if that takes too long."""
    deadline = Deadline.after(LONG)
    while not condition():
        assert deadline.remaining(), "the condition did not become true"
        time.sleep(0.02)
