"""Runs `gcloud`, and what calls it, against `tests.google_cloud` instead of Google."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.cloud import ROOT
from tests.google_cloud import PROJECT, GoogleCloud

GCLOUD = shutil.which("gcloud")
_APIS = [
    *("ARTIFACTREGISTRY", "CLOUDBILLING", "CLOUDBUILD", "CLOUDFUNCTIONS", "CLOUDRESOURCEMANAGER", "IAM", "LOGGING"),
    *("RUN", "SECRETMANAGER", "SERVICEUSAGE", "STORAGE"),
]
#: Cloud Run's interface is asked for at REGION-HOST, a name that only a process with its own /etc/hosts knows.
_HOST, _REGION = "cloud.test", "europe-west1"
_ALONE = ["unshare", "--map-root-user", "--mount"]
DEPLOY = "deploy/gcp/deploy.sh"


def can_rename_hosts() -> bool:
    """Whether a process can have an /etc/hosts of its own here."""
    probe = "mount --bind /etc/hostname /etc/hosts"
    return subprocess.run([*_ALONE, "sh", "-c", probe], capture_output=True, timeout=30).returncode == 0


WHY_NOT = (
    "LOUD: gcloud is not on this machine; deploy.sh and the upload are NOT checked"
    if not GCLOUD
    else "LOUD: no mount namespaces here; what gcloud sends is NOT checked"
    if not can_rename_hosts()
    else ""
)


def environment(folder: Path, cloud: GoogleCloud, **more: str) -> dict[str, str]:
    """What a process needs to see `cloud` as Google's."""
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
        **more,
    }


def command(folder: Path, script: str) -> list[str]:
    """`script` for bash, in a process with the /etc/hosts that `environment` wrote."""
    return [*_ALONE, "bash", "-c", f"mount --bind '{folder}/hosts' /etc/hosts && {script}"]


def run(
    folder: Path, cloud: GoogleCloud, arguments: Sequence[str] = (), variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """deploy.sh with `arguments` and more `variables`, with no terminal."""
    quoted = " ".join(f"'{each}'" for each in arguments)
    return subprocess.run(
        command(folder, f"exec {DEPLOY} {quoted}"),
        env=environment(folder, cloud, **(variables or {})),
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180,
    )  # fmt: skip


def lint(line: str, folder: Path) -> str | None:
    """What gcloud has against a command: an unknown flag, a wrong choice; None: nothing."""
    assert GCLOUD
    done = subprocess.run(
        [GCLOUD, "meta", "lint-gcloud-commands", "--command-string", line],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "CLOUDSDK_CONFIG": str(folder)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    (judged,) = json.loads(done.stdout)
    return None if judged["success"] is True else str(judged["error_message"])
