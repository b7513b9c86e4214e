"""How long the rest of a request is waited for: a sender that never finishes must not hold a thread for ever."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# How exactly a time-out is kept, in seconds.
_EVERY_SECONDS = 0.2


class Patience:
    """Shuts the reading side of connections on which a request takes longer than `seconds` to arrive.

    A time-out on the socket would be for each read anew, and the server reads as often as it takes. Whoever waits for
    the rest then reads its end, and can still answer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        #: Those that are waited on, oldest first: each with the moment when patience ends.
        self._waiting: dict[int, tuple[float, socket.socket]] = {}
        self._watches = False

    @contextmanager
    def waiting(self, connection: socket.socket | None) -> Iterator[None]:
        """Bounds how long the body below may read from `connection`. Raises TimeoutError: it took longer.

        None, from a server that doesn't give its sockets away, is waited on for as long as that server does.
        """
        if connection is None:
            yield
            return
        number = next(self._numbers)
        with self._lock:
            self._waiting[number] = (time.monotonic() + self._seconds, connection)
            if not self._watches:
                # Begun with the first request: a server may fork after the function is imported.
                threading.Thread(target=self._watch, daemon=True).start()
                self._watches = True
        try:
            yield
        finally:
            with self._lock:
                ended = self._waiting.pop(number, None) is None
            if ended:
                raise TimeoutError

    def _watch(self) -> None:
        while True:
            time.sleep(_EVERY_SECONDS)
            with self._lock:
                for number, (until, connection) in list(self._waiting.items()):
                    if time.monotonic() < until:
                        break
                    del self._waiting[number]
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RD)
