"""What the README shows is run, as it stands but for addresses and names."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cloud import DATA_WORLD_OWNER, ROOT, Cloud, free_port, secret_name
from handlers.senders import SENDERS
from schemas.filters import FILTERS
from tests.conftest import Relay, assert_problem, unique
from tests.gcloud import GCLOUD, lint
from tests.hooks import call
from tests.payloads import github_workflow

TEXT = (ROOT / "README.md").read_text()


def blocks(name: str) -> list[str]:
    """The code behind each `<!-- test: name -->`."""
    found = re.findall(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert found
    return found


def test_every_block_of_code_is_tested_or_a_picture() -> None:
    tagged = len(re.findall(r"<!-- test: [a-z ]+ -->\n```", TEXT))
    assert len(re.findall(r"^```\w+$", TEXT, re.MULTILINE)) == tagged + TEXT.count("```mermaid")


def test_first_update(relay: Relay, tmp_path: Path) -> None:
    token, start, dry_run, real = blocks("first update")
    port = str(free_port())
    wait = f"until curl -s -o {tmp_path}/health http://127.0.0.1:{port}/health; do sleep 0.05; done\n"
    script = (token + start + wait + dry_run + real + "kill $!; wait\n").replace("8090", port)
    dataset, name = relay.apify_dataset(), unique("first")
    script = script.replace("WkzbQMuFYuamGv3YF", dataset).replace("my-first-relay", name)
    script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    done = subprocess.run(
        ["bash", "-m", "-c", script],
        input=f"{relay.cloud.apify_token}\n",
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "APIFY_BASE_URL": relay.cloud.apify.base_url},
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    answers: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    shown, updated = [answer for answer in answers if "severity" not in answer]
    assert shown["request"]["body"] == {"name": name}
    assert shown["token"] == "env:MY_APIFY_TOKEN"
    assert updated["data"]["name"] == name
    assert relay.cloud.apify_token not in done.stdout + done.stderr


def test_the_event(relay: Relay) -> None:
    (text,) = blocks("event")
    event = json.loads(text)
    relay.cloud.data_world.add(f"{DATA_WORLD_OWNER}/products")
    answer = relay.post(event)
    assert answer.status_code == 200
    assert answer.headers["Relay-Delivery"] == event["id"]


@pytest.mark.parametrize("secret", ["a plain secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], ids=["plain", "whsec"])
def test_the_signature(launch: Any, secret: str) -> None:
    relay = launch(RELAY_SECRET="env:MY_SECRET", MY_SECRET=secret)
    (code,) = blocks("signature")
    code = code.replace("http://127.0.0.1:8090", relay.url).replace("WkzbQMuFYuamGv3YF", relay.apify_dataset())
    done = subprocess.run(
        [sys.executable, "-c", code], env={"MY_SECRET": secret}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["generalAccess"] == "RESTRICTED"


def test_the_problem(relay: Relay) -> None:
    (text,) = blocks("problem")
    answer = relay.post({"provider": "data.world", "dataset": "acme/products", "update": {"titel": "x"}})
    assert assert_problem(answer, 422, "invalid") == json.loads(text)


@pytest.mark.skipif(GCLOUD is None, reason="LOUD: gcloud is not on this machine; the README's use of it is NOT checked")
def test_the_deploy_commands(tmp_path: Path) -> None:
    code = "\n".join(blocks("deploy"))
    assert not {line: wrong for line in re.findall(r"gcloud .+", code) if (wrong := lint(line, tmp_path))}
    scripts = re.findall(
        r"deploy/gcp/deploy\.sh.*", code + "\n" + "\n".join(re.findall(r"`(deploy/gcp/deploy\.sh.*?)`", TEXT))
    )
    assert len(scripts) >= 3
    for script in scripts:
        done = subprocess.run(
            ["bash", "-c", script.replace("deploy.sh", "deploy.sh --dry-run", 1)],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "run deploy dataset-relay" in done.stdout


def test_the_hook(launch: Any, tmp_path: Path) -> None:
    """The hook of the README, as it stands, with the secrets that it names."""
    (text,) = blocks("hook")
    path = tmp_path / "relay.yaml"
    path.write_text(text)
    cloud = Cloud().start()
    for name, secret in (("github-webhook-secret", "made up"), ("janes-apify-token", cloud.apify_token)):
        cloud.secret_manager.add_version(secret_name(name), secret)
    cloud.data_world.add("acme/products")
    dataset = cloud.apify.add("jane", "products")
    relay = launch(on=cloud, RELAY_CONFIG=str(path), APIFY_TOKEN=None)
    payload = github_workflow()
    payload["repository"]["name"] = "products"
    answer = call(relay, "build-products", payload, sender="github", secret="made up")
    assert answer.status_code == 200, answer.text
    assert cloud.data_world.datasets["acme/products"]["summary"] == "Built by run 214 on 2026-11-22."
    assert cloud.apify.datasets[dataset]["generalAccess"] == "ANYONE_WITH_NAME_CAN_READ"
    cloud.stop()


def test_the_check_commands(tmp_path: Path) -> None:
    (script,) = blocks("check")
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps(github_workflow()))
    script = script.replace(".venv/bin/python", sys.executable).replace("payload.json", str(payload))
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        env={"PATH": os.environ["PATH"]}, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("deploy/relay.yaml: no mistakes, 0 hooks.\nDelivery: ")
    assert "updates.0: PATCH https://api.data.world/v0/datasets/acme/products" in done.stdout


def test_the_senders_and_the_filters() -> None:
    for sender in SENDERS:
        assert f"`{sender}`" in TEXT
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    named = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`[^`]+`", prose))))
    assert set(FILTERS) - {"d", "count"} <= named
