"""The answers in the OpenAPI document: what each route can say, with which status and headers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, fields, validate

from schemas.problem import MEDIA_TYPE, TYPE_PREFIX, ProblemSchema, RelayError, UpstreamRefused

JSON_TYPE = "application/json"


class DryRunRequestSchema(Schema):
    """What would be sent, with `[redacted]` in place of each credential."""

    method = fields.String(required=True)
    url = fields.String(required=True)
    headers = fields.Dict(required=True, values=fields.String())
    body = fields.Dict(required=True)


class DryRunSchema(Schema):
    """What would have been done."""

    dry_run = fields.Boolean(required=True, validate=validate.Equal(True))
    request = fields.Nested(DryRunRequestSchema, required=True)
    token = fields.String(
        required=True, metadata={"description": "Where the platform's token came from, with its version."}
    )


class HookResultSchema(Schema):
    """What became of one update of a hook: the platform's answer, or the problem."""

    provider = fields.String(required=True)
    dataset = fields.String(required=True)
    status = fields.Integer(required=True)
    body = fields.Raw(metadata={"description": "The platform's own JSON; null where it sent none."})
    problem = fields.Nested(ProblemSchema)


class HookDryRunSchema(Schema):
    """What would have become of one update of a hook: the request, or the problem."""

    provider = fields.String(required=True)
    dataset = fields.String(required=True)
    request = fields.Nested(DryRunRequestSchema)
    token = fields.String()
    status = fields.Integer()
    problem = fields.Nested(ProblemSchema)


class HookResultsSchema(Schema):
    """Each update of the hook, in the hook's order."""

    results = fields.List(fields.Nested(HookResultSchema), required=True, validate=validate.Length(min=1))


class HookDryRunsSchema(Schema):
    """Each update of the hook, in the hook's order."""

    dry_run = fields.Boolean(required=True, validate=validate.Equal(True))
    results = fields.List(fields.Nested(HookDryRunSchema), required=True, validate=validate.Length(min=1))


class IgnoredSchema(Schema):
    """The event is none that the hook is for: nothing was sent, and nothing is wrong."""

    ignored = fields.String(required=True, metadata={"description": "Why."})


class HealthSchema(Schema):
    """The function is up."""

    status = fields.String(required=True, validate=validate.Equal("ok"))


#: The schemas above that stand for themselves, with what their fields alone don't say.
ANSWERS: tuple[tuple[Schema, Mapping[str, Any]], ...] = (
    (DryRunSchema(), {}),
    (HookResultSchema(), {"oneOf": [{"required": ["body"]}, {"required": ["problem"]}]}),
    (HookDryRunSchema(), {"oneOf": [{"required": ["request", "token"]}, {"required": ["status", "problem"]}]}),
    (HookResultsSchema(), {}),
    (HookDryRunsSchema(), {"not": {"required": ["ignored"]}}),
    (IgnoredSchema(), {"not": {"required": ["results"]}}),
    (HealthSchema(), {}),
)

HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Relay-Delivery": {
        "description": "Names the delivery, in the log too: the event's own id, the sender's, or a new UUID.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[\\x20-\\x7e]{1,200}$"},
    },
    "Retry-After": {
        "description": "When to send the same request again: in how many seconds, or the date. Always there on a 503; "
        "elsewhere where the platform says it.",
        "schema": {"type": "string", "minLength": 1},
    },
    "WWW-Authenticate": {
        "description": "How to prove who calls.",
        "required": True,
        "schema": {"type": "string", "pattern": "^(Bearer|Basic) realm="},
    },
    "Allow": {
        "description": "The methods that the path takes. Not there where it is the platform that says 405.",
        "schema": {"type": "string"},
    },
}
_HEADERS_OF = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    502: ("Retry-After",),
    503: ("Retry-After",),
}


@dataclass(frozen=True)
class Kind:
    """One kind of problem."""

    name: str
    about: str
    retryable: bool


def kind(error: type[RelayError]) -> Kind:
    """What `error` is to a caller."""
    return Kind(error.name, " ".join((error.__doc__ or "").split()), error.retryable)


def kinds(*errors: type[RelayError]) -> dict[int, list[Kind]]:
    """What a route says when it raises one of `errors`, by status."""
    found: dict[int, list[Kind]] = {}
    for error in errors:
        found.setdefault(error.status, []).append(kind(error))
    return found


def refused(statuses: Iterable[int]) -> dict[int, list[Kind]]:
    """What a platform refuses, by its status, which is ours."""
    return {status: [kind(UpstreamRefused)] for status in statuses}


def problems(*found: Mapping[int, list[Kind]]) -> dict[str, Any]:
    """The responses for these kinds of problems, by status."""
    statuses = sorted({status for each in found for status in each})
    return {str(status): _problem(status, [kind for each in found for kind in each.get(status, [])])
            for status in statuses}  # fmt: skip


def _problem(status: int, found: list[Kind]) -> dict[str, Any]:
    told = [
        {"properties": {"type": {"const": TYPE_PREFIX + each.name}, "retryable": {"const": each.retryable}}}
        for each in found
    ]
    schema = {"$ref": ref("Problem"), "properties": {"status": {"const": status}}, "oneOf": told}
    about = "\n".join(f"- `{each.name}`: {each.about}" for each in found)
    return {
        "description": about.removeprefix("- ") if len(found) == 1 else about,
        "headers": headers(status),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


def answer(about: str, schema: Mapping[str, Any], status: int = 200) -> dict[str, Any]:
    """A response of JSON."""
    return {"description": about, "headers": headers(status), "content": {JSON_TYPE: {"schema": schema}}}


def either(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """A response that is one of two of the same status, which differ in their content type."""
    return {
        "description": f"{first['description']}\n\n{second['description']}",
        "headers": {**first["headers"], **second["headers"]},
        "content": {**first["content"], **second["content"]},
    }


def headers(status: int) -> dict[str, Any]:
    """The headers of an answer with this status."""
    names = ("Relay-Delivery", *_HEADERS_OF.get(status, ()))
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def ref(name: str) -> str:
    """Where the schema of this name is."""
    return f"#/components/schemas/{name}"
