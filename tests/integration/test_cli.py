"""Tests of `python main.py check` as a process."""

import json
import os
import subprocess
import sys

from deploy.local.cloud import ROOT
from tests.support import payloads


def run(*arguments: str, standard_input: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "main.py", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ},
        input=standard_input,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_check_shipped_file_exits_with_0() -> None:
    done = run("check")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"deploy/relay.yaml: no mistakes, 0 hooks.\n", b"")


def test_check_unset_variables_are_no_mistakes() -> None:
    done = run("check", RELAY_CONFIG="deploy/recipes/apify-run.yaml", APIFY_TOKEN="env:NOT_HERE", RELAY_SECRET="bare")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"deploy/recipes/apify-run.yaml: no mistakes, 1 hook.\n")


def test_check_mistake_exits_with_1() -> None:
    done = run("check", RELAY_CONFIG="absent.yaml")
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout == b"absent.yaml: Can't read the file: No such file or directory.\n"


def test_check_terminal_without_character_prints_escape() -> None:
    payload = json.dumps(payloads.dbt_run(jobName="Größe 💶")).encode()
    options = ("check", "--hook", "dbt-job", "--payload", "-")
    config = "deploy/recipes/dbt-job.yaml"
    done = run(*options, standard_input=payload, RELAY_CONFIG=config, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"Gr\xf6\xdfe \U0001f4b6" in done.stdout


def test_main_without_command_exits_with_2() -> None:
    done = run()
    assert done.returncode == 2
    assert b"check" in done.stderr
