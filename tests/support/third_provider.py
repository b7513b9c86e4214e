"""The function with another provider, added as CONTRIBUTING.md describes, for the variable FUNCTION_SOURCE."""

from typing import cast

from marshmallow import fields

from handlers.providers import PROVIDERS
from handlers.providers.base import Provider, Request, text_at
from schemas.base import UpdateSchema
from schemas.event import EventSchema, Update
from schemas.strict_json import JSON


class SomeHubUpdate(UpdateSchema):
    """The body of an update of Some Hub."""

    title = fields.String()
    api_key = fields.String(metadata={"secret": True})


class SomeHubEvent(EventSchema):
    """An event for Some Hub."""

    update = fields.Nested(SomeHubUpdate, required=True)


class SomeHub(Provider):
    """The API of Some Hub."""

    title = "Some Hub"
    base_url = "https://hub.example/api"
    event_schema = SomeHubEvent()

    def update_request(self, base_url: str, update: Update) -> Request:
        """Return `PUT /{dataset}`."""
        return Request("PUT", f"{base_url}/{update.dataset}", update.body)

    def error_message(self, body: JSON) -> str | None:
        """Return the message of `{"message": …}`."""
        return text_at(body, "message")


cast(dict[str, Provider], PROVIDERS)["some.hub"] = SomeHub()

from main import relay as relay  # noqa: E402 - main reads the registry at its import
