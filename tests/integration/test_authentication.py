"""Tests of the authentication of native events."""

import json
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from deploy.local.cloud import Cloud
from deploy.local.signing import signed_headers
from tests.support.canary import secret
from tests.support.relay import JSON_TYPE, Launch, Relay, assert_problem, unique


@pytest.mark.parametrize("prefix", ["webhook", "svix"])
def test_signature_of_the_official_library_is_accepted(relay: Relay, prefix: str) -> None:
    body, message_id, now = json.dumps(relay.apify_event()), unique("msg"), datetime.now(UTC)
    headers = {
        "Content-Type": JSON_TYPE,
        f"{prefix}-id": message_id,
        f"{prefix}-timestamp": str(int(now.timestamp())),
        f"{prefix}-signature": Webhook(relay.cloud.relay_secret).sign(message_id, now, body),
    }
    response = relay.send(body, headers=headers)
    assert response.status_code == 200
    assert response.headers["Relay-Delivery"] == message_id


def test_unauthenticated_response_never_names_the_cause(relay: Relay) -> None:
    body = json.dumps(relay.apify_event()).encode()
    right = signed_headers(relay.cloud.relay_secret, "m", body)
    stale = signed_headers(relay.cloud.relay_secret, "m", body, at=time.time() - 400)
    early = signed_headers(relay.cloud.relay_secret, "m", body, at=time.time() + 400)
    attempts = [
        {},
        stale,
        early,
        {**right, "webhook-id": "n"},
        {**right, "webhook-signature": "v1,"},
        {name: value for name, value in right.items() if name != "webhook-timestamp"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {relay.cloud.relay_secret}"},
        {"Authorization": relay.cloud.relay_secret},
        {"X-Authorization": f"Bearer {relay.cloud.relay_secret}"},
    ]
    bodies = set()
    for headers in attempts:
        response = relay.send(body, headers={"Content-Type": JSON_TYPE, **headers})
        bodies.add(json.dumps(assert_problem(response, 401, "unauthenticated")))
        assert response.headers["WWW-Authenticate"].startswith("Bearer ")
    assert len(bodies) == 1


def test_one_right_credential_is_enough(relay: Relay) -> None:
    body = json.dumps(relay.apify_event()).encode()
    signature = signed_headers(relay.cloud.relay_secret, "m", body)
    assert relay.send(body, headers={"Content-Type": JSON_TYPE, **signature}).status_code == 200
    both = {**signature, "Authorization": "Bearer wrong"}
    assert relay.send(body, headers={"Content-Type": JSON_TYPE, **both}).status_code == 200


def test_several_secrets_an_unavailable_secret_does_not_stop_the_others(launch: Launch) -> None:
    old = secret("old secret ")
    relay = launch(RELAY_SECRET="env:OLD, relay-secret, missing-secret", OLD=old)
    for accepted in (old, relay.cloud.relay_secret):
        response = relay.post(relay.apify_event(), headers={"Authorization": f"Bearer {accepted}"})
        assert response.status_code == 200
    response = relay.post(relay.apify_event(), headers={"Authorization": "Bearer neither"})
    problem = assert_problem(response, 500, "secret-unusable")
    assert "missing-secret" not in problem["detail"]
    line = relay.logged(response.headers["Relay-Delivery"])
    assert line["cause"].startswith("RELAY_SECRET (3 of 3) is unavailable: Secret Manager returned NOT_FOUND.")
    assert line["outcome"] == "rejected"
    assert "missing-secret" not in relay.log_text()


def test_damaged_signing_secret_accepts_no_signature(launch: Launch) -> None:
    relay = launch(RELAY_SECRET="env:DAMAGED", DAMAGED="whsec_")
    body = json.dumps(relay.apify_event()).encode()
    response = relay.send(body, headers={"Content-Type": JSON_TYPE, **signed_headers("whsec_", "m", body)})
    assert_problem(response, 500, "secret-unusable")


def test_function_without_a_secret_accepts_no_event(launch: Launch) -> None:
    relay = launch(RELAY_SECRET=None)
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        response = relay.send(json.dumps(relay.apify_event()), headers={"Content-Type": JSON_TYPE, **headers})
        assert_problem(response, 401, "unauthenticated")
    assert "RELAY_SECRET isn't set" in relay.log_text()


def test_allow_unauthenticated_accepts_every_event_and_warns(launch: Launch) -> None:
    relay = launch(RELAY_SECRET=None, RELAY_ALLOW_UNAUTHENTICATED="true")
    response = relay.send(json.dumps(relay.apify_event()), headers={"Content-Type": JSON_TYPE})
    assert response.status_code == 200
    (line,) = [line for line in relay.log_text().splitlines() if "RELAY_ALLOW_UNAUTHENTICATED" in line]
    assert json.loads(line)["severity"] == "WARNING"


def test_request_without_a_credential_causes_no_fetch(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud)
    assert relay.send(b"{}", headers={"Content-Type": JSON_TYPE}).status_code == 401
    assert own_cloud.secret_manager.accesses == []
