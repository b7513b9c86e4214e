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


@pytest.fixture(scope="module")
def hasty(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A function that gives up soon."""
    settings = {**cloud.settings(), **in_variables(cloud), "RELAY_DEADLINE_SECONDS": "0.5"}
    with running(cloud, settings, tmp_path_factory.mktemp("hasty")) as started:
        yield started


def answering(relay: Relay, response: Response) -> dict[str, Any]:
    """An event for a new Apify dataset, to which the platform will answer this."""
    dataset = relay.apify_dataset()
    relay.cloud.apify.instead[f"/datasets/{dataset}"] = lambda: response
    return {"provider": "apify", "dataset": dataset, "update": {"name": unique("x")}}


def platform_error(status: int, **headers: str) -> Response:
    body = json.dumps({"error": {"type": "some-type", "message": "Said the platform"}})
    return Response(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("status", [200, 201, 202, 203])
def test_success_is_handed_back(relay: Relay, status: int) -> None:
    body = '{"z": [1, "é", {"urlSigningSecretKey": "sign-me", "b": null}], "a": 1.5}'
    answer = relay.post(answering(relay, Response(body, status, content_type="text/plain")))
    assert answer.status_code == status
    assert answer.text == '{"z":[1,"é",{"b":null}],"a":1.5}'
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [200, 204, 205])
def test_an_empty_success_stays_empty(relay: Relay, status: int) -> None:
    answer = relay.post(answering(relay, Response(b"", status)))
    assert (answer.status_code, answer.content) == (status, b"")
    assert answer.headers["Relay-Delivery"]


@pytest.mark.parametrize("status", sorted(PASSED_ON))
def test_what_the_sender_can_mend_has_the_platforms_status(relay: Relay, status: int) -> None:
    answer = relay.post(answering(relay, platform_error(status)))
    problem = assert_problem(answer, status, "upstream-refused")
    assert problem["detail"] == f"Apify answered {status}: Said the platform"
    assert problem["upstream"] == {
        "status": status,
        "body": {"error": {"type": "some-type", "message": "Said the platform"}},
    }


@pytest.mark.parametrize(
    ("status", "name", "retryable"),
    [
        *[(status, "upstream-denied", False) for status in (401, 403, 406, 418, 451)],
        *[(status, "upstream-failed", True) for status in (408, 500, 502, 503, 504)],
        *[(status, "upstream-redirected", False) for status in (301, 302, 303, 304, 307, 308)],
    ],
)
def test_what_the_sender_cannot_mend_is_502(hasty: Relay, status: int, name: str, retryable: bool) -> None:
    location = {"Location": f"{hasty.cloud.apify.base_url}/elsewhere"} if 300 <= status < 400 else {}
    answer = hasty.post(answering(hasty, platform_error(status, **location)))
    assert_problem(answer, 502, name, retryable=retryable)
    assert hasty.cloud.apify.seen("/elsewhere") == []


def test_a_platform_that_asks_to_wait(hasty: Relay) -> None:
    answer = hasty.post(answering(hasty, platform_error(429, Retry_After="120")))
    assert_problem(answer, 429, "upstream-limited", retryable=True)
    assert answer.headers["Retry-After"] == "120"
    answer = hasty.post(answering(hasty, platform_error(429)))
    assert_problem(answer, 429, "upstream-limited", retryable=True)
    assert "Retry-After" not in answer.headers


def test_the_platforms_own_refusals(relay: Relay) -> None:
    taken = unique("taken")
    relay.apify_dataset(taken)
    event: dict[str, Any] = {"provider": "apify", "dataset": relay.apify_dataset(), "update": {"name": taken}}
    problem = assert_problem(relay.post(event), 400, "upstream-refused")
    assert problem["upstream"]["body"]["error"]["type"] == "name-not-unique"
    event["dataset"] = "NoSuchDatasetAnywh"
    assert "Dataset was not found" in assert_problem(relay.post(event), 404, "upstream-refused")["detail"]
    relay.cloud.data_world.add("others/products")
    event = {"provider": "data.world", "dataset": "others/products", "update": {"title": "x"}}
    problem = assert_problem(relay.post(event), 502, "upstream-denied")
    assert problem["upstream"]["status"] == 403


@pytest.mark.parametrize("body", [b"<html>It works!</html>", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100])
def test_nonsense(relay: Relay, body: bytes) -> None:
    answer = relay.post(answering(relay, Response(body, 200, content_type="application/json")))
    assert_problem(answer, 502, "upstream-failed", retryable=True)


def test_an_answer_on_each_side_of_10_mb(relay: Relay) -> None:
    limit = 10 * 1024 * 1024
    fitting = b'"' + b"x" * (limit - 2) + b'"'
    answer = relay.post(answering(relay, Response(fitting, 200)))
    assert (answer.status_code, answer.content) == (200, fitting)
    answer = relay.post(answering(relay, Response(fitting + b" ", 200)))
    problem = assert_problem(answer, 502, "upstream-failed", retryable=True)
    assert "10485760 bytes" in problem["detail"]


def test_what_the_platform_repeats_of_our_token(hasty: Relay) -> None:
    token = hasty.cloud.apify_token
    for status in (200, 400, 401, 500):
        for body in (json.dumps({"error": {"message": f"bad token {token}"}, token: [token]}), f"<p>{token}</p>"):
            answer = hasty.post(answering(hasty, Response(body, status)))
            assert token not in answer.text
            assert token not in str(answer.headers)
            assert "[redacted]" in answer.text


def test_what_the_platform_repeats_of_an_events_credentials(hasty: Relay) -> None:
    dataset = hasty.data_world_dataset()
    source = {
        "url": "https://me:hunter2@example.com/a.csv",
        "requestHeaders": {"Authorization": "Bearer tok-98765", "Cookie": "sid=cookie-123"},
        "credentials": {"user": "someuser", "password": 'sword"fish'},
        "authorization": {"type": "Custom", "credentials": "cred-1234"},
    }
    event = {"provider": "data.world", "dataset": dataset, "update": {"files": [{"name": "a.csv", "source": source}]}}
    for status in (200, 422, 500):
        for body in (
            json.dumps({"message": "said", "echo": event}),
            json.dumps({"message": f"not valid: {json.dumps(event)}"}),
            f"not valid: {json.dumps(event)}",
        ):
            hasty.cloud.data_world.instead[f"/datasets/{dataset}"] = partial(Response, body, status)
            answer = hasty.post(event)
            for secret in ("hunter2", "tok-98765", "cookie-123", "fish", "cred-1234", "someuser"):
                assert secret not in answer.text, (status, body)
    assert "hunter2" not in hasty.log_text()


def test_many_credentials_cost_no_short_answer(relay: Relay) -> None:
    credentials = [{"user": f"user{number}", "password": f"password-{number}"} for number in range(300)]
    files = [
        {"name": f"{number}", "source": {"url": "https://example.com", "credentials": each}}
        for number, each in enumerate(credentials)
    ]
    event = {"provider": "data.world", "dataset": relay.data_world_dataset(), "update": {"files": files}}
    assert relay.post(event).json() == {"message": "Dataset successfully updated."}


@pytest.mark.parametrize(
    "repeated",
    [
        "token hunter22x",
        "dG9rOmh1bnRlcjIyeA==",
        "user=tok&amp;pass=hunter%32%32x",
        json.dumps(json.dumps('"hunter\\u00322x"')),
        "hunter22x".encode("utf-16").decode("latin-1"),
    ],
)
def test_a_credential_of_any_shape_however_it_is_repeated(hasty: Relay, repeated: str) -> None:
    for credential in ("tok:hunter22x", "Bearer hunter22x", "dG9rOmh1bnRlcjIyeA=="):
        dataset = hasty.data_world_dataset()
        source = {"url": "https://example.com", "authorization": {"type": "x", "credentials": credential}}
        event = {"provider": "data.world", "dataset": dataset, "update": {"files": [{"name": "a", "source": source}]}}
        body = repeated.encode("latin-1")
        hasty.cloud.data_world.instead[f"/datasets/{dataset}"] = partial(Response, body, 500)
        said = hasty.post(event).json()["upstream"]["body"]
        assert "[redacted]" in said
        assert "hunter" not in said


def test_an_event_with_more_credentials_than_can_be_looked_for(relay: Relay) -> None:
    """Looking for sixty thousand passwords in an answer would take minutes, and hold up everybody else."""
    passwords = [f"pw{number:06}" for number in range(60_000)]
    event = {
        "provider": "data.world",
        "dataset": relay.data_world_dataset(),
        "update": {"properties": {"password": passwords}},
    }
    began = time.monotonic()
    answer = relay.post(event)
    assert (answer.status_code, answer.json()) == (200, {"message": "Dataset successfully updated."})
    assert relay.post(event, path="/?dry_run=true").json()["request"]["body"] == "[redacted]"
    assert time.monotonic() - began < 5


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
