import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.providers import PROVIDERS
from handlers.providers.base import event_schemas
from schemas.event import Update
from schemas.problem import InvalidEventError
from schemas.queued_update import QueuedUpdate, read_queued_update
from schemas.secret_reference import SecretReference
from schemas.strict_json import parse_object

SCHEMAS = event_schemas(PROVIDERS)
APIFY = Update("apify", "jane~products", {"name": "products"})


@given(
    st.builds(
        Update,
        st.just("data.world"),
        st.just("acme/products"),
        st.fixed_dictionaries({"title": st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())}),
        position=st.integers(0, 99),
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200),
    st.one_of(st.none(), st.just("build")),
)
def test_data_read_again_returns_the_update(update: Update, delivery_id: str, hook: str | None) -> None:
    expected = QueuedUpdate(update if hook else replace(update, position=0), delivery_id, hook)
    read = read_queued_update(QueuedUpdate(update, delivery_id, hook).data(), SCHEMAS)
    assert read == expected
    assert read.update.position == expected.update.position


def test_data_keeps_the_text_of_numbers_and_the_order() -> None:
    body = parse_object(b'{"properties": {"b": 1.10, "a": 12345678901234567890.5}, "title": "x"}')
    data = QueuedUpdate(Update("data.world", "acme/products", body), "id").data()
    assert b'{"properties":{"b":1.10,"a":12345678901234567890.5},"title":"x"}' in data
    read = read_queued_update(data, SCHEMAS)
    assert QueuedUpdate(read.update, "id").data() == data


def test_data_has_no_secret_reference() -> None:
    update = replace(APIFY, token=SecretReference("manager", "projects/p/secrets/s/versions/latest"), position=1)
    event = json.loads(QueuedUpdate(update, "id", "build").data())
    assert event == {
        "provider": "apify", "dataset": "jane~products", "update": {"name": "products"}, "id": "id", "hook": "build",
        "position": 1,
    }  # fmt: skip


def test_ordering_key_is_the_dataset() -> None:
    assert QueuedUpdate(APIFY, "id").ordering_key == "apify:jane~products"


def test_ordering_key_of_a_long_name_is_a_hash() -> None:
    keys = {QueuedUpdate(replace(APIFY, dataset=f"jane~{letter * 1100}"), "id").ordering_key for letter in "ab"}
    assert len(keys) == 2
    assert {len(key) for key in keys} == {64}


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (b"", None),
        (b"[]", None),
        (b"\xff", None),
        ({}, ["provider", "dataset", "update"]),
        ({"id": None}, ["id"]),
        ({"id": "x", "dataset": "a/b"}, ["dataset"]),
        ({"id": "x", "more": 1}, ["more"]),
        ({"id": "x", "hook": "build"}, ["position"]),
        ({"id": "x", "hook": 1, "position": 0}, ["hook"]),
        ({"id": "x", "hook": "build", "position": "0"}, ["position"]),
        ({"id": "x", "hook": "build", "position": -1}, ["position"]),
        ({"id": "x", "hook": "build", "position": True}, ["position"]),
        ({"type": "x"}, ["id"]),
    ],
)
def test_read_queued_update_other_data_is_invalid(data: Any, paths: list[str] | None) -> None:
    event = {"provider": "apify", "dataset": "jane~products", "update": {"name": "products"}}
    raw = data if isinstance(data, bytes) else json.dumps({**event, **data} if data else data).encode()
    with pytest.raises(InvalidEventError) as caught:
        read_queued_update(raw, SCHEMAS)
    errors = caught.value.problem.errors
    assert (list(errors) if errors else None) == paths
