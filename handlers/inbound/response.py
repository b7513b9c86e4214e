"""HTTP responses: JSON, problem details, and the results of a hook."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from flask import Response

from handlers.deadline import Deadline
from handlers.delivery.delivery import Delivery
from handlers.delivery.http_client import HEADERS
from handlers.providers.base import MAX_TEXT_LENGTH, Provider, Request
from handlers.redaction import MARK, Masked, Redactor
from schemas.event import Update
from schemas.problem import MEDIA_TYPE, Problem, Upstream, problem_body
from schemas.strict_json import JSON, dump

#: The value of `Retry-After` if no problem specifies a wait, in seconds.
DEFAULT_RETRY_AFTER = 5


def json_response(
    status: int, body: object, media_type: str = "application/json", *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with `body` as JSON."""
    return Response(dump(body), status=status, headers=headers, content_type=media_type)


def empty_response(status: int) -> Response:
    """Return a response without a body, and so without a media type."""
    response = Response(status=status)
    del response.headers["Content-Type"]
    return response


def problem_response(problem: Problem) -> Response:
    """Return `problem` as problem details (RFC 9457), with the headers of the problem."""
    return json_response(problem.status, problem_body(problem), MEDIA_TYPE, headers=problem.headers)


def leave_body_unread(response: Response) -> None:
    """Turn `response` into a stream.

    functions-framework reads the request body to its end before any response that is not a stream.
    """
    response.response = iter([response.get_data()])


def redact(deliveries: Sequence[Delivery], masked: Masked, deadline: Deadline) -> None:
    """Remove the secrets of an event from the outcomes of its deliveries.

    `masked` has the updates of the deliveries, in the same order. A credential in one update is also a secret in the
    outcomes of the other updates.
    """
    redactor = Redactor(
        tokens={token.text for delivery in deliveries for token in delivery.tokens},
        credentials=masked.credentials,
        secret_keys={key for delivery in deliveries for key in delivery.provider.secret_keys},
        expired=deadline.has_passed,
    )
    for delivery, masked_body in zip(deliveries, masked.bodies, strict=True):
        if delivery.response:
            delivery.response = replace(delivery.response, body=redactor.redact(delivery.response.body))
        if delivery.request:
            body = redactor.redact(masked_body)
            # MARK replaces the whole body if the search exceeds its budget.
            delivery.request = replace(delivery.request, body=body if isinstance(body, dict) else MARK)
        if delivery.problem:
            delivery.problem = _redact_problem(delivery.problem, delivery.provider, redactor)


def _redact_problem(problem: Problem, provider: Provider, redactor: Redactor) -> Problem:
    upstream = problem.upstream
    if upstream is None:
        return problem
    body = cast(JSON, upstream.body)
    redacted = redactor.redact(body)
    detail = problem.detail
    # The message of the provider is the only text in the detail that can contain a secret. MARK must replace no more
    # than this message: the rest of the detail names the provider and the status.
    if message := provider.error_message(body):
        detail = detail.replace(message, provider.error_message(redacted) or MARK)
    # Shorten a text only after the redaction: the search might miss a secret that is cut off.
    shortened = redacted[:MAX_TEXT_LENGTH] if isinstance(redacted, str) else redacted
    return replace(problem, detail=detail[:MAX_TEXT_LENGTH], upstream=Upstream(upstream.status, shortened))


def preview_body(delivery: Delivery) -> dict[str, Any]:
    """Return the request that `delivery` would send, without credentials, and the source of its token."""
    request = delivery.request
    assert request is not None
    return {"request": _redacted_request(request), "token": delivery.tokens[-1].source}


def _redacted_request(request: Request) -> dict[str, Any]:
    headers = {**HEADERS, "Authorization": f"Bearer {MARK}"}
    return {"method": request.method, "url": request.url, "headers": headers, "body": request.body}


def result_items(deliveries: Sequence[Delivery]) -> list[dict[str, JSON]]:
    """Return the outcome of each delivery, in the order of the updates."""
    return [_item(delivery) for delivery in deliveries]


def queued_items(updates: Sequence[Update], message_ids: Sequence[str]) -> list[dict[str, str]]:
    """Return the ID of the message of each update, in the order of the updates."""
    return [
        {"provider": update.provider, "dataset": update.dataset, "message": message_id}
        for update, message_id in zip(updates, message_ids, strict=True)
    ]


def _item(delivery: Delivery) -> dict[str, Any]:
    item: dict[str, Any] = {"provider": delivery.update.provider, "dataset": delivery.update.dataset}
    if delivery.problem:
        return item | {"status": delivery.problem.status, "problem": problem_body(delivery.problem)}
    if delivery.request:
        return item | preview_body(delivery)
    assert delivery.response is not None
    return item | {"status": delivery.response.status, "body": delivery.response.body}


def hook_status(problems: Sequence[Problem]) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of a hook's response.

    Some senders disable a webhook after a 4xx, so a provider's 4xx becomes a 5xx. A retryable problem becomes a 503
    with `Retry-After`, so that the sender repeats the event.
    """
    if not problems:
        return 200, {}
    waits = [int(problem.headers.get("Retry-After", DEFAULT_RETRY_AFTER)) for problem in problems if problem.retryable]
    return (503, {"Retry-After": str(max(waits))}) if waits else (502, {})
