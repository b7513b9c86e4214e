"""A floor: the framework, and a function that does nothing."""

import functions_framework
from flask import Request


@functions_framework.http
def relay(_request: Request) -> tuple[str, int, dict[str, str]]:
    return "{}", 200, {"Content-Type": "application/json"}
