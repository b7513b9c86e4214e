"""Google Pub/Sub: the names of topics, the identity of a push, and the messages that a push subscription sends.

https://cloud.google.com/pubsub/docs/push
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields

from schemas.base import flatten, matches
from schemas.problem import InvalidEventError, InvalidJSONError
from schemas.secret_reference import PROJECT
from schemas.strict_json import JSON, parse_payload

#: The validator of a topic: https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names
TOPIC = matches(
    rf"projects/{PROJECT}/topics/(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{{2,254}}",
    "Must be projects/P/topics/T. T has 3 to 255 letters, digits, and -._~+%, begins with a letter, and doesn't "
    "begin with goog.",
)
#: The validators of the audience and of the service account of a push.
AUDIENCE = matches(r"[\x21-\x7e]+", "Must be printable ASCII without spaces, such as the URL of the function.")
ACCOUNT = matches(r"[^@\s]+@[^@\s]+", "Must be the email address of a service account.")


@dataclass(frozen=True, slots=True)
class PushIdentity:
    """The audience and the email address of the service account in the ID token of a push."""

    audience: str
    account: str


@dataclass(frozen=True, slots=True)
class PushMessage:
    """A message of a push. `published` is the time of its publication as RFC 3339 text."""

    data: bytes = field(repr=False)
    attributes: Mapping[str, str]
    message_id: str
    published: str
    subscription: str

    def age(self, now: float) -> float:
        """Return the seconds since the publication, or 0 for an unreadable time. `now` is in seconds since 1970."""
        try:
            moment = datetime.fromisoformat(self.published)
        except ValueError:
            return 0.0
        return now - moment.timestamp() if moment.tzinfo else 0.0


class Base64(fields.Field[bytes]):
    """A field for data in base64."""

    def _deserialize(self, value: object, *_: object, **__: object) -> bytes:
        try:
            return base64.b64decode(value if isinstance(value, str) else "?", validate=True)
        except binascii.Error:
            raise ValidationError("Must be base64.") from None


class PushMessageSchema(Schema):
    """The message in a push. Pub/Sub omits `data` for a message that has only attributes."""

    class Meta:
        """Ignore the fields in snake case, which repeat other fields, and fields that Pub/Sub may add."""

        unknown = EXCLUDE

    data = Base64(load_default=None)
    attributes = fields.Dict(keys=fields.String(), values=fields.String(), load_default=dict)
    messageId = fields.String(load_default="")
    publishTime = fields.String(load_default="")


class PushSchema(Schema):
    """The body of a push."""

    class Meta:
        """Ignore fields that Pub/Sub may add."""

        unknown = EXCLUDE

    message = fields.Nested(PushMessageSchema, required=True)
    subscription = fields.String(load_default="")


_PUSH = PushSchema()
_NO_PUSH = "The body isn't a push of Pub/Sub with JSON in its data. See errors for each field and its rule."


def read_push(body: JSON) -> PushMessage:
    """Return the message in the body of a push.

    Raises:
        InvalidEventError: The body isn't a push of Pub/Sub.
    """
    try:
        push: dict[str, Any] = _PUSH.load(body)  # type: ignore[arg-type]
    except ValidationError as error:
        messages: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
        raise InvalidEventError(_NO_PUSH, errors=flatten(messages)) from None
    message = push["message"]
    return PushMessage(
        message["data"] or b"",
        message["attributes"],
        message["messageId"],
        message["publishTime"],
        push["subscription"],
    )


def open_push(headers: Mapping[str, str], body: JSON) -> tuple[Mapping[str, str], JSON]:
    """Return the headers and the payload of an event of Google.

    The payload of a push is the JSON in the data of its message, or an empty object for a message without data. The
    attributes of the message are further headers, by lowercase name. The body of any other event is its payload.

    Raises:
        InvalidEventError: The push breaks a rule, or the data of its message isn't JSON.
    """
    if not (isinstance(body, dict) and isinstance(body.get("message"), dict) and "subscription" in body):
        return headers, body
    message = read_push(body)
    attributes = {name.lower(): value for name, value in message.attributes.items()}
    try:
        payload = parse_payload(message.data) if message.data else {}
    except InvalidJSONError as error:
        raise InvalidEventError(_NO_PUSH, errors={"message.data": [str(error)]}) from None
    return {**attributes, **headers}, payload
