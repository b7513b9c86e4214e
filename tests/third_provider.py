"""The function with a provider more, made as CONTRIBUTING says: for FUNCTION_SOURCE."""

from types import SimpleNamespace
from typing import Any, cast

from marshmallow import fields

from handlers.providers import PROVIDERS
from handlers.providers.call import Provider, Request, text_at
from schemas.event import EventSchema, Update
from schemas.strict import UpdateSchema


class SomeHubUpdate(UpdateSchema):
    title = fields.String()


class SomeHubEvent(EventSchema):
    update = fields.Nested(SomeHubUpdate, required=True)


def _request(base_url: str, update: Update) -> Request:
    return Request("PUT", f"{base_url}/{update.dataset}", update.body)


def _reason(body: Any) -> str | None:
    return text_at(body, "message")


def _look(_base_url: str, _update: Update) -> None:
    return None


def _is_done(_update: Update, _body: Any) -> bool:
    return False


some_hub = SimpleNamespace(
    TITLE="Some Hub",
    BASE_URL="https://hub.example/api",
    EVENT=SomeHubEvent(),
    request=_request,
    reason=_reason,
    look=_look,
    is_done=_is_done,
)
cast(dict[str, Provider], PROVIDERS)["some.hub"] = cast(Provider, some_hub)

from main import relay as relay  # noqa: E402 - the registry is read when it is imported
