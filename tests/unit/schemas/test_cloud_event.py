"""Tests of schemas.cloud_event."""

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.cloud_event import binary_attributes, from_binary, from_structured, is_envelope, wrong_media_type_error
from schemas.problem import InvalidEventError, InvalidJSONError
from tests.support.strategies import JSON_OBJECTS, JSON_VALUES

EVENT: dict[str, Any] = {"provider": "apify", "dataset": "jane~products", "update": {"name": "a"}}
ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "run-1",
    "source": "/pipelines/7",
    "type": "com.example.done",
    "data": EVENT,
}
ATTRIBUTES = {name: value for name, value in ENVELOPE.items() if name != "data"}
HEADERS = {"ce-specversion": "1.0", "ce-id": "run-1", "ce-source": "/p", "ce-type": "done"}


def structured_errors(envelope: dict[str, Any]) -> dict[str, list[str]]:
    with pytest.raises(InvalidEventError) as caught:
        from_structured(envelope)
    return caught.value.problem.errors or {}


# Structured mode


def test_from_structured_returns_data_with_attributes() -> None:
    assert from_structured(ENVELOPE) == {**EVENT, "id": "run-1", "type": "com.example.done"}


def test_from_structured_attributes_take_precedence_over_data() -> None:
    data = {**EVENT, "id": "inner", "type": "inner", "time": "2020-01-01T00:00:00Z"}
    event = from_structured({**ENVELOPE, "data": data, "time": "2026-11-22T08:30:00Z"})
    assert (event["id"], event["type"], event["time"]) == ("run-1", "com.example.done", "2026-11-22T08:30:00Z")


def test_from_structured_absent_attribute_keeps_field_of_data() -> None:
    data = {**EVENT, "time": "2020-01-01T00:00:00Z"}
    assert from_structured({**ENVELOPE, "data": data})["time"] == "2020-01-01T00:00:00Z"


def test_from_structured_null_attribute_is_unset() -> None:
    assert from_structured({**ENVELOPE, "time": None, "data_base64": None, "subject": None})["id"] == "run-1"


def test_from_structured_extension_attributes_are_valid() -> None:
    extensions: dict[str, Any] = {
        "subject": "s",
        "traceparent": "t",
        "comexample": 5,
        "datacontenttype": "application/json",
    }
    assert from_structured({**ENVELOPE, **extensions}) == from_structured(ENVELOPE)


def test_from_structured_base64_data_returns_decoded_data() -> None:
    data = base64.b64encode(json.dumps(EVENT).encode()).decode()
    assert from_structured({**ATTRIBUTES, "data_base64": data})["update"] == {"name": "a"}


@pytest.mark.parametrize("data", ["é", "a", "e30", "eyJ"])
def test_from_structured_invalid_base64_raises(data: str) -> None:
    assert structured_errors({**ATTRIBUTES, "data_base64": data}) == {"data_base64": ["Not valid base64."]}


def test_from_structured_base64_data_without_object_raises() -> None:
    with pytest.raises(InvalidJSONError, match="In data_base64: The JSON must be an object"):
        from_structured({**ATTRIBUTES, "data_base64": base64.b64encode(b"[]").decode()})


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": 1.0}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": "é"}, "id"),
        ({"id": 7}, "id"),
        ({"source": ""}, "source"),
        ({"type": None}, "type"),
        ({"time": "now"}, "time"),
        ({"data": None}, "data"),
        ({"data": "{}"}, "data"),
        ({"data": []}, "data"),
        ({"data_base64": "e30="}, "data_base64"),
    ],
)
def test_from_structured_invalid_attribute_raises(change: dict[str, Any], path: str) -> None:
    assert list(structured_errors({**ENVELOPE, **change})) == [path]


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "data"])
def test_from_structured_missing_attribute_raises(name: str) -> None:
    assert list(structured_errors({key: value for key, value in ENVELOPE.items() if key != name})) == [name]


@given(JSON_OBJECTS | st.fixed_dictionaries(dict.fromkeys(ENVELOPE, JSON_VALUES)))
def test_from_structured_any_object_returns_event_or_raises(envelope: dict[str, Any]) -> None:
    try:
        event = from_structured(envelope)
    except InvalidEventError as error:
        assert error.problem.errors
    else:
        assert event["id"] == envelope["id"]


def test_from_structured_data_in_a_string_names_the_correct_form() -> None:
    (message,) = structured_errors({**ENVELOPE, "data": json.dumps(EVENT)})["data"]
    assert message == "Must be a JSON object: the event itself, not a string that contains its JSON."


def test_from_structured_base64_data_with_byte_order_mark_returns_data() -> None:
    data = base64.b64encode(b"\xef\xbb\xbf" + json.dumps(EVENT).encode()).decode()
    assert from_structured({**ATTRIBUTES, "data_base64": data})["update"] == {"name": "a"}


def test_is_envelope_specversion_decides() -> None:
    assert is_envelope(ENVELOPE)
    assert is_envelope({"specversion": None})
    assert not is_envelope(EVENT)


def test_wrong_media_type_error_names_the_mistake_and_the_correct_form() -> None:
    problem = wrong_media_type_error().problem
    assert problem.status == 422
    assert "isn't application/cloudevents+json" in problem.detail
    assert "Content-Type: application/cloudevents+json, or send only the event in its data." in problem.detail
    assert problem.errors == {"specversion": [problem.detail]}


# Binary mode


def test_from_binary_returns_body_with_attributes() -> None:
    headers = {**HEADERS, "ce-time": "2026-11-22T08:30:00Z", "ce-anything": "x", "content-type": "application/json"}
    event = from_binary(binary_attributes(headers), {**EVENT, "id": "inner"})
    assert (event["id"], event["type"], event["time"]) == ("run-1", "done", "2026-11-22T08:30:00Z")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("a%20b%25", "a b%"),
        (r'"a \"b\" %20"', 'a "b"  '),
        ('a"b', 'a"b'),
    ],
)
def test_binary_attributes_header_value_is_decoded(header: str, value: str) -> None:
    assert binary_attributes({**HEADERS, "ce-id": header})["id"] == value


def test_binary_attributes_data_headers_are_ignored() -> None:
    assert binary_attributes({**HEADERS, "ce-data": "x", "ce-data_base64": "y"}) == binary_attributes(HEADERS)


def test_binary_attributes_other_headers_return_empty() -> None:
    assert binary_attributes({"content-type": "application/json", "ce-extension": "x", "cf-ray": "y"}) == {}


@pytest.mark.parametrize("name", HEADERS)
def test_from_binary_missing_header_raises(name: str) -> None:
    attributes = binary_attributes({key: value for key, value in HEADERS.items() if key != name})
    with pytest.raises(InvalidEventError) as caught:
        from_binary(attributes, EVENT)
    assert caught.value.problem.errors == {name: ["Required: add this field."]}


@given(
    st.dictionaries(
        st.sampled_from([*HEADERS, "ce-time", "ce-data", "ce-", "webhook-id"]),
        st.text(st.characters(codec="latin-1"), max_size=80),
        max_size=8,
    )
)
@example({"ce-id": '"%00%ff"', "ce-source": "x", "ce-type": "x", "ce-specversion": "1.0"})
def test_from_binary_any_headers_return_event_or_raise(headers: dict[str, str]) -> None:
    if attributes := binary_attributes(headers):
        try:
            assert from_binary(attributes, {})
        except InvalidEventError as error:
            assert error.problem.errors
