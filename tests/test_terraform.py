"""deploy/gcp/terraform: what real terraform makes of it, against the Google provider's schema."""

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

from deploy.local.cloud import ROOT
from schemas.config import ConfigError
from schemas.problem import RelayError
from schemas.settings import SettingsError
from tests.test_project import DEPLOY_SH
from tests.test_readme import blocks
from tests.test_runbook import RUNBOOK, permissions

SOURCE = ROOT / "deploy/gcp/terraform"
TERRAFORM = shutil.which("terraform")
#: Runs terraform against the schema of the provider, without the provider or a network.
CHECK = Path(os.environ.get("TERRAFORM_CHECK") or ROOT.parent / "shared/tools/terraform/check")
PYTHON = next(
    (
        python
        for venv in (ROOT / ".venv", Path(sys.executable).parents[1])
        if (python := venv / "terraform/bin/python").exists()
    ),
    None,
)
#: What Terraform leaves in a folder that is used.
LEFT_BEHIND = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars")
HAS_SCHEMA = CHECK.exists() and PYTHON is not None

pytestmark = pytest.mark.skipif(
    TERRAFORM is None, reason="LOUD: terraform is not on this machine; deploy/gcp/terraform is NOT checked"
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
}


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Runs terraform in a copy of the folder, and gives what it says on stdout."""
    folder = tmp_path_factory.mktemp("terraform") / "copy"
    shutil.copytree(SOURCE, folder, ignore=LEFT_BEHIND)
    with_schema = [str(PYTHON), str(CHECK), "--"] if HAS_SCHEMA else []
    # A plan of what isn't there yet asks Google nothing; the provider wants credentials all the same.
    own = ("TF_VAR_", "TF_CLI_ARGS", "TF_WORKSPACE", "TF_DATA_DIR")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environ |= {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "GOOGLE_OAUTH_ACCESS_TOKEN": "none"}

    def run(*arguments: str, expected: int = 0) -> str:
        done = subprocess.run(
            [*with_schema, str(TERRAFORM), *arguments],
            cwd=folder, env=environ, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if arguments[0] == "init" and done.returncode and not with_schema:
            pytest.skip(
                "LOUD: the provider's schema isn't there (TERRAFORM_CHECK), nor can the provider itself be had; "
                "deploy/gcp/terraform is NOT checked"
            )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout

    run("init", "-backend=false", "-input=false")
    return run


@pytest.fixture(scope="module")
def planned(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mapping[str, Any]], Plan]:
    """Gives the plan, as JSON, of what certain variables make."""
    known: dict[str, Plan] = {}

    def plan(variables: Mapping[str, Any]) -> Plan:
        key = json.dumps(variables)
        if key not in known:
            folder = tmp_path_factory.mktemp("plan")
            (folder / "variables.tfvars.json").write_text(key)
            file = str(folder / "plan")
            terraform("plan", "-input=false", f"-var-file={folder}/variables.tfvars.json", f"-out={file}")
            known[key] = json.loads(terraform("show", "-json", file))
        return known[key]

    return plan


@pytest.fixture(scope="module")
def minimal(planned: Callable[[Mapping[str, Any]], Plan]) -> Plan:
    return planned({"project": PROJECT})


@pytest.fixture(scope="module")
def everything(planned: Callable[[Mapping[str, Any]], Plan]) -> Plan:
    return planned(EVERYTHING)


def resources(plan: Plan, kind: str = "") -> list[dict[str, Any]]:
    """What the plan would make; of one type, or all."""
    found: list[dict[str, Any]] = plan["planned_values"]["root_module"]["resources"]
    return [each for each in found if kind in ("", each["type"])]


def grants(plan: Plan) -> set[tuple[str, str, str]]:
    """Every grant of a plan: the role, who gets it, on what. Accounts of the project go by their ids."""
    return {
        (each["values"]["role"], _member(plan, each), _on(each["type"], each["values"]))
        for each in resources(plan)
        if "_iam_" in each["type"] and "workload_identity" not in each["type"]
    }


def _member(plan: Plan, grant: Mapping[str, Any]) -> str:
    member: str | None = grant["values"].get("member")
    if member is None:
        # Known only when the pool is there; until then, of which pool it is.
        (config,) = (
            each
            for each in plan["configuration"]["root_module"]["resources"]
            if (each["type"], each["name"]) == (grant["type"], grant["name"])
        )
        assert "google_iam_workload_identity_pool.github[0].name" in config["expressions"]["member"]["references"]
        (pool,) = resources(plan, "google_iam_workload_identity_pool")
        return f"workload identity pool {pool['values']['workload_identity_pool_id']}"
    return _short(member.removeprefix("serviceAccount:"))


def _on(kind: str, values: Mapping[str, Any]) -> str:
    match kind:
        case "google_project_iam_member":
            return "project"
        case "google_secret_manager_secret_iam_member":
            return f"secret {values['secret_id']}"
        case "google_cloud_run_v2_service_iam_member":
            return f"service {values['name']}"
        case "google_service_account_iam_member":
            return f"account {_short(values['service_account_id'].rpartition('/')[2])}"
    raise AssertionError(f"{kind}: a kind of grant that nobody knows, or one that takes others' access away")


def _short(email: str) -> str:
    return email.removesuffix(f"@{PROJECT}.iam.gserviceaccount.com")


def test_it_is_formatted(terraform: Terraform) -> None:
    assert terraform("fmt", "-check", "-recursive") == ""


def test_it_is_valid(terraform: Terraform) -> None:
    assert json.loads(terraform("validate", "-json"))["diagnostics"] == []


def test_its_own_tests(terraform: Terraform) -> None:
    said = terraform("test", "-no-color")
    assert re.search(r"^Success! (2[6-9]|[3-9]\d) passed, 0 failed\.$", said, re.MULTILINE), said


METRICS = {"deliveries", "latency", "attempts", "token_trouble", "busy"}
ALERTS = {"failures", "latency", "token_trouble", "faults", "busy"}
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


def test_what_is_made(minimal: Plan, everything: Plan) -> None:
    secrets = {"apify-token", "data-world-token", "relay-secret"}
    assert {each["address"] for each in resources(minimal)} == addresses(APIS, secrets, set())
    assert {each["address"] for each in resources(everything)} == addresses(
        APIS | {"iamcredentials", "sts"},
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
        },
    )


def test_every_grant(minimal: Plan, everything: Plan) -> None:
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
    }
    # deploy.sh's are in tests/test_deploy.py.
    assert permissions() == grants(everything)
    for role, _member, _on in grants(everything):
        assert not re.fullmatch(r"roles/(owner|editor|viewer|.*admin)", role, re.IGNORECASE)


def test_no_secret_is_in_a_plan(everything: Plan) -> None:
    """Nor what would bring one there."""
    assert not [each for each in resources(everything) if re.search("version|key$", each["type"])]
    text = json.dumps({name: value for name, value in everything.items() if name != "timestamp"})
    assert not re.findall(r"apify_api_|whsec_|eyJ[\w-]+\.|gh[pousr]_|github_pat_|glpat-|\b[0-9a-fA-F]{32,}\b", text)


def test_what_code_deployments_and_rollbacks_did_stays(terraform: Terraform, tmp_path: Path) -> None:
    """Applied to nothing, where there is a schema to stand in for Google; then as gcloud would have left it."""
    if not HAS_SCHEMA:
        pytest.skip("LOUD: without TERRAFORM_CHECK, that an apply leaves deployed code alone is NOT checked")
    state = tmp_path / "terraform.tfstate"
    common = ("-input=false", "-no-color", f"-state={state}", f"-var=project={PROJECT}", "-var=metric_wait_seconds=0")
    terraform("apply", "-auto-approve", *common)
    said = terraform("plan", "-detailed-exitcode", *common)
    assert "No changes" in said
    content = json.loads(state.read_text())
    (service,) = (each for each in content["resources"] if each["type"] == "google_cloud_run_v2_service")
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
    # And what is Terraform's is put right.
    template["timeout"] = "300s"
    content["serial"] += 1
    state.write_text(json.dumps(content))
    assert "300s" in terraform("plan", "-detailed-exitcode", *common, expected=2)


def test_filters_look_at_what_the_log_has(everything: Plan) -> None:
    text = json.dumps([each["values"] for each in resources(everything)])
    written = set(re.findall(r'^ +"(\w+)":', (ROOT / "handlers/exchange.py").read_text(), re.MULTILINE))
    looked_at = set(re.findall(r"jsonPayload\.(\w+)", text))
    assert looked_at >= {"outcome", "provider", "hook", "problem", "duration_ms", "attempts", "dry_run"}
    # These become fields of the entry itself, and are not to be found in its payload.
    assert looked_at <= written - {"httpRequest"}


def test_what_the_runbook_asks_for_is_what_the_alerts_look_at(everything: Plan) -> None:
    """Its queries are tried on real log lines in tests/test_runbook.py."""
    text = "".join(re.findall(r"```text\n(.*?)```", RUNBOOK.read_text(), re.DOTALL))
    asked = set(re.findall(r'jsonPayload\.problem=~"[^"]+"', text))
    assert len(asked) == 3
    filters = json.dumps([each["values"] for each in resources(everything)])
    assert not {each for each in asked if json.dumps(each)[1:-1] not in filters}


def test_what_is_kept_out_of_the_request_log_is_what_deploy_sh_keeps_out(everything: Plan) -> None:
    (exclusion,) = (each["values"] for each in resources(everything, "google_logging_project_exclusion"))
    name, kept_out = (exclusion[each].replace("dataset-relay", "$SERVICE") for each in ("name", "filter"))
    assert f"name={name},filter={kept_out}".replace('"', '\\"') in DEPLOY_SH


def test_what_deploy_sh_made_can_be_taken_over(minimal: Plan) -> None:
    """Everything that can't be there twice is imported, by addresses that there are."""
    (code,) = re.findall(r"<!-- test: import -->\n```sh\n(.*?)```", RUNBOOK.read_text(), re.DOTALL)
    imported = re.findall(r"terraform import (\S+)", code)
    (names,) = re.findall(r"for NAME in (.*); do", code)
    spelt = imported[0].strip('"').replace("\\", "")
    addresses = {*imported[1:], *(spelt.replace("$NAME", name) for name in names.split())}
    kinds = ("google_secret_manager_secret", "google_service_account", "google_cloud_run_v2_service",
             "google_logging_project_exclusion")  # fmt: skip
    assert addresses == {each["address"] for each in resources(minimal) if each["type"] in kinds}


def test_the_readmes_commands(tmp_path: Path) -> None:
    """In a copy of the project; gcloud and deploy.sh only say that they ran."""
    if not HAS_SCHEMA:
        pytest.skip("LOUD: without TERRAFORM_CHECK, the README's commands for Terraform are NOT run")
    (script,) = blocks("terraform")
    folder = tmp_path / "deploy/gcp/terraform"
    shutil.copytree(SOURCE, folder, ignore=LEFT_BEHIND)
    ran = 'echo "ran $(basename "$0") $*"'
    programs = {
        tmp_path / "bin/terraform": f'exec "{PYTHON}" "{CHECK}" -- "{TERRAFORM}" "$@"',
        tmp_path / "bin/gcloud": ran,
        tmp_path / "deploy/gcp/deploy.sh": ran,
    }
    (tmp_path / "bin").mkdir()
    for path, code in programs.items():
        path.write_text(f"#!/bin/sh\n{code}\n")
        path.chmod(0o755)
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        env={
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "TF_CLI_ARGS_init": "-backend=false",
            "TF_CLI_ARGS_apply": "-auto-approve",
            "TF_VAR_metric_wait_seconds": "0",
        },
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Apply complete!" in done.stdout
    assert "gcloud secrets versions add 'relay-secret' --project 'my-project' --data-file=-" in done.stdout
    assert done.stdout.endswith("ran deploy.sh --code-only\n")


def test_filters_name_problems_and_outcomes_that_there_are(everything: Plan) -> None:
    filters = [each["values"]["filter"] for each in resources(everything, "google_logging_metric")]
    filters += [
        matched["filter"]
        for each in resources(everything, "google_monitoring_alert_policy")
        for condition in each["values"]["conditions"]
        for matched in condition["condition_matched_log"]
    ]
    named = [
        set(found[1].split("|"))
        for text in filters
        if (found := re.search(r'jsonPayload\.problem=~"\(\^\|\[\+\]\)\(([a-z|-]+)\)\(\[\+\]\|\$\)"', text))
    ]
    assert sum("jsonPayload.problem" in text for text in filters) == len(named) == 4
    tokens = {"upstream-denied", "secret-unusable", "secret-unreachable"}
    assert sorted(named, key=sorted) == sorted([tokens, tokens, {"unexpected"}, {"busy"}], key=sorted)
    assert set.union(*named) <= {each.name for each in RelayError.__subclasses__()}
    text = json.dumps([each["values"] for each in resources(everything)]).replace('\\\\\\"', '"').replace('\\"', '"')
    outcomes = {
        name
        for found in re.findall(r'outcome=(?:one_of)?(\("[^)]*"\)|"\w+")', text)
        for name in re.findall(r'"(\w+)"', found)
    }
    assert outcomes == {"delivered", "failed"}
    assert all(f'"{name}"' in (ROOT / "handlers/receive.py").read_text() for name in outcomes)


def test_a_refused_start_is_what_the_alert_looks_for(everything: Plan) -> None:
    (alert,) = (each for each in resources(everything) if each["address"] == "google_monitoring_alert_policy.faults")
    (phrase,) = re.findall(r'textPayload:"([^"]+)"', json.dumps(alert["values"]).replace('\\"', '"'))
    for error in (SettingsError({"THREADS": ["x"]}), ConfigError("relay.yaml", {"hooks": ["x"]})):
        assert str(error).splitlines()[0].startswith(phrase)


def test_dashboard_and_alerts_use_the_metrics_that_there_are(everything: Plan) -> None:
    metrics = {each["values"]["name"]: each["values"] for each in resources(everything, "google_logging_metric")}
    (dashboard,) = resources(everything, "google_monitoring_dashboard")
    page = json.loads(dashboard["values"]["dashboard_json"])
    lines = [
        data["timeSeriesQuery"]["timeSeriesFilter"]
        for tile in page["mosaicLayout"]["tiles"]
        for data in tile["widget"].get("xyChart", {}).get("dataSets", [])
    ]
    used = [(line["filter"], line["aggregation"]["groupByFields"]) for line in lines]
    used += [
        (threshold[key], [])
        for each in resources(everything, "google_monitoring_alert_policy")
        for condition in each["values"]["conditions"]
        for threshold in condition["condition_threshold"]
        for key in ("filter", "denominator_filter")
        if threshold[key]
    ]
    assert len(used) > 15
    seen = set()
    for text, by in used:
        if found := re.search(r'metric\.type="logging\.googleapis\.com/user/([^"]+)"', text):
            seen.add(found[1])
            labels = {label["key"] for label in metrics[found[1]]["metric_descriptor"][0]["labels"]}
            assert {each.removeprefix("metric.label.") for each in by} <= labels
            assert set(re.findall(r"metric\.labels\.(\w+)", text)) <= labels
        else:
            assert 'metric.type="run.googleapis.com/' in text
            assert 'resource.labels.service_name="dataset-relay"' in text
    assert seen == set(metrics)
    assert {name.rpartition("/")[2].replace("-", "_") for name in metrics} == METRICS


def test_every_validation_is_seen_to_refuse() -> None:
    refusals = re.findall(r"var\.(\w+)", " ".join(
        re.findall(r"expect_failures = \[(.*?)\]", (SOURCE / "tests/variables.tftest.hcl").read_text(), re.DOTALL)
    ))  # fmt: skip
    blocks = re.findall(
        r'^variable "(\w+)" \{\n(.*?)^\}', (SOURCE / "variables.tf").read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) > 25
    for name, block in blocks:
        assert "  description" in block
        validations = block.count("validation {")
        assert validations or "= bool" in block, name
        assert refusals.count(name) >= validations, name


def test_settings_are_the_readmes() -> None:
    table = (ROOT / "README.md").read_text().split("## Settings")[1].split("\n## ")[0]
    names = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    (listed,) = re.findall(
        r"setsubtract\(keys\(var\.settings\), \[(.*?)\]", (SOURCE / "variables.tf").read_text(), re.DOTALL
    )
    settable = set(re.findall(r'"(\w+)"', listed))
    assert names - settable == {
        # Variables of their own.
        "APIFY_TOKEN", "DATA_WORLD_TOKEN", "RELAY_SECRET", "GOOGLE_CLOUD_PROJECT", "THREADS",
        # Not with THREADS as the concurrency; not on Cloud Run.
        "WORKERS", "RELAY_ALLOW_UNAUTHENTICATED", "SECRET_MANAGER_EMULATOR_HOST",
    }  # fmt: skip
    assert settable <= names


def test_the_example_can_be_used(terraform: Terraform, tmp_path: Path) -> None:
    text = re.sub(r"^# (\w+ +=)", r"\1", (SOURCE / "terraform.tfvars.example").read_text(), flags=re.MULTILINE)
    (tmp_path / "example.tfvars").write_text(text)
    said = terraform("plan", "-input=false", "-no-color", f"-var-file={tmp_path}/example.tfvars")
    assert 'google_secret_manager_secret.relay["janes-apify-token"]' in said
    assert 'google_secret_manager_secret.relay["data-world-token"]' not in said


def test_commands_that_add_values_tell_nobody(minimal: Plan) -> None:
    commands = minimal["planned_values"]["outputs"]["secret_commands"]["value"]
    assert set(commands) == {"apify-token", "data-world-token", "relay-secret"}
    value = r" made *  \"up' \n$HOME "
    for name, command in commands.items():
        # As `terraform output` shows it, it can be pasted.
        assert json.dumps(command) == f'"{command}"'
        done = subprocess.run(
            ["bash", "-c", f'gcloud() {{ printf "[%s]" "$*"; cat; }}; {command}; echo; echo "left: ${{VALUE-}}"'],
            input=f"{value}\n", capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        assert (
            done.stdout == f"{name}: [secrets versions add {name} --project {PROJECT} --data-file=-]{value}\nleft: \n"
        )
