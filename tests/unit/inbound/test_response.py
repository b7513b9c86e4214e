"""Tests of the responses, without a server."""

from typing import Any, cast

import pytest

from handlers.deadline import Deadline
from handlers.delivery.delivery import Delivery, DeliveryContext
from handlers.inbound import response as inbound_response
from handlers.inbound.response import empty_response, hook_status, json_response, result_items
from handlers.providers import PROVIDERS
from handlers.providers.base import MAX_TEXT_LENGTH, Request, Response, mask_updates, read_response, response_error
from handlers.redaction import MARK
from handlers.secret_store.store import Secret
from schemas.event import Update
from schemas.problem import BusyError, RelayError, UpstreamDeniedError, UpstreamRateLimitedError
from schemas.settings import Settings

TOKEN = "apify_api_CANARY0123456789"


def rate_limited(retry_after: str) -> RelayError:
    return UpstreamRateLimitedError("Slow down.", headers={"Retry-After": retry_after})


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([], (200, {})),
        ([UpstreamDeniedError("No.")], (502, {})),
        ([rate_limited("7")], (503, {"Retry-After": "7"})),
        ([rate_limited("7"), UpstreamDeniedError("No."), rate_limited("30")], (503, {"Retry-After": "30"})),
        ([BusyError("Full.")], (503, {"Retry-After": "1"})),
        ([UpstreamRateLimitedError("Slow down.")], (503, {"Retry-After": "5"})),
    ],
)
def test_hook_status_worst_problem_decides(errors: list[RelayError], expected: Any) -> None:
    assert hook_status([error.problem for error in errors]) == expected


def create(provider: str = "apify", body: Any = None, *, token: str | None = TOKEN) -> Delivery:
    context = DeliveryContext(cast(Settings, None), PROVIDERS, cast(Any, None), cast(Any, None), {}, cast(Any, None))
    dataset = "abc" if provider == "apify" else "acme/products"
    delivery = Delivery(Update(provider, dataset, body or {}), Deadline.after(60), context)
    if token:
        delivery.tokens.append(Secret(token, "env:TOKEN"))
    return delivery


def redact(deliveries: list[Delivery], deadline: Deadline) -> None:
    """Redact the deliveries of an event."""
    masked = mask_updates([delivery.update for delivery in deliveries], PROVIDERS)
    inbound_response.redact(deliveries, masked, deadline)


def test_result_items_lists_outcomes_in_order() -> None:
    succeeded, failed, previewed = create(), create(), create()
    succeeded.response = Response(204, None, is_empty=True)
    failed.problem = UpstreamDeniedError("No.").problem
    previewed.request = Request("PUT", "http://h", {"name": "x"})
    items: Any = result_items([succeeded, failed, previewed])
    assert items[0] == {"provider": "apify", "dataset": "abc", "status": 204, "body": None}
    assert (items[1]["status"], items[1]["problem"]["detail"]) == (502, "No.")
    assert items[2]["token"] == "env:TOKEN"
    assert items[2]["request"]["headers"]["Authorization"] == f"Bearer {MARK}"
    assert items[2]["request"]["body"] == {"name": "x"}


def finish(delivery: Delivery, status: int, content: bytes) -> Delivery:
    response = read_response(status, 0, content)
    error = response_error(delivery.provider, response)
    delivery.response, delivery.problem = (None, error.problem) if error else (response, None)
    return delivery


def shown(delivery: Delivery) -> str:
    redact([delivery], Deadline.after(60))
    return str((delivery.response, delivery.problem, delivery.request))


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_redact_token_is_removed_from_every_part(status: int) -> None:
    content = b'{"error": {"message": "bad token %b", "echo": {"%b": ["Bearer %b"]}}}' % ((TOKEN.encode(),) * 3)
    text = shown(finish(create(), status, content))
    assert "CANARY" not in text
    assert MARK in text


@pytest.mark.parametrize(
    "content",
    [b'{"urlSigningSecretKey": "CANARY", broken',
     b'{"error": {"message": "{\\"urlSigningSecretKey\\": \\"CANARY\\"}"}}',
     b"<urlSigningSecretKey>CANARY</urlSigningSecretKey>", b"x urlSigningSecretKey%22: [%22CANARY%22]",
     b'{"a": {"urlSigningSecretKey": ["CANARY"]}}'],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 500])
def test_redact_signing_key_is_removed_from_every_part(status: int, content: bytes) -> None:
    assert "CANARY" not in shown(finish(create(), status, content))


def test_redact_encoded_token_in_message_keeps_the_rest_of_the_detail() -> None:
    delivery = finish(create(), 401, b'{"error": {"message": "bad token %b"}}' % TOKEN.encode().hex().encode())
    redact([delivery], Deadline.after(60))
    assert delivery.problem is not None
    assert delivery.problem.detail == f"Apify returned 401: {MARK}"


def test_redact_credential_that_is_a_word_of_the_detail_leaves_the_word() -> None:
    source = {"url": "https://example.com/a", "credentials": {"user": "data", "password": "returned"}}
    delivery = create("data.world", {"files": [{"name": "a", "source": source}]})
    redact([finish(delivery, 422, b'{"message": "CANARY"}')], Deadline.after(60))
    assert delivery.problem is not None
    assert delivery.problem.detail == "data.world returned 422: CANARY"


def test_redact_removes_a_secret_before_it_shortens_a_text() -> None:
    delivery = finish(create(), 500, b"x" * (MAX_TEXT_LENGTH - 5) + TOKEN.encode())
    redact([delivery], Deadline.after(60))
    assert delivery.problem is not None
    assert delivery.problem.upstream is not None
    assert "apify" not in str(delivery.problem.upstream.body)
    assert len(str(delivery.problem.upstream.body)) <= MAX_TEXT_LENGTH


def test_redact_credential_of_another_update_is_removed() -> None:
    source = {"url": "https://example.com/a", "credentials": {"user": "u-CANARY", "password": "p-CANARY-1234"}}
    first = finish(create("data.world", {"files": [{"name": "a", "source": source}]}), 200, b"{}")
    second = finish(create("data.world", {"title": "x"}), 422, b'{"message": "not p-CANARY-1234"}')
    redact([first, second], Deadline.after(60))
    assert "CANARY" not in str(second.problem)


def test_redact_preview_shows_the_update_without_credentials() -> None:
    source = {"url": "https://u:CANARY1234@example.com/a", "requestHeaders": {"X-Key": "CANARY-key"}}
    delivery = create("data.world", {"files": [{"name": "a", "source": source}]})
    delivery.request = delivery.provider.update_request("http://h", delivery.update)
    redact([delivery], Deadline.after(60))
    assert delivery.request.body == {
        "files": [
            {
                "name": "a",
                "source": {"url": f"https://{MARK}@example.com/a", "requestHeaders": {"X-Key": MARK}},
            }
        ]
    }


def test_json_response_keeps_order_and_unicode() -> None:
    response = json_response(201, {"z": "é", "a": 1}, headers={"X-Test": "1"})
    assert (response.status_code, response.get_data()) == (201, '{"z":"é","a":1}'.encode())
    assert (response.content_type, response.headers["X-Test"]) == ("application/json", "1")


def test_empty_response_has_no_media_type() -> None:
    response = empty_response(204)
    assert response.get_data() == b""
    assert "Content-Type" not in response.headers
