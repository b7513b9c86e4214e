"""Native events, which contain one update of one dataset."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from marshmallow import ValidationError, fields, validate

from schemas.base import StrictSchema, flatten, matches, one_of
from schemas.problem import InvalidEventError
from schemas.secret_reference import SecretReference
from schemas.strict_json import JSON

#: The maximum length of a delivery ID, in characters.
MAX_ID_LENGTH = 200

# RFC 3339, section 5.6, with any number of digits after the second.
_TIMESTAMP = r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_INVALID_TIMESTAMP = "Must be an RFC 3339 timestamp, such as 2026-11-22T08:30:00Z."


@dataclass(frozen=True, slots=True)
class Update:
    """A change to one dataset.

    `body` is the body of the provider's request, unchanged. `token` replaces the provider's own token. `position` is
    the index of the update in the hook, for error messages.
    """

    provider: str
    dataset: str
    body: Mapping[str, JSON]
    token: SecretReference | None = None
    position: int = field(default=0, compare=False)


def printable_id(text: str | None) -> str | None:
    """Return `text` without the spaces at its ends, or None if `text` can't be a delivery ID.

    A delivery ID has 1 to MAX_ID_LENGTH printable ASCII characters. The response repeats the ID in a header, and HTTP
    removes the spaces at the ends of a header's value (RFC 9110, 5.5).
    """
    if text is None or len(text) > MAX_ID_LENGTH or not (text.isascii() and text.isprintable()):
        return None
    return text.strip(" ") or None


def _check_calendar(text: str) -> None:
    """Raise ValidationError if `text` has the form of a timestamp, but isn't a date and time of the calendar."""
    match = re.fullmatch(_TIMESTAMP, text)
    if not match:
        return  # The pattern's own validator reports this mistake.
    # RFC 3339, 5.7, allows leap seconds. datetime doesn't.
    seconds = re.sub(r":60\Z", ":59", match[1])
    try:
        datetime.fromisoformat(seconds + match[2].upper().replace("Z", "+00:00"))
    except ValueError:
        raise ValidationError(_INVALID_TIMESTAMP) from None


#: The validators of a CloudEvents ID and of a timestamp.
VALID_ID = matches(rf"[\x20-\x7e]{{1,{MAX_ID_LENGTH}}}", f"Must be 1 to {MAX_ID_LENGTH} printable ASCII characters.")
VALID_TIMESTAMP = (matches(_TIMESTAMP, _INVALID_TIMESTAMP), _check_calendar)


class EventSchema(StrictSchema):
    """The fields of every event. The schema of a provider's event declares `dataset` and `update` in detail."""

    provider = fields.String(required=True)
    dataset: fields.Field[Any] = fields.String(required=True)
    update: fields.Field[Any] = fields.Dict(required=True)
    id = fields.String(validate=VALID_ID, metadata={"description": "The ID of the delivery in responses and logs."})
    type = fields.String(validate=validate.Length(min=1), metadata={"description": "The kind of the event."})
    time = fields.String(
        validate=VALID_TIMESTAMP, metadata={"description": "The time of the event.", "format": "date-time"}
    )


def read_event(payload: dict[str, JSON], schemas: Mapping[str, EventSchema]) -> Update:
    """Return the update of a native event. `schemas` has the schema of each provider's events.

    Raises:
        InvalidEventError: The event breaks a rule. The error lists every broken rule.
    """
    provider = payload.get("provider")
    schema = schemas.get(provider) if isinstance(provider, str) else None
    errors = (schema or EventSchema()).validate(payload)
    if isinstance(provider, str) and schema is None:
        try:
            one_of(schemas)(provider)
        except ValidationError as error:
            errors["provider"] = [str(message) for message in error.messages]
    if errors:
        raise InvalidEventError(
            "The event breaks a rule. See errors for each field and its rule.", errors=flatten(errors)
        )
    # Tell mypy the types that the schema has checked.
    dataset, body = payload["dataset"], payload["update"]
    assert isinstance(provider, str)
    assert isinstance(dataset, str)
    assert isinstance(body, dict)
    return Update(provider, dataset, body)


def valid_reference(event: JSON, schemas: Mapping[str, EventSchema]) -> tuple[str | None, str | None]:
    """Return the provider and the dataset of a native event that breaks a rule, each None if this field is invalid."""
    provider = event.get("provider") if isinstance(event, dict) else None
    schema = schemas.get(provider) if isinstance(provider, str) else None
    if schema is None:
        return None, None
    assert isinstance(event, dict)
    assert isinstance(provider, str)
    dataset = event.get("dataset")
    is_valid = isinstance(dataset, str) and not schema.validate({"dataset": dataset}, partial=True)
    return provider, str(dataset) if is_valid else None
