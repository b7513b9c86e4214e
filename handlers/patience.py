"""How long whoever calls is waited for: nobody who doesn't finish sending, or reading, holds a thread for ever."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import Request

from handlers.answers import Reply

# How exactly a time-out is kept, in seconds.
_EVERY_SECONDS = 0.2
# For how long, in seconds, and for how many bytes, what is still on its way is read when nobody wants it any more.
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 1_000_000


def connection_of(request: Request) -> socket.socket | None:
    """The connection that `request` came on; None where the server keeps it to itself, as gunicorn doesn't."""
    found: socket.socket | None = request.environ.get("gunicorn.socket")
    return found


class Patience:
    """Shuts connections on which a request takes longer than some `seconds` to arrive, or an answer to be taken.

    A time-out on the socket would be for each read and write anew, and the server reads and writes as often as it
    takes. Without a connection at hand, nothing is done.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        #: What is waited for: when patience ends, and which sides of which connection are shut then.
        self._waiting: dict[int, tuple[float, socket.socket, int]] = {}
        self._watches = False

    @contextmanager
    def reading(self, connection: socket.socket | None, seconds: float | None = None) -> Iterator[None]:
        """Bounds how long the body below may read from `connection`. Raises TimeoutError: it took longer.

        Whoever waits for the rest then reads its end, and can still answer.
        """
        if connection is None:
            yield
            return
        number = self._begin(connection, socket.SHUT_RD, seconds)
        try:
            yield
        finally:
            if self._end(number):
                raise TimeoutError

    def answering(self, connection: socket.socket | None, response: Reply, *, unread: bool) -> None:
        """Bounds how long `response` may take to be sent; `unread` says that some of the request is still to come."""
        if connection is None:
            return
        number = self._begin(connection, socket.SHUT_RDWR)

        def sent() -> None:
            self._end(number)
            if response.closes():
                _hang_up(connection, linger=unread)

        response.call_on_close(sent)

    def _begin(self, connection: socket.socket, sides: int, seconds: float | None = None) -> int:
        number, until = next(self._numbers), time.monotonic() + (self._seconds if seconds is None else seconds)
        with self._lock:
            self._waiting[number] = (until, connection, sides)
            if not self._watches:
                # Begun with the first request: a server may fork after the function is imported. Without a thread to
                # spare the next request tries again, and finds this one waiting.
                with suppress(RuntimeError):
                    threading.Thread(target=self._watch, daemon=True).start()
                    self._watches = True
        return number

    def _end(self, number: int) -> bool:
        """Whether it was ended already."""
        with self._lock:
            return self._waiting.pop(number, None) is None

    def _watch(self) -> None:
        while True:
            time.sleep(_EVERY_SECONDS)
            with self._lock:
                for number, (until, connection, sides) in list(self._waiting.items()):
                    if until <= time.monotonic():
                        del self._waiting[number]
                        with suppress(OSError):
                            connection.shutdown(sides)


def _hang_up(connection: socket.socket, *, linger: bool) -> None:
    """Ends a connection here, in the request's own thread.

    gunicorn would wait up to 2 s for the sender to do it, in the one thread that takes in everybody else. With `linger`
    what is still on its way is read for a while: else the system would take back the answer (RFC 9112, 9.6).
    """
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        until, left = time.monotonic() + _LINGER_SECONDS, _LINGER_BYTES
        while linger and left > 0 and (seconds := until - time.monotonic()) > 0:
            connection.settimeout(seconds)
            read = len(connection.recv(65536))
            linger, left = read > 0, left - read
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
