"""Tests of handlers.cli: the output and the exit status of `check`."""

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cloud import ROOT
from handlers import cli
from handlers.hooks import Config
from handlers.hooks.loader import load
from handlers.providers import PROVIDERS
from handlers.senders import SENDERS, custom_sender
from schemas.secret_reference import ReferenceParser
from schemas.settings import Settings, read_settings
from tests.support import payloads
from tests.support.configuration import SCHEMAS
from tests.support.hooks import hook, update, written

Check = Callable[..., tuple[int, str]]


def load_configuration(environ: Mapping[str, str]) -> tuple[Settings, Config]:
    references = ReferenceParser(None, ["apify_api_"])
    base_urls = {name: provider.base_url for name, provider in PROVIDERS.items()}
    settings, _ = read_settings(environ, base_urls, references, default_threads=4)
    config = load(
        settings.config,
        ROOT,
        senders=SENDERS,
        custom_sender=custom_sender,
        schemas=SCHEMAS,
        references=references,
        max_template_length=settings.max_body_bytes,
    )
    return settings, config


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    """Run the command, and return its exit status and its output."""

    def call(*arguments: str, standard_input: str = "", **environ: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(standard_input.encode())))
        status = cli.main(["check", *arguments], lambda: load_configuration(environ), PROVIDERS)
        output = capsys.readouterr()
        assert output.err == ""
        return status, output.out

    return call


def recipe(name: str) -> str:
    return str(ROOT / f"deploy/recipes/{name}.yaml")


def saved(folder: Path, payload: Any) -> str:
    path = folder / "payload.json"
    path.write_text(payload if isinstance(payload, str) else json.dumps(payload))
    return str(path)


# The overview


def test_check_shipped_file_prints_overview(check: Check) -> None:
    assert check() == (0, "deploy/relay.yaml: no mistakes, 0 hooks.\n")


def test_check_recipe_prints_hooks(check: Check) -> None:
    path = recipe("apify-run")
    hook_line = "  POST /hooks/apify-run: sender apify, updates on apify and data.world\n"
    tests = f"{recipe('apify-run.tests')}: 4 tests passed.\n"
    assert check(RELAY_CONFIG=path, APIFY_TOKEN="env:NOT_HERE", RELAY_SECRET="bare-name") == (
        0,
        f"{path}: no mistakes, 1 hook.\n{hook_line}{tests}",
    )


@pytest.mark.parametrize(
    ("allow", "shown"), [(["apify:jane~*", "data.world:*"], "apify:jane~*, data.world:*"), ([], "nothing")]
)
def test_check_allow_prints_patterns(check: Check, tmp_path: Path, allow: list[str], shown: str) -> None:
    _, output = check(RELAY_CONFIG=written(tmp_path, {}, events={"allow": allow}))
    assert output.endswith(f"  POST /: {shown}\n")


def test_check_probable_mistake_prints_note(check: Check, tmp_path: Path) -> None:
    value = hook(update("data.world", "acme/products", {"title": "{{ headers['authorization'] }}"}))
    path = written(tmp_path, {"a": value})
    status, output = check(RELAY_CONFIG=path)
    note = f"  Note: {path}:9: hook a: updates.0.update.title uses the header authorization, which templates can't see."
    assert (status, output.splitlines()[-2]) == (0, note)


def test_check_mistakes_prints_line_for_each(check: Check, tmp_path: Path) -> None:
    value = hook(update("apify", "a b", {"nam": "{{ evnt.x }}"}), sender="githib", secret="x")
    path = written(tmp_path, {"a": value})
    status, output = check(RELAY_CONFIG=path)
    lines = output.splitlines()
    assert (status, len(lines)) == (1, 4)
    assert [line.removeprefix(f"{path}:")[:9] for line in lines] == ["3: hook a", "7: hook a", "9: hook a", "9: hook a"]
    assert "did you mean github?" in output


def test_check_absent_file_prints_reason(check: Check, tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    assert check(RELAY_CONFIG=str(path)) == (1, f"{path}: Can't read the file: No such file or directory.\n")


def test_check_wrong_settings_prints_line_for_each(check: Check) -> None:
    status, output = check(RELAY_MAX_BODY_BYTES="many", APIFY_TOKEN="apify_api_0123456789")
    assert status == 1
    assert [line.partition(": ")[0] for line in output.splitlines()] == ["RELAY_MAX_BODY_BYTES", "APIFY_TOKEN"]
    assert "0123456789" not in output


# A hook with a payload


def test_check_hook_prints_requests(check: Check, tmp_path: Path) -> None:
    path = saved(tmp_path, payloads.apify_run("kVxQb3TnWkzbQMuFY"))
    header = "X-Apify-Webhook-Dispatch-Id: d-1"
    options = ("--hook", "apify-run", "--payload", path, "--header", header)
    status, output = check(*options, RELAY_CONFIG=recipe("apify-run"))
    assert status == 0
    assert output.startswith(
        """Delivery: d-1

updates.0: PUT https://api.apify.com/v2/datasets/kVxQb3TnWkzbQMuFY
{
  "name": "products-2026-11-22-0829",
  "generalAccess": "ANYONE_WITH_ID_CAN_READ"
}

updates.1: PATCH https://api.data.world/v0/datasets/acme/products
{
"""
    )


def test_check_hook_reads_standard_input(check: Check) -> None:
    payload = json.dumps(payloads.dbt_run(jobName="Größe"))
    options = ("--hook", "dbt-job", "--payload", "-")
    status, output = check(*options, standard_input=payload, RELAY_CONFIG=recipe("dbt-job"))
    assert status == 0
    assert "Delivery: wev_30XkPq" in output
    assert "Größe" in output


def test_check_hook_uses_headers(check: Check, tmp_path: Path) -> None:
    path = saved(tmp_path, payloads.github_workflow())
    options = ("--hook", "github-workflow", "--payload", path)
    config = recipe("github-workflow")
    assert check(*options, RELAY_CONFIG=config) == (
        0,
        'Ignored. The hook\'s when condition is false for this event: headers["x-github-event"] is missing.\n',
    )
    assert check(*options, "--header", "X-GitHub-Event: ping", RELAY_CONFIG=config) == (
        0,
        "Ignored. This is a test message of github.\n",
    )
    status, output = check(*options, "--header", "X-GitHub-Event:workflow_run", RELAY_CONFIG=config)
    assert (status, output.count("PATCH")) == (0, 1)
    assert output.startswith("Delivery: the sender provides no ID")


@pytest.mark.parametrize("unused", ["NaN", "1e400", '"\\ud800"', '{"a": 1, "a": 2}', "9" * 5000])
def test_check_hook_reads_payload_as_the_function_does(check: Check, unused: str) -> None:
    payload = f'\ufeff{json.dumps(payloads.dbt_run())[:-1]}, "unused": {unused}}}'
    options = ("--hook", "dbt-job", "--payload", "-")
    status, output = check(*options, standard_input=payload, RELAY_CONFIG=recipe("dbt-job"))
    assert (status, output.count("PATCH")) == (0, 1)


def test_check_hook_treats_headers_as_the_server_does(check: Check, tmp_path: Path) -> None:
    title = "{{ headers['x-run'] | default('none') }}, {{ headers['x-name'] | default('none') }}"
    config = written(tmp_path, {"a": hook(update("data.world", "acme/products", {"title": title}), secret="x")})
    options = ("--hook", "a", "--payload", saved(tmp_path, {}))

    def title_with(*headers: str) -> str:
        arguments = [argument for header in headers for argument in ("--header", header)]
        status, output = check(*options, *arguments, RELAY_CONFIG=config)
        assert status == 0
        return str(json.loads(output[output.index("{") :])["title"])

    assert title_with("X-Run: 77", "x-name:  a b \t") == "77, a b"
    # gunicorn drops a name with an underscore, and joins the values of a repeated name.
    assert title_with("X_Run: 77") == "none, none"
    assert title_with("X-Run: 77", "x-run: 78") == "77,78, none"
    assert title_with("X-Run: Größe 💶") == "Größe 💶, none"
    # An argument of the command that isn't UTF-8 is Latin-1.
    assert title_with(f"X-Run: Gr{os.fsdecode('öß'.encode('latin-1'))}e") == "Größe, none"


def test_check_hook_ignored_header_prints_note(check: Check, tmp_path: Path) -> None:
    config = written(tmp_path, {"a": hook(update("apify", "abc", {"name": None}), secret="x")})
    options = ("--hook", "a", "--payload", saved(tmp_path, {}), "--header", "X_Run: 77")
    _, output = check(*options, RELAY_CONFIG=config)
    assert output.startswith("Note: the server ignores the header X_Run, because its name contains an underscore.\n")


@pytest.mark.parametrize(
    "headers", [("X Run: 1",), ("X-Rün: 1",), (": 1",), ("X-Run : 1",), ("X-Run: a\nb",), ("X-Run: a\x01",),
                ("Content-Type: a", "content-type: a"), ("Host: a", "Host: b")]
)  # fmt: skip
def test_check_hook_header_that_the_server_rejects_fails(
    check: Check, tmp_path: Path, headers: tuple[str, ...]
) -> None:
    config = written(tmp_path, {"a": hook(update("apify", "abc", {"name": None}), secret="x")})
    arguments = [argument for header in headers for argument in ("--header", header)]
    status, output = check("--hook", "a", "--payload", saved(tmp_path, {}), *arguments, RELAY_CONFIG=config)
    assert (status, output.startswith("--header ")) == (1, True)


def test_check_hook_failed_template_prints_paths(check: Check, tmp_path: Path) -> None:
    payload = payloads.dbt_run()
    del payload["data"]["runFinishedAt"]
    options = ("--hook", "dbt-job", "--payload", saved(tmp_path, payload))
    status, output = check(*options, RELAY_CONFIG=recipe("dbt-job"))
    assert status == 1
    assert output.splitlines() == [
        "The hook fails on this payload:",
        "  updates.0.update.description: event.data.runFinishedAt is missing.",
        "  updates.0.update.summary: event.data.runFinishedAt is missing.",
    ]


def test_check_hook_broken_rule_prints_paths(check: Check, tmp_path: Path) -> None:
    config = written(tmp_path, {"a": hook(update("apify", "{{ event.d }}", {"name": "{{ event.n }}"}), secret="x")})
    options = ("--hook", "a", "--payload", saved(tmp_path, {"d": "../x", "n": "-"}))
    status, output = check(*options, RELAY_CONFIG=config)
    assert status == 1
    assert [line.split(":")[0] for line in output.splitlines()[1:]] == [
        "  updates.0.dataset",
        "  updates.0.update.name",
    ]


def test_check_hook_redacts_credentials(check: Check, tmp_path: Path) -> None:
    source = {
        "url": "https://u:{{ event.p }}@example.com/a.csv",
        "credentials": {"user": "u", "password": "{{ event.p }}"},
    }
    first = update("data.world", "acme/products", {"files": [{"name": "a.csv", "source": source}]})
    second = update("data.world", "acme/other", {"summary": "{{ event.p }}"})
    config = written(tmp_path, {"a": hook(first, second, secret="x")})
    options = ("--hook", "a", "--payload", saved(tmp_path, {"p": "CANARY-password"}))
    status, output = check(*options, RELAY_CONFIG=config)
    assert status == 0
    assert "CANARY" not in output
    assert output.count("[redacted]") >= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--hook", "dbt-jb", "--payload", "x"), "There is no hook dbt-jb. Did you mean dbt-job?\n"),
        (("--hook", "other", "--payload", "x"), "There is no hook other. The hooks are: dbt-job.\n"),
        (("--hook", "dbt-job", "--payload", "/not/there"), "/not/there: can't read the file: No such file"),
        (("--hook", "dbt-job", "--payload", __file__), f"{__file__}: The JSON is malformed"),
        (
            ("--hook", "dbt-job", "--payload", "x", "--header", "nothing"),
            "--header must have the form 'Name: value'.\n",
        ),
    ],
)
def test_check_wrong_option_prints_remedy(check: Check, options: tuple[str, ...], message: str) -> None:
    status, output = check(*options, RELAY_CONFIG=recipe("dbt-job"))
    assert status == 1
    assert output.startswith(message)


@pytest.mark.parametrize(
    "arguments",
    [("check", "--hook", "a", "--accept", "b"), ("check", "--payload", "x"), ("check", "--header", "a: b"), ("x",), ()],
)
def test_main_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments, lambda: load_configuration(os.environ), PROVIDERS)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: main.py")


# The tests of hooks, and the samples. tests/integration/test_cli_tests.py has further tests.


def test_check_accept_unwritable_file_prints_reason(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    config = written(tmp_path, {"a": hook(update("apify", "abc", {"name": "x"}), secret="x")})
    tests = config.replace(".yaml", ".tests.yaml")
    Path(tests).write_text("tests: [{name: t, hook: a, payload: {}}]\n")
    monkeypatch.setattr(Path, "write_bytes", refuse)
    status, output = check("--accept", "t", RELAY_CONFIG=config)
    assert (status, output.splitlines()[-1]) == (1, f"{tests}: can't write the file: Permission denied.")


def test_check_accept_without_tests_file_prints_remedy(check: Check, tmp_path: Path) -> None:
    config = written(tmp_path, {})
    tests = config.replace(".yaml", ".tests.yaml")
    assert check("--accept", "t", RELAY_CONFIG=config) == (
        1,
        f"{tests}: there is no test 't'. The tests are: none.\n",
    )


def test_check_hook_sender_without_sample_prints_remedy(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_FOLDER", tmp_path)
    assert check("--hook", "dbt-job", RELAY_CONFIG=recipe("dbt-job")) == (
        1,
        "There is no sample of the sender dbt (deploy/samples/dbt.json). Use --payload.\n",
    )
