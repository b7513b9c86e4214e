"""Updates of a dataset on data.world.

https://developer.data.world/reference/patchdataset
"""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from schemas.base import StrictBoolean, StrictList, StrictSchema, UpdateSchema, matches, one_of, string_values
from schemas.event import EventSchema

#: All licenses that the provider listed from 2017 to 2026, in the provider's spelling.
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
AUTO_SYNC_INTERVALS = ("NEVER", "HOURLY", "DAILY", "WEEKLY")

#: The maximum size of a source's URL together with its headers, in bytes of UTF-8. As in HTTP, each header has a colon
#: and a space after its name, and a line end of two bytes.
MAX_URL_AND_HEADERS = 4096

# The pattern in the provider's API description.
_SLUG = r"[a-z0-9](?:-(?!-)|[a-z0-9])+[a-z0-9]"

# The pattern is strict about the userinfo, because redaction would treat a password after a '/' as a part of the path.
# _BLANK lists Python's whitespace and the control characters, because `\s` has another meaning in ECMAScript.
_BLANK = r"\x00-\x20\x7f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_URL = (
    rf"(?:https?|ftps?)://(?:[^/?#{_BLANK}]*@)?"
    rf"(?:\[[0-9a-fA-F:.]+\]|[^/?#@:\[\]{_BLANK}]+)(?::[0-9]*)?(?:[/?#][^\x00-\x1f\x7f]*)?"
)

# https://www.rfc-editor.org/rfc/rfc3987#section-2.2
_IRI = rf"[a-zA-Z][a-zA-Z0-9+.-]*:[^<>\"{{}}|\\^`{_BLANK}]+"
_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"

# Headers that describe the request and don't authenticate it.
_PLAIN_HEADER = re.compile(r"accept.*|cache-control|content-.*|if-.*|range|user-agent", re.IGNORECASE)


def _is_credential_header(name: str) -> bool:
    return not _PLAIN_HEADER.fullmatch(name)


def _is_credential_property(name: str) -> bool:
    # Custom metadata can repeat the description of a source.
    return name.lower() in {"credentials", "oauthtoken", "password", "requestheaders"}


_TAG = fields.String(
    validate=[
        validate.Length(min=2, max=25),
        matches(r"[a-zA-Z0-9 ]*", "Must contain only the letters a-z and A-Z, digits, and spaces."),
    ]
)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


class TagChange(UpdateSchema):
    """The tags to add and the tags to remove. The function reads the tags, changes the list, and writes the list."""

    add = StrictList(_TAG, distinct=True)
    remove = StrictList(_TAG, distinct=True)

    def _object_errors(self, value: dict[str, Any]) -> dict[str, list[str]]:
        errors = super()._object_errors(value)
        added, removed = value.get("add"), value.get("remove")
        lists = [filter(_is_text, tags) for tags in (added, removed) if isinstance(tags, list)]
        if len(lists) == 2 and not set(lists[0]).isdisjoint(lists[1]):
            errors["remove"] = ["Must not have a tag of add."]
        return errors


class Tags(StrictList):
    """A field for the new list of tags, or for an object with a change of the list."""

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(value, dict):
            return TagChange().load(value)
        return super()._deserialize(value, *arguments, **options)


class Authorization(StrictSchema):
    """The authorization of data.world's request for a file, with an authentication scheme."""

    type = fields.String(required=True, validate=validate.Length(max=50))
    credentials = fields.String(validate=validate.Length(min=1, max=1024), metadata={"secret": True})


class Credentials(StrictSchema):
    """The authorization of data.world's request for a file, with a user and a password."""

    user = fields.String(required=True, validate=validate.Length(max=1024))
    password = fields.String(validate=validate.Length(max=1024))


class OAuthToken(StrictSchema):
    """A reference to an OAuth token that data.world has stored."""

    owner = fields.String(required=True, validate=validate.Length(min=1))
    site = fields.String(required=True, validate=validate.Length(min=1))
    id = fields.String(required=True, validate=matches(_UUID, "Must be a UUID."))


class Source(StrictSchema):
    """The source of a file. data.world fetches the file from its source."""

    url = fields.String(
        required=True,
        validate=[
            validate.Length(min=1, max=4096),
            matches(_URL, "Must be an http, https, ftp, or ftps URL with a host."),
        ],
    )
    method = fields.String(validate=one_of(METHODS))
    requestHeaders = fields.Dict(
        validate=string_values,
        metadata={
            "description": (
                f"The URL and the headers together have at most {MAX_URL_AND_HEADERS} bytes of UTF-8, with four more "
                "bytes for each header: a colon, a space, and a line end."
            ),
            "secret": _is_credential_header,
        },
    )
    requestEntity = fields.String(
        validate=validate.Length(max=10_000),
        metadata={"description": "The body of the request. requestHeaders must contain its Content-Type."},
    )
    authorization = fields.Nested(Authorization)
    credentials = fields.Nested(Credentials, metadata={"secret": True})
    oauthToken = fields.Nested(OAuthToken, metadata={"secret": True})
    expandArchive = StrictBoolean()

    # Both rules also run if a field is invalid or missing, because at startup, the templates of a hook have no values.
    @validates_schema(skip_on_field_errors=False)
    def _check_size(self, source: Mapping[str, Any], **_: object) -> None:
        headers = source.get("requestHeaders", {})
        parts = [source.get("url", ""), *headers, *headers.values()]
        size = sum(len(part.encode()) for part in parts) + 4 * len(headers)
        if headers and size > MAX_URL_AND_HEADERS:
            raise ValidationError(
                f"The headers and the URL together must have at most {MAX_URL_AND_HEADERS} bytes, but have {size}.",
                "requestHeaders",
            )

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _require_content_type(self, source: Mapping[str, Any], original: object, **_: object) -> None:
        headers = source.get("requestHeaders", {})
        has_invalid_headers = (
            isinstance(original, dict) and "requestHeaders" in original and "requestHeaders" not in source
        )
        has_content_type = "content-type" in {name.lower() for name in headers}
        if "requestEntity" in source and not has_content_type and not has_invalid_headers:
            raise ValidationError("Needs a Content-Type header in requestHeaders.", "requestEntity")


class File(StrictSchema):
    """A file of the dataset. Without a source, the object changes the description or labels of an existing file."""

    name = fields.String(
        required=True,
        validate=[validate.Length(min=1, max=128), matches(r"[^/]*", "Must not contain '/'.")],
    )
    source = fields.Nested(Source)
    description = fields.String(validate=validate.Length(min=1, max=120))
    labels = StrictList(fields.String(validate=one_of(LABELS)), distinct=True)


class DataWorldUpdate(UpdateSchema):
    """The body of data.world's PATCH request.

    An omitted field keeps its value. null deletes the value, and so all values of a list.
    """

    title = fields.String(allow_none=True, validate=validate.Length(min=1, max=60))
    description = fields.String(allow_none=True, validate=validate.Length(max=120))
    summary = fields.String(
        allow_none=True, validate=validate.Length(max=25_000), metadata={"description": "Markdown."}
    )
    tags = Tags(_TAG, distinct=True, allow_none=True)
    license = fields.String(allow_none=True, validate=one_of(LICENSES))
    visibility = fields.String(allow_none=True, validate=one_of(VISIBILITIES))
    files = StrictList(fields.Nested(File), allow_none=True)
    properties = fields.Dict(
        allow_none=True,
        metadata={"description": "Custom metadata: any JSON object.", "secret": _is_credential_property},
    )
    autoSyncInterval = fields.String(
        allow_none=True,
        validate=one_of(AUTO_SYNC_INTERVALS),
        metadata={"description": "The interval at which data.world fetches the files from their sources."},
    )
    assetStatusIri = fields.String(
        allow_none=True,
        validate=matches(_IRI, "Must be an IRI, such as https://example.com/status/approved."),
        metadata={"description": "The IRI of the status of the dataset."},
    )


class DataWorldEvent(EventSchema):
    """An event for a dataset on data.world."""

    dataset = fields.String(
        required=True,
        validate=matches(
            rf"{_SLUG}/{_SLUG}",
            "Must be owner/id. Each part has at least three of a-z, 0-9, and single '-', and no '-' at its ends.",
        ),
        metadata={"description": "owner/id, as in the URL of the dataset on data.world."},
    )
    update = fields.Nested(DataWorldUpdate, required=True)
