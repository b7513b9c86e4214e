"""The function with a fault that no input can cause, for the variable FUNCTION_SOURCE.

Each delivery raises an exception whose message contains the token and the update. If FAULTY_PROVIDER is set, only
deliveries to this provider do so.
"""

import os

from handlers.delivery.delivery import Delivery
from handlers.providers.base import Response
from main import relay as relay

_call_provider = Delivery._call_provider


def _fail(delivery: Delivery) -> Response:
    if delivery.update.provider != os.environ.get("FAULTY_PROVIDER", delivery.update.provider):
        return _call_provider(delivery)
    token = delivery._fetch_token()
    try:
        raise LookupError(f"{token.text} {delivery.update.body}")
    except LookupError as error:
        raise RuntimeError(f"The token is {token.text}.") from error


Delivery._call_provider = _fail  # type: ignore[method-assign, assignment]
