"""data.world, *Update dataset*: https://developer.data.world/reference/patchdataset."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast
from urllib.parse import quote

from handlers.providers.base import Provider, Request, text_at
from schemas.data_world import DataWorldEvent
from schemas.event import Update
from schemas.problem import UpstreamFailedError
from schemas.strict_json import JSON, value_at


class DataWorld(Provider):
    """data.world's API, version 0."""

    title = "data.world"
    base_url = "https://api.data.world/v0"
    event_schema = DataWorldEvent()
    # The provider's tokens are JSON Web Tokens.
    token_pattern = r"eyJ[A-Za-z0-9_-]*\."

    def update_request(self, base_url: str, update: Update) -> Request:
        """Return `PATCH /datasets/{owner}/{id}`."""
        return Request("PATCH", _dataset_url(base_url, update.dataset), update.body)

    def read_request(self, base_url: str, update: Update) -> Request | None:
        """Return `GET /datasets/{owner}/{id}` if `update` adds or removes tags."""
        return Request("GET", _dataset_url(base_url, update.dataset)) if _tag_change(update) else None

    def merged_update(self, update: Update, record: JSON) -> Update | None:
        """Return `update` with the new list of tags in place of the tags to add and to remove.

        If the tags don't change, the result has no tags. If `update` has no other field, the result is None.

        Raises:
            UpstreamFailedError: `record` isn't a record with tags. To write a list would delete the tags of the record.
        """
        change, tags = _tag_change(update), value_at(record, "tags")
        old: list[JSON] = [] if tags is None else cast(list[JSON], tags)
        is_record = isinstance(record, dict) and "id" in record
        if not is_record or not isinstance(old, list) or not all(isinstance(tag, str) for tag in old):
            raise UpstreamFailedError(
                "data.world returned no record with tags, so the function did not change the tags."
            )
        removed = set(change.get("remove", []))
        # A dictionary keeps the order, and each tag once.
        new: list[JSON] = list(dict.fromkeys([*(tag for tag in old if tag not in removed), *change.get("add", [])]))
        body: dict[str, JSON] = {**update.body, "tags": new}
        if new == old:
            del body["tags"]
        return replace(update, body=body) if body else None

    def is_repeatable(self, update: Update) -> bool:
        """Return False if data.world sends a POST request to the source of a file, with unknown effects."""
        files = update.body.get("files")
        return not (isinstance(files, list) and any(value_at(file, "source", "method") == "POST" for file in files))

    def error_message(self, body: JSON) -> str | None:
        """Return the message of `{"code": …, "message": …, "details": …}`."""
        return text_at(body, "message")


def _tag_change(update: Update) -> Mapping[str, list[str]]:
    """Return the tags to `add` and to `remove`, or an empty mapping if `update` replaces or keeps the tags."""
    tags = update.body.get("tags")
    return cast(Mapping[str, list[str]], tags) if isinstance(tags, dict) else {}


def _dataset_url(base_url: str, dataset: str) -> str:
    owner, _, dataset_id = dataset.partition("/")
    return f"{base_url}/datasets/{quote(owner, safe='')}/{quote(dataset_id, safe='')}"
