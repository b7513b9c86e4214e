"""Tests of schemas.relay_tests_yaml: the shape of relay.tests.yaml."""

from typing import Any

import pytest

from schemas.base import flatten
from schemas.relay_tests_yaml import RelayTestsYamlSchema

UPDATE = {"provider": "apify", "dataset": "abc", "update": {"name": "x"}}


def errors(**changes: Any) -> dict[str, list[str]]:
    test = {"name": "a", "hook": "h", "payload": {}, "expect": "ignored", **changes}
    messages = flatten(RelayTestsYamlSchema().validate({"tests": [test]}))
    assert all(path.startswith("tests.0.") for path in messages)
    return {path.removeprefix("tests.0."): found for path, found in messages.items()}


@pytest.mark.parametrize("content", [{}, {"tests": None}, {"tests": []}])
def test_file_without_tests_is_valid(content: dict[str, Any]) -> None:
    assert RelayTestsYamlSchema().validate(content) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"payload": None},
        {"payload": "samples/apify.json"},
        {"payload": [1]},
        {"headers": {"X-GitHub-Event": "push", "x": ""}},
        {"expect": {"error": "updates.0.dataset"}},
        {"expect": {"error": ["updates.0.dataset", "when"]}},
        {"expect": {"updates": [UPDATE]}},
    ],
)
def test_test_valid_value_is_accepted(changes: dict[str, Any]) -> None:
    assert errors(**changes) == {}


def test_test_without_expect_is_accepted() -> None:
    assert RelayTestsYamlSchema().validate({"tests": [{"name": "a", "hook": "h", "payload": {}}]}) == {}


def test_file_wrong_shape_names_the_mistake() -> None:
    assert RelayTestsYamlSchema().validate([]) == {"_schema": ["Must be an object with tests."]}
    assert RelayTestsYamlSchema().validate({"test": []}) == {"test": ["Unknown field; did you mean tests?"]}


def test_test_missing_keys_names_each() -> None:
    messages = flatten(RelayTestsYamlSchema().validate({"tests": [{}]}))
    assert set(messages) == {"tests.0.name", "tests.0.hook", "tests.0.payload"}


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"expects": 1}, "expects", "Unknown field; did you mean expect?"),
        ({"name": "a\nb"}, "name", "Must be one line of text."),
        ({"name": ""}, "name", "Must be one line of text."),
        ({"name": 5}, "name", "Must be a string."),
        ({"headers": []}, "headers", "Must be an object."),
        ({"headers": {"X_Event": "a"}}, "headers.X_Event", "Must be the name of a header."),
        ({"headers": {"X Event": "a"}}, 'headers."X Event"', "Must be the name of a header."),
        ({"headers": {"X-Event": 5}}, "headers.X-Event", "Must be a string."),
        ({"headers": {"X-Event": "a\nb"}}, "headers.X-Event", "Must be one line of text."),
        ({"expect": None}, "expect", "Must not be null."),
        ({"expect": "ignord"}, "expect", "Must be the word `ignored`, or an object with `updates` or `error`."),
        ({"expect": {}}, "expect", "Must be the word `ignored`, "),
        ({"expect": {"error": "a", "updates": [UPDATE]}}, "expect", "Must be the word `ignored`, "),
        ({"expect": {"eror": "a"}}, "expect.eror", "Unknown field; did you mean error?"),
        ({"expect": {"updates": [UPDATE], "status": 1}}, "expect.status", "Unknown field; the known fields are: "),
        ({"expect": {"error": []}}, "expect.error", "Must be the path of an error, "),
        ({"expect": {"error": {"updates": 1}}}, "expect.error", "Must be the path of an error, "),
        ({"expect": {"updates": []}}, "expect.updates", "Must have at least one update. For none, write: expect:"),
        (
            {"expect": {"updates": [{**UPDATE, "tokn": "x"}]}},
            "expect.updates.0.tokn",
            "Unknown field; the known fields are: provider, dataset, update.",
        ),
        ({"expect": {"updates": [{**UPDATE, "update": []}]}}, "expect.updates.0.update", "Must be an object."),
    ],
)
def test_test_wrong_value_names_the_mistake(changes: dict[str, Any], path: str, message: str) -> None:
    found = errors(**changes)
    assert list(found) == [path]
    assert found[path][0].startswith(message)
