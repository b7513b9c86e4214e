"""The function, but a request can have it show a secret: for FUNCTION_SOURCE, and for the tests of the leak detector.

`X-Leak: WHERE HOW WHAT`: `answer`, `head`, `stdout` or `stderr`; a key of WRITTEN; `token`, or `body`: the request's.
"""

import base64
import os
import sys
from collections.abc import Callable
from typing import cast

from flask import Request, Response

from main import relay as _relay

WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "base64": lambda text: base64.b64encode(f"token:{text}".encode()).decode(),
    "percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "first": lambda text: text[:12] + "…",
    "last": lambda text: "…" + text[-12:],
}


def relay(request: Request) -> Response:
    answer = cast(Response, _relay(request))
    if "X-Leak" not in request.headers:
        return answer
    where, how, what = request.headers["X-Leak"].split()
    text = WRITTEN[how](os.environ["LEAKY_TOKEN"] if what == "token" else request.get_data(as_text=True))
    if where == "answer":
        return Response(f"debug: {text}")
    if where == "head":
        answer.headers["X-Debug"] = text.encode("ascii", "replace").decode()
    else:
        print(text, file=sys.stderr if where == "stderr" else sys.stdout, flush=True)
    return answer
