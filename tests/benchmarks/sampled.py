"""A function's own work on events, sampled: a program of its own, with nothing but what a function has.

Reads events as JSON from its input, `{"events": [[path, headers, body], …], "seconds": …}`, and says how many it took
in, the microseconds of CPU for each, and the share of each stage in them.
"""

import io
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# What each stage is, by the place of the code that it is spent in; the first of these in a place counts.
_STAGES = (
    ("handlers/connections", "call: connection and answer"),
    ("handlers/upstream", "call: connection and answer"),
    ("handlers/wire", "call: connection and answer"),
    ("handlers/providers", "call: request and result"),
    ("handlers/deliver", "call: request and result"),
    ("handlers/tries", "call: request and result"),
    ("handlers/together", "call: request and result"),
    ("handlers/results", "call: request and result"),
    ("schemas/redact", "secrets taken out of the answer"),
    ("schemas/encodings", "secrets taken out of the answer"),
    ("handlers/authenticate", "proof and secrets"),
    ("handlers/senders", "proof and secrets"),
    ("handlers/proofs", "proof and secrets"),
    ("handlers/signatures", "proof and secrets"),
    ("handlers/tokens", "proof and secrets"),
    ("schemas/strict_json", "JSON"),
    ("handlers/hooks", "templates"),
    ("schemas/templates", "templates"),
    ("schemas/trees", "templates"),
    ("schemas/bounds", "templates"),
    ("schemas/dialect", "templates"),
    ("schemas/filters", "templates"),
    ("jinja2/", "templates"),
    ("<template>", "templates"),
    ("schemas/event", "validation"),
    ("schemas/", "validation"),
    ("handlers/exchange", "log line"),
    ("handlers/logs", "log line"),
    ("handlers/", "request and answer"),
    ("main.py", "request and answer"),
    ("functions_framework/", "functions-framework and Flask"),
    ("flask/", "functions-framework and Flask"),
    ("werkzeug/", "functions-framework and Flask"),
    ("sampled.py", "the measurement"),
)


def main() -> None:
    """Prints what was measured, as JSON."""
    asked = json.load(sys.stdin)
    # The log goes where nobody reads it, as cheaply as into a pipe.
    said = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from functions_framework import create_app

    app: WSGIApplication = create_app("relay", asked["source"], "http")  # type: ignore[no-untyped-call]
    # As gunicorn gives it: the connection, which is watched until the answer is sent.
    connection, _ = socket.socketpair()
    events = itertools.cycle([_environ(connection, *each) for each in asked["events"]])

    def one() -> None:
        environ, body = next(events)
        answer = app({**environ, "wsgi.input": io.BytesIO(body)}, _started)
        b"".join(answer)
        answer.close()  # type: ignore[attr-defined]

    for _ in range(200):
        one()
    seen: Counter[str] = Counter()

    def sample(_signal: int, frame: FrameType | None) -> None:
        seen[_stage(frame)] += 1

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    done, began, until = 0, time.process_time(), time.monotonic() + asked["seconds"]
    while time.monotonic() < until:
        one()
        done += 1
    spent = time.process_time() - began
    signal.setitimer(signal.ITIMER_PROF, 0)
    shares = {stage: number / seen.total() for stage, number in seen.most_common()}
    said.write(json.dumps({"events": done, "cpu_us": spent / done * 1e6, "shares": shares}))
    said.close()


def _environ(
    connection: socket.socket, path: str, headers: dict[str, str], body: str
) -> tuple[dict[str, object], bytes]:
    octets = body.encode()
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(octets)),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
        "gunicorn.socket": connection,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }, octets


def _started(status: str, _headers: object, _error: object = None) -> Callable[[bytes], object]:
    assert status.startswith("200"), status
    return sys.stderr.buffer.write  # which nobody calls any more


def _stage(frame: FrameType | None) -> str:
    """The stage that the innermost place belongs to that belongs to any."""
    while frame:
        place = frame.f_code.co_filename
        for part, stage in _STAGES:
            if part in place:
                return stage
        frame = frame.f_back
    return "the measurement"


if __name__ == "__main__":
    main()
