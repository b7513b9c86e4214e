"""Requests that no HTTP client would send: bytes on a socket."""

import re
import socket
import time
from dataclasses import dataclass

from tests.support.canary import RECORDER
from tests.support.relay import Relay

# In seconds: longer than any function under test takes, so that a function that never responds fails the test.
TIMEOUT = 60.0


@dataclass(frozen=True)
class RawResponse:
    """The bytes of a response, and the seconds from the start of the request to the end of the response."""

    received: bytes
    seconds: float

    @property
    def status(self) -> int:
        """The status, or 0 if the connection was closed without a response."""
        return int(self.received[9:12] or 0)

    @property
    def head(self) -> str:
        """The status line and the headers."""
        return self.received.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        """The bytes after the headers."""
        return self.received.partition(b"\r\n\r\n")[2]


def exchange(relay: Relay, sent: bytes, *, slowly: bytes = b"", finish: bool = False) -> RawResponse:
    """Send bytes to the function, and return the first complete response.

    After `sent`, the caller sends `slowly`, with one byte every tenth of a second. With `finish`, the caller closes its
    side of the connection after `sent`.

    Raises:
        TimeoutError: No complete response arrives within TIMEOUT.
    """
    with connect(relay) as connection:
        started = time.monotonic()
        connection.sendall(sent)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        received, rest = b"", slowly
        while not is_complete(received):
            connection.settimeout(0.1 if rest else TIMEOUT)
            try:
                chunk = connection.recv(65536)
            except TimeoutError:
                if not rest:
                    raise
                connection.sendall(rest[:1])
                rest = rest[1:]
                continue
            except ConnectionError:
                break
            if not chunk:
                break
            received += chunk
        RECORDER.add("exchange", received.decode("latin-1"))
        delivery = re.search(rb"Relay-Delivery: ([^\r\n]+)", received)
        relay.last_delivery = delivery[1].decode() if delivery else None
        return RawResponse(received, time.monotonic() - started)


def connect(relay: Relay) -> socket.socket:
    """Return a new connection to the function."""
    return socket.create_connection(("127.0.0.1", relay.function.port), timeout=TIMEOUT)


def receive_until_closed(connection: socket.socket) -> bytes:
    """Return everything that arrives until the other side closes the connection.

    Raises:
        TimeoutError: Nothing arrives within TIMEOUT, and the connection stays open.
    """
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    RECORDER.add("receive_until_closed", received.decode("latin-1"))
    return received


def is_complete(received: bytes) -> bool:
    """Return True if `received` contains a complete response."""
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(length and len(body) >= int(length[1])) or body.endswith(b"0\r\n\r\n")
