"""data.world, *Update dataset*: https://developer.data.world/reference/patchdataset"""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from schemas.event import EventSchema
from schemas.strict import (
    StrictBoolean,
    StrictList,
    StrictSchema,
    UpdateSchema,
    matches,
    one_of,
    string_values,
)

#: The platform's lists of 2017 to 2026 in one, as it spells them; its own Python client knows ten of them.
LICENSES = (
    "Public Domain",
    "PDDL",
    "CC-0",
    "CC-BY",
    "ODC-BY",
    "CC-BY-SA",
    "ODC-ODbL",
    "CC BY-NC",
    "CC BY-NC-SA",
    "Other",
    "CDLA-Permissive-1.0",
    "CDLA-Sharing-1.0",
    "CC BY-ND",
    "CC BY-NC-ND",
    "CC-BY-IGO",
    "CC-BY 3.0",
    "CC-BY 3.0 AU",
    "CC-BY 3.0 IGO",
    "CC-BY 3.0 NZ",
    "CC-BY-SA 3.0",
    "CC-BY-SA 3.0 NZ",
    "CC-BY-NC 3.0",
    "CC-BY-NC 3.0 NZ",
    "CC-BY-NC-SA 3.0",
    "CC-BY-NC-SA 3.0 NZ",
    "CC-BY-NC-ND-NZ-3.0",
    "CC BY-ND 3.0",
    "Italian-ODL",
    "MIT License",
    "OGL",
    "OGL-Canada",
    "OGL-Nova Scotia",
    "OGL-UK",
    "OSODL",
)
VISIBILITIES = ("OPEN", "PRIVATE", "DISCOVERABLE")
LABELS = ("raw data", "clean data", "documentation", "script", "visualization", "report")
METHODS = ("GET", "POST")

#: A source's URL with the names and values of its headers, in bytes of UTF-8.
MAX_URL_AND_HEADERS = 4096

# The pattern of the platform's own API description.
_SLUG = r"[a-z0-9](?:-(?!-)|[a-z0-9])+[a-z0-9]"

# Scheme, user, host and port are looked at closely: a password with a '/' in it would be shown as a path.
# Python's white space and the control characters by their codes: other languages take other characters for \s.
_BLANK = r"\x00-\x20\x7f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_URL = (
    rf"(?:https?|ftps?)://(?:[^/?#{_BLANK}]*@)?"
    rf"(?:\[[0-9a-fA-F:.]+\]|[^/?#@:\[\]{_BLANK}]+)(?::[0-9]*)?(?:[/?#][^\x00-\x1f\x7f]*)?"
)


class Authorization(StrictSchema):
    """How the platform authenticates when it fetches a file: a scheme of its own naming."""

    type = fields.String(required=True, validate=validate.Length(max=50))
    credentials = fields.String(validate=validate.Length(min=1, max=1024))


class Credentials(StrictSchema):
    """How the platform authenticates when it fetches a file: user and password."""

    user = fields.String(required=True, validate=validate.Length(max=1024))
    password = fields.String(validate=validate.Length(max=1024))


class Source(StrictSchema):
    """Where the platform fetches a file from."""

    url = fields.String(
        required=True,
        validate=[
            validate.Length(min=1, max=4096),
            matches(_URL, "Must be an http, https, ftp or ftps URL, with a host."),
        ],
    )
    method = fields.String(validate=one_of(METHODS))
    requestHeaders = fields.Dict(
        validate=string_values,
        metadata={"description": f"Names and values, with the URL, are at most {MAX_URL_AND_HEADERS} bytes of UTF-8."},
    )
    requestEntity = fields.String(
        validate=validate.Length(max=10_000),
        metadata={"description": "The body of the request; requestHeaders must have its Content-Type."},
    )
    authorization = fields.Nested(Authorization)
    credentials = fields.Nested(Credentials)
    expandArchive = StrictBoolean()

    # Both also where something else is wrong, or isn't known yet, as in a hook: what there is can break them.
    @validates_schema(skip_on_field_errors=False)
    def _headers_fit(self, source: Mapping[str, Any], **_: object) -> None:
        headers = source.get("requestHeaders", {})
        parts = [source.get("url", ""), *headers, *headers.values()]
        size = sum(len(part.encode()) for part in parts)
        if headers and size > MAX_URL_AND_HEADERS:
            raise ValidationError(
                f"With the URL, headers may be at most {MAX_URL_AND_HEADERS} bytes; these are {size}.", "requestHeaders"
            )

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _entity_has_a_type(self, source: Mapping[str, Any], original: object, **_: object) -> None:
        headers = source.get("requestHeaders", {})
        wrong = isinstance(original, dict) and "requestHeaders" in original and "requestHeaders" not in source
        if not wrong and "requestEntity" in source and "content-type" not in {name.lower() for name in headers}:
            raise ValidationError("Needs a Content-Type in requestHeaders.", "requestEntity")


class File(StrictSchema):
    """A file of the dataset; without a source, what is said of a file that is there already."""

    is_plain = True
    name = fields.String(
        required=True,
        validate=[validate.Length(min=1, max=128), matches(r"[^/]*", "Must not hold '/'.")],
    )
    source = fields.Nested(Source)
    description = fields.String(validate=validate.Length(min=1, max=120))
    labels = StrictList(fields.String(validate=one_of(LABELS)), distinct=True)


class DataWorldUpdate(UpdateSchema):
    """The body of data.world's PATCH: what is left out stays as it is."""

    is_plain = True
    title = fields.String(validate=validate.Length(min=1, max=60))
    description = fields.String(validate=validate.Length(max=120))
    summary = fields.String(validate=validate.Length(max=25_000), metadata={"description": "Markdown."})
    tags = StrictList(
        fields.String(
            validate=[
                validate.Length(min=2, max=25),
                matches(r"[a-zA-Z0-9 ]*", "Must hold only the letters a-z and A-Z, digits and spaces."),
            ]
        ),
        distinct=True,
    )
    license = fields.String(validate=one_of(LICENSES))
    visibility = fields.String(validate=one_of(VISIBILITIES))
    files = StrictList(fields.Nested(File))
    properties = fields.Dict(metadata={"description": "Custom metadata: any JSON object."})


class DataWorldEvent(EventSchema):
    """An event for a dataset on data.world."""

    is_plain = True
    dataset = fields.String(
        required=True,
        validate=matches(
            rf"{_SLUG}/{_SLUG}",
            "Must be owner/id, each at least three of a-z, 0-9 and single '-', neither first nor last a '-'.",
        ),
        metadata={"description": "owner/id, as in the dataset's address on data.world."},
    )
    update = fields.Nested(DataWorldUpdate, required=True)
