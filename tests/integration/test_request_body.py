"""Tests of request bodies: their size, their framing, their media type, and their JSON."""

import json
import select
import socket
from contextlib import ExitStack

import pytest

from tests.support.http_calls import wait_until
from tests.support.raw_http import connect, exchange, receive_until_closed
from tests.support.relay import JSON_TYPE, Launch, Relay, assert_problem

KEEP_ALIVE_REQUEST = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def create_head(relay: Relay, *lines: str) -> bytes:
    """Return the head of an authenticated request with these further header lines."""
    bearer = f"Authorization: Bearer {relay.cloud.relay_secret}"
    all_lines = ["POST / HTTP/1.1", "Host: x", f"Content-Type: {JSON_TYPE}", bearer, *lines, "", ""]
    return "\r\n".join(all_lines).encode()


def chunked(body: bytes, size: int = 100) -> bytes:
    """Return `body` in chunks of `size` bytes (RFC 9112, section 7.1)."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_body_on_each_side_of_the_limit(launch: Launch) -> None:
    relay = launch(RELAY_MAX_BODY_BYTES="1000")
    event = json.dumps(relay.apify_event()).encode()
    small_enough, too_large = event.ljust(1000), event.ljust(1001)
    headers = {"Content-Type": JSON_TYPE, **relay.bearer}
    assert relay.send(small_enough, headers=headers).status_code == 200
    problem = assert_problem(relay.send(too_large, headers=headers), 413, "too-large")
    assert "1000 bytes (RELAY_MAX_BODY_BYTES)" in problem["detail"]
    for body, status in ((small_enough, 200), (too_large, 413), (event * 50, 413)):
        response = exchange(relay, create_head(relay, "Transfer-Encoding: chunked") + chunked(body))
        assert response.status == status, response


def test_body_over_the_limit_is_rejected_before_it_arrives(relay: Relay) -> None:
    # The body never arrives: a function that waited for it would return 408.
    response = exchange(relay, create_head(relay, "Content-Length: 10000000000") + b'{"a": ')
    assert response.status == 413
    assert b"too-large" in response.body


@pytest.mark.parametrize(
    ("target", "status"), [(b"POST /", 413), (b"POST /nowhere", 404), (b"PUT /", 405)], ids=["413", "404", "405"]
)
def test_body_left_unread_ends_the_connection(relay: Relay, target: bytes, status: int) -> None:
    head = create_head(relay, "Content-Length: 10000000000").replace(b"POST /", target, 1)
    with connect(relay) as connection:
        # The second request is in the place of the body. A function that continued would respond to it.
        connection.sendall(head + KEEP_ALIVE_REQUEST)
        received = receive_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("lines", [["Content-Length: 1000"], ["Transfer-Encoding: chunked"]])
def test_small_body_without_a_route_keeps_the_connection(relay: Relay, lines: list[str]) -> None:
    body = b" " * 1000
    head = create_head(relay, *lines).replace(b"POST /", b"POST /nowhere", 1)
    with connect(relay) as connection:
        connection.sendall(head + (chunked(body) if "chunked" in lines[0] else body) + KEEP_ALIVE_REQUEST)
        connection.shutdown(socket.SHUT_WR)
        received = receive_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 404 ")
    assert b"HTTP/1.1 200 " in received


def test_body_that_ends_early_is_invalid(relay: Relay) -> None:
    sent = create_head(relay, "Content-Length: 100") + b'{"provider": "apify"}'
    assert exchange(relay, sent, finish=True).status in (0, 400)
    assert relay.send(b"", method="GET", path="/health").status_code == 200


def test_body_with_a_malformed_chunk_is_invalid(relay: Relay) -> None:
    sent = create_head(relay, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n"
    assert exchange(relay, sent).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/json"},
        {"Content-Type": "application/jsonp"},
    ],
)
def test_body_of_another_media_type_is_rejected(relay: Relay, headers: dict[str, str]) -> None:
    body = json.dumps(relay.apify_event())
    assert_problem(relay.send(body, headers={**relay.bearer, **headers}), 415, "unsupported-media-type")


@pytest.mark.parametrize("media_type", [JSON_TYPE, "text/plain"])
def test_body_with_a_content_encoding_is_rejected(relay: Relay, media_type: str) -> None:
    headers = {**relay.bearer, "Content-Type": media_type, "Content-Encoding": "gzip"}
    problem = assert_problem(
        relay.send(json.dumps(relay.apify_event()), headers=headers), 415, "unsupported-content-encoding"
    )
    assert problem["title"] == "The content encoding is not supported"


@pytest.mark.parametrize("encoding", ["identity", "Identity", "identity, identity"])
def test_body_with_the_encoding_identity_is_accepted(relay: Relay, encoding: str) -> None:
    assert relay.post(relay.apify_event(), headers={"Content-Encoding": encoding}).status_code == 200


@pytest.mark.parametrize("line", ["Transfer-Encoding: chunked", "Content-Length: 1000000"])
def test_body_that_does_not_arrive_occupies_no_place_of_a_large_body(launch: Launch, line: str) -> None:
    relay = launch(THREADS="48", RELAY_DEADLINE_SECONDS="60")
    large = relay.apify_event()
    body = json.dumps(large).encode().ljust(100_000)
    # The beginning of a body, which is small as far as it has arrived.
    beginning = b"ffff\r\n" + b" " * 0xFFFF if "chunked" in line else b" " * 65_536
    with ExitStack() as stack:
        unfinished = [stack.enter_context(connect(relay)) for _ in range(36)]
        for connection in unfinished:
            connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n".encode() + beginning)
        headers = {"Content-Type": JSON_TYPE, **relay.bearer}
        assert relay.send(body, headers=headers).status_code == 200
        # A little more makes each of the bodies large. gunicorn reads at least 1024 bytes at once.
        for connection in unfinished:
            connection.sendall((b"\r\n800\r\n" if "chunked" in line else b"") + b" " * 2048)
        # The others have a place.
        wait_until(lambda: len(select.select(unfinished, [], [], 0)[0]) == 4)
        response = relay.send(body, headers=headers)
        assert_problem(response, 503, "busy", retryable=True)
        # The function refuses the body before it knows the caller.
        entry = relay.logged(response.headers["Relay-Delivery"])
        assert (entry["outcome"], entry["severity"], entry["problem"]) == ("rejected", "WARNING", "busy")
    # The callers have gone, and so the places are free.
    wait_until(lambda: relay.send(body, headers=headers).status_code == 200)
    lines = [json.loads(line) for line in relay.log_text().splitlines()]
    assert {line["severity"] for line in lines} == {"INFO", "WARNING"}


@pytest.mark.parametrize(
    "content_type", ["application/json", "APPLICATION/JSON;charset=utf-8", "application/vnd.example+json"]
)
def test_body_of_a_json_media_type_is_accepted(relay: Relay, content_type: str) -> None:
    assert relay.post(relay.apify_event(), headers={"Content-Type": content_type}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b'{"a":1,"a":1}', b'{"a":NaN}', b'{"a":1e999}', b'{"a":"\\ud800"}', b"[" * 100_000,
     b'{"a":' * 65 + b"1" + b"}" * 65],
)  # fmt: skip
def test_body_that_is_not_strict_json_is_invalid(relay: Relay, body: bytes) -> None:
    response = relay.send(body, headers={"Content-Type": JSON_TYPE, **relay.bearer})
    assert_problem(response, 400, "invalid-json")
