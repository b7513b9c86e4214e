"""Tests of the senders of hooks: their authentication, their secrets, and the delivery IDs of their requests."""

import base64
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from deploy.local.cloud import Cloud, secret_name
from deploy.local.signing import authentication
from handlers.senders import SENDERS
from tests.support.canary import secret
from tests.support.hook_events import APIFY_UPDATE, HOOK_SECRET, apify_access, create_payload, running_with_hooks
from tests.support.hooks import call, hook, store_secret, written
from tests.support.relay import Launch, Relay, assert_problem, unique

SIGNING_SECRET = secret("whsec_")
#: The senders with a secret. The tests of the sender google are in test_google_sender.py.
NAMES = [name for name in SENDERS if name != "google"]
BASIC_SENDERS = ("databricks", "azure-devops", "jenkins", "basic")


def secret_for(sender: str) -> str:
    """Return the secret of this sender's hook."""
    if sender in BASIC_SENDERS:
        return f"relay:{HOOK_SECRET}"
    return SIGNING_SECRET if sender == "standard-webhooks" else HOOK_SECRET


def wrong_secret_for(sender: str) -> str:
    """Return another secret of the same form."""
    if sender in BASIC_SENDERS:
        return "relay:CANARY-wrong"
    return secret("whsec_") if sender == "standard-webhooks" else "CANARY-wrong"


@pytest.fixture(scope="module")
def relay(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function with a hook for each sender. Every secret is in Secret Manager."""
    hooks = {
        sender: hook(APIFY_UPDATE, sender=sender, secret=store_secret(cloud, secret_for(sender))) for sender in NAMES
    }
    hooks["gitlab-signed"] = hook(APIFY_UPDATE, sender="gitlab", secret=store_secret(cloud, SIGNING_SECRET))
    with running_with_hooks(cloud, tmp_path_factory.mktemp("hooks"), hooks) as started:
        yield started


# Authentication


@pytest.mark.parametrize("sender", NAMES)
def test_sender_right_credential_is_accepted(relay: Relay, sender: str) -> None:
    payload = create_payload(relay)
    response = call(relay, sender, payload, sender=sender, secret=secret_for(sender))
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    assert result == {"provider": "apify", "dataset": payload["dataset"], "status": 200, "body": result["body"]}
    assert result["body"]["data"]["generalAccess"] == "RESTRICTED"
    assert "urlSigningSecretKey" not in response.text
    assert apify_access(relay, payload) == "RESTRICTED"
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["sender"], entry["hook"], entry["outcome"]) == (sender, sender, "delivered")
    assert (entry["provider"], entry["dataset"], entry["attempts"]) == ("apify", payload["dataset"], 1)


@pytest.mark.parametrize("sender", NAMES)
def test_sender_wrong_credential_gets_the_same_401(relay: Relay, sender: str) -> None:
    payload = create_payload(relay)
    bodies = set()
    for response in (
        call(relay, sender, payload, sender=sender, secret=wrong_secret_for(sender)),
        relay.send(json.dumps(payload), path=f"/hooks/{sender}"),
        # The secret of native events is wrong for every hook.
        call(relay, sender, payload, sender="token", secret=relay.cloud.relay_secret),
    ):
        bodies.add(json.dumps(assert_problem(response, 401, "unauthenticated")))
        scheme = "Basic" if sender in BASIC_SENDERS else "Bearer"
        assert response.headers["WWW-Authenticate"] == f'{scheme} realm="dataset-relay"'
    assert len(bodies) == 1
    assert apify_access(relay, payload) is None


@pytest.mark.parametrize(
    "sender", ["github", "bitbucket", "dbt", "fivetran", "circleci", "buildkite", "hookdeck", "standard-webhooks"]
)
def test_sender_signature_of_another_body_is_401(relay: Relay, sender: str) -> None:
    payload = create_payload(relay)
    body = json.dumps(payload).encode()
    headers, _ = authentication(sender, secret_for(sender), body)
    response = relay.send(body + b" ", path=f"/hooks/{sender}", headers=headers)
    assert_problem(response, 401, "unauthenticated")
    assert apify_access(relay, payload) is None


def test_gitlab_with_a_signing_token_accepts_only_signatures(relay: Relay) -> None:
    payload = create_payload(relay)
    response = call(relay, "gitlab-signed", payload, sender="gitlab", secret=SIGNING_SECRET)
    assert response.status_code == 200
    assert response.headers["Relay-Delivery"].startswith("msg-")
    plain = relay.send(b"{}", path="/hooks/gitlab-signed", headers={"X-Gitlab-Token": SIGNING_SECRET})
    assert_problem(plain, 401, "unauthenticated")


def test_sender_secret_in_the_url_is_not_logged(relay: Relay) -> None:
    response = call(relay, "airbyte", create_payload(relay), sender="airbyte")
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert entry["httpRequest"]["requestUrl"] == "/hooks/airbyte"
    assert HOOK_SECRET not in relay.log_text()


# Delivery IDs


def test_delivery_id_is_the_header_of_the_sender(relay: Relay) -> None:
    run = unique("run")
    response = call(relay, "github", create_payload(relay), sender="github", headers={"X-GitHub-Delivery": run})
    assert response.headers["Relay-Delivery"] == run


def test_delivery_id_is_the_field_of_the_sender(relay: Relay) -> None:
    run = unique("wev_run")
    response = call(relay, "dbt", create_payload(relay, eventId=run), sender="dbt")
    assert response.headers["Relay-Delivery"] == run


def test_delivery_id_of_a_sender_without_ids_is_the_webhook_id(relay: Relay) -> None:
    run = unique("run")
    response = call(relay, "airflow", create_payload(relay), sender="airflow", headers={"webhook-id": run})
    assert response.headers["Relay-Delivery"] == run
    response = call(relay, "airflow", create_payload(relay), sender="airflow")
    assert uuid.UUID(response.headers["Relay-Delivery"])


def test_delivery_id_of_an_unauthenticated_request_is_the_header(relay: Relay) -> None:
    run = unique("run")
    response = relay.send(b"{}", path="/hooks/github", headers={"X-GitHub-Delivery": run})
    assert (response.status_code, response.headers["Relay-Delivery"]) == (401, run)


# Secrets


def test_hook_with_several_secrets_accepts_each(launch: Launch, own_cloud: Cloud, tmp_path: Path) -> None:
    old, new = secret("old "), secret("new ")
    names = [store_secret(own_cloud, old), store_secret(own_cloud, new), "missing"]
    hooks = {"a": hook(APIFY_UPDATE, sender="github", secret=names)}
    relay = launch(on=own_cloud, RELAY_CONFIG=written(tmp_path, hooks), RELAY_DEADLINE_SECONDS="60")
    for accepted in (old, new):
        assert call(relay, "a", create_payload(relay), sender="github", secret=accepted).status_code == 200
    response = call(relay, "a", create_payload(relay), sender="github", secret="CANARY-wrong")
    problem = assert_problem(response, 500, "secret-unusable")
    assert "missing" not in json.dumps(problem)
    assert "hook a: secret (3 of 3) is unavailable: Secret Manager returned NOT_FOUND." in relay.log_text()


def test_hook_with_an_unreachable_secret_is_retryable(launch: Launch, own_cloud: Cloud, tmp_path: Path) -> None:
    hooks = {"a": hook(APIFY_UPDATE, sender="github", secret=store_secret(own_cloud, HOOK_SECRET))}
    relay = launch(on=own_cloud, RELAY_CONFIG=written(tmp_path, hooks), RELAY_DEADLINE_SECONDS="2")
    own_cloud.secret_manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
    response = call(relay, "a", create_payload(relay), sender="github")
    assert_problem(response, 503, "secret-unreachable", retryable=True)
    assert response.headers["Retry-After"] == "5"


def test_hook_with_a_secret_of_the_wrong_form_is_unusable(launch: Launch, tmp_path: Path) -> None:
    hooks = {"a": hook(APIFY_UPDATE, sender="jenkins")}
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET="CANARY no colon")
    credential, _ = authentication("jenkins", "CANARY no colon", b"{}")
    assert_problem(relay.send(b"{}", path="/hooks/a", headers=credential), 500, "secret-unusable")
    assert "hook a: secret is unusable: " in relay.log_text()


def test_hook_with_allow_unauthenticated_accepts_every_request(launch: Launch, tmp_path: Path) -> None:
    hooks = {"a": hook(APIFY_UPDATE, sender="github")}
    relay = launch(
        RELAY_CONFIG=written(tmp_path, hooks),
        HOOK_SECRET=HOOK_SECRET,
        RELAY_ALLOW_UNAUTHENTICATED="true",
        RELAY_DEADLINE_SECONDS="60",
    )
    response = relay.send(json.dumps(create_payload(relay)), path="/hooks/a")
    assert response.status_code == 200
    assert "sender" not in relay.logged(response.headers["Relay-Delivery"])


@pytest.mark.parametrize("prefix", ["\ufeff", "v1,", "\ufeffv1,"])
def test_stored_secret_behind_a_prefix_is_accepted(
    launch: Launch, own_cloud: Cloud, tmp_path: Path, prefix: str
) -> None:
    own = secret("whsec_")
    hooks = {"a": hook(APIFY_UPDATE, sender="standard-webhooks", secret=store_secret(own_cloud, prefix + own))}
    relay = launch(on=own_cloud, RELAY_CONFIG=written(tmp_path, hooks), RELAY_DEADLINE_SECONDS="60")
    assert call(relay, "a", create_payload(relay), sender="standard-webhooks", secret=own).status_code == 200


def test_stored_token_behind_a_byte_order_mark_is_used(launch: Launch, own_cloud: Cloud) -> None:
    name = store_secret(own_cloud, f"\ufeff{own_cloud.apify_token}")
    relay = launch(on=own_cloud, APIFY_TOKEN=name, RELAY_DEADLINE_SECONDS="60")
    assert relay.post(relay.apify_event()).status_code == 200


def test_rejected_request_has_its_cause_only_in_the_log(launch: Launch, own_cloud: Cloud, tmp_path: Path) -> None:
    own = secret("own-")
    hooks = {"a": hook(APIFY_UPDATE, sender="github", secret=store_secret(own_cloud, f'"{own}"'))}
    relay = launch(on=own_cloud, RELAY_CONFIG=written(tmp_path, hooks), RELAY_DEADLINE_SECONDS="60")
    causes = []
    for headers in ({}, authentication("github", own, b"{}")[0]):
        run = unique("run")
        response = relay.send(b"{}", path="/hooks/a", headers={**headers, "X-GitHub-Delivery": run})
        assert_problem(response, 401, "unauthenticated")
        line = relay.logged(run)
        causes.append(line["cause"])
        assert line["cause"] not in response.text
        assert line["outcome"] == "rejected"
    assert causes == [
        "The header x-hub-signature-256 is missing.",
        (
            "The header x-hub-signature-256 doesn't match the secret. The stored secret of hook a: secret begins and "
            "ends with a quote. If the sender's secret doesn't, store the secret again without the quotes."
        ),
    ]


def test_disabled_version_is_logged_with_the_action_to_take(launch: Launch, own_cloud: Cloud, tmp_path: Path) -> None:
    own_cloud.secret_manager.secrets[secret_name("disabled")] = [None]
    hooks = {"a": hook(APIFY_UPDATE, sender="github", secret="disabled")}
    relay = launch(on=own_cloud, RELAY_CONFIG=written(tmp_path, hooks), RELAY_DEADLINE_SECONDS="60")
    response = call(relay, "a", create_payload(relay), sender="github")
    assert "FAILED_PRECONDITION" not in assert_problem(response, 500, "secret-unusable")["detail"]
    assert relay.logged(response.headers["Relay-Delivery"])["cause"] == (
        "hook a: secret is unavailable: Secret Manager returned FAILED_PRECONDITION. The version is disabled or "
        "destroyed. Enable it, or add a new version."
    )


def test_unusable_secret_of_two_hooks_is_logged_with_the_hook_of_the_request(
    launch: Launch, own_cloud: Cloud, tmp_path: Path
) -> None:
    hooks = {name: hook(APIFY_UPDATE, sender="github", secret="missing") for name in ("a", "b")}
    relay = launch(on=own_cloud, RELAY_CONFIG=written(tmp_path, hooks), RELAY_DEADLINE_SECONDS="60")
    for name in ("a", "b", "a"):
        response = call(relay, name, {}, sender="github")
        assert_problem(response, 500, "secret-unusable")
        cause = relay.logged(response.headers["Relay-Delivery"])["cause"]
        assert cause.startswith(f"hook {name}: secret is unavailable: Secret Manager returned NOT_FOUND.")


def test_bitbucket_data_center_test_is_ignored_only_with_a_signature(launch: Launch, tmp_path: Path) -> None:
    hooks = {"a": hook(APIFY_UPDATE, sender="bitbucket")}
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=HOOK_SECRET)
    run = unique("run")
    headers = {"X-Event-Key": "diagnostics:ping", "X-Request-Id": run}
    signed = call(relay, "a", {"test": True}, sender="bitbucket", headers=headers)
    assert (signed.status_code, signed.json()) == (200, {"ignored": "This is a test message of bitbucket."})
    assert signed.headers["Relay-Delivery"] == run
    assert_problem(relay.send(b'{"test": true}', path="/hooks/a", headers=headers), 401, "unauthenticated")


def test_denied_secret_is_fetched_once_for_many_unauthenticated_requests(
    launch: Launch, own_cloud: Cloud, tmp_path: Path
) -> None:
    name = store_secret(own_cloud, HOOK_SECRET)
    hooks = {"a": hook(APIFY_UPDATE, sender="github", secret=name)}
    relay = launch(on=own_cloud, RELAY_CONFIG=written(tmp_path, hooks), RELAY_DEADLINE_SECONDS="60")
    own_cloud.secret_manager.refusals[""] = grpc.StatusCode.PERMISSION_DENIED
    started = time.monotonic()
    for _ in range(20):
        assert_problem(call(relay, "a", {}, sender="github", secret="CANARY-wrong"), 500, "secret-unusable")
    most = 1 + int((time.monotonic() - started) / 5)
    assert len([access for access in own_cloud.secret_manager.accesses if name in access]) <= most


def test_airbyte_test_of_a_successful_sync_is_ignored(launch: Launch, tmp_path: Path) -> None:
    hooks = {"a": hook(APIFY_UPDATE, sender="airbyte", when="event.data.success == true")}
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=HOOK_SECRET)
    payload = create_payload(relay, data={"success": True})
    payload["blocks"] = [{"type": "section", "text": {"text": "[THIS IS A TEST NOTIFICATION] Sync completed"}}]
    response = call(relay, "a", payload, sender="airbyte", secret=HOOK_SECRET)
    assert (response.status_code, response.json()) == (200, {"ignored": "This is a test message of airbyte."})


def test_jenkins_credentials_as_in_its_url_are_accepted(launch: Launch, tmp_path: Path) -> None:
    hooks = {"a": hook(APIFY_UPDATE, sender="jenkins")}
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET="CANARY@user:p:w")
    response = call(relay, "a", create_payload(relay), sender="jenkins", secret="CANARY%40user:p%3Aw")
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("sender", "is_signed"),
    [
        ({"hmac": "sha512", "header": "X-My-Signature", "prefix": "v0=", "encoding": "base64"}, True),
        ({"header": "X-API-Key"}, False),
    ],
)
def test_custom_sender_is_authenticated(
    launch: Launch, tmp_path: Path, sender: dict[str, str], is_signed: bool
) -> None:
    body_update = {**APIFY_UPDATE, "update": {"name": "{{ event.name }}"}}
    hooks = {"a": hook(body_update, sender=sender)}
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=HOOK_SECRET)
    payload = create_payload(relay, name=unique("n"))
    body = json.dumps(payload).encode()
    digest = base64.b64encode(hmac.digest(HOOK_SECRET.encode(), body, "sha512")).decode()
    value = f"v0={digest}" if is_signed else HOOK_SECRET
    response = relay.send(body, path="/hooks/a", headers={sender["header"]: value, "webhook-id": unique("run")})
    assert response.status_code == 200, response.text
    assert relay.logged(response.headers["Relay-Delivery"])["sender"] == "custom"
    assert_problem(relay.send(body, path="/hooks/a", headers={sender["header"]: value[:-4]}), 401, "unauthenticated")
