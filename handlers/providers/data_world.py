"""data.world, *Update dataset*: https://developer.data.world/reference/patchdataset."""

from urllib.parse import quote

from handlers.providers.base import Provider, Request, text_at
from schemas.data_world import DataWorldEvent
from schemas.event import Update
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
        owner, _, dataset_id = update.dataset.partition("/")
        url = f"{base_url}/datasets/{quote(owner, safe='')}/{quote(dataset_id, safe='')}"
        return Request("PATCH", url, update.body)

    def is_repeatable(self, update: Update) -> bool:
        """Return False if data.world sends a POST request to the source of a file, with unknown effects."""
        files = update.body.get("files")
        return not (isinstance(files, list) and any(value_at(file, "source", "method") == "POST" for file in files))

    def error_message(self, body: JSON) -> str | None:
        """Return the message of `{"code": …, "message": …, "details": …}`."""
        return text_at(body, "message")
