"""CloudEvents: the envelope that can carry a native event.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

import base64
import re
from collections.abc import Mapping
from urllib.parse import unquote

from marshmallow import INCLUDE, Schema, fields, validate

from schemas.base import REQUIRED, flatten, one_of
from schemas.event import VALID_ID, VALID_TIMESTAMP
from schemas.problem import InvalidEventError, InvalidJSONError
from schemas.strict_json import JSON, parse_object

_INVALID = "The CloudEvent breaks a rule. See errors for each attribute and its rule."
_INVALID_HEADERS = "The CloudEvent breaks a rule. See errors for each header and its rule."
# The attributes that take precedence over the fields of the same name in the data.
_EVENT_ATTRIBUTES = ("id", "type", "time")


class CloudEventSchema(Schema):
    """The envelope of a CloudEvent, version 1.0. Further attributes are extensions, and always allowed."""

    class Meta:
        """Allow extension attributes."""

        unknown = INCLUDE

    specversion = fields.String(required=True, validate=one_of(["1.0"]))
    id = fields.String(required=True, validate=VALID_ID)
    source = fields.String(required=True, validate=validate.Length(min=1))
    type = fields.String(required=True, validate=validate.Length(min=1))
    time = fields.String(validate=VALID_TIMESTAMP, metadata={"format": "date-time"})
    data = fields.Dict(
        error_messages={"invalid": "Must be a JSON object: the event itself, not a string that contains its JSON."}
    )
    data_base64 = fields.String()


_CLOUD_EVENT = CloudEventSchema()


def from_structured(envelope: dict[str, JSON]) -> dict[str, JSON]:
    """Return the event in a structured CloudEvent: the data, with the ID, type, and time of the envelope.

    Raises:
        InvalidEventError: The envelope breaks a rule of CloudEvents.
        InvalidJSONError: `data_base64` contains no JSON object.
    """
    # JSON format of CloudEvents, 2.2: an attribute with the value null is unset.
    envelope = {name: value for name, value in envelope.items() if value is not None}
    errors = _CLOUD_EVENT.validate(envelope)
    if "data" in envelope and "data_base64" in envelope:
        errors["data_base64"] = ["Must be absent: a CloudEvent has either data or data_base64."]
    elif "data" not in envelope and "data_base64" not in envelope:
        errors["data"] = [REQUIRED]
    if errors:
        raise InvalidEventError(_INVALID, errors=flatten(errors))
    data = envelope["data"] if "data" in envelope else _decode(str(envelope["data_base64"]))
    assert isinstance(data, dict)
    return _with_attributes(data, envelope)


def is_envelope(event: Mapping[str, JSON]) -> bool:
    """Return True if an event looks like a structured CloudEvent."""
    return "specversion" in event


def wrong_media_type_error() -> InvalidEventError:
    """Return the error for a structured CloudEvent that arrives with another media type."""
    message = (
        "The body is a CloudEvent (it has specversion), but the Content-Type isn't application/cloudevents+json. Send "
        "the same body with Content-Type: application/cloudevents+json, or send only the event in its data."
    )
    return InvalidEventError(message, errors={"specversion": [message]})


def binary_attributes(headers: Mapping[str, str]) -> dict[str, JSON]:
    """Return the attributes of a CloudEvent in binary mode, or an empty dict for a request in another mode.

    The names in `headers` must be lowercase.
    """
    if not any(f"ce-{name}" in headers for name in ("specversion", "id", "source", "type")):
        return {}
    return {
        # HTTP binding of CloudEvents, 3.1.3.2: a value is percent-encoded UTF-8, possibly in quotes.
        name.removeprefix("ce-"): unquote(_without_quotes(value))
        for name, value in headers.items()
        if name.startswith("ce-") and name not in ("ce-data", "ce-data_base64")
    }


def from_binary(attributes: Mapping[str, JSON], data: dict[str, JSON]) -> dict[str, JSON]:
    """Return the event in a binary CloudEvent: the data, with the ID, type, and time in the attributes.

    Raises:
        InvalidEventError: The attributes break a rule of CloudEvents.
    """
    errors = _CLOUD_EVENT.validate(attributes)
    if errors:
        by_header = {f"ce-{name}": messages for name, messages in errors.items()}
        raise InvalidEventError(_INVALID_HEADERS, errors=flatten(by_header))
    return _with_attributes(data, attributes)


def _without_quotes(value: str) -> str:
    """Return the text of a quoted string (RFC 7230, 3.2.6), or any other value unchanged."""
    match = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', value)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else value


def _decode(text: str) -> dict[str, JSON]:
    try:
        return parse_object(base64.b64decode(text, validate=True))
    except ValueError:
        raise InvalidEventError(_INVALID, errors={"data_base64": ["Not valid base64."]}) from None
    except InvalidJSONError as error:
        raise InvalidJSONError(f"In data_base64: {error}") from None


def _with_attributes(data: dict[str, JSON], attributes: Mapping[str, JSON]) -> dict[str, JSON]:
    return data | {name: attributes[name] for name in _EVENT_ATTRIBUTES if name in attributes}
