"""deploy.sh, run with the real gcloud, whose every request is looked at; and what it uploads, started."""

import io
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cloud import ROOT, Cloud, Function
from tests.conftest import Relay, ended, unique
from tests.gcloud import DEPLOY, WHY_NOT, command, environment, run
from tests.google_cloud import PROJECT, Call, GoogleCloud
from tests.test_container import PRODUCT
from tests.test_runbook import permissions

needs_gcloud = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

BIN = Path(sys.executable).parent
RUNTIME = f"dataset-relay@{PROJECT}.iam.gserviceaccount.com"
BUILD = f"dataset-relay-build@{PROJECT}.iam.gserviceaccount.com"


@dataclass
class Run:
    """One run of deploy.sh: what it said, and what gcloud sent."""

    code: int
    said: str
    calls: list[Call]

    @property
    def changes(self) -> list[Call]:
        return [each for each in self.calls if each.is_change]

    def sent(self, end: str, method: str = "POST") -> list[Any]:
        return [each.json() for each in self.calls if each.method == method and each.path.endswith(end)]


@dataclass
class Deployment:
    """A project that deploy.sh was run on, five times; the function that answers for it is a running one."""

    cloud: GoogleCloud
    relay: Relay
    folder: Path
    apify_token: str = field(default_factory=lambda: unique("apify_api"), repr=False)
    data_world_token: str = field(default_factory=lambda: unique("dw"), repr=False)
    runs: list[Run] = field(default_factory=list, repr=False)

    def at_a_terminal(self) -> None:
        """Asked for two tokens: one is typed, the other is not to be had."""
        before = len(self.cloud.calls)
        parent, child = pty.openpty()
        process = subprocess.Popen(
            command(self.folder, f"exec {DEPLOY}"),
            env=environment(self.folder, self.cloud, VALUE_RELAY_SECRET=self.relay.cloud.relay_secret),
            cwd=ROOT, stdin=child, stdout=child, stderr=child, start_new_session=True,
        )  # fmt: skip
        os.close(child)
        said, answers, until = "", [f"{self.apify_token}\n", "\n"], time.monotonic() + 120
        while time.monotonic() < until and select.select([parent], [], [], 120)[0]:
            try:
                said += os.read(parent, 4096).decode()
            except OSError:  # the terminal is closed
                break
            if said.endswith("leave it out): ") and answers:
                os.write(parent, answers.pop(0).encode())
        os.close(parent)
        self._keep(process.wait(timeout=30), said, before)

    def with_arguments(self, *arguments: str, **variables: str) -> None:
        before = len(self.cloud.calls)
        done = run(self.folder, self.cloud, arguments, variables)
        self._keep(done.returncode, done.stdout + done.stderr, before)

    def _keep(self, code: int, said: str, before: int) -> None:
        self.runs.append(Run(code, said, self.cloud.calls[before:]))


@pytest.fixture(scope="module")
def deployment(relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    cloud = GoogleCloud(relay.url).start()
    made = Deployment(cloud, relay, tmp_path_factory.mktemp("deploy"))
    made.at_a_terminal()
    made.with_arguments()
    made.with_arguments(
        *("--set", "DATA_WORLD_TOKEN=data-world-token", "--set", "RELAY_DEADLINE_SECONDS=20", "--concurrency", "48"),
        *("--set", "RELAY_SECRET=relay-secret,env:LOG_LEVEL", "--set", "LOG_LEVEL=INFO"),
        *("--", "--no-traffic", "--memory", "1Gi"),
        VALUE_DATA_WORLD_TOKEN=made.data_world_token,
    )
    made.with_arguments()
    made.with_arguments("--code-only")
    yield made
    cloud.stop()


def variables(service: dict[str, Any]) -> dict[str, str]:
    (container,) = service["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


@needs_gcloud
def test_the_first_run(deployment: Deployment) -> None:
    first = deployment.runs[0]
    assert first.code == 0, first.said
    # What it was told stays with it.
    for secret in (deployment.apify_token, deployment.relay.cloud.relay_secret):
        assert secret not in first.said
    assert "data-world-token: left out" in first.said
    (apis,) = first.sent("services:batchEnable")
    assert {"run.googleapis.com", "cloudbuild.googleapis.com", "secretmanager.googleapis.com"} < {*apis["serviceIds"]}
    assert [each["accountId"] for each in first.sent("/serviceAccounts")] == ["dataset-relay", "dataset-relay-build"]
    (build,) = first.sent("builds:submit")
    assert build["buildpackBuild"] == {
        "baseImage": "python313", "enableAutomaticUpdates": True, "functionTarget": "relay"
    }  # fmt: skip
    assert build["serviceAccount"] == f"projects/{PROJECT}/serviceAccounts/{BUILD}"
    (service,) = first.sent("/services")
    spec = service["spec"]["template"]["spec"]
    assert variables(service) == {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "THREADS": "200",
        "RELAY_SECRET": "relay-secret",
        "APIFY_TOKEN": "apify-token",
    }
    assert (spec["containerConcurrency"], spec["serviceAccountName"], spec["timeoutSeconds"]) == (200, RUNTIME, 30)
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
    assert spec["containers"][0]["startupProbe"]["httpGet"]["path"] == "/health"
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    assert annotations["run.googleapis.com/startup-cpu-boost"] == "True"
    assert annotations["autoscaling.knative.dev/maxScale"] == "10"


@needs_gcloud
def test_what_is_granted(deployment: Deployment) -> None:
    """What the runbook's table says, and nothing else; Terraform's are in tests/test_terraform.py."""
    names = {
        f"projects/{PROJECT}": "project",
        f"projects/{PROJECT}/locations/europe-west1/services/dataset-relay": "service dataset-relay",
        **{f"projects/{PROJECT}/secrets/{name}": f"secret {name}" for name in deployment.cloud.secrets},
    }
    granted = {
        (role, member.removeprefix("serviceAccount:").partition("@")[0], names[on])
        for role, member, on in deployment.cloud.granted()
    }
    # A hook's secret is the example's.
    hooks = ("roles/secretmanager.secretAccessor", "dataset-relay", "secret github-webhook-secret")
    assert granted | {hooks} == permissions(by="both")


@needs_gcloud
def test_the_secrets(deployment: Deployment) -> None:
    assert deployment.cloud.secrets == {
        "relay-secret": [deployment.relay.cloud.relay_secret],
        "apify-token": [deployment.apify_token],
        "data-world-token": [deployment.data_world_token],
    }
    # As values of secrets, and nowhere else.
    for each in deployment.cloud.calls:
        if not each.path.endswith(":addVersion"):
            assert deployment.apify_token.encode() not in each.body
        assert deployment.apify_token not in each.path + each.query


@needs_gcloud
def test_queries_are_kept_out_of_the_request_log(deployment: Deployment) -> None:
    (exclusion,) = deployment.cloud.sink["exclusions"]
    assert exclusion["name"] == "dataset-relay-queries"
    assert exclusion["filter"] == (
        'log_id("run.googleapis.com/requests") AND resource.type="cloud_run_revision" '
        'AND resource.labels.service_name="dataset-relay" AND httpRequest.requestUrl=~"[?]|%3[Ff]"'
    )


@needs_gcloud
def test_the_second_run_changes_nothing_but_the_code(deployment: Deployment) -> None:
    first, second = deployment.runs[:2]
    assert second.code == 0, second.said
    made = ("/serviceAccounts", "/secrets", ":addVersion", "/storage/v1/b", "/sinks/_Default", "/services")
    assert not [each.path for each in second.changes if each.path.endswith(made)]
    assert [each.path for each in second.changes if each.method == "PUT"] == [
        f"/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services/dataset-relay"
    ]
    # Every policy that it sets says what it said before.
    policies = {each.path: each.json() for each in first.changes if each.path.endswith(":setIamPolicy")}
    again = [each for each in second.changes if each.path.endswith(":setIamPolicy")]
    assert again
    for each in again:
        assert each.json()["policy"]["bindings"] == policies[each.path]["policy"]["bindings"]
    (before,), (after,) = first.sent("/services"), second.sent("/services/dataset-relay", "PUT")
    assert variables(after) == variables(before)
    assert after["spec"]["template"]["spec"]["containerConcurrency"] == 200


@needs_gcloud
def test_a_setting_that_is_named_and_those_that_are_not(deployment: Deployment) -> None:
    third = deployment.runs[2]
    assert third.code == 0, third.said
    (service,) = third.sent("/services/dataset-relay", "PUT")
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
    # Body, work and answer may take the deadline each.
    assert service["spec"]["template"]["spec"]["timeoutSeconds"] == 63
    assert "The new one is there, but gets no requests" in third.said
    assert (
        "run services update-traffic dataset-relay --project acme-data --region europe-west1 --to-latest" in third.said
    )
    # What is behind `--` goes to gcloud: those that come now still go to the revision before.
    assert service["spec"]["traffic"] == [{"percent": 100, "revisionName": "dataset-relay-00002"}]


@needs_gcloud
def test_code_only(deployment: Deployment) -> None:
    """What Terraform has set up stays as it is."""
    before, after = (each.sent("/services/dataset-relay", "PUT")[0] for each in deployment.runs[3:])
    last = deployment.runs[4]
    assert last.code == 0, last.said
    assert {each.path.rpartition("/")[2] for each in last.changes} == {"o", "builds:submit", "dataset-relay"}
    assert variables(after) == variables(before)
    for name in ("containerConcurrency", "serviceAccountName", "timeoutSeconds"):
        assert after["spec"]["template"]["spec"][name] == before["spec"]["template"]["spec"][name]
    assert last.sent("builds:submit")[0]["serviceAccount"].endswith(BUILD)


@needs_gcloud
def test_what_was_set_stays(deployment: Deployment) -> None:
    """Also what has a comma or a colon in it, and what was given to gcloud itself."""
    before, after = (each.sent("/services/dataset-relay", "PUT")[0] for each in deployment.runs[2:4])
    assert deployment.runs[3].code == 0, deployment.runs[3].said
    assert variables(after) == variables(before)
    spec = after["spec"]["template"]["spec"]
    assert (spec["containerConcurrency"], spec["containers"][0]["resources"]["limits"]["memory"]) == (48, "1Gi")
    assert spec["timeoutSeconds"] == 63
    assert "The new one is there, but gets no requests" in deployment.runs[3].said


@needs_gcloud
def test_the_line_to_try(deployment: Deployment) -> None:
    """The curl line at the end is run as it stands, but for the dataset."""
    said = deployment.runs[0].said.replace("\r\n", "\n")
    line = said[said.index("curl -sS") :].replace("YOUR-DATASET-ID", deployment.relay.apify_dataset())
    done = subprocess.run(
        command(deployment.folder, line),
        env=environment(deployment.folder, deployment.cloud), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout)["request"]["body"] == {"generalAccess": "RESTRICTED"}, done.stderr


# What can be wrong


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[GoogleCloud]:
    cloud = GoogleCloud("http://127.0.0.1:9").start()
    yield cloud
    cloud.stop()


ERRORS = {
    # With what gcloud puts behind it for who is logged in: it must not be taken for the opposite.
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
    ("part", "status", "says"),
    [
        (f"/projects/{PROJECT}", 403, "roles/browser on the project"),
        (f"/projects/{PROJECT}", 404, f"There is no project {PROJECT}"),
        ("services:batchEnable", 403, "roles/serviceusage.serviceUsageAdmin on the project"),
        ("/serviceAccounts", 403, "roles/iam.serviceAccountAdmin on the project"),
    ],
)
def test_what_may_not_be_done(empty: GoogleCloud, tmp_path: Path, part: str, status: int, says: str) -> None:
    empty.instead[part] = status, {"error": ERRORS[status]}
    done = run(tmp_path, empty)
    assert done.returncode == 1
    assert says in done.stderr
    assert not empty.secrets
    assert not empty.service


@needs_gcloud
def test_no_billing(empty: GoogleCloud, tmp_path: Path) -> None:
    empty.billing = False
    done = run(tmp_path, empty)
    assert done.returncode == 1
    assert f"The project {PROJECT} has no billing account: https://console.cloud.google.com/billing/" in done.stderr
    assert not empty.changes()


@needs_gcloud
def test_not_logged_in(empty: GoogleCloud, tmp_path: Path) -> None:
    done = run(tmp_path, empty, variables={"CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "false"})
    assert done.returncode == 1
    assert "gcloud is not logged in: run  gcloud auth login" in done.stderr
    assert not empty.calls


@needs_gcloud
def test_no_project(empty: GoogleCloud, tmp_path: Path) -> None:
    done = run(tmp_path, empty, variables={"CLOUDSDK_CORE_PROJECT": ""})
    assert done.returncode == 1
    assert "Which project? Give --project ID" in done.stderr


@needs_gcloud
def test_a_setting_that_would_stop_the_start(empty: GoogleCloud, tmp_path: Path) -> None:
    done = run(tmp_path, empty, ["--set", "RELAY_DEADLINE_SECONDS=soon", "--set", "RELAY_ALLOW_UNAUTHENTICATED=true"])
    assert done.returncode == 1
    assert "RELAY_DEADLINE_SECONDS: " in done.stderr
    assert "RELAY_ALLOW_UNAUTHENTICATED: Must not be true on Cloud Run" in done.stderr
    assert "The function would not start like that." in done.stderr
    assert {each.path.rpartition(":")[2] for each in empty.changes()} == {"batchEnable"}


@needs_gcloud
def test_a_value_that_nobody_can_be_asked_for(empty: GoogleCloud, tmp_path: Path) -> None:
    done = run(tmp_path, empty)
    assert done.returncode == 1
    assert "The secret apify-token (APIFY_TOKEN) has no value: set VALUE_APIFY_TOKEN, or run this" in done.stderr
    # The senders' secret is one that can be made; it is not shown.
    (made,) = empty.secrets["relay-secret"]
    assert re.fullmatch(r"[0-9a-f]{48}", made)
    assert made not in done.stdout + done.stderr
    assert not empty.service


@needs_gcloud
def test_code_for_a_service_that_is_not_there(empty: GoogleCloud, tmp_path: Path) -> None:
    done = run(tmp_path, empty, ["--code-only"])
    assert done.returncode == 1
    assert "There is no service dataset-relay in europe-west1 yet" in done.stderr
    assert not empty.changes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sett", "A=b"], "Unknown option: --sett"),
        (["--project"], "--project needs a value."),
        (["--set", "threads"], "--set needs NAME=VALUE."),
        (["--set", "THREADS=5"], "for THREADS there is --concurrency"),
        (["--set", "LOG_LEVEL=a##b"], "a value can't hold ##"),
        (["--set", "LOG_LEVEL=a#"], "nor end in #"),
        (["--service", "relay"], "--service must be 6 to 24 small letters"),
        (["--service", "Dataset-Relay"], "--service must be 6 to 24 small letters"),
        (["--concurrency", "many"], "--concurrency must be a number from 1 to 1000."),
        (["--concurrency", "1001"], "--concurrency must be a number from 1 to 1000."),
    ],
)
def test_wrong_options(arguments: list[str], says: str) -> None:
    done = subprocess.run([DEPLOY, *arguments, "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert says in done.stderr
    assert "gcloud --project" not in done.stdout


def test_dry_run_calls_nothing(tmp_path: Path) -> None:
    """It needs no gcloud: one that is called says so."""
    (tmp_path / "gcloud").write_text("#!/bin/sh\ntouch called\n")
    (tmp_path / "gcloud").chmod(0o755)
    done = subprocess.run(
        [str(ROOT / DEPLOY), "--dry-run", "--project", "my-project", "--set", "LOG_LEVEL=it's"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1  # the function wouldn't start with such a level
    done = subprocess.run(
        [str(ROOT / DEPLOY), "--dry-run", "--project", "my-project"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(ROOT.glob("called")) + list(tmp_path.glob("called"))
    commands = [line for line in done.stdout.splitlines() if line.startswith("+ gcloud --project my-project --quiet ")]
    assert sum("secrets versions add" in each for each in commands) == 3
    assert "THREADS=200##GOOGLE_CLOUD_PROJECT=my-project##RELAY_SECRET=relay-secret##" in commands[-1]
    assert "--concurrency 200" in commands[-1]


def test_shellcheck() -> None:
    done = subprocess.run([BIN / "shellcheck", ROOT / DEPLOY], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


# Which secrets there have to be


def references(config: str, folder: Path, *settings: str, env: Any = ()) -> subprocess.CompletedProcess[str]:
    (folder / "relay.yaml").write_text(config)
    service = {"spec": {"template": {"spec": {"containers": [{"env": list(env)}]}}}}
    return subprocess.run(
        [sys.executable, "-m", "deploy.gcp.references", "GOOGLE_CLOUD_PROJECT=p", *settings],
        env={"RELAY_CONFIG": str(folder / "relay.yaml")}, input=json.dumps(service) if env else "",
        cwd=ROOT, capture_output=True, text=True, timeout=60,
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


def test_references(tmp_path: Path) -> None:
    env = [
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "b", "key": "latest"}}},
        {"name": "RELAY_SECRET", "value": "old"},
        {"name": "APIFY_TOKEN", "value": "apify-token"},
    ]
    done = references(HOOKS, tmp_path, "RELAY_SECRET=a,env:B", env=env)
    assert done.stdout.splitlines() == [
        "timeout\t30",
        "secret\tprojects/p/secrets/a\tRELAY_SECRET (1 of 2)",
        "secret\tprojects/p/secrets/github-secret\thook one: secret (1 of 2)",
        "secret\tprojects/other/secrets/old\thook one: secret (2 of 2)",
        "basic\tprojects/p/secrets/jenkins-login\thook three: secret",
        "token\tprojects/p/secrets/apify-token\tAPIFY_TOKEN",
        "token\tprojects/p/secrets/janes-token\thook one: updates.0.token",
    ]
    assert "warning: DATA_WORLD_TOKEN isn't set" in done.stderr


def test_references_of_what_would_not_start(tmp_path: Path) -> None:
    done = references(HOOKS.replace("sender: token", "sender: tokens"), tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "hook two: sender:" in done.stderr


# The upload


@needs_gcloud
def test_the_upload(deployment: Deployment) -> None:
    names = [each for each in zipfile.ZipFile(io.BytesIO(deployment.cloud.upload)).namelist() if not each.endswith("/")]
    assert set(names) == PRODUCT


def python(version: str) -> str | None:
    """An interpreter of that version, also one that pyenv keeps."""
    if sys.version.startswith(version):
        return sys.executable
    kept = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python"))
    if not kept and (root := shutil.which("pyenv")):
        kept = sorted(Path(root).parents[1].glob(f"versions/{version}.*/bin/python"))
    return str(kept[-1]) if kept else shutil.which(f"python{version}")


@needs_gcloud
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_upload_starts(deployment: Deployment, version: str, cloud: Cloud, tmp_path: Path) -> None:
    """As the buildpack does it; uv installs, since it needs a tenth of pip's time: `make` installs with pip."""
    interpreter = python(version)
    if not interpreter:
        pytest.skip(f"LOUD: no Python {version} on this machine; the upload is NOT started with it")
    app, env = tmp_path / "app", tmp_path / "env"
    zipfile.ZipFile(io.BytesIO(deployment.cloud.upload)).extractall(app)
    uv = [str(BIN / "uv"), "-q"]
    for each in (
        [*uv, "venv", "--python", interpreter, str(env)],
        [str(env / "bin/python"), "-m", "compileall", "-f", "-q", "."],
        [*uv, "pip", "install", "--require-hashes", "--python", str(env), "-r", "requirements.txt"],
        [*uv, "pip", "check", "--python", str(env)],
    ):
        done = subprocess.run(each, cwd=app, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    log_file = tmp_path / "log"
    with log_file.open("wb") as log:
        settings = {**cloud.settings(), "FUNCTION_TARGET": "relay", "K_SERVICE": "dataset-relay", "THREADS": "200"}
        function = Function(settings, log=log, cwd=app, command=[str(env / "bin/functions-framework")])
    started = Relay(cloud, function, log_file)
    function.wait_until_up()
    dataset = started.apify_dataset()
    event = {"provider": "apify", "dataset": dataset, "update": {"generalAccess": "RESTRICTED"}}
    assert started.post(event).status_code == 200
    assert cloud.apify.datasets[dataset]["generalAccess"] == "RESTRICTED"
    ended(started)
