"""Tests of schemas.strict_yaml."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.strict_yaml import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2026-11-22", "2026-11-22"),
        ("a: no", "no"),
        ("a: on", "on"),
        ("a: 0123", "0123"),
        ("a: 0x1F", "0x1F"),
        ("a: 1_000", "1_000"),
        ("a: 1:30", "1:30"),
        ("a: .nan", ".nan"),
        ("a: .inf", ".inf"),
        ("a: =", "="),
        ("a: 'true'", "true"),
        ("a: !!str 12", "12"),
        ("a: true", True),
        ("a: False", False),
        ("a: null", None),
        ("a: ~", None),
        ("a:", None),
        ("a: 12", 12),
        ("a: -7", -7),
        ("a: 1.5", 1.5),
        ("a: 1e3", 1000.0),
        ("a: 0", 0),
        ("a: [x, {b: 1}]", ["x", {"b": 1}]),
        ("a: |\n  one\n  two\n", "one\ntwo\n"),
        ("a: >-\n  one\n  two\n", "one two"),
        ("a: &x [1]\n", [1]),
        ('a: "\\ud83d\\ude00"', "😀"),
    ],
)
def test_parse_scalar_returns_core_schema_value(text: str, value: Any) -> None:
    document, errors, _ = parse(text)
    assert errors == {}
    assert document == {"a": value}
    assert isinstance(document, dict)
    assert type(document["a"]) is type(value)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_parse_empty_document_returns_none(text: str) -> None:
    assert parse(text)[:2] == (None, {})


def test_parse_alias_returns_value_of_anchor() -> None:
    assert parse("a: &x {b: [1]}\nc: *x\n")[:2] == ({"a": {"b": [1]}, "c": {"b": [1]}}, {})


@pytest.mark.parametrize(
    ("text", "path", "message", "line"),
    [
        ("a: 1\nb: 2\na: 3", "a", "Duplicate key.", 3),
        ("a: {b: 1, b: 2}", "a.b", "Duplicate key.", 1),
        ("a:\n  - {b: 1}\n  - {c: 1, 'c': 2}", "a.1.c", "Duplicate key.", 3),
        ("1: x", "1", "A key is not a string; put the key in quotes.", 1),
        ("? [a]\n: x", "", "A key is not a string; put the key in quotes.", 1),
        ("a: !!python/object/apply:os.system [x]", "a", "remove the tag.", 1),
        ("a: !!binary aGk=", "a", "remove the tag.", 1),
        ("a: !!int x", "a", "remove the tag.", 1),
        ("a: !mine x", "a", 'Unsupported tag "!mine"; remove the tag.', 1),
        ("a: !mine {}", "a", 'Unsupported tag "!mine"; remove the tag.', 1),
        ("a: " + "9" * 400, "a", "The number is out of range.", 1),
        ("a: 1e999", "a", "The number is out of range.", 1),
        ('a: "\\ud800"', "a", "Contains a lone surrogate, which isn't a character.", 1),
        ("a: [", "", "Not valid YAML: expected the node content, but found '<stream end>' (column 5).", 1),
        ("a: {{ event.x }}", "a", "A value that begins with {{ must be in quotes.", 1),
        ("a: {{ event.x }}-b", "", "Put the whole value in quotes. In YAML, { begins an object.", 1),
        ("a: 'x' y", "", "If the value contains quotes, use other quotes around it.", 1),
        ("a: {event.x}", "a", "A template begins with {{, and must be in quotes.", 1),
        ("a:\n\tb: 1", "", "Indent with spaces, not with tabs.", 2),
        ("a: b: c", "", "allowed here (column 5). Put a value that contains ': ' in quotes.", 1),
        ("a: 1\n---\nb: 2", "", "(column 1). Put everything into one document.", 2),
        ("a: *x", "", "Not valid YAML: found undefined alias 'x' (column 4).", 1),
        ("a: \x01", "", "Not valid YAML: the file contains a character that YAML doesn't allow.", 1),
        ("a: " + "[" * 5000, "", "Nested deeper than 64 levels.", None),
    ],
)
def test_parse_mistake_returns_error_with_path_and_line(text: str, path: str, message: str, line: int | None) -> None:
    _, errors, lines = parse(text)
    assert list(errors) == [path]
    assert errors[path][0].endswith(message)
    assert lines.get(path) == line


def test_parse_several_mistakes_returns_all_errors() -> None:
    _, errors, _ = parse("a: {b: 1, b: 2}\nc: !mine x\n1: x\n")
    assert list(errors) == ["a.b", "c", "1"]


@pytest.mark.parametrize(("levels", "is_valid"), [(63, True), (64, False)])
def test_parse_max_depth_includes_the_outermost_object(levels: int, is_valid: bool) -> None:
    _, errors, _ = parse("a: " + "[" * levels + "]" * levels)
    assert (errors == {}) is is_valid


def test_parse_recursive_alias_returns_depth_error() -> None:
    _, errors, _ = parse("a: &x [*x]")
    ((message,),) = errors.values()
    assert message == "Nested deeper than 64 levels."


def test_parse_exponential_aliases_returns_error() -> None:
    text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    _, errors, _ = parse(text)
    assert errors == {"": ["More than 100000 values. An alias counts as all values for which it stands."]}


def test_parse_document_returns_line_of_each_path() -> None:
    text = """# a comment
a: 1
b:
  - x
  -
    y: &y
      z: [
        1]
    "c.d":
      - e
f: *y
"""
    assert parse(text)[2] == {
        "": 2, "a": 2, "b": 3, "b.0": 4, "b.1": 6, "b.1.y": 6, "b.1.y.z": 7, "b.1.y.z.0": 8, 'b.1."c.d"': 9,
        'b.1."c.d".0': 10, "f": 11, "f.z": 7, "f.z.0": 8,
    }  # fmt: skip


def test_parse_character_that_yaml_forbids_returns_line() -> None:
    assert parse("a: 1\n\nb: \x01")[2] == {"": 3}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text("abz019-_:.{}#!&*'\" \n~", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abz-", min_size=1), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abz-", min_size=1, max_size=5), VALUES, max_size=4))
def test_parse_json_returns_same_value(value: dict[str, Any]) -> None:
    # JSON is a subset of YAML, except that PyYAML limits the length of a key.
    assert parse(json.dumps(value))[:2] == (value, {})


@given(st.text("ab:-[]{}#&*!|>'\"%@`,?\n 019.~\t\\", max_size=60))
def test_parse_any_text_returns_json_value(text: str) -> None:
    value, _, _ = parse(text)
    json.dumps(value, allow_nan=False)
