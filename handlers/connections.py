"""Calls to a platform of which no part outlasts the call's time: an adapter for requests.

requests' own adapter has a time-out for each read, so that a platform which sends a byte a second is never late; and
half of what it spends on a call, as measured by `make bench`, goes into what this job has no use for. Connections are
made by urllib3, answers taken apart by httptools (llhttp, the parser of Node.js).
"""

import math
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse
from urllib3.util import create_urllib3_context, parse_url, wait_for_write

from handlers.deadline import Deadline

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
_CHUNK_BYTES = 64 * 1024
_LONGEST_HEAD_BYTES = 64 * 1024
_MOST_HEADERS = 100
_MOST_INTERIM = 20
_NO_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


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
        answer = Answer(self, self._line(deadline), deadline)
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

    def keep(self, line: "Line") -> None:
        """Takes a connection back, over which the next call can go."""
        self._idle.append(line)

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

    def _line(self, deadline: Deadline) -> "Line":
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


class Line:
    """A connection, and how to wait for what comes over it."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection
        self.sock: Any = connection.sock
        # It never waits by itself: a time-out would be for each operation anew.
        self.sock.settimeout(0)
        self._is_secure = isinstance(self.sock, ssl.SSLSocket)
        # Made once, unlike select's and urllib3's own, for each wait.
        self._poll = select.poll()
        self._poll.register(self.sock, select.POLLIN)

    def has_come(self, seconds: float) -> bool:
        """Whether there is something to read, or the end, within so many seconds."""
        # What TLS has unpacked already can't be seen on the socket itself.
        if self._is_secure and self.sock.pending():
            return True
        return bool(self._poll.poll(math.ceil(seconds * 1000)))

    def close(self) -> None:
        """Ends it."""
        self._connection.close()


class Answer:
    """What comes over a connection in answer to a request; httptools calls `on_…` with what it finds."""

    def __init__(self, adapter: Adapter, line: Line, deadline: Deadline) -> None:
        self._adapter = adapter
        self._line = line
        self._deadline = deadline
        self._parser: Any = httptools.HttpResponseParser(self)
        self.status = 0
        #: By lower-case name.
        self.headers: dict[str, str] = {}
        self._count = self._head_bytes = self._interim = 0
        self._pieces: list[bytes] = []
        self._has_head = self._is_over = self._is_broken = False
        #: Whether the connection can go on, as far as this answer is concerned.
        self._goes_on = False

    def say(self, octets: bytes) -> None:
        """Sends `octets`, or as much of them as anybody wants: who hangs up may have said why."""
        rest = memoryview(octets)
        try:
            while rest:
                self._left()
                try:
                    rest = rest[self._line.sock.send(rest) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    wait_for_write(self._line.sock, timeout=self._left())
        except BrokenPipeError:
            pass
        except OSError as error:
            raise _broken(error) from error

    def read_head(self) -> None:
        """Reads up to the end of the answer's head, passing over those that are none yet.

        https://www.rfc-editor.org/rfc/rfc9110#section-15.2
        """
        read = 0
        while not self._has_head:
            read += self._read()
            if max(read - _CHUNK_BYTES, self._head_bytes) > _LONGEST_HEAD_BYTES or self._interim > _MOST_INTERIM:
                raise requests.ConnectionError("more before an answer's body than anybody needs")

    def read1(self, _amount: int = -1, **_: object) -> bytes:
        """What has come of the body, at least something; nothing: it is over."""
        while not (self._pieces or self._is_over):
            if self._is_broken:
                raise requests.ConnectionError("what came is no HTTP")
            self._read()
        body, self._pieces = b"".join(self._pieces), []
        return body

    #: What decodes an answer asks for a certain amount, and takes less.
    read = read1

    @property
    def closed(self) -> bool:
        """Whether nothing more is to be read."""
        return self._parser is None

    def close(self) -> None:
        """Lets the connection go: for the next call, if this answer was read to its end, and nothing came behind it."""
        if self._parser is None:
            return
        # Else the two would hold each other.
        self._parser = None
        if self._is_over and self._goes_on:
            self._adapter.keep(self._line)
        else:
            self._line.close()

    def _left(self) -> float:
        """The seconds that are left, which are some. Raises TimeoutError: none are."""
        left = self._deadline.remaining()
        if not left:
            raise TimeoutError
        return left

    def _received(self) -> bytes:
        """What there is, or what there is to come. Raises TimeoutError."""
        while True:
            # The answer to what was just said is never there yet: to wait at once spares a try.
            if not self._line.has_come(self._left()):
                raise TimeoutError
            try:
                received: bytes = self._line.sock.recv(_CHUNK_BYTES)
                return received
            except (BlockingIOError, ssl.SSLWantReadError):
                continue  # a part of what TLS has to have whole

    def _read(self) -> int:
        """Reads what there is, or waits for it: how many bytes."""
        try:
            octets = self._received()
        except OSError as error:
            raise _broken(error) from error
        if not octets:
            if not self._has_head or self._is_framed:
                raise requests.ConnectionError("the answer broke off")
            self._is_over = True
            return 0
        try:
            self._parser.feed_data(octets)
        except httptools.HttpParserUpgrade:
            pass  # whatever it is, it isn't HTTP any more
        except httptools.HttpParserError as error:
            self._goes_on = False
            # What came before that counts: whether there was a status, says whether the platform heard of the call.
            self._is_broken = not self._is_over
            if not self._has_head:
                raise requests.ConnectionError("what came is no HTTP") from error
        if self._count > _MOST_HEADERS:
            raise requests.ConnectionError("more headers than anybody needs")
        return len(octets)

    @property
    def _is_framed(self) -> bool:
        """Whether the answer says where it ends; else it ends with the connection."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers

    def on_message_begin(self) -> None:
        """Another answer, if this one is over: taken for one to the next call, it would be somebody else's."""
        self._goes_on &= not self._is_over

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or one behind the body, which nobody reads."""
        self._count += 1
        self._head_bytes += len(name) + len(value)
        if not self._has_head:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        """The head is there, of the answer or of one before it."""
        if self._is_over:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != HTTPStatus.SWITCHING_PROTOCOLS:
            self._interim += 1
            self.headers.clear()
            return
        self.status, self._has_head = status, True
        announced = "transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0"
        # What comes behind a switch of protocols, or a body that must not be, is no answer.
        is_last = status == HTTPStatus.SWITCHING_PROTOCOLS or (status in _NO_BODY and announced)
        self._goes_on = self._parser.should_keep_alive() and not is_last

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if not self._is_over:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The end, unless it is that of an answer before the answer."""
        self._is_over = self._has_head


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


def _broken(error: OSError) -> requests.RequestException:
    return requests.ReadTimeout() if isinstance(error, TimeoutError) else requests.ConnectionError()


def _is_due_to(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether `error`, or what it was raised for, and so on, is of this kind."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error is not None
