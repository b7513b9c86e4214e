"""data.world, *Update dataset*: https://developer.data.world/reference/patchdataset"""

from urllib.parse import quote

from handlers.providers.call import Request, text_at
from schemas.data_world import DataWorldEvent
from schemas.event import Update
from schemas.strict_json import JSON

TITLE = "data.world"
BASE_URL = "https://api.data.world/v0"
EVENT = DataWorldEvent()


def request(base_url: str, update: Update) -> Request:
    """`PATCH /datasets/{owner}/{id}`."""
    owner, _, name = update.dataset.partition("/")
    return Request("PATCH", f"{base_url}/datasets/{quote(owner, safe='')}/{quote(name, safe='')}", update.body)


def reason(body: JSON) -> str | None:
    """data.world's words: `{"code": …, "message": …, "details": …}`."""
    return text_at(body, "message")


def look(base_url: str, update: Update) -> None:
    """None: an update on data.world never changes what the dataset is called in its URL."""


def is_done(update: Update, body: JSON) -> bool:
    """Never: there is no look that could tell."""
    return False
