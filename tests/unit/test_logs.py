"""Tests of the log: the fields of Cloud Logging, stacks without messages, and a log that nothing reads."""

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from handlers import logs
from handlers.logs import LOGGER, LineHandler, configure, stack, without_query, write

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def configuration() -> Iterator[None]:
    """Restore the configuration of the log."""
    root = logging.getLogger()
    before = root.handlers, root.level, LOGGER.handlers, LOGGER.level, LOGGER.propagate
    yield
    root.handlers, LOGGER.handlers, LOGGER.propagate = before[0], before[2], before[4]
    root.setLevel(before[1])
    LOGGER.setLevel(before[3])


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    """Configure the log, and provide its lines."""
    path = tmp_path / "log"

    def read() -> list[dict[str, Any]]:
        LOGGER.handlers[0].flush()
        return [json.loads(line) for line in path.read_text().splitlines()]

    with path.open("w") as stream:
        configure("INFO", stream)
        yield read


def test_write_puts_fields_into_the_line(lines: Lines) -> None:
    write(logging.INFO, "two\nlines %s", {"status": 200, "é": "ü"})
    write(logging.DEBUG, "not shown", {})
    assert lines() == [{"severity": "INFO", "message": "two\nlines %s", "status": 200, "é": "ü"}]


def test_write_after_a_flush_writes_the_line(lines: Lines) -> None:
    for number in range(3):
        write(logging.INFO, "a", {"number": number})
        assert [line["number"] for line in lines()] == list(range(number + 1))


def test_configure_library_warning_names_the_library(lines: Lines) -> None:
    logging.getLogger("urllib3").warning("The pool is full.")
    logging.getLogger("urllib3").info("not shown")
    assert lines() == [{"severity": "WARNING", "message": "The pool is full.", "logger": "urllib3"}]


def test_configure_message_of_a_library_has_no_query(lines: Lines) -> None:
    logging.getLogger("werkzeug").error('127.0.0.1 "POST /hooks/airbyte?token=CANARY HTTP/1.1" 200')
    assert lines()[0]["message"] == '127.0.0.1 "POST /hooks/airbyte'


def test_configure_without_stdout_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    configure("INFO", None)
    write(logging.INFO, "lost", {})
    LOGGER.handlers[0].flush()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/a", "/a"), ("/a?b", "/a"), ("/a%3Fb", "/a"), ("/a%3fb", "/a"), ("/a%25253Fb", "/a"), ("/a%3E", "/a%3E")],
)
def test_without_query_ends_at_the_question_mark(text: str, expected: str) -> None:
    assert without_query(text) == expected


# A log that nothing reads, or that can't be written


@dataclass
class Pipe:
    """A log that goes to a pipe, which nothing reads until the test calls `read`."""

    reader: int
    writer: int
    handler: LineHandler
    is_open: bool = True
    received: bytearray = field(default_factory=bytearray)

    def write(self, count: int, start: int = 0) -> None:
        """Log lines of 1,000 bytes with consecutive numbers."""
        for number in range(start, start + count):
            self.handler.handle(logging.makeLogRecord({"msg": f"{number:04}".ljust(960), "levelname": "INFO"}))

    def read(self, is_complete: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Return the lines that arrive, once the lines are complete."""
        while True:
            lines = [json.loads(line) for line in self.received.splitlines() if line.endswith(b"}")]
            if is_complete(lines):
                return lines
            self.received += os.read(self.reader, 65536)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    monkeypatch.setattr(logs, "_MAX_QUEUED", 20_000)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    handler = LineHandler(writer)
    handler.setFormatter(logs.JSONFormatter())
    value = Pipe(reader, writer, handler)
    yield value
    # The writing end must stay open until the thread has ended. Without a reader, a write fails at once.
    if value.is_open:
        os.close(reader)
    handler.flush()
    os.close(writer)


def numbers(lines: list[dict[str, Any]]) -> list[int]:
    return [int(line["message"]) for line in lines if "dropped_lines" not in line]


def dropped(lines: list[dict[str, Any]]) -> int:
    return sum(line.get("dropped_lines", 0) for line in lines)


def test_emit_log_that_nothing_reads_drops_and_counts_lines(pipe: Pipe) -> None:
    # Without a limit on the queue, and with a writer that blocks the caller, this call would never return.
    pipe.write(100)
    lines = pipe.read(lambda lines: len(numbers(lines)) + dropped(lines) == 100)
    # The queue has room for 20 lines, and the pipe and the thread for a few more.
    assert dropped(lines) >= 70
    assert numbers(lines) == sorted(set(numbers(lines)))
    for report in [line for line in lines if "dropped_lines" in line]:
        assert report["severity"] == "WARNING"
        assert f"dropped {report['dropped_lines']} log lines" in report["message"]
    # The log continues.
    pipe.write(1, start=100)
    assert numbers(pipe.read(lambda lines: 100 in numbers(lines)))[-1] == 100


def test_flush_log_that_nothing_reads_ends_after_a_second(pipe: Pipe) -> None:
    pipe.write(10)
    started = time.monotonic()
    pipe.handler.flush()
    assert time.monotonic() - started >= 1
    # The thread still writes the lines if something reads them, and ends then.
    assert numbers(pipe.read(lambda lines: len(lines) == 10)) == list(range(10))


def test_emit_many_lines_writes_several_at_once(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write_all = logs.write_all

    def record(descriptor: int, content: bytes) -> None:
        written.append(content)
        write_all(descriptor, content)

    monkeypatch.setattr(logs, "write_all", record)
    pipe.write(20)
    assert len(pipe.read(lambda lines: len(lines) == 20)) == 20
    # The first write has the lines that were there when the thread started.
    assert len(written) < 10
    assert all(len(content) <= 4096 for content in written)


def test_emit_non_blocking_stdout_waits_for_the_reader(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    pipe.write(10)
    time.sleep(0.3)
    assert numbers(pipe.read(lambda lines: len(lines) == 10)) == list(range(10))


def test_emit_reader_that_has_gone_raises_nothing(pipe: Pipe) -> None:
    os.close(pipe.reader)
    pipe.is_open = False
    pipe.write(10)
    pipe.handler.flush()
    # The thread has tried to write each line, and has ended.
    assert (len(pipe.handler._lines), pipe.handler._dropped, pipe.handler._thread) == (0, 10, None)


def test_emit_no_thread_available_keeps_the_line(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", fail)
        pipe.write(1)
    pipe.handler.flush()
    pipe.write(1, start=1)
    assert numbers(pipe.read(lambda lines: len(lines) == 2)) == [0, 1]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_fork_lines_of_both_processes_are_written_once(pipe: Pipe) -> None:
    pipe.write(3)
    child = os.fork()
    if child == 0:
        pipe.write(1, start=3)
        pipe.handler.flush()
        os._exit(0)
    os.waitpid(child, 0)
    pipe.write(1, start=4)
    assert numbers(pipe.read(lambda lines: len(lines) >= 5)) == [0, 1, 2, 3, 4]


# Stacks


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
