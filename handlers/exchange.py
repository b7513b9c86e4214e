"""One request on its way: what its answer's headers and its log line say."""

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from flask import Request

from handlers.logs import trace_fields, write
from handlers.results import LONGEST, logged
from handlers.together import Outcome
from handlers.tries import Progress
from schemas.event import printable_id
from schemas.problem import Problem
from schemas.strict_json import JSON

_QUERY = re.compile(r"(?:\?|%(?:25)*3[fF]).*", re.DOTALL)


class Exchange:
    """What is known of a request; filled in as it is served."""

    body_is_begun: bool = False
    body_is_read: bool = False
    body_bytes: int = 0
    #: Whether it has one of the places for large bodies, to be given back.
    has_large_body: bool = False
    #: Which sender it is by its proof.
    sender: str | None = None
    hook: str | None = None
    provider: str | None = None
    dataset: str | None = None
    #: Several updates, as the log has them.
    updates: Sequence[Mapping[str, Any]] = ()
    outcome: str | None = None
    #: The problem's name; of several updates, each that there is: what alerts look for.
    problem: str | None = None
    #: What the line says instead of the outcome; and whether an event that is ignored may be a mistake of ours.
    said: str | None = None
    is_odd: bool = False
    dry_run: bool = False
    #: An exception that nobody expected.
    fault: Exception | None = None

    def __init__(self, request: Request, headers: Mapping[str, str], delivery: str | None) -> None:
        """`headers` are the request's by lower-case name; `delivery` names it in the answer and the log."""
        self.request = request
        self.headers = headers
        #: What the request says of its body's length, in bytes.
        self.length = request.content_length
        self.delivery = delivery
        self.started = time.monotonic()
        self.progress = Progress()

    def take_name(self, payload: Mapping[str, JSON]) -> None:
        """The event's own id names the delivery, also where the rest of the event breaks a rule."""
        given = payload.get("id")
        self.delivery = printable_id(given if isinstance(given, str) else None) or self.delivery

    def note(self, outcomes: Sequence[Outcome[Any]]) -> None:
        """Keeps what became of a hook's updates; of a single one, where a native event's would be."""
        self.fault = next((each.fault for each in outcomes if each.fault), None)
        self.provider = _joined(each.update.provider for each in outcomes)
        self.problem = _joined(each.problem.name for each in outcomes if each.problem)
        if len(outcomes) > 1:
            self.updates = logged(outcomes)
            self.progress.attempts = max(each.progress.attempts for each in outcomes)
            return
        (only,) = outcomes
        self.dataset, self.progress = only.update.dataset, only.progress
        self.said = only.problem.detail if only.problem else None

    def log(self, status: int, problem: Problem | None, project: str | None) -> None:
        """Writes the request's line."""
        seconds = time.monotonic() - self.started
        # The path alone: a query can hold a token, also one whose question mark was encoded, and so ended in the path.
        path = _QUERY.sub("", self.request.path)[:LONGEST]
        entry: dict[str, Any] = {
            "delivery": self.delivery,
            "sender": self.sender,
            "hook": self.hook,
            "provider": self.provider,
            "dataset": self.dataset and self.dataset[:LONGEST],
            "outcome": self.outcome,
            "problem": problem.name if problem else self.problem,
            "status": status,
            "upstream_status": self.progress.upstream_status,
            "attempts": self.progress.attempts or None,
            "duration_ms": round(seconds * 1000, 1),
            "updates": self.updates or None,
            "dry_run": self.dry_run or None,
            "errors": problem and problem.errors,
            "httpRequest": {
                "requestMethod": self.request.method,
                "requestUrl": path,
                "requestSize": str(self.body_bytes or self.length or 0),
                "status": status,
                "latency": f"{seconds:.6f}s",
            },
            **trace_fields(self.headers, project),
        }
        said = problem.detail if problem else self.said or ("dry run" if self.dry_run else self.outcome or "answered")
        write(
            logging.WARNING if self.is_odd else _level(status),
            f"{self.request.method} {path}: {said}",
            {name: value for name, value in entry.items() if value is not None},
            self.fault,
        )


def headers_of(request: Request) -> dict[str, str]:
    """The request's headers by lower-case name, from where WSGI has them (PEP 3333)."""
    environ = request.environ
    headers = {_header(name): value for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[_header(name)] = environ[name]
    return headers


@lru_cache(maxsize=256)
def _header(name: str) -> str:
    """The header that WSGI has under `name`; mostly one of the few that there were before."""
    return name.removeprefix("HTTP_").replace("_", "-").lower()


def _joined(names: Iterable[str]) -> str | None:
    """One value of a metric's label: `apify+data.world`."""
    return "+".join(sorted(set(names))) or None


def _level(status: int) -> int:
    if status < 400:
        return logging.INFO
    return logging.WARNING if status < 500 else logging.ERROR
