"""Log lines: Cloud Logging's own fields, and stacks without what was being handled."""

import io
import json
import logging
from typing import Any

import pytest

from handlers.logs import LOGGER, configure, stack, trace_fields, write

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def lines() -> Any:
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers, root.level, LOGGER.handlers, LOGGER.level, LOGGER.propagate
    configure("INFO", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, LOGGER.handlers, LOGGER.propagate = before[0], before[2], before[4]
    root.setLevel(before[1])
    LOGGER.setLevel(before[3])


def test_a_line(lines: Any) -> None:
    write(logging.INFO, "one is\nhere", {"status": 200, "é": "ü"})
    write(logging.DEBUG, "not shown", {})
    assert lines() == [{"severity": "INFO", "message": "one is\nhere", "status": 200, "é": "ü"}]


def test_a_log_that_nobody_takes_stops_nothing(lines: Any) -> None:
    stream = io.StringIO()
    configure("INFO", stream)
    stream.close()
    write(logging.INFO, "lost", {})
    LOGGER.error("lost, too")


def test_libraries_are_heard_when_they_warn(lines: Any) -> None:
    logging.getLogger("urllib3").warning("pool is full")
    logging.getLogger("urllib3").info("not shown")
    assert lines() == [{"severity": "WARNING", "message": "pool is full", "logger": "urllib3"}]


def test_a_stack_has_places_and_types_but_no_message(lines: Any) -> None:
    def fail() -> None:
        try:
            int("s3cret")
        except ValueError as error:
            raise KeyError("s3cret again") from error

    try:
        fail()
    except KeyError as error:
        LOGGER.error("failed", exc_info=error)
        text = stack(error)
    entry = lines()[0]
    assert entry["stack_trace"] == text
    assert text.startswith("Traceback (most recent call last):")
    assert "test_logs.py" in text
    assert "builtins.ValueError" in text
    assert text.rstrip().endswith("builtins.KeyError")
    # Its own source line, which a stack quotes, is all that names it here.
    assert "s3cret" not in text.replace('int("s3cret")', "").replace('KeyError("s3cret again")', "")
    assert "invalid literal" not in text


def test_a_stack_that_goes_round_ends() -> None:
    one, two = ValueError(), TypeError()
    one.__cause__, two.__cause__ = two, one
    assert stack(one).count("builtins.") == 2


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
def test_traces(headers: dict[str, str], expected: tuple[str, str, bool]) -> None:
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
def test_no_traces(headers: dict[str, str]) -> None:
    assert trace_fields(headers, "proj") == {}
