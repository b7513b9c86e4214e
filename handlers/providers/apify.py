"""Apify, *Update dataset*: https://docs.apify.com/api/v2/dataset-put"""

from urllib.parse import quote

from handlers.providers.call import Request, text_at
from schemas.apify import ApifyEvent
from schemas.event import Update
from schemas.strict_json import JSON

TITLE = "Apify"
BASE_URL = "https://api.apify.com/v2"
EVENT = ApifyEvent()


def request(base_url: str, update: Update) -> Request:
    """`PUT /datasets/{datasetId}`, an id or `username~dataset-name` in one path segment."""
    return Request("PUT", f"{base_url}/datasets/{quote(update.dataset, safe='')}", update.body)


def reason(body: JSON) -> str | None:
    """Apify's words: `{"error": {"type": …, "message": …}}`."""
    return text_at(body, "error", "message")
