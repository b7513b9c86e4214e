"""Tests of the systemd unit in deploy/README.md."""

import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local.cloud import Cloud, Function
from tests.support.http_calls import wait_until
from tests.support.markdown import blocks_named
from tests.support.open_sockets import count_waiting_connections
from tests.support.project import DEPLOY_README
from tests.support.relay import Relay, stop_relay

(UNIT,) = blocks_named(DEPLOY_README, "systemd unit")
#: The number of open files that systemd allows a process of a unit without this setting.
DEFAULT_LIMIT = "1024"
IDLE_CONNECTIONS = 980


def settings(name: str) -> list[str]:
    """Return the values of a setting of the unit."""
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd isn't installed: the unit is NOT verified")
def test_systemd_unit_has_no_mistakes(tmp_path: Path) -> None:
    (command,) = settings("ExecStart")
    unit = tmp_path / "dataset-relay.service"
    unit.write_text(UNIT.replace(command.split()[0], sys.executable))
    completed = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (completed.returncode, completed.stderr) == (0, "")


@pytest.fixture
def file_limit() -> Iterator[int]:
    """Raise the number of files that this process can open to the highest number, which is the value."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    yield highest
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: only Linux lists connections and processes in /proc")
def test_systemd_unit_980_idle_connections_do_not_end_the_worker(cloud: Cloud, tmp_path: Path, file_limit: int) -> None:
    if file_limit < 4_096:
        pytest.skip("this machine allows too few open files: the limit of the systemd unit is NOT tested")
    limit = min(int((settings("LimitNOFILE") or [DEFAULT_LIMIT])[0]), file_limit)
    (threads,) = re.findall(r"\bTHREADS=(\d+)", UNIT)
    server = (sys.executable, "-m", "functions_framework", "--target", "relay")
    log_file = tmp_path / "log"
    with log_file.open("wb") as log:
        command = ("bash", "-c", f'ulimit -n {limit}; exec "$@"', "bash", *server)
        function = Function({**cloud.settings(), "THREADS": threads}, log=log, command=command)
    relay = Relay(cloud, function, log_file)
    try:
        function.wait_until_up()
        worker = worker_ids(function)
        with ExitStack() as connections:
            for _ in range(IDLE_CONNECTIONS):
                connections.enter_context(socket.create_connection(("127.0.0.1", function.port)))
            wait_until(lambda: not count_waiting_connections(function.port))
        assert relay.post(relay.apify_event()).status_code == 200
        assert worker_ids(function) == worker
    finally:
        stop_relay(relay)


def worker_ids(function: Function) -> list[str]:
    """Return the IDs of the processes that serve the requests of a function."""
    pid = function.process.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
