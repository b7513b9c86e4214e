"""Tests of schemas.secret_reference."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from schemas.secret_reference import ReferenceParser, SecretReference

ENVIRON = {"GOOGLE_CLOUD_PROJECT": "here", "MY_TOKEN": "CANARY-token", "EMPTY": " "}
PARSER = ReferenceParser(ENVIRON, ["apify_api_", "x[0-9]|y[0-9]"])


def errors_of(value: object, parser: ReferenceParser = PARSER) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        parser.parse(value, "APIFY_TOKEN")
    return [str(message) for message in caught.value.messages]


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("projects/p-1/secrets/tok", "manager", "projects/p-1/secrets/tok/versions/latest"),
        ("projects/123/secrets/tok/versions/7", "manager", "projects/123/secrets/tok/versions/7"),
        (" projects/p-1/secrets/tok/versions/latest ", "manager", "projects/p-1/secrets/tok/versions/latest"),
        ("projects/example.com:p/secrets/tok", "manager", "projects/example.com:p/secrets/tok/versions/latest"),
        (
            "projects/p-1/locations/europe-west3/secrets/tok",
            "manager",
            "projects/p-1/locations/europe-west3/secrets/tok/versions/latest",
        ),
        (
            "projects/p-1/locations/us-central1/secrets/tok/versions/7",
            "manager",
            "projects/p-1/locations/us-central1/secrets/tok/versions/7",
        ),
        ("tok_en-1", "manager", "projects/here/secrets/tok_en-1/versions/latest"),
        ("env", "manager", "projects/here/secrets/env/versions/latest"),
        ("projects/p-1/secrets/apify_api_key", "manager", "projects/p-1/secrets/apify_api_key/versions/latest"),
        ("env:MY_TOKEN", "env", "MY_TOKEN"),
        ("file:/run/secrets/apify token", "file", "/run/secrets/apify token"),
    ],
)
def test_parse_valid_reference_returns_reference(text: str, kind: Any, name: str) -> None:
    reference = PARSER.parse(text, "APIFY_TOKEN")
    assert reference == SecretReference(kind, name)
    assert reference.label == "APIFY_TOKEN"


@pytest.mark.parametrize(
    "text",
    [
        "apify_api_CANARYabcdefghijklmnopqrstuvwxyz",
        "apify_api_x",
        "y7-CANARY",
        "eyJhbGciOiJIUzUxMiJ9.CANARY.c2lnbmF0dXJl",
        "whsec_CANARYMfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "ghp_CANARY",
        "github_pat_CANARY",
        "glpat-CANARY",
        "dbtc_CANARY",
        "0123456789abcdef0123456789ABCDEF",
    ],
)
def test_parse_secret_raises_without_value(text: str) -> None:
    (message,) = errors_of(text)
    assert message.startswith("Looks like a token or a secret. Give a reference to the secret instead: ")
    assert text not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("projects/p/secrets/", "Must be a secret reference"),
        ("projects/p/secrets/a/versions/", "Must be a secret reference"),
        ("projects/p/secrets/a/b", "Must be a secret reference"),
        ("a secret with spaces", "Must be a secret reference"),
        ("vault:thing", "Must be a secret reference"),
        ("", "Must be a secret reference"),
        (7, "Must be a secret reference"),
        (None, "Must be a secret reference"),
        ("env:1X", "Must be a secret reference"),
        ("env:", "Must be a secret reference"),
        ("env:NOT_SET_ANYWHERE", "isn't set"),
        ("env:EMPTY", "isn't set"),
        ("env:apify_api_CANARY", "isn't set"),
        ("file:relative/path", "absolute path"),
        ("file:", "absolute path"),
        ("file:/a\0b", "absolute path"),
    ],
)
def test_parse_invalid_reference_raises_without_value(text: object, message: str) -> None:
    (actual,) = errors_of(text)
    assert message in actual
    assert len(str(text)) < 6 or str(text) not in actual


def test_parse_bare_name_without_project_raises() -> None:
    (message,) = errors_of("bare-name", ReferenceParser({}))
    assert "needs GOOGLE_CLOUD_PROJECT" in message


def test_parse_without_environ_checks_only_form() -> None:
    parser = ReferenceParser(None)
    assert parser.parse("env:NOT_SET_ANYWHERE", "x") == SecretReference("env", "NOT_SET_ANYWHERE")
    assert parser.parse("bare-name", "x").kind == "manager"
    assert "Must be a secret reference" in errors_of("env:1X", parser)[0]


def test_parse_list_string_returns_one_reference() -> None:
    (reference,) = PARSER.parse_list("env:MY_TOKEN", "secret")
    assert reference.label == "secret"


def test_parse_list_numbers_labels_and_removes_duplicates() -> None:
    references = PARSER.parse_list(["env:MY_TOKEN", "a", "env:MY_TOKEN"], "secret")
    assert [reference.label for reference in references] == ["secret (1 of 3)", "secret (2 of 3)"]


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ([], ["Must have at least one secret reference"]),
        (["a", 1, "whsec_CANARY"], ["2 of 3: Must be a secret reference", "3 of 3: Looks like a token"]),
        ({}, ["Must be a secret reference"]),
    ],
)
def test_parse_list_invalid_value_raises(value: object, messages: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        PARSER.parse_list(value, "secret")
    assert len(caught.value.messages) == len(messages)
    for actual, beginning in zip(caught.value.messages, messages, strict=True):
        assert str(actual).startswith(beginning)


def test_parse_comma_separated_returns_references() -> None:
    references = PARSER.parse_comma_separated("env:MY_TOKEN, projects/p/secrets/b", "RELAY_SECRET")
    assert [reference.name for reference in references] == ["MY_TOKEN", "projects/p/secrets/b/versions/latest"]
    assert [reference.label for reference in references] == ["RELAY_SECRET (1 of 2)", "RELAY_SECRET (2 of 2)"]


def test_parse_comma_separated_names_position_of_each_mistake() -> None:
    with pytest.raises(ValidationError) as caught:
        PARSER.parse_comma_separated("env:MY_TOKEN,,whsec_CANARY", "RELAY_SECRET")
    assert [str(message).split(":")[0] for message in caught.value.messages] == ["2 of 3", "3 of 3"]


@given(
    st.sampled_from(["", "env:", "file:/", "projects/p/secrets/", "apify_api_", "a,b,"]),
    st.text(max_size=40),
)
def test_parse_any_text_returns_reference_or_raises_without_value(beginning: str, text: str) -> None:
    value = f"{beginning}{text}CANARY"
    try:
        PARSER.parse(value, "APIFY_TOKEN")
    except ValidationError as error:
        assert "CANARY" not in str(error.messages)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (SecretReference("env", "X"), "env:X"),
        (SecretReference("file", "/x"), "file:/x"),
        (SecretReference("manager", "projects/p/secrets/n/versions/1"), "projects/p/secrets/n/versions/1"),
    ],
)
def test_str_reference_returns_written_form(reference: SecretReference, text: str) -> None:
    assert str(reference) == text


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("projects/p/locations/europe-west3/secrets/tok", "europe-west3"),
        ("projects/p/secrets/tok", None),
        ("env:MY_TOKEN", None),
        ("file:/projects/p/locations/europe-west3/secrets/tok", None),
    ],
)
def test_location_is_that_of_a_regional_secret(text: str, location: str | None) -> None:
    assert PARSER.parse(text, "APIFY_TOKEN").location == location


@pytest.mark.parametrize(
    "text",
    ["projects/p/locations/secrets/tok", "projects/p/locations/evil.example/secrets/tok", "locations/a-b1/secrets/t"],
)
def test_parse_wrong_location_raises(text: str) -> None:
    assert errors_of(text)[0].startswith("Must be a secret reference")
