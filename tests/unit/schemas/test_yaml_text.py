"""Tests of schemas.yaml_text: the text of a value, and a change that keeps the rest of a text."""

import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import strict_yaml
from schemas.strict_json import JSON, ExactNumber
from schemas.yaml_text import EditError, dump_member, is_equal, set_member

# YAML allows neither lone surrogates nor some control characters, and a range of numbers is enough.
SPECIAL_TEXTS = """no|1e5|0x1F|2026-11-22|null||[x]|{{ x }}|a: b|a #b|- a|# a|'|"|a\n|a\nb\n|\na\nb|a\n\n|a\nb\n\n
| a\nb|a \nb|a\tb|\ta\nb|a\r\nb|a\u2028b\nc|💶\nx"""
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(SPECIAL_TEXTS.split("|"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXTS, children, max_size=3),
    max_leaves=12,
)


def changed(text: str, value: Any, path: tuple[str | int, ...] = (), name: str = "expect") -> str:
    return set_member(textwrap.dedent(text), path, name, value)


@given(VALUES)
def test_dump_member_any_value_is_read_as_the_same_value(value: Any) -> None:
    text = dump_member("expect", value, column=2)
    assert strict_yaml.parse(f"  {text}\n")[:2] == ({"expect": value}, {})


def test_dump_member_values_are_written_for_people() -> None:
    value: JSON = {
        "summary": "one\ntwo\n",
        "tags": ["a", "no"],
        "number": ExactNumber("1.50"),
        "empty": {},
        "name": "Größe 💶",
    }
    assert dump_member("expect", value) == textwrap.dedent(
        """\
        expect:
          summary: |
            one
            two
          tags:
            - a
            - 'no'
          number: 1.5
          empty: {}
          name: Größe 💶"""
    )


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True),
        (1, 1.0, False),
        (1, True, False),
        (1.5, ExactNumber("1.50"), True),
        ([1, 2], [2, 1], False),
        (None, "null", False),
    ],
)
def test_is_equal_values_are_compared_as_json(first: Any, second: Any, expected: bool) -> None:
    assert is_equal(first, second) is expected


# A new member


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("a: 1\n", "x", "a: 1\nexpect: x\n"),
        ("a: 1", "x", "a: 1\nexpect: x\n"),
        ("a: 1", "x\ny\n", "a: 1\nexpect: |\n  x\n  y\n"),
        ("a: 1   # one\n\n# end\n", "x", "a: 1   # one\nexpect: x\n\n# end\n"),
        ("a:\n", "x", "a:\nexpect: x\n"),
        ("a: {b: [1,\n  2]}  # c\n", "x", "a: {b: [1,\n  2]}  # c\nexpect: x\n"),
        ("a:\n  - b: |\n      text\n\n# end\n", {"c": 1}, "a:\n  - b: |\n      text\nexpect:\n  c: 1\n\n# end\n"),
        ("a: |+\n  text\n\n", "x", "a: |+\n  text\n\nexpect: x\n"),
        ("a: |  # + c\n  text\n\n", "x", "a: |  # + c\n  text\nexpect: x\n\n"),
        ("{a: 1, b: {c: 2}}  # d\n", {"e": [1]}, "{a: 1, b: {c: 2}, expect: {e: [1]}}  # d\n"),
        ("{a: 1,}\n", "x", "{a: 1, expect: x,}\n"),
        ("\ufeffa: 1\n", "x", "\ufeffa: 1\nexpect: x\n"),
        ("a: 1\r\n# c\r\n", {"b": 1}, "a: 1\r\nexpect:\r\n  b: 1\r\n# c\r\n"),
    ],
)
def test_set_member_new_member_is_added_at_the_end(text: str, value: Any, expected: str) -> None:
    assert set_member(text, (), "expect", value) == expected


# A changed member


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("expect: a   # c\nb: 1\n", "x", "expect: x   # c\nb: 1\n"),
        ("expect: a   # c\nb: 1\n", {"y": 1}, "expect:   # c\n  y: 1\nb: 1\n"),
        ("expect: a # c\nb: 1\n", "x\ny\n", "expect: | # c\n  x\n  y\nb: 1\n"),
        ("expect:   # c\n  y: 1\n# d\nb: 1\n", "x", "expect: x   # c\n# d\nb: 1\n"),
        ("expect:\n  # c\n  y: 1 # d\n\nb: 1\n", "x", "expect: x\n  # c\n  # d\n\nb: 1\n"),
        ("expect:\n  # c\n  y: 1 # d\nb: 1\n", {"z": [1]}, "expect:\n  # c\n  # d\n  z:\n    - 1\nb: 1\n"),
        ("expect:\n  # c\n  y: 1\nb: 1\n", "x\ny\n", "expect: |\n  x\n  y\n# c\nb: 1\n"),
        ("expect:\n  y: 1  # one\n  z: 2  # two\n", {"z": 3, "y": 1}, "expect:\n  y: 1  # one\n  z: 3  # two\n"),
        (
            "expect:\n  - a: 1  # one\n  # c\n  - {a: 1, b: 2}\n",
            [{"a": 2}, {"a": 1, "b": 2}],
            "expect:\n  - a: 2  # one\n  # c\n  - {a: 1, b: 2}\n",
        ),
        ("expect:\n  - 1  # one\n  - 2\n", [1, 3], "expect:\n  # one\n  - 1\n  - 3\n"),
        ("expect:\n  - 1\n", [1, 3], "expect:\n  - 1\n  - 3\n"),
        ("expect: {a: 1}  # c\n", {"a": 2, "b": 3}, "expect: {a: 2, b: 3}  # c\n"),
        ("expect: {a: 1}\n", {"a": "x" * 200}, f"expect:\n  a: {'x' * 200}\n"),
        ("expect: {a: '#1', b: 2} # c\n", {"a": "y\nz"}, 'expect: {a: "y\\nz"} # c\n'),
        ("expect: 'it # is'  # c\n", "x", "expect: x  # c\n"),
        ("expect:\n", "x", "expect: x\n"),
        ("{expect: {a: 1}, b: 2}  # c\n", {"a": [2]}, "{expect: {a: [2]}, b: 2}  # c\n"),
        ('"expect": a\n', "x", '"expect": x\n'),
        ("expect: &a x\nb: y\n", "z", "expect: z\nb: y\n"),
    ],
)
def test_set_member_changed_member_keeps_the_rest(text: str, value: Any, expected: str) -> None:
    assert set_member(text, (), "expect", value) == expected


def test_set_member_equal_value_returns_the_same_text() -> None:
    text = "expect: {b: 1,   a: 2}  # c\n"
    assert set_member(text, (), "expect", {"a": 2, "b": 1}) == text


def test_set_member_path_selects_the_mapping() -> None:
    text = """\
        tests:
          - name: a
            expect: x  # a
          # b
          - name: b
        """
    assert changed(text, {"y": 1}, ("tests", 0)) == textwrap.dedent(
        """\
        tests:
          - name: a
            expect:  # a
              y: 1
          # b
          - name: b
        """
    )
    assert changed(text, "z", ("tests", 1)).endswith("  - name: b\n    expect: z\n")


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {c: 1}\nexpect: *x\n",  # the change would replace the original of the alias
        "expect: &x {c: 1}\na: *x\n",  # the change would remove the anchor
        "{a: 1, expect: [1, # c\n  2]}\n",  # the change would remove the comment
    ],
)
def test_set_member_change_of_another_part_raises_error(text: str) -> None:
    with pytest.raises(EditError):
        set_member(text, (), "expect", {"c": 2})


@given(VALUES, VALUES, st.sampled_from(["  # c\n\n# d\n", "\n\n\n", "", "\r\n# d\r\n"]))
def test_set_member_any_values_keep_the_other_members(old: Any, new: Any, end: str) -> None:
    text = f"first: 1  # one\ntests:\n  - {dump_member('expect', old, 4)}{end}"
    found, errors, _ = strict_yaml.parse(text)
    if errors or found != {"first": 1, "tests": [{"expect": old}]}:
        return  # A comment after a block is a part of the block.
    result = set_member(text, ("tests", 0), "expect", new)
    assert strict_yaml.parse(result)[:2] == ({"first": 1, "tests": [{"expect": new}]}, {})
    assert result.startswith("first: 1  # one\ntests:\n  - expect:")
    assert ("# d" in result) is ("# d" in end)
