"""Requests that no HTTP client would send: bytes on a socket of their own."""

import re
import socket
import time
from dataclasses import dataclass

from tests.conftest import Relay

_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Got:
    """What came back on a socket."""

    received: bytes
    seconds: float

    @property
    def status(self) -> int:
        """0 where it was closed without an answer."""
        return int(self.received[9:12] or 0)

    @property
    def head(self) -> str:
        return self.received.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        return self.received.partition(b"\r\n\r\n")[2]


def exchange(relay: Relay, sent: bytes, *, slowly: bytes = b"", finish: bool = False) -> Got:
    """Sends these bytes, then `slowly` those, one every tenth of a second; what comes back until it is whole.

    Raises TimeoutError: nothing does.
    """
    with socket.create_connection(("127.0.0.1", relay.function.port), timeout=_PATIENCE_SECONDS) as connection:
        began = time.monotonic()
        connection.sendall(sent)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        received, rest = b"", slowly
        while True:
            connection.settimeout(0.1 if rest else _PATIENCE_SECONDS)
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
            received += chunk
            if not chunk or _is_whole(received):
                break
        return Got(received, time.monotonic() - began)


def _is_whole(received: bytes) -> bool:
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(length and len(body) >= int(length[1])) or body.endswith(b"0\r\n\r\n")
