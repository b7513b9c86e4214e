"""Apify, *Update dataset*: https://docs.apify.com/api/v2/dataset-put"""

from marshmallow import fields, validate

from schemas.event import EventSchema
from schemas.strict import UpdateSchema, matches, one_of

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
    """The body of Apify's PUT."""

    is_plain = True
    name = fields.String(
        allow_none=True,
        validate=[
            validate.Length(min=1, max=63),
            matches(r"[a-zA-Z0-9-]*", "Must hold only the letters a-z and A-Z, digits and '-'."),
            matches(r"(?!-)(?s:.*)(?<!-)", "Must neither begin nor end with '-'."),
        ],
        metadata={
            "description": "The dataset's name, unique among its owner's; null takes the name away.",
            "pattern": rf"^{_NAME}$",  # what the three say together
        },
    )
    generalAccess = fields.String(
        validate=one_of(GENERAL_ACCESS),
        metadata={"description": "Who can read the dataset."},
    )


class ApifyEvent(EventSchema):
    """An event for a dataset on Apify."""

    is_plain = True
    dataset = fields.String(
        required=True,
        validate=matches(
            rf"{_ID}|{_USERNAME}~{_NAME}",
            "Must be a dataset id (letters and digits) or username~dataset-name.",
        ),
        metadata={"description": "A dataset's id, or username~dataset-name."},
    )
    update = fields.Nested(ApifyUpdate, required=True)
