"""The log: one JSON object per line on stdout, with the field names of Cloud Logging.

https://cloud.google.com/logging/docs/structured-logging
"""

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

#: The logger of the function.
LOGGER = logging.getLogger("relay")

# The attribute of a log record with the additional fields of its line.
_FIELDS = "relay_fields"
_ENCODER = json.JSONEncoder(default=str)


class JSONFormatter(logging.Formatter):
    """A formatter that writes a log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`, without a newline."""
        entry: dict[str, Any] = {"severity": record.levelname, "message": record.getMessage()}
        if record.name != LOGGER.name:
            entry["logger"] = record.name
        entry |= getattr(record, _FIELDS, {})
        if record.exc_info and record.exc_info[1]:
            entry["stack_trace"] = stack(record.exc_info[1])
        return _ENCODER.encode(entry)


class LineHandler(logging.StreamHandler[TextIO]):
    """A handler that writes each line in a single call, and drops a line that the stream refuses.

    A failure to write the log must not fail a request.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of `record`."""
        line = f"{self.format(record)}\n"
        with suppress(OSError, ValueError):
            self.stream.write(line)
            self.flush()


def write(level: int, message: str, fields: Mapping[str, Any], error: BaseException | None = None) -> None:
    """Log `message` in a line that also contains `fields` and the stack of `error`."""
    if LOGGER.isEnabledFor(level):
        exc_info = (type(error), error, error.__traceback__) if error else None
        # LOGGER.log() would also search for the source line of its caller, which the line doesn't contain.
        record = LOGGER.makeRecord(LOGGER.name, level, "", 0, message, (), exc_info, extra={_FIELDS: fields})
        LOGGER.handle(record)


def configure(level: str, stream: TextIO = sys.stdout) -> None:
    """Send the lines of the function, and the warnings of the libraries, to `stream`."""
    # Don't collect the thread and the process of each record, because no line contains them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = LineHandler(stream)
    handler.setFormatter(JSONFormatter())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    root = logging.getLogger()
    root.handlers = [handler]
    # The DEBUG lines of a library can contain headers and bodies, and so secrets.
    root.setLevel(max(logging.WARNING, LOGGER.level))


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
