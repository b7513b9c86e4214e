"""Tests of `make demo`: the parts of each scene, its width and colors, and the quiet installation before it."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.cloud import ROOT
from deploy.local.terminal import wrap

DEMO = (sys.executable, "-m", "deploy.local.demo")
INSTALL = (sys.executable, str(ROOT / "deploy/local/install.py"), "the tests need (a minute)")
_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


def variables(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **more}


def run_demo(**more: str) -> str:
    """Return the output of the demo without a terminal."""
    completed = subprocess.run(DEMO, cwd=ROOT, env=variables(**more), capture_output=True)
    assert (completed.returncode, completed.stderr) == (0, b"")
    return completed.stdout.decode(more.get("PYTHONIOENCODING", "utf-8"))


def run_in_terminal(*arguments: str, **more: str) -> tuple[str, int]:
    """Return the output of a command in a terminal, and its exit status."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(arguments[0], arguments, variables(TERM="xterm", **more))
    output = b""
    while part := read(descriptor):
        output += part
    _, status = os.waitpid(pid, 0)
    os.close(descriptor)
    return output.decode().replace("\r\n", "\n"), os.waitstatus_to_exitcode(status)


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""  # The command has ended.


@pytest.fixture(scope="module")
def scenes() -> list[str]:
    """Return the text of each scene of the demo, without a terminal."""
    _, *parts = re.split(r"\n(?=\d  )", run_demo().partition("\nThe log of the function")[0])
    assert len(parts) == 5
    return parts


def test_demo_every_scene_shows_event_response_and_record(scenes: list[str]) -> None:
    for scene in scenes:
        assert re.search(r"^ event +POST http://127\.0\.0\.1:\d+/", scene, re.MULTILINE)
        assert re.search(r"^ response +\d{3} ", scene, re.MULTILINE)
        assert re.search(r"^ record +", scene, re.MULTILINE)


def test_demo_update_shows_the_record_before_and_after(scenes: list[str]) -> None:
    assert '- "name": "products-staging"\n' in scenes[0]
    assert '+ "name": "products-2026-11-22"\n' in scenes[0]
    assert '- "tags": []\n' in scenes[1]
    assert '+ "tags": ["products", "daily"]\n' in scenes[1]
    assert '+ "summary": "Built by [Build #214]' in scenes[2]
    assert '+ "title": "Products, daily"\n' in scenes[4]


def test_demo_hook_shows_its_yaml(scenes: list[str]) -> None:
    assert [position for position, scene in enumerate(scenes) if " relay.yaml " in scene] == [2]
    text = " ".join(scenes[2].split())
    for line in ("hooks:", "sender: github", "secret: github-webhook-secret", "of {{ event.repository.full_name }}."):
        assert line in text


def test_demo_mistake_shows_the_response_and_changes_nothing(scenes: list[str]) -> None:
    assert "422 Unprocessable Entity" in scenes[3]
    assert '"update.titel": ["Unknown field; did you mean title?"]' in scenes[3]
    assert "unchanged" in scenes[3]
    assert "\n call " not in scenes[3]


def test_demo_failing_provider_shows_each_attempt(scenes: list[str]) -> None:
    calls = re.findall(r"PATCH /v0/datasets/acme/products: (\d+)", scenes[4])
    assert calls == ["503", "503", "200"]
    assert re.search(r"response +200 OK", scenes[4])


def test_demo_shows_the_log_for_people() -> None:
    _, _, log = run_demo().partition("\nThe log of the function")
    assert '"severity"' not in log
    assert "attempts=3" in log
    assert "WARNING  POST /: The event breaks a rule." in log


@pytest.mark.parametrize("columns", ["50", "80", "120", "200"])
def test_demo_lines_fit_on_the_terminal(columns: str) -> None:
    # The paragraphs at the beginning and at the end have a fixed width.
    limit = max(int(columns), 80)
    _, _, scenes = run_demo(COLUMNS=columns).partition("\n1  ")
    scenes, _, end = scenes.partition("\n✓")
    assert not [line for line in scenes.splitlines() if len(wrap(line, int(columns))) > 1]
    assert not [line for line in end.splitlines() if len(wrap(line, limit)) > 1]


def test_demo_uses_only_bold_dim_and_standard_colors() -> None:
    output, status = run_in_terminal(*DEMO)
    assert status == 0
    # Yellow, white, and black are hard to read on a light or on a dark background.
    assert set(_ESCAPE.findall(output)) == {"0", "1", "2", "31", "32", "36"}
    assert "\x1b" not in _ESCAPE.sub("", output)


@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_demo_without_color_has_no_escapes(more: dict[str, str]) -> None:
    output, status = run_in_terminal("/usr/bin/env", *(f"{name}={value}" for name, value in more.items()), *DEMO)
    assert status == 0
    assert "\x1b" not in output


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_demo_terminal_without_unicode_works(encoding: str) -> None:
    assert r"\u4fa1\u683c" in run_demo(PYTHONIOENCODING=encoding)


def requirements(folder: Path, text: str) -> str:
    path = folder / "requirements.txt"
    path.write_text(text)
    return str(path)


INSTALLED = "pytest==9.2.0 \\\n    --hash=sha256:" + "0" * 64 + "\n"


def test_install_in_a_terminal_shows_one_line_of_progress(tmp_path: Path) -> None:
    output, status = run_in_terminal(*INSTALL, "-r", requirements(tmp_path, INSTALLED))
    assert status == 0
    assert output.count("\n") == 1
    *progress, last = output.split("\r\x1b[K")
    assert "Installing 1 of 1 packages that the tests need (a minute)" in progress
    assert re.fullmatch(r"Installed the packages that the tests need in \d+ s\.\n", last)


def test_install_without_a_terminal_prints_one_line(tmp_path: Path) -> None:
    command = [*INSTALL, "-r", requirements(tmp_path, INSTALLED)]
    completed = subprocess.run(command, env=variables(), capture_output=True, text=True)
    assert completed.returncode == 0
    assert (completed.stdout, completed.stderr) == ("Installing the packages that the tests need (a minute)\n", "")


def test_install_failure_prints_the_output_of_pip(tmp_path: Path) -> None:
    # Without an index, pip finds no package.
    command = [*INSTALL, "--no-index", "-r", requirements(tmp_path, INSTALLED.replace("pytest", "not-installed"))]
    completed = subprocess.run(command, env=variables(), capture_output=True, text=True)
    assert completed.returncode == 1
    assert "The packages that the tests need can't be installed. The output of pip:" in completed.stdout
    assert "No matching distribution found for not-installed" in completed.stdout


def test_install_makefile_is_quiet() -> None:
    completed = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo"], cwd=ROOT, env=variables(), capture_output=True, text=True
    )
    assert completed.returncode == 0
    assert not re.search(r"^echo ", completed.stdout, re.MULTILINE)
    assert "deploy/local/install.py" in completed.stdout
