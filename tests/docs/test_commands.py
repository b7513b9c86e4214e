"""Tests of `make demo`."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.cloud import ROOT


def variables(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONUNBUFFERED": "1", **more}


def test_demo_shows_each_scene_and_no_secret() -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "deploy.local.demo"],
        cwd=ROOT, env=variables(), capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout + completed.stderr
    output = completed.stdout
    assert completed.stderr == ""
    scenes = re.split(r"^\d  ", output, flags=re.MULTILINE)[1:]
    assert len(scenes) == 5
    named, described, hook, mistake, outage = scenes
    assert "PUT /v2/datasets/jane~products-staging: 200 OK" in named
    assert '- "name": "products-staging"\n' in named
    assert '+ "name": "products-2026-11-22"\n' in named
    assert "PATCH /v0/datasets/acme/products: 200 OK" in described
    assert "Größe, 価格" in described
    assert "/hooks/github-workflow" in hook
    assert "sender: github\n" in hook
    assert '+ "summary": "Built by [Build #214]' in hook
    assert "response   422 " in mistake
    assert "did you mean title?" in mistake
    assert "unchanged" in mistake
    assert outage.count(": 503 Service Unavailable\n") == 2
    assert "response   200 OK" in outage
    assert output.count("outcome=delivered") == 4
    assert "\x1b[" not in output
    assert not re.search(r"Bearer [A-Za-z0-9]", output)
    assert "apify_api_" not in output
    assert "whsec_" not in output


def test_demo_terminal_gets_colors() -> None:
    # `script` runs the command in a terminal.
    command = ["script", "-qec", f"{sys.executable} -m deploy.local.demo", "/dev/null"]
    for more, has_colors in (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
        completed = subprocess.run(command, cwd=ROOT, env=variables(**more), capture_output=True, text=True)
        assert completed.returncode == 0
        assert ("\x1b[32m✓" in completed.stdout) is has_colors


def test_demo_function_that_cannot_start_prints_the_reason() -> None:
    script = (
        "import deploy.local.cloud as cloud; original = cloud.Cloud.settings;"
        "cloud.Cloud.settings = lambda self: {**original(self), 'RELAY_DEADLINE_SECONDS': 'soon'};"
        "from deploy.local import demo; raise SystemExit(demo.main())"
    )
    completed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=variables(), capture_output=True, text=True
    )
    assert completed.returncode == 1
    assert "The demo failed: The function ended with exit code 1." in completed.stdout
    assert "RELAY_DEADLINE_SECONDS: Must be a number of seconds" in completed.stdout


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.2, 0.3, 0.4, 0.5, 0.6])
def test_demo_interrupted_leaves_no_process(signal_number: signal.Signals, after: float) -> None:
    marker = f"MARK_{os.getpid()}_{signal_number}_{after}"
    running = subprocess.Popen(
        [sys.executable, "-m", "deploy.local.demo"],
        cwd=ROOT, env=variables(TMPDIR="/tmp", LANG=marker), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    time.sleep(after)
    running.send_signal(signal_number)
    running.communicate()
    # All processes that the demo has started have inherited the marker.
    paths = Path("/proc").glob("[0-9]*/environ")
    assert [path for path in paths if marker.encode() in read_if_present(path)] == []


def read_if_present(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # the process has ended in the meantime
