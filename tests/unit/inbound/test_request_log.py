"""Tests of the log line of a request."""

import logging
from typing import Any, cast

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from handlers.deadline import Deadline
from handlers.delivery.delivery import Delivery, DeliveryContext
from handlers.inbound.request import InboundRequest
from handlers.inbound.request_log import RequestLog, trace_fields
from handlers.providers.base import Response
from schemas.event import Update
from schemas.problem import Problem, RelayError, UnknownRouteError, UpstreamDeniedError

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, (TRACE, SPAN, True)),
        ({"traceparent": f"00-{TRACE}-{SPAN}-00"}, (TRACE, SPAN, False)),
        ({"traceparent": f"cc-{TRACE}-{SPAN}-01-what-comes"}, (TRACE, SPAN, True)),
        ({"x-cloud-trace-context": f"{TRACE}/123;o=1"}, (TRACE, "000000000000007b", True)),
        ({"x-cloud-trace-context": f"{TRACE.upper()}/123"}, (TRACE, "000000000000007b", False)),
        ({"x-cloud-trace-context": TRACE}, (TRACE, "0" * 16, False)),
        ({"traceparent": "junk", "x-cloud-trace-context": f"{TRACE}/1;o=0"}, (TRACE, "0" * 15 + "1", False)),
    ],
)
def test_trace_fields_valid_header(headers: dict[str, str], expected: tuple[str, str, bool]) -> None:
    fields = trace_fields(headers, "proj")
    assert fields == {
        "logging.googleapis.com/trace": f"projects/proj/traces/{expected[0]}",
        "logging.googleapis.com/spanId": expected[1],
        "logging.googleapis.com/trace_sampled": expected[2],
    }
    assert trace_fields(headers, None)["logging.googleapis.com/trace"] == expected[0]


@pytest.mark.parametrize(
    "headers",
    [{}, {"traceparent": ""}, {"traceparent": f"00-{TRACE}-{SPAN}"}, {"traceparent": f"00-{TRACE[:-1]}g-{SPAN}-01"},
     {"x-cloud-trace-context": f"{TRACE}/{'9' * 30}"}, {"x-cloud-trace-context": "../../x"}],
)  # fmt: skip
def test_trace_fields_invalid_header_returns_nothing(headers: dict[str, str]) -> None:
    assert trace_fields(headers, "proj") == {}


Line = tuple[int, str, dict[str, Any]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    """Return the list of the lines that the test writes: level, message, and fields."""
    written: list[Line] = []
    monkeypatch.setattr(
        "handlers.logs.write", lambda level, message, fields, _error=None: written.append((level, message, fields))
    )
    return written


def create_log(path: str = "/hooks/a") -> RequestLog:
    return RequestLog(InboundRequest(Request(EnvironBuilder(path, method="POST").get_environ())), None)


def create_delivery(error: RelayError | None = None, *, provider: str = "apify", dataset: str = "abc") -> Delivery:
    delivery = Delivery(Update(provider, dataset, {}), Deadline.after(60), cast(DeliveryContext, None))
    delivery.attempts = 2
    delivery.upstream_status = 401 if error else 204
    if error:
        delivery.problem = error.problem
    else:
        delivery.response = Response(204, None, is_empty=True)
    return delivery


def test_write_several_updates_lists_each_outcome(lines: list[Line]) -> None:
    log = create_log()
    log.outcome = "failed"
    failed = create_delivery(UpstreamDeniedError("No."), provider="data.world", dataset="d" * 1000)
    log.add([create_delivery(), failed])
    log.write(502, None)
    ((level, message, fields),) = lines
    assert (level, message) == (logging.ERROR, "POST /hooks/a: failed")
    assert (fields["provider"], fields["problem"]) == ("apify+data.world", "upstream-denied")
    assert "dataset" not in fields
    assert fields["updates"] == [
        {"provider": "apify", "dataset": "abc", "status": 204, "upstream_status": 204, "attempts": 2},
        {
            "provider": "data.world",
            "dataset": "d" * 256,
            "status": 502,
            "upstream_status": 401,
            "attempts": 2,
            "problem": "upstream-denied",
            "detail": "No.",
        },
    ]


def test_write_warnings_raise_the_level(lines: list[Line]) -> None:
    log = create_log()
    log.outcome = "delivered"
    log.warnings.append("updates.0.update.files.3.if fails.")
    log.write(200, None)
    ((level, message, fields),) = lines
    assert (level, message) == (logging.WARNING, "POST /hooks/a: delivered")
    assert fields["warnings"] == ["updates.0.update.files.3.if fails."]


def test_write_single_update_has_fields_of_the_update(lines: list[Line]) -> None:
    log = create_log()
    log.outcome = "failed"
    log.add([create_delivery(UpstreamDeniedError("No."))])
    log.write(502, None)
    ((_, message, fields),) = lines
    assert message == "POST /hooks/a: No."
    assert "updates" not in fields
    expected = {"provider": "apify", "dataset": "abc", "problem": "upstream-denied", "upstream_status": 401}
    assert fields.items() >= expected.items()


@pytest.mark.parametrize(
    ("status", "is_warning", "outcome", "level"),
    [(200, False, None, logging.INFO), (200, True, None, logging.WARNING), (404, False, "rejected", logging.WARNING),
     (503, False, "failed", logging.ERROR), (503, True, "failed", logging.ERROR),
     (503, False, "rejected", logging.WARNING), (500, False, "rejected", logging.WARNING)],
)  # fmt: skip
def test_write_level_depends_on_status_and_outcome(
    lines: list[Line], status: int, is_warning: bool, outcome: str | None, level: int
) -> None:
    log = create_log()
    log.is_warning, log.outcome = is_warning, outcome
    log.write(status, None)
    assert [line[0] for line in lines] == [level]


def test_write_path_is_without_query_and_short(lines: list[Line]) -> None:
    problem: Problem = UnknownRouteError("No such path.").problem
    separators = ("?", "%253F", "&", "%26", ";", "#", "%23", "\uff1f", "%EF%BC%9F", "=")
    for path in (*(f"/a{separator}token=CANARY" for separator in separators), "/" + "a" * 1000):
        create_log(path).write(404, problem)
    urls = [fields["httpRequest"]["requestUrl"] for _, _, fields in lines]
    assert urls == [*["/a"] * len(separators), "/" + "a" * 255]
    assert "CANARY" not in str(lines)
