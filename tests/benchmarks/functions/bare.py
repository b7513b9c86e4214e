"""A function that responds without any work: the cost of the framework and the server alone."""

import functions_framework
from flask import Request


@functions_framework.http
def relay(_request: Request) -> tuple[str, int, dict[str, str]]:
    """Respond with an empty JSON object."""
    return "{}", 200, {"Content-Type": "application/json"}
