"""The common parts of the local providers: a loopback server, tokens, error responses, and a record of all calls.

The local providers implement reading and updating a dataset. The rules come from the documentation of the providers,
not from the schemas of the function, so that a test fails if the rules and the schemas differ.
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

from deploy.local.server import LoopbackServer


@dataclass(frozen=True)
class Call:
    """A request to a provider. The body is uncompressed, and the names of the headers are lowercase."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The JSON value in the body."""
        return json.loads(self.body)


class RejectedError(Exception):
    """The provider rejects the request. The attributes are the parts of the provider's error response."""

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, headers or {}


@dataclass(kw_only=True)
class LocalProvider(LoopbackServer):
    """Base class of the local providers. `tokens` maps each token to its account."""

    prefix: str
    tokens: dict[str, str] = field(repr=False)
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=10_000), repr=False)
    #: The applied updates, in order: the ID of the dataset, and the body.
    applied: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list, repr=False)
    #: Functions that replace the provider's own response, by path without the prefix, or "" for all paths. A function
    #: that returns None keeps the provider's own response.
    instead: dict[str, Callable[[], Response | None]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def base_url(self) -> str:
        """The URL of the server, with the prefix of the API."""
        return f"{self.url}{self.prefix}"

    def seen(self, path: str) -> list[Call]:
        """Return the calls to `path`, which doesn't include the prefix."""
        return [call for call in list(self.calls) if call.path == self.prefix + path]

    def carry_out(self) -> Response:
        """Return the provider's own response to the current request, for a function in `instead`."""
        try:
            return make_response(current_app.dispatch_request())
        except RejectedError as error:
            return self.error(error)

    def break_off(self) -> Response:
        """Close the connection instead of sending a response."""
        request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError

    def error(self, error: RejectedError) -> Response:
        """Return the provider's response to a rejected request."""
        raise NotImplementedError

    def owner(self) -> str:
        """Return the account of the token in the current request.

        Raises:
            RejectedError: The token is missing or unknown.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token or scheme.lower() != "bearer":
            raise RejectedError(401, "token-not-provided", "Authentication token was not provided.")
        if token not in self.tokens:
            raise RejectedError(
                401, "user-or-token-not-found", "User was not found or authentication token is not valid."
            )
        return self.tokens[token]

    def create_app(self) -> Flask:
        """Return the application, which records all calls, with the routes of the provider."""
        app = Flask(__name__)
        app.json.sort_keys = False  # type: ignore[attr-defined]
        # The server handles a ConnectionError silently.
        app.config["PROPAGATE_EXCEPTIONS"] = True
        app.before_request(self._record)
        app.register_error_handler(RejectedError, self.error)
        app.register_error_handler(HTTPException, self._http_error)
        self.routes(app)
        return app

    def _record(self) -> Response | None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append(
            Call(request.method, request.path, request.query_string.decode(), headers, _uncompressed_body(request))
        )
        instead = self.instead.get(request.path.removeprefix(self.prefix), self.instead.get(""))
        return instead() if instead else None

    def _http_error(self, error: HTTPException) -> Response:
        kinds = {404: "page-not-found", 405: "method-not-allowed", 413: "request-too-large"}
        status = error.code or 500
        return self.error(RejectedError(status, kinds.get(status, "invalid-request"), error.description or ""))


def _uncompressed_body(incoming: Request) -> bytes:
    body = incoming.get_data()
    return gzip.decompress(body) if incoming.headers.get("Content-Encoding") == "gzip" else body


def json_body(limit: int = 9 * 1024 * 1024) -> Any:
    """Return the JSON body of the current request.

    Raises:
        RejectedError: The body is longer than `limit` bytes, has another content type, or isn't JSON.
    """
    body = _uncompressed_body(request)
    if len(body) > limit:
        raise RejectedError(413, "request-too-large", f"The request body is larger than {limit} bytes.")
    if request.mimetype != "application/json":
        raise RejectedError(415, "invalid-content-type-header", "The Content-Type must be application/json.")
    try:
        return json.loads(body)
    except ValueError:
        raise RejectedError(400, "invalid-request", "The request body is not valid JSON.") from None


def now() -> str:
    """Return the current time in the format of both providers."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
