"""`make demo` and `make run`, as processes, and the lines that `make run` prints, as pasted."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.cloud import ROOT, free_port, is_free
from tests.leak_watch import DETECTOR


def environ(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONUNBUFFERED": "1", **more}


def test_demo() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local.demo"],
        cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert done.stderr == ""
    assert said.count("200 OK") == 3
    assert "PUT /v2/datasets/jane~products-staging" in said
    assert "PATCH /v0/datasets/acme/products" in said
    assert "Größe, 価格, 💶" in said
    assert said.count("✓ says what the update says") == 3
    assert said.count('"outcome": "delivered"') == 3
    assert "POST http://127.0.0.1:" in said
    assert "/hooks/github-workflow" in said
    assert "Built by [Build #214]" in said
    assert "\x1b[" not in said
    assert not re.search(r"Bearer [A-Za-z0-9]", said)
    assert "apify_api_" not in said
    assert "whsec_" not in said


def test_demo_in_colour() -> None:
    """On a terminal: `script` gives it one."""
    command = ["script", "-qec", f"{sys.executable} -m deploy.local.demo", "/dev/null"]
    for more, coloured in (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
        done = subprocess.run(command, cwd=ROOT, env=environ(**more), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert ("\x1b[32m✓" in done.stdout) is coloured


def test_demo_fails_with_the_reason() -> None:
    """A function that can't start: what it said is what the demo says."""
    script = (
        "import deploy.local.cloud as cloud; original = cloud.Cloud.settings;"
        "cloud.Cloud.settings = lambda self: {**original(self), 'RELAY_DEADLINE_SECONDS': 'soon'};"
        "from deploy.local import demo; raise SystemExit(demo.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "The demo failed: The function ended with exit code 1." in done.stdout
    assert "RELAY_DEADLINE_SECONDS: Must be a number of seconds" in done.stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.2, 0.3, 0.4, 0.5, 0.6])
def test_demo_interrupted_leaves_nothing_behind(how: signal.Signals, after: float) -> None:
    marker = f"MARK_{os.getpid()}_{how}_{after}"
    running = subprocess.Popen(
        [sys.executable, "-m", "deploy.local.demo"],
        cwd=ROOT, env=environ(TMPDIR="/tmp", LANG=marker), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    time.sleep(after)
    running.send_signal(how)
    running.communicate(timeout=30)
    # Whatever it started has inherited the marker.
    left = [path for path in Path("/proc").glob("[0-9]*/environ") if marker.encode() in _bytes(path)]
    assert left == []


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it has ended meanwhile


def test_run_with_a_port_that_is_none() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local.run"],
        cwd=ROOT, env=environ(PORT="http"), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "PORT must be a number.\n")


@pytest.mark.parametrize("taken", [False, True])
def test_run(taken: bool) -> None:
    port = free_port()
    holder = subprocess.Popen([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) if taken else None  # fmt: skip
    while taken and is_free(port):
        pass
    running = subprocess.Popen(
        [sys.executable, "-m", "deploy.local.run"],
        cwd=ROOT, env=environ(PORT=str(port)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            if line.startswith("Ctrl-C"):
                break
            lines.append(line.strip())
        assert any(f"http://127.0.0.1:{port}" in line for line in lines) is not taken
        commands = [line for line in lines if line.startswith("curl ")]
        signed = [line for line in lines if line.startswith("payload=")]
        assert len(signed) == 1
        # The secrets of a cloud in another process: what follows must not print them.
        for secret in re.findall(r"Bearer ([^']+)'|-hmac (\S+)", "\n".join(lines)):
            DETECTOR.secrets.add("a secret of make run", "".join(secret))
        hooked = subprocess.run(["bash", "-c", signed[0]], capture_output=True, text=True, timeout=30).stdout
        assert hooked.split()[1] == "200", hooked
        assert '"status":200' in hooked
        assert len(commands) == 6
        answers = [
            subprocess.run(["bash", "-c", f"{command} 2>/dev/null"], capture_output=True, text=True, timeout=30).stdout
            for command in commands
        ]
        statuses = [answer.split()[1] for answer in answers[:4]]
        assert statuses == ["200", "200", "200", "422"]
        assert "did you mean title?" in answers[3]
        assert json.loads(answers[4])["data"]["generalAccess"] == "ANYONE_WITH_ID_CAN_READ"
        assert json.loads(answers[5])["title"] == "Products, daily"
        assert all(shlex.split(command)[0] == "curl" for command in commands)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)
        assert running.returncode == 0
    finally:
        running.kill()
        running.wait()
        if holder:
            holder.kill()
            holder.wait()
