"""The log: one JSON object per line on stdout, with the field names of Cloud Logging.

https://cloud.google.com/logging/docs/structured-logging
"""

import json
import logging
import os
import re
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

#: The logger of the function.
LOGGER = logging.getLogger("relay")

# The attribute of a log record with the additional fields of its line.
_FIELDS = "relay_fields"
_ENCODER = json.JSONEncoder(default=str)
# A query, whose question mark can be percent-encoded any number of times.
_QUERY = re.compile(r"(?:\?|%(?:25)*3[fF]).*", re.DOTALL)

# The size of the lines that wait for the writer, in bytes. Further lines are dropped.
_MAX_QUEUED = 4_000_000
# The size of the lines in one call of the operating system, in bytes. The lines of several processes don't mix, because
# a write of this size to a pipe is atomic (POSIX, write()).
_MAX_WRITTEN = select.PIPE_BUF
# The time for writing the last lines of a process, in seconds.
_FLUSH_SECONDS = 1.0
# The time between two attempts to write to a full stdout that doesn't block, in seconds.
_RETRY_SECONDS = 0.1


class JSONFormatter(logging.Formatter):
    """A formatter that writes a log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`, without a newline."""
        entry: dict[str, Any] = {"severity": record.levelname, "message": record.getMessage()}
        if record.name != LOGGER.name:
            entry["logger"] = record.name
            # The development server logs whole URLs, and a query can contain a sender's secret.
            entry["message"] = without_query(entry["message"])
        entry |= getattr(record, _FIELDS, {})
        if record.exc_info and record.exc_info[1]:
            entry["stack_trace"] = stack(record.exc_info[1])
        return _ENCODER.encode(entry)


class LineHandler(logging.Handler):
    """A handler that queues each line for a thread, which writes the lines to a file descriptor.

    Nothing waits for the reader of the log. If the queue is full, the handler drops lines, and logs their number once
    the thread can write again. The listener of `logging.handlers` neither counts dropped lines, nor writes several
    lines at once, nor ends within a time limit.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._reset()
        # A thread doesn't survive a fork of the server. The process that forks writes its own lines before the fork,
        # and the new process starts without these lines.
        os.register_at_fork(before=self.flush, after_in_child=self._reset)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._is_ending = False

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line of `record`, or drop the line if the queue is full."""
        line = f"{self.format(record)}\n".encode()
        with self._changed:
            if self._size + len(line) > _MAX_QUEUED:
                self._dropped += 1
                return
            self._lines.append(line)
            self._size += len(line)
            if self._thread:
                self._changed.notify()
            else:
                self._start()

    def flush(self) -> None:
        """Write the queued lines, for at most one second. `logging` calls this method at the end of the process."""
        with self._changed:
            thread = self._thread
            self._is_ending = thread is not None
            self._changed.notify()
        if thread:
            thread.join(_FLUSH_SECONDS)

    def _start(self) -> None:
        # If the process has too many threads, the next line tries again, and the new thread also writes this line.
        with suppress(RuntimeError):
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while batch := self._take():
            lines, dropped = batch
            try:
                write_all(self._descriptor, b"".join(lines))
                if dropped:
                    write_all(self._descriptor, _dropped_line(dropped))
            except OSError:
                # Nothing can read the log any more, or the disk is full. The next line tries again.
                with self._changed:
                    self._dropped += len(lines) + dropped

    def _take(self) -> tuple[list[bytes], int] | None:
        """Return the next lines to write, and the number of dropped lines, or None if the thread must end.

        Wait for the first line.
        """
        with self._changed:
            while not (self._lines or self._is_ending):
                self._changed.wait()
            if not self._lines:
                self._thread, self._is_ending = None, False
                return None
            lines = [self._lines.popleft()]
            size = len(lines[0])
            while self._lines and size + len(self._lines[0]) <= _MAX_WRITTEN:
                size += len(self._lines[0])
                lines.append(self._lines.popleft())
            self._size -= size
            dropped, self._dropped = self._dropped, 0
            return lines, dropped


def _dropped_line(count: int) -> bytes:
    entry = {
        "severity": "WARNING",
        "message": f"The function dropped {count} log lines, because stdout did not accept the lines in time.",
        "dropped_lines": count,
    }
    return f"{_ENCODER.encode(entry)}\n".encode()


def write_all(descriptor: int, content: bytes) -> None:
    """Write `content` to `descriptor`, and wait as long as necessary.

    A method of `sys.stdout` would hold a lock while it waits. Python needs this lock to end the process.

    Raises:
        OSError: Nothing can read the content any more, or the disk is full.
    """
    while content:
        try:
            content = content[os.write(descriptor, content) :]
        except BlockingIOError:
            # Another process can have set the descriptor to non-blocking, because processes share this flag.
            time.sleep(_RETRY_SECONDS)


def write(level: int, message: str, fields: Mapping[str, Any], error: BaseException | None = None) -> None:
    """Log `message` in a line that also contains `fields` and the stack of `error`."""
    if LOGGER.isEnabledFor(level):
        exc_info = (type(error), error, error.__traceback__) if error else None
        # LOGGER.log() would also search for the source line of its caller, which the line doesn't contain.
        record = LOGGER.makeRecord(LOGGER.name, level, "", 0, message, (), exc_info, extra={_FIELDS: fields})
        LOGGER.handle(record)


def configure(level: str, stream: TextIO | None = sys.__stdout__) -> None:
    """Send the lines of the function, and the warnings of the libraries, to the file descriptor of `stream`.

    Without a stream, the lines are lost: if stdout is closed, its descriptor can belong to a connection.
    """
    # Don't collect the thread of each record, because no line contains it. gunicorn's own lines contain the process.
    logging.logThreads = logging.logMultiprocessing = False
    handler = LineHandler(stream.fileno()) if stream else logging.NullHandler()
    handler.setFormatter(JSONFormatter())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    root = logging.getLogger()
    root.handlers = [handler]
    # The DEBUG lines of a library can contain headers and bodies, and so secrets.
    root.setLevel(max(logging.WARNING, LOGGER.level))


def without_query(text: str) -> str:
    """Return `text` up to a question mark, because the query of a URL can contain a secret."""
    return _QUERY.sub("", text)


def stack(error: BaseException) -> str:
    """Return the stack of `error` and of its causes: types and code locations, without the messages.

    The message of an exception can contain the value that the code was handling, such as a secret.
    """
    parts = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        parts.append(_format_traceback(type(current), current.__traceback__))
        current = current.__cause__ or current.__context__
    return "\nThe exception above led to the exception below:\n\n".join(reversed(parts))


def _format_traceback(kind: type[BaseException], tb: TracebackType | None) -> str:
    frames = "".join(traceback.format_tb(tb))
    return f"Traceback (most recent call last):\n{frames}{kind.__module__}.{kind.__qualname__}\n"
