import json
import shutil
from pathlib import Path

import pytest

from deploy.local.cloud import ROOT, Cloud, Function, free_port
from handlers import VERSION
from tests.support.hooks import call, hook, update, written
from tests.support.project import DEPLOYED
from tests.support.relay import Launch, Relay, assert_problem

TOKEN = "apify_api_CANARYabcdefghijklmnopqrstuvwxyz012345"


def failed_start(tmp_path: Path, **settings: str) -> list[str]:
    """Start the function with settings that stop the start, and return the lines of the log."""
    log = tmp_path / "log"
    with log.open("wb") as stream:
        function = Function(settings, log=stream)
    assert function.process.wait(timeout=300) == 1
    text = log.read_text()
    assert "is ready" not in text
    assert TOKEN not in text
    assert "Traceback" not in text
    return text.splitlines()


def test_startup_invalid_settings_reports_all_at_once(tmp_path: Path) -> None:
    lines = failed_start(
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
    assert lines[0] == "dataset-relay can't start. Correct these settings:"
    assert {line.partition(":")[0].strip() for line in lines[1:]} == {
        "APIFY_TOKEN",
        "DATA_WORLD_TOKEN",
        "RELAY_SECRET",
        "RELAY_DEADLINE_SECONDS",
        "RELAY_MAX_BODY_BYTES",
        "APIFY_BASE_URL",
        "LOG_LEVEL",
        "RELAY_ALLOW_UNAUTHENTICATED",
    }


def test_startup_mistakes_in_relay_yaml_reports_all_at_once(tmp_path: Path) -> None:
    hooks = {
        "a": hook(update("apify", "a b", {"nam": "{{ evnt.x }}"}), sender="githib", secret="env:NOT_SET"),
        "B": hook(update("apify", "abc", {"name": None}), secret=TOKEN),
    }
    path = written(tmp_path, hooks)
    lines = failed_start(tmp_path, RELAY_CONFIG=path)
    assert lines[0] == "dataset-relay can't start. Correct these mistakes:"
    assert [line.partition(f"  {path}:")[2].split(": ")[:3] for line in lines[1:]] == [
        ["3", "hook a", "sender"],
        ["4", "hook a", "secret"],
        ["7", "hook a", "updates.0.dataset"],
        ["9", "hook a", "updates.0.update.nam"],
        ["9", "hook a", "updates.0.update.nam"],
        ["10", "hook B", "The name must have 1 to 63 characters from a-z, 0-9, and '-', and must not begin with '-'."],
        ["12", "hook B", "secret"],
    ]


def test_startup_missing_relay_yaml_fails(tmp_path: Path) -> None:
    lines = failed_start(tmp_path, RELAY_CONFIG=str(tmp_path / "missing.yaml"))
    assert lines[1].startswith(f"  {tmp_path}/missing.yaml: ")
    assert "No such file or directory" in lines[1]


@pytest.mark.parametrize(
    "template",
    ["{{ 'a' | center(4000000000) }}", "{{ " + "(" * 900 + "1" + ")" * 900 + " }}"],
    ids=["result of 4 GB", "900 brackets"],
)
def test_startup_template_with_excessive_cost_fails(tmp_path: Path, template: str) -> None:
    hooks = {"build": hook(update("apify", "abc", {"name": template}))}
    lines = failed_start(tmp_path, RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET="CANARY-hook-secret")
    assert len(lines) == 2
    assert "hook build: " in lines[1]


def test_startup_template_with_large_constant_does_not_evaluate_constant(launch: Launch, tmp_path: Path) -> None:
    # Jinja2 evaluates constant expressions during compilation, unless the environment turns this off.
    hooks = {"build": hook(update("apify", "abc", {"name": "{{ 'a' * 4000000000 }}"}))}
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET="CANARY-hook-secret")
    assert_problem(call(relay, "build", {}, secret="CANARY-hook-secret"), 422, "invalid")


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:21", "http://"])
def test_startup_unsupported_proxy_fails(tmp_path: Path, proxy: str) -> None:
    lines = failed_start(tmp_path, HTTPS_PROXY=proxy, NO_PROXY="")
    assert any(line.startswith("  HTTPS_PROXY: A proxy must be") for line in lines)


def test_startup_missing_ca_bundle_fails(tmp_path: Path) -> None:
    lines = failed_start(tmp_path, REQUESTS_CA_BUNDLE=str(tmp_path / "missing.pem"))
    assert any(line.startswith("  REQUESTS_CA_BUNDLE: Must name a file") for line in lines)


def test_startup_without_network_serves_requests(launch: Launch) -> None:
    unreachable = f"127.0.0.1:{free_port()}"
    relay = launch(
        SECRET_MANAGER_EMULATOR_HOST=unreachable,
        APIFY_BASE_URL=f"http://{unreachable}",
        DATA_WORLD_BASE_URL=f"http://{unreachable}",
    )
    assert relay.send(b"", method="GET", path="/health").status_code == 200


def test_startup_sends_no_request(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud)
    assert relay.send(b"", method="GET", path="/health").status_code == 200
    assert own_cloud.secret_manager.accesses == []
    assert not own_cloud.apify.calls
    assert not own_cloud.data_world.calls


def startup_lines(relay: Relay) -> list[dict[str, str]]:
    """Return the log lines of the start of `relay`, which has responded to a request."""
    lines = [json.loads(line) for line in relay.log_text().splitlines()]
    return [line for line in lines if "is ready" in line["message"]]


def test_startup_logs_version_hooks_and_providers_in_one_line(launch: Launch, tmp_path: Path) -> None:
    hooks = {name: hook(update("apify", "abc", {"name": None})) for name in ("nightly", "build")}
    relay = launch(
        RELAY_CONFIG=written(tmp_path, hooks),
        HOOK_SECRET="CANARY-hook-secret",
        DATA_WORLD_TOKEN=None,
        WORKERS="2",
    )
    message = (
        f"Dataset Relay {VERSION} is ready. Hooks: nightly, build. Providers: apify, data.world (without a token)."
    )
    assert startup_lines(relay) == [{"severity": "INFO", "message": message}]


def test_startup_without_hooks_logs_none(relay: Relay) -> None:
    (line,) = startup_lines(relay)
    assert line["message"] == f"Dataset Relay {VERSION} is ready. Hooks: none. Providers: apify, data.world."


def test_startup_log_level_warning_omits_startup_message(launch: Launch) -> None:
    assert startup_lines(launch(LOG_LEVEL="WARNING")) == []


def test_startup_with_only_the_deployed_files_knows_its_version(relay: Relay, tmp_path: Path) -> None:
    for path in DEPLOYED:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    with (tmp_path / "log").open("wb") as log:
        function = Function(relay.cloud.settings(), cwd=tmp_path, log=log).wait_until_up()
    try:
        page = relay.session.get(function.url, headers={"Accept": "text/html"}, timeout=60)
    finally:
        function.stop()
    assert f"Version {VERSION}" in page.text
    assert f"Dataset Relay {VERSION} is ready." in (tmp_path / "log").read_text()


@pytest.mark.parametrize("name", ["THREADS", "WORKERS"])
def test_startup_setting_of_server_serves_requests(launch: Launch, name: str) -> None:
    relay = launch(**{name: "2"})
    assert relay.send(b"", method="GET", path="/health").status_code == 200


def test_shutdown_after_sigterm_exits_with_0(relay: Relay, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stream:
        function = Function(relay.cloud.settings(), log=stream).wait_until_up()
    assert function.stop() == 0
    assert "Traceback" not in log.read_text()
