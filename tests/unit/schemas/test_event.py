"""Tests of schemas.event."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Update, printable_id, read_event, valid_reference
from schemas.problem import InvalidEventError, problem_body
from schemas.strict_json import JSON
from tests.support.provider_rules import SCHEMAS
from tests.support.strategies import JSON_OBJECTS, JSON_VALUES, VALID_EVENTS, almost_valid_events

EVENT: dict[str, Any] = {"provider": "apify", "dataset": "jane~products", "update": {"name": "a"}}


def errors_of(payload: dict[str, Any]) -> dict[str, list[str]]:
    with pytest.raises(InvalidEventError) as caught:
        read_event(payload, SCHEMAS)
    return caught.value.problem.errors or {}


def test_read_event_valid_event_returns_update() -> None:
    assert read_event(EVENT, SCHEMAS) == Update("apify", "jane~products", {"name": "a"})


@pytest.mark.parametrize("event", VALID_EVENTS)
def test_read_event_every_field_returns_same_body(event: dict[str, JSON]) -> None:
    assert read_event(event, SCHEMAS).body is event["update"]


def test_read_event_keeps_order_null_and_omission() -> None:
    update: JSON = {"generalAccess": "RESTRICTED", "name": None}
    assert json.dumps(read_event({**EVENT, "update": update}, SCHEMAS).body) == json.dumps(update)
    assert read_event({**EVENT, "update": {"name": None}}, SCHEMAS).body == {"name": None}


@pytest.mark.parametrize("field", ["provider", "dataset", "update"])
def test_read_event_missing_or_null_field_raises(field: str) -> None:
    without_field = {name: value for name, value in EVENT.items() if name != field}
    assert errors_of(without_field)[field] == ["Required: add this field."]
    assert field in errors_of({**EVENT, field: None})


@pytest.mark.parametrize("provider", ["Apify", "dataworld", "", 1, None, ["apify"], {"a": 1}])
def test_read_event_unknown_provider_raises_at_provider(provider: object) -> None:
    assert list(errors_of({**EVENT, "provider": provider})) == ["provider"]


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        ("nobody", "Must be one of: apify, data.world."),
        ("Apify", "Must be one of: apify, data.world; did you mean apify?"),
    ],
)
def test_read_event_unknown_provider_names_known_providers(provider: str, message: str) -> None:
    assert errors_of({**EVENT, "provider": provider}) == {"provider": [message]}


def test_read_event_several_mistakes_raises_with_all_errors() -> None:
    update = {"titel": "x", "tags": ["a", "b-c"], "files": [{"source": {"url": "x", "metod": "GET"}}]}
    event = {"provider": "data.world", "dataset": "Acme/x", "update": update, "datset": 1, "id": ""}
    assert errors_of(event) == {
        "dataset": [
            "Must be owner/id. Each part has at least three of a-z, 0-9, and single '-', and no '-' at its ends."
        ],
        "datset": ["Unknown field; did you mean dataset?"],
        "id": ["Must be 1 to 200 printable ASCII characters."],
        "update.titel": ["Unknown field; did you mean title?"],
        "update.tags.0": ["Must have 2 to 25 characters."],
        "update.tags.1": ["Must contain only the letters a-z and A-Z, digits, and spaces."],
        "update.files.0.name": ["Required: add this field."],
        "update.files.0.source.url": ["Must be an http, https, ftp, or ftps URL with a host."],
        "update.files.0.source.metod": ["Unknown field; did you mean method?"],
    }


@pytest.mark.parametrize("event_id", ["a", "a" * 200, "with space", "~!@#", " a b ", " " * 200])
def test_read_event_printable_id_is_valid(event_id: str) -> None:
    assert read_event({**EVENT, "id": event_id}, SCHEMAS)


@pytest.mark.parametrize("event_id", ["", "a" * 201, "é", "a\n", "a\r\nX: y", "\x7f", "\t"])
def test_read_event_unprintable_id_raises(event_id: str) -> None:
    assert errors_of({**EVENT, "id": event_id}) == {"id": ["Must be 1 to 200 printable ASCII characters."]}


@pytest.mark.parametrize("field", ["id", "type", "time"])
def test_read_event_number_in_text_field_raises(field: str) -> None:
    assert errors_of({**EVENT, field: 7}) == {field: ["Must be a string."]}


def test_read_event_empty_type_raises() -> None:
    assert list(errors_of({**EVENT, "type": ""})) == ["type"]


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-22T08:30:00Z",
        "2026-11-22t08:30:00z",
        "2026-11-22T08:30:00.123Z",
        "2026-11-22T08:30:00.1234567+01:00",
        "2026-11-22T08:30:00.123456789-11:30",
        "2016-12-31T23:59:60Z",
        "2024-02-29T00:00:00Z",
    ],
)
def test_read_event_rfc_3339_time_is_valid(time: str) -> None:
    assert read_event({**EVENT, "time": time}, SCHEMAS)


@pytest.mark.parametrize(
    "time",
    [
        "",
        "2026-11-22",
        "2026-11-22 08:30:00 UTC",
        "2026-11-22T08:30:00",
        "2026-13-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2026-11-22T24:00:01Z",
        "2026-11-22T08:30:00+25:00",
        "20261122T083000Z",
        "2026-11-22T08:30:00Z\n",
        "٢٠٢٦-11-22T08:30:00Z",
    ],
)
def test_read_event_other_time_raises(time: str) -> None:
    assert errors_of({**EVENT, "time": time}) == {
        "time": ["Must be an RFC 3339 timestamp, such as 2026-11-22T08:30:00Z."]
    }


@given(
    almost_valid_events()
    | JSON_OBJECTS
    | st.fixed_dictionaries(
        {"provider": st.sampled_from(sorted(SCHEMAS)), "dataset": JSON_VALUES, "update": JSON_VALUES}
    )
)
def test_read_event_any_object_returns_update_or_raises(event: JSON) -> None:
    if not isinstance(event, dict):
        return
    try:
        update = read_event(event, SCHEMAS)
    except InvalidEventError as error:
        errors = error.problem.errors
        assert errors
        assert all(isinstance(message, str) and message for messages in errors.values() for message in messages)
        assert len(json.dumps(problem_body(error.problem))) < 200_000
    else:
        assert update.body is event["update"]


@pytest.mark.parametrize(
    ("text", "result"),
    [("a", "a"), ("a" * 200, "a" * 200), ("with space", "with space"), (" a b ", "a b"), ("~!@#", "~!@#")],
)
def test_printable_id_printable_text_returns_text_without_outer_spaces(text: str, result: str) -> None:
    assert printable_id(text) == result


@pytest.mark.parametrize("text", [None, "", " ", " " * 200, "a" * 201, "é", "a\n", "a\r\nX: y", "\x7f", "\t"])
def test_printable_id_other_text_returns_none(text: str | None) -> None:
    assert printable_id(text) is None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"provider": "apify", "dataset": "jane~a", "update": 1}, ("apify", "jane~a")),
        ({"provider": "apify", "dataset": "no slash"}, ("apify", None)),
        ({"provider": "apify", "dataset": 1}, ("apify", None)),
        ({"provider": "apify"}, ("apify", None)),
        ({"provider": "other", "dataset": "jane~a"}, (None, None)),
        ({"provider": ["apify"]}, (None, None)),
        ([], (None, None)),
    ],
)
def test_valid_reference_returns_valid_fields(event: Any, expected: tuple[str | None, str | None]) -> None:
    assert valid_reference(event, SCHEMAS) == expected
