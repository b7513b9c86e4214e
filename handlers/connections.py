"""Connections to the platforms on which nothing outlasts the call's deadline: urllib3's, with sockets that know it."""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from io import BufferedReader, RawIOBase
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError

from handlers.deadline import Deadline

#: Of the call that this thread makes.
DEADLINE: ContextVar[Deadline] = ContextVar("deadline")

# A connection that takes longer, in seconds, mostly is never made. For each address that the host's name has.
_CONNECT_SECONDS = 3.0
# 0 would be a socket that doesn't wait at all.
_SHORTEST_SECONDS = 0.001
_SOCKET_OPTIONS = [
    *HTTPConnection.default_socket_options,
    # A firewall that has forgotten a kept connection swallows what is sent on it, as does a machine that is gone: what
    # nobody acknowledges, or reads, for so many milliseconds was sent in vain. One that takes its time acknowledges.
    *([(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000)] if hasattr(socket, "TCP_USER_TIMEOUT") else []),
]
_MOST_INTERIM = 20
_NO_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class _Timed:
    """A socket each of whose operations has what is left until the call's deadline.

    A time-out is for each operation anew: a platform that sends a byte a second would never be too late.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        #: Whether more has come than the answer that was asked for.
        self.is_spoilt = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        """Nothing: the deadline decides."""

    def arm(self) -> None:
        """Gives the next operation what is left. Raises TimeoutError: nothing is."""
        left = DEADLINE.get().remaining()
        if not left:
            raise TimeoutError
        self._sock.settimeout(left)

    def sendall(self, octets: Any) -> None:
        """Sends all of `octets`."""
        rest = memoryview(octets).cast("B")
        while rest:
            self.arm()
            rest = rest[self._sock.send(rest) :]

    def makefile(self, *_: object, **__: object) -> BufferedReader:
        """What http.client reads an answer from."""
        return _AnswerReader(self, _TimedReader(self, self._sock.makefile("rb", buffering=0)))


class _TimedReader(RawIOBase):
    def __init__(self, sock: _Timed, raw: RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self.is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.is_over:
            return None
        self._sock.arm()
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        # The socket stays open until whoever reads from it is done.
        self._raw.close()
        super().close()


class _AnswerReader(BufferedReader):
    """Notices what nobody has read: taken for an answer to the next call, it would be somebody else's."""

    def __init__(self, sock: _Timed, raw: _TimedReader) -> None:
        super().__init__(raw)
        self._sock = sock
        self._timed = raw

    def close(self) -> None:
        if not self.closed:
            self._timed.is_over = True
            self._sock.is_spoilt |= bool(self.peek(1))
        super().close()


class _Answer(HTTPResponse):
    """An answer after those that are none yet: http.client passes over 100 alone, and takes 103 for the last word.

    https://www.rfc-editor.org/rfc/rfc9110#section-15.2
    """

    def begin(self) -> None:
        super().begin()
        for _ in range(_MOST_INTERIM):
            if not 100 <= self.status < 200 or self.status == HTTPStatus.SWITCHING_PROTOCOLS:
                break
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()
        else:
            raise HTTPException("more interim answers than anybody needs")
        announced = "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0") != "0"
        if self.status == HTTPStatus.SWITCHING_PROTOCOLS or (self.status in _NO_BODY and announced):
            # What comes behind it is no answer.
            self.will_close = True


class _Connection(HTTPConnection):
    """A connection that is made, and used, within the call's deadline."""

    response_class = _Answer

    @property
    def is_connected(self) -> bool:
        """Whether the next call can go over it: nothing has come since the last answer."""
        sock: Any = self.sock
        if not super().is_connected or sock.is_spoilt:
            return False
        # What TLS has unpacked already can't be seen on the socket itself.
        pending = getattr(sock, "pending", None)
        return not (pending and pending())

    def connect(self) -> None:
        """Connects in a thread of its own, and leaves that alone when the time is up.

        Nothing else bounds the whole of it: looking a name up, trying each of its addresses, asking a proxy. The thread
        ends by itself: a resolver has a time-out of its own, connecting and shaking hands have _CONNECT_SECONDS each,
        and who waits for a proxy has its socket shut. Raises NewConnectionError.
        """
        deadline = DEADLINE.get()
        self.timeout = max(_SHORTEST_SECONDS, min(_CONNECT_SECONDS, deadline.remaining()))
        made: Future[None] = Future()
        try:
            threading.Thread(target=_make, args=(made, super().connect, self.close), daemon=True).start()
            made.result(deadline.remaining())
        except Exception as error:
            if made.cancel() and isinstance(self.sock, socket.socket):
                with suppress(OSError):
                    # As a plain socket: TLS would say good-bye first.
                    socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            raise NewConnectionError(self, "no connection") from error
        self.sock = _Timed(self.sock)


def _make(made: Future[None], connect: Callable[[], None], close: Callable[[], None]) -> None:
    failure: Exception | None = None
    try:
        connect()
    except Exception as error:
        failure = error
    if not made.set_running_or_notify_cancel():
        close()
    elif failure:
        made.set_exception(failure)
    else:
        made.set_result(None)


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class Adapter(HTTPAdapter):
    """Uses connections of ours, through a proxy too."""

    _pools = {"http": _Pool, "https": _SecurePool}  # noqa: RUF012 - urllib3's own way to say it

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Makes the pools."""
        super().init_poolmanager(*args, socket_options=_SOCKET_OPTIONS, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Makes the pools behind a proxy."""
        manager = super().proxy_manager_for(proxy, socket_options=_SOCKET_OPTIONS, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager
