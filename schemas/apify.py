"""Updates of a dataset on Apify.

https://docs.apify.com/api/v2/dataset-put
"""

from marshmallow import fields, validate

from schemas.base import UpdateSchema, matches, one_of
from schemas.event import EventSchema

GENERAL_ACCESS = (
    "ANYONE_WITH_ID_CAN_READ",
    "ANYONE_WITH_NAME_CAN_READ",
    "FOLLOW_USER_SETTING",
    "RESTRICTED",
)

_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_USERNAME = r"[a-zA-Z0-9_.-]{3,30}"
_ID = r"[a-zA-Z0-9]{1,64}"


class ApifyUpdate(UpdateSchema):
    """The body of Apify's PUT request."""

    name = fields.String(
        allow_none=True,
        validate=[
            validate.Length(min=1, max=63),
            matches(r"[a-zA-Z0-9-]*", "Must contain only the letters a-z and A-Z, digits, and '-'."),
            matches(r"(?!-)(?s:.*)(?<!-)", "Must not begin or end with '-'."),
        ],
        metadata={
            "description": "The name of the dataset, unique among the datasets of its owner. null removes the name.",
            "pattern": rf"^{_NAME}$",  # equivalent to the validators above
        },
    )
    generalAccess = fields.String(
        validate=one_of(GENERAL_ACCESS),
        metadata={"description": "The read access to the dataset."},
    )


class ApifyEvent(EventSchema):
    """An event for a dataset on Apify."""

    dataset = fields.String(
        required=True,
        validate=matches(
            rf"{_ID}|(?:{_USERNAME})?~{_NAME}",
            "Must be a dataset ID (letters and digits), username~dataset-name, or ~dataset-name.",
        ),
        metadata={
            "description": "A dataset ID, username~dataset-name, or ~dataset-name for a dataset of the token's account."
        },
    )
    update = fields.Nested(ApifyUpdate, required=True)
