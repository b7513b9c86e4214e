"""Tests of deploy/recipes/*.yaml: each recipe gets a payload of its sender, with the credential of the sender."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.cloud import ROOT, Cloud, secret_name
from tests.support import payloads
from tests.support.hooks import call
from tests.support.relay import Launch, Relay, assert_problem

#: The recipes with a hook. github-step.yaml has none: see tests/integration/test_recipe_step.py.
RECIPES = sorted(
    path
    for path in (ROOT / "deploy/recipes").glob("*.yaml")
    if path.name != "github-step.yaml" and not path.name.endswith(".tests.yaml")
)


YOUR_ACCOUNT = "relay-push@YOUR-PROJECT.iam.gserviceaccount.com"


@contextmanager
def running_recipe(launch: Launch, name: str, secret: str) -> Iterator[Relay]:
    """Run a function with the recipe `name`, its secret, and the dataset that the recipe updates."""
    cloud = Cloud().start()
    cloud.data_world.add("acme/products")
    hooks = yaml.safe_load((ROOT / f"deploy/recipes/{name}.yaml").read_text())["hooks"]
    if "secret" in hooks[name]:
        cloud.secret_manager.add_version(secret_name(hooks[name]["secret"]), secret)
    relay = launch(on=cloud, RELAY_CONFIG=f"deploy/recipes/{name}.yaml")
    yield relay
    cloud.stop()


def record(relay: Relay) -> dict[str, Any]:
    return relay.cloud.data_world.datasets["acme/products"]


def summary(relay: Relay) -> Any:
    return record(relay).get("summary")


def test_apify_run_recipe_succeeded_run_updates_both_datasets(launch: Launch) -> None:
    secret = "a long CANARY text"
    with running_recipe(launch, "apify-run", secret) as relay:
        dataset = relay.cloud.apify.add("jane", dataset_id="kVxQb3TnWkzbQMuFY")

        def send(event_type: str) -> Any:
            payload = payloads.apify_run(dataset, event_type)
            headers = {"X-Apify-Webhook-Dispatch-Id": "Vrd9x1"}
            return call(relay, "apify-run", payload, sender="apify", secret=secret, headers=headers)

        for event_type in ("ACTOR.RUN.FAILED", "TEST"):
            assert "ignored" in send(event_type).json()
        assert summary(relay) is None
        response = send("ACTOR.RUN.SUCCEEDED")
        assert response.status_code == 200, response.text
        assert response.headers["Relay-Delivery"] == "Vrd9x1"
        named = relay.cloud.apify.datasets[dataset]
        assert (named["name"], named["generalAccess"]) == ("products-2026-11-22-0829", "ANYONE_WITH_ID_CAN_READ")
        assert summary(relay) == (
            "Scraped on 2026-11-22 by run\n"
            "[kgrdsR4vbzWZUeePf](https://console.apify.com/actors/runs/kgrdsR4vbzWZUeePf).\n"
        )
        assert record(relay)["files"] == [
            {
                "name": "products.csv",
                "labels": ["raw data"],
                "source": {"url": f"https://api.apify.com/v2/datasets/{dataset}/items?format=csv"},
            }
        ]


def test_github_workflow_recipe_successful_workflow_updates_the_summary(launch: Launch) -> None:
    with running_recipe(launch, "github-workflow", "It's a CANARY") as relay:

        def send(payload: Any, event: str = "workflow_run") -> Any:
            headers = {"X-GitHub-Event": event, "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}
            return call(relay, "github-workflow", payload, sender="github", secret="It's a CANARY", headers=headers)

        ping = {
            "zen": "Half measures are as bad as nothing at all.",
            "hook_id": 3,
            "hook": {"events": ["workflow_run"]},
        }
        assert "test message" in send(ping, "ping").json()["ignored"]
        for ignored in (
            {"conclusion": "failure"},
            {"conclusion": None, "status": "in_progress"},
            {"head_branch": "feature"},
            {"event": "pull_request"},
        ):
            assert "ignored" in send(payloads.github_workflow(**ignored)).json()
        assert "ignored" in send({"ref": "refs/heads/main", "commits": []}, "push").json()
        assert summary(relay) is None
        response = send(payloads.github_workflow())
        assert response.status_code == 200, response.text
        assert response.headers["Relay-Delivery"] == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
        assert summary(relay) == (
            "Built by [Build #214](https://github.com/acme/products/actions/runs/19520441207)\n"
            "on 2026-11-22, from commit 9c1d3be\nof acme/products.\n"
        )


@pytest.mark.parametrize("secret", ["whsec_Q0FOQVJZLXNpZ25pbmctdG9rZW4=", "a CANARY token"])
def test_gitlab_pipeline_recipe_successful_pipeline_updates_the_summary(launch: Launch, secret: str) -> None:
    with running_recipe(launch, "gitlab-pipeline", secret) as relay:

        def send(payload: Any) -> Any:
            headers = {"X-Gitlab-Event": "Pipeline Hook", "Idempotency-Key": "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"}
            return call(relay, "gitlab-pipeline", payload, sender="gitlab", secret=secret, headers=headers)

        for ignored in (
            {"status": "running"},
            {"status": "failed"},
            {"ref": "feature"},
            {"ref": "main", "tag": True},
            {"source": "merge_request_event"},
        ):
            assert "ignored" in send(payloads.gitlab_pipeline(**ignored)).json()
        assert "ignored" in send({"object_kind": "build", "build_status": "success"}).json()
        assert summary(relay) is None
        response = send(payloads.gitlab_pipeline())
        assert response.status_code == 200, response.text
        assert response.headers["Relay-Delivery"] == "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"
        assert summary(relay) == (
            "Built by [pipeline 90210](https://gitlab.com/acme/products/-/pipelines/90210)\n"
            "of acme/products\non 2026-11-22: Größere Preise 💶\n"
        )


def test_dbt_job_recipe_successful_job_updates_the_record(launch: Launch) -> None:
    with running_recipe(launch, "dbt-job", "dbt's CANARY") as relay:

        def send(payload: Any) -> Any:
            return call(relay, "dbt-job", payload, sender="dbt", secret="dbt's CANARY")

        for ignored in (
            {"runStatusCode": 20, "runStatus": "Errored"},
            {"runStatusCode": 30},
            {"runStatusCode": "10"},
        ):
            assert "ignored" in send(payloads.dbt_run(**ignored)).json()
        assert "ignored" in send({**payloads.dbt_run(), "eventType": "job.run.started"}).json()
        assert summary(relay) is None
        response = send(payloads.dbt_run())
        assert response.status_code == 200, response.text
        assert response.headers["Relay-Delivery"] == "wev_30XkPq"
        assert record(relay)["description"] == "Built by dbt on 2026-11-22"
        assert summary(relay) == 'Built by the dbt job "Products, daily", run 560031,\nin Production on 2026-11-22.\n'


def test_airbyte_sync_recipe_successful_sync_updates_the_summary(launch: Launch) -> None:
    with running_recipe(launch, "airbyte-sync", "CANARYletters4ndDigits") as relay:

        def send(payload: Any) -> Any:
            return call(relay, "airbyte-sync", payload, sender="airbyte", secret="CANARYletters4ndDigits")

        for ignored in (payloads.airbyte_sync(success=False, errorMessage="No."), {"text": "Hello from Airbyte."}):
            assert "ignored" in send(ignored).json()
        assert summary(relay) is None
        response = send(payloads.airbyte_sync())
        assert response.status_code == 200, response.text
        assert response.headers["Relay-Delivery"] == "c0de:31337:true"
        assert summary(relay) == (
            "12480 records (1.0 MB) came\nfrom Shop by sync 31337,\non 2026-11-22, in 19 min 40 sec.\n"
        )


def test_bigquery_transfer_recipe_run_changes_the_summary(launch: Launch) -> None:
    with running_recipe(launch, "bigquery-transfer", "") as relay:
        token = relay.cloud.google.token(aud="https://YOUR-FUNCTION", email=YOUR_ACCOUNT)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        sample = (ROOT / "deploy/samples/google.json").read_text()
        response = relay.send(sample, path="/hooks/bigquery-transfer", headers=headers)
        assert response.status_code == 200, response.text
        assert summary(relay) == "Built by BigQuery (scheduled_query) on 2026-11-22,\nin the dataset shop.\n"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_without_the_credential_responds_401(path: Path, launch: Launch) -> None:
    with running_recipe(launch, path.stem, "the right CANARY") as relay:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-Hub-Signature-256": "sha256=00"}):
            assert_problem(relay.send(b"{}", path=f"/hooks/{path.stem}", headers=headers), 401, "unauthenticated")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_has_tests_of_its_hook(path: Path) -> None:
    """`check` runs these tests: see tests/integration/test_cli_tests.py."""
    tests = yaml.safe_load(path.with_suffix(".tests.yaml").read_text())["tests"]
    assert {test["hook"] for test in tests} == {path.stem}
    assert any("updates" in test["expect"] for test in tests)
    assert any(test["expect"] == "ignored" for test in tests)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_comment_names_the_url_and_the_secret(path: Path) -> None:
    text = path.read_text()
    hooks = yaml.safe_load(text)["hooks"]
    assert list(hooks) == [path.stem]
    comment = text.partition("\nhooks:")[0]
    assert f"https://YOUR-FUNCTION/hooks/{path.stem}" in comment
    for name in ("secret", "audience", "account"):
        assert hooks[path.stem].get(name, "") in comment


def test_shipped_relay_yaml_has_no_hooks() -> None:
    assert yaml.safe_load((ROOT / "deploy/relay.yaml").read_text()) == {"hooks": None}
