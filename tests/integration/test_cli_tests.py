"""Tests of the tests of hooks and of the samples, with `python main.py check` as a process."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deploy.local.cloud import ROOT
from tests.support.canary import RECORDER

RELAY_YAML = """\
hooks:
  build:
    sender: github
    secret: build-secret
    when: event.ok
    updates:
      - provider: data.world
        dataset: acme/products
        update:
          summary: "Built {{ event.name }}"
          files:
            - name: a.csv
              source: {url: "{{ event.url }}"}
"""
TESTS_YAML = """\
# The tests of this file.
tests:
  - name: a build   # the main test
    hook: build
    payload: payloads/build.json
    expect:
      updates:
        - provider: data.world
          dataset: acme/products
          update:
            # The name comes from the payload.
            summary: Built catalog
            files: [{name: a.csv, source: {url: "https://files.example/a.csv"}}]

  # A build that fails.
  - {name: a failed build, hook: build, payload: {ok: false}, expect: ignored}
"""
# The recipes whose tests are in the repository, and the shipped file.
FILES = [
    "deploy/relay.yaml",
    *sorted(f"deploy/recipes/{p.name}" for p in (ROOT / "deploy/recipes").glob("*.tests.yaml")),
]


class Folder:
    """A folder with relay.yaml, relay.tests.yaml, and a payload, and the command that checks the files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests = path / "relay.tests.yaml"
        (path / "payloads").mkdir()
        (path / "relay.yaml").write_text(RELAY_YAML)
        self.tests.write_text(TESTS_YAML)
        self.write_payload()

    def write_payload(self, name: str = "catalog", url: str = "https://files.example/a.csv") -> None:
        (self.path / "payloads/build.json").write_text(json.dumps({"ok": True, "name": name, "url": url}))

    def check(self, *arguments: str) -> tuple[int, str]:
        """Return the exit status and the output, with the folder as <folder>."""
        status, output = check(*arguments, RELAY_CONFIG=str(self.path / "relay.yaml"))
        return status, output.replace(str(self.path), "<folder>")


def check(*arguments: str, **environ: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "main.py", "check", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONUTF8": "1", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    RECORDER.add("the output of the command", done.stdout + done.stderr)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_check_tests_of_the_repository_pass(file: str) -> None:
    status, output = check(RELAY_CONFIG=file.replace(".tests.yaml", ".yaml"))
    assert status == 0, output
    if ".tests." in file:
        assert output.splitlines()[-1].startswith(f"{file}: ")
        assert output.endswith(" passed.\n")


def test_check_tests_that_pass_are_counted(folder: Folder) -> None:
    status, output = folder.check()
    assert (status, output.splitlines()[-1]) == (0, "<folder>/relay.tests.yaml: 2 tests passed.")


def test_check_without_tests_file_says_that_no_test_ran(folder: Folder) -> None:
    folder.tests.unlink()
    status, output = folder.check()
    assert (status, output.splitlines()[-1]) == (
        0,
        "<folder>/relay.tests.yaml: there are no tests of the hooks, so none ran.",
    )


def test_check_failed_test_prints_diff_and_expectation(folder: Folder) -> None:
    folder.write_payload(name="shop")
    status, output = folder.check()
    assert status == 1
    start = output.index("\n\n") + 2
    assert output[start:] == textwrap.dedent(
        """\
        <folder>/relay.tests.yaml:3: the test 'a build' of the hook build fails:
        --- expected
        +++ actual
        @@ -3,7 +3,7 @@
             - provider: data.world
               dataset: acme/products
               update:
        -        summary: Built catalog
        +        summary: Built shop
                 files:
                   - name: a.csv
                     source:
        The test passes with this expectation, which --accept writes into the file:
            expect:
              updates:
                - provider: data.world
                  dataset: acme/products
                  update:
                    summary: Built shop
                    files:
                      - name: a.csv
                        source:
                          url: https://files.example/a.csv

        <folder>/relay.tests.yaml: 1 of 2 tests failed.
        """
    )


def test_check_printed_expectation_makes_the_test_pass(folder: Folder) -> None:
    folder.tests.write_text("tests:\n  - name: new\n    hook: build\n    payload: payloads/build.json\n")
    status, output = folder.check()
    assert status == 1
    assert "the test 'new' of the hook build has no expectation yet:" in output
    expectation = output[output.index("    expect:") :].partition("\n\n")[0]
    with folder.tests.open("a") as file:
        file.write(expectation)
    status, output = folder.check()
    assert status == 0, output


def test_check_failed_hook_prints_the_reason(folder: Folder) -> None:
    folder.tests.write_text("tests:\n  - {name: new, hook: build, payload: {ok: true, url: x}, expect: ignored}\n")
    status, output = folder.check()
    assert status == 1
    assert "\n  updates.0.update.summary: event.name is missing.\n" in output
    assert "+    - updates.0.update.summary\n" in output


def test_check_mistakes_are_all_printed(folder: Folder) -> None:
    folder.tests.write_text(
        TESTS_YAML.replace("payloads/build.json", "bild.json").replace("hook: build,", "hook: bild,")
    )
    status, output = folder.check()
    assert (status, output.splitlines()[2:]) == (
        1,
        [
            "<folder>/relay.tests.yaml:5: tests.0.payload: Can't read the file bild.json: No such file or directory.",
            "<folder>/relay.tests.yaml:16: tests.1.hook: There is no hook bild. Did you mean build?",
        ],
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff", "The file is not UTF-8 (byte 0)."), (None, "Can't read the file: Is a directory.")],
)
def test_check_unreadable_tests_file_prints_the_reason(folder: Folder, content: bytes | None, message: str) -> None:
    folder.tests.unlink()
    if content is None:
        folder.tests.mkdir()
    else:
        folder.tests.write_bytes(content)
    status, output = folder.check()
    assert (status, output.splitlines()[-1]) == (1, f"<folder>/relay.tests.yaml: {message}")


def test_check_payload_that_is_not_json_is_a_mistake(folder: Folder) -> None:
    (folder.path / "payloads/build.json").write_text("{")
    status, output = folder.check()
    assert status == 1
    assert "relay.tests.yaml:5: tests.0.payload: payloads/build.json: The JSON is malformed" in output


# --accept


def test_accept_writes_the_expectation_and_keeps_the_rest(folder: Folder) -> None:
    folder.write_payload(name="shop")
    status, output = folder.check("--accept", "a build")
    assert status == 0, output
    assert "+        summary: Built shop\n" in output
    assert output.endswith("<folder>/relay.tests.yaml:3: the file has this expectation now.\n")
    assert folder.tests.read_text() == TESTS_YAML.replace("Built catalog", "Built shop")
    assert folder.check()[0] == 0


def test_accept_new_test_gets_an_expectation(folder: Folder) -> None:
    new = "\n  - name: new  # c\n    hook: build\n    payload: {ok: false}\n\n# end\n"
    folder.tests.write_text(TESTS_YAML + new)
    assert folder.check("--accept", "new")[0] == 0
    accepted = new.replace("{ok: false}\n", "{ok: false}\n    expect: ignored\n")
    assert folder.tests.read_text() == TESTS_YAML + accepted


def test_accept_passing_test_keeps_the_file(folder: Folder) -> None:
    status, output = folder.check("--accept", "a build")
    assert (status, output) == (
        0,
        "<folder>/relay.tests.yaml:3: the test 'a build' passes already. The file is unchanged.\n",
    )
    assert folder.tests.read_text() == TESTS_YAML


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("a bild", "Did you mean 'a build'?"), ("xyz", "The tests are: a build, a failed build.")],
)
def test_accept_unknown_test_prints_remedy(folder: Folder, name: str, remedy: str) -> None:
    assert folder.check("--accept", name) == (1, f"<folder>/relay.tests.yaml: there is no test '{name}'. {remedy}\n")


def test_accept_alias_keeps_the_file(folder: Folder) -> None:
    text = "tests:\n  - {name: a, hook: build, payload: {ok: false}, expect: &e {error: when}}\n"
    text += "  - {name: b, hook: build, payload: {ok: false}, expect: *e}\n"
    folder.tests.write_text(text)
    status, output = folder.check("--accept", "b")
    assert status == 1
    assert "Write the expectation yourself:\n    expect: ignored\n" in output
    assert folder.tests.read_text() == text


def test_accept_credential_is_neither_written_nor_printed(folder: Folder) -> None:
    folder.write_payload(url="https://jane:CANARY-word@files.example/a.csv?token=CANARY-token")
    status, output = folder.check()
    assert status == 1
    assert "https://[redacted]@files.example/a.csv?token=[redacted]" in output
    status, output = folder.check("--accept", "a build")
    assert status == 0
    assert output.endswith(
        "Note: the expectation has [redacted] in place of each credential, and any credential there passes.\n"
    )
    assert "CANARY" not in folder.tests.read_text()
    assert folder.check()[0] == 0
    folder.write_payload(url="https://jane:CANARY-other@files.example/a.csv?token=CANARY-other")
    assert folder.check()[0] == 0


def test_check_credential_in_the_expectation_is_a_mistake(folder: Folder) -> None:
    folder.tests.write_text(TESTS_YAML.replace("https://files", "https://jane:CANARY-word@files"))
    for arguments in ((), ("--accept", "a build")):
        status, output = folder.check(*arguments)
        assert status == 1
        assert ":10: tests.0.expect.updates.0.update: Contains a credential." in output


# The samples


def test_check_hook_without_payload_uses_the_sample(folder: Folder) -> None:
    (folder.path / "relay.yaml").write_text(
        RELAY_YAML.replace("event.ok", 'headers["x-github-event"] == "workflow_run"')
        .replace("event.name", "event.repository.full_name")
        .replace("event.url", "event.workflow_run.html_url")
    )
    status, output = folder.check("--hook", "build")
    assert status == 0
    assert output.startswith("Payload: deploy/samples/github.json\nDelivery: 5e0a7c40-c77d-11f0-8b3e-92d41f06a5e7\n")
    assert '"summary": "Built acme/products"' in output
    status, output = folder.check("--hook", "build", "--header", "X-GitHub-Event: push")
    assert (status, output.splitlines()[-1]) == (0, "Ignored. The hook's when condition is false for this event.")
