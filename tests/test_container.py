"""The container and the Knative service: what can be seen without a container engine, with the files' own words."""

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
from tests.test_project import DEPLOY_SH, READ_ME, pins

DOCKERFILE = ROOT / "deploy/Dockerfile"
BIN = Path(sys.executable).parent
PRODUCT = {
    "main.py", "requirements.txt", "deploy/relay.yaml", "deploy/openapi.json",
    *(path.relative_to(ROOT).as_posix() for top in ("handlers", "schemas") for path in (ROOT / top).rglob("*.py")),
}  # fmt: skip


def instructions(name: str) -> list[str]:
    """What stands behind each such instruction of the Dockerfile, lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    return re.findall(rf"^{name} (.*)", "\n".join(lines).replace("\\\n", ""), re.MULTILINE)


def environment() -> dict[str, str]:
    """ENV: `$PATH` in it is the image's own."""
    (text,) = instructions("ENV")
    return dict(part.partition("=")[::2] for part in shlex.split(text))


def from_context() -> set[str]:
    """What the Dockerfile takes from the build's context: files and folders."""
    taken: set[str] = set()
    for text in instructions("COPY"):
        if not text.startswith("--from="):
            *sources, _target = text.split()
            taken |= {source.rstrip("/") for source in sources}
    return taken


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([BIN / "hadolint", DOCKERFILE], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_labels_are_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (text,) = instructions("LABEL")
    labels = dict(part.partition("=")[::2] for part in shlex.split(text))
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]
    image = labels["org.opencontainers.image.base.name"].removeprefix("docker.io/library/")
    assert {text.split()[0].partition("@")[0] for text in instructions("FROM")} == {image}
    # The Python that the function is deployed with on Google, too.
    (python,) = re.findall(r"--base-image python(\d)(\d+)", DEPLOY_SH)
    assert image.startswith(f"python:{'.'.join(python)}-slim")


def docker_lets_through(patterns: list[str], path: str) -> bool:
    """As Docker reads an ignore file: the last pattern counts that matches the path, or a folder that it is in."""
    let_through = True
    for pattern in patterns:
        parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.removeprefix("!"))
        wild = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        if re.fullmatch("".join(wild.get(part, re.escape(part)) for part in parts) + "(/.*)?", path):
            let_through = pattern.startswith("!")
    return let_through


def gcloud_lets_through(folder: Path) -> set[str]:
    """As git reads an ignore file, which is how gcloud does."""
    subprocess.run(["git", "init", "-q", folder], check=True, timeout=30)
    told = ["git", "ls-files", "-z", "--others", f"--exclude-from={ROOT / '.gcloudignore'}"]
    done = subprocess.run(told, cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split("\0")) - {""}


def test_the_image_holds_what_is_deployed_to_google(tmp_path: Path) -> None:
    there = {"README.md", *PRODUCT}
    for top in ("handlers", "schemas", "deploy", "tests"):
        there |= {path.relative_to(ROOT).as_posix() for path in (ROOT / top).rglob("*") if path.is_file()}
    there |= {"handlers/__pycache__/x.pyc", "schemas/x.pyc", ".env", "deploy/.env", "deploy/gcp/key.json", ".venv/x.py"}
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    patterns = [
        line
        for line in DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    context = {name for name in there if docker_lets_through(patterns, name)}
    sources = from_context()
    copied = {name for name in context if any(name == each or name.startswith(f"{each}/") for each in sources)}
    assert copied == context == gcloud_lets_through(tmp_path) == PRODUCT


@dataclass(frozen=True)
class Image:
    """What the image would hold, in a folder: /app and /opt/venv, with this machine's Python in place of 3.13."""

    folder: Path
    #: What the interpreter needs to be found.
    needed: Mapping[str, str]

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def user(self) -> dict[str, int]:
        """The user of the image, which only root can become."""
        if os.geteuid() != 0:
            return {}
        (text,) = instructions("USER")
        user, group = (int(number) for number in text.split(":"))
        return {"user": user, "group": group}

    @property
    def as_user(self) -> list[str]:
        """What goes before a command that this user runs.

        subprocess could do it itself, but only by a fork of this process, with gRPC's threads in it: one such ended
        before it had become another program.
        """
        if not self.user:
            return []
        return ["setpriv", f"--reuid={self.user['user']}", f"--regid={self.user['group']}", "--clear-groups"]

    def environ(self, settings: Mapping[str, str]) -> dict[str, str]:
        """ENV, and what is set beside it."""
        inside = {name: value.replace("$PATH", os.defpath) for name, value in environment().items()}
        inside["PATH"] = inside["PATH"].replace("/opt/venv", str(self.folder / "opt/venv"))
        return {**inside, "HOST": "127.0.0.1", **settings, **self.needed}

    @contextmanager
    def running(
        self, cloud: Cloud, settings: Mapping[str, str], *, within: Sequence[str] = ()
    ) -> Iterator["Container"]:
        """The image's command, until SIGTERM; it must have ended well by itself. `within` goes before it."""
        (command,) = instructions("CMD")
        upstream = {"APIFY_BASE_URL": cloud.apify.base_url, "DATA_WORLD_BASE_URL": cloud.data_world.base_url}
        environ = self.environ({"PORT": str(free_port()), **upstream, **settings})
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*(within or self.as_user), *json.loads(command)],
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
            assert process.wait(timeout=15) == 0, container.log()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert '"severity": "ERROR"' not in container.log()
        assert "[ERROR]" not in container.log()


@dataclass(frozen=True)
class Container:
    """A running image."""

    image: Image
    process: subprocess.Popen[bytes]
    environ: Mapping[str, str]
    cloud: Cloud

    def log(self) -> str:
        return (self.image.folder / "log").read_text()

    def is_healthy(self) -> bool:
        """HEALTHCHECK's command, inside."""
        (text,) = instructions("HEALTHCHECK")
        command = json.loads(text.partition("CMD ")[2])
        command = [*self.image.as_user, *command]
        done = subprocess.run(command, env=self.environ, capture_output=True, timeout=30, check=False)
        return done.returncode == 0

    def wait_until_healthy(self) -> None:
        until = time.monotonic() + 20
        while not self.is_healthy():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)

    def update(self) -> None:
        """One real update, which must have arrived."""
        dataset = self.cloud.apify.add("jane", None)
        event = {"provider": "apify", "dataset": dataset, "update": {"name": f"container-{dataset.lower()}"}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.environ['PORT']}/",
            json.dumps(event).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.cloud.relay_secret}"},
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                assert answer.status == 200
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{error.code}: {error.read().decode()}\n{self.log()}") from None
        assert self.cloud.apify.datasets[dataset]["name"] == event["update"]["name"]  # type: ignore[index]

    def user_id(self) -> int:
        """Whose process it is."""
        return Path(f"/proc/{self.process.pid}").stat().st_uid


def readable_by_all(path: Path) -> bool:
    return all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents))


def placed(source: str, target: str) -> None:
    """A second name for a file, or a copy: 150 MB are many for a test."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def interpreter(folder: Path) -> tuple[Path, dict[str, str]]:
    """This Python, or a copy in `folder` where the image's user can't reach it; and the variables that it needs."""
    base, name = Path(sys.base_prefix).resolve(), f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if os.geteuid() != 0 or readable_by_all(base):
        return Path(sys.executable).resolve(), {}
    unneeded = shutil.ignore_patterns("test", "site-packages", "config-*", "idlelib", "tkinter", "ensurepip", "lib2to3")
    shutil.copytree(base / "lib" / name, folder / "lib" / name, ignore=unneeded, copy_function=placed)
    (folder / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), folder / "bin" / name)
    for library in (base / "lib").glob("libpython*"):
        shutil.copy2(library, folder / "lib", follow_symlinks=False)
    return folder / "bin" / name, {"LD_LIBRARY_PATH": str(folder / "lib")}


def install(environment: Path) -> None:
    """What requirements.txt names, and nothing else, from the packages that the tests run with."""
    (packages,) = environment.glob("lib/python*/site-packages")
    for name in pins(ROOT / "requirements.txt"):
        try:
            files = importlib.metadata.distribution(name).files
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system or Python
        for file in files or ():
            if ".." not in file.parts and Path(str(file.locate())).exists():
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                placed(str(file.locate()), str(packages / file))
    script = environment / "bin/functions-framework"
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="functions-framework")
    script.write_text(f"#!{environment}/bin/python\nfrom {entry.module} import {entry.attr}\n{entry.attr}()\n")
    script.chmod(0o755)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    # Not below pytest's own folder, which nobody else may enter.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        python, needed = interpreter(folder / "python")
        told = [str(python), "-m", "venv", "--without-pip", str(folder / "opt/venv")]
        subprocess.run(told, env={**os.environ, **needed}, check=True, timeout=60)
        install(folder / "opt/venv")
        for file in PRODUCT - {"requirements.txt"}:
            (folder / "app" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, folder / "app" / file)
        inside = [folder / "app", *(folder / "app").rglob("*")]
        for path in inside:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield Image(folder, needed)
        for path in inside:
            path.chmod(0o755)


def test_the_image_runs_without_a_home_and_without_writing(image: Image) -> None:
    cloud = Cloud().start()
    (image.folder / "a-token").write_text(cloud.apify_token + "\n")
    settings = {
        "APIFY_TOKEN": f"file:{image.folder}/a-token",
        "RELAY_SECRET": "env:MY_SECRET",
        "MY_SECRET": cloud.relay_secret,
    }
    before = sorted(image.app.rglob("*"))
    with image.running(cloud, settings) as container:
        container.update()
        if os.geteuid() == 0:
            assert container.user_id() == image.user["user"] != 0
    assert not container.is_healthy()
    assert sorted(image.app.rglob("*")) == before
    assert not Path(environment()["HOME"]).exists()
    cloud.stop()


#: As `docker run --read-only` does it, in a mount namespace of its own; only /dev/shm can be written there.
READ_ONLY = "mount --bind / / && mount -o remount,bind,ro / && mount -t tmpfs -o mode=1777 tmpfs /dev/shm"


def can_be_read_only() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        return False
    told = ["unshare", "--mount", "sh", "-c", f"{READ_ONLY} && touch /dev/shm/x && ! touch /tmp/read-only-probe"]
    return subprocess.run(told, capture_output=True, timeout=10).returncode == 0


@pytest.mark.skipif(
    not can_be_read_only(),
    reason="LOUD: no mount namespaces for us; that the image runs with a read-only root file system is NOT checked",
)
def test_the_image_runs_with_a_read_only_root(image: Image) -> None:
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
    within = ["unshare", "--mount", "sh", "-c", f'{READ_ONLY} && cd {image.app} && {drop} "$@"', "sh"]
    with image.running(cloud, settings, within=within) as container:
        container.update()
        assert container.user_id() == image.user["user"]
    cloud.stop()


def test_the_build_is_as_strict_as_the_lock() -> None:
    (pip,) = [text for text in instructions("RUN") if "install" in text]
    assert "--require-hashes" in pip
    assert "--only-binary :all:" in pip
    assert instructions("CMD") == ['["functions-framework", "--target", "relay"]']
    assert instructions("EXPOSE") == [environment()["PORT"]]


SERVICE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/knative.yaml").read_text())
REVISION: dict[str, Any] = SERVICE["spec"]["template"]["spec"]
(IN_KNATIVE,) = REVISION["containers"]
VARIABLES: dict[str, str] = {each["name"]: each["value"] for each in IN_KNATIVE["env"]}
MOUNTS: dict[str, str] = {each["name"]: each["mountPath"] for each in IN_KNATIVE["volumeMounts"]}


def test_the_knative_service_fits_the_image() -> None:
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("serving.knative.dev/v1", "Service")
    assert str(REVISION["containerConcurrency"]) == VARIABLES["THREADS"] == environment()["THREADS"]
    assert [str(port["containerPort"]) for port in IN_KNATIVE["ports"]] == [environment()["PORT"]]
    assert {IN_KNATIVE[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} == {"/health"}
    assert REVISION["timeoutSeconds"] >= 3 * 9
    table = READ_ME.partition("## Settings")[2].partition("\n## ")[0]
    assert set(VARIABLES) <= set(re.findall(r"`([A-Z_]+)`", table))
    assert IN_KNATIVE["securityContext"] == {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_what_knative_refers_to_is_mounted() -> None:
    references = [value.removeprefix("file:") for value in VARIABLES.values() if value.startswith("file:")]
    assert len(references) == 3
    said = (ROOT / "deploy/knative.yaml").read_text()
    for path in references:
        assert Path(path).parent == Path(MOUNTS["secrets"])
        assert f"--from-file={Path(path).name}" in said
    assert Path(VARIABLES["RELAY_CONFIG"]).parent == Path(MOUNTS["config"])
    assert f"--from-file={Path(VARIABLES['RELAY_CONFIG']).name}=deploy/relay.yaml" in said
    kinds = {each["name"]: set(each) - {"name"} for each in REVISION["volumes"]}
    assert kinds == {"secrets": {"secret"}, "config": {"configMap"}}
    # The kubelet doesn't replace what is mounted so.
    assert not any("subPath" in each for each in IN_KNATIVE["volumeMounts"])


def mounted(folder: Path, version: str, secrets: Mapping[str, str]) -> None:
    """As the kubelet does it: a folder for each version, and a link to the newest that is replaced in one step."""
    (folder / version).mkdir(parents=True)
    for name, secret in secrets.items():
        (folder / version / name).write_text(secret)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(version)
    (folder / "..new").rename(folder / "..data")


def test_the_knative_settings_start_the_function_and_a_secret_can_be_rotated(image: Image) -> None:
    cloud = Cloud().start()
    places = {path: image.folder / "mounted" / name for name, path in MOUNTS.items()}
    secrets = {
        "apify-token": cloud.apify_token,
        "data-world-token": cloud.data_world_token,
        "relay-secret": cloud.relay_secret,
    }
    mounted(places[MOUNTS["secrets"]], "..1", secrets)
    mounted(places[MOUNTS["config"]], "..1", {"relay.yaml": (ROOT / "deploy/relay.yaml").read_text()})
    settings = dict(VARIABLES)
    for path, place in places.items():
        settings = {name: value.replace(f"{path}/", f"{place}/") for name, value in settings.items()}
    with image.running(cloud, settings) as container:
        container.update()
        newer = f"{cloud.apify_token}2"
        cloud.apify.tokens.clear()
        cloud.apify.tokens[newer] = "jane"
        mounted(places[MOUNTS["secrets"]], "..2", {**secrets, "apify-token": newer})
        container.update()
    cloud.stop()
