"""GitHub's workflows and Dependabot: what can be seen of them without GitHub."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.cloud import ROOT
from tests.test_project import DEPLOY_SH, READ_ME

BIN = Path(sys.executable).parent
FOLDER = ROOT / ".github"
PATHS = sorted((FOLDER / "workflows").glob("*.yml"))


def read(path: Path) -> dict[str, Any]:
    """All scalars as text: to YAML 1.1 the key `on` would be true."""
    loaded: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # nothing but text and its containers
    return loaded


WORKFLOWS = {path.stem: read(path) for path in PATHS}
JOBS = {f"{file}:{name}": job for file, workflow in WORKFLOWS.items() for name, job in workflow["jobs"].items()}
STEPS = [(name, step) for name, job in JOBS.items() for step in job.get("steps", [])]
RUNS = [(name, step["run"]) for name, step in STEPS if "run" in step]
DEPENDABOT = read(FOLDER / "dependabot.yml")


def clean(*command: object, said: str | None = None) -> None:
    told = [str(part) for part in command]
    done = subprocess.run(told, input=said, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_github_would_read_them() -> None:
    assert {"ci", "deploy"} == set(WORKFLOWS)
    clean(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *PATHS)
    clean(BIN / "check-jsonschema", "--builtin-schema", "vendor.dependabot", FOLDER / "dependabot.yml")


def test_zizmor_has_nothing_to_say() -> None:
    clean(BIN / "zizmor", "--offline", "--no-progress", "--strict-collection", FOLDER)


@pytest.mark.parametrize(("job", "script"), RUNS, ids=[name for name, _ in RUNS])
def test_shellcheck_has_nothing_to_say(job: str, script: str) -> None:
    # What GitHub fills in there would be code.
    assert "${{" not in script
    # The shell that GitHub takes is `bash -e`.
    clean(BIN / "shellcheck", "--shell", "bash", "-", said=f"set -e\n{script}")


def test_every_action_is_pinned_by_its_commit() -> None:
    lines = [line.strip() for path in PATHS for line in path.read_text().splitlines() if re.match(r"[ -]*uses:", line)]
    assert len(lines) == len([step for _, step in STEPS if "uses" in step]) + 1
    pinned = set()
    for line in lines:
        used = line.partition("uses: ")[2]
        if used.startswith("./"):
            assert (ROOT / used.split()[0]).is_file()
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used
            pinned.add(used)
    assert len(pinned) == len({used.partition("@")[0] for used in pinned}), "one action, two versions"


def test_no_workflow_holds_more_than_it_needs() -> None:
    for path in PATHS:
        assert not re.search(r"\bsecrets\b\s*[.:\[]", path.read_text()), "there is no stored key"
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
    extra = {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job}
    assert extra == {"deploy:deploy": {"contents": "read", "id-token": "write"}}
    for name, step in STEPS:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false", name
    for name, job in JOBS.items():
        assert "uses" in job or 0 < int(job["timeout-minutes"]) <= 30, name


def test_every_change_is_tested_once_and_only_main_is_deployed() -> None:
    assert set(WORKFLOWS["ci"]["on"]) == {"pull_request", "workflow_call"}
    assert WORKFLOWS["deploy"]["on"] == {"push": {"branches": ["main"]}, "workflow_dispatch": ""}
    assert JOBS["deploy:ci"]["uses"] == "./.github/workflows/ci.yml"
    deploy = JOBS["deploy:deploy"]
    assert (deploy["needs"], deploy["environment"]) == ("ci", "production")
    assert deploy["if"] == "vars.GCP_PROJECT != '' && github.ref == 'refs/heads/main'"
    # Tests included: an older commit never goes over a newer one.
    assert WORKFLOWS["deploy"]["concurrency"] == {"group": "deploy", "cancel-in-progress": "false"}


def test_the_variables_are_said_where_they_are_used() -> None:
    said, _, used = (FOLDER / "workflows/deploy.yml").read_text().partition("\nname: ")
    assert set(re.findall(r"\bvars\.(\w+)", used)) == set(re.findall(r"\bGCP_\w+", said))
    assert "vars." not in (FOLDER / "workflows/ci.yml").read_text()


def test_the_pythons_are_those_that_are_promised() -> None:
    least = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    (deployed,) = {f"{major}.{minor}" for major, minor in re.findall(r"--base-image python(\d)(\d+)", DEPLOY_SH)}
    tested = JOBS["ci:test"]["strategy"]["matrix"]["python"]
    first, last = (int(version.partition(".")[2]) for version in (least, deployed))
    assert tested == [f"3.{minor}" for minor in range(first, last + 1)]
    assert f"Python {least} or newer" in READ_ME
    others = [step["with"]["python-version"] for _, step in STEPS if "python-version" in step.get("with", {})]
    assert set(others) == {deployed, "${{ matrix.python }}"}


def commands(word: str) -> Iterator[str]:
    """What stands behind `word` in the scripts."""
    for _, script in RUNS:
        yield from re.findall(rf"^\s*{word} (.*)", script, re.MULTILINE)


def test_what_the_scripts_name_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = {command.split()[0] for command in commands("make")}
    assert made == {"lint", "test"}
    assert made <= targets
    assert "PYTHON ?=" in (ROOT / "Makefile").read_text()
    (build,) = (command for command in commands("docker") if command.startswith("build"))
    files = re.findall(r"--file (\S+)", build)
    assert files == ["deploy/Dockerfile"]
    assert (ROOT / files[0]).is_file()
    for _, step in STEPS:
        for pattern in step.get("with", {}).get("cache-dependency-path", "").split():
            assert list(ROOT.glob(pattern)), pattern


def test_dependabot_waits_and_asks_for_all_of_a_kind_at_once() -> None:
    by_kind = {update["package-ecosystem"]: update for update in DEPENDABOT["updates"]}
    assert len(by_kind) == len(DEPENDABOT["updates"])
    assert set(by_kind) == {"github-actions", "pip", "docker", "terraform"}
    for update in by_kind.values():
        assert update["schedule"]["interval"] == "weekly"
        assert int(update["cooldown"]["default-days"]) >= 7
        assert [group["patterns"] for group in update["groups"].values()] == [["*"]]


def test_dependabot_looks_where_there_is_something() -> None:
    by_kind = {update["package-ecosystem"]: update for update in DEPENDABOT["updates"]}
    pip = by_kind["pip"]
    watched = {f"{folder.strip('/')}/requirements.txt".lstrip("/") for folder in pip["directories"]}
    assert watched == {"requirements.txt", "tests/requirements.txt"}
    compiled = set(re.findall(r" -o (\S+)", (ROOT / "Makefile").read_text()))
    assert watched | set(pip["exclude-paths"]) == compiled
    assert list((ROOT / by_kind["docker"]["directory"].strip("/")).glob("Dockerfile"))
    terraform = ROOT / by_kind["terraform"]["directory"].strip("/")
    assert list(terraform.glob("*.tf"))
