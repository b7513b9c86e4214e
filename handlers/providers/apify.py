"""Apify, *Update dataset*: https://docs.apify.com/api/v2/dataset-put."""

from urllib.parse import quote

from handlers.providers.base import Provider, Request, text_at
from schemas.apify import ApifyEvent
from schemas.event import Update
from schemas.strict_json import JSON, value_at


class Apify(Provider):
    """Apify's API, version 2."""

    title = "Apify"
    base_url = "https://api.apify.com/v2"
    event_schema = ApifyEvent()
    # The key signs public links to private data: https://docs.apify.com/platform/storage/usage#sharing
    secret_keys = frozenset({"urlSigningSecretKey"})
    token_pattern = "apify_api_"

    def update_request(self, base_url: str, update: Update) -> Request:
        """Return `PUT /datasets/{datasetId}`, with the dataset's ID or `username~dataset-name` as one path segment."""
        return Request("PUT", _dataset_url(base_url, update.dataset), update.body)

    def refuses_token(self, status: int, body: JSON) -> bool:
        """Return True also for a 404 of a dataset that may exist, but that the token can't see."""
        is_hidden = status == 404 and text_at(body, "error", "type") == "record-or-token-not-found"
        return is_hidden or super().refuses_token(status, body)

    def error_message(self, body: JSON) -> str | None:
        """Return the message of `{"error": {"type": …, "message": …}}`."""
        return text_at(body, "error", "message")

    def confirmation_request(self, base_url: str, update: Update) -> Request | None:
        """Return `GET /datasets/username~new-name` for a rename of `username~old-name`.

        After the rename, the old name no longer exists: https://docs.apify.com/api/v2/dataset-get
        """
        username, tilde, _ = update.dataset.partition("~")
        name = update.body.get("name")
        if not (tilde and isinstance(name, str)):
            return None
        return Request("GET", _dataset_url(base_url, f"{username}~{name}"))

    def confirms(self, update: Update, body: JSON) -> bool:
        """Return True if `{"data": {…}}` has every field of `update` with the same value."""
        return all(value_at(body, "data", name) == value for name, value in update.body.items())


def _dataset_url(base_url: str, dataset: str) -> str:
    return f"{base_url}/datasets/{quote(dataset, safe='')}"
