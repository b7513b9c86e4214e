"""The log line of a request."""

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from handlers import logs
from handlers.delivery.delivery import Delivery
from handlers.inbound.request import InboundRequest
from schemas.event import Update
from schemas.problem import Problem

# In characters. The limit keeps a log line readable if a sender chooses a long value.
_MAX_TEXT_LENGTH = 256
# A query that became a part of the path, because a caller wrote another character for its question mark, or encoded the
# question mark. The query can contain the secret of a sender.
_QUERY_IN_PATH = re.compile(r"(?:[?&;#=\uff1f]|%(?:25)*(?:3[fF]|26|3[bBdD]|23|[eE][fF])).*", re.DOTALL)
# The largest integer that Cloud Logging accepts.
_MAX_INTEGER = 2**63 - 1
# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
# https://cloud.google.com/trace/docs/trace-context#legacy-http-header
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/(\d{1,20}))?(?:;o=([01]))?")


class RequestLog:
    """The facts about a request that its log line contains."""

    def __init__(self, inbound: InboundRequest, project: str | None) -> None:
        """Start the time measurement. `project` is the Google Cloud project of the traces."""
        self.sender: str | None = None
        self.hook: str | None = None
        self.provider: str | None = None
        self.dataset: str | None = None
        self.outcome: str | None = None
        #: True once the caller is authenticated, or needs no authentication.
        self.is_authenticated = False
        self.dry_run = False
        #: The reason why the caller isn't authenticated, which the response doesn't have.
        self.cause: str | None = None
        #: The problem of an update from the queue, which the response doesn't show.
        self.problem: Problem | None = None
        #: The message of the line, in place of the outcome.
        self.message: str | None = None
        self.is_warning = False
        #: The warnings about the conditions inside the hook.
        self.warnings: list[str] = []
        #: An unforeseen exception, whose stack the line contains.
        self.fault: Exception | None = None
        #: The ID and the age in seconds of the message from the queue.
        self.message_id: str | None = None
        self.age: float | None = None
        self._inbound = inbound
        self._project = project
        self._updates: Sequence[Update] = ()
        self._deliveries: Sequence[Delivery] = ()
        self._started = time.monotonic()

    def add_updates(self, updates: Sequence[Update]) -> None:
        """Add the valid updates of the request."""
        self._updates = updates
        self.provider = joined_names(update.provider for update in updates)
        self.dataset = updates[0].dataset if len(updates) == 1 else None

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Add the deliveries of the request, after their redaction."""
        self._deliveries = deliveries
        self.add_updates([delivery.update for delivery in deliveries])
        self.fault = next((delivery.fault for delivery in deliveries if delivery.fault), None)

    def write(self, status: int, problem: Problem | None) -> None:
        """Write the log line. `status` is the status of the response to the request.

        `problem` is the problem of the request as a whole, or None.
        """
        seconds = time.monotonic() - self._started
        request = self._inbound.request
        path = _QUERY_IN_PATH.sub("", request.path)[:_MAX_TEXT_LENGTH]
        if problem is None and len(self._deliveries) == 1:
            problem = self._deliveries[0].problem
        problems = [delivery.problem.name for delivery in self._deliveries if delivery.problem]
        fields = {
            "delivery": self._inbound.delivery_id,
            "sender": self.sender,
            "hook": self.hook,
            "provider": self.provider,
            "dataset": self.dataset and self.dataset[:_MAX_TEXT_LENGTH],
            "outcome": self.outcome,
            # A label of the alerts. For several updates, the label contains the name of each problem.
            "problem": problem.name if problem else joined_names(problems),
            "status": status,
            "upstream_status": self._deliveries[0].upstream_status if len(self._deliveries) == 1 else None,
            "attempts": max((delivery.attempts for delivery in self._deliveries), default=0) or None,
            "duration_ms": round(seconds * 1000, 1),
            "updates": self._update_fields() if len(self._updates) > 1 else None,
            "message_id": self.message_id,
            "queued_seconds": self.age and round(self.age, 1),
            "cause": self.cause,
            "dry_run": self.dry_run or None,
            "errors": problem and problem.errors,
            "warnings": self.warnings or None,
            "httpRequest": {
                "requestMethod": request.method,
                "requestUrl": path,
                # A caller can declare any length, which the function rejects without reading the body.
                "requestSize": str(min(self._inbound.body_size or self._inbound.content_length or 0, _MAX_INTEGER)),
                "status": status,
                "latency": f"{seconds:.6f}s",
            },
            **trace_fields(self._inbound.headers, self._project),
        }
        message = self.message or (problem.detail if problem else None)
        if len(self._deliveries) == 1 and self._deliveries[0].note:
            message = f"{message} {self._deliveries[0].note}"
        message = message or ("dry run" if self.dry_run else self.outcome or "done")
        logs.write(
            max(_level(status, self.outcome), logging.WARNING if self.is_warning or self.warnings else logging.INFO),
            f"{request.method} {path}: {message}",
            _without_none(fields),
            self.fault,
        )

    def _update_fields(self) -> list[dict[str, Any]] | None:
        """Return the fields of each update, or None if the function has neither made nor queued the updates."""
        if self._deliveries:
            return [_delivery_fields(delivery) for delivery in self._deliveries]
        return [_reference_fields(update) for update in self._updates] if self.outcome == "queued" else None


def _reference_fields(update: Update) -> dict[str, Any]:
    return {"provider": update.provider, "dataset": update.dataset[:_MAX_TEXT_LENGTH]}


def _delivery_fields(delivery: Delivery) -> dict[str, Any]:
    problem = delivery.problem
    return _without_none(
        {
            **_reference_fields(delivery.update),
            "status": problem.status if problem else delivery.response and delivery.response.status,
            "upstream_status": delivery.upstream_status,
            "attempts": delivery.attempts or None,
            "problem": problem and problem.name,
            "detail": problem and problem.detail[:_MAX_TEXT_LENGTH],
            "note": delivery.note,
        }
    )


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def joined_names(names: Iterable[str]) -> str | None:
    """Return the distinct names as one value of a metric's label, such as `apify+data.world`."""
    return "+".join(sorted(set(names))) or None


def _level(status: int, outcome: str | None) -> int:
    if outcome in ("lost", "parked"):
        return logging.ERROR
    if status < 400:
        return logging.INFO
    return logging.WARNING if status < 500 or outcome == "rejected" else logging.ERROR


def trace_fields(headers: Mapping[str, str], project: str | None) -> dict[str, Any]:
    """Return the fields that connect a log line with its trace.

    The fields come from the header `traceparent` or `X-Cloud-Trace-Context`. The names in `headers` are lowercase.
    """
    if match := _TRACEPARENT.fullmatch(headers.get("traceparent", "").strip()):
        trace, span, sampled = match[1], match[2], bool(int(match[3], 16) & 1)
    elif match := _CLOUD_TRACE.fullmatch(headers.get("x-cloud-trace-context", "").strip()):
        trace, span, sampled = match[1].lower(), f"{int(match[2] or 0) % 2**64:016x}", match[3] == "1"
    else:
        return {}
    return {
        "logging.googleapis.com/trace": f"projects/{project}/traces/{trace}" if project else trace,
        "logging.googleapis.com/spanId": span,
        "logging.googleapis.com/trace_sampled": sampled,
    }
