"""Answers: JSON, problems, and what has to be done when the request's body was left unread."""

from collections.abc import Mapping

from flask import Response

from schemas.problem import MEDIA_TYPE, Problem, problem_body
from schemas.strict_json import dump


def json_response(
    status: int, body: object, media_type: str = "application/json", *, headers: Mapping[str, str] | None = None
) -> Response:
    """`body` as JSON."""
    return Response(dump(body), status=status, headers=headers, content_type=media_type)


def empty_response(status: int) -> Response:
    """No body, and so no type of one."""
    response = Response(status=status)
    del response.headers["Content-Type"]
    return response


def problem_response(problem: Problem) -> Response:
    """`problem` as problem details, with its headers."""
    return json_response(problem.status, problem_body(problem), MEDIA_TYPE, headers=problem.headers)


def leave_body_unread(response: Response) -> None:
    """Makes `response` one that doesn't wait for the rest of the request's body.

    functions-framework reads a body to its end before any answer that isn't streamed.
    """
    response.response = iter([response.get_data()])
