"""Tests of schemas.base."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError, fields, validate

from schemas.base import (
    MAX_ERRORS,
    StrictBoolean,
    StrictList,
    StrictSchema,
    UpdateSchema,
    closest,
    flatten,
    matches,
    one_of,
    path_step,
    string_values,
)


class Inner(StrictSchema):
    name = fields.String(required=True)


class Outer(UpdateSchema):
    title = fields.String()
    inner = fields.Nested(Inner)
    items = StrictList(fields.Nested(Inner))
    tags = StrictList(fields.String(), distinct=True)
    flag = StrictBoolean()


def errors_of(value: Any) -> dict[str, list[str]]:
    return flatten(Outer().validate(value))


def test_validate_valid_object_returns_no_errors() -> None:
    assert errors_of({"title": "a", "inner": {"name": "a"}, "items": [{"name": "b"}], "tags": ["a", "b"]}) == {}


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        ({}, {"": ["At least one field is required: title, inner, items, tags, flag."]}),
        ({"titel": 1}, {"titel": ["Unknown field; did you mean title?"]}),
        ({"zzz": 1}, {"zzz": ["Unknown field; the known fields are: title, inner, items, tags, flag."]}),
        ({"inner": {"name": "a", "x": 1}}, {"inner.x": ["Unknown field; the known fields are: name."]}),
        ({"inner": []}, {"inner": ["Must be an object."]}),
        ({"items": [{"name": "a"}, 1]}, {"items.1": ["Must be an object."]}),
        ({"items": {}}, {"items": ["Must be a list."]}),
        ({"tags": ["a", "b", "a"]}, {"tags.2": ["Must be distinct: the list already has this item."]}),
        ({"flag": 1}, {"flag": ["Must be true or false."]}),
        (
            {"title": "a", "inner": {"name": "a", "_schema": 1}},
            {'inner."_schema"': ["Unknown field; the known fields are: name."]},
        ),
    ],
)
def test_validate_invalid_object_returns_errors_by_path(value: Any, errors: dict[str, list[str]]) -> None:
    assert errors_of(value) == errors


@pytest.mark.parametrize(
    "value",
    [
        {f"x{number}": 1 for number in range(20_000)},
        {"tags": [1] * 20_000},
        {"items": [1] * 20_000},
        {"items": [{}] * 20_000},
    ],
    ids=["fields", "tags", "numbers", "objects"],
)
def test_validate_many_mistakes_returns_first_errors(value: Any) -> None:
    errors = errors_of(value)
    assert len(errors) == MAX_ERRORS + 1
    assert errors["…"] == ["Only the first 100 errors are listed."]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("titel", "title"), ("TITLE", "title"), ("des", "description"), ("de", None), ("zzz", None), ("x" * 65, None)],
)
def test_closest_returns_similar_name_or_none(name: str, hint: str | None) -> None:
    assert closest(name, ["title", "description"]) == hint


def test_flatten_joins_nested_paths() -> None:
    messages = {"a": {0: {"b": ["x", "y"]}, "_schema": ["z"]}, "c": ["w", {"d": ["v"]}]}
    assert flatten(messages) == {"a.0.b": ["x", "y"], "a": ["z"], "c": ["w"], "c.d": ["v"]}


@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("name", "name"),
        (7, "7"),
        ("Content-Type", "Content-Type"),
        ("", '""'),
        ("a.b", '"a.b"'),
        ("n" * 64, "n" * 64),
        ("n" * 65, f'"{"n" * 60}…"'),
        ("é", '"\\u00e9"'),
        ('"_schema"', '"_schema"'),
        ("https://user:CANARY-password@example.com/", '"https://…"'),
        ("?token=CANARY", '"?token=…"'),
        ("Authorization: Bearer CANARY", '"Authorization:…"'),
    ],
)
def test_path_step_quotes_special_keys(key: object, step: str) -> None:
    assert path_step(key) == step


@given(st.text())
def test_path_step_any_key_is_short_ascii(key: str) -> None:
    step = path_step(key)
    assert len(step) <= 800
    assert step.replace("…", "").isascii()
    assert step.isprintable()


@given(st.text("ab:/@.é"), st.text("ab:/@.é"))
def test_path_step_key_with_url_hides_text_after_scheme(before: str, after: str) -> None:
    assert "CANARY" not in path_step(f"{before}://CANARY{after}")


@pytest.mark.parametrize("value", ["yes", "true", 1, 0, [], {}])
def test_strict_boolean_other_value_raises(value: object) -> None:
    with pytest.raises(ValidationError, match="Must be true or false"):
        StrictBoolean().deserialize(value)


def test_string_values_names_each_other_value() -> None:
    string_values({"a": "x"})
    with pytest.raises(ValidationError) as caught:
        string_values({"a": "x", "b": 1, "c": None})
    assert caught.value.messages == {"b": ["Must be a string."], "c": ["Must be a string."]}


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (validate.Length(min=1), "", "Must have 1 or more characters."),
        (validate.Length(max=3), "abcd", "Must have at most 3 characters."),
        (validate.Length(min=2, max=3), "a", "Must have 2 to 3 characters."),
        (validate.Length(min=2, max=3), "abcd", "Must have 2 to 3 characters."),
    ],
)
def test_length_of_other_value_raises(rule: validate.Length, value: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        rule(value)
    assert caught.value.messages == [message]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("MIT", "Must be one of: MIT License, CC-BY; did you mean MIT License?"),
        ("?", "Must be one of: MIT License, CC-BY."),
    ],
)
def test_one_of_other_value_raises_with_hint(value: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        one_of(["MIT License", "CC-BY"])(value)
    assert caught.value.messages == [message]


@pytest.mark.parametrize("text", ["a\n", "ab", "", "\na"])
def test_matches_requires_whole_string(text: str) -> None:
    matches("a|b", "No.")("a")
    with pytest.raises(ValidationError, match=r"No\."):
        matches("a|b", "No.")(text)
