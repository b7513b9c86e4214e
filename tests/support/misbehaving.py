"""A provider that does what no HTTP server would do: a test controls its sockets."""

import contextlib
import ctypes
import re
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

#: Serves one request on a connection. The arguments are the connection, the number of requests to this path so far
#: (including this one), and an event that is set when the provider stops.
Behavior = Callable[[socket.socket, int, threading.Event], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def http_response(status: int, body: bytes = b"{}", *headers: str) -> bytes:
    """Return a complete response."""
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def send(*responses: bytes) -> Behavior:
    """Return a behavior that sends one response per request, and the last one again and again."""

    def behave(connection: socket.socket, attempt: int, _stopped: threading.Event) -> None:
        connection.sendall(responses[min(attempt, len(responses)) - 1])

    return behave


def send_and_close(part: bytes) -> Behavior:
    """Return a behavior that sends a part of a response, and closes the connection."""

    def behave(connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        connection.sendall(part)
        connection.close()

    return behave


def reset(connection: socket.socket) -> None:
    """End the connection with an RST, as a machine does after a crash."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # A thread that waits in recv() would keep the connection open.
    connection.shutdown(socket.SHUT_RD)
    connection.close()


def send_plain_http(connection: socket.socket) -> None:
    """Respond to a TLS handshake in plain text, as some servers do on their HTTPS port."""
    connection.sendall(b"HTTP/1.1 400 The plain HTTP request was sent to an HTTPS port\r\n\r\n")


def reset_in_handshake(connection: socket.socket) -> None:
    """Reset the connection after the first message of a TLS handshake."""
    connection.recv(100)
    reset(connection)


class _FilterInstruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class _FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_FilterInstruction))]


def drop_packets(connection: socket.socket) -> None:
    """Make the kernel drop every packet that arrives on the connection, as a NAT does that has forgotten it.

    The other side receives neither an acknowledgment nor a reset. Only Linux can do this: a socket filter of one
    instruction, "keep 0 bytes of the packet". https://www.kernel.org/doc/html/latest/networking/filter.html
    """
    return_constant, attach_filter = 0x06, 26
    instruction = _FilterInstruction(return_constant, 0, 0, 0)
    program = _FilterProgram(1, ctypes.pointer(instruction))
    connection.setsockopt(socket.SOL_SOCKET, attach_filter, bytes(program))


@dataclass
class MisbehavingProvider:
    """A provider on loopback whose reaction to a request depends on the path of the request."""

    tls: ssl.SSLContext | None = None
    behaviors: dict[str, Behavior] = field(default_factory=dict)
    #: The behavior for every other path.
    default: Behavior = field(default_factory=lambda: send(OK))
    #: The received requests, by path.
    requests: dict[str, list[bytes]] = field(default_factory=dict)
    #: The number of received requests, by path.
    attempts: Counter[str] = field(default_factory=Counter)
    #: All connections so far, in order.
    connections: list[socket.socket] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self, port: int = 0) -> "MisbehavingProvider":
        """Listen on a port. With 0, the system chooses the port."""
        self._server = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.getsockname()[1]}"

    @property
    def request_count(self) -> int:
        """The number of received requests."""
        return self.attempts.total()

    def stop_listening(self) -> None:
        """Refuse new connections. The existing connections stay."""
        # A close alone would not wake up the thread that waits in accept().
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def stop(self) -> None:
        """Stop, and end every behavior that waits for it."""
        self.stopped.set()
        self.stop_listening()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # The client may close the connection at any time.
        with contextlib.suppress(OSError), connection:
            if self.tls:
                position = self.connections.index(connection)
                # wrap_socket() takes the connection away from the plain socket.
                with self.tls.wrap_socket(connection, server_side=True) as encrypted:
                    self.connections[position] = encrypted
                    self._serve_requests(encrypted)
            else:
                self._serve_requests(connection)

    def _serve_requests(self, connection: socket.socket) -> None:
        for path, request in read_requests(connection):
            self.requests.setdefault(path, []).append(request)
            self.attempts[path] += 1
            behave = self.behaviors.get(path, self.default)
            behave(connection, self.attempts[path], self.stopped)


def read_requests(connection: socket.socket) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the bytes of each complete request on a connection."""
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


@contextlib.contextmanager
def listening(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen on loopback, and let `behave` handle each connection. The value is `host:port`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def handle(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                behave(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=handle, args=(connection,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()


@contextlib.contextmanager
def full_backlog(port: int = 0) -> Iterator[int]:
    """Listen on a port where the queue of connections is full, so that the kernel drops new connections."""
    with socket.socket() as full:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", port))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]
        for filler in fillers:
            filler.close()
