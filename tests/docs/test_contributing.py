"""Tests that follow the steps of CONTRIBUTING.md word for word, in a copy of the project."""

import hashlib
import hmac
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from deploy.local.cloud import ROOT, Function
from handlers.providers import PROVIDERS
from handlers.senders import SENDERS
from tests.support.canary import secret
from tests.support.hooks import hook, update, written
from tests.support.markdown import code_blocks, count_code_blocks
from tests.support.misbehaving import MisbehavingProvider, http_response, send
from tests.support.relay import JSON_TYPE, Relay, assert_problem

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
BIN = Path(sys.executable).parent
#: A block of code: its name, its indentation, its language, and its lines.
BLOCK = re.compile(r"^ *<!-- test: (\w+) -->\n( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
HUB_TOKEN, SENDER_SECRET = secret("hub-"), secret("pipeline-")


def run(folder: Path, *command: str) -> str:
    """Run a command in `folder`, and return its output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def follow(name: str, folder: Path) -> None:
    """Carry out the blocks of this name in `folder`.

    The last path in the text before a block is the file that the block creates or, as a diff without line numbers,
    changes.
    """
    count = 0
    for match in BLOCK.finditer(CONTRIBUTING):
        if match[1] != name:
            continue
        count += 1
        code = "".join(line.removeprefix(match[2]) for line in match[4].splitlines(keepends=True))
        path = folder / re.findall(r"`([\w./-]+/[\w.-]+|pyproject\.toml)`", CONTRIBUTING[: match.start()])[-1]
        if match[3] == "sh":
            for line in code.splitlines():
                # The packages are installed, and the Python of the tests has them.
                run(folder, *line.split(), f"BIN={BIN}", "-o", ".venv/dev")
        elif match[3] == "diff":
            lines = code.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] != "+")
            new = "".join(line[1:] for line in lines if line[0] != "-")
            text = path.read_text()
            assert text.count(old) == 1, f"{path} has no single {old!r}"
            path.write_text(text.replace(old, new))
        else:
            assert not path.exists()
            path.write_text(code)
    assert count


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the project, and follow the steps for a provider and for a sender."""
    folder = tmp_path_factory.mktemp("contribution")
    for name in ("main.py", "pyproject.toml", "requirements.txt", "Makefile"):
        shutil.copy(ROOT / name, folder)
    for name in ("handlers", "schemas", "deploy"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".terraform"))
    follow("provider", folder)
    follow("sender", folder)
    return folder


@pytest.fixture(scope="module")
def hub() -> Iterator[MisbehavingProvider]:
    """Run a server in place of Some Hub. Its second response is an error."""
    missing = http_response(404, b'{"message": "No such dataset."}')
    started = MisbehavingProvider(default=send(http_response(200), missing)).start()
    yield started
    started.stop()


def test_contributing_code_is_tested() -> None:
    assert count_code_blocks(CONTRIBUTING) == len(code_blocks(CONTRIBUTING))
    assert {name for name, _ in code_blocks(CONTRIBUTING)} == {"provider", "sender"}


def test_contributing_names_every_command_that_generates_a_file() -> None:
    generators = re.findall(r"^(\w+):.*## (?:generate|compile)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"openapi", "schema", "tables", "lock"} <= set(generators)
    for name in generators:
        assert f"| `make {name}` |" in CONTRIBUTING


def test_contribution_passes_the_linters(project: Path) -> None:
    new = ["handlers/providers/some_hub.py", "schemas/some_hub.py"]
    changed = ["handlers/providers/__init__.py", "handlers/senders/__init__.py", "deploy/local/signing.py"]
    run(project, str(BIN / "ruff"), "check", "--no-cache", *new, *changed)
    run(project, str(BIN / "ruff"), "format", "--no-cache", "--check", *new, *changed)
    run(project, str(BIN / "mypy"), "--cache-dir", str(project / ".mypy_cache"), *new)
    assert "0 broken" in run(project, str(BIN / "lint-imports"), "--no-cache", "--no-logo")


def test_contribution_is_in_the_generated_files(project: Path) -> None:
    document = json.loads((project / "deploy/openapi.json").read_text())
    assert "some.hub" in document["components"]["schemas"]["Event"]["discriminator"]["mapping"]
    assert document["components"]["securitySchemes"]["x-some-signature"]["in"] == "header"
    assert "some-pipeline" in (project / "deploy/relay.schema.json").read_text()
    assert "### Some Hub" in (project / "deploy/recipes/README.md").read_text()
    assert "some.hub" not in PROVIDERS
    assert "some-pipeline" not in SENDERS


def test_contributed_sender_has_a_sample(project: Path, tmp_path: Path) -> None:
    hooks = {"a": hook(update("some.hub", "products", {"title": "{{ event.title }}"}), sender="some-pipeline")}
    command = f"""
        import os, runpy, sys
        os.environ["RELAY_CONFIG"] = {written(tmp_path, hooks)!r}
        sys.argv = ["main.py", "check", "--hook", "a"]
        runpy.run_path("main.py", run_name="__main__")
    """
    output = run(project, sys.executable, "-c", dedent(command))
    assert "run-4711" in output
    assert "PUT https://hub.example/api/products" in output
    assert '"title": "Products, daily"' in output


def test_contributed_provider_and_sender_deliver_an_update(
    project: Path, relay: Relay, hub: MisbehavingProvider, tmp_path: Path
) -> None:
    hooks = {"a": hook(update("some.hub", "products", {"title": "{{ event.title }}"}), sender="some-pipeline")}
    settings = {
        **relay.cloud.settings(),
        "RELAY_CONFIG": written(tmp_path, hooks),
        "HOOK_SECRET": SENDER_SECRET,
        "SOME_HUB_TOKEN": "env:HUB_TOKEN",
        "SOME_HUB_BASE_URL": hub.url,
        "HUB_TOKEN": HUB_TOKEN,
        "RELAY_DEADLINE_SECONDS": "60",
    }
    log_file = tmp_path / "log"
    with log_file.open("wb") as log:
        function = Function(settings, log=log, cwd=project).wait_until_up()
    own = Relay(relay.cloud, function, log_file)
    try:
        assert "Providers: apify, data.world, some.hub." in log_file.read_text()
        event = {"provider": "some.hub", "dataset": "products", "update": {"titel": "x"}}
        problem = assert_problem(own.post(event), 422, "invalid")
        assert "did you mean title?" in problem["errors"]["update.titel"][0]
        body = {"title": "x", "api_key": secret("key-")}
        preview = own.post({**event, "update": body}, path="/?dry_run=true").json()
        assert preview["request"]["url"] == f"{hub.url}/products"
        assert preview["request"]["body"] == {"title": "x", "api_key": "[redacted]"}

        payload = (project / "deploy/samples/some-pipeline.json").read_bytes()
        signature = hmac.new(SENDER_SECRET.encode(), payload, hashlib.sha256).hexdigest()
        headers = {"Content-Type": JSON_TYPE, "X-Some-Signature": f"hmac {signature}"}
        response = own.send(payload, path="/hooks/a", headers=headers)
        assert response.status_code == 200, response.text
        assert response.headers["Relay-Delivery"] == "run-4711"
        unsigned = own.send(payload, path="/hooks/a", headers={**headers, "X-Some-Signature": signature})
        assert_problem(unsigned, 401, "unauthenticated")

        rejected = assert_problem(own.post({**event, "update": {"title": "x"}}), 404, "upstream-rejected")
        assert rejected["detail"] == "Some Hub returned 404: No such dataset."
        sent = hub.requests["/products"]
        assert all(request.startswith(b"PUT /products HTTP/1.1") for request in sent)
        assert all(f"Authorization: Bearer {HUB_TOKEN}\r\n".encode() in request for request in sent)
        assert json.loads(sent[0].partition(b"\r\n\r\n")[2]) == {"title": "Products, daily"}
    finally:
        own.session.close()
        function.stop()
