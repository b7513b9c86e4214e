"""`python main.py check`, as a command: what it prints, and its exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cloud import ROOT
from tests import payloads
from tests.hooks import hook, update, written


def check(*arguments: str, given: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "main.py", "check", *arguments],
        cwd=ROOT, env={"PATH": os.environ["PATH"], **environ}, input=given, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def recipe(name: str) -> str:
    return f"deploy/recipes/{name}.yaml"


def saved(folder: Path, payload: Any) -> str:
    path = folder / "payload.json"
    path.write_text(payload if isinstance(payload, str) else json.dumps(payload))
    return str(path)


def test_the_shipped_configuration() -> None:
    done = check()
    assert (done.returncode, done.stdout, done.stderr) == (0, "deploy/relay.yaml: no mistakes, 0 hooks.\n", "")


def test_nothing_of_the_environment_has_to_be_there() -> None:
    done = check(RELAY_CONFIG=recipe("apify-run"), APIFY_TOKEN="env:NOT_HERE", RELAY_SECRET="bare-name")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "deploy/recipes/apify-run.yaml: no mistakes, 1 hook.\n"
        "  POST /hooks/apify-run: apify, updates apify, data.world\n"
    )


def test_what_native_events_may_do(tmp_path: Path) -> None:
    for allow, shown in ((["apify:jane~*"], "apify:jane~*"), ([], "nothing")):
        done = check(RELAY_CONFIG=written(tmp_path, {}, events={"allow": allow}))
        assert done.stdout.endswith(f"  POST /: {shown}\n")


def test_mistakes_a_line_each(tmp_path: Path) -> None:
    broken = hook(update("apify", "a b", {"nam": "{{ evnt.x }}"}), sender="githib", secret="x")
    path = written(tmp_path, {"a": broken})
    done = check(RELAY_CONFIG=path)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all(line.startswith(f"{path}: hook a: ") for line in lines)
    assert "did you mean github?" in lines[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "Can't be read: No such file or directory."),
        (b"\xff", "Is not UTF-8 (byte 0)."),
        (b"a: [", "Is not YAML"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "relay.yaml"
    if content is not None:
        path.write_bytes(content)
    done = check(RELAY_CONFIG=str(path))
    assert done.returncode == 1
    assert done.stdout.startswith(f"{path}: {said}")


def test_wrong_settings() -> None:
    done = check(RELAY_MAX_BODY_BYTES="many", APIFY_TOKEN="apify_api_0123456789")
    assert done.returncode == 1
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == ["RELAY_MAX_BODY_BYTES", "APIFY_TOKEN"]
    assert "0123456789" not in done.stdout


def test_what_a_hook_makes_of_a_payload(tmp_path: Path) -> None:
    path = saved(tmp_path, payloads.apify_run("kVxQb3TnWkzbQMuFY"))
    done = check("--hook", "apify-run", "--payload", path, "--header", "X-Apify-Webhook-Dispatch-Id: d-1",
                 RELAY_CONFIG=recipe("apify-run"))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        """Delivery: d-1

updates.0: PUT https://api.apify.com/v2/datasets/kVxQb3TnWkzbQMuFY
{
  "name": "products-2026-11-22-0829",
  "generalAccess": "ANYONE_WITH_ID_CAN_READ"
}

updates.1: PATCH https://api.data.world/v0/datasets/acme/products
{
"""
    )


def test_a_payload_from_standard_input() -> None:
    payload = json.dumps(payloads.dbt_run(jobName="Größe"))
    done = check("--hook", "dbt-job", "--payload", "-", given=payload, RELAY_CONFIG=recipe("dbt-job"))
    assert done.returncode == 0
    assert "Delivery: wev_30XkPq" in done.stdout
    assert "Größe" in done.stdout


def test_headers_are_seen_by_a_hook(tmp_path: Path) -> None:
    path = saved(tmp_path, payloads.github_workflow())
    arguments = ("--hook", "github-workflow", "--payload", path)
    done = check(*arguments, RELAY_CONFIG=recipe("github-workflow"))
    assert (done.returncode, done.stdout) == (
        0,
        "Ignored. The hook's when is false for this event: x-github-event is missing.\n",
    )
    done = check(*arguments, "--header", "X-GitHub-Event:workflow_run", RELAY_CONFIG=recipe("github-workflow"))
    assert (done.returncode, done.stdout.count("PATCH")) == (0, 1)
    assert "Delivery: none of its own" in done.stdout
    done = check(*arguments, "--header", "X-GitHub-Event: ping", RELAY_CONFIG=recipe("github-workflow"))
    assert (done.returncode, done.stdout) == (0, "Ignored. This is a test message of github.\n")


def test_what_fails(tmp_path: Path) -> None:
    payload = payloads.dbt_run()
    del payload["data"]["runFinishedAt"]
    path = saved(tmp_path, payload)
    done = check("--hook", "dbt-job", "--payload", path, RELAY_CONFIG=recipe("dbt-job"))
    assert done.returncode == 1
    assert done.stdout.splitlines()[1:] == [
        "  updates.0.update.description: runFinishedAt is missing.",
        "  updates.0.update.summary: runFinishedAt is missing.",
    ]
    config = written(tmp_path, {"a": hook(update("apify", "{{ event.d }}", {"name": "{{ event.n }}"}), secret="x")})
    path = saved(tmp_path, {"d": "../x", "n": "-"})
    done = check("--hook", "a", "--payload", path, RELAY_CONFIG=config)
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()[1:]] == [
        "  updates.0.dataset",
        "  updates.0.update.name",
    ]


def test_credentials_are_masked(tmp_path: Path) -> None:
    source = {
        "url": "https://u:{{ event.p }}@example.com/a.csv",
        "credentials": {"user": "u", "password": "{{ event.p }}"},
    }
    body = {"summary": "{{ event.p }}", "files": [{"name": "a.csv", "source": source}]}
    config = written(tmp_path, {"a": hook(update("data.world", "acme/products", body), secret="x")})
    done = check("--hook", "a", "--payload", saved(tmp_path, {"p": "sw0rdfish"}), RELAY_CONFIG=config)
    assert done.returncode == 0
    assert "sw0rdfish" not in done.stdout
    assert "[redacted]" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--hook", "dbt-jb", "--payload", "x"), "There is no hook dbt-jb; did you mean dbt-job?\n"),
        (("--hook", "other", "--payload", "x"), "There is no hook other; there are dbt-job.\n"),
        (("--hook", "dbt-job", "--payload", "/not/there"), "/not/there: can't be read: No such file or directory.\n"),
        (("--hook", "dbt-job", "--payload", "README.md"), "README.md: The body is not JSON"),
        (("--hook", "dbt-job", "--payload", "x", "--header", "nothing"), "--header takes 'Name: value'.\n"),
    ],
)
def test_what_cannot_be_tried(arguments: tuple[str, ...], said: str) -> None:
    done = check(*arguments, RELAY_CONFIG=recipe("dbt-job"))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(said)


@pytest.mark.parametrize(
    "arguments", [("--hook", "a"), ("--payload", "x"), ("--header", "a: b"), ("--nothing",), ("x",)]
)
def test_a_wrong_command_line(arguments: tuple[str, ...]) -> None:
    done = check(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: main.py")


def test_without_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "check" in done.stderr
