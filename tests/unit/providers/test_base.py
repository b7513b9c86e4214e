"""Tests of the requests to providers, and of the meaning of their responses."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.providers import PROVIDERS
from handlers.providers.base import (
    PASSED_THROUGH,
    Provider,
    Request,
    Response,
    normalize_retry_after,
    read_response,
    requested_wait,
    response_error,
    text_at,
)
from handlers.redaction import MARK
from schemas.apify import ApifyEvent
from schemas.event import Update
from schemas.problem import Problem

APIFY = PROVIDERS["apify"]


def problem(status: int, content: bytes = b"", retry_after: str | None = None) -> Problem:
    error = response_error(APIFY, read_response(status, retry_after, content))
    assert error is not None
    return error.problem


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_read_response_success_returns_json(status: int) -> None:
    assert read_response(status, None, b'{"data": {"id": "x"}}') == Response(status, {"data": {"id": "x"}})
    assert read_response(status, None, b"null") == Response(status, None)
    assert response_error(APIFY, read_response(status, None, b"{}")) is None


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_read_response_without_body_is_empty(content: bytes) -> None:
    response = read_response(204, None, content)
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


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("0", "0"),
        (" 120 ", "120"),
        ("Sun, 22 Nov 2026 08:30:30 GMT", "Sun, 22 Nov 2026 08:30:30 GMT"),
        ("Sun, 22 Nov 2026 08:30:30 -0000", "Sun, 22 Nov 2026 08:30:30 GMT"),
        ("Sun, 22 Nov 2026 09:30:30 +0100", "Sun, 22 Nov 2026 08:30:30 GMT"),
        ("Sunday, 22-Nov-26 08:30:30 GMT", "Sun, 22 Nov 2026 08:30:30 GMT"),
        ("Sun, 22 Nov 2026 08:30:30 GMT \x01\x7f\xe4 x", "Sun, 22 Nov 2026 08:30:30 GMT"),
    ],
)
def test_normalize_retry_after_valid_header(text: str, normalized: str) -> None:
    assert normalize_retry_after(text) == normalized
    assert problem(429, retry_after=text).headers == {"Retry-After": normalized}
    assert problem(503, retry_after=text).headers == {"Retry-After": normalized}


@pytest.mark.parametrize(
    "text",
    [None, "", "-1", "1.5", "soon", "1, 2", "١", "9" * 400, "Sun, 99 Nov 2026 08:30:30 GMT",
     "Wed, 21 Oct 2026 07:28:00 +99999999999999999999", "Fri, 31 Dec 9999 23:59:59 -2359"],
)  # fmt: skip
def test_normalize_retry_after_invalid_header_returns_none(text: str | None) -> None:
    assert normalize_retry_after(text) is None
    assert requested_wait(text, now=0) == 0
    assert problem(429, retry_after=text).headers == {}


@given(
    st.text(max_size=60)
    | st.from_regex(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d .{0,9}")
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d+:\d+:\d+ ([+-]\d{1,12}|GMT)")
)
def test_normalize_retry_after_any_text_is_header_or_none(text: str) -> None:
    normalized = normalize_retry_after(text)
    assert normalized is None or (normalized.isascii() and normalized.isprintable())
    assert 0 <= requested_wait(text, now=1e9) < 1e12


@given(st.integers(0, 999_999_999))
def test_requested_wait_seconds(seconds: int) -> None:
    assert requested_wait(f" {seconds} ", now=0) == seconds


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)), st.floats(0, 4_102_444_800))
def test_requested_wait_date(moment: datetime, now: float) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert requested_wait(format_datetime(moment, usegmt=True), now) == max(0.0, moment.timestamp() - now)


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
