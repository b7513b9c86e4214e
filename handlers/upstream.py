"""What a platform says, taken from a connection as it comes: by httptools (llhttp, the parser of Node.js)."""

import math
import select
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
import requests
from urllib3.connection import HTTPConnection
from urllib3.util import wait_for_write

from handlers.deadline import Deadline

_CHUNK_BYTES = 64 * 1024
_LONGEST_HEAD_BYTES = 64 * 1024
_MOST_HEADERS = 100
_MOST_INTERIM = 20
_NO_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


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

    def __init__(self, line: Line, deadline: Deadline, keep: Callable[[Line], None]) -> None:
        """`keep` gets the connection, if the next call can go over it."""
        self._keep = keep
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
            self._keep(self._line)
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
        if self._has_head:
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


def _broken(error: OSError) -> requests.RequestException:
    return requests.ReadTimeout() if isinstance(error, TimeoutError) else requests.ConnectionError()
