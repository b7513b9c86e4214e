"""Tests of GitHub's workflows and of Dependabot's configuration, without GitHub."""

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
from tests.support.project import DEPLOY_SH, README

BIN = Path(sys.executable).parent
GITHUB = ROOT / ".github"
PATHS = sorted((GITHUB / "workflows").glob("*.yml"))


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file with all scalars as text. In YAML 1.1, the key `on` would be true."""
    content: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    return content


WORKFLOWS = {path.stem: read(path) for path in PATHS}
JOBS = {f"{file}:{name}": job for file, workflow in WORKFLOWS.items() for name, job in workflow["jobs"].items()}
STEPS = [(name, step) for name, job in JOBS.items() for step in job.get("steps", [])]
SCRIPTS = [(name, step["run"]) for name, step in STEPS if "run" in step]
DEPENDABOT = read(GITHUB / "dependabot.yml")


def assert_succeeds(*command: object, stdin: str | None = None) -> None:
    arguments = [str(argument) for argument in command]
    completed = subprocess.run(arguments, input=stdin, cwd=ROOT, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_workflows_conform_to_the_schemas_of_github() -> None:
    assert {"ci", "deploy"} == set(WORKFLOWS)
    assert_succeeds(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *PATHS)
    assert_succeeds(BIN / "check-jsonschema", "--builtin-schema", "vendor.dependabot", GITHUB / "dependabot.yml")


def test_workflows_have_no_zizmor_findings() -> None:
    assert_succeeds(BIN / "zizmor", "--offline", "--no-progress", "--strict-collection", GITHUB)


@pytest.mark.parametrize("script", [script for _, script in SCRIPTS], ids=[name for name, _ in SCRIPTS])
def test_workflow_script_has_no_shellcheck_findings(script: str) -> None:
    # GitHub would insert the value of an expression into the code of the script.
    assert "${{" not in script
    # GitHub runs scripts with `bash -e`.
    assert_succeeds(BIN / "shellcheck", "--shell", "bash", "-", stdin=f"set -e\n{script}")


def test_workflow_actions_are_pinned_by_commit() -> None:
    lines = [line.strip() for path in PATHS for line in path.read_text().splitlines() if re.match(r"[ -]*uses:", line)]
    assert len(lines) == len([step for _, step in STEPS if "uses" in step]) + 1
    pinned = set()
    for line in lines:
        action = line.partition("uses: ")[2]
        if action.startswith("./"):
            assert (ROOT / action.split()[0]).is_file()
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
            pinned.add(action)
    assert len(pinned) == len({action.partition("@")[0] for action in pinned}), "an action has two versions"


def test_workflows_have_no_unneeded_permissions() -> None:
    for path in PATHS:
        assert not re.search(r"\bsecrets\b\s*[.:\[]", path.read_text()), "the workflows need no stored secret"
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
    more_permissions = {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job}
    assert more_permissions == {"deploy:deploy": {"contents": "read", "id-token": "write"}}
    for name, step in STEPS:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false", name
    for name, job in JOBS.items():
        assert "uses" in job or 0 < int(job["timeout-minutes"]) <= 30, name


def test_workflows_test_every_change_once_and_deploy_only_main() -> None:
    assert set(WORKFLOWS["ci"]["on"]) == {"pull_request", "workflow_call"}
    assert WORKFLOWS["deploy"]["on"] == {"push": {"branches": ["main"]}, "workflow_dispatch": ""}
    assert JOBS["deploy:ci"]["uses"] == "./.github/workflows/ci.yml"
    deploy = JOBS["deploy:deploy"]
    assert (deploy["needs"], deploy["environment"]) == ("ci", "production")
    assert deploy["if"] == "vars.GCP_PROJECT != '' && github.ref == 'refs/heads/main'"
    # The tests are part of the group, so that an older commit never replaces a newer one.
    assert WORKFLOWS["deploy"]["concurrency"] == {"group": "deploy", "cancel-in-progress": "false"}


def test_deploy_workflow_comment_names_every_variable() -> None:
    comment, _, code = (GITHUB / "workflows/deploy.yml").read_text().partition("\nname: ")
    assert set(re.findall(r"\bvars\.(\w+)", code)) == set(re.findall(r"\bGCP_\w+", comment))
    assert "vars." not in (GITHUB / "workflows/ci.yml").read_text()


def test_ci_tests_every_promised_python() -> None:
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    (deployed,) = {f"{major}.{minor}" for major, minor in re.findall(r"--base-image python(\d)(\d+)", DEPLOY_SH)}
    tested = JOBS["ci:test"]["strategy"]["matrix"]["python"]
    (promised,) = re.findall(rf"Python {oldest} to (\S+) work", (ROOT / "CONTRIBUTING.md").read_text())
    first, last = (int(version.partition(".")[2]) for version in (oldest, promised))
    assert tested == [f"3.{minor}" for minor in range(first, last + 1)]
    assert deployed in tested
    assert f"Python {oldest} or newer" in README
    others = [step["with"]["python-version"] for _, step in STEPS if "python-version" in step.get("with", {})]
    assert set(others) == {deployed, "${{ matrix.python }}"}


def commands(word: str) -> Iterator[str]:
    """Yield the arguments of each command `word` in the scripts."""
    for _, script in SCRIPTS:
        yield from re.findall(rf"^\s*{word} (.*)", script, re.MULTILINE)


def test_workflow_scripts_use_existing_targets_and_files() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {arguments.split()[0] for arguments in commands("make")}
    assert targets == {"check", "test"}
    assert targets <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert "PYTHON ?=" in makefile
    (build,) = (arguments for arguments in commands("docker") if arguments.startswith("build"))
    files = re.findall(r"--file (\S+)", build)
    assert files == ["deploy/Dockerfile"]
    assert (ROOT / files[0]).is_file()
    for _, step in STEPS:
        for pattern in step.get("with", {}).get("cache-dependency-path", "").split():
            assert list(ROOT.glob(pattern)), pattern


def test_dependabot_groups_updates_and_waits() -> None:
    by_ecosystem = {update["package-ecosystem"]: update for update in DEPENDABOT["updates"]}
    assert len(by_ecosystem) == len(DEPENDABOT["updates"])
    assert set(by_ecosystem) == {"github-actions", "pip", "docker", "terraform"}
    for update in by_ecosystem.values():
        assert update["schedule"]["interval"] == "weekly"
        assert int(update["cooldown"]["default-days"]) >= 7
        assert [group["patterns"] for group in update["groups"].values()] == [["*"]]


def test_dependabot_watches_existing_files() -> None:
    by_ecosystem = {update["package-ecosystem"]: update for update in DEPENDABOT["updates"]}
    folders = [folder.strip("/") for folder in by_ecosystem["pip"]["directories"]]
    watched = {f"{folder}/requirements.txt".lstrip("/") for folder in folders}
    assert watched == set(re.findall(r" -o (\S+)", (ROOT / "Makefile").read_text()))
    assert list((ROOT / by_ecosystem["docker"]["directory"].strip("/")).glob("Dockerfile"))
    assert list((ROOT / by_ecosystem["terraform"]["directory"].strip("/")).glob("*.tf"))
