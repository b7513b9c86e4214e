"""The log: one JSON line per request on stdout, in Cloud Logging's own fields.

https://cloud.google.com/logging/docs/structured-logging
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

LOGGER = logging.getLogger("relay")

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/(\d{1,20}))?(?:;o=([01]))?")
# Made once: json.dumps would make it anew for each line.
_written = json.JSONEncoder(default=str).encode


class JSONFormatter(logging.Formatter):
    """A library's record as one line of JSON, or one of ours that has no fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        more = {} if record.name == LOGGER.name else {"logger": record.name}
        return line(record.levelname, record.getMessage(), more, record.exc_info[1] if record.exc_info else None)


def line(severity: str, message: str, fields: Mapping[str, Any], error: BaseException | None = None) -> str:
    """A line of JSON, without its end; of `error` it has the stack."""
    entry = {"severity": severity, "message": message, **fields}
    if error:
        entry["stack_trace"] = stack(error)
    return _written(entry)


def write(level: int, message: str, fields: Mapping[str, Any], error: BaseException | None = None) -> None:
    """Logs a line with `fields`: without the library's record of it, which holds what no line says."""
    if LOGGER.isEnabledFor(level):
        text = line(logging.getLevelName(level), message, fields, error)
        for handler in LOGGER.handlers:
            if isinstance(handler, Lines):
                handler.put(text)


class Lines(logging.StreamHandler[TextIO]):
    """A stream of lines, each of them whole."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record's line."""
        self.put(self.format(record))

    def put(self, text: str) -> None:
        """Writes a line. Nobody's update fails because nobody takes the log: then there is none."""
        self.acquire()
        try:
            with suppress(OSError, ValueError):
                self.stream.write(f"{text}\n")
                self.flush()
        finally:
            self.release()


def configure(level: str, stream: TextIO = sys.stdout) -> None:
    """Makes this module's lines, and the libraries' warnings, visible on `stream`."""
    handler = Lines(stream)
    handler.setFormatter(JSONFormatter())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    root = logging.getLogger()
    root.handlers = [handler]
    # A library's DEBUG lines show more than we can vouch for.
    root.setLevel(max(logging.WARNING, LOGGER.level))


def stack(error: BaseException) -> str:
    """The stack of `error` and of what caused it: places and types, without the messages.

    An exception's message can hold whatever was being handled, in any encoding; a place in the code can't.
    """
    parts = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        parts.append(_one(type(current), current.__traceback__))
        current = current.__cause__ or current.__context__
    return "\nDuring the handling of, or caused by:\n\n".join(reversed(parts))


def _one(kind: type[BaseException], tb: TracebackType | None) -> str:
    frames = "".join(traceback.format_tb(tb))
    return f"Traceback (most recent call last):\n{frames}{kind.__module__}.{kind.__qualname__}\n"


def trace_fields(headers: Mapping[str, str], project: str | None) -> dict[str, Any]:
    """What ties a line to its trace, from `traceparent` or `X-Cloud-Trace-Context`; names are lower case.

    https://www.w3.org/TR/trace-context/, https://cloud.google.com/trace/docs/trace-context
    """
    if not ("traceparent" in headers or "x-cloud-trace-context" in headers):
        return {}
    if found := _TRACEPARENT.fullmatch(headers.get("traceparent", "").strip()):
        trace, span, sampled = found[1], found[2], bool(int(found[3], 16) & 1)
    elif found := _CLOUD_TRACE.fullmatch(headers.get("x-cloud-trace-context", "").strip()):
        trace, span, sampled = found[1].lower(), f"{int(found[2] or 0) % 2**64:016x}", found[3] == "1"
    else:
        return {}
    return {
        "logging.googleapis.com/trace": f"projects/{project}/traces/{trace}" if project else trace,
        "logging.googleapis.com/spanId": span,
        "logging.googleapis.com/trace_sampled": sampled,
    }
