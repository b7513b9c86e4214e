"""A server that records the arguments of all processes, which every user of a machine can list with `ps`."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

#: The shells in which users paste the commands of the documentation. On Debian, sh is dash.
SHELLS = ("bash", "sh", "zsh")
_LOCAL_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass
class Recording:
    """The requests that have arrived."""

    url: str
    #: The value of the `Authorization` header of each request.
    authorizations: list[str] = field(default_factory=list)
    #: The output of `ps` during each request. A secret in it must not get into the report of a failed test.
    outputs: list[str] = field(default_factory=list, repr=False)


@contextmanager
def _recording_server() -> Iterator[Recording]:
    """Run a server that responds to each request once it has listed the processes, which include the client."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            command = ["ps", "-A", "-ww", "-o", "args="]
            recording.outputs.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            recording.authorizations.append(self.headers.get("Authorization", ""))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(204)
            self.end_headers()

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        recording = Recording(f"http://127.0.0.1:{server.server_address[1]}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield recording
        server.shutdown()
        thread.join()


def record(shell: str, script: str, **variables: str) -> Recording:
    """Run a script in a shell. The requests of the script to addresses of this machine go to a recording server.

    The shell reads the script from its standard input, so that the script itself isn't an argument.
    """
    if not (shutil.which(shell) and shutil.which("ps")):
        pytest.skip(f"{shell} or ps isn't installed: the commands are NOT tested in {shell}")
    with _recording_server() as recording:
        subprocess.run(
            [shell, "-s"],
            input=_LOCAL_ADDRESS.sub(recording.url, script),
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    for output in recording.outputs:
        assert recording.url in output, "ps doesn't list the client"
    return recording
