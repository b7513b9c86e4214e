"""The data of a message in the queue: one update, in the form of a native event.

    {"provider": "apify", "dataset": "jane~products", "update": {…}, "id": "run-4711", "hook": "build", "position": 0}

`hook` and `position` refer to an update of a hook in relay.yaml that has a token of its own. The message contains no
secret reference, because whoever can publish to a topic could choose another token.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from marshmallow import fields, validate

from schemas.base import REQUIRED, StrictSchema, flatten
from schemas.event import EventSchema, Update, read_event
from schemas.problem import InvalidEventError, InvalidJSONError
from schemas.strict_json import JSON, dump, parse_object

# https://cloud.google.com/pubsub/quotas#resource_limits
_MAX_KEY_BYTES = 1024


class _HookSchema(StrictSchema):
    """The fields that refer to an update of a hook."""

    hook = fields.String(required=True)
    position = fields.Integer(required=True, strict=True, validate=validate.Range(min=0))


_HOOK = _HookSchema()


@dataclass(frozen=True, slots=True)
class QueuedUpdate:
    """An update in the queue, with the ID of its delivery. `hook` names the hook whose own token the update uses."""

    update: Update
    delivery_id: str
    hook: str | None = None

    @property
    def ordering_key(self) -> str:
        """The key by which Pub/Sub orders messages: the dataset, or a hash of a dataset whose name is too long."""
        key = f"{self.update.provider}:{self.update.dataset}"
        data = key.encode()
        return key if len(data) <= _MAX_KEY_BYTES else hashlib.sha256(data).hexdigest()

    def data(self) -> bytes:
        """Return the data of the message."""
        event: dict[str, object] = {
            "provider": self.update.provider,
            "dataset": self.update.dataset,
            "update": self.update.body,
            "id": self.delivery_id,
        }
        if self.hook is not None:
            event |= {"hook": self.hook, "position": self.update.position}
        return dump(event)


def read_queued_update(data: bytes, schemas: Mapping[str, EventSchema]) -> QueuedUpdate:
    """Return the update in the data of a message. `schemas` has the schema of each provider's events.

    Raises:
        InvalidEventError: The data isn't a valid update.
    """
    try:
        event = parse_object(data)
    except InvalidJSONError as error:
        raise InvalidEventError(f"The data of the message isn't an update: {error}") from None
    reference: dict[str, JSON] = {name: event.pop(name) for name in _HOOK.fields if name in event}
    if reference and (errors := _HOOK.validate(reference)):
        raise InvalidEventError("The message breaks a rule.", errors=flatten(errors))
    update = read_event(event, schemas)
    delivery_id, hook, position = event.get("id"), reference.get("hook"), reference.get("position", 0)
    if not isinstance(delivery_id, str):
        raise InvalidEventError("The message breaks a rule.", errors={"id": [REQUIRED]})
    assert hook is None or isinstance(hook, str)
    assert isinstance(position, int)
    return QueuedUpdate(replace(update, position=position), delivery_id, hook)
