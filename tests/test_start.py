"""Starting: settings that stop it, no network, nothing imported that isn't needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.cloud import ROOT, Cloud, Function, free_port
from tests.conftest import Launch, Relay
from tests.hooks import hook, update, written

TOKEN = "apify_api_abcdefghijklmnopqrstuvwxyz0123456789"


def start(tmp_path: Path, **settings: str) -> tuple[int, str]:
    """Starts the function with settings that should stop it; its exit code, and what it said."""
    log = tmp_path / "log"
    with log.open("wb") as stream:
        function = Function(settings, log=stream)
    code = function.process.wait(timeout=30)
    return code, log.read_text()


def test_bad_settings_stop_the_start_all_at_once(tmp_path: Path) -> None:
    code, said = start(
        tmp_path,
        APIFY_TOKEN=TOKEN,
        DATA_WORLD_TOKEN="env:NOT_SET",
        RELAY_SECRET="bare-name",
        RELAY_DEADLINE_SECONDS="never",
        RELAY_MAX_BODY_BYTES="0",
        APIFY_BASE_URL="http://example.com",
        LOG_LEVEL="loud",
        RELAY_ALLOW_UNAUTHENTICATED="true",
        K_SERVICE="relay",
    )
    assert code == 1
    lines = said.splitlines()
    assert lines[0] == "dataset-relay can't start, 8 wrong:"
    assert {line.split(":")[0].strip() for line in lines[1:]} == {
        "APIFY_TOKEN",
        "DATA_WORLD_TOKEN",
        "RELAY_SECRET",
        "RELAY_DEADLINE_SECONDS",
        "RELAY_MAX_BODY_BYTES",
        "APIFY_BASE_URL",
        "LOG_LEVEL",
        "RELAY_ALLOW_UNAUTHENTICATED",
    }
    assert TOKEN not in said
    assert "Traceback" not in said


def test_mistakes_in_the_configuration_stop_the_start_all_at_once(tmp_path: Path) -> None:
    broken = hook(update("apify", "a b", {"nam": "{{ evnt.x }}"}), sender="githib", secret="env:NOT_SET")
    path = written(tmp_path, {"a": broken, "B": hook(update("apify", "abc", {"name": None}), secret=TOKEN)})
    code, said = start(tmp_path, RELAY_CONFIG=path)
    assert code == 1
    lines = said.splitlines()
    assert lines[0] == "dataset-relay can't start:"
    assert [line.partition(f"  {path}: ")[2].split(": ")[:2] for line in lines[1:]] == [
        ["hook a", "sender"],
        ["hook a", "secret"],
        ["hook a", "updates.0.update.nam"],
        ["hook a", "updates.0.update.nam"],
        ["hook a", "updates.0.dataset"],
        ["hook B", "The hook's name"],
        ["hook B", "secret"],
    ]
    assert TOKEN not in said
    assert "Traceback" not in said


def test_a_configuration_that_is_named_must_be_there(tmp_path: Path) -> None:
    code, said = start(tmp_path, RELAY_CONFIG=str(tmp_path / "missing.yaml"))
    assert (code, said.splitlines()[1]) == (
        1,
        f"  {tmp_path}/missing.yaml: Can't be read: No such file or directory.",
    )


def test_a_template_that_would_take_all_memory_stops_the_start(tmp_path: Path) -> None:
    """What is folded while compiling, too: a plain sandbox makes the text before anybody can say no."""
    hooks = {
        "a": hook(update("apify", "abc", {"name": "{{ 'a' | center(4000000000) }}"}), secret="env:S"),
        "b": hook(update("apify", "abc", {"name": "{{ " + "(" * 900 + "1" + ")" * 900 + " }}"}), secret="env:S"),
    }
    code, said = start(tmp_path, RELAY_CONFIG=written(tmp_path, hooks), S="s")
    assert code == 1
    assert [line.split(": ")[1] for line in said.splitlines()[1:]] == ["hook a", "hook b"]


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "https://127.0.0.1:8443"])
def test_a_proxy_of_another_kind_stops_the_start(tmp_path: Path, proxy: str) -> None:
    code, said = start(tmp_path, HTTPS_PROXY=proxy, NO_PROXY="")
    assert code == 1
    assert "HTTPS_PROXY: A proxy must be an http:// URL" in said


def test_certificates_that_are_not_there_stop_the_start(tmp_path: Path) -> None:
    code, said = start(tmp_path, REQUESTS_CA_BUNDLE=str(tmp_path / "missing.pem"))
    assert code == 1
    assert "REQUESTS_CA_BUNDLE: Must name a file or folder of certificates" in said


def test_a_start_needs_no_network(launch: Launch) -> None:
    """Neither platform nor Secret Manager is asked, and none needs to be there."""
    away = f"127.0.0.1:{free_port()}"
    relay = launch(
        SECRET_MANAGER_EMULATOR_HOST=away, APIFY_BASE_URL=f"http://{away}", DATA_WORLD_BASE_URL=f"http://{away}"
    )
    assert relay.send(b"", method="GET", path="/health").status_code == 200


def test_a_start_asks_nothing(launch: Launch) -> None:
    cloud = Cloud().start()
    relay = launch(on=cloud)
    assert relay.send(b"", method="GET", path="/health").status_code == 200
    assert cloud.secret_manager.accesses == []
    assert not cloud.apify.calls
    assert not cloud.data_world.calls
    cloud.stop()


# Whatever the framework has imported before our code is read, it imports for every function.
PROBE = """
import json, sys
import functions_framework._cli, functions_framework._http.gunicorn
def stage():
    global before
    new = {name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
    before = set(sys.modules)
    found.append(sorted(name for name in new if name[:1].isalpha() and "__mypyc" not in name))
found, before = [], set(sys.modules)
import main
from handlers.deadline import Deadline
from schemas.reference import SecretReference
stage()
main._receive._secrets.get(SecretReference("env", "TOKEN"), Deadline.after(5))
stage()
try:
    name = "projects/p/secrets/s/versions/latest"
    main._receive._secrets.get(SecretReference("manager", name), Deadline.after(5))
except Exception:
    pass
stage()
print(json.dumps(found))
"""
OURS = {"handlers", "main", "schemas"}
#: For the call, the answer and the judgement of an event; jinja2 is the framework's, but for its sandbox.
NEEDED = {"requests", "urllib3", "certifi", "charset_normalizer", "idna", "httptools", "marshmallow", "jinja2"}
#: What these find beside them, where the tests' own libraries are; and what Cython calls its own.
BESIDE = {"chardet", "backports", "cython_runtime"}


@pytest.mark.parametrize("hooks", [False, True])
def test_what_is_imported_when(tmp_path: Path, hooks: bool) -> None:
    """PyYAML with the first hook; Secret Manager's client, as heavy as all else, with the first reference to it."""
    environ = {
        "PATH": os.environ["PATH"], "TOKEN": "x", "APIFY_TOKEN": "env:TOKEN", "RELAY_SECRET": "env:TOKEN",
        "SECRET_MANAGER_EMULATOR_HOST": f"127.0.0.1:{free_port()}", "HOOK_SECRET": "x",
    }  # fmt: skip
    if hooks:
        environ["RELAY_CONFIG"] = written(tmp_path, {"a": hook(update("apify", "abc", {"name": None}))})
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    at_start, for_a_variable, for_the_manager = (set(each) for each in json.loads(done.stdout.splitlines()[-1]))
    assert at_start - OURS - BESIDE <= NEEDED | ({"yaml"} if hooks else set())
    assert ("yaml" in at_start) is hooks
    assert not for_a_variable
    assert {"google", "google_crc32c", "grpc", "proto"} <= for_the_manager


@pytest.mark.parametrize("name", ["THREADS", "WORKERS"])
def test_the_servers_own_settings(launch: Launch, name: str) -> None:
    relay = launch(**{name: "2"})
    assert relay.send(b"", method="GET", path="/health").status_code == 200


def test_an_end_is_orderly(relay: Relay, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        function = Function(relay.cloud.settings(), log=log).wait_until_up()
    assert function.stop() == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
