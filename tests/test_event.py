"""Events in our own language, bare and in CloudEvents."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.providers import PROVIDERS
from schemas.event import Event, Update, binary_attributes, from_binary, from_structured, printable_id, read_event
from schemas.problem import Invalid, NotJSON
from tests.test_strict_json import JSON_VALUES, OBJECTS

SCHEMAS = {name: provider.EVENT for name, provider in PROVIDERS.items()}
BARE: dict[str, Any] = {"provider": "apify", "dataset": "jane~products", "update": {"name": "a"}}
ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "run-1",
    "source": "/pipelines/7",
    "type": "com.example.done",
    "data": BARE,
}
HEADERS = {"ce-specversion": "1.0", "ce-id": "run-1", "ce-source": "/p", "ce-type": "done"}


def errors_of(payload: dict[str, Any]) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as caught:
        read_event(payload, SCHEMAS)
    return dict(caught.value.problem.errors or {})


def test_bare() -> None:
    assert read_event(BARE, SCHEMAS) == Event(Update("apify", "jane~products", {"name": "a"}), None)
    full = {**BARE, "id": "x", "type": "done", "time": "2026-11-22T08:30:00Z"}
    assert read_event(full, SCHEMAS).id == "x"


def test_order_null_and_omission_stay() -> None:
    update: Any = {"generalAccess": "RESTRICTED", "name": None}
    body = read_event({**BARE, "update": update}, SCHEMAS).update.body
    assert json.dumps(body) == '{"generalAccess": "RESTRICTED", "name": null}'
    assert "generalAccess" not in read_event({**BARE, "update": {"name": None}}, SCHEMAS).update.body


@pytest.mark.parametrize("field", ["provider", "dataset", "update"])
def test_required(field: str) -> None:
    payload = {name: value for name, value in BARE.items() if name != field}
    assert errors_of(payload)[field][0].startswith(("Missing", "Must be one of"))
    assert field in errors_of({**BARE, field: None})


@pytest.mark.parametrize("provider", ["Apify", "dataworld", "", 1, None, ["apify"], {"a": 1}])
def test_providers(provider: object) -> None:
    assert list(errors_of({**BARE, "provider": provider})) == ["provider"]


def test_unknown_provider_is_told_the_known() -> None:
    known = ", ".join(PROVIDERS)
    assert errors_of({**BARE, "provider": "nobody"}) == {"provider": [f"Must be one of: {known}."]}
    assert errors_of({**BARE, "provider": "Apify"}) == {"provider": [f"Must be one of: {known}; did you mean apify?"]}


@pytest.mark.parametrize("event_id", ["a", "a" * 200, "with space", "~!@#"])
def test_ids(event_id: str) -> None:
    assert read_event({**BARE, "id": event_id}, SCHEMAS).id == event_id
    assert printable_id(event_id) == event_id


@pytest.mark.parametrize("event_id", ["", "a" * 201, "é", "a\n", "a\r\nX: y", "\x7f", "\t"])
def test_no_ids(event_id: str) -> None:
    assert errors_of({**BARE, "id": event_id}) == {"id": ["Must be 1 to 200 printable ASCII characters."]}
    assert printable_id(event_id) is None


@pytest.mark.parametrize(("event_id", "name"), [(" a b ", "a b"), (" ", None), (" " * 200, None)])
def test_spaces_at_the_ends_name_nothing(event_id: str, name: str | None) -> None:
    """A header loses them on its way: what is logged would be another name than what is answered, or none."""
    assert read_event({**BARE, "id": event_id}, SCHEMAS).id == event_id
    assert printable_id(event_id) == name


def test_ids_are_strings() -> None:
    assert list(errors_of({**BARE, "id": 7})) == ["id"]
    assert printable_id(None) is None


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
def test_times(time: str) -> None:
    assert read_event({**BARE, "time": time}, SCHEMAS)


@pytest.mark.parametrize(
    "time",
    ["", "2026-11-22", "2026-11-22 08:30:00 UTC", "2026-11-22T08:30:00", "2026-13-01T00:00:00Z", "2023-02-29T00:00:00Z",
     "2026-11-22T24:00:01Z", "2026-11-22T08:30:00+25:00", "20261122T083000Z", "2026-11-22T08:30:00Z\n",
     "٢٠٢٦-11-22T08:30:00Z"],
)  # fmt: skip
def test_no_times(time: str) -> None:
    assert list(errors_of({**BARE, "time": time})) == ["time"]


def test_type_is_not_empty() -> None:
    assert list(errors_of({**BARE, "type": ""})) == ["type"]


def test_structured() -> None:
    assert from_structured(ENVELOPE) == {**BARE, "id": "run-1", "type": "com.example.done"}


def test_an_envelopes_attributes_win() -> None:
    data = {**BARE, "id": "inner", "type": "inner", "time": "2020-01-01T00:00:00Z"}
    found = from_structured({**ENVELOPE, "data": data, "time": "2026-11-22T08:30:00Z"})
    assert (found["id"], found["type"], found["time"]) == ("run-1", "com.example.done", "2026-11-22T08:30:00Z")
    assert from_structured({**ENVELOPE, "data": data})["time"] == "2020-01-01T00:00:00Z"


def test_an_envelope_may_hold_any_attribute() -> None:
    extended = {**ENVELOPE, "subject": "s", "traceparent": "t", "comexample": 5, "datacontenttype": "application/json"}
    assert read_event(from_structured(extended), SCHEMAS).id == "run-1"


def test_base64_data() -> None:
    envelope = {name: value for name, value in ENVELOPE.items() if name != "data"}
    data = base64.b64encode(json.dumps(BARE).encode()).decode()
    assert from_structured({**envelope, "data_base64": data})["update"] == {"name": "a"}
    for wrong, said in (
        ("é", "base64"),
        ("a", "base64"),
        ("e30", "base64"),
        ("eyJ", "base64"),
    ):
        with pytest.raises(Invalid) as caught:
            from_structured({**envelope, "data_base64": wrong})
        assert said in (caught.value.problem.errors or {})["data_base64"][0]


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
def test_broken_envelopes(change: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        from_structured({**ENVELOPE, **change})
    assert list(caught.value.problem.errors or {}) == [path]


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type", "data"])
def test_incomplete_envelopes(missing: str) -> None:
    with pytest.raises(Invalid) as caught:
        from_structured({name: value for name, value in ENVELOPE.items() if name != missing})
    assert list(caught.value.problem.errors or {}) == [missing]


def test_base64_data_that_is_no_object_is_no_json() -> None:
    envelope = {name: value for name, value in ENVELOPE.items() if name != "data"}
    with pytest.raises(NotJSON, match="In data_base64: The body must be a JSON object"):
        from_structured({**envelope, "data_base64": "W10="})


def test_an_attribute_that_is_null_is_not_set() -> None:
    assert from_structured({**ENVELOPE, "time": None, "data_base64": None, "subject": None})["id"] == "run-1"


def test_headers_that_only_look_like_attributes() -> None:
    assert from_binary(binary_attributes({**HEADERS, "ce-data": "x", "ce-data_base64": "y"}), BARE)["id"] == "run-1"


def test_binary() -> None:
    headers = {**HEADERS, "ce-time": "2026-11-22T08:30:00Z", "ce-anything": "x", "content-type": "application/json"}
    found = from_binary(binary_attributes(headers), {**BARE, "id": "inner"})
    assert (found["id"], found["type"], found["time"]) == ("run-1", "done", "2026-11-22T08:30:00Z")
    assert binary_attributes({**HEADERS, "ce-id": "a%20b%25"})["id"] == "a b%"
    assert binary_attributes({**HEADERS, "ce-id": r'"a \"b\" %20"'})["id"] == 'a "b"  '
    assert binary_attributes({**HEADERS, "ce-id": 'a"b'})["id"] == 'a"b'


@pytest.mark.parametrize("missing", HEADERS)
def test_incomplete_binary(missing: str) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != missing}
    with pytest.raises(Invalid) as caught:
        from_binary(binary_attributes(headers), BARE)
    assert list(caught.value.problem.errors or {}) == [missing]


def test_what_is_binary() -> None:
    assert binary_attributes(HEADERS)
    assert not binary_attributes({"content-type": "application/json", "ce-extension": "x", "cf-ray": "y"})


@given(
    OBJECTS
    | st.fixed_dictionaries(
        {"provider": st.sampled_from(["apify", "data.world"]), "dataset": JSON_VALUES, "update": JSON_VALUES}
    )
)
def test_any_object_is_an_event_or_refused(payload: dict[str, Any]) -> None:
    try:
        event = read_event(payload, SCHEMAS)
    except Invalid as error:
        assert error.problem.errors
    else:
        assert event.update.body == payload["update"]


@given(OBJECTS | st.fixed_dictionaries(dict.fromkeys(ENVELOPE, JSON_VALUES)))
def test_any_object_is_an_envelope_or_refused(envelope: dict[str, Any]) -> None:
    try:
        payload = from_structured(envelope)
    except Invalid as error:
        assert error.problem.errors
    else:
        assert payload["id"] == envelope["id"]
