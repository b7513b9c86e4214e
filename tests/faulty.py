"""The function with a fault in it that no input can make: for FUNCTION_SOURCE."""

from typing import Any

from handlers.deliver import Deliverer
from main import relay as relay


def _fail(self: Deliverer, update: Any, *_: Any) -> None:
    secrets = [each.secret.text for each in self._secrets._kept.values()]
    try:
        raise LookupError(f"{secrets} {update.body}")
    except LookupError as error:
        raise RuntimeError(f"while {secrets}") from error


Deliverer.deliver = _fail  # type: ignore[method-assign, assignment]
