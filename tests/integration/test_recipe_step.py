"""Tests of deploy/recipes/github-step.yaml: the shell commands of the step, as a GitHub runner executes them."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Response

from deploy.local.cloud import DATA_WORLD_OWNER, ROOT, Cloud, free_port
from tests.support.canary import CANARY, RECORDER, find_canary
from tests.support.misbehaving import MisbehavingProvider, http_response, send
from tests.support.relay import Launch, Relay, in_variables, unique

BIN = Path(sys.executable).parent
PATH = ROOT / "deploy/recipes/github-step.yaml"
WORKFLOW: dict[str, Any] = yaml.load(PATH.read_text(), Loader=yaml.BaseLoader)
STEP: dict[str, Any] = WORKFLOW["jobs"]["build"]["steps"][-1]
MESSAGE_ID = "github-run-19520441207-2"
SECRET = f"a plain {CANARY}"

#: The values that GitHub inserts in place of expressions.
EXPRESSIONS = {
    "github.run_number": "214",
    "github.run_id": "19520441207",
    "github.server_url": "https://github.com",
    "github.repository": "acme/products",
    "github.sha": "9c1d3be5d7a2f4e6b8c0d2e4f6a8b0c2d4e6f8a0",
}
SUMMARY = (
    "Built by [run 214](https://github.com/acme/products/actions/runs/19520441207) "
    "from commit 9c1d3be5d7a2f4e6b8c0d2e4f6a8b0c2d4e6f8a0."
)


@dataclass
class Outcome:
    """The end of a step. The arguments can contain a secret, and must not get into the report of a failed test."""

    status: int
    output: str
    #: The waits between the attempts, in seconds. The step doesn't really wait.
    waits: list[int]
    #: The arguments of each process that the step has started.
    arguments: list[str] = field(repr=False)

    @property
    def error(self) -> str:
        """The error that GitHub shows for the step."""
        (error,) = re.findall(r"^::error title=Dataset Relay::(.*)$", self.output, re.MULTILINE)
        return str(error)


class Runner:
    """A GitHub runner. Its programs record the arguments by which `ps` would list them, and `sleep` ends at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waits = folder / "waits"
        self._arguments = folder / "arguments"
        self._programs = folder / "bin"
        self._programs.mkdir()
        # No other program is in PATH, so that the step can't start a process without a record.
        self._install("curl", f'exec {shutil.which("curl")} "$@"')
        self._install("python3", f'exec {sys.executable} "$@"')
        self._install("mktemp", f'exec {shutil.which("mktemp")} "$@"')
        self._install("sleep", f'echo "$1" >>{self.waits}')

    def _install(self, name: str, command: str) -> None:
        program = self._programs / name
        program.write_text(f"#!/bin/sh\n/bin/cat /proc/$$/cmdline >>{self._arguments}\n{command}\n")
        program.chmod(0o755)

    def run(self, script: str, **variables: str) -> Outcome:
        """Run a script as GitHub runs a step with `shell: bash`."""
        path = self.folder / "step.sh"
        path.write_text(script)
        completed = subprocess.run(
            ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", path],
            env={
                "PATH": str(self._programs),
                "TMPDIR": str(self.folder),
                "GITHUB_RUN_ID": "19520441207",
                "GITHUB_RUN_ATTEMPT": "2",
                **variables,
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        RECORDER.add("the output of the step", completed.stdout)
        waits = self.waits.read_text().split() if self.waits.exists() else []
        arguments = self._arguments.read_bytes().decode().split("\0") if self._arguments.exists() else []
        return Outcome(completed.returncode, completed.stdout, list(map(int, waits)), arguments)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Provide a GitHub runner."""
    folder = tmp_path / "runner"
    folder.mkdir()
    return Runner(folder)


RunStep = Callable[..., Outcome]


@pytest.fixture
def run_step(runner: Runner) -> RunStep:
    """Run the step: `run_step(url, dataset)`. Every process of the step must hide the secret from `ps`."""

    def run(url: str, dataset: str, *, secret: str = SECRET, changes: Mapping[str, str] = EXPRESSIONS) -> Outcome:
        event = expand(STEP["env"]["EVENT"], changes).replace("acme/products", dataset, 1)
        outcome = runner.run(STEP["run"], RELAY_URL=url, RELAY_SECRET=secret, EVENT=event)
        arguments = "\n".join(outcome.arguments)
        forms, shows_event = find_canary(arguments), event.strip() in arguments
        assert (forms, shows_event) == ([], False), "an argument of a process contains the secret or the event"
        return outcome

    return run


def expand(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with the values of GitHub's expressions. A missing value is an error."""
    return re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda match: values[match[1]], text)


def start(launch: Launch, **settings: str) -> Relay:
    """Start a function with the secret of the step."""
    cloud_settings: dict[str, Any] = {"RELAY_SECRET": "env:NATIVE_SECRET", "NATIVE_SECRET": SECRET, **settings}
    return launch(**cloud_settings)


def outcomes_of(relay: Relay, delivery: str, count: int) -> list[str]:
    """Return the outcome in each log line of a delivery. Wait for `count` lines, because another thread writes them."""
    outcomes: list[str] = []
    end = time.monotonic() + 30
    while len(outcomes) < count and time.monotonic() < end:
        lines = [json.loads(line) for line in relay.log_text().splitlines() if line.startswith("{")]
        outcomes = [line["outcome"] for line in lines if line.get("delivery") == delivery]
    return outcomes


@pytest.mark.parametrize(
    "secret",
    [SECRET, "whsec_Q0FOQVJZGKYqrTwjUPD8ILPZIo2LaLaS", "whsec_Q0FOQVJZGKYqrTwjUPD8ILPZIo2LaLa", f"{SECRET}\n"],
    ids=["plain", "whsec", "whsec without padding", "with a newline"],
)
def test_step_valid_event_updates_the_record(launch: Launch, run_step: RunStep, secret: str) -> None:
    relay = start(launch, NATIVE_SECRET=secret)
    dataset = relay.data_world_dataset()
    outcome = run_step(relay.url, dataset, secret=secret)
    assert (outcome.status, outcome.output, outcome.waits) == (0, "200: the update is done.\n", [])
    record = relay.cloud.data_world.datasets[dataset]
    assert (record["summary"], record["tags"]) == (SUMMARY, ["products", "daily"])
    assert relay.logged(MESSAGE_ID)["outcome"] == "delivered"


def test_step_process_arguments_are_recorded(runner: Runner) -> None:
    outcome = runner.run("""python3 -c '' "$RELAY_SECRET" """, RELAY_SECRET=SECRET)
    assert outcome.status == 0
    assert SECRET in outcome.arguments
    assert runner.run("openssl version").status == 127


def test_step_credential_in_the_event_is_not_an_argument(launch: Launch, runner: Runner) -> None:
    relay = start(launch)
    credential = f"{CANARY}-of-the-file"
    source = f'{{"url": "https://example.com/a.csv", "credentials": {{"user": "u", "password": "{credential}"}}}}'
    event = (
        f'{{"provider": "data.world", "dataset": "{relay.data_world_dataset()}", '
        f'"update": {{"files": [{{"name": "ä.csv", "source": {source}}}]}}}}'
    )
    outcome = runner.run(STEP["run"], RELAY_URL=relay.url, RELAY_SECRET=SECRET, EVENT=event)
    assert outcome.status == 0, outcome.output
    assert not any(credential in argument for argument in outcome.arguments)


def test_step_event_breaks_a_rule_fails_at_once_with_the_detail(launch: Launch, run_step: RunStep) -> None:
    relay = start(launch)
    long_commit = {**EXPRESSIONS, "github.sha": "100%" * 6_250}
    outcome = run_step(relay.url, relay.data_world_dataset(), changes=long_commit)
    assert (outcome.status, outcome.waits) == (1, [])
    assert outcome.error == (
        "422: The event breaks a rule. See errors for each field and its rule. "
        "update.summary: Must have at most 25000 characters."
    )


def test_step_unknown_dataset_fails_at_once_with_the_detail(launch: Launch, run_step: RunStep) -> None:
    outcome = run_step(start(launch).url, f"{DATA_WORLD_OWNER}/{unique('missing')}")
    assert (outcome.status, outcome.waits) == (1, [])
    assert outcome.error.startswith("404: ")
    assert "data.world" in outcome.error


def test_step_wrong_secret_fails_at_once(launch: Launch, run_step: RunStep) -> None:
    relay = start(launch)
    outcome = run_step(relay.url, relay.data_world_dataset(), secret=f"another {CANARY}")
    assert (outcome.status, outcome.waits) == (1, [])
    assert outcome.error.startswith("401: ")


def test_step_provider_recovers_retries_with_the_same_id(launch: Launch, runner: Runner, run_step: RunStep) -> None:
    relay = start(launch, RELAY_DEADLINE_SECONDS="1")
    dataset = relay.data_world_dataset()

    def fail_until_the_second_wait() -> Response | None:
        waits = runner.waits.read_text().split() if runner.waits.exists() else []
        return None if len(waits) == 2 else Response("{}", 503, mimetype="application/json")

    relay.cloud.data_world.instead[f"/datasets/{dataset}"] = fail_until_the_second_wait
    outcome = run_step(relay.url, dataset)
    assert (outcome.status, outcome.waits) == (0, [5, 10])
    first, second, last = outcome.output.splitlines()
    assert first.startswith("502: ")
    assert first.endswith(" The next attempt is in 5 seconds.")
    assert second.endswith(" The next attempt is in 10 seconds.")
    assert last == "200: the update is done."
    assert relay.cloud.data_world.datasets[dataset]["summary"] == SUMMARY
    assert outcomes_of(relay, MESSAGE_ID, 3) == ["failed", "failed", "delivered"]


def test_step_retry_after_is_a_longer_wait(
    launch: Launch, cloud: Cloud, provider: MisbehavingProvider, run_step: RunStep
) -> None:
    provider.default = send(http_response(429, b"{}", "Retry-After: 90"))
    # The import of the Secret Manager client would take a part of the deadline.
    settings = {**in_variables(cloud), "C": SECRET, "DATA_WORLD_BASE_URL": provider.url}
    relay = launch(**settings)
    outcome = run_step(relay.url, f"{DATA_WORLD_OWNER}/products")
    assert (outcome.status, outcome.waits) == (1, [90] * 5)
    assert outcome.error.startswith("429: ")
    assert len(provider.requests["/datasets/acme/products"]) == 6


def test_step_unreachable_function_retries_and_fails(run_step: RunStep) -> None:
    outcome = run_step(f"http://127.0.0.1:{free_port()}", "acme/products")
    assert (outcome.status, outcome.waits) == (1, [5, 10, 20, 40, 80])
    assert outcome.error == "There is no response from RELAY_URL."
    assert "curl: (7)" in outcome.output


@pytest.mark.parametrize(
    ("status", "body", "attempts"),
    [
        (200, b"<html>100% Hello</html>", 1),
        (301, b"", 1),
        (404, b'{"errors": ["no route"]}', 1),
        (429, b"[]", 6),
        (503, b"<html>overloaded</html>", 6),
    ],
)
def test_step_response_of_a_proxy_fails(
    provider: MisbehavingProvider, run_step: RunStep, status: int, body: bytes, attempts: int
) -> None:
    provider.default = send(http_response(status, body))
    outcome = run_step(provider.url, "acme/products")
    assert (outcome.status, provider.request_count) == (1, attempts)
    assert outcome.error == f"{status}: The response is not from the function. Check RELAY_URL."


def test_step_problem_is_one_line_of_the_error(provider: MisbehavingProvider, run_step: RunStep) -> None:
    problem = rb'{"retryable": false, "detail": "100%0A\n::warning::a", "errors": {"a.b": ["c", "d"]}}'
    provider.default = send(http_response(400, problem))
    assert run_step(provider.url, "acme/products").error == "400: 100%250A ::warning::a a.b: c d"


def test_step_queued_update_succeeds(provider: MisbehavingProvider, run_step: RunStep) -> None:
    provider.default = send(http_response(202, b'{"queued": []}'))
    outcome = run_step(provider.url, "acme/products")
    assert (outcome.status, outcome.output) == (0, "202: the update is queued.\n")


@pytest.mark.parametrize("name", ["RELAY_URL", "RELAY_SECRET"])
def test_step_unset_variable_fails_with_the_remedy(runner: Runner, name: str) -> None:
    variables = {"RELAY_URL": "http://127.0.0.1:1", "RELAY_SECRET": SECRET, "EVENT": "{}", name: ""}
    outcome = runner.run(STEP["run"], **variables)
    assert outcome.status != 0
    assert f"{name}: is empty. Set the" in outcome.output
    assert outcome.arguments == []


# The workflow


def assert_succeeds(*command: object, stdin: str | None = None) -> None:
    completed = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_step_workflow_has_no_findings() -> None:
    assert_succeeds(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", PATH)
    assert_succeeds(BIN / "zizmor", "--offline", "--no-progress", "--strict-collection", PATH)
    # GitHub would insert the value of an expression into the code of the script.
    assert "${{" not in STEP["run"]
    assert_succeeds(BIN / "shellcheck", "--shell", "bash", "-", stdin=f"set -eo pipefail\n{STEP['run']}")


def test_step_comment_names_the_settings() -> None:
    comment, _, code = PATH.read_text().partition("\nname: ")
    assert re.findall(r"\b(?:vars|secrets)\.\w+", code) == ["vars.RELAY_URL", "secrets.RELAY_SECRET"]
    assert STEP["env"]["RELAY_SECRET"] == "${{ secrets.RELAY_SECRET }}"
    assert {"RELAY_URL", "RELAY_SECRET", "DATA_WORLD_TOKEN"} <= set(re.findall(r"[A-Z_]{5,}", comment))
