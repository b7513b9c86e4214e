"""Tests of the calls to Apify."""

from typing import Any

import pytest

from handlers.providers import PROVIDERS
from handlers.providers.base import Request
from schemas.event import Update
from schemas.strict_json import JSON

APIFY = PROVIDERS["apify"]


def test_update_request_is_put() -> None:
    body: Any = {"name": None}
    request = APIFY.update_request("http://h/v2", Update("apify", "jane~a-b", body))
    assert request == Request("PUT", "http://h/v2/datasets/jane~a-b", body)


@pytest.mark.parametrize("dataset", ["../../v2/users/me", "a/b?c=d#e", "a%2fb", "é\r\n", "http://evil.example/"])
def test_update_request_reference_is_one_path_segment(dataset: str) -> None:
    url = APIFY.update_request("http://h/v2", Update("apify", dataset, {})).url
    assert url.startswith("http://h/v2/datasets/")
    assert not set(url.removeprefix("http://h/v2/datasets/")) & set("/?#\r\n")


def test_error_message_reads_error_object() -> None:
    assert APIFY.error_message({"error": {"message": "m"}}) == "m"
    bodies: list[Any] = [None, [], "x", {}, {"error": "x"}, {"error": {"message": 1}}, {"error": {"message": ""}}]
    for body in bodies:
        assert APIFY.error_message(body) is None


@pytest.mark.parametrize(
    ("dataset", "body", "url"),
    [
        ("jane~old", {"name": "new"}, "https://base/datasets/jane~new"),
        ("j.a_n-e~old", {"name": "new", "generalAccess": "RESTRICTED"}, "https://base/datasets/j.a_n-e~new"),
        ("jane~old", {"name": None}, None),
        ("jane~old", {"generalAccess": "RESTRICTED"}, None),
        ("WkzbQMuFYuamGv3YF", {"name": "new"}, None),
    ],
)
def test_confirmation_request_reads_new_name(dataset: str, body: dict[str, JSON], url: str | None) -> None:
    request = APIFY.confirmation_request("https://base", Update("apify", dataset, body))
    assert request == (Request("GET", url) if url else None)


def test_confirms_requires_every_value_of_the_update() -> None:
    update = Update("apify", "jane~old", {"name": "new", "generalAccess": "RESTRICTED"})
    record: dict[str, JSON] = {"id": "x", "name": "new", "generalAccess": "RESTRICTED", "actId": None}
    assert APIFY.confirms(update, {"data": record})
    others: list[JSON] = [
        {"data": {**record, "name": "old"}},
        {"data": {"name": "new"}},
        {"data": []},
        record,
        {},
        [],
        "new",
        None,
    ]
    assert not any(APIFY.confirms(update, body) for body in others)


def test_is_repeatable_is_true() -> None:
    assert APIFY.is_repeatable(Update("apify", "jane~old", {"name": "new"}))
