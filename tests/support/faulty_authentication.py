"""The function with a fault that strikes before the authentication, for the variable FUNCTION_SOURCE."""

from typing import NoReturn

from handlers import app
from main import relay as relay


def _fail(*_: object) -> NoReturn:
    raise RuntimeError("A fault before the authentication.")


app.authenticate = _fail  # type: ignore[assignment, attr-defined]
