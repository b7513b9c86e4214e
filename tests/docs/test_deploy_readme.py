"""Tests of deploy/README.md: its commands, its examples, its tables, and its links."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from deploy.local.cloud import DATA_WORLD_OWNER, ROOT
from handlers.inbound.response import queued_items
from handlers.queue.queue import Reason
from schemas import problem
from schemas.event import Update
from tests.support.gcloud import GCLOUD, lint_error
from tests.support.markdown import blocks_named, broken_links, code_blocks, count_code_blocks
from tests.support.project import DEPLOY_README, settings_of_readme
from tests.support.relay import Relay, assert_problem

SECTIONS = {section.partition("\n")[0]: section for section in re.split(r"^#+ ", DEPLOY_README, flags=re.MULTILINE)}


def test_deploy_readme_every_block_of_code_is_tested() -> None:
    assert count_code_blocks(DEPLOY_README) == len(code_blocks(DEPLOY_README))


def test_deploy_readme_links_lead_to_files_and_headings() -> None:
    assert broken_links(ROOT / "deploy/README.md") == []


# The HTTP interface


def test_deploy_readme_event_is_delivered(relay: Relay) -> None:
    (text,) = blocks_named(DEPLOY_README, "event")
    event = json.loads(text)
    relay.cloud.data_world.add(f"{DATA_WORLD_OWNER}/products")
    response = relay.post(event)
    assert response.status_code == 200
    assert response.headers["Relay-Delivery"] == event["id"]


@pytest.mark.parametrize("secret", ["a plain CANARY", "whsec_Q0FOQVJZGKYqrTwjUPD8ILPZIo2LaLaS"], ids=["plain", "whsec"])
def test_deploy_readme_signature_is_accepted(launch: Any, secret: str) -> None:
    relay = launch(RELAY_SECRET="env:MY_SECRET", MY_SECRET=secret)
    (code,) = blocks_named(DEPLOY_README, "signature")
    code = code.replace("http://127.0.0.1:8090", relay.url).replace("WkzbQMuFYuamGv3YF", relay.apify_dataset())
    completed = subprocess.run([sys.executable, "-c", code], env={"MY_SECRET": secret}, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert json.loads(completed.stdout)["data"]["generalAccess"] == "RESTRICTED"


def test_deploy_readme_problem_equals_the_response(relay: Relay) -> None:
    (text,) = blocks_named(DEPLOY_README, "problem")
    response = relay.post({"provider": "data.world", "dataset": "acme/products", "update": {"titel": "x"}})
    assert assert_problem(response, 422, "invalid") == json.loads(text)


def test_deploy_readme_response_of_the_queue_has_the_documented_form() -> None:
    (text,) = blocks_named(DEPLOY_README, "queued")
    update = Update("data.world", "acme/products", {})
    assert json.loads(text) == {"queued": queued_items([update], ["13290571840261357"])}


def test_deploy_readme_lists_the_status_of_every_problem() -> None:
    rows = re.findall(r"^\| (.*?) \|(.*)\|$", SECTIONS["Responses"], re.MULTILINE)
    listed = {int(number) for row in rows for number in re.findall(r"\b[45]\d\d\b", " ".join(row))}
    kinds = [kind for kind in vars(problem).values() if isinstance(kind, type) and hasattr(kind, "status")]
    statuses = {kind.status for kind in kinds if isinstance(kind.status, int)}
    assert len(statuses) > 10
    assert statuses <= listed


def test_deploy_readme_lists_every_outcome_of_the_log() -> None:
    sources = "".join((ROOT / "handlers" / name).read_text() for name in ("app.py", "inbound/request_log.py"))
    # The reasons for which an update leaves the queue are outcomes, too.
    assert "log.outcome = reason" in sources
    outcomes = {
        word for line in re.findall(r"outcome(?:,.*)? = .*", sources) for word in re.findall(r'"([a-z_]+)"', line)
    } | {*get_args(Reason)}
    listed = set(re.findall(r"^\| `([a-z_]+)`", SECTIONS["The log"], re.MULTILINE)) - {"outcome"}
    assert listed == outcomes


# The deployment


@pytest.mark.skipif(GCLOUD is None, reason="gcloud isn't installed: the commands of deploy/README.md are NOT tested")
def test_deploy_readme_gcloud_commands_are_valid(tmp_path: Path) -> None:
    commands = re.findall(r"gcloud .+", "\n".join(blocks_named(DEPLOY_README, "deploy")))
    assert len(commands) == 2
    assert not {command: error for command in commands if (error := lint_error(command, tmp_path))}


def test_deploy_readme_deploy_sh_commands_succeed_as_dry_runs() -> None:
    scripts = re.findall(r"^deploy/gcp/deploy\.sh.*", "\n".join(blocks_named(DEPLOY_README, "deploy")), re.MULTILINE)
    assert len(scripts) == 4
    for script in scripts:
        completed = subprocess.run(
            ["bash", "-c", script.replace("deploy.sh", "deploy.sh --dry-run", 1)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert completed.returncode == 0, completed.stderr
        assert "run deploy dataset-relay" in completed.stdout


def test_deploy_readme_steps_have_the_order_of_deploy_sh() -> None:
    script = subprocess.run(
        [ROOT / "deploy/gcp/deploy.sh", "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    # One command of each step in the list. The second step calls nothing at Google.
    commands = [
        ("APIs", "services enable"),
        ("service account", "iam service-accounts create"),
        ("secret", "secrets create"),
        ("request log", "logging sinks update"),
        ("Build", "run deploy"),
    ]
    steps = re.findall(r"^\d\. (.*(?:\n   .*)*)", SECTIONS["Google Cloud"], re.MULTILINE)
    assert len(steps) == 6
    documented = [next(number for number, step in enumerate(steps) if word in step) for word, _ in commands]
    assert documented == [0, 2, 3, 4, 5]
    positions = [script.index(command) for _, command in commands]
    assert positions == sorted(positions)


def docker_commands(folder: Path) -> list[tuple[list[str], dict[str, str]]]:
    """Run the Docker commands of the page with a program that only records its arguments and its variables."""
    record = folder / "record"
    program = folder / "docker"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        f"with open({str(record)!r}, 'a') as file: file.write(json.dumps([sys.argv[1:], dict(os.environ)]) + '\\n')\n"
    )
    program.chmod(0o755)
    for block in blocks_named(DEPLOY_README, "docker"):
        completed = subprocess.run(
            ["sh", "-e", "-c", block.replace("stty -echo; ", "").replace("stty echo; ", "")],
            input="a CANARY token\n",
            env={"PATH": f"{folder}:{os.environ['PATH']}"}, cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert completed.returncode == 0, completed.stderr
    return [tuple(json.loads(line)) for line in record.read_text().splitlines()]


def test_deploy_readme_docker_commands_start_the_function(tmp_path: Path) -> None:
    (build, _), *runs = docker_commands(tmp_path)
    assert (ROOT / build[build.index("-f") + 1]).is_file()
    assert len(runs) == 2
    for arguments, variables in runs:
        assert not [argument for argument in arguments if "CANARY" in argument]
        pairs = [value for option, value in pairwise(arguments) if option == "--env"]
        container = {name: value if equals else variables[name] for name, equals, value in map(partition, pairs)}
        settings = {name for name in container if not name.startswith("MY_")}
        assert settings <= settings_of_readme()
        completed = subprocess.run(
            [sys.executable, "-c", "import main"], env=container, cwd=ROOT, capture_output=True, text=True
        )
        assert completed.returncode == 0, completed.stderr
        for mount in [value for option, value in pairwise(arguments) if option == "-v"]:
            path = mount.split(":")[1]
            assert path == "/etc/dataset-relay" or (ROOT / path.removeprefix("/app/")).is_file()


def partition(text: str) -> tuple[str, str, str]:
    return text.partition("=")


@pytest.mark.skipif(not shutil.which("docker"), reason="docker isn't installed: its options are NOT tested")
def test_deploy_readme_docker_commands_have_valid_options(tmp_path: Path) -> None:
    for arguments, _ in docker_commands(tmp_path):
        if arguments[0] != "run":
            continue  # the client builds an image only with a plug-in
        completed = subprocess.run(
            [str(shutil.which("docker")), *arguments],
            env={"HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none"}, capture_output=True, text=True,
        )  # fmt: skip
        assert "daemon" in completed.stderr
        assert "flag" not in completed.stderr


def test_deploy_readme_knative_file_exists() -> None:
    (command,) = blocks_named(DEPLOY_README, "knative")
    assert command.startswith("kubectl apply -f ")
    assert (ROOT / command.split()[-1]).is_file()


# The operation


def test_deploy_readme_check_command_succeeds() -> None:
    (command,) = blocks_named(DEPLOY_README, "check")
    completed = subprocess.run(
        ["bash", "-c", command.replace(".venv/bin/python", sys.executable)],
        env={"PATH": os.environ["PATH"]}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout


def test_deploy_readme_make_commands_exist() -> None:
    targets = set(re.findall(r"`make ([a-z]+)", DEPLOY_README))
    assert {"run", "soak", "bench", "clean"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    assert not {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)}


def test_deploy_readme_troubleshooting_has_ten_symptoms_with_cause_and_cure() -> None:
    text = DEPLOY_README.partition("\n## Troubleshooting\n")[2].partition("\n## ")[0]
    symptoms = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert [symptom.split(".")[0] for symptom in symptoms] == [str(number) for number in range(1, 11)]
    for symptom in symptoms:
        assert "\n- *Cause*: " in symptom
        assert "\n- *Cure*: " in symptom


def test_deploy_readme_troubleshooting_names_existing_problems() -> None:
    names = {kind.name for kind in vars(problem).values() if hasattr(kind, "name") and isinstance(kind.name, str)}
    text = DEPLOY_README.partition("\n## Troubleshooting\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"with `([a-z-]+)`", text)) <= names
    assert set(re.findall(r"`([a-z]+-[a-z-]+)`", text)) <= names | {"record-or-token-not-found"}
