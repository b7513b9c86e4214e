"""One request on its way: what its answer's headers and its log line say."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Request

from handlers.deliver import Progress
from handlers.logs import LOGGER, trace_fields
from schemas.problem import Problem

# Whatever a sender writes, a log line stays one that can be read. In characters.
_LONGEST = 256


@dataclass
class Exchange:
    """What is known of a request; filled in as it is served."""

    request: Request
    #: The request's headers by lower-case name.
    headers: Mapping[str, str]
    #: Names the delivery in the answer and the log.
    delivery: str
    started: float = field(default_factory=time.monotonic)
    body_is_read: bool = False
    body_bytes: int = 0
    #: The kind of proof that the sender gave.
    sender: str | None = None
    provider: str | None = None
    dataset: str | None = None
    outcome: str | None = None
    dry_run: bool = False
    progress: Progress = field(default_factory=Progress)

    def log(self, status: int, problem: Problem | None, fault: Exception | None, project: str | None) -> None:
        """Writes the request's line; `fault` is an exception that nobody expected."""
        seconds = time.monotonic() - self.started
        # The path alone: a query can hold a token.
        path = self.request.path[:_LONGEST]
        entry: dict[str, Any] = {
            "delivery": self.delivery,
            "sender": self.sender,
            "provider": self.provider,
            "dataset": self.dataset and self.dataset[:_LONGEST],
            "outcome": self.outcome,
            "status": status,
            "upstream_status": self.progress.upstream_status,
            "attempts": self.progress.attempts or None,
            "duration_ms": round(seconds * 1000, 1),
            "dry_run": self.dry_run or None,
            "errors": problem and problem.errors,
            "httpRequest": {
                "requestMethod": self.request.method,
                "requestUrl": path,
                "requestSize": str(self.body_bytes or self.request.content_length or 0),
                "status": status,
                "latency": f"{seconds:.6f}s",
            },
            **trace_fields(self.headers, project),
        }
        LOGGER.log(
            _level(status),
            "%s %s: %s",
            self.request.method,
            path,
            problem.detail if problem else "dry run" if self.dry_run else self.outcome or "answered",
            exc_info=fault,
            extra={"fields": {name: value for name, value in entry.items() if value is not None}},
        )


def _level(status: int) -> int:
    if status < 400:
        return logging.INFO
    return logging.WARNING if status < 500 else logging.ERROR
