"""Tests of the log: the fields of Cloud Logging, and stacks without messages."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from handlers.logs import LOGGER, configure, stack, write

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Configure the log, and provide its lines."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers, root.level, LOGGER.handlers, LOGGER.level, LOGGER.propagate
    configure("INFO", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, LOGGER.handlers, LOGGER.propagate = before[0], before[2], before[4]
    root.setLevel(before[1])
    LOGGER.setLevel(before[3])


def test_write_puts_fields_into_the_line(lines: Lines) -> None:
    write(logging.INFO, "two\nlines %s", {"status": 200, "é": "ü"})
    write(logging.DEBUG, "not shown", {})
    assert lines() == [{"severity": "INFO", "message": "two\nlines %s", "status": 200, "é": "ü"}]


def test_write_closed_stream_raises_nothing(lines: Lines) -> None:
    stream = io.StringIO()
    configure("INFO", stream)
    stream.close()
    write(logging.INFO, "lost", {})
    LOGGER.error("lost, too")


def test_configure_library_warning_names_the_library(lines: Lines) -> None:
    logging.getLogger("urllib3").warning("The pool is full.")
    logging.getLogger("urllib3").info("not shown")
    assert lines() == [{"severity": "WARNING", "message": "The pool is full.", "logger": "urllib3"}]


def test_stack_contains_types_and_locations_but_no_message(lines: Lines) -> None:
    def fail() -> None:
        try:
            int("hidden text")
        except ValueError as error:
            raise KeyError("hidden text again") from error

    try:
        fail()
    except KeyError as error:
        write(logging.ERROR, "failed", {}, error)
        text = stack(error)
    entry = lines()[0]
    assert entry["stack_trace"] == text
    assert text.startswith("Traceback (most recent call last):")
    assert "test_logs.py" in text
    assert "builtins.ValueError" in text
    assert text.rstrip().endswith("builtins.KeyError")
    # The source lines, which a stack quotes, contain the text here. The messages must not.
    assert "hidden text" not in text.replace('int("hidden text")', "").replace('KeyError("hidden text again")', "")
    assert "invalid literal" not in text


def test_stack_circular_causes_ends() -> None:
    one, two = ValueError(), TypeError()
    one.__cause__, two.__cause__ = two, one
    assert stack(one).count("builtins.") == 2
