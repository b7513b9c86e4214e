import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from schemas.problem import InvalidEventError
from schemas.pubsub import ACCOUNT, AUDIENCE, TOPIC, PushMessage, open_push, read_push

NOW = datetime(2026, 11, 22, 8, 31, 40, tzinfo=UTC).timestamp()


def push(data: bytes | None = b"{}", **message: Any) -> dict[str, Any]:
    if data is not None:
        message["data"] = base64.b64encode(data).decode()
    return {"message": message, "subscription": "projects/p/subscriptions/s"}


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3))
def test_read_push_returns_the_message(data: bytes, attributes: dict[str, str]) -> None:
    body = push(data, attributes=attributes, messageId="7", publishTime="2026-11-22T08:30:00Z", orderingKey="k")
    assert read_push(body) == PushMessage(data, attributes, "7", "2026-11-22T08:30:00Z", "projects/p/subscriptions/s")


def test_read_push_message_without_data_has_empty_data() -> None:
    assert read_push(push(None)).data == b""


def test_read_push_unknown_fields_are_ignored() -> None:
    body = {**push(message_id="7", publish_time="x"), "deliveryAttempt": 3}
    assert read_push(body).message_id == ""


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ([], ""),
        ({}, "message"),
        ({"message": []}, "message"),
        ({"message": {"data": 7}}, "message.data"),
        ({"message": {"data": "e30"}}, "message.data"),
        ({"message": {"data": "e3=0"}}, "message.data"),
        (push(attributes={"a": 1}), "message.attributes.a.value"),
        (push(attributes=[]), "message.attributes"),
        (push(messageId=7), "message.messageId"),
    ],
)
def test_read_push_other_body_is_invalid(body: Any, path: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        read_push(body)
    assert list(caught.value.problem.errors or ()) == [path]


@pytest.mark.parametrize(
    ("published", "age"),
    [
        ("2026-11-22T08:30:00Z", 100.0),
        ("2026-11-22T08:30:00.5Z", 99.5),
        ("2026-11-22T08:31:39.999999999Z", pytest.approx(0.0, abs=1e-5)),
        ("2026-11-22T09:30:00+01:00", 100.0),
        ("2026-11-22T08:30:00", 0.0),
        ("yesterday", 0.0),
        ("", 0.0),
    ],
)
def test_age_is_the_time_since_the_publication(published: str, age: object) -> None:
    assert PushMessage(b"", {}, "", published, "").age(NOW) == age


def test_open_push_returns_data_and_attributes() -> None:
    headers = {"content-type": "application/json", "eventtype": "own"}
    opened, payload = open_push(headers, push(b'{"a": 1}', attributes={"eventType": "X", "State": "done"}))
    assert payload == {"a": 1}
    assert opened == {"content-type": "application/json", "eventtype": "own", "state": "done"}


def test_open_push_message_without_data_has_empty_payload() -> None:
    assert open_push({}, push(None, attributes={"a": "b"})) == ({"a": "b"}, {})


@pytest.mark.parametrize("body", [{"message": {"data": "e30="}}, {"bucket": "b", "name": "n"}, [], None, "text"])
def test_open_push_other_event_of_google_stays_as_it_is(body: Any) -> None:
    assert open_push({"ce-id": "1"}, body) == ({"ce-id": "1"}, body)


def test_open_push_data_that_is_not_json_is_invalid() -> None:
    with pytest.raises(InvalidEventError) as caught:
        open_push({}, push(b"not JSON"))
    assert list(caught.value.problem.errors or ()) == ["message.data"]


@pytest.mark.parametrize(
    "topic",
    ["projects/p/topics/abc", "projects/example.com:my-project/topics/a-b_c.d~e+f%g", f"projects/p/topics/{'a' * 255}"],
)
def test_topic_valid_name_is_accepted(topic: str) -> None:
    TOPIC(topic)


@pytest.mark.parametrize(
    "topic",
    [
        "apify", "topics/apify", "projects/p/topics/ab", "projects/p/topics/1ab", "projects/p/topics/google-a",
        f"projects/p/topics/{'a' * 256}", "projects/p/topics/a/b", "projects/p/subscriptions/abc",
        "projects/p/topics/abc ",
    ],
)  # fmt: skip
def test_topic_invalid_name_is_rejected(topic: str) -> None:
    with pytest.raises(ValidationError, match="Must be projects/P/topics/T"):
        TOPIC(topic)


def test_identity_rules() -> None:
    AUDIENCE("https://relay.example")
    ACCOUNT("push@p.iam.gserviceaccount.com")
    for validator, value in ((AUDIENCE, "two words"), (ACCOUNT, "push"), (ACCOUNT, "a@b@c")):
        with pytest.raises(ValidationError):
            validator(value)
