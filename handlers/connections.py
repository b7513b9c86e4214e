"""Calls to a platform of which no part outlasts the call's time: an adapter for requests.

requests' own adapter has a time-out for each read, so that a platform which sends a byte a second is never late; and
what it does for each call costs six times as much CPU. Connections are made by urllib3.
"""

import socket
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse
from urllib3.util import create_urllib3_context, parse_url

from handlers.deadline import Deadline
from handlers.upstream import Answer, Line

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


class NotConnected(requests.ConnectionError):
    """No connection was made: nothing was sent."""


class Adapter(BaseAdapter):
    """Carries requests to the one place that `base_url` names, and keeps the connections for the next."""

    def __init__(self, base_url: str, headers: Mapping[str, str], *, verify: str | None, proxy: str | None) -> None:
        """`headers` are those that each request has.

        `verify` names the certificates to trust; None: those that come with requests. `proxy` is
        the URL of what stands in the way. Raises ValueError: it isn't spoken to in plain HTTP.
        """
        super().__init__()
        place = urlsplit(base_url)
        self._is_secure = place.scheme == "https"
        self._host, self._port = place.hostname or "", place.port or (443 if self._is_secure else 80)
        self._origin = f"{place.scheme}://{place.netloc}"
        self._verify = verify
        self._proxy = parse_url(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        self._proxy_headers: dict[str, str] = {}
        if proxy and self._proxy:
            if self._proxy.scheme != "http":
                raise ValueError
            self._proxy_headers = HTTPAdapter().proxy_headers(proxy)
        # A proxy for what isn't encrypted is told the whole URL, and who asks; one for the rest makes a tunnel.
        told = self._proxy is not None and not self._is_secure
        self._before_path = self._origin if told else ""
        shared = {"Host": place.netloc, **headers, **(self._proxy_headers if told else {})}
        self._first_lines = [f"{name}: {value}" for name, value in shared.items()]
        # The one used last is used next. Of its operations each is atomic.
        self._idle: deque[Line] = deque()

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = True,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """The answer to `request`, whose `raw` is an Answer, still to be read, or what decodes one.

        `timeout`, in seconds, is for the whole of the call, up to the answer's last byte. The other arguments were
        settled when the adapter was made. Raises NotConnected; SSLError: the certificate isn't one to trust;
        ReadTimeout; else ConnectionError: the connection broke, or what came is no HTTP.
        """
        deadline = Deadline.after(timeout)
        octets = self._octets(request)
        answer = Answer(self._line(deadline), deadline, self._idle.append)
        try:
            answer.say(octets)
            answer.read_head()
        except BaseException:
            answer.close()
            raise
        response = requests.Response()
        response.request, response.url = request, request.url or ""
        response.status_code = answer.status
        response.headers = CaseInsensitiveDict(answer.headers)
        response.raw = answer
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            encoded: Any = answer
            response.raw = HTTPResponse(encoded, answer.headers, answer.status, preload_content=False)
        return response

    def close(self) -> None:
        """Closes the connections that are kept."""
        while self._idle:
            self._idle.pop().close()

    def _octets(self, request: requests.PreparedRequest) -> bytes:
        body: bytes = request.body or b""  # type: ignore[assignment]
        path = (request.url or "").removeprefix(self._origin) or "/"
        lines = [f"{request.method} {self._before_path}{path} HTTP/1.1", *self._first_lines]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        together = "".join(lines)
        if not (together.isascii() and together.isprintable()):
            raise requests.exceptions.InvalidHeader("no line of a request's head has a line end in it")
        return b"%b\r\n\r\n%b" % ("\r\n".join(lines).encode("ascii"), body)

    def _line(self, deadline: Deadline) -> Line:
        """A kept connection, if there is one on which nothing has come since the last answer; else a new one."""
        with suppress(IndexError):
            while True:
                kept = self._idle.pop()
                if not kept.has_come(0):
                    return kept
                kept.close()
        return Line(self._connected(deadline))

    def _connected(self, deadline: Deadline) -> HTTPConnection:
        """Connects in a thread of its own, and leaves that alone when the time is up.

        Nothing else bounds the whole of it: looking a name up, trying each of its addresses, asking a proxy. The thread
        ends by itself: a resolver has a time-out of its own, connecting and shaking hands have _CONNECT_SECONDS each,
        and who waits for a proxy has its socket shut.
        """
        connection = self._new(max(_SHORTEST_SECONDS, min(_CONNECT_SECONDS, deadline.remaining())))
        made: Future[None] = Future()
        try:
            threading.Thread(target=_make, args=(made, connection), daemon=True).start()
            made.result(deadline.remaining())
        except Exception as error:
            if made.cancel() and isinstance(connection.sock, socket.socket):
                with suppress(OSError):
                    # As a plain socket: TLS would say good-bye first.
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
            if _is_due_to(error, ssl.SSLCertVerificationError):
                raise requests.exceptions.SSLError from error
            raise NotConnected from error
        return connection

    def _new(self, seconds: float) -> HTTPConnection:
        proxy = self._proxy
        host, port = (proxy.host or "", proxy.port) if proxy else (self._host, self._port)
        shared: dict[str, Any] = {"port": port, "timeout": seconds, "socket_options": _SOCKET_OPTIONS}
        if not self._is_secure:
            return HTTPConnection(host, **shared)
        made = HTTPSConnection(host, **shared, ssl_context=self._context)
        if proxy:
            made.set_tunnel(self._host, self._port, self._proxy_headers)
        return made

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """Made with the first connection, and shared by all: certificates take some milliseconds to read."""
        context = create_urllib3_context()
        where = self._verify or DEFAULT_CA_BUNDLE_PATH
        context.load_verify_locations(**{"capath" if Path(where).is_dir() else "cafile": where})
        return context


def _make(made: Future[None], connection: HTTPConnection) -> None:
    failure: Exception | None = None
    try:
        connection.connect()
    except Exception as error:
        failure = error
    if not made.set_running_or_notify_cancel():
        connection.close()
    elif failure:
        made.set_exception(failure)
    else:
        made.set_result(None)


def _is_due_to(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether `error`, or what it was raised for, and so on, is of this kind."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error is not None
