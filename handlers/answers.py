"""Answers: JSON, problems, and what of them is the server's own affair."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Response

from schemas.problem import MEDIA_TYPE, Problem, problem_body
from schemas.strict_json import dump

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Reply(Response):
    """A response that knows gunicorn's side of it, which decides whether the connection goes on."""

    #: Whether it shall not: then the head has to say so.
    is_last = False
    _server: Any = None

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Sends it."""
        # Another server has nothing of the kind.
        server: Any = getattr(start_response, "__self__", None)
        if hasattr(server, "force_close") and hasattr(server, "should_close"):
            self._server = server
            if self.is_last:
                server.force_close()
        return super().__call__(environ, start_response)

    def closes(self) -> bool:
        """Whether the connection is closed behind it, known when it is sent."""
        return self._server is not None and bool(self._server.should_close())


def json_response(
    status: int, body: object, media_type: str = "application/json", *, headers: Mapping[str, str] | None = None
) -> Reply:
    """`body` as JSON."""
    return Reply(dump(body), status=status, headers=headers, content_type=media_type)


def empty_response(status: int) -> Reply:
    """No body, and so no type of one."""
    response = Reply(status=status)
    del response.headers["Content-Type"]
    return response


def problem_response(problem: Problem) -> Reply:
    """`problem` as problem details, with its headers."""
    return json_response(problem.status, problem_body(problem), MEDIA_TYPE, headers=problem.headers)


def leave_body_unread(response: Reply) -> None:
    """Makes `response` one that doesn't wait for the rest of the request's body, and the last on its connection.

    functions-framework reads a body to its end before any answer that isn't streamed.
    """
    response.response = iter([response.get_data()])
    response.is_last = True
