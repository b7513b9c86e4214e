"""An event in our own language, bare or in a CloudEvent: one update for one dataset."""

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

from marshmallow import INCLUDE, Schema, ValidationError, fields, validate

from schemas.problem import Invalid, NotJSON
from schemas.reference import SecretReference
from schemas.strict import StrictSchema, flatten, matches, one_of
from schemas.strict_json import JSON, parse_object

#: Of a delivery's name, in characters.
LONGEST_ID = 200
_EVENT_ID = rf"[\x20-\x7e]{{1,{LONGEST_ID}}}"
_BROKEN = "The event breaks a rule; errors names each field and its rule."
# RFC 3339, section 5.6, with any number of digits behind the second.
_TIMESTAMP = r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_NO_TIMESTAMP = "Must be an RFC 3339 timestamp, as 2026-11-22T08:30:00Z."


class Update(NamedTuple):
    """One change for one dataset: `body` is the platform's own request body, as it came.

    `token` is where the token for it is, if that is another than the provider's own.
    """

    provider: str
    dataset: str
    body: Mapping[str, JSON]
    token: SecretReference | None = None


class Event(NamedTuple):
    """What a sender says: an update, and the id it gave it, if any."""

    update: Update
    id: str | None


def printable_id(text: str | None) -> str | None:
    """`text` if it can name a delivery (1 to 200 printable ASCII characters, not all of them spaces), else None.

    Without the spaces at its ends: a header, which the name is to stand in, loses them on its way.
    """
    is_right = text is not None and len(text) <= LONGEST_ID and text.isascii() and text.isprintable()
    return text.strip(" ") or None if text and is_right else None


def _on_the_calendar(text: str) -> None:
    """A validator: what looks like a timestamp is a day and a time that there are."""
    found = re.fullmatch(_TIMESTAMP, text)
    if not found:
        return  # said already: it must look like one
    try:
        # A leap second is a time too (RFC 3339, 5.7), but not one that datetime knows.
        datetime.fromisoformat(re.sub(r":60\Z", ":59", found[1]) + found[2].upper().replace("Z", "+00:00"))
    except ValueError:
        raise ValidationError(_NO_TIMESTAMP) from None


_TIME = (matches(_TIMESTAMP, _NO_TIMESTAMP), _on_the_calendar)
_ID = matches(_EVENT_ID, "Must be 1 to 200 printable ASCII characters.")


class EventSchema(StrictSchema):
    """What every event has; a provider's own event says more of `dataset` and `update`."""

    provider = fields.String(required=True)
    dataset: fields.Field[Any] = fields.String(required=True)
    update: fields.Field[Any] = fields.Dict(required=True)
    id = fields.String(validate=_ID, metadata={"description": "Names the delivery in answers and logs."})
    type = fields.String(validate=validate.Length(min=1), metadata={"description": "What happened."})
    time = fields.String(validate=_TIME, metadata={"description": "When it happened.", "format": "date-time"})


class CloudEventSchema(Schema):
    """A CloudEvent's envelope; https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md

    Attributes that are not listed are extensions: any is allowed.
    """

    class Meta:
        """Extensions stay."""

        unknown = INCLUDE

    specversion = fields.String(required=True, validate=one_of(["1.0"]))
    id = fields.String(required=True, validate=_ID)
    source = fields.String(required=True, validate=validate.Length(min=1))
    type = fields.String(required=True, validate=validate.Length(min=1))
    time = fields.String(validate=_TIME, metadata={"format": "date-time"})
    data = fields.Dict()
    data_base64 = fields.String()


_CLOUD_EVENT = CloudEventSchema()
_OWN_ATTRIBUTES = ("id", "type", "time")


def read_event(payload: dict[str, JSON], schemas: Mapping[str, EventSchema]) -> Event:
    """The event in `payload`, judged by its provider's schema, one of `schemas`.

    Raises Invalid with every broken rule.
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
        raise Invalid(_BROKEN, errors=flatten(errors))
    # The schema has seen to the types; mypy can't know.
    dataset, body, event_id = payload["dataset"], payload["update"], payload.get("id")
    assert isinstance(provider, str)
    assert isinstance(dataset, str)
    assert isinstance(body, dict)
    return Event(
        update=Update(provider=provider, dataset=dataset, body=body),
        id=event_id if isinstance(event_id, str) else None,
    )


def from_structured(envelope: dict[str, JSON]) -> dict[str, JSON]:
    """The event in a structured CloudEvent: its data, with the envelope's own id, type and time.

    Raises Invalid: the envelope breaks a rule of CloudEvents. NotJSON: what is in its data_base64.
    """
    # CloudEvents JSON format, 2.2: an attribute that is null is one that isn't set.
    envelope = {name: value for name, value in envelope.items() if value is not None}
    errors = _CLOUD_EVENT.validate(envelope)
    if "data" in envelope and "data_base64" in envelope:
        errors["data_base64"] = ["A CloudEvent has data or data_base64, not both."]
    elif "data" not in envelope and "data_base64" not in envelope:
        errors["data"] = ["Missing data for required field."]
    if errors:
        raise Invalid("The CloudEvent breaks a rule; errors names each attribute and its rule.", errors=flatten(errors))
    data = envelope["data"] if "data" in envelope else _decoded(str(envelope["data_base64"]))
    assert isinstance(data, dict)
    return _with_attributes(data, envelope)


def binary_attributes(headers: Mapping[str, str]) -> dict[str, JSON]:
    """The attributes of a CloudEvent in binary mode; none if it is no such. `headers` have lower-case names."""
    if not any(f"ce-{name}" in headers for name in ("specversion", "id", "source", "type")):
        return {}
    return {
        # CloudEvents HTTP binding, 3.1.3.2: values may be quoted, and are percent-encoded UTF-8.
        name.removeprefix("ce-"): unquote(_unquoted(value))
        for name, value in headers.items()
        if name.startswith("ce-") and name not in ("ce-data", "ce-data_base64")
    }


def _unquoted(value: str) -> str:
    """A header's value without the quotes that RFC 7230, 3.2.6, allows around it."""
    found = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', value)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else value


def from_binary(attributes: Mapping[str, JSON], data: dict[str, JSON]) -> dict[str, JSON]:
    """The event in a binary CloudEvent: the body, with the id, type and time of its `attributes`.

    Raises Invalid as from_structured does.
    """
    errors = _CLOUD_EVENT.validate(attributes)
    if errors:
        named = {f"ce-{name}": value for name, value in errors.items()}
        raise Invalid("The CloudEvent breaks a rule; errors names each header and its rule.", errors=flatten(named))
    return _with_attributes(data, attributes)


def _decoded(text: str) -> dict[str, JSON]:
    try:
        return parse_object(base64.b64decode(text, validate=True))
    except ValueError:
        detail = "The CloudEvent breaks a rule; errors names each attribute and its rule."
        raise Invalid(detail, errors={"data_base64": ["Not valid base64."]}) from None
    except NotJSON as error:
        raise NotJSON(f"In data_base64: {error}") from None


def _with_attributes(data: dict[str, JSON], attributes: Mapping[str, JSON]) -> dict[str, JSON]:
    return data | {name: attributes[name] for name in _OWN_ATTRIBUTES if name in attributes}
