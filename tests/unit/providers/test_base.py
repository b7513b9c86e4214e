"""Tests of the requests to providers, and of the meaning of their responses."""

from typing import Any

import pytest

from handlers.providers import PROVIDERS
from handlers.providers.base import (
    PASSED_THROUGH,
    Provider,
    Request,
    Response,
    read_response,
    response_error,
    text_at,
)
from handlers.redaction import MARK
from schemas.apify import ApifyEvent
from schemas.event import Update
from schemas.problem import Problem

APIFY = PROVIDERS["apify"]


def problem(status: int, content: bytes = b"", retry_after: int = 0) -> Problem:
    error = response_error(APIFY, read_response(status, retry_after, content))
    assert error is not None
    return error.problem


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_read_response_success_returns_json(status: int) -> None:
    assert read_response(status, 0, b'{"data": {"id": "x"}}') == Response(status, {"data": {"id": "x"}})
    assert read_response(status, 0, b"null") == Response(status, None)
    assert response_error(APIFY, read_response(status, 0, b"{}")) is None


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_read_response_without_body_is_empty(content: bytes) -> None:
    response = read_response(204, 0, content)
    assert response == Response(204, None, is_empty=True)
    assert response_error(APIFY, response) is None


@pytest.mark.parametrize("content", [b"<html>ok</html>", b"\xff", b"{", b"NaN", b"[" * 100])
def test_response_error_success_without_json_is_retryable_failure(content: bytes) -> None:
    result = problem(200, content)
    assert result.upstream is not None
    assert (result.status, result.retryable, result.upstream.status) == (502, True, 200)


STATUSES: dict[int, tuple[int | None, bool]] = {
    **dict.fromkeys(PASSED_THROUGH, (None, False)),
    **dict.fromkeys((401, 403, 406, 411, 412, 414, 417, 418, 423, 426, 428, 431, 451, 499), (502, False)),
    **dict.fromkeys((408, 500, 501, 502, 503, 504, 599), (502, True)),
    **dict.fromkeys((300, 301, 302, 303, 304, 307, 308), (502, False)),
    429: (429, True),
    **dict.fromkeys((101, 199, 600, 999), (502, True)),
}


@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
def test_response_error_status_determines_problem(status: int, expected: tuple[int | None, bool]) -> None:
    result = problem(status, b'{"error": {"type": "t", "message": "Not so."}}')
    assert (result.status, result.retryable) == (expected[0] or status, expected[1])
    assert result.upstream is not None
    assert result.upstream.status == status
    assert result.upstream.body == {"error": {"type": "t", "message": "Not so."}}
    assert "Apify returned" in result.detail
    assert ("Not so." in result.detail) != (300 <= status < 400)


def upstream_body(status: int, content: bytes) -> Any:
    upstream = problem(status, content).upstream
    assert upstream is not None
    return upstream.body


def test_response_error_without_body_names_status() -> None:
    assert problem(404).detail == "Apify returned 404."
    assert upstream_body(404, b"") is None


def test_response_error_text_body_is_shown() -> None:
    assert upstream_body(502, b" <h1>Bad gateway</h1>\n") == "<h1>Bad gateway</h1>"


@pytest.mark.parametrize(
    "content", ["gehëim".encode("latin-1"), "token".encode("utf-16"), "token".encode("utf-16-be"), b"x" * 65_537]
)
def test_response_error_unreadable_body_is_not_shown(content: bytes) -> None:
    assert upstream_body(500, content) == MARK


def test_response_error_page_of_64_kb_is_shown() -> None:
    assert upstream_body(500, b"x" * 65_536) == "x" * 65_536


@pytest.mark.parametrize(("retry_after", "headers"), [(0, {}), (120, {"Retry-After": "120"})])
@pytest.mark.parametrize("status", [429, 503])
def test_response_error_requested_wait_becomes_header(status: int, retry_after: int, headers: dict[str, str]) -> None:
    assert problem(status, retry_after=retry_after).headers == headers


def test_text_at_returns_only_texts() -> None:
    assert text_at({"a": {"b": "c"}}, "a", "b") == "c"
    bodies: list[Any] = [None, [], "x", {}, {"a": "x"}, {"a": {"b": 1}}, {"a": {"b": ""}}]
    for body in bodies:
        assert text_at(body, "a", "b") is None


@pytest.mark.parametrize("name", PROVIDERS)
def test_provider_declares_its_facts(name: str) -> None:
    provider = PROVIDERS[name]
    assert provider.title
    assert provider.base_url.startswith("https://")
    assert not provider.base_url.endswith("/")
    assert set(provider.event_schema.fields) == {"provider", "dataset", "update", "id", "type", "time"}
    assert provider.update_schema.fields
    assert provider.token_pattern


class MinimalProvider(Provider):
    title = "Minimal"
    base_url = "https://minimal.example"
    event_schema = ApifyEvent()

    def update_request(self, base_url: str, update: Update) -> Request:
        return Request("PUT", f"{base_url}/{update.dataset}", update.body)


def test_provider_defaults_describe_no_error_and_confirm_nothing() -> None:
    provider, update = MinimalProvider(), Update("minimal", "a", {"name": "b"})
    error = response_error(provider, Response(500, {"message": "CANARY"}))
    assert error is not None
    assert error.problem.detail == "Minimal returned 500."
    assert provider.confirmation_request(provider.base_url, update) is None
    assert not provider.confirms(update, {"name": "b"})
    assert (provider.secret_keys, provider.token_pattern) == (frozenset(), None)
