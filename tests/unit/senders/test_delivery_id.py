"""The ids of deliveries."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.senders import SENDERS, Sender
from handlers.senders.delivery_id import delivery_id, standard_id


@pytest.mark.parametrize(
    ("name", "headers", "expected"),
    [
        ("github", {"x-github-delivery": "72d3162e"}, "72d3162e"),
        ("bitbucket", {"x-request-uuid": "c0ffee"}, "c0ffee"),
        ("gitlab", {"idempotency-key": "i-1", "webhook-id": "w-1", "x-gitlab-webhook-uuid": "new"}, "i-1"),
        ("gitlab", {"webhook-id": "w-1"}, "w-1"),
        ("apify", {"x-apify-webhook-dispatch-id": "d-1"}, "d-1"),
        ("hookdeck", {"x-hookdeck-eventid": "evt_1"}, "evt_1"),
        ("standard-webhooks", {"webhook-id": "msg_1"}, "msg_1"),
        ("standard-webhooks", {"svix-id": "msg_2"}, "msg_2"),
        ("airflow", {}, None),
    ],
)
def test_delivery_id_header_returns_the_id(name: str, headers: dict[str, str], expected: str | None) -> None:
    assert delivery_id(SENDERS[name], headers) == expected


@pytest.mark.parametrize(
    ("name", "payload", "expected"),
    [
        ("dbt", {"eventId": "wev_1"}, "wev_1"),
        ("circleci", {"id": "8bd71c28"}, "8bd71c28"),
        ("azure-devops", {"id": "4a5d99d6"}, "4a5d99d6"),
        ("fivetran", {"sync_id": "b47", "data": {"status": "SUCCESSFUL"}}, "b47:SUCCESSFUL"),
        ("airbyte", {"data": {"connection": {"id": "64d9"}, "jobId": 9988, "success": True}}, "64d9:9988:true"),
        ("airbyte", {"data": {"jobId": 9988, "success": True}}, None),
        ("databricks", {"event_type": "jobs.on_success", "run": {"run_id": 7}}, "jobs.on_success:7"),
        ("buildkite", {"event": "build.finished", "build": {"id": "f62", "finished_at": "2026-11-22"}},
         "f62:build.finished:2026-11-22"),
        ("buildkite", {"event": "build.running", "build": {"id": "f62", "finished_at": None}}, "f62:build.running"),
        ("jenkins", {"build": {"full_url": "http://j/18/", "phase": "COMPLETED"}}, "http://j/18/:COMPLETED"),
        ("dbt", {"eventId": ["no", "text"]}, None),
        ("dbt", {"eventId": {"a": 1}}, None),
        ("fivetran", {"sync_id": "b47", "data": "no object"}, "b47"),
        ("dbt", ["no object"], None),
    ],
)  # fmt: skip
def test_delivery_id_fields_return_the_composite(name: str, payload: Any, expected: str | None) -> None:
    assert delivery_id(SENDERS[name], {}, payload) == expected


def test_delivery_id_sender_without_id_returns_the_standard_id() -> None:
    assert delivery_id(SENDERS["prefect"], {"webhook-id": "w-2"}, {"id": "of something else"}) == "w-2"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("  é\x00\u2028", None),
        ("a\u00e9b\tc", "abc"),
        ("x" * 300, "x" * 200),
        ("x" * 199 + " y", "x" * 199),
        ("", None),
    ],
)
def test_delivery_id_unprintable_or_long_id_is_cut(header: str, expected: str | None) -> None:
    assert delivery_id(SENDERS["github"], {"x-github-delivery": header}) == expected


def test_delivery_id_unprintable_id_falls_back_to_the_next_source() -> None:
    assert delivery_id(SENDERS["github"], {"x-github-delivery": "é", "webhook-id": "w-3"}) == "w-3"


def test_standard_id_spellings() -> None:
    assert standard_id({"webhook-id": "w"}) == "w"
    assert standard_id({"svix-id": "s"}) == "s"
    assert standard_id({"webhook-id": "", "svix-id": "s"}) == "s"
    assert standard_id({}) is None


def test_standard_id_signed_spelling_takes_precedence() -> None:
    ids = {"webhook-id": "w", "svix-id": "s"}
    assert standard_id({**ids, "svix-signature": "v1,x"}) == "s"
    assert standard_id({**ids, "webhook-signature": "v1,x"}) == "w"
    assert standard_id({**ids, "webhook-signature": "v1,x", "svix-signature": "v1,x"}) == "w"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=250),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ID_HEADERS = sorted({"webhook-id", "svix-id"}.union(*(sender.id_headers for sender in SENDERS.values())))


@given(
    sender=st.sampled_from(list(SENDERS.values())),
    headers=st.dictionaries(st.sampled_from(ID_HEADERS), st.text(st.characters(codec="latin-1"), max_size=250)),
    value=JSON_VALUES,
    is_object=st.booleans(),
)
def test_delivery_id_any_request_is_printable_and_bounded(
    sender: Sender, headers: dict[str, str], value: Any, is_object: bool
) -> None:
    fields = ("id", "data", "build", "run", "eventId", "event", "event_type", "sync_id")
    payload = dict.fromkeys(fields, value) if is_object else value
    result = delivery_id(sender, headers, payload)
    assert result is None or re.fullmatch("[\x20-\x7e]{1,200}", result)
    assert sender.is_test_message(headers, payload) in (True, False)
