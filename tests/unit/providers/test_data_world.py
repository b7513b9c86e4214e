"""Tests of the calls to data.world."""

from typing import Any

import pytest

from handlers.providers import PROVIDERS
from handlers.providers.base import Request
from schemas.event import Update
from schemas.problem import UpstreamFailedError
from schemas.strict_json import JSON

DATA_WORLD = PROVIDERS["data.world"]


def test_update_request_is_patch() -> None:
    body: Any = {"title": "x"}
    request = DATA_WORLD.update_request("http://h/v0", Update("data.world", "acme/products", body))
    assert request == Request("PATCH", "http://h/v0/datasets/acme/products", body)


@pytest.mark.parametrize("dataset", ["../../v2/users/me", "a/b?c=d#e", "a%2fb", "é\r\n", "http://evil.example/"])
def test_update_request_reference_is_two_path_segments(dataset: str) -> None:
    url = DATA_WORLD.update_request("http://h/v0", Update("data.world", f"o/{dataset}", {})).url
    assert url.startswith("http://h/v0/datasets/o/")
    assert not set(url.removeprefix("http://h/v0/datasets/o/")) & set("/?#\r\n")


def test_error_message_reads_message() -> None:
    assert DATA_WORLD.error_message({"code": 404, "message": "m", "details": "d"}) == "m"
    assert DATA_WORLD.error_message({"error": {"message": "m"}}) is None


def test_confirmation_request_does_not_exist() -> None:
    update = Update("data.world", "acme/products", {"title": "x"})
    assert DATA_WORLD.confirmation_request("https://base", update) is None
    assert not DATA_WORLD.confirms(update, {"title": "x"})


GET, POST = ({"url": "https://example.com/a.csv", "method": method} for method in ("GET", "POST"))


@pytest.mark.parametrize(
    ("body", "is_repeatable"),
    [
        ({"title": "x"}, True),
        ({"files": None}, True),
        ({"files": []}, True),
        ({"files": [{"name": "a"}, {"name": "b", "source": {"url": "https://example.com/a.csv"}}]}, True),
        ({"files": [{"name": "a", "source": GET}]}, True),
        ({"properties": {"files": [{"source": POST}]}}, True),
        ({"files": [{"name": "a", "source": POST}]}, False),
        ({"files": [{"name": "a"}, {"name": "b", "source": GET}, {"name": "c", "source": POST}]}, False),
    ],
)
def test_is_repeatable_is_false_for_a_source_with_post(body: Any, is_repeatable: bool) -> None:
    assert DATA_WORLD.is_repeatable(Update("data.world", "acme/products", body)) is is_repeatable


# Changes of a list


def change(tags: Any, **more: Any) -> Update:
    return Update("data.world", "acme/products", {"tags": tags, **more})


@pytest.mark.parametrize("tags", [["ab"], [], None])
def test_read_request_new_list_needs_no_record(tags: Any) -> None:
    assert DATA_WORLD.read_request("http://h/v0", change(tags)) is None


def test_read_request_change_of_tags_is_get() -> None:
    expected = Request("GET", "http://h/v0/datasets/acme/products")
    assert DATA_WORLD.read_request("http://h/v0", change({"add": ["ab"]})) == expected


@pytest.mark.parametrize(
    ("old", "tags", "merged"),
    [
        (["b2", "a1"], {"add": ["c3", "a1"]}, ["b2", "a1", "c3"]),
        (["b2", "a1"], {"remove": ["b2", "x9"]}, ["a1"]),
        (["b2", "a1"], {"add": ["c3"], "remove": ["a1"]}, ["b2", "c3"]),
        (["b2"], {"remove": ["b2"]}, []),
        (["AB"], {"add": ["ab"]}, ["AB", "ab"]),
        (None, {"add": ["ab"]}, ["ab"]),
    ],
)
def test_merged_update_has_the_new_list(old: Any, tags: Any, merged: list[str]) -> None:
    record: JSON = {"id": "products", "tags": old}
    assert DATA_WORLD.merged_update(change(tags, title="x"), record) == change(merged, title="x")


def test_merged_update_of_a_record_without_tags_has_the_new_list() -> None:
    assert DATA_WORLD.merged_update(change({"add": ["ab"]}), {"id": "products"}) == change(["ab"])


@pytest.mark.parametrize(
    "record",
    [None, "nonsense", [], {}, {"data": {"tags": ["ab"]}}, {"status": "pending"}, {"id": "x", "tags": "ab,cd"},
     {"id": "x", "tags": [1]}, {"id": "x", "tags": {}}],
)  # fmt: skip
def test_merged_update_of_an_unreadable_record_raises(record: Any) -> None:
    """To write a list would delete the tags of the record."""
    with pytest.raises(UpstreamFailedError, match="did not change the tags"):
        DATA_WORLD.merged_update(change({"add": ["ab"]}), record)


@pytest.mark.parametrize("tags", [{"add": ["ab"]}, {"remove": ["x9"]}, {"add": ["ab"], "remove": ["x9"]}])
def test_merged_update_without_a_difference_has_no_tags(tags: Any) -> None:
    record: Any = {"id": "products", "tags": ["ab", "cd"]}
    assert DATA_WORLD.merged_update(change(tags), record) is None
    merged = DATA_WORLD.merged_update(change(tags, title="x"), record)
    assert merged == Update("data.world", "acme/products", {"title": "x"})


def test_merged_update_keeps_the_other_provider_unchanged() -> None:
    update = Update("apify", "abc", {"name": "x"})
    assert PROVIDERS["apify"].read_request("http://h", update) is None
    assert PROVIDERS["apify"].merged_update(update, None) is update


@pytest.mark.parametrize(
    ("provider", "status", "body", "refuses"),
    [
        ("data.world", 401, None, True),
        ("data.world", 403, {"message": "x"}, True),
        ("data.world", 404, {"error": {"type": "record-or-token-not-found"}}, False),
        ("apify", 401, None, True),
        ("apify", 404, {"error": {"type": "record-or-token-not-found"}}, True),
        ("apify", 404, {"error": {"type": "page-not-found"}}, False),
        ("apify", 404, "record-or-token-not-found", False),
        ("apify", 400, {"error": {"type": "record-or-token-not-found"}}, False),
    ],
)
def test_refuses_token_depends_on_status_and_type(provider: str, status: int, body: Any, refuses: bool) -> None:
    assert PROVIDERS[provider].refuses_token(status, body) is refuses
