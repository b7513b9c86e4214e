"""Hooks end to end: a sender's own payload in, updates out, and an answer that no sender takes amiss."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Response

from deploy.local.cloud import DATA_WORLD_OWNER, ROOT, Cloud, secret_name
from deploy.local.signing import proven
from handlers.senders import SENDERS
from tests.conftest import Launch, Relay, assert_problem, running, unique
from tests.hooks import call, hook, kept, update, written

SECRET = "hook-s3cret"
SIGNING_SECRET = "whsec_aG9vay1zM2NyZXQtc2lnbmluZw=="
APIFY = update("apify", "{{ event.dataset }}", {"generalAccess": "{{ event.access | default('RESTRICTED') }}"})
DATA_WORLD = update("data.world", "{{ event.record }}", {"summary": "Built {{ event.at | date }}."})


def secret_for(sender: str) -> str:
    if sender in ("databricks", "azure-devops", "jenkins", "basic"):
        return "relay:hook-s3cret"
    return SIGNING_SECRET if sender == "standard-webhooks" else SECRET


@pytest.fixture(scope="module")
def hooked(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A function with a hook for each sender, and some for what the tests below need."""
    folder = tmp_path_factory.mktemp("hooks")
    names = {sender: kept(cloud, secret_for(sender)) for sender in SENDERS}
    hooks = {sender: hook(APIFY, sender=sender, secret=names[sender]) for sender in SENDERS}
    hooks |= {
        "both": hook(APIFY, DATA_WORLD),
        "when": hook(APIFY, when="event.status == 'done' and event.count > 3"),
        "gitlab-signed": hook(APIFY, sender="gitlab", secret=kept(cloud, SIGNING_SECRET)),
        "types": hook(
            update(
                "data.world",
                "{{ event.record }}",
                {
                    "tags": "{{ event.tags }}",
                    "properties": {
                        "count": "{{ event.count }}",
                        "text": "n={{ event.count }}",
                        "digits": "{{ event.digits }}",
                        "whole": "{{ event }}",
                        "header": "{{ headers['x-run'] }}",
                        "plain": 1.5,
                    },
                },
            )
        ),
    }
    settings = {
        **cloud.settings(),
        "RELAY_CONFIG": written(folder, hooks, events={"allow": ["data.world:acme/*"]}),
        "HOOK_SECRET": SECRET,
        "RELAY_DEADLINE_SECONDS": "5",
    }
    with running(cloud, settings, folder) as started:
        yield started


def event(relay: Relay, **more: Any) -> dict[str, Any]:
    return {
        "dataset": relay.apify_dataset(),
        "record": relay.data_world_dataset(),
        "at": "2026-11-22T08:30:00.123456789Z",
        **more,
    }


def access(relay: Relay, payload: dict[str, Any]) -> Any:
    """What the platform has, or None if it wasn't called."""
    calls = relay.cloud.apify.seen(f"/datasets/{payload['dataset']}")
    return relay.cloud.apify.datasets[payload["dataset"]]["generalAccess"] if calls else None


# Every sender


@pytest.mark.parametrize("sender", SENDERS)
def test_a_sender_that_proves_itself(hooked: Relay, sender: str) -> None:
    payload = event(hooked)
    answer = call(hooked, sender, payload, sender=sender, secret=secret_for(sender))
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert result == {
        "provider": "apify",
        "dataset": payload["dataset"],
        "status": 200,
        "body": result["body"],
    }
    assert result["body"]["data"]["generalAccess"] == "RESTRICTED"
    assert "urlSigningSecretKey" not in answer.text
    assert access(hooked, payload) == "RESTRICTED"
    entry = hooked.logged(answer.headers["Relay-Delivery"])
    assert (entry["sender"], entry["hook"], entry["outcome"]) == (sender, sender, "delivered")
    assert (entry["provider"], entry["dataset"], entry["attempts"]) == ("apify", payload["dataset"], 1)


@pytest.mark.parametrize("sender", SENDERS)
def test_a_sender_that_does_not(hooked: Relay, sender: str) -> None:
    payload = event(hooked)
    wrong = "relay:other" if ":" in secret_for(sender) else "whsec_b3RoZXI=" if sender == "standard-webhooks" else "no"
    said = set()
    for answer in (
        call(hooked, sender, payload, sender=sender, secret=wrong),
        hooked.send(json.dumps(payload), path=f"/hooks/{sender}"),
        call(hooked, sender, payload, sender="token", secret=hooked.cloud.relay_secret),
    ):
        said.add(json.dumps(assert_problem(answer, 401, "unproven")))
        scheme = "Basic" if ":" in secret_for(sender) else "Bearer"
        assert answer.headers["WWW-Authenticate"] == f'{scheme} realm="dataset-relay"'
    assert len(said) == 1
    assert access(hooked, payload) is None


def test_a_signature_of_another_body(hooked: Relay) -> None:
    for sender in ("github", "bitbucket", "dbt", "fivetran", "circleci", "buildkite", "hookdeck"):
        payload = event(hooked)
        body = json.dumps(payload).encode()
        headers, _ = proven(sender, SECRET, body)
        answer = hooked.send(body + b" ", path=f"/hooks/{sender}", headers=headers)
        assert_problem(answer, 401, "unproven")
        assert access(hooked, payload) is None


def test_gitlab_with_its_signing_token(hooked: Relay) -> None:
    payload = event(hooked)
    answer = call(hooked, "gitlab-signed", payload, sender="gitlab", secret=SIGNING_SECRET)
    assert answer.status_code == 200
    assert answer.headers["Relay-Delivery"].startswith("msg-")
    in_clear = hooked.send(b"{}", path="/hooks/gitlab-signed", headers={"X-Gitlab-Token": SIGNING_SECRET})
    assert_problem(in_clear, 401, "unproven")


def test_delivery_ids_of_senders(hooked: Relay) -> None:
    run = unique("run")
    by_header = call(hooked, "github", event(hooked), sender="github", headers={"X-GitHub-Delivery": run})
    assert by_header.headers["Relay-Delivery"] == run
    by_body = call(hooked, "dbt", event(hooked, eventId=f"wev_{run}"), sender="dbt")
    assert by_body.headers["Relay-Delivery"] == f"wev_{run}"
    fallback = call(hooked, "airflow", event(hooked), sender="airflow", headers={"webhook-id": f"w-{run}"})
    assert fallback.headers["Relay-Delivery"] == f"w-{run}"
    assert uuid.UUID(call(hooked, "airflow", event(hooked), sender="airflow").headers["Relay-Delivery"])
    unproven = hooked.send(b"{}", path="/hooks/github", headers={"X-GitHub-Delivery": f"u-{run}"})
    assert (unproven.status_code, unproven.headers["Relay-Delivery"]) == (401, f"u-{run}")


def test_a_token_in_the_url_is_not_logged(hooked: Relay) -> None:
    answer = call(hooked, "airbyte", event(hooked), sender="airbyte")
    entry = hooked.logged(answer.headers["Relay-Delivery"])
    assert entry["httpRequest"]["requestUrl"] == "/hooks/airbyte"
    assert SECRET not in hooked.log_text()


# The request


def test_routes(hooked: Relay) -> None:
    for method in ("GET", "POST"):
        assert_problem(hooked.send(b"", method=method, path="/hooks/nobody"), 404, "not-found")
    assert hooked.send(b"", path="/hooks").status_code == 404
    wrong = hooked.send(b"", method="GET", path="/hooks/both")
    assert_problem(wrong, 405, "method-not-allowed")
    assert wrong.headers["Allow"] == "POST"
    payload = event(hooked)
    answer = hooked.send(json.dumps(payload), path="/hooks/token/", headers={"Authorization": f"Bearer {SECRET}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/octet-stream", "application/json;charset=x"])
def test_a_body_is_json_whatever_its_type_says(hooked: Relay, content_type: str | None) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", **({"Content-Type": content_type} if content_type else {})}
    payload = event(hooked)
    assert hooked.send(json.dumps(payload), path="/hooks/token", headers=headers).status_code == 200


def test_a_form_is_told_which_setting_to_change(hooked: Relay) -> None:
    for content_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = call(hooked, "github", b"payload=%7B%7D", sender="github", headers={"Content-Type": content_type})
        problem = assert_problem(answer, 415, "unsupported-media-type")
        assert "content type to application/json" in problem["detail"]
    encoded = call(hooked, "token", {}, headers={"Content-Encoding": "gzip"})
    assert_problem(encoded, 415, "unsupported-media-type")


def test_what_is_no_json(hooked: Relay) -> None:
    for body in (b"", b"[]", b"{", b'{"a":1,"a":2}', b"payload=%7B%7D"):
        assert_problem(call(hooked, "token", body), 400, "not-json")


# What is ignored


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({"status": "failed", "count": 9}, "The hook's when is false for this event."),
        ({"status": "done", "count": 3}, "The hook's when is false for this event."),
        ({"status": "done"}, "The hook's when is false for this event: count is missing."),
        ({}, "The hook's when is false for this event: status is missing."),
    ],
)
def test_what_a_when_rules_out_is_ignored(hooked: Relay, payload: dict[str, Any], why: str) -> None:
    payload = event(hooked, **payload)
    answer = call(hooked, "when", payload)
    assert (answer.status_code, answer.json()) == (200, {"ignored": why})
    assert access(hooked, payload) is None
    entry = hooked.logged(answer.headers["Relay-Delivery"])
    assert (entry["severity"], entry["outcome"], entry["message"]) == ("INFO", "ignored", f"POST /hooks/when: {why}")


def test_a_when_that_is_true(hooked: Relay) -> None:
    payload = event(hooked, status="done", count=4)
    assert call(hooked, "when", payload).json()["results"][0]["status"] == 200
    assert access(hooked, payload) == "RESTRICTED"


def test_a_when_that_fails_is_false_with_a_warning(hooked: Relay) -> None:
    payload = event(hooked, status="done", count="many")
    answer = call(hooked, "when", payload)
    assert answer.status_code == 200
    assert "fails on this event" in answer.json()["ignored"]
    entry = hooked.logged(answer.headers["Relay-Delivery"])
    assert (entry["severity"], entry["outcome"]) == ("WARNING", "ignored")
    assert "many" not in json.dumps(entry)


@pytest.mark.parametrize(
    ("sender", "payload", "headers"),
    [
        ("github", {"zen": "Simple is better.", "hook_id": 1}, {"X-GitHub-Event": "ping"}),
        ("fivetran", {"event": "test_event", "created": "timestamp", "connector_id": "c"}, {}),
        ("buildkite", {"event": "ping", "service": {"id": "s"}}, {}),
        ("apify", {"eventType": "TEST", "resource": {}}, {}),
        ("circleci", {"type": "ping", "webhook": {"id": "w"}}, {}),
    ],
)
def test_a_ping_is_ignored(hooked: Relay, sender: str, payload: Any, headers: dict[str, str]) -> None:
    answer = call(hooked, sender, payload, sender=sender, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"ignored": f"This is a test message of {sender}."})
    unproven = hooked.send(json.dumps(payload), path=f"/hooks/{sender}", headers=headers)
    assert_problem(unproven, 401, "unproven")


# What is made of a payload


def test_values_keep_their_types(hooked: Relay) -> None:
    payload = event(hooked, tags=["one", "two"], count=10**20, digits="0123", nested={"ü": [None, 1.5, "{{ 7 * 7 }}"]})
    answer = call(hooked, "types", payload, headers={"X-Run": "r-1"})
    assert answer.status_code == 200, answer.text
    (sent,) = hooked.cloud.data_world.seen(f"/datasets/{payload['record']}")
    assert sent.json == {
        "tags": ["one", "two"],
        "properties": {
            "count": 10**20,
            "text": f"n={10**20}",
            "digits": "0123",
            "whole": payload,
            "header": "r-1",
            "plain": 1.5,
        },
    }


def test_a_template_that_fails_sends_nothing(hooked: Relay) -> None:
    payload = event(hooked)
    del payload["at"]
    answer = call(hooked, "both", payload)
    problem = assert_problem(answer, 422, "invalid")
    assert problem["errors"] == {"updates.1.update.summary": ["at is missing."]}
    assert access(hooked, payload) is None
    entry = hooked.logged(answer.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["errors"]) == ("rejected", problem["errors"])


def test_a_result_that_breaks_a_rule_sends_nothing(hooked: Relay) -> None:
    payload = event(hooked, access="OPEN", record="no slash")
    problem = assert_problem(call(hooked, "both", payload), 422, "invalid")
    assert set(problem["errors"]) == {"updates.0.update.generalAccess", "updates.1.dataset"}
    assert problem["errors"]["updates.0.update.generalAccess"][0].startswith("Must be one of: ")
    assert access(hooked, payload) is None


@pytest.mark.parametrize("dataset", [None, 1.5, ["a"], {"a": 1}, "../users", "a/b?x=1", ""])
def test_a_payload_reaches_no_other_path(hooked: Relay, dataset: Any) -> None:
    before = len(hooked.cloud.apify.calls)
    answer = call(hooked, "token", {"dataset": dataset})
    assert list(assert_problem(answer, 422, "invalid")["errors"]) == ["updates.0.dataset"]
    assert len(hooked.cloud.apify.calls) == before


def test_a_dataset_is_always_text(hooked: Relay) -> None:
    hooked.cloud.apify.add("jane", dataset_id="1234567")
    assert call(hooked, "token", {"dataset": 1234567}).json()["results"][0]["dataset"] == "1234567"


# Several updates


def test_two_updates_in_order(hooked: Relay) -> None:
    payload = event(hooked)
    answer = call(hooked, "both", payload)
    assert answer.status_code == 200
    assert [(each["provider"], each["dataset"], each["status"]) for each in answer.json()["results"]] == [
        ("apify", payload["dataset"], 200),
        ("data.world", payload["record"], 200),
    ]
    assert hooked.cloud.data_world.datasets[payload["record"]]["summary"] == "Built 2026-11-22."
    entry = hooked.logged(answer.headers["Relay-Delivery"])
    # As one value of a metric's label; the datasets are those of the updates alone.
    assert (entry["provider"], entry["attempts"]) == ("apify+data.world", 1)
    assert "dataset" not in entry
    assert "problem" not in entry
    assert entry["updates"] == [
        {"provider": "apify", "dataset": payload["dataset"], "status": 200, "upstream_status": 200, "attempts": 1},
        {"provider": "data.world", "dataset": payload["record"], "status": 200, "upstream_status": 200, "attempts": 1},
    ]


def test_they_are_sent_at_the_same_time(hooked: Relay) -> None:
    """Each platform answers only when the other has been called, too."""
    payload = event(hooked)
    both = threading.Barrier(2, timeout=4)

    def answer() -> Response:
        both.wait()
        return Response('{"data": {}}', mimetype="application/json")

    hooked.cloud.apify.instead[f"/datasets/{payload['dataset']}"] = answer
    hooked.cloud.data_world.instead[f"/datasets/{payload['record']}"] = answer
    assert call(hooked, "both", payload).status_code == 200


def test_one_that_fails_does_not_stop_the_other(hooked: Relay) -> None:
    payload = event(hooked)
    del hooked.cloud.apify.datasets[payload["dataset"]]
    answer = call(hooked, "both", payload)
    # Never a 4xx for what a platform says: some senders disable a hook for that.
    assert answer.status_code == 502
    assert answer.headers["Content-Type"] == "application/json"
    assert "Retry-After" not in answer.headers
    failed, done = answer.json()["results"]
    assert (failed["status"], failed["problem"]["type"]) == (404, "urn:dataset-relay:problem:upstream-refused")
    assert failed["problem"]["upstream"]["body"]["error"]["type"] == "record-not-found"
    assert (done["status"], done["body"]) == (200, {"message": "Dataset successfully updated."})
    entry = hooked.logged(answer.headers["Relay-Delivery"])
    assert (entry["severity"], entry["outcome"], entry["status"]) == ("ERROR", "failed", 502)
    told = [(each["status"], each.get("problem")) for each in entry["updates"]]
    assert told == [(404, "upstream-refused"), (200, None)]
    assert entry["problem"] == "upstream-refused"


@pytest.mark.parametrize(
    ("apify", "data_world", "status", "retry_after"),
    [
        ((429, {"Retry-After": "7"}), (200, {}), 503, range(7, 8)),
        ((429, {"Retry-After": "7"}), (429, {"Retry-After": "30"}), 503, range(30, 31)),
        ((503, {}), (429, {"Retry-After": "2"}), 503, range(5, 6)),
        ((404, {}), (503, {}), 503, range(5, 6)),
        ((404, {}), (401, {}), 502, None),
        ((429, {"Retry-After": "date"}), (404, {}), 503, range(80, 101)),
    ],
)
def test_the_status_of_several(hooked: Relay, apify: Any, data_world: Any, status: int, retry_after: Any) -> None:
    payload = event(hooked)
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    for platform, path, (code, headers) in (
        (hooked.cloud.apify, payload["dataset"], apify),
        (hooked.cloud.data_world, payload["record"], data_world),
    ):
        headers = {name: date if value == "date" else value for name, value in headers.items()}
        platform.instead[f"/datasets/{path}"] = partial(Response, "{}", code, headers, mimetype="application/json")
    answer = call(hooked, "both", payload)
    assert answer.status_code == status
    assert [each["status"] for each in answer.json()["results"]] == [
        {401: 502, 503: 502}.get(code, code) for code in (apify[0], data_world[0])
    ]
    if retry_after is None:
        assert "Retry-After" not in answer.headers
    else:
        assert int(answer.headers["Retry-After"]) in retry_after


def test_a_slow_provider_does_not_hide_the_other(launch: Launch, tmp_path: Path) -> None:
    relay = launch(RELAY_CONFIG=written(tmp_path, {"both": hook(APIFY, DATA_WORLD)}), HOOK_SECRET=SECRET,
                   RELAY_DEADLINE_SECONDS="1")  # fmt: skip
    payload, released = event(relay), threading.Event()

    def hang() -> Response:
        released.wait(10)
        return Response("{}", mimetype="application/json")

    relay.cloud.apify.instead[f"/datasets/{payload['dataset']}"] = hang
    began = time.monotonic()
    answer = call(relay, "both", payload)
    took = time.monotonic() - began
    released.set()
    late, done = answer.json()["results"]
    assert (answer.status_code, late["status"], done["status"]) == (503, 504, 200)
    assert late["problem"]["retryable"] is True
    assert took < 5  # not for as long as the platform hangs


def test_more_updates_than_the_share_of_their_provider(launch: Launch, tmp_path: Path) -> None:
    many = [update("data.world", f"{{{{ event.records[{each}] }}}}", {"title": f"Title {each}"}) for each in range(5)]
    relay = launch(RELAY_CONFIG=written(tmp_path, {"many": hook(*many)}), HOOK_SECRET=SECRET,
                   RELAY_PROVIDER_CONCURRENCY="2")  # fmt: skip
    records = [relay.data_world_dataset() for _ in range(5)]
    answer = call(relay, "many", {"records": records})
    assert answer.status_code == 200, answer.text
    assert [each["dataset"] for each in answer.json()["results"]] == records
    assert [relay.cloud.data_world.datasets[each]["title"] for each in records] == [f"Title {n}" for n in range(5)]


# Tokens and secrets


def test_another_token_for_an_update(launch: Launch, tmp_path: Path) -> None:
    cloud = Cloud().start()
    cloud.data_world.tokens["other-token"] = "other"
    cloud.data_world.add("other/products")
    cloud.secret_manager.add_version(secret_name("other-data-world-token"), "other-token")
    body = {"title": "{{ event.title }}"}
    hooks = {
        "own": hook(update("data.world", "other/products", body)),
        "other": hook(update("data.world", "other/products", body, token="other-data-world-token")),
    }
    relay = launch(on=cloud, RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=SECRET)
    refused = call(relay, "own", {"title": "x"})
    assert (refused.status_code, refused.json()["results"][0]["problem"]["upstream"]["status"]) == (502, 403)
    assert call(relay, "other", {"title": "y"}).status_code == 200
    assert cloud.data_world.calls[-1].headers["authorization"] == "Bearer other-token"
    shown = call(relay, "other", {"title": "y"}, query="dry_run=true").json()
    assert shown["results"][0]["token"] == f"{secret_name('other-data-world-token')}/versions/1"
    cloud.stop()


def test_an_update_without_a_token_sends_nothing(launch: Launch, tmp_path: Path) -> None:
    relay = launch(RELAY_CONFIG=written(tmp_path, {"both": hook(APIFY, DATA_WORLD)}), HOOK_SECRET=SECRET,
                   DATA_WORLD_TOKEN=None)  # fmt: skip
    payload = event(relay)
    problem = assert_problem(call(relay, "both", payload), 422, "invalid")
    assert list(problem["errors"]) == ["updates.1.provider"]
    assert access(relay, payload) is None
    warnings = [json.loads(line) for line in relay.log_text().splitlines() if "have no token" in line]
    assert warnings[0]["severity"] == "WARNING"
    assert warnings[0]["message"] == (
        "DATA_WORLD_TOKEN isn't set: 1 updates of hooks have no token, as hook both: updates.1."
    )


def test_several_secrets_of_a_hook(launch: Launch, tmp_path: Path) -> None:
    cloud = Cloud().start()
    hooks = {"a": hook(APIFY, sender="github", secret=[kept(cloud, "old one"), kept(cloud, "new one"), "missing"])}
    relay = launch(on=cloud, RELAY_CONFIG=written(tmp_path, hooks))
    for secret in ("old one", "new one"):
        assert call(relay, "a", event(relay), sender="github", secret=secret).status_code == 200
    problem = assert_problem(call(relay, "a", event(relay), sender="github", secret="none"), 500, "secret-unusable")
    assert "missing" not in json.dumps(problem)
    assert "hook a: secret (3 of 3) can't be had: NOT_FOUND." in relay.log_text()
    cloud.stop()


def test_a_secret_of_a_hook_that_cannot_be_reached(launch: Launch, tmp_path: Path) -> None:
    cloud = Cloud().start()
    hooks = {"a": hook(APIFY, sender="github", secret=kept(cloud, SECRET))}
    relay = launch(on=cloud, RELAY_CONFIG=written(tmp_path, hooks), RELAY_DEADLINE_SECONDS="2")
    cloud.secret_manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
    answer = call(relay, "a", event(relay), sender="github")
    assert_problem(answer, 503, "secret-unreachable", retryable=True)
    assert answer.headers["Retry-After"] == "5"
    cloud.stop()


def test_a_secret_of_the_wrong_kind(launch: Launch, tmp_path: Path) -> None:
    relay = launch(RELAY_CONFIG=written(tmp_path, {"a": hook(APIFY, sender="jenkins")}), HOOK_SECRET="no colon")
    headers = {"Authorization": "Basic bm8gY29sb24="}
    assert_problem(relay.send(b"{}", path="/hooks/a", headers=headers), 500, "secret-unusable")
    assert "hook a: secret is damaged: it must be user:password." in relay.log_text()


def test_unauthenticated_where_that_is_allowed(launch: Launch, tmp_path: Path) -> None:
    relay = launch(RELAY_CONFIG=written(tmp_path, {"a": hook(APIFY, sender="github")}), HOOK_SECRET=SECRET,
                   RELAY_ALLOW_UNAUTHENTICATED="true")  # fmt: skip
    answer = relay.send(json.dumps(event(relay)), path="/hooks/a")
    assert answer.status_code == 200
    assert "sender" not in relay.logged(answer.headers["Relay-Delivery"])


# Dry runs


def test_a_dry_run(hooked: Relay) -> None:
    payload = event(hooked)
    answer = call(hooked, "both", payload, query="dry_run=true")
    assert answer.status_code == 200
    shown = answer.json()
    assert shown["dry_run"] is True
    apify, data_world = shown["results"]
    assert set(apify) == {"provider", "dataset", "request", "token"}
    assert apify["request"]["method"] == "PUT"
    assert apify["request"]["headers"]["Authorization"] == "Bearer [redacted]"
    assert data_world["request"]["body"] == {"summary": "Built 2026-11-22."}
    assert data_world["token"].endswith("/secrets/data-world-token/versions/1")
    assert access(hooked, payload) is None
    entry = hooked.logged(answer.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["dry_run"], entry["message"]) == ("ignored", True, "POST /hooks/both: dry run")
    misspelt = call(hooked, "both", payload, query="dryrun=true")
    assert_problem(misspelt, 422, "invalid")
    assert access(hooked, payload) is None


def test_a_dry_run_of_what_is_ignored_or_wrong(hooked: Relay) -> None:
    assert "ignored" in call(hooked, "when", {}, query="dry_run=true").json()
    assert_problem(call(hooked, "both", {}, query="dry_run=true"), 422, "invalid")


def test_a_dry_run_without_credentials(launch: Launch, tmp_path: Path) -> None:
    source = {
        "url": "https://u:{{ event.p }}@example.com/a.csv",
        "credentials": {"user": "u", "password": "{{ event.p }}"},
        "requestHeaders": {"Authorization": "Bearer {{ event.p }}"},
    }
    files = {"files": [{"name": "a.csv", "source": source}]}
    damaged = update("apify", "abc", {"name": None}, token="env:DAMAGED")
    hooks = {"a": hook(update("data.world", f"{DATA_WORLD_OWNER}/products", files), damaged)}
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=SECRET, DAMAGED="two words")
    answer = call(relay, "a", {"p": "sw0rdfish"}, query="dry_run=true")
    shown, failed = answer.json()["results"]
    assert answer.status_code == 502
    assert failed["status"] == 500
    assert failed["problem"]["type"] == "urn:dataset-relay:problem:secret-unusable"
    assert "sw0rdfish" not in answer.text + relay.log_text()
    assert shown["request"]["body"]["files"][0]["source"]["requestHeaders"] == {"Authorization": "[redacted]"}


def test_a_credential_of_one_update_is_not_shown_by_another(launch: Launch, tmp_path: Path) -> None:
    """The payload holds it, one update uses it as what it is, the other's platform repeats the whole payload."""
    source = {"url": "https://example.com/a.csv", "credentials": {"user": "u", "password": "{{ event.p }}"}}
    first = update("data.world", "acme/first", {"files": [{"name": "a.csv", "source": source}]})
    second = update("data.world", "acme/second", {"summary": "debug: {{ event }}"})
    cloud = Cloud().start()
    relay = launch(on=cloud, RELAY_CONFIG=written(tmp_path, {"a": hook(first, second)}), HOOK_SECRET=SECRET)
    cloud.data_world.add("acme/first")
    cloud.data_world.instead["/datasets/acme/second"] = lambda: Response(
        json.dumps({"code": 422, "message": f"Not this: {cloud.data_world.calls[-1].json}"}), 422
    )
    for query in ("", "dry_run=true"):
        answer = call(relay, "a", {"p": "sw0rdfish"}, query=query)
        assert answer.status_code == (200 if query else 502)
        assert "sw0rdfish" not in answer.text
        assert "[redacted]" in answer.text
    cloud.stop()


def test_a_log_line_stays_one_that_can_be_read(hooked: Relay) -> None:
    answer = call(hooked, "both", {**event(hooked), "record": "acme/" + "a" * 300_000})
    assert len(json.dumps(hooked.logged(answer.headers["Relay-Delivery"]))) < 4_000


def test_a_parameter_of_the_senders_own(hooked: Relay) -> None:
    assert call(hooked, "token", event(hooked), query="run=17&page=1").status_code == 200


# Native events beside hooks


def test_allow_limits_native_events_alone(hooked: Relay) -> None:
    payload = event(hooked)
    native = {"provider": "apify", "dataset": payload["dataset"], "update": {"name": None}}
    problem = assert_problem(hooked.post(native), 403, "not-allowed")
    assert payload["dataset"] in problem["detail"]
    assert_problem(hooked.post(native, path="/?dry_run=true"), 403, "not-allowed")
    assert_problem(hooked.post({**native, "update": {}}), 422, "invalid")
    assert access(hooked, payload) is None
    allowed = {"provider": "data.world", "dataset": payload["record"], "update": {"title": "x"}}
    assert hooked.post(allowed).status_code == 200
    assert call(hooked, "token", payload).status_code == 200


# Faults of our own


def test_a_fault_in_one_update_does_not_hide_the_other(launch: Launch, tmp_path: Path) -> None:
    relay = launch(
        FUNCTION_SOURCE=str(ROOT / "tests/faulty.py"),
        RELAY_CONFIG=written(tmp_path, {"both": hook(APIFY, DATA_WORLD)}),
        HOOK_SECRET=SECRET,
        FAULTY_PROVIDER="apify",
    )
    answer = call(relay, "both", event(relay))
    assert answer.status_code == 502
    failed, done = answer.json()["results"]
    assert (failed["status"], failed["problem"]["type"]) == (500, "urn:dataset-relay:problem:unexpected")
    assert done["status"] == 200
    entry = relay.logged(answer.headers["Relay-Delivery"])
    assert "RuntimeError" in entry["stack_trace"]
    assert relay.cloud.apify_token not in relay.log_text()


def test_a_sender_more(launch: Launch, tmp_path: Path) -> None:
    """A row of the table is all that a new sender takes, as CONTRIBUTING says."""
    relay = launch(
        FUNCTION_SOURCE=str(ROOT / "tests/another_sender.py"),
        RELAY_CONFIG=written(tmp_path, {"a": hook(APIFY, sender="some-pipeline")}),
        HOOK_SECRET=SECRET,
    )
    payload = event(relay, run=unique("run"))
    body = json.dumps(payload).encode()
    signature = proven("github", SECRET, body)[0]["X-Hub-Signature-256"].removeprefix("sha256=")
    answer = relay.send(body, path="/hooks/a", headers={"X-Some-Signature": f"hmac {signature}"})
    assert answer.status_code == 200
    assert answer.headers["Relay-Delivery"] == payload["run"]
    assert_problem(relay.send(body, path="/hooks/a", headers={"X-Some-Signature": signature}), 401, "unproven")
