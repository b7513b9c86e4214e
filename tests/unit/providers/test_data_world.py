"""Tests of the calls to data.world."""

from typing import Any

import pytest

from handlers.providers import PROVIDERS
from handlers.providers.base import Request
from schemas.event import Update

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
