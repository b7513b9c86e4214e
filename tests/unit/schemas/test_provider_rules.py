"""Tests of each rule of an update, in schemas.apify and schemas.data_world."""

from typing import Any

import pytest
from marshmallow import Schema, fields

from schemas.data_world import DataWorldUpdate, Source
from schemas.event import read_event
from schemas.problem import InvalidEventError
from tests.support.provider_rules import APIFY, CASES, DATA_WORLD, REFERENCES, SCHEMAS, Case, make_event

UPDATES: dict[str, dict[str, Any]] = {APIFY: {"name": "a"}, DATA_WORLD: {"title": "a"}}


def errors_of(event: dict[str, Any]) -> dict[str, list[str]]:
    with pytest.raises(InvalidEventError) as caught:
        read_event(event, SCHEMAS)
    return caught.value.problem.errors or {}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_read_event_valid_update_returns_same_body(case: Case) -> None:
    for update in case.valid:
        assert read_event(make_event(case.provider, update), SCHEMAS).body is update


@pytest.mark.parametrize("case", CASES, ids=str)
def test_read_event_invalid_update_raises_at_path(case: Case) -> None:
    for update, path in case.invalid:
        errors = errors_of(make_event(case.provider, update))
        assert list(errors) == [path]
        assert case.message in " ".join(errors[path])


@pytest.mark.parametrize(("provider", "rule", "valid", "invalid"), REFERENCES)
def test_read_event_dataset_reference(provider: str, rule: str, valid: list[str], invalid: list[str]) -> None:
    for dataset in valid:
        assert read_event(make_event(provider, UPDATES[provider], dataset), SCHEMAS).dataset == dataset
    for dataset in invalid:
        assert list(errors_of(make_event(provider, UPDATES[provider], dataset))) == ["dataset"], (rule, dataset)


@pytest.mark.parametrize(
    ("update", "end"),
    [
        ({"license": "Beerware"}, "OSODL."),
        ({"license": "MIT"}, "; did you mean MIT License?"),
        ({"license": "CC BY"}, "; did you mean CC-BY?"),
        ({"visibility": "open"}, "; did you mean OPEN?"),
    ],
)
def test_read_event_unknown_choice_has_hint(update: dict[str, Any], end: str) -> None:
    (messages,) = errors_of(make_event(DATA_WORLD, update)).values()
    assert messages[0].endswith(end)


# Declared credentials


def _declarations(schema: Schema, parent: str = "") -> dict[str, Any]:
    """Return the declarations of credentials in a schema by path."""
    declarations: dict[str, Any] = {}
    for name, field in schema.fields.items():
        if "secret" in field.metadata:
            declarations[f"{parent}{name}"] = field.metadata["secret"]
        inner = field.inner if isinstance(field, fields.List) else field
        if isinstance(inner, fields.Nested):
            declarations |= _declarations(inner.schema, f"{parent}{name}.")
    return declarations


def test_schemas_declare_credentials() -> None:
    declarations = _declarations(DataWorldUpdate())
    assert {path for path, secret in declarations.items() if secret is True} == {
        "files.source.authorization.credentials",
        "files.source.credentials",
        "files.source.oauthToken",
    }
    assert {path for path, secret in declarations.items() if callable(secret)} == {
        "files.source.requestHeaders",
        "properties",
    }
    assert _declarations(SCHEMAS[APIFY]) == {}


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("Authorization", True),
        ("Cookie", True),
        ("X-API-Key", True),
        ("Accept", False),
        ("accept-language", False),
        ("Cache-Control", False),
        ("CONTENT-TYPE", False),
        ("If-None-Match", False),
        ("Range", False),
        ("User-Agent", False),
    ],
)
def test_request_headers_predicate(name: str, is_secret: bool) -> None:
    assert Source().fields["requestHeaders"].metadata["secret"](name) is is_secret


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [("password", True), ("Credentials", True), ("requestHeaders", True), ("title", False), ("passwords", False)],
)
def test_properties_predicate(name: str, is_secret: bool) -> None:
    assert DataWorldUpdate().fields["properties"].metadata["secret"](name) is is_secret
