"""What both platforms of this machine have: a server on loopback, tokens, error answers, a memory of calls.

They do what the platforms' documentation says of *Update dataset*, and not more. Datasets really change and can
be read back. Written from the platforms' own descriptions, not from our schemas: where the two differ, a test fails.
"""

import gzip
import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Request, Response, current_app, make_response, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server


@dataclass(frozen=True)
class Call:
    """A request that a platform received, its body unpacked; header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Refused(Exception):
    """The platform says no: a status, and its own error body's words."""

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, headers or {}


@dataclass(kw_only=True)
class Platform:
    """What both platforms have: tokens that they accept, a memory of calls, and a server on loopback."""

    prefix: str
    tokens: dict[str, str] = field(repr=False)
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=10_000), repr=False)
    #: What was carried out, in order: for which dataset, by its own id, and the body.
    applied: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list, repr=False)
    #: Answers to give instead of the platform's own, by path, under "" for all: for what a healthy platform never says.
    #: None: its own.
    instead: dict[str, Callable[[], Response | None]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    server: BaseWSGIServer | None = None

    @property
    def base_url(self) -> str:
        """Where it listens, with the API's prefix."""
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.server_port}{self.prefix}"

    def start(self, port: int = 0) -> "Platform":
        """Listens on `port`, or on a free one, until `stop`."""
        self.server = make_server("127.0.0.1", port, self._app(), threaded=True, request_handler=_Quiet)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Stops listening."""
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()

    def seen(self, path: str) -> list[Call]:
        """The calls to a path below the prefix."""
        return [call for call in list(self.calls) if call.path == self.prefix + path]

    def carry_out(self) -> Response:
        """What the platform itself does with the request that `instead` is asked about."""
        try:
            return make_response(current_app.dispatch_request())
        except Refused as refused:
            return self.error(refused)

    def break_off(self) -> Response:
        """Ends the connection instead of answering."""
        request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError

    def routes(self, app: Flask) -> None:
        """Adds the platform's own routes."""
        raise NotImplementedError

    def error(self, refused: Refused) -> Response:
        """The platform's error body."""
        raise NotImplementedError

    def owner(self) -> str:
        """The account whose token came with the request."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token or scheme.lower() != "bearer":
            raise Refused(401, "token-not-provided", "Authentication token was not provided.")
        if token not in self.tokens:
            raise Refused(401, "user-or-token-not-found", "User was not found or authentication token is not valid.")
        return self.tokens[token]

    def _app(self) -> Flask:
        app = Flask(__name__)
        app.json.sort_keys = False  # type: ignore[attr-defined]
        # To the server, which takes a ConnectionError for what it is.
        app.config["PROPAGATE_EXCEPTIONS"] = True
        app.before_request(self._remember)
        app.register_error_handler(Refused, self.error)
        app.register_error_handler(HTTPException, self._http_error)
        self.routes(app)
        return app

    def _remember(self) -> Response | None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append(
            Call(request.method, request.path, request.query_string.decode(), headers, _unpacked(request))
        )
        instead = self.instead.get(request.path.removeprefix(self.prefix), self.instead.get(""))
        return instead() if instead else None

    def _http_error(self, error: HTTPException) -> Response:
        kinds = {404: "page-not-found", 405: "method-not-allowed", 413: "request-too-large"}
        status = error.code or 500
        return self.error(Refused(status, kinds.get(status, "invalid-request"), error.description or ""))


class _Quiet(WSGIRequestHandler):
    """Keeps connections, as the platforms do, and keeps quiet."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name for it
        """Nothing: `calls` is the log."""


def _unpacked(incoming: Request) -> bytes:
    body = incoming.get_data()
    return gzip.decompress(body) if incoming.headers.get("Content-Encoding") == "gzip" else body


def json_body(limit: int = 9 * 1024 * 1024) -> Any:
    """The JSON that came with the request, of at most `limit` bytes."""
    body = _unpacked(request)
    if len(body) > limit:
        raise Refused(413, "request-too-large", f"The request body is larger than {limit} bytes.")
    if request.mimetype != "application/json":
        raise Refused(415, "invalid-content-type-header", "The Content-Type must be application/json.")
    try:
        return json.loads(body)
    except ValueError:
        raise Refused(400, "invalid-request", "The request body is not valid JSON.") from None


def now() -> str:
    """The time as both platforms write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
