"""What is answered, and logged, when an event has several updates: each of them, in their order."""

import math
from collections.abc import Sequence
from typing import Any

from handlers.providers.call import Result, wait_asked
from handlers.together import Outcome
from schemas.problem import problem_body
from schemas.strict_json import JSON

# Where nobody says how long to wait, in seconds.
_RETRY_SECONDS = 5
#: Whatever a sender writes, a log line stays one that can be read. In characters.
LONGEST = 256


def listed(outcomes: Sequence[Outcome[Result]]) -> list[dict[str, Any]]:
    """The updates with the platforms' answers, or with their problems."""
    return [
        _entry(each, {"status": each.given.status, "body": each.given.body} if each.given else {}) for each in outcomes
    ]


def rehearsed(outcomes: Sequence[Outcome[dict[str, JSON]]]) -> list[dict[str, Any]]:
    """The updates with what would be sent, or with their problems."""
    return [_entry(each, each.given or {}) for each in outcomes]


def _entry(outcome: Outcome[Any], given: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"provider": outcome.update.provider, "dataset": outcome.update.dataset, **given}
    if outcome.problem:
        entry |= {"status": outcome.problem.status, "problem": problem_body(outcome.problem)}
    return entry


def status(outcomes: Sequence[Outcome[Any]], now: float) -> tuple[int, dict[str, str]]:
    """The answer's own status and headers; `now` is in seconds since 1970.

    A sender that disables a webhook on a 4xx must not do so for what a platform said: whatever failed is a 5xx, and
    one that asks to try again where that can help.
    """
    problems = [each.problem for each in outcomes if each.problem]
    if not problems:
        return 200, {}
    waits = [_seconds(each.headers.get("Retry-After"), now) for each in problems if each.retryable]
    return (503, {"Retry-After": str(max(waits))}) if waits else (502, {})


def _seconds(retry_after: str | None, now: float) -> int:
    return _RETRY_SECONDS if retry_after is None else math.ceil(wait_asked(retry_after, now))


def logged(outcomes: Sequence[Outcome[Any]]) -> list[dict[str, Any]]:
    """The updates as the log has them."""
    return [
        {
            name: value
            for name, value in (
                ("provider", each.update.provider),
                ("dataset", each.update.dataset[:LONGEST]),
                ("status", each.problem.status if each.problem else getattr(each.given, "status", None)),
                ("upstream_status", each.progress.upstream_status),
                ("attempts", each.progress.attempts or None),
                ("problem", each.problem.name if each.problem else None),
                ("detail", each.problem.detail[:LONGEST] if each.problem else None),
            )
            if value is not None
        }
        for each in outcomes
    ]
