"""Tests of handlers.hooks.tests: the mistakes in relay.tests.yaml, and the results of the tests of hooks."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from marshmallow import ValidationError

from handlers.hooks import Config
from handlers.hooks.templates.limits import Budget
from handlers.hooks.tests import HookTest, HookTestsError, Outcome, accept, read_tests, run_test
from handlers.providers import PROVIDERS
from handlers.redaction import MAX_CREDENTIALS
from schemas.strict_json import JSON
from tests.support.configuration import load_hooks
from tests.support.hooks import hook, update

SECRET = "CANARY-password"
# A hook that puts the payload's password into a field for passwords and into another update.
CREDENTIALS = {"user": "jane", "password": "{{ event.password }}"}
FILES = {"files": [{"name": "a.csv", "source": {"url": "https://example.com/a.csv", "credentials": CREDENTIALS}}]}
HOOKS: dict[str, Any] = {
    "names": hook(update("apify", "{{ event.id }}", {"name": "{{ event.name }}"}), when="event.done", sender="github"),
    "files": hook(
        update("data.world", "acme/first", FILES),
        update("data.world", "acme/second", {"summary": "By {{ event.password }}"}),
    ),
}
NAMED: Any = {"updates": [{"provider": "apify", "dataset": "abc", "update": {"name": "x"}}]}

Read = Callable[..., tuple[HookTest, ...]]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_hooks(tmp_path, **HOOKS)


def read_payload(file: str) -> JSON:
    if file == "absent.json":
        raise ValidationError("Can't read the file absent.json.")
    return {"file": file}


@pytest.fixture
def read(config: Config) -> Read:
    """Return the tests in a text, or in a list of tests."""

    def call(content: str | list[dict[str, Any]]) -> tuple[HookTest, ...]:
        text = textwrap.dedent(content) if isinstance(content, str) else yaml.safe_dump({"tests": content})
        return read_tests("relay.tests.yaml", text, config.hooks, PROVIDERS, read_payload)

    return call


@pytest.fixture
def mistakes(read: Read) -> Callable[[str], list[str]]:
    """Return the lines about the mistakes in a text, without the name of the file."""

    def call(text: str) -> list[str]:
        with pytest.raises(HookTestsError) as caught:
            read(text)
        assert str(caught.value) == "\n".join(caught.value.lines)
        assert all(line.startswith("relay.tests.yaml:") for line in caught.value.lines)
        return [line.removeprefix("relay.tests.yaml:") for line in caught.value.lines]

    return call


def case(hook_name: str = "names", payload: Any = None, **more: Any) -> dict[str, Any]:
    event = {"id": "abc", "name": "x", "done": True} if payload is None else payload
    return {"name": "a", "hook": hook_name, "payload": event, **more}


def run(read: Read, *arguments: Any, **more: Any) -> Outcome:
    (test,) = read([case(*arguments, **more)])
    return run_test(test, PROVIDERS, Budget(100_000, lambda: False))


# The file


@pytest.mark.parametrize("text", ["", "# nothing\n", "tests:\n", "tests: []\n"])
def test_read_tests_without_tests_returns_nothing(read: Read, text: str) -> None:
    assert read(text) == ()


def test_read_tests_returns_each_test(read: Read, config: Config) -> None:
    first, second = read(
        """\
        tests:
          - name: a
            hook: names
            payload: samples/a.json
            headers: {X-GitHub-Event: push}
          # c
          - {name: b, hook: files, payload: [1], expect: ignored}
        """
    )
    assert first == HookTest(
        "a", config.hooks["names"], {"file": "samples/a.json"}, {"x-github-event": "push"}, None, 0, 2
    )
    assert second == HookTest("b", config.hooks["files"], [1], {}, "ignored", 1, 7)


def test_read_tests_mistakes_have_line_and_path(mistakes: Callable[[str], list[str]]) -> None:
    found = mistakes(
        """\
        test: 1
        tests:
          - name: a
            hok: names
            payload: absent.json
          - name: a
            hook: nams
            payload: {}
            headers: {X-A: a, x-a: b}
            expect:
              updates:
                - provider: apify
                  dataset: abc
          - nothing
          - name: b
            hook: other
            payload: {}
            expect: {eror: 1}
          - name: c
            hook: names
            payload: 1
            headers: [1]
        """
    )
    assert found == [
        "1: test: Unknown field; did you mean tests?",
        "3: tests.0.hook: Required: add this field.",
        "4: tests.0.hok: Unknown field; did you mean hook?",
        "5: tests.0.payload: Can't read the file absent.json.",
        "6: tests.1.name: Must be distinct: tests.0 has this name.",
        "7: tests.1.hook: There is no hook nams. Did you mean names?",
        "9: tests.1.headers: Two headers have the same name in different case. Remove one of them.",
        "12: tests.1.expect.updates.0.update: Required: add this field.",
        "14: tests.2: Must be an object.",
        "16: tests.3.hook: There is no hook other. The hooks are: files, names.",
        "18: tests.3.expect.eror: Unknown field; did you mean error?",
        "22: tests.4.headers: Must be an object.",
    ]


def test_read_tests_wrong_shape_names_the_line(mistakes: Callable[[str], list[str]]) -> None:
    assert mistakes("# c\n- a\n") == ["2: Must be an object with tests."]
    assert mistakes("tests: 5\n") == ["1: tests: Must be a list."]


def test_read_tests_invalid_yaml_names_the_line(mistakes: Callable[[str], list[str]]) -> None:
    text = "tests:\n  - name: a\n    hook: names\n    payload: 1\n    payload: 2\n"
    assert mistakes(text) == ["5: tests.0.payload: Duplicate key."]
    (line,) = mistakes("tests:\n  - [\n")
    assert line.startswith("3: Not valid YAML: ")


def test_read_tests_without_hooks_names_none(read: Read) -> None:
    with pytest.raises(HookTestsError) as caught:
        read_tests("t", "tests: [{name: a, hook: b, payload: 1}]", {}, PROVIDERS, read_payload)
    assert caught.value.lines == ["t:1: tests.0.hook: There is no hook b. The hooks are: none."]


@pytest.mark.parametrize(
    "body",
    [
        {"files": [{"name": "a", "source": {"url": "https://u:CANARY@example.com/"}}]},
        {"files": [{"name": "a", "source": {"url": "https://example.com/?token=CANARY"}}]},
        {"files": [{"name": "a", "source": {"credentials": {"user": "u", "password": "CANARY"}}}]},
        {"files": [{"source": {"requestHeaders": {"Cookie": f"n{i}=CANARY{i}"}}} for i in range(MAX_CREDENTIALS)]},
    ],
)
def test_read_tests_expected_credential_is_a_mistake(read: Read, body: Any) -> None:
    expected = {"updates": [{"provider": "data.world", "dataset": "a/b", "update": body}]}
    with pytest.raises(HookTestsError) as caught:
        read([case(expect=expected)])
    (line,) = caught.value.lines
    assert 'tests.0.expect.updates.0.update: Contains a credential. In place of each credential, write "[red' in line
    assert "CANARY" not in line


@pytest.mark.parametrize("updates", [["x"], [{"provider": "apfy", "update": {}}], [{"provider": "apify", "update": 1}]])
def test_read_tests_invalid_expected_update_is_no_credential(read: Read, updates: Any) -> None:
    with pytest.raises(HookTestsError) as caught:
        read([case(expect={"updates": updates})])
    assert not any("credential" in line for line in caught.value.lines)


# The results


def test_run_test_updates_are_the_result(read: Read) -> None:
    outcome = run(read, expect=NAMED)
    assert outcome == Outcome(NAMED, NAMED, passes=True)
    assert outcome.diff() == ""


def test_run_test_order_of_keys_has_no_meaning(read: Read) -> None:
    update_in_other_order = dict(reversed(NAMED["updates"][0].items()))
    outcome = run(read, expect={"updates": [update_in_other_order]})
    assert outcome.passes
    assert outcome.diff() == ""


@pytest.mark.parametrize(
    ("payload", "headers", "reason"),
    [
        ({"done": False}, {}, "The hook's when condition is false for this event."),
        ({}, {}, "The hook's when condition is false for this event: event.done is missing."),
        ({"done": True}, {"X-GitHub-Event": "ping"}, "This is a test message of github."),
    ],
)
def test_run_test_ignored_event_has_the_reason(read: Read, payload: Any, headers: Any, reason: str) -> None:
    outcome = run(read, "names", payload, headers=headers, expect="ignored")
    assert outcome == Outcome("ignored", "ignored", passes=True, reasons=(reason,))


@pytest.mark.parametrize(
    ("payload", "paths"),
    [
        ({"done": True, "id": "abc", "name": "-"}, "updates.0.update.name"),
        ({"done": True, "id": "../x"}, ["updates.0.dataset", "updates.0.update.name"]),
    ],
)
def test_run_test_failed_hook_has_the_paths(read: Read, payload: Any, paths: Any) -> None:
    outcome = run(read, "names", payload, expect={"error": paths})
    assert outcome.passes
    assert [reason.partition(":")[0] for reason in outcome.reasons] == ([paths] if isinstance(paths, str) else paths)
    if isinstance(paths, list):
        assert run(read, "names", payload, expect={"error": paths[::-1]}).passes
        assert not run(read, "names", payload, expect={"error": paths[:1]}).passes
    else:
        assert run(read, "names", payload, expect={"error": [paths]}).passes


def test_run_test_too_many_credentials_has_the_path(tmp_path: Path) -> None:
    body = {"summary": "{{ event | join(' ') }}"}
    many: list[JSON] = [f"https://example.com/?token=CANARY{number}" for number in range(MAX_CREDENTIALS + 1)]
    limited = load_hooks(
        tmp_path, many=hook(update("data.world", "acme/first", body), update("data.world", "acme/second", body))
    )
    outcome = run_test(
        HookTest("a", limited.hooks["many"], many, {}, None, 0, 1), PROVIDERS, Budget(1_000_000, lambda: False)
    )
    assert outcome.result == {"error": "update"}


@pytest.mark.parametrize(
    ("expected", "diff"),
    [
        (None, ["+expect:", "+  updates:", "+    - provider: apify", "+      dataset: abc", "+      update:"]),
        ("ignored", ["-expect: ignored", "+expect:", "+  updates:"]),
        ({"error": "updates.0.dataset"}, ["-  error: updates.0.dataset", "+  updates:"]),
        (
            {"updates": [{"update": {"generalAccess": None, "name": "y"}, "dataset": "abc", "provider": "apify"}]},
            ["-        name: y", "-        generalAccess: null", "+        name: x"],
        ),
    ],
)
def test_diff_failed_test_shows_the_difference(read: Read, expected: JSON, diff: list[str]) -> None:
    outcome = run(read, **({} if expected is None else {"expect": expected}))
    assert not outcome.passes
    lines = outcome.diff().split("\n")
    assert lines[:2] == ["--- expected", "+++ actual"]
    assert [line for line in lines[3:] if line[0] in "+-"][: len(diff)] == diff


# Credentials


def test_run_test_credentials_are_redacted_in_every_update(read: Read) -> None:
    outcome = run(read, "files", {"password": SECRET})
    assert outcome.has_credentials
    assert "CANARY" not in repr(outcome) + outcome.diff()
    result: Any = outcome.result
    first, second = result["updates"]
    assert first["update"]["files"][0]["source"]["credentials"] == {"user": "[redacted]", "password": "[redacted]"}
    assert second["update"] == {"summary": "By [redacted]"}
    assert run(read, "files", {"password": SECRET}, expect=outcome.result).passes
    assert run(read, "files", {"password": "CANARY-other"}, expect=outcome.result).passes


def test_run_test_copy_of_a_credential_in_the_expectation_is_redacted(read: Read) -> None:
    result = run(read, "files", {"password": SECRET}).result
    expected = yaml.safe_load(yaml.safe_dump(result))
    expected["updates"][1]["update"]["summary"] = f"By {SECRET}"
    outcome = run(read, "files", {"password": SECRET}, expect=expected)
    assert not outcome.passes
    assert outcome.diff() == ""
    assert "CANARY" not in repr(outcome)


def test_accept_credential_is_not_written(config: Config) -> None:
    text = "tests:\n  - name: a  # c\n    hook: files\n    payload: {password: example-word}\n"
    (test,) = read_tests("t", text, config.hooks, PROVIDERS, read_payload)
    outcome = run_test(test, PROVIDERS, Budget(100_000, lambda: False))
    accepted = accept(text, test, outcome)
    assert accepted.startswith(text)
    assert accepted.count("example-word") == 1
    assert accepted.count('"[redacted]"') == 2
    (changed,) = read_tests("t", accepted, config.hooks, PROVIDERS, read_payload)
    assert run_test(changed, PROVIDERS, Budget(100_000, lambda: False)).passes


def test_accept_changes_only_the_expectation_of_the_test(config: Config) -> None:
    text = textwrap.dedent(
        """\
        # tests
        tests:
          - {name: a, hook: names, payload: {}, expect: ignored}  # a
          - name: b
            payload: {done: true, id: abc, name: x}
            expect: ignored  # b
            hook: names

          # c
          - {name: c, hook: names, payload: {}}
        """
    )
    second = read_tests("t", text, config.hooks, PROVIDERS, read_payload)[1]
    accepted = accept(text, second, run_test(second, PROVIDERS, Budget(100_000, lambda: False)))
    assert accepted == text.replace(
        "expect: ignored  # b\n",
        "expect:  # b\n"
        "      updates:\n        - provider: apify\n          dataset: abc\n          update:\n            name: x\n",
    )
