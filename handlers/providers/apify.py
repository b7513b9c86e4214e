"""Apify, *Update dataset*: https://docs.apify.com/api/v2/dataset-put"""

from urllib.parse import quote

from handlers.providers.call import Request, text_at
from schemas.apify import ApifyEvent
from schemas.event import Update
from schemas.strict_json import JSON, at

TITLE = "Apify"
BASE_URL = "https://api.apify.com/v2"
EVENT = ApifyEvent()


def request(base_url: str, update: Update) -> Request:
    """`PUT /datasets/{datasetId}`, an id or `username~dataset-name` in one path segment."""
    return Request("PUT", _url(base_url, update.dataset), update.body)


def reason(body: JSON) -> str | None:
    """Apify's words: `{"error": {"type": …, "message": …}}`."""
    return text_at(body, "error", "message")


def look(base_url: str, update: Update) -> Request | None:
    """For a rename of `username~old`: `GET /datasets/username~new`, since the old name is gone when it has happened.

    https://docs.apify.com/api/v2/dataset-get
    """
    username, tilde, _ = update.dataset.partition("~")
    name = update.body.get("name")
    return Request("GET", _url(base_url, f"{username}~{name}")) if tilde and isinstance(name, str) else None


def is_done(update: Update, body: JSON) -> bool:
    """Whether `{"data": {…}}` has each field as `update` has it."""
    return all(at(body, "data", name) == value for name, value in update.body.items())


def _url(base_url: str, dataset: str) -> str:
    return f"{base_url}/datasets/{quote(dataset, safe='')}"
