"""Tests of handlers.inbound.request: headers, bodies, and encodings."""

import io
from collections.abc import Mapping

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from handlers.inbound.request import InboundRequest, decode_headers
from handlers.inbound.timeouts import ConnectionWatchdog
from schemas.problem import (
    BodyTooLargeError,
    BusyError,
    InvalidJSONError,
    QueryTooLongError,
    UnsupportedContentEncodingError,
)

LARGE = 64 * 1024


class Stream(io.BytesIO):
    """A body that counts the bytes that the function has read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.count += len(content)
        return content


def create(
    body: bytes = b"", *, length: int | None = None, query: str = "", headers: Mapping[str, str] | None = None
) -> InboundRequest:
    """Return a request. Without a `length`, the body is chunked."""
    environ = EnvironBuilder(method="POST", query_string=query, headers=list((headers or {}).items())).get_environ()
    framing = {"HTTP_TRANSFER_ENCODING": "chunked"} if length is None else {"CONTENT_LENGTH": str(length)}
    return InboundRequest(Request(environ | framing | {"wsgi.input": Stream(body), "wsgi.input_terminated": True}))


def read(inbound: InboundRequest, limit: int = 1_000_000) -> tuple[bytes, int]:
    """Return the body, and the number of calls of `on_large`."""
    calls: list[None] = []
    body = inbound.read_body(limit, ConnectionWatchdog(60), lambda: calls.append(None))
    return body, len(calls)


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize(("size", "calls"), [(0, 0), (1, 0), (LARGE, 0), (LARGE + 1, 1), (3 * LARGE, 1)])
def test_read_body_calls_on_large_once_after_64_kb(size: int, calls: int, has_length: bool) -> None:
    body = bytes(size)
    assert read(create(body, length=size if has_length else None)) == (body, calls)


def test_read_body_refused_large_body_can_be_drained() -> None:
    def refuse() -> None:
        raise BusyError("Busy.")

    body = bytes(2 * LARGE)
    for length in (len(body), None):
        inbound = create(body, length=length)
        with pytest.raises(BusyError):
            inbound.read_body(len(body), ConnectionWatchdog(60), refuse)
        stream = inbound.request.environ["wsgi.input"]
        # The function reads one byte more than it accepts from an unauthenticated caller without a place.
        assert stream.count == LARGE + 1
        assert inbound.drain(ConnectionWatchdog(60))
        assert stream.count == len(body)


def test_read_body_limit_exceeded_stops_reading() -> None:
    inbound = create(bytes(10 * LARGE))
    with pytest.raises(BodyTooLargeError):
        read(inbound, limit=LARGE)
    assert inbound.request.environ["wsgi.input"].count == LARGE + 1
    assert not inbound.drain(ConnectionWatchdog(60))


def test_read_body_shorter_than_its_length_raises() -> None:
    with pytest.raises(InvalidJSONError, match="shorter"):
        read(create(b"{}", length=3))


def test_drain_body_without_a_reader_is_read_up_to_its_limit() -> None:
    assert create(bytes(LARGE)).drain(ConnectionWatchdog(60))
    too_large = create(bytes(2_000_000))
    assert not too_large.drain(ConnectionWatchdog(60))
    assert too_large.request.environ["wsgi.input"].count <= 1_000_000 + LARGE
    assert not create(bytes(10), length=20).drain(ConnectionWatchdog(60))


@pytest.mark.parametrize("query", ["a" * 8193, "&" * 8193, "?" * 9000])
def test_check_query_long_query_raises(query: str) -> None:
    inbound = create(query=query)
    with pytest.raises(QueryTooLongError):
        inbound.check_query()
    create(query=query[:8192]).check_query()


@pytest.mark.parametrize("value", ["identity", "IDENTITY", " identity ", "identity, identity"])
def test_check_content_encoding_identity_is_accepted(value: str) -> None:
    create(headers={"Content-Encoding": value}).check_content_encoding()
    create().check_content_encoding()


@pytest.mark.parametrize("value", ["gzip", "", "identity, gzip", "identity,", "x-identity", "*"])
def test_check_content_encoding_other_coding_raises(value: str) -> None:
    with pytest.raises(UnsupportedContentEncodingError):
        create(headers={"Content-Encoding": value}).check_content_encoding()


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"plain", "plain"),
        ("Größe 💶".encode(), "Größe 💶"),
        ("Größe".encode("latin-1"), "Größe"),
        (b"\xc3", "Ã"),
        (b"\xed\xa0\x80", "í\xa0\x80"),
        (b"", ""),
    ],
)
def test_decode_headers_reads_utf_8_and_otherwise_latin_1(sent: bytes, text: str) -> None:
    assert decode_headers({"x": sent.decode("latin-1")}) == {"x": text}


def test_headers_for_signatures_keep_the_bytes() -> None:
    value = "é".encode().decode("latin-1")
    inbound = create(headers={"X-Title": value})
    assert inbound.headers["x-title"].encode("latin-1") == "é".encode()
    assert inbound.text_headers["x-title"] == "é"
