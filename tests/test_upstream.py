"""What the platforms may answer, and what the sender then gets: the function's side of the call, end to end."""

import base64
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Response

from deploy.local.cloud import Cloud
from handlers.providers.call import PASSED_ON
from tests.conftest import Launch, Relay, assert_problem, in_variables, running, unique
from tests.misbehaving import Misbehaving, answer, says

EVENT = {"provider": "apify", "dataset": "jane~a", "update": {"name": "b"}}


# What must have no say


def test_netrc_and_cookies_have_no_say(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login someone password something\n")
    (tmp_path / ".netrc").chmod(0o600)
    relay = launch(HOME=str(tmp_path), NETRC=str(tmp_path / ".netrc"))
    dataset = relay.apify_dataset()
    path = f"/datasets/{dataset}"
    relay.cloud.apify.instead[path] = lambda: Response("{}", 200, {"Set-Cookie": "sid=1; Path=/"})
    for _ in range(2):
        assert relay.post({"provider": "apify", "dataset": dataset, "update": {"name": "x"}}).status_code == 200
    for call in relay.cloud.apify.seen(path):
        assert call.headers["authorization"] == f"Bearer {relay.cloud.apify_token}"
        assert "cookie" not in call.headers


def test_a_proxy_of_the_environment_is_used(launch: Launch) -> None:
    """Some networks have no other way out; the proxy of this test is no proxy, and says so."""
    proxy = Misbehaving(otherwise=says(answer(418, b""))).start()
    named = proxy.url.replace("://", "://jane:pa55word@")
    relay = launch(HTTP_PROXY=named, http_proxy=named, NO_PROXY="", no_proxy="")
    assert_problem(relay.post(EVENT), 502, "upstream-denied")
    ((_, (received,)),) = proxy.requests.items()
    assert received.startswith(b"PUT http://127.0.0.1:")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"jane:pa55word") in received
    spared = launch(HTTP_PROXY=proxy.url, http_proxy=proxy.url, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    assert_problem(spared.post(EVENT), 404, "upstream-refused")
    assert len(proxy.requests) == 1
    proxy.stop()


def test_connections_are_kept(launch: Launch) -> None:
    platform = Misbehaving().start()
    relay = launch(APIFY_BASE_URL=platform.url)
    for _ in range(5):
        assert relay.post(EVENT).status_code == 200
    assert platform.connections == 1
    platform.stop()
