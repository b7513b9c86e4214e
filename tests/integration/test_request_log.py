"""Tests of the log lines of requests."""

import json
import uuid

import pytest

from deploy.local.cloud import PROJECT, ROOT
from tests.support.canary import secret
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
