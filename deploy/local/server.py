"""An HTTP server on the loopback interface, with the routes of a subclass."""

import threading
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server


@dataclass(kw_only=True)
class LoopbackServer:
    """Base class of the local HTTP servers."""

    server: BaseWSGIServer | None = None

    @property
    def url(self) -> str:
        """The URL of the server, without a path."""
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.server_port}"

    def start(self, port: int = 0) -> None:
        """Serve on `port`, or on a free port if `port` is 0, until `stop`."""
        self.server = make_server("127.0.0.1", port, self.create_app(), threaded=True, request_handler=_Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Stop the server."""
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()

    def create_app(self) -> Flask:
        """Return the application with all routes."""
        app = Flask(__name__)
        self.routes(app)
        return app

    def routes(self, app: Flask) -> None:
        """Add the routes of the server."""
        raise NotImplementedError


class _Handler(WSGIRequestHandler):
    """A handler that keeps connections open, as the real services do, and logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name in werkzeug
        """Log nothing, because the subclasses keep their own records."""
