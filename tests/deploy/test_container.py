"""Tests of deploy/Dockerfile and deploy/knative.yaml without a container engine.

The tests install the files of the image into a folder, and run the command of the image with the image's variables and,
as root, with the image's user.
"""

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.cloud import ROOT, Cloud, free_port
from tests.support.project import DEPLOY_SH, DEPLOYED, pinned_versions, settings_of_readme

DOCKERFILE = ROOT / "deploy/Dockerfile"
BIN = Path(sys.executable).parent


def instructions(name: str) -> list[str]:
    """Return the arguments of each instruction of this name in the Dockerfile, with continuation lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    return re.findall(rf"^{name} (.*)", "\n".join(lines).replace("\\\n", ""), re.MULTILINE)


def environment() -> dict[str, str]:
    """Return the variables of the ENV instruction, in which `$PATH` is the path of the base image."""
    (text,) = instructions("ENV")
    return dict(part.partition("=")[::2] for part in shlex.split(text))


def copied_sources() -> set[str]:
    """Return the files and folders that the Dockerfile copies from the context of the build."""
    copied: set[str] = set()
    for text in instructions("COPY"):
        if not text.startswith("--from="):
            *sources, _target = text.split()
            copied |= {source.rstrip("/") for source in sources}
    return copied


def test_dockerfile_has_no_hadolint_findings() -> None:
    completed = subprocess.run([BIN / "hadolint", DOCKERFILE], capture_output=True, text=True)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")


def test_dockerfile_labels_match_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (text,) = instructions("LABEL")
    labels = dict(part.partition("=")[::2] for part in shlex.split(text))
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]
    image = labels["org.opencontainers.image.base.name"].removeprefix("docker.io/library/")
    assert {text.split()[0].partition("@")[0] for text in instructions("FROM")} == {image}
    # The version of Python must be the same as on Cloud Run functions.
    (python,) = re.findall(r"--base-image python(\d)(\d+)", DEPLOY_SH)
    assert image.startswith(f"python:{'.'.join(python)}-slim")


def is_in_docker_context(patterns: list[str], path: str) -> bool:
    """Return whether Docker includes a file, by the last pattern that matches the path or one of its folders.

    https://docs.docker.com/build/concepts/context/#dockerignore-files
    """
    is_included = True
    for pattern in patterns:
        parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.removeprefix("!"))
        wild = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        if re.fullmatch("".join(wild.get(part, re.escape(part)) for part in parts) + "(/.*)?", path):
            is_included = pattern.startswith("!")
    return is_included


def files_in_gcloud_upload(folder: Path) -> set[str]:
    """Return the files in `folder` that gcloud uploads. gcloud applies .gcloudignore as git applies .gitignore."""
    subprocess.run(["git", "init", "-q", folder], check=True)
    command = ["git", "ls-files", "-z", "--others", f"--exclude-from={ROOT / '.gcloudignore'}"]
    completed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return set(completed.stdout.split("\0")) - {""}


def test_image_and_upload_have_the_same_files(tmp_path: Path) -> None:
    files = {"README.md", *DEPLOYED}
    for top in ("handlers", "schemas", "deploy", "tests"):
        files |= {path.relative_to(ROOT).as_posix() for path in (ROOT / top).rglob("*") if path.is_file()}
    files |= {"handlers/__pycache__/x.pyc", "schemas/x.pyc", ".env", "deploy/.env", "deploy/gcp/key.json", ".venv/x.py"}
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    lines = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    context = {name for name in files if is_in_docker_context(patterns, name)}
    sources = copied_sources()
    copied = {name for name in context if any(name == path or name.startswith(f"{path}/") for path in sources)}
    assert copied == context == files_in_gcloud_upload(tmp_path) == DEPLOYED


@dataclass(frozen=True)
class Image:
    """A folder with /app and /opt/venv of the image, and with this machine's Python in place of the image's Python."""

    folder: Path
    #: The variables that the interpreter needs.
    python_variables: Mapping[str, str]

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def user(self) -> dict[str, int]:
        """Return the IDs of the image's user and group, or nothing if this process isn't root."""
        if os.geteuid() != 0:
            return {}
        (text,) = instructions("USER")
        user, group = (int(number) for number in text.split(":"))
        return {"user": user, "group": group}

    @property
    def as_user(self) -> list[str]:
        """Return the command that runs another command as the image's user.

        The arguments `user` and `group` of subprocess make it fork this process, which isn't safe with gRPC's threads.
        """
        if not self.user:
            return []
        return ["setpriv", f"--reuid={self.user['user']}", f"--regid={self.user['group']}", "--clear-groups"]

    def environ(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of the image, with further settings."""
        variables = {name: value.replace("$PATH", os.defpath) for name, value in environment().items()}
        variables["PATH"] = variables["PATH"].replace("/opt/venv", str(self.folder / "opt/venv"))
        return {**variables, "HOST": "127.0.0.1", **settings, **self.python_variables}

    @contextmanager
    def running(
        self, cloud: Cloud, settings: Mapping[str, str], *, prefix: Sequence[str] = ()
    ) -> Iterator["Container"]:
        """Run the image's command, behind `prefix`, and end it by SIGTERM. Its exit status must be 0."""
        (command,) = instructions("CMD")
        base_urls = {"APIFY_BASE_URL": cloud.apify.base_url, "DATA_WORLD_BASE_URL": cloud.data_world.base_url}
        environ = self.environ({"PORT": str(free_port()), **base_urls, **settings})
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*(prefix or self.as_user), *json.loads(command)],
                cwd=self.app,
                env=environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        container = Container(self, process, environ, cloud)
        try:
            container.wait_until_healthy()
            yield container
            process.terminate()
            assert process.wait(timeout=120) == 0, container.log()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert '"severity": "ERROR"' not in container.log()
        assert "[ERROR]" not in container.log()


@dataclass(frozen=True)
class Container:
    """A process that runs the command of an image."""

    image: Image
    process: subprocess.Popen[bytes]
    environ: Mapping[str, str]
    cloud: Cloud

    def log(self) -> str:
        return (self.image.folder / "log").read_text()

    def is_healthy(self) -> bool:
        """Run the command of the HEALTHCHECK instruction."""
        (text,) = instructions("HEALTHCHECK")
        command = [*self.image.as_user, *json.loads(text.partition("CMD ")[2])]
        return subprocess.run(command, env=self.environ, capture_output=True).returncode == 0

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + 300
        while not self.is_healthy():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def assert_delivers(self) -> None:
        """Send an update, and check that the provider has received it."""
        dataset = self.cloud.apify.add("jane", None)
        event = {"provider": "apify", "dataset": dataset, "update": {"name": f"container-{dataset.lower()}"}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.environ['PORT']}/",
            json.dumps(event).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.cloud.relay_secret}"},
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as response:
                assert response.status == 200
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{error.code}: {error.read().decode()}\n{self.log()}") from None
        assert self.cloud.apify.datasets[dataset]["name"] == event["update"]["name"]  # type: ignore[index]

    def user_id(self) -> int:
        """Return the ID of the user of the process."""
        return Path(f"/proc/{self.process.pid}").stat().st_uid


def is_reachable_by_all(path: Path) -> bool:
    """Return whether every user can enter the folder and its parents."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def link_or_copy(source: str, target: str) -> None:
    """Link a file if the file system allows it, since the packages have 150 MB."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def interpreter(folder: Path) -> tuple[Path, dict[str, str]]:
    """Return this interpreter, or a copy in `folder` if the image's user can't reach it, and the variables it needs."""
    base, name = Path(sys.base_prefix).resolve(), f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if os.geteuid() != 0 or is_reachable_by_all(base):
        return Path(sys.executable).resolve(), {}
    ignored = shutil.ignore_patterns("test", "site-packages", "config-*", "idlelib", "tkinter", "ensurepip", "lib2to3")
    shutil.copytree(base / "lib" / name, folder / "lib" / name, ignore=ignored, copy_function=link_or_copy)
    (folder / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), folder / "bin" / name)
    for library in (base / "lib").glob("libpython*"):
        shutil.copy2(library, folder / "lib", follow_symlinks=False)
    return folder / "bin" / name, {"LD_LIBRARY_PATH": str(folder / "lib")}


def install(environment: Path) -> None:
    """Install the packages in requirements.txt, and no others, from the virtual environment of the tests."""
    (packages,) = environment.glob("lib/python*/site-packages")
    for name in pinned_versions(ROOT / "requirements.txt"):
        try:
            files = importlib.metadata.distribution(name).files
        except importlib.metadata.PackageNotFoundError:
            continue  # the package is for another system or for another version of Python
        for file in files or ():
            if ".." not in file.parts and Path(str(file.locate())).exists():
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(str(file.locate()), str(packages / file))
    script = environment / "bin/functions-framework"
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="functions-framework")
    script.write_text(f"#!{environment}/bin/python\nfrom {entry.module} import {entry.attr}\n{entry.attr}()\n")
    script.chmod(0o755)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    # Other users can't enter the folder of tmp_path.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        python, python_variables = interpreter(folder / "python")
        command = [str(python), "-m", "venv", "--without-pip", str(folder / "opt/venv")]
        subprocess.run(command, env={**os.environ, **python_variables}, check=True)
        install(folder / "opt/venv")
        for file in DEPLOYED - {"requirements.txt"}:
            (folder / "app" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, folder / "app" / file)
        paths = [folder / "app", *(folder / "app").rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield Image(folder, python_variables)
        for path in paths:
            path.chmod(0o755)


def test_image_without_a_home_folder_delivers_and_writes_no_file(image: Image) -> None:
    cloud = Cloud().start()
    (image.folder / "a-token").write_text(cloud.apify_token + "\n")
    settings = {
        "APIFY_TOKEN": f"file:{image.folder}/a-token",
        "RELAY_SECRET": "env:MY_SECRET",
        "MY_SECRET": cloud.relay_secret,
    }
    before = sorted(image.app.rglob("*"))
    with image.running(cloud, settings) as container:
        container.assert_delivers()
        if os.geteuid() == 0:
            assert container.user_id() == image.user["user"] != 0
    assert not container.is_healthy()
    assert sorted(image.app.rglob("*")) == before
    assert not Path(environment()["HOME"]).exists()
    cloud.stop()


#: A script that makes the file system read-only as `docker run --read-only` does, apart from /dev/shm.
READ_ONLY = "mount --bind / / && mount -o remount,bind,ro / && mount -t tmpfs -o mode=1777 tmpfs /dev/shm"


def can_be_read_only() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        return False
    script = f"{READ_ONLY} && touch /dev/shm/x && ! touch /tmp/read-only-probe"
    return subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True).returncode == 0


@pytest.mark.skipif(
    not can_be_read_only(),
    reason="mount namespaces aren't available: the image is NOT tested with a read-only file system",
)
def test_image_with_a_read_only_file_system_delivers(image: Image) -> None:
    cloud = Cloud().start()
    drop = "exec setpriv --reuid {user} --regid {group} --clear-groups --bounding-set -all --no-new-privs".format(
        **image.user
    )
    settings = {
        "APIFY_TOKEN": "env:MY_TOKEN",
        "MY_TOKEN": cloud.apify_token,
        "RELAY_SECRET": "env:MY_SECRET",
        "MY_SECRET": cloud.relay_secret,
    }
    prefix = ["unshare", "--mount", "sh", "-c", f'{READ_ONLY} && cd {image.app} && {drop} "$@"', "sh"]
    with image.running(cloud, settings, prefix=prefix) as container:
        container.assert_delivers()
        assert container.user_id() == image.user["user"]
    cloud.stop()


def test_dockerfile_installs_only_hashed_wheels() -> None:
    (pip,) = [text for text in instructions("RUN") if "install" in text]
    assert "--require-hashes" in pip
    assert "--only-binary :all:" in pip
    assert instructions("CMD") == ['["functions-framework", "--target", "relay"]']
    assert instructions("EXPOSE") == [environment()["PORT"]]


SERVICE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/knative.yaml").read_text())
REVISION: dict[str, Any] = SERVICE["spec"]["template"]["spec"]
(KNATIVE_CONTAINER,) = REVISION["containers"]
VARIABLES: dict[str, str] = {variable["name"]: variable["value"] for variable in KNATIVE_CONTAINER["env"]}
MOUNTS: dict[str, str] = {mount["name"]: mount["mountPath"] for mount in KNATIVE_CONTAINER["volumeMounts"]}


def test_knative_service_matches_the_image() -> None:
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("serving.knative.dev/v1", "Service")
    assert str(REVISION["containerConcurrency"]) == VARIABLES["THREADS"] == environment()["THREADS"]
    assert [str(port["containerPort"]) for port in KNATIVE_CONTAINER["ports"]] == [environment()["PORT"]]
    assert {KNATIVE_CONTAINER[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} == {"/health"}
    assert REVISION["timeoutSeconds"] >= 3 * 9
    assert set(VARIABLES) <= settings_of_readme()
    assert KNATIVE_CONTAINER["securityContext"] == {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_knative_references_lead_to_mounted_files() -> None:
    references = [value.removeprefix("file:") for value in VARIABLES.values() if value.startswith("file:")]
    assert len(references) == 3
    text = (ROOT / "deploy/knative.yaml").read_text()
    for path in references:
        assert Path(path).parent == Path(MOUNTS["secrets"])
        assert f"--from-file={Path(path).name}" in text
    assert Path(VARIABLES["RELAY_CONFIG"]).parent == Path(MOUNTS["config"])
    assert f"--from-file={Path(VARIABLES['RELAY_CONFIG']).name}=deploy/relay.yaml" in text
    kinds = {volume["name"]: set(volume) - {"name"} for volume in REVISION["volumes"]}
    assert kinds == {"secrets": {"secret"}, "config": {"configMap"}}
    # The kubelet doesn't update files that are mounted by a subPath.
    assert not any("subPath" in mount for mount in KNATIVE_CONTAINER["volumeMounts"])


def write_volume(folder: Path, version: str, secrets: Mapping[str, str]) -> None:
    """Write a volume as the kubelet does: a folder per version, and a link to the newest, replaced atomically."""
    (folder / version).mkdir(parents=True)
    for name, secret in secrets.items():
        (folder / version / name).write_text(secret)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(version)
    (folder / "..new").rename(folder / "..data")


def test_knative_settings_rotated_secret_is_used(image: Image) -> None:
    cloud = Cloud().start()
    folders = {path: image.folder / "mounted" / name for name, path in MOUNTS.items()}
    secrets = {
        "apify-token": cloud.apify_token,
        "data-world-token": cloud.data_world_token,
        "relay-secret": cloud.relay_secret,
    }
    write_volume(folders[MOUNTS["secrets"]], "..1", secrets)
    write_volume(folders[MOUNTS["config"]], "..1", {"relay.yaml": (ROOT / "deploy/relay.yaml").read_text()})
    settings = dict(VARIABLES)
    for path, folder in folders.items():
        settings = {name: value.replace(f"{path}/", f"{folder}/") for name, value in settings.items()}
    with image.running(cloud, settings) as container:
        container.assert_delivers()
        newer = f"{cloud.apify_token}2"
        cloud.apify.tokens.clear()
        cloud.apify.tokens[newer] = "jane"
        write_volume(folders[MOUNTS["secrets"]], "..2", {**secrets, "apify-token": newer})
        container.assert_delivers()
    cloud.stop()
