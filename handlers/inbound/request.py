"""The HTTP request of a caller: its headers, its body, its media type, and its query."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flask import Request

from handlers.inbound.timeouts import ConnectionWatchdog, connection_of
from schemas.base import closest
from schemas.problem import (
    BodyTimeoutError,
    BodyTooLargeError,
    InvalidEventError,
    InvalidJSONError,
    QueryTooLongError,
    RelayError,
    UnsupportedContentEncodingError,
    UnsupportedMediaTypeError,
)

#: The media type of a CloudEvent in structured mode.
CLOUD_EVENT = "application/cloudevents+json"

# The size up to which a body needs little memory, in bytes.
_SMALL_BODY = 64 * 1024
# In bytes. The query has only the parameters of the function and the secret of a sender.
_MAX_QUERY = 8 * 1024
# The limits on reading a body that no route needs, in seconds and in bytes.
_DRAIN_SECONDS = 1.0
_MAX_DRAINED = 1_000_000
_CLOUD_EVENT_BATCH = "application/cloudevents-batch+json"
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters in the query of a request. `wait` is None if the query doesn't have it."""

    dry_run: bool = False
    wait: bool | None = None


_PARAMETERS = ("dry_run", "wait")


class InboundRequest:
    """The request of a caller.

    `headers` has the headers by lowercase name. `delivery_id` names the delivery in the response and in the log.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.headers = read_headers(request)
        #: The value of the `Content-Length` header, in bytes.
        self.content_length = request.content_length
        self.body_size = 0
        self.delivery_id: str | None = None
        self._is_chunked = "transfer-encoding" in self.headers
        self._received = 0
        self._can_drain = True
        self._is_read = not (self.content_length or self._is_chunked)

    @property
    def path(self) -> str:
        """The path as received. Werkzeug's own property merges several leading slashes into one."""
        path: str = self.request.environ["PATH_INFO"]
        return path

    @property
    def text_headers(self) -> dict[str, str]:
        """The headers by lowercase name, for every use except the verification of a signature."""
        return decode_headers(self.headers)

    def check_query(self) -> None:
        """Reject a long query, before anything parses the query.

        Raises:
            QueryTooLongError: The query is too long.
        """
        if len(self.request.query_string) > _MAX_QUERY:
            raise QueryTooLongError(
                f"The query must have at most {_MAX_QUERY} bytes. Send the event in the body of the request."
            )

    def read_body(self, limit: int, watchdog: ConnectionWatchdog, on_large: Callable[[], None]) -> bytes:
        """Return the body, which may have at most `limit` bytes.

        Call `on_large` once more than 64 kB of the body have arrived. An exception of `on_large` ends the reading.

        Raises:
            BodyTooLargeError: The body is larger. The function doesn't read the rest.
            BodyTimeoutError: The body doesn't arrive within the time limit of `watchdog`.
            InvalidJSONError: The body ends early.
        """
        length = self.content_length
        self.check_length(limit)
        self._can_drain = False
        try:
            with watchdog.reading(connection_of(self.request)):
                body = self._read(limit, on_large)
        except TimeoutError:
            raise BodyTimeoutError("The body did not arrive in time (RELAY_DEADLINE_SECONDS).") from None
        except RelayError:
            raise
        except Exception:
            # Each server raises its own exceptions for a broken connection and for a malformed chunk.
            raise InvalidJSONError("The body could not be read to its end.") from None
        self._is_read, self.body_size = True, len(body)
        if length not in (None, len(body)):
            raise InvalidJSONError("The body is shorter than its Content-Length.")
        return body

    def _read(self, limit: int, on_large: Callable[[], None]) -> bytes:
        stream = self.request.stream
        body = bytearray()
        is_large = False
        # A server waits for the whole size that the function asks for.
        while chunk := stream.read(_SMALL_BODY if is_large else _SMALL_BODY + 1 - len(body)):
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
            if len(body) > _SMALL_BODY and not is_large:
                is_large = True
                self._received, self._can_drain = len(body), True
                on_large()
                self._can_drain = False
        return bytes(body)

    def drain(self, watchdog: ConnectionWatchdog) -> bool:
        """Read the rest of a body that no route needed, and return True if the connection can continue.

        An unread body would become the beginning of the connection's next request. The function can only close such a
        connection, without an announcement: gunicorn ignores a `Connection` header of an application. A client that
        sends its next request at that moment loses the request.
        """
        length = self.content_length or 0
        if self._is_read:
            return True
        if not self._can_drain or length > _MAX_DRAINED:
            return False
        size = self._received
        try:
            with watchdog.reading(connection_of(self.request), _DRAIN_SECONDS):
                while size <= _MAX_DRAINED and (chunk := self.request.stream.read(_SMALL_BODY)):
                    size += len(chunk)
        except Exception:
            return False
        return size <= _MAX_DRAINED if self._is_chunked else size == length

    def check_length(self, limit: int) -> None:
        """Reject a request that declares a body of more than `limit` bytes.

        Raises:
            BodyTooLargeError: The `Content-Length` is larger.
        """
        if (self.content_length or 0) > limit:
            raise _too_large(limit)

    def check_content_encoding(self) -> None:
        """Reject a compressed body. The coding `identity` stands for no compression (RFC 9110, 12.5.3).

        Raises:
            UnsupportedContentEncodingError: The request has a `Content-Encoding` header with another coding.
        """
        codings = {
            coding.strip(" \t").lower() for coding in self.headers.get("content-encoding", "identity").split(",")
        }
        if codings != {"identity"}:
            raise UnsupportedContentEncodingError(
                "The function accepts no Content-Encoding except identity. Send the body without compression."
            )

    def check_json_media_type(self) -> None:
        """Check that the media type is allowed for a native event.

        Raises:
            UnsupportedMediaTypeError: The media type is missing or not allowed.
        """
        if not self.request.is_json or self.request.mimetype == _CLOUD_EVENT_BATCH:
            raise UnsupportedMediaTypeError(
                "The Content-Type must be application/json, or application/cloudevents+json for a single CloudEvent."
            )

    def check_not_form(self) -> None:
        """Reject a form. A hook reads any other body as JSON, regardless of the media type.

        Raises:
            UnsupportedMediaTypeError: The body is a form.
        """
        if self.request.mimetype in _FORMS:
            raise UnsupportedMediaTypeError(
                "The body must be JSON, but is a form. On GitHub, set the content type of the webhook to "
                "application/json. For another sender, set its payload format to JSON."
            )

    def parameters(self) -> "Parameters":
        """Return the parameters in the query.

        Raises:
            InvalidEventError: A value is neither `true` nor `false`, or the name of a parameter is misspelled. A caller
                that misspells the name `dry_run` does not want the function to send anything.
        """
        if not self.request.query_string:
            return Parameters()
        for name in self.request.args:
            if name not in _PARAMETERS and (hint := closest(name, _PARAMETERS, cutoff=0.8)):
                errors = {name: [f"Unknown parameter; did you mean {hint}?"]}
                raise InvalidEventError("The query has an unknown parameter.", errors=errors)
        return Parameters(dry_run=self._switch("dry_run") or False, wait=self._switch("wait"))

    def _switch(self, name: str) -> bool | None:
        """Return the value of a query parameter, or None for a query without the parameter."""
        values = self.request.args.getlist(name)
        if values not in ([], ["true"], ["false"]):
            errors = {name: ["Must be true or false, and occur once."]}
            raise InvalidEventError(f"The query parameter {name} must be true or false.", errors=errors)
        return values == ["true"] if values else None


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body must have at most {limit} bytes (RELAY_MAX_BODY_BYTES).")


def read_headers(request: Request) -> dict[str, str]:
    """Return the headers of `request` by lowercase name, from the WSGI environ (PEP 3333)."""
    environ = request.environ
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    return headers


def decode_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return `headers` with each value read as UTF-8, or as Latin-1 if the value isn't valid UTF-8.

    A server decodes every value as Latin-1 (PEP 3333), although many senders send UTF-8.
    """
    return {name: value if value.isascii() else _decode(value) for name, value in headers.items()}


def _decode(value: str) -> str:
    try:
        return value.encode("latin-1").decode()
    except ValueError:
        return value
