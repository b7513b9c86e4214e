"""Tests of schemas.yaml_hints. tests/unit/hooks/test_hints.py has the tests of whole files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.strict_yaml import parse

DOUBLE = "use single quotes inside."
SINGLE = "use double quotes inside."
OTHER_QUOTES = "If the value contains quotes, use other quotes around it."
INDENTATION = "Begin all keys of an object in the same column."
SPECIAL = "Put a value with a special character in quotes."


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('u: {a: "{{ event.t | default("x") }}", b: 1}', DOUBLE),
        ('u: [ "{{ event["x"] }}" ]', DOUBLE),
        ('a: "{{ event.t | date("") }}"', DOUBLE),
        ('a: "{% if event.x == "y" %}z{% endif %}"', DOUBLE),
        ("a: '{{ event.t | date('%Y') }}'", SINGLE),
        ("u: {a: { event.x }}}", "A template begins with {{, and the whole value must be in quotes"),
        ("- { headers['x'] }}", "A template begins with {{, and the whole value must be in quotes"),
        ("u: {a: ${{ event.x }}}", "Remove the $, and put the whole value in quotes"),
        ("a: 1\nb: {#123}\nc: 2\n", "In line 2, {# begins an object and a comment."),
        ("a: {x: {# c #} y", "In line 1, {# begins an object and a comment."),
        ("a: {{ event.x }", "Put the whole value in quotes. In YAML, { begins an object."),
        ("a: {{ event.x | limit(3) ~ [] }}", "Put the whole value in quotes. In YAML, { begins an object."),
        ("a: {% x %}", "Put the whole value in quotes. In YAML, { begins an object."),
        ('a: "x" y', OTHER_QUOTES),
        ("a: 'x'y'", OTHER_QUOTES),
        ("a: {x: y {z}}", SPECIAL),
        ("a: @x", SPECIAL),
        ("a: }", SPECIAL),
        ("a: {x: 1}}", SPECIAL),
        ("a: {x: 1", "Close each { and each ["),
        ("a: [x\nb: 1", "Close each { and each ["),
        ('a: "x\n', "A value has no closing quote."),
        ("a: 1\n---\nb: 2", "Put everything into one document."),
        ("a:\n\tb: 1", "Indent with spaces, not with tabs."),
        ("a:\n    b: 1\n  c: 1", INDENTATION),
        ("a:\n  b: 1\n - c", INDENTATION),
        ("a:\n  - b: 1\n  c: 1", INDENTATION),
        ("  a: 1\nb: 2", INDENTATION),
        ("a: b\n\n  c: 1", "The line has more indentation than line 1, whose key already has a value."),
        ("- a: b\n    c: 1", "The line has more indentation than line 1"),
        ("a: b: c", "Put a value that contains ': ' in quotes."),
        ("a: 1\nb: c: d", "Put a value that contains ': ' in quotes."),
        ("x\n  y z: 1", "Put a value that contains ': ' in quotes."),
    ],
)
def test_parse_invalid_yaml_gives_hint(text: str, hint: str) -> None:
    _, errors, _ = parse(text)
    assert hint in errors[""][0]


@pytest.mark.parametrize("text", ["a: *x", "a: >x", "a: - b"])
def test_parse_other_mistake_gives_no_hint(text: str) -> None:
    _, errors, _ = parse(text)
    assert errors[""][0].endswith(").")


@given(st.text("ab:-[]{}#'\"\n \r\x85\u2028%$|", min_size=1))
def test_parse_any_text_finds_line_of_mistake(text: str) -> None:
    _, errors, _ = parse(text)
    assert all(messages for messages in errors.values())
