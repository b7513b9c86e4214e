"""Runs of the real `gcloud`, and of deploy.sh, against `tests.support.fake_google_cloud` instead of Google."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.cloud import ROOT
from tests.support.canary import RECORDER
from tests.support.fake_google_cloud import PROJECT, FakeGoogleCloud

GCLOUD = shutil.which("gcloud")
DEPLOY_SH_PATH = "deploy/gcp/deploy.sh"
_APIS = [
    *(
        "ARTIFACTREGISTRY",
        "CLOUDBILLING",
        "CLOUDBUILD",
        "CLOUDFUNCTIONS",
        "CLOUDRESOURCEMANAGER",
        "IAM",
        "PUBSUB",
        "LOGGING",
    ),
    *("RUN", "SECRETMANAGER", "SERVICEUSAGE", "STORAGE"),
]
# gcloud sends the requests to Cloud Run to the host REGION-HOST. This name is known only to a process that has an
# /etc/hosts of its own.
_HOST, _REGION = "cloud.test", "europe-west1"
_OWN_MOUNTS = ["unshare", "--map-root-user", "--mount"]


def can_replace_hosts_file() -> bool:
    """Return whether a process can have an /etc/hosts of its own on this machine."""
    script = "mount --bind /etc/hostname /etc/hosts"
    return subprocess.run([*_OWN_MOUNTS, "sh", "-c", script], capture_output=True).returncode == 0


SKIP_REASON = (
    "gcloud isn't installed: deploy.sh and the upload are NOT tested"
    if not GCLOUD
    else "mount namespaces aren't available: the requests of gcloud are NOT tested"
    if not can_replace_hosts_file()
    else ""
)


def environment(folder: Path, cloud: FakeGoogleCloud, **variables: str) -> dict[str, str]:
    """Return the variables that make gcloud use `cloud`; the files of gcloud are written to `folder`."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (folder / "hosts").write_text(f"127.0.0.1 localhost {_HOST} {_REGION}-{_HOST}\n")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CLOUDSDK_CONFIG": str(home / "gcloud"),
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "DEPLOY_PAUSE": "0.1",
        **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api}": f"http://{_HOST}:{cloud.port}/" for api in _APIS},
        **variables,
    }


def shell_command(folder: Path, script: str) -> list[str]:
    """Return a command that runs `script` in bash, with the /etc/hosts that `environment` has written."""
    return [*_OWN_MOUNTS, "bash", "-c", f"mount --bind '{folder}/hosts' /etc/hosts && {script}"]


def run_deploy_sh(
    folder: Path,
    cloud: FakeGoogleCloud,
    arguments: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run deploy.sh without a terminal."""
    quoted = " ".join(f"'{argument}'" for argument in arguments)
    completed = subprocess.run(
        shell_command(folder, f"exec {DEPLOY_SH_PATH} {quoted}"),
        env=environment(folder, cloud, **(variables or {})),
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    RECORDER.add("the output of deploy.sh", completed.stdout + completed.stderr)
    return completed


def lint_error(command: str, folder: Path) -> str | None:
    """Return the mistake that gcloud finds in a command (an unknown flag, a wrong choice), or None."""
    assert GCLOUD
    completed = subprocess.run(
        [GCLOUD, "meta", "lint-gcloud-commands", "--command-string", command],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "CLOUDSDK_CONFIG": str(folder)},
        capture_output=True, text=True,
    )  # fmt: skip
    (result,) = json.loads(completed.stdout)
    return None if result["success"] is True else str(result["error_message"])
