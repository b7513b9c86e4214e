"""Tests of the examples in the README. Only their addresses and the names of their datasets are replaced."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cloud import DATA_WORLD_OWNER, ROOT, free_port, secret_name
from handlers.hooks.templates.filters import FILTERS
from handlers.senders import SENDERS
from tests.support.canary import RECORDER, secret
from tests.support.gcloud import GCLOUD, lint_error
from tests.support.hooks import call
from tests.support.markdown import blocks_named, code_blocks, count_code_blocks
from tests.support.payloads import github_workflow
from tests.support.project import README
from tests.support.relay import Relay, assert_problem, create_cloud, unique
from tests.support.visible_arguments import SHELLS, record


def test_readme_every_block_of_code_is_tested() -> None:
    assert count_code_blocks(README) == len(code_blocks(README))


def test_readme_first_update_renames_the_dataset(relay: Relay, tmp_path: Path) -> None:
    token, start, dry_run, real = blocks_named(README, "first update")
    port = str(free_port())
    wait = f"until curl -s -o {tmp_path}/health http://127.0.0.1:{port}/health; do sleep 0.05; done\n"
    script = (token + start + wait + dry_run + real + "kill $!; wait\n").replace("8090", port)
    dataset, name = relay.apify_dataset(), unique("first")
    script = script.replace("WkzbQMuFYuamGv3YF", dataset).replace("my-first-relay", name)
    script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    completed = subprocess.run(
        ["bash", "-m", "-c", script],
        input=f"{relay.cloud.apify_token}\n",
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "APIFY_BASE_URL": relay.cloud.apify.base_url},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    RECORDER.add("the output of the README's script", completed.stdout + completed.stderr)
    lines: list[dict[str, Any]] = [json.loads(line) for line in completed.stdout.splitlines() if line.startswith("{")]
    preview, updated = [line for line in lines if "severity" not in line]
    assert preview["request"]["body"] == {"name": name}
    assert preview["token"] == "env:MY_APIFY_TOKEN"
    assert updated["data"]["name"] == name


@pytest.mark.parametrize("shell", SHELLS)
def test_readme_curl_commands_show_no_secret_to_ps(shell: str) -> None:
    _, _, dry_run, real = blocks_named(README, "first update")
    my_secret = secret("")
    recording = record(shell, dry_run + real, MY_SECRET=my_secret)
    assert recording.authorizations == [f"Bearer {my_secret}"] * 2
    assert not [output for output in recording.outputs if my_secret in output]


def test_readme_event_is_delivered(relay: Relay) -> None:
    (text,) = blocks_named(README, "event")
    event = json.loads(text)
    relay.cloud.data_world.add(f"{DATA_WORLD_OWNER}/products")
    response = relay.post(event)
    assert response.status_code == 200
    assert response.headers["Relay-Delivery"] == event["id"]


@pytest.mark.parametrize("secret", ["a plain CANARY", "whsec_Q0FOQVJZGKYqrTwjUPD8ILPZIo2LaLaS"], ids=["plain", "whsec"])
def test_readme_signature_is_accepted(launch: Any, secret: str) -> None:
    relay = launch(RELAY_SECRET="env:MY_SECRET", MY_SECRET=secret)
    (code,) = blocks_named(README, "signature")
    code = code.replace("http://127.0.0.1:8090", relay.url).replace("WkzbQMuFYuamGv3YF", relay.apify_dataset())
    completed = subprocess.run([sys.executable, "-c", code], env={"MY_SECRET": secret}, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert json.loads(completed.stdout)["data"]["generalAccess"] == "RESTRICTED"


def test_readme_problem_equals_the_response(relay: Relay) -> None:
    (text,) = blocks_named(README, "problem")
    response = relay.post({"provider": "data.world", "dataset": "acme/products", "update": {"titel": "x"}})
    assert assert_problem(response, 422, "invalid") == json.loads(text)


@pytest.mark.skipif(GCLOUD is None, reason="gcloud isn't installed: the commands of the README are NOT tested")
def test_readme_deploy_commands_are_valid(tmp_path: Path) -> None:
    code = "\n".join(blocks_named(README, "deploy"))
    commands = re.findall(r"gcloud .+", code)
    assert not {command: error for command in commands if (error := lint_error(command, tmp_path))}
    scripts = re.findall(
        r"deploy/gcp/deploy\.sh.*", code + "\n" + "\n".join(re.findall(r"`(deploy/gcp/deploy\.sh.*?)`", README))
    )
    assert len(scripts) >= 3
    for script in scripts:
        completed = subprocess.run(
            ["bash", "-c", script.replace("deploy.sh", "deploy.sh --dry-run", 1)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert completed.returncode == 0, completed.stderr
        assert "run deploy dataset-relay" in completed.stdout


def test_readme_hook_updates_both_datasets(launch: Any, tmp_path: Path) -> None:
    (text,) = blocks_named(README, "hook")
    path = tmp_path / "relay.yaml"
    path.write_text(text)
    cloud = create_cloud().start()
    for name, value in (("github-webhook-secret", "CANARY"), ("janes-apify-token", cloud.apify_token)):
        cloud.secret_manager.add_version(secret_name(name), value)
    cloud.data_world.add("acme/products")
    dataset = cloud.apify.add("jane", "products")
    relay = launch(on=cloud, RELAY_CONFIG=str(path), APIFY_TOKEN=None)
    payload = github_workflow()
    payload["repository"]["name"] = "products"
    response = call(relay, "build-products", payload, sender="github", secret="CANARY")
    assert response.status_code == 200, response.text
    assert cloud.data_world.datasets["acme/products"]["summary"] == "Built by run 214 on 2026-11-22."
    assert cloud.apify.datasets[dataset]["generalAccess"] == "ANYONE_WITH_NAME_CAN_READ"
    cloud.stop()


def test_readme_check_commands_print_the_update(tmp_path: Path) -> None:
    (script,) = blocks_named(README, "check")
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps(github_workflow()))
    script = script.replace(".venv/bin/python", sys.executable).replace("payload.json", str(payload))
    completed = subprocess.run(
        ["bash", "-e", "-c", script],
        env={"PATH": os.environ["PATH"]}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout.startswith("deploy/relay.yaml: no mistakes, 0 hooks.\nDelivery: ")
    assert "updates.0: PATCH https://api.data.world/v0/datasets/acme/products" in completed.stdout


def test_readme_names_every_sender_and_filter() -> None:
    for sender in SENDERS:
        assert f"`{sender}`" in README
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    names = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`[^`]+`", text))))
    assert set(FILTERS) - {"d", "count"} <= names
