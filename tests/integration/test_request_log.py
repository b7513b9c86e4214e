"""Tests of the log lines of requests."""

import fcntl
import json
import os
import sys
import uuid
from pathlib import Path

import pytest

from deploy.local.cloud import PROJECT, ROOT, Function, free_port
from tests.support.canary import secret
from tests.support.hooks import call, hook, update, written
from tests.support.raw_http import connect, exchange, receive_until_closed
from tests.support.relay import JSON_TYPE, Launch, Relay, assert_problem, unique


def test_log_line_of_a_delivered_event_has_every_field(relay: Relay) -> None:
    delivery_id, trace = unique("run"), uuid.uuid4().hex
    event = relay.apify_event(id=delivery_id)
    query_secret = secret("query-")
    response = relay.post(
        event, path=f"/?token={query_secret}", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    )
    assert response.status_code == 200
    entry = relay.logged(delivery_id)
    assert entry.pop("duration_ms") > 0
    assert float(entry["httpRequest"].pop("latency").removesuffix("s")) > 0
    assert entry == {
        "severity": "INFO",
        "message": "POST /: delivered",
        "delivery": delivery_id,
        "sender": "token",
        "provider": "apify",
        "dataset": event["dataset"],
        "outcome": "delivered",
        "status": 200,
        "upstream_status": 200,
        "attempts": 1,
        "httpRequest": {
            "requestMethod": "POST",
            "requestUrl": "/",
            "requestSize": str(len(json.dumps(event))),
            "status": 200,
        },
        "logging.googleapis.com/trace": f"projects/{PROJECT}/traces/{trace}",
        "logging.googleapis.com/spanId": "00f067aa0ba902b7",
        "logging.googleapis.com/trace_sampled": True,
    }
    assert query_secret not in relay.log_text()


@pytest.mark.parametrize("mark", ["%3F", "%3f", "%253F", "%25253f"])
def test_log_line_query_with_an_encoded_question_mark_is_not_logged(relay: Relay, mark: str) -> None:
    # For the server, the query is a part of the path. The response is a 404, but the caller has sent the secret.
    query_secret = secret("query-")
    response = relay.post({}, path=f"/hooks/airbyte{mark}token={query_secret}")
    assert_problem(response, 404, "not-found")
    assert relay.logged(response.headers["Relay-Delivery"])["httpRequest"]["requestUrl"] == "/hooks/airbyte"
    assert query_secret not in relay.log_text()


def test_log_line_outcome_and_severity_depend_on_the_status(relay: Relay) -> None:
    run = unique("run")
    relay.post(relay.apify_event(id=f"{run}-1", update={}))
    relay.post({"id": f"{run}-2", "provider": "apify", "dataset": "jane~missing", "update": {"name": None}})
    relay.send(b"{}", headers={"Content-Type": JSON_TYPE, "webhook-id": f"{run}-3"})
    relay.send(b"", path="/nowhere", headers={"webhook-id": f"{run}-4"})
    relay.send(b"", path="/health", method="GET", headers={"webhook-id": f"{run}-5"})
    entries = [relay.logged(f"{run}-{number}") for number in range(1, 6)]
    names = ("severity", "outcome", "problem", "status", "upstream_status", "attempts")
    assert [tuple(entry.get(name) for name in names) for entry in entries] == [
        ("WARNING", "rejected", "invalid", 422, None, None),
        ("WARNING", "failed", "upstream-rejected", 404, 404, 1),
        ("WARNING", "rejected", "unauthenticated", 401, None, None),
        ("WARNING", "rejected", "not-found", 404, None, None),
        ("INFO", None, None, 200, None, None),
    ]
    assert entries[0]["errors"]["update"][0].startswith("At least one field")


def test_log_every_request_has_one_line(launch: Launch) -> None:
    relay = launch()
    # The line of this request follows the lines of all earlier requests.
    assert relay.send(b"", method="GET", path="/health").status_code == 200
    before = len(relay.log_text().splitlines())
    ids = [relay.post(relay.apify_event()).headers["Relay-Delivery"] for _ in range(5)]
    ids += [relay.send(b"x", path=path).headers["Relay-Delivery"] for path in ("/", "/x", "/health")]
    lines = [json.loads(line) for line in relay.log_text().splitlines()[before:]]
    assert [line["delivery"] for line in lines] == ids


def test_log_level_warning_omits_successes(launch: Launch) -> None:
    relay = launch(LOG_LEVEL="warning")
    assert relay.post(relay.apify_event()).status_code == 200
    assert relay.post({}).status_code == 422
    lines = [json.loads(line) for line in relay.log_text().splitlines()]
    assert [line["severity"] for line in lines] == ["WARNING"]


def test_log_unforeseen_exception_is_one_entry_without_secrets(launch: Launch) -> None:
    relay = launch(FUNCTION_SOURCE=str(ROOT / "tests/support/faulty_function.py"))
    password = secret("password-")
    source = {"url": "https://example.com", "credentials": {"user": "u", "password": password}}
    delivery_id = unique("run")
    event = {
        "id": delivery_id,
        "provider": "data.world",
        "dataset": "acme/products",
        "update": {"files": [{"name": "a", "source": source}]},
    }
    response = relay.post(event)
    assert_problem(response, 500, "internal-error")
    entry = relay.logged(delivery_id)
    assert (entry["severity"], entry["outcome"], entry["status"]) == ("ERROR", "failed", 500)
    assert entry["problem"] == "internal-error"
    for part in ("RuntimeError", "LookupError", "faulty_function.py"):
        assert part in entry["stack_trace"]
    # The stack has the type of the exception, and the line of code that raised the exception.
    assert relay.log_text().count("RuntimeError") == 2
    for text in (response.text, relay.log_text()):
        assert relay.cloud.data_world_token not in text
        assert password not in text


# Failures that an unauthenticated caller causes


UNAUTHENTICATED_FAILURES: dict[str, tuple[dict[str, str], int, str]] = {
    "missing secret": ({"RELAY_SECRET": "missing-secret"}, 500, "secret-unusable"),
    "unreachable Secret Manager": (
        {"SECRET_MANAGER_EMULATOR_HOST": f"127.0.0.1:{free_port()}"}, 503, "secret-unreachable",
    ),
    "fault before the authentication": (
        {"FUNCTION_SOURCE": str(ROOT / "tests/support/faulty_authentication.py")}, 500, "internal-error",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNAUTHENTICATED_FAILURES)
def test_log_line_failure_before_the_authentication_is_rejected(launch: Launch, case: str) -> None:
    settings, status, name = UNAUTHENTICATED_FAILURES[case]
    relay = launch(**settings)
    response = relay.post(relay.apify_event())
    assert_problem(response, status, name, retryable=status == 503)
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["severity"], entry["problem"]) == ("rejected", "WARNING", name)
    # No other line alerts an operator either.
    lines = [json.loads(line) for line in relay.log_text().splitlines() if line.startswith("{")]
    assert {line["severity"] for line in lines} <= {"INFO", "WARNING"}


def test_log_line_failure_without_required_authentication_is_failed(launch: Launch) -> None:
    relay = launch(RELAY_ALLOW_UNAUTHENTICATED="true", APIFY_TOKEN="missing-secret")
    response = relay.post(relay.apify_event())
    assert_problem(response, 500, "secret-unusable")
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["severity"]) == ("failed", "ERROR")


# The valid fields of an event that breaks a rule


def test_log_line_invalid_native_event_has_its_valid_fields(relay: Relay) -> None:
    body = {"names": "x"}
    envelope = {"specversion": "1.0", "id": "", "source": "/", "type": "x"}
    valid = {"provider": "apify", "dataset": "jane~products"}
    for event, media_type, expected in (
        ({**valid, "update": body}, JSON_TYPE, ("apify", "jane~products")),
        ({**valid, "update": {"name": None}, "data": {}}, JSON_TYPE, ("apify", "jane~products")),
        ({"provider": "apify", "dataset": "a b", "update": body}, JSON_TYPE, ("apify", None)),
        ({"provider": "apify", "dataset": 1, "update": {}}, JSON_TYPE, ("apify", None)),
        ({"provider": "apify"}, JSON_TYPE, ("apify", None)),
        ({"provider": "apfy", "dataset": "jane~products", "update": {}}, JSON_TYPE, (None, None)),
        ({"provider": ["apify"], "dataset": "jane~products"}, JSON_TYPE, (None, None)),
        ({**envelope, "data": {**valid, "update": body}}, "application/cloudevents+json", ("apify", "jane~products")),
        ({**envelope, "data": []}, "application/cloudevents+json", (None, None)),
    ):
        response = relay.post(event, headers={"Content-Type": media_type})
        assert_problem(response, 422, "invalid")
        entry = relay.logged(response.headers["Relay-Delivery"])
        assert (entry.get("provider"), entry.get("dataset")) == expected, event


def test_log_line_invalid_parameter_has_the_fields_of_the_event(relay: Relay) -> None:
    event = relay.apify_event()
    response = relay.post(event, path="/?dry_run=x")
    assert_problem(response, 422, "invalid")
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["provider"], entry["dataset"]) == ("apify", event["dataset"])


def test_log_line_invalid_event_of_a_hook_has_known_fields(launch: Launch, tmp_path: Path) -> None:
    one = update("apify", "{{ event.dataset }}", {"name": "{{ event.name }}"})
    two = update("data.world", "acme/products", {"title": "{{ event.name }}"})
    hook_secret = secret("hook-")
    hooks = {"one": hook(one), "two": hook(one, two)}
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=hook_secret)
    for name, payload, expected in (
        ("one", {"dataset": "abc", "name": "-"}, ("apify", "abc")),
        ("one", {"dataset": "abc"}, ("apify", "abc")),
        ("one", {"dataset": "a b", "name": "x"}, ("apify", None)),
        ("one", {}, ("apify", None)),
        ("two", {"dataset": "abc", "name": "-" * 100}, ("apify+data.world", None)),
    ):
        response = call(relay, name, payload, secret=hook_secret)
        assert_problem(response, 422, "invalid")
        entry = relay.logged(response.headers["Relay-Delivery"])
        assert (entry.get("provider"), entry.get("dataset")) == expected, (name, payload)


# Numbers


@pytest.mark.parametrize("digits", [19, 20, 4200])
def test_log_line_declared_length_of_many_digits_is_a_number_of_64_bits(relay: Relay, digits: int) -> None:
    length = "9" * digits
    response = exchange(relay, f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
    assert response.status == 413
    delivery = relay.last_delivery
    assert delivery is not None
    entry = relay.logged(delivery)
    assert 0 <= int(entry["httpRequest"]["requestSize"]) < 2**63
    assert len(json.dumps(entry)) < 1000


# A log that nothing reads, and a server that logs by itself


def test_log_that_nothing_reads_stops_nothing(relay: Relay, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    # A pipe for about seven lines.
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    standard_error = tmp_path / "stderr"
    command = ("sh", "-c", 'exec "$@" 2>"$STANDARD_ERROR"', "sh", sys.executable, "-m", "functions_framework")
    function = Function(
        relay.cloud.settings(),
        log=writer,
        environ={"STANDARD_ERROR": str(standard_error)},
        command=(*command, "--target", "relay"),
    )
    os.close(writer)
    try:
        silent = Relay(relay.cloud, function.wait_until_up(), tmp_path / "no-log")

        def send_events() -> list[str]:
            responses = [silent.post(silent.apify_event()) for _ in range(50)]
            assert [response.status_code for response in responses] == [200] * 50
            assert silent.send(b"", method="GET", path="/health").status_code == 200
            return [response.headers["Relay-Delivery"] for response in responses]

        deliveries = send_events()
        # The log continues once something reads it.
        received = b""
        while not all(delivery.encode() in received for delivery in deliveries):
            received += os.read(reader, 65536)
        send_events()
        silent.session.close()
    finally:
        assert function.stop() == 0
        os.close(reader)
    # gunicorn reports a worker that doesn't end in time.
    assert standard_error.read_text() == ""


def test_log_of_the_development_server_has_no_query(relay: Relay, tmp_path: Path) -> None:
    token = secret("token-")
    log = tmp_path / "log"
    with log.open("wb") as stream:
        command = (sys.executable, "-m", "functions_framework", "--target", "relay", "--debug")
        function = Function(relay.cloud.settings(), log=stream, command=command)
    development = Relay(relay.cloud, function.wait_until_up(), log)
    try:
        for path in (f"/hooks/airbyte?token={token}", f"/?a=b&token={token}", f"/x%3Ftoken={token}", f"/?{token} x"):
            development.send(b"{}", path=path)
        # The server itself rejects this request, and logs the line.
        with connect(development) as connection:
            connection.sendall(f"GET /hooks/airbyte?token={token} HTTP/1.1 x\r\n\r\n".encode())
            receive_until_closed(connection)
        development.send(b"", method="GET", path="/health")
        text = development.log_text()
        assert "/hooks/airbyte" in text
        assert token not in text
    finally:
        development.session.close()
        function.stop()
    assert token not in log.read_text()
