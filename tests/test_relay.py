"""The function end to end: its routes, its answers, who may call, and what is logged."""

import json
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from standardwebhooks import Webhook

from deploy.local.cloud import PROJECT, ROOT, Cloud, secret_name
from deploy.local.signing import signed_headers
from tests.conftest import JSON_TYPE, Launch, Relay, assert_problem, unique
from tests.raw import exchange

CLOUD_EVENT = "application/cloudevents+json"


def apify_event(relay: Relay, **more: Any) -> dict[str, Any]:
    """A valid event for a new dataset."""
    return {
        "provider": "apify",
        "dataset": relay.apify_dataset(),
        "update": {"generalAccess": "RESTRICTED"},
        **more,
    }


# Both updates, whole


def test_an_apify_put(relay: Relay) -> None:
    dataset, name = relay.apify_dataset(), unique("products")
    event = {
        "provider": "apify",
        "dataset": dataset,
        "update": {"generalAccess": "ANYONE_WITH_NAME_CAN_READ", "name": name},
    }
    answer = relay.post(event)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    record = relay.cloud.apify.datasets[dataset]
    assert record["name"] == name
    assert record["generalAccess"] == "ANYONE_WITH_NAME_CAN_READ"
    assert answer.json()["data"] == {key: value for key, value in record.items() if key != "urlSigningSecretKey"}
    (call,) = relay.cloud.apify.seen(f"/datasets/{dataset}")
    assert (call.method, call.query) == ("PUT", "")
    assert call.headers["authorization"] == f"Bearer {relay.cloud.apify_token}"
    assert call.headers["content-type"] == "application/json"
    assert call.body == json.dumps(event["update"], separators=(",", ":")).encode()


def test_a_name_is_taken_away_with_null(relay: Relay) -> None:
    name = unique("named")
    dataset = relay.apify_dataset(name)
    answer = relay.post({"provider": "apify", "dataset": f"jane~{name}", "update": {"name": None}})
    assert answer.status_code == 200
    assert relay.cloud.apify.datasets[dataset]["name"] is None
    (call,) = relay.cloud.apify.seen(f"/datasets/jane~{name}")
    assert call.body == b'{"name":null}'


def test_a_data_world_patch(relay: Relay) -> None:
    dataset = relay.data_world_dataset()
    update = {
        "properties": {"z": 1, "a": {"ü": [1.5, None, True, -0.0, 10**25]}},
        "title": "Products 💶",
        "summary": "# Größe\n\n価格\u2028\n",
        "files": [{"name": "a.csv", "labels": ["clean data"], "source": {"url": "https://example.com/a.csv"}}],
        "tags": [],
    }
    answer = relay.post({"provider": "data.world", "dataset": dataset, "update": update})
    assert answer.status_code == 200
    assert answer.json() == {"message": "Dataset successfully updated."}
    (call,) = relay.cloud.data_world.seen(f"/datasets/{dataset}")
    assert call.method == "PATCH"
    assert call.headers["authorization"] == f"Bearer {relay.cloud.data_world_token}"
    assert call.body == json.dumps(update, separators=(",", ":"), ensure_ascii=False).encode()
    record = relay.cloud.data_world.datasets[dataset]
    assert {key: record[key] for key in update} == update
    assert record["visibility"] == "PRIVATE"


# CloudEvents


def test_a_structured_cloud_event(relay: Relay) -> None:
    run = unique("run")
    envelope = {
        "specversion": "1.0",
        "id": run,
        "source": "/pipelines/7",
        "type": "com.example.done",
        "time": "2026-11-22T08:30:00.123456789Z",
        "comexample": True,
        "datacontenttype": "application/json",
        "data": apify_event(relay, id="inner"),
    }
    for content_type in (CLOUD_EVENT, f"{CLOUD_EVENT}; charset=UTF-8"):
        answer = relay.post(envelope, headers={"Content-Type": content_type})
        assert answer.status_code == 200
        assert answer.headers["Relay-Delivery"] == run
    broken = relay.post({**envelope, "source": ""}, headers={"Content-Type": CLOUD_EVENT})
    assert list(assert_problem(broken, 422, "invalid")["errors"]) == ["source"]
    assert broken.headers["Relay-Delivery"] == run


def test_a_binary_cloud_event(relay: Relay) -> None:
    run = unique("run")
    headers = {"ce-specversion": "1.0", "ce-id": run, "ce-source": "/p", "ce-type": "done", "ce-extra": "x"}
    answer = relay.post(apify_event(relay, id="inner"), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Relay-Delivery"] == run
    del headers["ce-source"]
    broken = relay.post(apify_event(relay, id="inner"), headers=headers)
    assert list(assert_problem(broken, 422, "invalid")["errors"]) == ["ce-source"]
    assert broken.headers["Relay-Delivery"] == run


def test_a_batch_of_cloud_events_is_not_taken(relay: Relay) -> None:
    answer = relay.post([], headers={"Content-Type": "application/cloudevents-batch+json"})
    assert_problem(answer, 415, "unsupported-media-type")


# The routes


@pytest.mark.parametrize("path", ["/health", "/health/", "/health?x=1"])
def test_health(relay: Relay, path: str) -> None:
    answer = relay.send(b"", method="GET", path=path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["Relay-Delivery"]
    assert relay.send(b"", method="HEAD", path=path).content == b""


@pytest.mark.parametrize(
    "path",
    [
        "/x",
        "/health/x",
        "/index.html",
        "/deliveries",
        "/hooks/a",
        "/openapi.yaml",
        "/robots.txt",
        "/favicon.ico",
        "/a%0Ab",
        "/health%0A",
        "/hooks/a%0D%0A/",
        "/%2e%2e/",
        "/health//",
        "//health",
        "//",
        "/é",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_unknown_routes(relay: Relay, path: str, method: str) -> None:
    answer = relay.send(b"{}" if method in ("POST", "PUT") else b"", method=method, path=path)
    assert_problem(answer, 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        *[(method, "/", "POST") for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")],
        *[(method, "/health", "GET, HEAD") for method in ("POST", "PUT", "OPTIONS")],
        *[(method, "/openapi.json", "GET, HEAD") for method in ("POST", "DELETE", "OPTIONS")],
    ],
)
def test_wrong_methods(relay: Relay, method: str, path: str, allow: str) -> None:
    answer = relay.send(b"", method=method, path=path)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == allow


def test_the_checks_come_in_their_order(launch: Launch) -> None:
    relay = launch(RELAY_MAX_BODY_BYTES="1000")
    big, plain = b"x" * 1001, {"Content-Type": "text/plain"}
    wrong = {"Content-Type": JSON_TYPE, "Authorization": "Bearer no"}
    right = {"Content-Type": JSON_TYPE, **relay.bearer}
    event = json.dumps({"provider": "apify", "dataset": "", "update": {}})
    assert relay.send(big, path="/x", headers=plain).status_code == 404
    assert relay.send(big, method="PUT", headers=plain).status_code == 405
    assert relay.send(big, headers=plain).status_code == 413
    assert relay.send(b"not json", headers=plain).status_code == 415
    assert relay.send(b"not json", headers=wrong).status_code == 401
    assert relay.send(b"not json", path="/?dry_run=x", headers=right).status_code == 400
    assert relay.send(event, path="/?dry_run=x", headers=right).status_code == 422


# The body


def head(relay: Relay, *lines: str) -> bytes:
    bearer = f"Authorization: Bearer {relay.cloud.relay_secret}"
    return "\r\n".join(
        ["POST / HTTP/1.1", "Host: x", "Content-Type: application/json", bearer, *lines, "", ""]
    ).encode()


def chunked(body: bytes, size: int = 100) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_a_body_on_each_side_of_the_limit(launch: Launch) -> None:
    relay = launch(RELAY_MAX_BODY_BYTES="1000")
    event = json.dumps(apify_event(relay)).encode()
    fitting, larger = event.ljust(1000), event.ljust(1001)
    headers = {"Content-Type": JSON_TYPE, **relay.bearer}
    assert relay.send(fitting, headers=headers).status_code == 200
    problem = assert_problem(relay.send(larger, headers=headers), 413, "too-large")
    assert "1000 bytes (RELAY_MAX_BODY_BYTES)" in problem["detail"]
    for body, status in ((fitting, b"200"), (larger, b"413"), (event * 50, b"413")):
        answer = exchange(relay, head(relay, "Transfer-Encoding: chunked") + chunked(body)).received
        assert answer.startswith(b"HTTP/1.1 " + status), answer


def test_a_body_over_the_limit_is_not_waited_for(relay: Relay) -> None:
    began = time.monotonic()
    answer = exchange(relay, head(relay, "Content-Length: 10000000000") + b'{"a": ').received
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"too-large" in answer
    assert time.monotonic() - began < 5


def test_a_body_that_ends_early_is_no_event(relay: Relay) -> None:
    with socket.create_connection(("127.0.0.1", relay.function.port), timeout=10) as connection:
        connection.sendall(head(relay, "Content-Length: 100") + b'{"provider": "apify"}')
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert relay.send(b"", method="GET", path="/health").status_code == 200


def test_a_broken_chunk_is_no_event(relay: Relay) -> None:
    answer = exchange(relay, head(relay, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n").received
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/json"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": JSON_TYPE, "Content-Encoding": "gzip"},
        {"Content-Type": JSON_TYPE, "Content-Encoding": "identity"},
    ],
)
def test_media_types(relay: Relay, headers: dict[str, str]) -> None:
    body = json.dumps(apify_event(relay))
    assert_problem(relay.send(body, headers={**relay.bearer, **headers}), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "APPLICATION/JSON;charset=utf-8", "application/vnd.example+json"]
)
def test_json_media_types(relay: Relay, content_type: str) -> None:
    assert relay.post(apify_event(relay), headers={"Content-Type": content_type}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b'{"a":1,"a":1}', b'{"a":NaN}', b'{"a":1e999}', b'{"a":"\\ud800"}', b"[" * 100_000,
     b'{"a":' * 65 + b"1" + b"}" * 65],
)  # fmt: skip
def test_what_is_no_json(relay: Relay, body: bytes) -> None:
    answer = relay.send(body, headers={"Content-Type": JSON_TYPE, **relay.bearer})
    assert_problem(answer, 400, "not-json")


# Who calls


def test_signed_by_the_official_library(relay: Relay) -> None:
    from datetime import UTC, datetime

    body, message_id, now = json.dumps(apify_event(relay)), unique("msg"), datetime.now(UTC)
    signature = Webhook(relay.cloud.relay_secret).sign(message_id, now, body)
    for prefix in ("webhook", "svix"):
        answer = relay.send(
            body,
            headers={
                "Content-Type": JSON_TYPE,
                f"{prefix}-id": message_id,
                f"{prefix}-timestamp": str(int(now.timestamp())),
                f"{prefix}-signature": signature,
            },
        )
        assert answer.status_code == 200
        assert answer.headers["Relay-Delivery"] == message_id


def test_the_answer_never_says_what_was_wrong_with_a_proof(relay: Relay) -> None:
    body = json.dumps(apify_event(relay)).encode()
    good = signed_headers(relay.cloud.relay_secret, "m", body)
    stale = signed_headers(relay.cloud.relay_secret, "m", body, at=time.time() - 400)
    early = signed_headers(relay.cloud.relay_secret, "m", body, at=time.time() + 400)
    attempts = [
        {},
        stale,
        early,
        {**good, "webhook-id": "n"},
        {**good, "webhook-signature": "v1,"},
        {name: value for name, value in good.items() if name != "webhook-timestamp"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {relay.cloud.relay_secret}"},
        {"Authorization": relay.cloud.relay_secret},
        {"X-Authorization": f"Bearer {relay.cloud.relay_secret}"},
    ]
    said = set()
    for headers in attempts:
        answer = relay.send(body, headers={"Content-Type": JSON_TYPE, **headers})
        said.add(json.dumps(assert_problem(answer, 401, "unproven")))
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert len(said) == 1
    assert relay.send(body, headers={"Content-Type": JSON_TYPE, **good}).status_code == 200
    mixed = {**good, "Authorization": "Bearer wrong"}
    assert relay.send(body, headers={"Content-Type": JSON_TYPE, **mixed}).status_code == 200


def test_several_secrets_at_once(launch: Launch) -> None:
    relay = launch(RELAY_SECRET="env:OLD, relay-secret, missing-secret", OLD="old secret")
    for secret in ("old secret", relay.cloud.relay_secret):
        answer = relay.post(apify_event(relay), headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == 200
    answer = relay.post(apify_event(relay), headers={"Authorization": "Bearer neither"})
    problem = assert_problem(answer, 500, "secret-unusable")
    assert "missing-secret" not in problem["detail"]
    assert "RELAY_SECRET (3 of 3) can't be had: NOT_FOUND." in relay.log_text()
    assert "missing-secret" not in relay.log_text()
    assert "old secret" not in relay.log_text()


def test_a_damaged_signing_secret_opens_nothing(launch: Launch) -> None:
    relay = launch(RELAY_SECRET="env:DAMAGED", DAMAGED="whsec_")
    body = json.dumps(apify_event(relay)).encode()
    answer = relay.send(body, headers={"Content-Type": JSON_TYPE, **signed_headers("whsec_", "m", body)})
    assert_problem(answer, 500, "secret-unusable")


def test_without_a_secret_nobody_may_call(launch: Launch) -> None:
    relay = launch(RELAY_SECRET=None)
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        answer = relay.send(json.dumps(apify_event(relay)), headers={"Content-Type": JSON_TYPE, **headers})
        assert_problem(answer, 401, "unproven")
    assert "RELAY_SECRET isn't set" in relay.log_text()


def test_checking_can_be_turned_off_where_it_is_said(launch: Launch) -> None:
    relay = launch(RELAY_SECRET=None, RELAY_ALLOW_UNAUTHENTICATED="true")
    answer = relay.send(json.dumps(apify_event(relay)), headers={"Content-Type": JSON_TYPE})
    assert answer.status_code == 200
    assert "whoever reaches this function" in relay.log_text()


def test_who_proves_nothing_costs_no_fetch(launch: Launch) -> None:
    cloud = Cloud().start()
    relay = launch(on=cloud)
    assert relay.send(b"{}", headers={"Content-Type": JSON_TYPE}).status_code == 401
    assert cloud.secret_manager.accesses == []
    cloud.stop()


# Delivery ids


def test_delivery_ids(relay: Relay) -> None:
    run = unique("run")
    assert relay.post(apify_event(relay, id=run)).headers["Relay-Delivery"] == run
    by_header = relay.post(apify_event(relay), headers={"webhook-id": "msg 7"})
    assert by_header.headers["Relay-Delivery"] == "msg 7"
    both = relay.post(apify_event(relay, id=run), headers={"webhook-id": "msg 7"})
    assert both.headers["Relay-Delivery"] == run
    assert uuid.UUID(relay.post(apify_event(relay)).headers["Relay-Delivery"]).version == 4
    for unusable in ("x" * 201, "é"):
        answer = relay.post(apify_event(relay), headers={"webhook-id": unusable.encode()})  # type: ignore[dict-item]
        assert uuid.UUID(answer.headers["Relay-Delivery"])
    assert uuid.UUID(relay.post(apify_event(relay, id=" ")).headers["Relay-Delivery"])
    refused = relay.post(apify_event(relay, id=run, update={}))
    assert (refused.status_code, refused.headers["Relay-Delivery"]) == (422, run)
    unproven = relay.send(b"{}", headers={"Content-Type": JSON_TYPE, "webhook-id": "msg-8"})
    assert unproven.headers["Relay-Delivery"] == "msg-8"


# Dry runs


def test_dry_run_shows_the_call_without_credentials(relay: Relay) -> None:
    dataset = relay.data_world_dataset()
    source = {
        "url": "https://me:hunter2@example.com/a.csv",
        "requestHeaders": {"Authorization": "Bearer tok-98765", "Accept": "text/csv"},
        "credentials": {"user": "someuser", "password": "swordfish"},
        "authorization": {"type": "Custom", "credentials": "cred-1234"},
    }
    event = {"provider": "data.world", "dataset": dataset, "update": {"files": [{"name": "a.csv", "source": source}]}}
    answer = relay.post(event, path="/?dry_run=true", headers={"webhook-id": unique("dry")})
    assert answer.status_code == 200
    shown = answer.json()
    assert shown["dry_run"] is True
    assert shown["token"] == f"{secret_name('data-world-token')}/versions/1"
    assert shown["request"]["method"] == "PATCH"
    assert shown["request"]["url"] == f"{relay.cloud.data_world.base_url}/datasets/{dataset}"
    assert shown["request"]["headers"]["Authorization"] == "Bearer [redacted]"
    shown_source = shown["request"]["body"]["files"][0]["source"]
    assert shown_source["url"] == "https://[redacted]@example.com/a.csv"
    assert shown_source["requestHeaders"] == {"Authorization": "[redacted]", "Accept": "text/csv"}
    for secret in ("hunter2", "tok-98765", "swordfish", "cred-1234", "someuser", relay.cloud.data_world_token):
        assert secret not in answer.text
    assert relay.cloud.data_world.seen(f"/datasets/{dataset}") == []
    entry = relay.logged(answer.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["dry_run"], entry["message"]) == ("ignored", True, "POST /: dry run")
    assert relay.post(event, path="/?dry_run=false").status_code == 200
    assert relay.cloud.data_world.seen(f"/datasets/{dataset}")[0].json == event["update"]


def test_dry_run_says_where_a_token_came_from(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("dw-token-in-a-file")
    relay = launch(APIFY_TOKEN="env:TOKEN", TOKEN="apify-token-in-a-variable", DATA_WORLD_TOKEN=f"file:{path}")
    assert relay.post(apify_event(relay), path="/?dry_run=true").json()["token"] == "env:TOKEN"
    event = {"provider": "data.world", "dataset": "acme/products", "update": {"title": "x"}}
    assert relay.post(event, path="/?dry_run=true").json()["token"] == f"file:{path}"


@pytest.mark.parametrize("query", ["dry_run=1", "dry_run=", "dry_run=True", "dry_run=true&dry_run=false", "dry_run"])
def test_dry_run_is_true_or_false(relay: Relay, query: str) -> None:
    event = apify_event(relay)
    answer = relay.post(event, path=f"/?{query}")
    assert list(assert_problem(answer, 422, "invalid")["errors"]) == ["dry_run"]
    assert relay.cloud.apify.seen(f"/datasets/{event['dataset']}") == []


@pytest.mark.parametrize("name", ["dryrun", "dry-run", "Dry_Run", "dry_runs"])
def test_a_misspelt_dry_run_sends_nothing(relay: Relay, name: str) -> None:
    event = apify_event(relay)
    answer = relay.post(event, path=f"/?{name}=true")
    assert assert_problem(answer, 422, "invalid")["errors"] == {name: ["Unknown parameter; did you mean dry_run?"]}
    assert relay.cloud.apify.seen(f"/datasets/{event['dataset']}") == []


# Tokens


def test_a_provider_without_a_token(launch: Launch) -> None:
    relay = launch(DATA_WORLD_TOKEN=None)
    event = {"provider": "data.world", "dataset": "acme/products", "update": {"title": "x"}}
    for path in ("/", "/?dry_run=true"):
        problem = assert_problem(relay.post(event, path=path), 422, "invalid")
        assert "DATA_WORLD_TOKEN" in problem["errors"]["provider"][0]
    assert relay.post(apify_event(relay)).status_code == 200


def test_tokens_that_cannot_be_had(launch: Launch) -> None:
    cloud = Cloud().start()
    relay = launch(on=cloud, APIFY_TOKEN="damaged", DATA_WORLD_TOKEN="nobody-has-it", RELAY_DEADLINE_SECONDS="2")
    cloud.secret_manager.add_version(secret_name("damaged"), "two\nlines")
    missing = relay.post({"provider": "data.world", "dataset": "acme/products", "update": {"title": "x"}})
    assert "NOT_FOUND" in assert_problem(missing, 500, "secret-unusable")["detail"]
    damaged = assert_problem(relay.post(apify_event(relay)), 500, "secret-unusable")
    assert "printable ASCII" in damaged["detail"]
    assert "lines" not in json.dumps(damaged)
    cloud.secret_manager.refusals[secret_name("nobody-has-it")] = grpc.StatusCode.UNAVAILABLE
    answer = relay.post({"provider": "data.world", "dataset": "acme/products", "update": {"title": "x"}})
    assert_problem(answer, 503, "secret-unreachable", retryable=True)
    assert answer.headers["Retry-After"] == "5"
    cloud.stop()


def test_our_own_secret_that_cannot_be_reached(launch: Launch) -> None:
    cloud = Cloud().start()
    relay = launch(on=cloud, RELAY_DEADLINE_SECONDS="2")
    cloud.secret_manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
    answer = relay.post(apify_event(relay))
    problem = assert_problem(answer, 503, "secret-unreachable", retryable=True)
    assert "projects/" not in problem["detail"]
    assert answer.headers["Retry-After"] == "5"
    cloud.stop()


def test_a_burst_on_a_cold_cache_makes_one_fetch_a_secret(launch: Launch) -> None:
    cloud = Cloud().start()
    relay = launch(on=cloud, THREADS="16")
    cloud.secret_manager.delay = 0.2
    event = apify_event(relay)
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda _: relay.post(event).status_code, range(12)))
    assert statuses == [200] * 12
    assert sorted(cloud.secret_manager.accesses) == [
        f"{secret_name('apify-token')}/versions/latest",
        f"{secret_name('relay-secret')}/versions/latest",
    ]
    cloud.stop()


# The log


def test_the_log_line(relay: Relay) -> None:
    run, trace = unique("run"), uuid.uuid4().hex
    event = apify_event(relay, id=run)
    answer = relay.post(event, path="/?token=do-not-log", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert answer.status_code == 200
    entry = relay.logged(run)
    assert entry["duration_ms"] > 0
    assert float(entry["httpRequest"].pop("latency").removesuffix("s")) > 0
    entry.pop("duration_ms")
    size = entry["httpRequest"].pop("requestSize")
    assert int(size) == len(json.dumps(event))
    assert entry == {
        "severity": "INFO",
        "message": "POST /: delivered",
        "delivery": run,
        "sender": "token",
        "provider": "apify",
        "dataset": event["dataset"],
        "outcome": "delivered",
        "status": 200,
        "upstream_status": 200,
        "attempts": 1,
        "httpRequest": {"requestMethod": "POST", "requestUrl": "/", "status": 200},
        "logging.googleapis.com/trace": f"projects/{PROJECT}/traces/{trace}",
        "logging.googleapis.com/spanId": "00f067aa0ba902b7",
        "logging.googleapis.com/trace_sampled": True,
    }
    assert "do-not-log" not in relay.log_text()


@pytest.mark.parametrize("mark", ["%3F", "%3f", "%253F", "%25253f"])
def test_a_query_whose_question_mark_was_encoded_is_not_logged(relay: Relay, mark: str) -> None:
    """To the server it is a part of the path: a 404, which has brought the secret all the same."""
    answer = relay.post({}, path=f"/hooks/airbyte{mark}token=keep-this-out")
    assert_problem(answer, 404, "not-found")
    assert relay.logged(answer.headers["Relay-Delivery"])["httpRequest"]["requestUrl"] == "/hooks/airbyte"
    assert "keep-this-out" not in relay.log_text()


def test_outcomes_and_severities(relay: Relay) -> None:
    run = unique("run")
    relay.post(apify_event(relay, id=f"{run}-1", update={}))
    relay.post({"id": f"{run}-2", "provider": "apify", "dataset": "jane~missing", "update": {"name": None}})
    relay.send(b"{}", headers={"Content-Type": JSON_TYPE, "webhook-id": f"{run}-3"})
    relay.send(b"", path="/nowhere", headers={"webhook-id": f"{run}-4"})
    relay.send(b"", path="/health", method="GET", headers={"webhook-id": f"{run}-5"})
    entries = [relay.logged(f"{run}-{number}") for number in range(1, 6)]
    keys = ("severity", "outcome", "status", "upstream_status", "attempts")
    assert [tuple(entry.get(key) for key in keys) for entry in entries] == [
        ("WARNING", "rejected", 422, None, None),
        ("WARNING", "failed", 404, 404, 1),
        ("WARNING", "rejected", 401, None, None),
        ("WARNING", "rejected", 404, None, None),
        ("INFO", None, 200, None, None),
    ]
    assert entries[0]["errors"]["update"][0].startswith("At least one field")


def test_every_request_has_one_line(launch: Launch) -> None:
    relay = launch()
    before = len(relay.log_text().splitlines())
    ids = [relay.post(apify_event(relay)).headers["Relay-Delivery"] for _ in range(5)]
    ids += [relay.send(b"x", path=path).headers["Relay-Delivery"] for path in ("/", "/x", "/health")]
    lines = [json.loads(line) for line in relay.log_text().splitlines()[before:]]
    assert [line["delivery"] for line in lines] == ids


def test_the_log_level(launch: Launch) -> None:
    relay = launch(LOG_LEVEL="warning")
    assert relay.post(apify_event(relay)).status_code == 200
    assert relay.post({}).status_code == 422
    lines = [json.loads(line) for line in relay.log_text().splitlines()]
    assert [line["severity"] for line in lines] == ["WARNING"]


def test_a_fault_of_ours_is_an_answer_and_one_entry_without_secrets(launch: Launch) -> None:
    relay = launch(FUNCTION_SOURCE=str(ROOT / "tests/faulty.py"))
    source = {"url": "https://example.com", "credentials": {"user": "u", "password": "swordfish"}}
    update = {"files": [{"name": "a", "source": source}]}
    run = unique("run")
    event = {"id": run, "provider": "data.world", "dataset": "acme/products", "update": update}
    answer = relay.post(event)
    assert_problem(answer, 500, "unexpected")
    entry = relay.logged(run)
    assert (entry["severity"], entry["outcome"], entry["status"]) == ("ERROR", "failed", 500)
    assert entry["problem"] == "unexpected"
    assert "RuntimeError" in entry["stack_trace"]
    assert "LookupError" in entry["stack_trace"]
    assert "faulty.py" in entry["stack_trace"]
    assert relay.log_text().count("RuntimeError") == 2  # its type, and the source line that raised it
    for text in (answer.text, relay.log_text()):
        assert relay.cloud.relay_secret not in text
        assert "swordfish" not in text


def test_a_third_provider(launch: Launch) -> None:
    """A module, a schema and a line in the registry: what CONTRIBUTING says is all that a new provider takes."""
    relay = launch(FUNCTION_SOURCE=str(ROOT / "tests/third_provider.py"), SOME_HUB_TOKEN="env:T", T="hub-token")
    event = {"provider": "some.hub", "dataset": "acme/products", "update": {"titel": "x"}}
    problem = assert_problem(relay.post(event), 422, "invalid")
    assert "did you mean title?" in problem["errors"]["update.titel"][0]
    shown = relay.post({**event, "update": {"title": "x"}}, path="/?dry_run=true").json()
    assert shown["request"]["url"] == "https://hub.example/api/acme/products"
    assert shown["token"] == "env:T"


def test_answers_set_no_cookie(relay: Relay) -> None:
    answer = relay.post(apify_event(relay))
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
