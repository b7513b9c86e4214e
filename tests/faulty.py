"""The function with a fault that no input can make: for FUNCTION_SOURCE; only in updates of FAULTY_PROVIDER, if set."""

import os
from typing import Any

from handlers.deliver import Deliverer
from main import relay as relay

_deliver = Deliverer.deliver


def _fail(self: Deliverer, update: Any, *rest: Any) -> Any:
    if update.provider != os.environ.get("FAULTY_PROVIDER", update.provider):
        return _deliver(self, update, *rest)
    secrets = [each.secret.text for each in self._secrets._kept.values()]
    try:
        raise LookupError(f"{secrets} {update.body}")
    except LookupError as error:
        raise RuntimeError(f"while {secrets}") from error


Deliverer.deliver = _fail  # type: ignore[method-assign, assignment]
