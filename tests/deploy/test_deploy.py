"""Tests of deploy.sh with the real gcloud and a local server in place of Google, and of the files that it uploads."""

import io
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cloud import ROOT, Cloud, Function
from tests.support.canary import RECORDER, secret
from tests.support.fake_google_cloud import NUMBER, PROJECT, Call, FakeGoogleCloud
from tests.support.gcloud import DEPLOY_SH_PATH, SKIP_REASON, environment, run_deploy_sh, shell_command
from tests.support.project import DEPLOYED
from tests.support.relay import Relay, stop_relay
from tests.support.runbook import permissions
from tests.support.visible_arguments import SHELLS, record

needs_gcloud = pytest.mark.skipif(bool(SKIP_REASON), reason=SKIP_REASON)

BIN = Path(sys.executable).parent
RUNTIME_ACCOUNT = f"dataset-relay@{PROJECT}.iam.gserviceaccount.com"
PUSH_ACCOUNT = f"dataset-relay-push@{PROJECT}.iam.gserviceaccount.com"
BUILD_ACCOUNT = f"dataset-relay-build@{PROJECT}.iam.gserviceaccount.com"


@dataclass
class Run:
    """A run of deploy.sh: its exit code, its output, and the requests of gcloud."""

    code: int
    output: str
    calls: list[Call]

    @property
    def changes(self) -> list[Call]:
        return [call for call in self.calls if call.is_change]

    def bodies(self, path_end: str, method: str = "POST") -> list[Any]:
        """Return the bodies of the requests to the paths that end in `path_end`."""
        return [call.json() for call in self.calls if call.method == method and call.path.endswith(path_end)]


@dataclass
class Deployment:
    """A project to which deploy.sh has deployed. A running function takes the place of the deployed function."""

    cloud: FakeGoogleCloud
    relay: Relay
    folder: Path
    apify_token: str = field(default_factory=lambda: secret("apify_api_"), repr=False)
    data_world_token: str = field(default_factory=lambda: secret("dw."), repr=False)
    runs: list[Run] = field(default_factory=list, repr=False)

    def run_in_terminal(self) -> None:
        """Run deploy.sh in a terminal: type the first token that it asks for, and leave the second one out."""
        calls_before = len(self.cloud.calls)
        parent, child = pty.openpty()
        process = subprocess.Popen(
            shell_command(self.folder, f"exec {DEPLOY_SH_PATH}"),
            env=environment(self.folder, self.cloud, VALUE_RELAY_SECRET=self.relay.cloud.relay_secret),
            cwd=ROOT, stdin=child, stdout=child, stderr=child, start_new_session=True,
        )  # fmt: skip
        os.close(child)
        output, inputs = "", [f"{self.apify_token}\n", "\n"]
        while select.select([parent], [], [], 300)[0]:  # deploy.sh has hung if it prints nothing for 300 s
            try:
                output += os.read(parent, 4096).decode()
            except OSError:  # deploy.sh has ended and closed the terminal
                break
            if output.endswith("leave it out): ") and inputs:
                os.write(parent, inputs.pop(0).encode())
        os.close(parent)
        RECORDER.add("the output of deploy.sh", output)
        self.runs.append(Run(process.wait(), output, self.cloud.calls[calls_before:]))

    def run(self, *arguments: str, **variables: str) -> None:
        """Run deploy.sh without a terminal."""
        calls_before = len(self.cloud.calls)
        completed = run_deploy_sh(self.folder, self.cloud, arguments, variables)
        output = completed.stdout + completed.stderr
        self.runs.append(Run(completed.returncode, output, self.cloud.calls[calls_before:]))


@pytest.fixture(scope="module")
def deployment(relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    cloud = FakeGoogleCloud(relay.url).start()
    deployment = Deployment(cloud, relay, tmp_path_factory.mktemp("deploy"))
    deployment.run_in_terminal()
    deployment.run()
    deployment.run(
        *("--set", "DATA_WORLD_TOKEN=data-world-token", "--set", "RELAY_DEADLINE_SECONDS=20", "--concurrency", "48"),
        *("--set", "RELAY_SECRET=relay-secret,env:LOG_LEVEL", "--set", "LOG_LEVEL=INFO"),
        *("--", "--no-traffic", "--memory", "1Gi"),
        VALUE_DATA_WORLD_TOKEN=deployment.data_world_token,
    )
    deployment.run()
    deployment.run("--code-only")
    deployment.run("--queue")
    deployment.run("--queue", "--set", "RELAY_DELIVERY_DEADLINE_SECONDS=200")
    yield deployment
    cloud.stop()


def variables(service: dict[str, Any]) -> dict[str, str]:
    (container,) = service["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


@needs_gcloud
def test_deploy_sh_empty_project_creates_the_service(deployment: Deployment) -> None:
    first = deployment.runs[0]
    assert first.code == 0, first.output
    for value in (deployment.apify_token, deployment.relay.cloud.relay_secret):
        assert value not in first.output
    assert "data-world-token: left out" in first.output
    (apis,) = first.bodies("services:batchEnable")
    assert {"run.googleapis.com", "cloudbuild.googleapis.com", "secretmanager.googleapis.com"} < {*apis["serviceIds"]}
    assert [account["accountId"] for account in first.bodies("/serviceAccounts")] == [
        "dataset-relay",
        "dataset-relay-build",
    ]
    (build,) = first.bodies("builds:submit")
    assert build["buildpackBuild"] == {
        "baseImage": "python313", "enableAutomaticUpdates": True, "functionTarget": "relay"
    }  # fmt: skip
    assert build["serviceAccount"] == f"projects/{PROJECT}/serviceAccounts/{BUILD_ACCOUNT}"
    (service,) = first.bodies("/services")
    spec = service["spec"]["template"]["spec"]
    assert variables(service) == {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "THREADS": "200",
        "RELAY_SECRET": "relay-secret",
        "APIFY_TOKEN": "apify-token",
    }
    assert (spec["containerConcurrency"], spec["serviceAccountName"], spec["timeoutSeconds"]) == (
        200,
        RUNTIME_ACCOUNT,
        30,
    )
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
    assert spec["containers"][0]["startupProbe"]["httpGet"]["path"] == "/health"
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    assert annotations["run.googleapis.com/startup-cpu-boost"] == "True"
    assert annotations["autoscaling.knative.dev/maxScale"] == "10"


@needs_gcloud
def test_deploy_sh_grants_the_permissions_of_the_runbook(deployment: Deployment) -> None:
    # The permissions that Terraform grants are in test_terraform.py.
    names = {
        f"projects/{PROJECT}": "project",
        f"projects/{PROJECT}/locations/europe-west1/services/dataset-relay": "service dataset-relay",
        **{f"projects/{PROJECT}/secrets/{name}": f"secret {name}" for name in deployment.cloud.secrets},
        **{name: f"topic {name.rpartition('/')[2]}" for name in deployment.cloud.topics},
    }
    granted = {
        (role, member.removeprefix("serviceAccount:").partition("@")[0], names[on])
        for role, member, on in deployment.cloud.granted()
    }
    # The runbook's table has an example of the secret of a hook.
    hook_secret = ("roles/secretmanager.secretAccessor", "dataset-relay", "secret github-webhook-secret")
    assert granted | {hook_secret} == permissions(granted_by="both")


@needs_gcloud
def test_deploy_sh_values_of_secrets_are_sent_only_to_secret_manager(deployment: Deployment) -> None:
    assert deployment.cloud.secrets == {
        "relay-secret": [deployment.relay.cloud.relay_secret],
        "apify-token": [deployment.apify_token],
        "data-world-token": [deployment.data_world_token],
    }
    for call in deployment.cloud.calls:
        if not call.path.endswith(":addVersion"):
            assert deployment.apify_token.encode() not in call.body
        assert deployment.apify_token not in call.path + call.query


@needs_gcloud
def test_deploy_sh_excludes_urls_with_a_query_from_the_request_log(deployment: Deployment) -> None:
    (exclusion,) = deployment.cloud.sink["exclusions"]
    assert exclusion["name"] == "dataset-relay-queries"
    assert exclusion["filter"] == (
        'log_id("run.googleapis.com/requests") AND resource.type="cloud_run_revision" '
        'AND resource.labels.service_name="dataset-relay" AND httpRequest.requestUrl=~"[?]|%3[Ff]"'
    )


@needs_gcloud
def test_deploy_sh_second_run_changes_only_the_code(deployment: Deployment) -> None:
    first, second = deployment.runs[:2]
    assert second.code == 0, second.output
    created = ("/serviceAccounts", "/secrets", ":addVersion", "/storage/v1/b", "/sinks/_Default", "/services")
    assert not [call.path for call in second.changes if call.path.endswith(created)]
    assert [call.path for call in second.changes if call.method == "PUT"] == [
        f"/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services/dataset-relay"
    ]
    policies = {call.path: call.json() for call in first.changes if call.path.endswith(":setIamPolicy")}
    repeated = [call for call in second.changes if call.path.endswith(":setIamPolicy")]
    assert repeated
    for call in repeated:
        assert call.json()["policy"]["bindings"] == policies[call.path]["policy"]["bindings"]
    (before,), (after,) = first.bodies("/services"), second.bodies("/services/dataset-relay", "PUT")
    assert variables(after) == variables(before)
    assert after["spec"]["template"]["spec"]["containerConcurrency"] == 200


@needs_gcloud
def test_deploy_sh_set_changes_only_the_given_settings(deployment: Deployment) -> None:
    third = deployment.runs[2]
    assert third.code == 0, third.output
    (service,) = third.bodies("/services/dataset-relay", "PUT")
    assert variables(service) == {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "THREADS": "48",
        "LOG_LEVEL": "INFO",
        "RELAY_SECRET": "relay-secret,env:LOG_LEVEL",
        "APIFY_TOKEN": "apify-token",
        "DATA_WORLD_TOKEN": "data-world-token",
        "RELAY_DEADLINE_SECONDS": "20",
    }
    assert service["spec"]["template"]["spec"]["containerConcurrency"] == 48
    # The request body, the delivery and the response can each take up to the deadline.
    assert service["spec"]["template"]["spec"]["timeoutSeconds"] == 63
    assert "The new revision gets no requests" in third.output
    assert (
        "run services update-traffic dataset-relay --project acme-data --region europe-west1 --to-latest"
        in third.output
    )
    # The arguments behind `--` are arguments of gcloud. --no-traffic leaves the traffic with the previous revision.
    assert service["spec"]["traffic"] == [{"percent": 100, "revisionName": "dataset-relay-00002"}]


@needs_gcloud
def test_deploy_sh_code_only_changes_only_the_code(deployment: Deployment) -> None:
    before, after = (run.bodies("/services/dataset-relay", "PUT")[0] for run in deployment.runs[3:5])
    last = deployment.runs[4]
    assert last.code == 0, last.output
    assert {call.path.rpartition("/")[2] for call in last.changes} == {"o", "builds:submit", "dataset-relay"}
    assert variables(after) == variables(before)
    for name in ("containerConcurrency", "serviceAccountName", "timeoutSeconds"):
        assert after["spec"]["template"]["spec"][name] == before["spec"]["template"]["spec"][name]
    assert last.bodies("builds:submit")[0]["serviceAccount"].endswith(BUILD_ACCOUNT)


@needs_gcloud
def test_deploy_sh_queue_creates_the_subscriptions_before_the_function_publishes(deployment: Deployment) -> None:
    run = deployment.runs[5]
    assert run.code == 0, run.output
    (apis,) = run.bodies("services:batchEnable")
    assert "pubsub.googleapis.com" in apis["serviceIds"]
    topics = [f"projects/{PROJECT}/topics/dataset-relay-{name}" for name in ("apify", "data-world", "dead-letters")]
    assert list(deployment.cloud.topics) == topics
    paths = [call.path for call in run.changes]
    last_subscription = paths.index(f"/v1/projects/{PROJECT}/subscriptions/dataset-relay-dead-letters")
    deployed = paths.index(f"/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services/dataset-relay")
    assert last_subscription < deployed
    subscription = next(call.json() for call in run.changes if call.path.endswith("/subscriptions/dataset-relay-apify"))
    assert subscription["topic"] == topics[0]
    assert subscription["enableMessageOrdering"] is True
    assert subscription["ackDeadlineSeconds"] == 120
    # The default of Pub/Sub is seven days.
    assert "messageRetentionDuration" not in subscription
    assert subscription["expirationPolicy"] == {}
    assert subscription["retryPolicy"] == {"minimumBackoff": "10s", "maximumBackoff": "600s"}
    assert "deadLetterPolicy" not in subscription
    assert subscription["pushConfig"] == {
        "pushEndpoint": f"https://dataset-relay-{NUMBER}.europe-west1.run.app/deliveries",
        "oidcToken": {"serviceAccountEmail": PUSH_ACCOUNT, "audience": "dataset-relay"},
    }
    dead_letters = deployment.cloud.subscriptions[f"projects/{PROJECT}/subscriptions/dataset-relay-dead-letters"]
    assert (dead_letters["messageRetentionDuration"], "pushConfig" in dead_letters) == ("2678400s", False)


@needs_gcloud
def test_deploy_sh_queue_turns_the_queue_on(deployment: Deployment) -> None:
    (service,) = deployment.runs[5].bodies("/services/dataset-relay", "PUT")
    before = variables(deployment.runs[4].bodies("/services/dataset-relay", "PUT")[0])
    assert variables(service) == {
        **before,
        "APIFY_TOPIC": f"projects/{PROJECT}/topics/dataset-relay-apify",
        "DATA_WORLD_TOPIC": f"projects/{PROJECT}/topics/dataset-relay-data-world",
        "RELAY_DEAD_LETTER_TOPIC": f"projects/{PROJECT}/topics/dataset-relay-dead-letters",
        "RELAY_PUSH_AUDIENCE": "dataset-relay",
        "RELAY_PUSH_ACCOUNT": PUSH_ACCOUNT,
        "RELAY_REGION": "europe-west1",
    }
    assert service["spec"]["template"]["spec"]["timeoutSeconds"] == 120


@needs_gcloud
def test_deploy_sh_queue_again_updates_the_subscriptions(deployment: Deployment) -> None:
    run = deployment.runs[6]
    assert run.code == 0, run.output
    assert not [call.path for call in run.changes if "/topics/" in call.path and call.method == "PUT"]
    updates = [call.json() for call in run.changes if "/subscriptions/" in call.path and call.method == "PATCH"]
    assert {update["subscription"].get("ackDeadlineSeconds") for update in updates} == {220, None}
    (service,) = run.bodies("/services/dataset-relay", "PUT")
    assert service["spec"]["template"]["spec"]["timeoutSeconds"] == 220


@needs_gcloud
def test_deploy_sh_run_without_arguments_keeps_the_settings(deployment: Deployment) -> None:
    # One value has a comma and a colon, and the memory is an argument of gcloud.
    before, after = (run.bodies("/services/dataset-relay", "PUT")[0] for run in deployment.runs[2:4])
    assert deployment.runs[3].code == 0, deployment.runs[3].output
    assert variables(after) == variables(before)
    spec = after["spec"]["template"]["spec"]
    assert (spec["containerConcurrency"], spec["containers"][0]["resources"]["limits"]["memory"]) == (48, "1Gi")
    assert spec["timeoutSeconds"] == 63
    assert "The new revision gets no requests" in deployment.runs[3].output


@needs_gcloud
def test_deploy_sh_printed_curl_command_gets_a_dry_run(deployment: Deployment) -> None:
    output = deployment.runs[0].output.replace("\r\n", "\n")
    script = output[output.index("curl -sS") :].replace("YOUR-DATASET-ID", deployment.relay.apify_dataset())
    completed = subprocess.run(
        shell_command(deployment.folder, script),
        env=environment(deployment.folder, deployment.cloud), capture_output=True, text=True,
    )  # fmt: skip
    RECORDER.add("the output of the command", completed.stdout + completed.stderr)
    assert json.loads(completed.stdout)["request"]["body"] == {"generalAccess": "RESTRICTED"}, completed.stderr


@needs_gcloud
@pytest.mark.parametrize("shell", SHELLS)
def test_deploy_sh_printed_curl_command_shows_no_secret_to_ps(deployment: Deployment, shell: str) -> None:
    output = deployment.runs[0].output.replace("\r\n", "\n")
    relay_secret = deployment.relay.cloud.relay_secret
    gcloud = 'gcloud() { printf %s "$STORED"; }\n'
    recording = record(shell, gcloud + output[output.index("curl -sS") :], STORED=relay_secret)
    assert recording.authorizations == [f"Bearer {relay_secret}"]
    assert not [output for output in recording.outputs if relay_secret in output]


# Mistakes


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[FakeGoogleCloud]:
    cloud = FakeGoogleCloud("http://127.0.0.1:9").start()
    yield cloud
    cloud.stop()


ERRORS = {
    # gcloud adds the second and third sentences, which must not look like another error to deploy.sh.
    403: {
        "code": 403,
        "message": "Permission denied on resource. This command is authenticated as jane@example.com which is the "
        "active account specified by the [core/account] property. If --billing-project is meant, set it.",
        "status": "PERMISSION_DENIED",
    },
    404: {"code": 404, "message": "Requested entity was not found", "status": "NOT_FOUND"},
}


@needs_gcloud
@pytest.mark.parametrize(
    ("part", "status", "message"),
    [
        (f"/projects/{PROJECT}", 403, "roles/browser on the project"),
        (f"/projects/{PROJECT}", 404, f"The project {PROJECT} does not exist"),
        ("services:batchEnable", 403, "roles/serviceusage.serviceUsageAdmin on the project"),
        ("/serviceAccounts", 403, "roles/iam.serviceAccountAdmin on the project"),
    ],
)
def test_deploy_sh_missing_permission_names_the_role(
    empty: FakeGoogleCloud, tmp_path: Path, part: str, status: int, message: str
) -> None:
    empty.overrides[part] = status, {"error": ERRORS[status]}
    completed = run_deploy_sh(tmp_path, empty)
    assert completed.returncode == 1
    assert message in completed.stderr
    assert not empty.secrets
    assert not empty.service


@needs_gcloud
def test_deploy_sh_project_without_billing_fails_with_the_address_of_the_page(
    empty: FakeGoogleCloud, tmp_path: Path
) -> None:
    empty.billing = False
    completed = run_deploy_sh(tmp_path, empty)
    assert completed.returncode == 1
    assert (
        f"The project {PROJECT} has no billing account. Link one: https://console.cloud.google.com/billing/"
        in completed.stderr
    )
    assert not empty.changes()


@needs_gcloud
def test_deploy_sh_not_logged_in_fails_with_the_login_command(empty: FakeGoogleCloud, tmp_path: Path) -> None:
    completed = run_deploy_sh(tmp_path, empty, variables={"CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "false"})
    assert completed.returncode == 1
    assert "gcloud is not logged in. Run: gcloud auth login" in completed.stderr
    assert not empty.calls


@needs_gcloud
def test_deploy_sh_without_a_project_asks_for_the_option(empty: FakeGoogleCloud, tmp_path: Path) -> None:
    completed = run_deploy_sh(tmp_path, empty, variables={"CLOUDSDK_CORE_PROJECT": ""})
    assert completed.returncode == 1
    assert "No project is set. Use --project ID" in completed.stderr


@needs_gcloud
def test_deploy_sh_invalid_setting_fails_before_the_deployment(empty: FakeGoogleCloud, tmp_path: Path) -> None:
    completed = run_deploy_sh(
        tmp_path, empty, ["--set", "RELAY_DEADLINE_SECONDS=soon", "--set", "RELAY_ALLOW_UNAUTHENTICATED=true"]
    )
    assert completed.returncode == 1
    assert "RELAY_DEADLINE_SECONDS: " in completed.stderr
    assert "RELAY_ALLOW_UNAUTHENTICATED: Must not be true on Cloud Run" in completed.stderr
    assert "The function can't start with these settings." in completed.stderr
    assert {call.path.rpartition(":")[2] for call in empty.changes()} == {"batchEnable"}


@needs_gcloud
def test_deploy_sh_token_without_a_value_or_a_terminal_fails_with_the_variable(
    empty: FakeGoogleCloud, tmp_path: Path
) -> None:
    completed = run_deploy_sh(tmp_path, empty)
    assert completed.returncode == 1
    assert (
        "The secret apify-token (APIFY_TOKEN) has no value. Set VALUE_APIFY_TOKEN, or run the script"
        in completed.stderr
    )
    # deploy.sh generates the secret for POST / and doesn't print it.
    (generated,) = empty.secrets["relay-secret"]
    assert re.fullmatch(r"[0-9a-f]{48}", generated)
    assert generated not in completed.stdout + completed.stderr
    assert not empty.service


@needs_gcloud
def test_deploy_sh_code_only_without_a_service_fails(empty: FakeGoogleCloud, tmp_path: Path) -> None:
    completed = run_deploy_sh(tmp_path, empty, ["--code-only"])
    assert completed.returncode == 1
    assert "The service dataset-relay does not exist in europe-west1" in completed.stderr
    assert not empty.changes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sett", "A=b"], "Unknown option: --sett"),
        (["--project"], "--project needs a value."),
        (["--set", "RELAY_DELIVERY_DEADLINE_SECONDS=200"], "--set RELAY_DELIVERY_DEADLINE_SECONDS: add --queue"),
        (["--queue", "--code-only"], "--queue and --code-only exclude each other"),
        (["--set", "RELAY_CONFIG=my.yaml"], "--set RELAY_CONFIG: the deployment contains only deploy/relay.yaml."),
        (["--set", "threads"], "--set needs a value of the form NAME=VALUE"),
        (["--set", "THREADS=5"], "--set THREADS: use --concurrency"),
        (["--set", "LOG_LEVEL=a##b"], "the value must not contain ##"),
        (["--set", "LOG_LEVEL=a#"], "or end with #"),
        (["--service", "relay"], "--service must be 6 to 24 lowercase letters"),
        (["--service", "Dataset-Relay"], "--service must be 6 to 24 lowercase letters"),
        (["--concurrency", "many"], "--concurrency must be a number from 1 to 1000."),
        (["--concurrency", "1001"], "--concurrency must be a number from 1 to 1000."),
    ],
)
def test_deploy_sh_invalid_option_fails_with_the_rule(arguments: list[str], message: str) -> None:
    completed = subprocess.run([DEPLOY_SH_PATH, *arguments, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert completed.returncode != 0
    assert message in completed.stderr
    assert "gcloud --project" not in completed.stdout


def dry_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run deploy.sh --dry-run with a `gcloud` that leaves the file `called` behind."""
    (folder / "gcloud").write_text("#!/bin/sh\ntouch called\n")
    (folder / "gcloud").chmod(0o755)
    return subprocess.run(
        [str(ROOT / DEPLOY_SH_PATH), "--dry-run", "--project", "my-project", *arguments],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)},
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip


def test_deploy_sh_dry_run_prints_the_commands_without_calling_gcloud(tmp_path: Path) -> None:
    completed = dry_run(tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert not list(ROOT.glob("called")) + list(tmp_path.glob("called"))
    prefix = "+ gcloud --project my-project --quiet "
    commands = [line for line in completed.stdout.splitlines() if line.startswith(prefix)]
    assert sum("secrets versions add" in command for command in commands) == 3
    assert "THREADS=200##GOOGLE_CLOUD_PROJECT=my-project##RELAY_SECRET=relay-secret##" in commands[-1]
    assert "--concurrency 200" in commands[-1]


def test_deploy_sh_dry_run_invalid_setting_fails(tmp_path: Path) -> None:
    assert dry_run(tmp_path, "--set", "LOG_LEVEL=it's").returncode == 1


def test_deploy_sh_failed_test_of_a_hook_fails_with_the_difference(tmp_path: Path) -> None:
    recipe = (ROOT / "deploy/recipes/dbt-job.yaml").read_text()
    (tmp_path / "relay.yaml").write_text(recipe)
    test = "{name: a failed job, hook: dbt-job, payload: {eventType: job.run.started}, expect: {error: when}}"
    (tmp_path / "relay.tests.yaml").write_text(f"tests: [{test}]\n")
    completed = dry_run(tmp_path, "--set", f"RELAY_CONFIG={tmp_path / 'relay.yaml'}")
    assert completed.returncode == 1
    assert "+expect: ignored" in completed.stderr
    assert "deploy.sh: A test of a hook failed." in completed.stderr
    assert "secrets versions add" not in completed.stdout


def test_deploy_sh_has_no_shellcheck_findings() -> None:
    completed = subprocess.run([BIN / "shellcheck", ROOT / DEPLOY_SH_PATH], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout


# The secrets that deploy.sh asks for


def run_references(
    config: str, folder: Path, *settings: str, env: list[dict[str, Any]] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run deploy/gcp/references.py with this relay.yaml, new `settings`, and the variables of the existing service."""
    (folder / "relay.yaml").write_text(config)
    service = {"spec": {"template": {"spec": {"containers": [{"env": env}]}}}}
    return subprocess.run(
        [sys.executable, "-m", "deploy.gcp.references", "GOOGLE_CLOUD_PROJECT=p", *settings],
        env={"RELAY_CONFIG": str(folder / "relay.yaml")}, input=json.dumps(service) if env else "",
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


HOOKS = """
hooks:
  one:
    sender: github
    secret: [github-secret, projects/other/secrets/old/versions/3]
    updates:
      - {provider: apify, dataset: abc, token: janes-token, update: {name: x}}
      - {provider: data.world, dataset: acme/products, update: {title: x}}
  two:
    sender: token
    secret: github-secret
    updates: [{provider: apify, dataset: abc, update: {name: x}}]
  three:
    sender: jenkins
    secret: jenkins-login
    updates: [{provider: apify, dataset: abc, update: {name: x}}]
"""


def test_references_lists_each_secret_once(tmp_path: Path) -> None:
    env: list[dict[str, Any]] = [
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "b", "key": "latest"}}},
        {"name": "RELAY_SECRET", "value": "old"},
        {"name": "APIFY_TOKEN", "value": "apify-token"},
    ]
    completed = run_references(HOOKS, tmp_path, "RELAY_SECRET=a,env:B", env=env)
    assert completed.stdout.splitlines() == [
        "timeout\t30",
        "secret\tprojects/p/secrets/a\tRELAY_SECRET (1 of 2)",
        "secret\tprojects/p/secrets/github-secret\thook one: secret (1 of 2)",
        "secret\tprojects/other/secrets/old\thook one: secret (2 of 2)",
        "basic\tprojects/p/secrets/jenkins-login\thook three: secret",
        "token\tprojects/p/secrets/apify-token\tAPIFY_TOKEN",
        "token\tprojects/p/secrets/janes-token\thook one: updates.0.token",
    ]
    assert "DATA_WORLD_TOKEN isn't set" in completed.stderr


def test_references_invalid_relay_yaml_fails(tmp_path: Path) -> None:
    completed = run_references(HOOKS.replace("sender: token", "sender: tokens"), tmp_path)
    assert (completed.returncode, completed.stdout) == (1, "")
    assert "hook two: sender:" in completed.stderr


# The upload


@needs_gcloud
def test_deploy_sh_uploads_only_the_deployed_files(deployment: Deployment) -> None:
    names = zipfile.ZipFile(io.BytesIO(deployment.cloud.upload)).namelist()
    assert {name for name in names if not name.endswith("/")} == DEPLOYED


def find_python(version: str) -> str | None:
    """Return the path of an interpreter of this version, if the machine or pyenv has one."""
    if sys.version.startswith(version):
        return sys.executable
    installed = sorted(
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
    )
    if not installed and (pyenv := shutil.which("pyenv")):
        installed = sorted(Path(pyenv).parents[1].glob(f"versions/{version}.*/bin/python"))
    return str(installed[-1]) if installed else shutil.which(f"python{version}")


@needs_gcloud
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_upload_installed_as_by_the_buildpack_delivers_an_update(
    deployment: Deployment, version: str, cloud: Cloud, tmp_path: Path
) -> None:
    interpreter = find_python(version)
    if not interpreter:
        pytest.skip(f"Python {version} isn't installed: the upload is NOT tested with it")
    app, env = tmp_path / "app", tmp_path / "env"
    zipfile.ZipFile(io.BytesIO(deployment.cloud.upload)).extractall(app)
    uv = [str(BIN / "uv"), "-q"]  # the buildpack uses pip, which needs ten times as long
    for command in (
        [*uv, "venv", "--python", interpreter, str(env)],
        [str(env / "bin/python"), "-m", "compileall", "-f", "-q", "."],
        [*uv, "pip", "install", "--require-hashes", "--python", str(env), "-r", "requirements.txt"],
        [*uv, "pip", "check", "--python", str(env)],
    ):
        completed = subprocess.run(command, cwd=app, capture_output=True, text=True)
        assert completed.returncode == 0, completed.stdout + completed.stderr
    log_file = tmp_path / "log"
    with log_file.open("wb") as log:
        settings = {**cloud.settings(), "FUNCTION_TARGET": "relay", "K_SERVICE": "dataset-relay", "THREADS": "200"}
        function = Function(settings, log=log, cwd=app, command=[str(env / "bin/functions-framework")])
    relay = Relay(cloud, function, log_file)
    function.wait_until_up()
    dataset = relay.apify_dataset()
    event = {"provider": "apify", "dataset": dataset, "update": {"generalAccess": "RESTRICTED"}}
    assert relay.post(event).status_code == 200
    assert cloud.apify.datasets[dataset]["generalAccess"] == "RESTRICTED"
    stop_relay(relay)
