"""Tests of the responses of providers, and of the responses that the sender gets for them."""

import base64
import json
from functools import partial
from typing import Any

import pytest
from flask import Response

from handlers.providers.base import PASSED_THROUGH
from tests.support.canary import secret
from tests.support.relay import Relay, assert_problem, unique

# The providers of the tests request a wait that doesn't fit into the deadline. Thus, the function doesn't retry.
LONG_WAIT = {"Retry-After": "1000"}


def create_event(relay: Relay, response: Response) -> dict[str, Any]:
    """Return an event for a new Apify dataset, for which the provider returns `response`."""
    dataset = relay.apify_dataset()
    relay.cloud.apify.instead[f"/datasets/{dataset}"] = lambda: response
    return {"provider": "apify", "dataset": dataset, "update": {"name": unique("x")}}


def create_error(status: int, headers: dict[str, str] | None = None) -> Response:
    """Return an error of Apify."""
    body = json.dumps({"error": {"type": "some-type", "message": "Not like this."}})
    return Response(body, status, headers)


@pytest.mark.parametrize("status", [200, 201, 202, 203])
def test_provider_success_is_returned(relay: Relay, status: int) -> None:
    body = '{"z": [1, "é", {"urlSigningSecretKey": "sign-me", "b": null}], "a": 1.5}'
    response = relay.post(create_event(relay, Response(body, status, content_type="text/plain")))
    assert response.status_code == status
    assert response.text == '{"z":[1,"é",{"b":null}],"a":1.5}'
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [200, 204, 205])
def test_provider_empty_success_stays_empty(relay: Relay, status: int) -> None:
    response = relay.post(create_event(relay, Response(b"", status)))
    assert (response.status_code, response.content) == (status, b"")
    assert response.headers["Relay-Delivery"]


@pytest.mark.parametrize("status", sorted(PASSED_THROUGH))
def test_provider_error_of_the_sender_keeps_its_status(relay: Relay, status: int) -> None:
    response = relay.post(create_event(relay, create_error(status)))
    problem = assert_problem(response, status, "upstream-rejected")
    assert problem["detail"] == f"Apify returned {status}: Not like this."
    assert problem["upstream"] == {
        "status": status,
        "body": {"error": {"type": "some-type", "message": "Not like this."}},
    }


@pytest.mark.parametrize(
    ("status", "name", "retryable"),
    [
        *[(status, "upstream-denied", False) for status in (401, 403, 406, 418, 451)],
        *[(status, "upstream-failed", True) for status in (408, 500, 502, 503, 504)],
    ],
)
def test_provider_other_error_is_502(relay: Relay, status: int, name: str, retryable: bool) -> None:
    response = relay.post(create_event(relay, create_error(status, LONG_WAIT)))
    problem = assert_problem(response, 502, name, retryable=retryable)
    assert problem["detail"] == f"Apify returned {status}: Not like this."


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_provider_redirect_is_not_followed(relay: Relay, status: int) -> None:
    location = f"{relay.cloud.apify.base_url}/elsewhere"
    response = relay.post(create_event(relay, create_error(status, {"Location": location})))
    problem = assert_problem(response, 502, "upstream-redirected")
    assert problem["detail"] == f"Apify returned the redirect {status}. The function never follows a redirect."
    assert relay.cloud.apify.seen("/elsewhere") == []


@pytest.mark.parametrize("status", [429, 503])
def test_provider_retry_after_is_returned(relay: Relay, status: int) -> None:
    response = relay.post(create_event(relay, create_error(status, LONG_WAIT)))
    name, shown = ("upstream-rate-limited", 429) if status == 429 else ("upstream-failed", 502)
    assert_problem(response, shown, name, retryable=True)
    assert response.headers["Retry-After"] == LONG_WAIT["Retry-After"]


def test_provider_own_rules_are_reported(relay: Relay) -> None:
    taken = unique("taken")
    relay.apify_dataset(taken)
    event: dict[str, Any] = {"provider": "apify", "dataset": relay.apify_dataset(), "update": {"name": taken}}
    problem = assert_problem(relay.post(event), 400, "upstream-rejected")
    assert problem["upstream"]["body"]["error"]["type"] == "name-not-unique"
    event["dataset"] = "NoSuchDatasetAnywh"
    assert "Dataset was not found" in assert_problem(relay.post(event), 404, "upstream-rejected")["detail"]
    relay.cloud.data_world.add("others/products")
    event = {"provider": "data.world", "dataset": "others/products", "update": {"title": "x"}}
    problem = assert_problem(relay.post(event), 502, "upstream-denied")
    assert problem["upstream"]["status"] == 403


@pytest.mark.parametrize("body", [b"<html>It works!</html>", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100])
def test_provider_success_without_json_is_a_failure(relay: Relay, body: bytes) -> None:
    response = relay.post(create_event(relay, Response(body, 200, content_type="application/json")))
    assert_problem(response, 502, "upstream-failed", retryable=True)


def test_provider_response_on_each_side_of_10_mb(relay: Relay) -> None:
    limit = 10 * 1024 * 1024
    small_enough = b'"' + b"x" * (limit - 2) + b'"'
    response = relay.post(create_event(relay, Response(small_enough, 200)))
    assert response.status_code == 200
    # The search for credentials in a long response can exceed its budget.
    assert response.content in (small_enough, b'"[redacted]"')
    response = relay.post(create_event(relay, Response(small_enough + b" ", 200)))
    problem = assert_problem(response, 502, "upstream-failed", retryable=True)
    assert "10485760 bytes" in problem["detail"]


@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("is_json", [True, False])
def test_provider_response_with_the_token_is_redacted(relay: Relay, status: int, is_json: bool) -> None:
    token = relay.cloud.apify_token
    body = json.dumps({"error": {"message": f"bad token {token}"}, token: [token]}) if is_json else f"<p>{token}</p>"
    response = relay.post(create_event(relay, Response(body, status, LONG_WAIT)))
    assert token not in response.text
    assert token not in str(response.headers)
    assert "[redacted]" in response.text


@pytest.mark.parametrize("status", [200, 422, 500])
@pytest.mark.parametrize("form", ["json", "json in a message", "text"])
def test_provider_response_with_credentials_of_the_event_is_redacted(relay: Relay, status: int, form: str) -> None:
    dataset = relay.data_world_dataset()
    credentials = {name: secret(f"{name}-") for name in ("userinfo", "token", "cookie", "user", "custom")}
    password = f'{secret("sword-")}"fish'
    source = {
        "url": f"https://me:{credentials['userinfo']}@example.com/a.csv",
        "requestHeaders": {
            "Authorization": f"Bearer {credentials['token']}",
            "Cookie": f"sid={credentials['cookie']}",
        },
        "credentials": {"user": credentials["user"], "password": password},
        "authorization": {"type": "Custom", "credentials": credentials["custom"]},
    }
    event = {"provider": "data.world", "dataset": dataset, "update": {"files": [{"name": "a.csv", "source": source}]}}
    bodies = {
        "json": json.dumps({"message": "Not like this.", "echo": event}),
        "json in a message": json.dumps({"message": f"not valid: {json.dumps(event)}"}),
        "text": f"not valid: {json.dumps(event)}",
    }
    relay.cloud.data_world.instead[f"/datasets/{dataset}"] = partial(Response, bodies[form], status, LONG_WAIT)
    response = relay.post(event)
    for credential in (*credentials.values(), "fish"):
        assert credential not in response.text
    assert credentials["userinfo"] not in relay.log_text()


@pytest.mark.parametrize("scheme", ["user and password", "bearer", "basic"])
@pytest.mark.parametrize("encoding", ["plain", "base64", "url", "json", "utf-16"])
def test_provider_response_with_an_encoded_credential_is_redacted(relay: Relay, scheme: str, encoding: str) -> None:
    password = secret("hunter")
    basic = base64.b64encode(f"tok:{password}".encode()).decode()
    credential = {"user and password": f"tok:{password}", "bearer": f"Bearer {password}", "basic": basic}[scheme]
    last = password[-1]
    body = {
        "plain": f"token {password}",
        "base64": basic,
        "url": f"user=tok&amp;pass={password[:-1]}%{ord(last):02x}",
        "json": json.dumps(json.dumps(f'"{password[:-1]}\\u{ord(last):04x}"')),
        "utf-16": password.encode("utf-16").decode("latin-1"),
    }[encoding]
    dataset = relay.data_world_dataset()
    source = {"url": "https://example.com", "authorization": {"type": "x", "credentials": credential}}
    event = {"provider": "data.world", "dataset": dataset, "update": {"files": [{"name": "a", "source": source}]}}
    relay.cloud.data_world.instead[f"/datasets/{dataset}"] = partial(Response, body.encode("latin-1"), 500, LONG_WAIT)
    shown = relay.post(event).json()["upstream"]["body"]
    assert "[redacted]" in shown
    assert "hunter" not in shown


def test_event_with_200_credentials_gets_the_whole_response(relay: Relay) -> None:
    files = [
        {
            "name": f"{number}",
            "source": {
                "url": "https://example.com",
                "credentials": {"user": secret(f"user{number}-"), "password": secret(f"password{number}-")},
            },
        }
        for number in range(100)
    ]
    event = {"provider": "data.world", "dataset": relay.data_world_dataset(), "update": {"files": files}}
    assert relay.post(event).json() == {"message": "Dataset successfully updated."}


def test_event_with_60_000_credentials_is_invalid(relay: Relay) -> None:
    passwords = [f"CANARY{number:06}" for number in range(60_000)]
    event = {
        "provider": "data.world",
        "dataset": relay.data_world_dataset(),
        "update": {"properties": {"password": passwords}},
    }
    for path in ("/", "/?dry_run=true"):
        problem = assert_problem(relay.post(event, path=path), 422, "invalid")
        assert "more than 500 credentials" in problem["detail"]
    assert relay.cloud.data_world.seen(f"/datasets/{event['dataset']}") == []
