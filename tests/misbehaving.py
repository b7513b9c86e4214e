"""A platform that does what no HTTP server would: sockets that a test has in its own hands."""

import contextlib
import re
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

#: Serves one request on a connection: which try at its path it is, from 1, and what is set when all is over.
Behave = Callable[[socket.socket, int, threading.Event], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def answer(status: int, body: bytes = b"{}", *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def says(*answers: bytes) -> Behave:
    """One answer a try; the last one again and again."""

    def behave(connection: socket.socket, attempt: int, _over: threading.Event) -> None:
        connection.sendall(answers[min(attempt, len(answers)) - 1])

    return behave


def reset(connection: socket.socket) -> None:
    """Ends the connection with an RST, as a machine does that was switched off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@dataclass
class Misbehaving:
    """Listens on loopback; what it does with a request depends on the request's path."""

    tls: ssl.SSLContext | None = None
    behaviours: dict[str, Behave] = field(default_factory=dict)
    #: For a path without a behaviour of its own.
    otherwise: Behave = field(default_factory=lambda: says(OK))
    #: What was received, by path.
    requests: dict[str, list[bytes]] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def start(self, port: int = 0) -> "Misbehaving":
        self._server = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    @property
    def url(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.getsockname()[1]}"

    def stop(self) -> None:
        self.over.set()
        self._server.close()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # The function hangs up on some, as it should.
        with contextlib.suppress(OSError):
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection:
                for path, request in whole_requests(connection):
                    self.requests.setdefault(path, []).append(request)
                    self.tries[path] += 1
                    behave = self.behaviours.get(path, self.otherwise)
                    behave(connection, self.tries[path], self.over)


def whole_requests(connection: socket.socket) -> Iterator[tuple[str, bytes]]:
    """The requests on a connection, each to its last byte, with their paths."""
    received = b""
    while True:
        while b"\r\n\r\n" not in received:
            chunk = connection.recv(65536)
            if not chunk:
                return
            received += chunk
        head, _, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length else 0
        while len(rest) < size:
            chunk = connection.recv(65536)
            if not chunk:
                return
            rest += chunk
        yield head.split(b" ")[1].decode(), head + b"\r\n\r\n" + rest[:size]
        received = rest[size:]
