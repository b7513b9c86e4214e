"""Property tests over real sockets: any bytes of a caller, and any bytes of a provider.

Try more inputs: FUZZ_EXAMPLES=10000 pytest tests/integration/test_fuzz.py --hypothesis-show-statistics
"""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.deadline import Deadline
from handlers.delivery.http_client import HTTPClient
from handlers.providers.base import Request, Response
from tests.support.misbehaving import MisbehavingProvider
from tests.support.raw_http import connect, receive_until_closed
from tests.support.relay import Relay

REQUEST = (
    b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer x\r\n"
    b"webhook-id: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from([b"", b"hooks/x", b"health", b"openapi.json", b"?dry_run=true"]),
    position=st.integers(0, 200),
    inserted=st.binary(max_size=6)
    | st.sampled_from([b"\r\n", b"\0", b" ", b":", b"%0a", b"\r\nContent-Length: 5\r\n"]),
    removed=st.integers(0, 30),
)
def test_function_damaged_request_gets_no_server_error(
    relay: Relay, path: bytes, position: int, inserted: bytes, removed: int
) -> None:
    request = REQUEST % path
    position %= len(request)
    with connect(relay) as connection:
        # The server can reject the request early and close its side.
        with contextlib.suppress(OSError):
            connection.sendall(request[:position] + inserted + request[position + removed :])
            connection.shutdown(socket.SHUT_WR)
        received = receive_until_closed(connection)
    if not received:
        return
    # The server can take the rest of a damaged request for another request: only the first response counts.
    head = received.partition(b"\r\n\r\n")[0]
    status = int(head[9:12])
    if b"Relay-Delivery: " in head:
        assert status < 500
        assert b"Content-Type: application/json" in head or b"Content-Type: application/problem+json" in head
    else:
        # The server rejects malformed HTTP before the function runs.
        assert status in (400, 431, 501, 505), head


FRAGMENTS = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\r\n", b"HTTP/1.1 103 Early\r\n", b"HTTP/1.1 204 No\r\n",
     b"Content-Length: 2\r\n", b"Content-Length: 9\r\n", b"Content-Length: -1\r\n", b"Content-Length: x\r\n",
     b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Content-Encoding: gzip\r\n",
     b"Content-Encoding: br\r\n", b"Connection: close\r\n", b"Set-Cookie: a=b\r\n", b"Location: http://[\r\n",
     b"Retry-After: 1\r\n", b": x\r\n", b"a b\r\n", b" folded\r\n", b"\r\n", b"\n", b"{}", b"2\r\n{}\r\n",
     b"0\r\n\r\n", b"\x00"]
)  # fmt: skip


@pytest.fixture(scope="module")
def provider_and_client() -> Iterator[tuple[MisbehavingProvider, HTTPClient]]:
    """Run a provider that sends any bytes, and provide a client for it."""
    provider = MisbehavingProvider().start()
    client = HTTPClient({"apify": provider.url})
    yield provider, client
    client.close()
    provider.stop()


@given(sent=st.lists(FRAGMENTS | st.binary(max_size=5), max_size=8).map(b"".join), closes=st.booleans())
def test_http_client_any_response_ends_by_the_deadline_and_spoils_no_other(
    provider_and_client: tuple[MisbehavingProvider, HTTPClient], sent: bytes, closes: bool
) -> None:
    provider, client = provider_and_client

    def respond(connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        connection.sendall(sent)
        if closes:
            connection.shutdown(socket.SHUT_RDWR)

    def call(path: str, seconds: float) -> Response:
        request = Request("PUT", provider.url + path, {"a": 1})
        return client.send("apify", request, "CANARY-token", Deadline.after(seconds))

    provider.behaviors["/odd"] = respond
    # Without `closes`, the provider keeps the connection open: only the deadline ends the call.
    with contextlib.suppress(requests.RequestException):
        assert 100 <= call("/odd", 0.1).status <= 999
    # Bytes that remain from the first response are not the response to the second request.
    assert call("/fine", 60) == Response(200, {})
