"""Tests of deploy/gcp/terraform with the real terraform and the schema of the Google provider."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.cloud import ROOT
from handlers.hooks import ConfigError
from handlers.hooks.config import Positions
from schemas.problem import RelayError
from schemas.settings import SettingsError
from tests.support.markdown import blocks_named
from tests.support.project import DEPLOY_README, DEPLOY_SH, RUNBOOK, settings_of_readme
from tests.support.runbook import permissions

SOURCE = ROOT / "deploy/gcp/terraform"
TERRAFORM = shutil.which("terraform")
#: A program that runs terraform with the schema of the provider, without the provider and without a network.
CHECK = Path(os.environ.get("TERRAFORM_CHECK") or ROOT.parent / "shared/tools/terraform/check")
PYTHON = next(
    (
        python
        for venv in (ROOT / ".venv", Path(sys.executable).parents[1])
        if (python := venv / "terraform/bin/python").exists()
    ),
    None,
)
#: The files that terraform leaves in a folder.
LOCAL_FILES = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars")
HAS_SCHEMA = CHECK.exists() and PYTHON is not None

pytestmark = pytest.mark.skipif(
    TERRAFORM is None, reason="terraform isn't installed: deploy/gcp/terraform is NOT tested"
)

Terraform = Callable[..., str]
Plan = Mapping[str, Any]

PROJECT = "my-project"
EVERYTHING: Mapping[str, Any] = {
    "project": PROJECT,
    "hook_secrets": ["github-webhook-secret"],
    "secret_locations": ["europe-west1"],
    "settings": {"LOG_LEVEL": "DEBUG", "RELAY_DEADLINE_SECONDS": "8"},
    "concurrency": 80,
    "min_instances": 1,
    "alert_emails": ["data-team@example.com"],
    "notification_channels": [f"projects/{PROJECT}/notificationChannels/1"],
    "github_repository": "acme/relay",
    "github_repository_id": "123456789",
    "queue": True,
}


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Return a function that runs terraform in a copy of the folder, and returns the standard output."""
    folder = tmp_path_factory.mktemp("terraform") / "copy"
    shutil.copytree(SOURCE, folder, ignore=LOCAL_FILES)
    with_schema = [str(PYTHON), str(CHECK), "--"] if HAS_SCHEMA else []
    own_variables = ("TF_VAR_", "TF_CLI_ARGS", "TF_WORKSPACE", "TF_DATA_DIR")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(own_variables)}
    # The provider needs credentials even for a plan that creates everything, which sends no request to Google.
    environ |= {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "GOOGLE_OAUTH_ACCESS_TOKEN": "none"}

    def run(*arguments: str, expected: int = 0) -> str:
        completed = subprocess.run(
            [*with_schema, str(TERRAFORM), *arguments],
            cwd=folder, env=environ, capture_output=True, text=True,
        )  # fmt: skip
        if arguments[0] == "init" and completed.returncode and not with_schema:
            pytest.skip(
                "neither the schema of the provider (TERRAFORM_CHECK) nor the provider is available: "
                "deploy/gcp/terraform is NOT tested"
            )
        assert completed.returncode == expected, completed.stdout + completed.stderr
        return completed.stdout

    run("init", "-backend=false", "-input=false")
    return run


@pytest.fixture(scope="module")
def planned(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mapping[str, Any]], Plan]:
    """Return a function that returns the plan for some variables, as JSON."""
    cache: dict[str, Plan] = {}

    def plan(variables: Mapping[str, Any]) -> Plan:
        key = json.dumps(variables)
        if key not in cache:
            folder = tmp_path_factory.mktemp("plan")
            (folder / "variables.tfvars.json").write_text(key)
            file = str(folder / "plan")
            terraform("plan", "-input=false", f"-var-file={folder}/variables.tfvars.json", f"-out={file}")
            cache[key] = json.loads(terraform("show", "-json", file))
        return cache[key]

    return plan


@pytest.fixture(scope="module")
def minimal(planned: Callable[[Mapping[str, Any]], Plan]) -> Plan:
    return planned({"project": PROJECT})


@pytest.fixture(scope="module")
def everything(planned: Callable[[Mapping[str, Any]], Plan]) -> Plan:
    return planned(EVERYTHING)


def resources(plan: Plan, kind: str = "") -> list[dict[str, Any]]:
    """Return the resources of one type, or all resources, that the plan creates."""
    planned: list[dict[str, Any]] = plan["planned_values"]["root_module"]["resources"]
    return [resource for resource in planned if resource["mode"] == "managed" and kind in ("", resource["type"])]


def grants(plan: Plan) -> set[tuple[str, str, str]]:
    """Return the role, the member and the resource of every grant in a plan. Accounts are given by their IDs."""
    return {
        (resource["values"]["role"], _member(plan, resource), _target(resource["type"], resource["values"]))
        for resource in resources(plan)
        if "_iam_" in resource["type"] and "workload_identity" not in resource["type"]
    }


def _member(plan: Plan, grant: Mapping[str, Any]) -> str:
    member: str | None = grant["values"].get("member")
    if member is None:
        # The member is known only after the pool has been created. The plan refers to the pool.
        (config,) = (
            resource
            for resource in plan["configuration"]["root_module"]["resources"]
            if (resource["type"], resource["name"]) == (grant["type"], grant["name"])
        )
        assert "google_iam_workload_identity_pool.github[0].name" in config["expressions"]["member"]["references"]
        (pool,) = resources(plan, "google_iam_workload_identity_pool")
        return f"workload identity pool {pool['values']['workload_identity_pool_id']}"
    return _short(member.removeprefix("serviceAccount:"))


def _target(kind: str, values: Mapping[str, Any]) -> str:
    match kind:
        case "google_project_iam_member":
            return "project"
        case "google_secret_manager_secret_iam_member":
            return f"secret {values['secret_id']}"
        case "google_cloud_run_v2_service_iam_member":
            return f"service {values['name']}"
        case "google_service_account_iam_member":
            return f"account {_short(values['service_account_id'].rpartition('/')[2])}"
        case "google_pubsub_topic_iam_member":
            return f"topic {values['topic']}"
    raise AssertionError(f"{kind} is unknown here, or revokes the access of other members")


def _short(email: str) -> str:
    return email.removesuffix(f"@{PROJECT}.iam.gserviceaccount.com")


def test_terraform_code_is_formatted(terraform: Terraform) -> None:
    assert terraform("fmt", "-check", "-recursive") == ""


def test_terraform_code_is_valid(terraform: Terraform) -> None:
    assert json.loads(terraform("validate", "-json"))["diagnostics"] == []


def test_terraform_own_tests_pass(terraform: Terraform) -> None:
    output = terraform("test", "-no-color")
    assert re.search(r"^Success! [4-9]\d passed, 0 failed\.$", output, re.MULTILINE), output


METRICS = {"deliveries", "latency", "attempts", "token_trouble", "busy"}
ALERTS = {"failures", "latency", "token_trouble", "faults", "busy"}
TOPICS = {"apify", "data-world", "dead-letters"}
APIS = {"artifactregistry", "cloudbuild", "cloudresourcemanager", "iam", "logging", "monitoring", "run",
        "secretmanager", "storage"}  # fmt: skip


def addresses(apis: set[str], secrets: set[str], more: set[str]) -> set[str]:
    return {
        "google_cloud_run_v2_service.relay",
        "google_cloud_run_v2_service_iam_member.public",
        "google_service_account.runtime",
        "google_service_account.build",
        "google_project_iam_member.build",
        "google_logging_project_exclusion.queries",
        "google_monitoring_dashboard.relay",
        "terraform_data.metrics_are_known",
        *(f"google_logging_metric.{name}" for name in METRICS),
        *(f"google_monitoring_alert_policy.{name}" for name in ALERTS),
        *(f'google_project_service.api["{name}.googleapis.com"]' for name in apis),
        *(f'google_secret_manager_secret.relay["{name}"]' for name in secrets),
        *(f'google_secret_manager_secret_iam_member.runtime["{name}"]' for name in secrets),
        *more,
    }


def test_plan_creates_exactly_these_resources(minimal: Plan, everything: Plan) -> None:
    secrets = {"apify-token", "data-world-token", "relay-secret"}
    assert {resource["address"] for resource in resources(minimal)} == addresses(APIS, secrets, set())
    assert {resource["address"] for resource in resources(everything)} == addresses(
        APIS | {"iamcredentials", "sts", "pubsub"},
        secrets | {"github-webhook-secret"},
        {
            'google_monitoring_notification_channel.email["data-team@example.com"]',
            "google_iam_workload_identity_pool.github[0]",
            "google_iam_workload_identity_pool_provider.github[0]",
            "google_service_account.github[0]",
            'google_project_iam_member.github["roles/run.sourceDeveloper"]',
            'google_project_iam_member.github["roles/serviceusage.serviceUsageConsumer"]',
            'google_service_account_iam_member.github["runtime"]',
            'google_service_account_iam_member.github["build"]',
            "google_service_account_iam_member.github_workflow[0]",
            *(f'google_pubsub_topic.queue["{topic}"]' for topic in TOPICS),
            *(f'google_pubsub_topic_iam_member.runtime["{topic}"]' for topic in TOPICS),
            'google_pubsub_subscription.deliveries["apify"]',
            'google_pubsub_subscription.deliveries["data-world"]',
            "google_pubsub_subscription.dead_letters[0]",
            "google_service_account.push[0]",
            "google_cloud_run_v2_service_iam_member.push[0]",
            "google_monitoring_alert_policy.waiting_updates[0]",
            "google_monitoring_alert_policy.lost_updates[0]",
        },
    )


def test_plan_grants_the_permissions_of_the_runbook(minimal: Plan, everything: Plan) -> None:
    least = {
        ("roles/run.invoker", "allUsers", "service dataset-relay"),
        ("roles/run.builder", "dataset-relay-build", "project"),
        ("roles/secretmanager.secretAccessor", "dataset-relay", "secret apify-token"),
        ("roles/secretmanager.secretAccessor", "dataset-relay", "secret data-world-token"),
        ("roles/secretmanager.secretAccessor", "dataset-relay", "secret relay-secret"),
    }
    assert grants(minimal) == least
    assert grants(everything) == least | {
        ("roles/secretmanager.secretAccessor", "dataset-relay", "secret github-webhook-secret"),
        ("roles/run.sourceDeveloper", "dataset-relay-deploy", "project"),
        ("roles/serviceusage.serviceUsageConsumer", "dataset-relay-deploy", "project"),
        ("roles/iam.serviceAccountUser", "dataset-relay-deploy", "account dataset-relay"),
        ("roles/iam.serviceAccountUser", "dataset-relay-deploy", "account dataset-relay-build"),
        (
            "roles/iam.workloadIdentityUser",
            "workload identity pool dataset-relay",
            "account dataset-relay-deploy",
        ),
        ("roles/run.invoker", "dataset-relay-push", "service dataset-relay"),
        *(("roles/pubsub.publisher", "dataset-relay", f"topic dataset-relay-{topic}") for topic in TOPICS),
    }
    # The permissions that deploy.sh grants are in test_deploy.py.
    assert permissions() == grants(everything)
    for role, _member, _on in grants(everything):
        assert not re.fullmatch(r"roles/(owner|editor|viewer|.*admin)", role, re.IGNORECASE)


def test_plan_github_token_needs_the_environment_of_the_workflow(everything: Plan) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())
    environment = workflow["jobs"]["deploy"]["environment"]
    (provider,) = (
        resource["values"] for resource in resources(everything, "google_iam_workload_identity_pool_provider")
    )
    assert provider["attribute_condition"].split(" && ") == [
        "assertion.repository_id == '123456789'",
        "assertion.ref == 'refs/heads/main'",
        f"assertion.environment == '{environment}'",
    ]
    assert provider["attribute_mapping"]["attribute.environment"] == "assertion.environment"


def test_plan_contains_no_secret(everything: Plan) -> None:
    assert not [resource for resource in resources(everything) if re.search("version|key$", resource["type"])]
    text = json.dumps({name: value for name, value in everything.items() if name != "timestamp"})
    assert not re.findall(r"apify_api_|whsec_|eyJ[\w-]+\.|gh[pousr]_|github_pat_|glpat-|\b[0-9a-fA-F]{32,}\b", text)


@pytest.mark.parametrize("queue", ["false", "true"])
def test_apply_after_a_deployment_and_a_rollback_changes_nothing(
    terraform: Terraform, tmp_path: Path, queue: str
) -> None:
    if not HAS_SCHEMA:
        pytest.skip("TERRAFORM_CHECK isn't set: an apply after a deployment of code is NOT tested")
    state = tmp_path / "terraform.tfstate"
    common = ("-input=false", "-no-color", f"-state={state}", f"-var=project={PROJECT}", f"-var=queue={queue}",
              "-var=metric_wait_seconds=0")  # fmt: skip
    terraform("apply", "-auto-approve", *common)
    assert "No changes" in terraform("plan", "-detailed-exitcode", *common)
    # Change the state as `gcloud run deploy` and a rollback would.
    content = json.loads(state.read_text())
    (service,) = (entry for entry in content["resources"] if entry["type"] == "google_cloud_run_v2_service")
    attributes = service["instances"][0]["attributes"]
    (template,) = attributes["template"]
    (container,) = template["containers"]
    container |= {"image": "europe-west1-docker.pkg.dev/p/cloud-run-source-deploy/relay@sha256:1", "name": "relay-1"}
    container |= {"base_image_uri": "europe-west1-docker.pkg.dev/serverless-runtimes/google-22/runtimes/python313"}
    template |= {"revision": "dataset-relay-00002-abc", "labels": {"client.knative.dev/nonce": "x"}}
    template |= {"annotations": {"a": "b"}}
    attributes |= {"client": "gcloud", "client_version": "528.0.0"}
    attributes["build_config"] = [
        {"function_target": "relay", "source_location": "gs://b/s.zip"} | dict.fromkeys(
            ("base_image", "enable_automatic_updates", "environment_variables", "image_uri", "name", "service_account",
             "worker_pool")
        )
    ]  # fmt: skip
    attributes["traffic"] = [{"percent": 100, "revision": "dataset-relay-00001-abc", "tag": None, "type": "x"}]
    content["serial"] += 1
    state.write_text(json.dumps(content))
    assert "No changes" in terraform("plan", "-detailed-exitcode", *common)
    # Terraform still corrects its own settings.
    template["timeout"] = "300s"
    content["serial"] += 1
    state.write_text(json.dumps(content))
    assert "300s" in terraform("plan", "-detailed-exitcode", *common, expected=2)


def test_filters_use_fields_of_the_log(everything: Plan) -> None:
    text = json.dumps([resource["values"] for resource in resources(everything)])
    source = (ROOT / "handlers/inbound/request_log.py").read_text()
    fields = set(re.findall(r'^ +"(\w+)":', source, re.MULTILINE))
    used = set(re.findall(r"jsonPayload\.(\w+)", text))
    assert used >= {"outcome", "sender", "provider", "hook", "problem", "duration_ms", "attempts", "dry_run"}
    # Cloud Logging moves httpRequest from the payload to the entry.
    assert used <= fields - {"httpRequest"}


def test_alerts_use_the_filters_of_the_runbook(everything: Plan) -> None:
    # test_runbook.py applies these filters to log lines of the function.
    text = "".join(re.findall(r"```text\n(.*?)```", RUNBOOK, re.DOTALL))
    queries = set(re.findall(r'jsonPayload\.problem=~"[^"]+"', text))
    assert len(queries) == 3
    # An unauthenticated caller can cause no alert. The brackets matter: OR binds tighter than AND.
    wanted = [f'({query} AND NOT jsonPayload.outcome="rejected")' for query in queries]
    filters = json.dumps([resource["values"] for resource in resources(everything)])
    assert not {query for query in wanted if json.dumps(query)[1:-1] not in filters}
    assert filters.count("jsonPayload.problem=~") == filters.count('AND NOT jsonPayload.outcome=\\"rejected\\"')


def test_request_log_exclusion_equals_that_of_deploy_sh(everything: Plan) -> None:
    (exclusion,) = (resource["values"] for resource in resources(everything, "google_logging_project_exclusion"))
    name, log_filter = (exclusion[key].replace("dataset-relay", "$SERVICE") for key in ("name", "filter"))
    assert f"name={name},filter={log_filter}".replace('"', '\\"') in DEPLOY_SH


def imported_addresses(block: str) -> set[str]:
    """Return the addresses that a block of the runbook imports, one by one or in a loop over names."""
    (code,) = blocks_named(RUNBOOK, block)
    loops = re.findall(r"for NAME in (.*?); do\n(.*?)^done", code, re.MULTILINE | re.DOTALL)
    lines = re.sub(r"^for NAME.*?^done", "", code, flags=re.MULTILINE | re.DOTALL).splitlines()
    lines += [
        line.replace("$NAME", name) for names, body in loops for name in names.split() for line in body.splitlines()
    ]
    matches = (re.match(r" *terraform import (\S+) ", line) for line in lines)
    return {match[1].strip('"').replace("\\", "").replace("'", "") for match in matches if match}


IMPORTED = {
    "google_secret_manager_secret", "google_service_account", "google_cloud_run_v2_service",
    "google_logging_project_exclusion", "google_pubsub_topic", "google_pubsub_subscription",
}  # fmt: skip


def test_runbook_imports_every_resource_that_deploy_sh_creates(
    minimal: Plan, planned: Callable[[Mapping[str, Any]], Plan]
) -> None:
    without_queue, with_queue = (
        {resource["address"] for resource in resources(plan) if resource["type"] in IMPORTED}
        for plan in (minimal, planned({"project": PROJECT, "queue": True}))
    )
    assert imported_addresses("import") == without_queue
    assert imported_addresses("import of the queue") == with_queue - without_queue


def test_deploy_readme_terraform_commands_succeed(tmp_path: Path) -> None:
    if not HAS_SCHEMA:
        pytest.skip("TERRAFORM_CHECK isn't set: the commands of deploy/README.md for Terraform are NOT tested")
    (script,) = blocks_named(DEPLOY_README, "terraform")
    folder = tmp_path / "deploy/gcp/terraform"
    shutil.copytree(SOURCE, folder, ignore=LOCAL_FILES)
    print_call = 'echo "ran $(basename "$0") $*"'
    programs = {
        tmp_path / "bin/terraform": f'exec "{PYTHON}" "{CHECK}" -- "{TERRAFORM}" "$@"',
        tmp_path / "bin/gcloud": print_call,
        tmp_path / "deploy/gcp/deploy.sh": print_call,
    }
    (tmp_path / "bin").mkdir()
    for path, code in programs.items():
        path.write_text(f"#!/bin/sh\n{code}\n")
        path.chmod(0o755)
    completed = subprocess.run(
        ["bash", "-e", "-c", script],
        env={
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "TF_CLI_ARGS_init": "-backend=false",
            "TF_CLI_ARGS_apply": "-auto-approve",
            "TF_VAR_metric_wait_seconds": "0",
        },
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "Apply complete!" in completed.stdout
    assert "gcloud secrets versions add 'relay-secret' --project 'my-project' --data-file=-" in completed.stdout
    assert completed.stdout.endswith("ran deploy.sh --code-only\n")


def test_filters_use_existing_problems_and_outcomes(everything: Plan) -> None:
    filters = [resource["values"]["filter"] for resource in resources(everything, "google_logging_metric")]
    filters += [
        condition["filter"]
        for resource in resources(everything, "google_monitoring_alert_policy")
        for conditions in resource["values"]["conditions"]
        for condition in conditions["condition_matched_log"]
    ]
    pattern = r'jsonPayload\.problem=~"\(\^\|\[\+\]\)\(([a-z|-]+)\)\(\[\+\]\|\$\)"'
    problems = [set(match[1].split("|")) for text in filters if (match := re.search(pattern, text))]
    assert sum("jsonPayload.problem" in text for text in filters) == len(problems) == 4
    secrets = {"upstream-denied", "secret-unusable", "secret-unreachable"}
    assert sorted(problems, key=sorted) == sorted([secrets, secrets, {"internal-error"}, {"busy"}], key=sorted)
    assert set.union(*problems) <= {error.name for error in RelayError.__subclasses__()}
    values = json.dumps([resource["values"] for resource in resources(everything)])
    values = values.replace('\\\\\\"', '"').replace('\\"', '"')
    outcomes = {
        outcome
        for value in re.findall(r'outcome=(?:one_of)?(\("[^)]*"\)|"\w+")', values)
        for outcome in re.findall(r'"(\w+)"', value)
    }
    assert outcomes == {"delivered", "failed", "rejected", "queued", "lost", "parked"}
    source = "".join(path.read_text() for path in (ROOT / "handlers").rglob("*.py"))
    assert all(f'"{outcome}"' in source for outcome in outcomes)
    # The filters exclude the updates from the queue by their sender.
    assert set(re.findall(r'sender!?="(\w+)"', values)) == {"queue"}
    assert 'log.sender = "queue"' in source


def test_alert_filter_matches_the_message_of_a_failed_start(everything: Plan) -> None:
    alerts = resources(everything, "google_monitoring_alert_policy")
    (alert,) = (alert for alert in alerts if alert["name"] == "faults")
    (phrase,) = re.findall(r'textPayload:"([^"]+)"', json.dumps(alert["values"]).replace('\\"', '"'))
    for error in (SettingsError({"THREADS": ["x"]}), ConfigError(Positions("relay.yaml"), {"hooks": ["x"]})):
        assert str(error).splitlines()[0].startswith(phrase)


def test_dashboard_and_alerts_use_existing_metrics(everything: Plan) -> None:
    metrics = {metric["values"]["name"]: metric["values"] for metric in resources(everything, "google_logging_metric")}
    (dashboard,) = resources(everything, "google_monitoring_dashboard")
    page = json.loads(dashboard["values"]["dashboard_json"])
    time_series = [
        data["timeSeriesQuery"]["timeSeriesFilter"]
        for tile in page["mosaicLayout"]["tiles"]
        for data in tile["widget"].get("xyChart", {}).get("dataSets", [])
    ]
    filters = [(series["filter"], series["aggregation"]["groupByFields"]) for series in time_series]
    filters += [
        (threshold[key], [])
        for resource in resources(everything, "google_monitoring_alert_policy")
        for condition in resource["values"]["conditions"]
        for threshold in condition["condition_threshold"]
        for key in ("filter", "denominator_filter")
        if threshold[key]
    ]
    assert len(filters) > 15
    used = set()
    subscriptions = {item["values"]["name"] for item in resources(everything, "google_pubsub_subscription")}
    for text, group_by in filters:
        if match := re.search(r'metric\.type="logging\.googleapis\.com/user/([^"]+)"', text):
            used.add(match[1])
            labels = {label["key"] for label in metrics[match[1]]["metric_descriptor"][0]["labels"]}
            assert {field.removeprefix("metric.label.") for field in group_by} <= labels
            assert set(re.findall(r"metric\.labels\.(\w+)", text)) <= labels
        elif 'resource.type="pubsub_subscription"' in text:
            assert 'metric.type="pubsub.googleapis.com/subscription/oldest_unacked_message_age"' in text
            (names,) = re.findall(r"subscription_id=one_of\((.*?)\)", text)
            assert set(re.findall(r'"([^"]+)"', names)) == subscriptions - {"dataset-relay-dead-letters"}
        else:
            assert 'metric.type="run.googleapis.com/' in text
            assert 'resource.labels.service_name="dataset-relay"' in text
    assert used == set(metrics)
    assert {name.rpartition("/")[2].replace("-", "_") for name in metrics} == METRICS


def test_variables_every_validation_has_a_test_that_fails() -> None:
    failures = re.findall(r"var\.(\w+)", " ".join(
        re.findall(r"expect_failures = \[(.*?)\]", (SOURCE / "tests/variables.tftest.hcl").read_text(), re.DOTALL)
    ))  # fmt: skip
    variables = re.findall(
        r'^variable "(\w+)" \{\n(.*?)^\}', (SOURCE / "variables.tf").read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(variables) > 25
    for name, block in variables:
        assert "  description" in block
        validations = block.count("validation {")
        assert validations or "= bool" in block, name
        assert failures.count(name) >= validations, name


def test_settings_variable_takes_the_settings_of_the_readme() -> None:
    names = settings_of_readme()
    (listed,) = re.findall(
        r"setsubtract\(keys\(var\.settings\), \[(.*?)\]", (SOURCE / "variables.tf").read_text(), re.DOTALL
    )
    settable = set(re.findall(r'"(\w+)"', listed))
    assert names - settable == {
        # These settings are separate Terraform variables.
        "APIFY_TOKEN", "DATA_WORLD_TOKEN", "RELAY_SECRET", "GOOGLE_CLOUD_PROJECT", "THREADS",
        # Terraform derives WORKERS from the CPUs. The other two settings don't work on Cloud Run.
        "WORKERS", "RELAY_ALLOW_UNAUTHENTICATED", "SECRET_MANAGER_EMULATOR_HOST",
        # Terraform derives these settings from `queue` and from `delivery_deadline_seconds`.
        "APIFY_TOPIC", "DATA_WORLD_TOPIC", "RELAY_DEAD_LETTER_TOPIC", "RELAY_PUSH_AUDIENCE", "RELAY_PUSH_ACCOUNT",
        "RELAY_REGION", "RELAY_DELIVERY_DEADLINE_SECONDS",
        # These settings are for local runs and for tests.
        "RELAY_PUSH_CERTS_URL", "PUBSUB_EMULATOR_HOST",
    }  # fmt: skip
    assert settable <= names


def test_example_variables_give_a_plan(terraform: Terraform, tmp_path: Path) -> None:
    text = re.sub(r"^# (\w+ +=)", r"\1", (SOURCE / "terraform.tfvars.example").read_text(), flags=re.MULTILINE)
    (tmp_path / "example.tfvars").write_text(text)
    output = terraform("plan", "-input=false", "-no-color", f"-var-file={tmp_path}/example.tfvars")
    assert 'google_secret_manager_secret.relay["janes-apify-token"]' in output
    assert 'google_secret_manager_secret.relay["data-world-token"]' not in output


def test_secret_commands_add_the_value_without_showing_it(minimal: Plan) -> None:
    commands = minimal["planned_values"]["outputs"]["secret_commands"]["value"]
    assert set(commands) == {"apify-token", "data-world-token", "relay-secret"}
    value = r" CANARY *  \"up' \n$HOME "
    for name, command in commands.items():
        # `terraform output` shows the command without escapes, so that it can be pasted.
        assert json.dumps(command) == f'"{command}"'
        completed = subprocess.run(
            ["bash", "-c", f'gcloud() {{ printf "[%s]" "$*"; cat; }}; {command}; echo; echo "left: ${{VALUE-}}"'],
            input=f"{value}\n", capture_output=True, text=True, check=True,
        )  # fmt: skip
        call = f"[secrets versions add {name} --project {PROJECT} --data-file=-]"
        assert completed.stdout == f"{name}: {call}{value}\nleft: \n"
