"""Limits on the time that a caller can take to send a request body, and to read a response."""

import itertools
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import Request, Response

# The precision of the timeouts, in seconds.
_CHECK_INTERVAL = 0.2
# The limits on reading the rest of a request after sending the response, in seconds and in bytes.
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 1_000_000


def connection_of(request: Request) -> socket.socket | None:
    """Return the connection of `request`, or None if the server doesn't provide the connection.

    gunicorn puts the connection into the WSGI environ: https://docs.gunicorn.org/en/stable/settings.html
    """
    connection: socket.socket | None = request.environ.get("gunicorn.socket")
    return connection


class ConnectionWatchdog:
    """A watchdog that shuts down the connection of a caller that exceeds a time limit.

    The timeout of a socket restarts with every read and write. With such a timeout, a caller could send one byte at a
    time forever. Without a connection, the watchdog does nothing.
    """

    def __init__(self, seconds: float) -> None:
        """Create a watchdog with a default time limit of `seconds`."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        #: For each watched operation: its deadline on the monotonic clock, the connection, and the side to shut down.
        self._watched: dict[int, tuple[float, socket.socket, int]] = {}
        self._is_running = False
        self._closed: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    @contextmanager
    def reading(self, connection: socket.socket | None, seconds: float | None = None) -> Iterator[None]:
        """Limit the time for reading from `connection` within the `with` statement.

        At the limit, the reader receives the end of the stream. The function can still send a response.

        Raises:
            TimeoutError: The time limit has passed.
        """
        if connection is None:
            yield
            return
        number = self._start(connection, socket.SHUT_RD, self._seconds if seconds is None else seconds)
        try:
            yield
        finally:
            if self._stop(number):
                raise TimeoutError

    def responding(self, request: Request, response: Response, *, has_unread_body: bool) -> None:
        """Limit the time that the caller takes to read `response`, and close a connection that must not continue."""
        connection = connection_of(request)
        if connection is None:
            return
        # Read the request now: flask.request is unusable after the response.
        is_last = has_unread_body or _ends_connection(request)
        number = self._start(connection, socket.SHUT_RDWR, self._seconds)

        def after_response() -> None:
            self._stop(number)
            if is_last:
                with self._lock:
                    self._closed.add(connection)
                _close(connection, linger=has_unread_body)

        response.call_on_close(after_response)

    def has_closed(self, request: Request) -> bool:
        """Return True if the function closed the connection of `request` before gunicorn read `request`.

        gunicorn can have received such a request together with the last request of the connection. The caller would
        receive no response, so the function must not carry out the request (RFC 9112, section 9.6).
        """
        connection = connection_of(request)
        with self._lock:
            return connection is not None and connection in self._closed

    def _start(self, connection: socket.socket, side: int, seconds: float) -> int:
        number = next(self._numbers)
        with self._lock:
            self._watched[number] = (time.monotonic() + seconds, connection, side)
            if not self._is_running:
                # Start the thread with the first request, because the server can fork after the import of the function,
                # and a thread doesn't survive a fork. If the process has too many threads, the next request tries
                # again, and the new thread also watches this operation.
                with suppress(RuntimeError):
                    threading.Thread(target=self._run, daemon=True).start()
                    self._is_running = True
        return number

    def _stop(self, number: int) -> bool:
        """Stop watching, and return True if the time limit had passed."""
        with self._lock:
            return self._watched.pop(number, None) is None

    def _run(self) -> None:
        while True:
            time.sleep(_CHECK_INTERVAL)
            with self._lock:
                now = time.monotonic()
                expired = [number for number, (end, _, _) in self._watched.items() if end <= now]
                for number in expired:
                    _, connection, side = self._watched.pop(number)
                    with suppress(OSError):
                        connection.shutdown(side)


def _ends_connection(request: Request) -> bool:
    """Return True if the server closes the connection of `request` after the response (RFC 9112, section 9.6)."""
    option = request.headers.get("Connection", "").lower().strip()
    is_old = request.environ.get("SERVER_PROTOCOL") != "HTTP/1.1" and option != "keep-alive"
    return is_old or request.method == "CONNECT" or "close" in option


def _close(connection: socket.socket, *, linger: bool) -> None:
    """Close `connection` in the thread of its request.

    gunicorn would wait up to 2 s for the caller to close the connection, in the only thread that accepts connections.
    With `linger`, the function first reads a part of the data that is still arriving. Otherwise, the operating system
    would reset the connection, and the caller could lose the response (RFC 9112, section 9.6).
    """
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        end, remaining_bytes = time.monotonic() + _LINGER_SECONDS, _LINGER_BYTES
        while linger and remaining_bytes > 0 and (seconds := end - time.monotonic()) > 0:
            connection.settimeout(seconds)
            size = len(connection.recv(65536))
            linger, remaining_bytes = size > 0, remaining_bytes - size
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
