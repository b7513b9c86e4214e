"""The responses in the OpenAPI document: their statuses, headers, and bodies."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, fields, validate

from schemas.problem import MEDIA_TYPE, TYPE_PREFIX, ProblemSchema, RelayError, UpstreamRejectedError

JSON_TYPE = "application/json"


class DryRunRequestSchema(Schema):
    """The request to the provider, with `[redacted]` in place of each credential."""

    method = fields.String(required=True)
    url = fields.String(required=True)
    headers = fields.Dict(required=True, values=fields.String())
    body = fields.Dict(required=True)


class DryRunSchema(Schema):
    """The request that the function would send to the provider."""

    dry_run = fields.Boolean(required=True, validate=validate.Equal(True))
    request = fields.Nested(DryRunRequestSchema, required=True)
    token = fields.String(
        required=True, metadata={"description": "The source of the provider's token, with its version."}
    )


class HookResultSchema(Schema):
    """The result of one update of a hook: the provider's response, or a problem."""

    provider = fields.String(required=True)
    dataset = fields.String(required=True)
    status = fields.Integer(required=True)
    body = fields.Raw(metadata={"description": "The provider's own JSON, or null for an empty response."})
    problem = fields.Nested(ProblemSchema)


class HookDryRunSchema(Schema):
    """The result of one update of a hook in a dry run: the request to the provider, or a problem."""

    provider = fields.String(required=True)
    dataset = fields.String(required=True)
    request = fields.Nested(DryRunRequestSchema)
    token = fields.String()
    status = fields.Integer()
    problem = fields.Nested(ProblemSchema)


class HookResultsSchema(Schema):
    """The results of the updates, in the order of the hook."""

    results = fields.List(fields.Nested(HookResultSchema), required=True, validate=validate.Length(min=1))


class HookDryRunsSchema(Schema):
    """The results of the updates in a dry run, in the order of the hook."""

    dry_run = fields.Boolean(required=True, validate=validate.Equal(True))
    results = fields.List(fields.Nested(HookDryRunSchema), required=True, validate=validate.Length(min=1))


class IgnoredSchema(Schema):
    """The hook ignores the event. The function sent nothing, and nothing is wrong."""

    ignored = fields.String(required=True, metadata={"description": "The reason."})


class QueuedUpdateSchema(Schema):
    """An update in the queue."""

    provider = fields.String(required=True)
    dataset = fields.String(required=True)
    message = fields.String(required=True, metadata={"description": "The ID of the message in Pub/Sub."})


class QueuedSchema(Schema):
    """The updates in the queue, in the order of the event."""

    queued = fields.List(fields.Nested(QueuedUpdateSchema), required=True, validate=validate.Length(min=1))


class HealthSchema(Schema):
    """The function is running."""

    status = fields.String(required=True, validate=validate.Equal("ok"))


#: The schemas above that become components, with the rules that their fields don't express.
RESPONSE_SCHEMAS: tuple[tuple[Schema, Mapping[str, Any]], ...] = (
    (DryRunSchema(), {}),
    (HookResultSchema(), {"oneOf": [{"required": ["body"]}, {"required": ["problem"]}]}),
    (HookDryRunSchema(), {"oneOf": [{"required": ["request", "token"]}, {"required": ["status", "problem"]}]}),
    (HookResultsSchema(), {}),
    (HookDryRunsSchema(), {"not": {"required": ["ignored"]}}),
    (IgnoredSchema(), {"not": {"required": ["results"]}}),
    (QueuedUpdateSchema(), {}),
    (QueuedSchema(), {}),
    (HealthSchema(), {}),
)

HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Relay-Delivery": {
        "description": "The ID of the delivery in responses and logs: the ID of the event, the sender's own ID, or a "
        "new UUID.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[\\x20-\\x7e]{1,200}$"},
    },
    "Retry-After": {
        "description": "The time after which to send the same request again, in seconds. Always present in a 503. "
        "Present in other responses if the provider sends the header.",
        "schema": {"type": "string", "minLength": 1},
    },
    "WWW-Authenticate": {
        "description": "The authentication scheme.",
        "required": True,
        "schema": {"type": "string", "pattern": "^(Bearer|Basic) realm="},
    },
    "Allow": {
        "description": "The methods of the path. Absent if the provider returned the 405.",
        "schema": {"type": "string"},
    },
}
_HEADERS_BY_STATUS = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    502: ("Retry-After",),
    503: ("Retry-After",),
}


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem. The description is a sentence for the readers of the document."""

    name: str
    description: str
    retryable: bool


#: The kinds of problems that an operation can return, by status.
ProblemKinds = Mapping[int, list[ProblemKind]]


def problem_kind(error: type[RelayError]) -> ProblemKind:
    """Return the kind of problem of an exception. Its description is the docstring of the exception."""
    return ProblemKind(error.name, " ".join((error.__doc__ or "").split()), error.retryable)


def problem_kinds(*errors: type[RelayError]) -> ProblemKinds:
    """Return the kinds of problems of these exceptions, by status."""
    kinds: dict[int, list[ProblemKind]] = {}
    for error in errors:
        kinds.setdefault(error.status, []).append(problem_kind(error))
    return kinds


def rejections(statuses: Iterable[int]) -> ProblemKinds:
    """Return the problems of a provider's rejection. The function returns the provider's own status."""
    return {status: [problem_kind(UpstreamRejectedError)] for status in statuses}


def problem_responses(*by_status: ProblemKinds) -> dict[str, Any]:
    """Return the responses for these kinds of problems, by status."""
    statuses = sorted({status for kinds in by_status for status in kinds})
    return {
        str(status): _problem_response(status, [kind for kinds in by_status for kind in kinds.get(status, [])])
        for status in statuses
    }


def _problem_response(status: int, kinds: list[ProblemKind]) -> dict[str, Any]:
    alternatives = [
        {"properties": {"type": {"const": TYPE_PREFIX + kind.name}, "retryable": {"const": kind.retryable}}}
        for kind in kinds
    ]
    schema = {"$ref": ref("Problem"), "properties": {"status": {"const": status}}, "oneOf": alternatives}
    lines = [f"`{kind.name}`: {kind.description}" for kind in kinds]
    return {
        "description": lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines),
        "headers": headers(status),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


def json_response(description: str, schema: Mapping[str, Any], status: int = 200) -> dict[str, Any]:
    """Return a response with a JSON body."""
    return {"description": description, "headers": headers(status), "content": {JSON_TYPE: {"schema": schema}}}


def combine_responses(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the combination of two responses with the same status and different content types."""
    return {
        "description": f"{first['description']}\n\n{second['description']}",
        "headers": {**first["headers"], **second["headers"]},
        "content": {**first["content"], **second["content"]},
    }


def headers(status: int) -> dict[str, Any]:
    """Return the headers of a response with this status."""
    names = ("Relay-Delivery", *_HEADERS_BY_STATUS.get(status, ()))
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def ref(name: str) -> str:
    """Return the reference to the schema of this name."""
    return f"#/components/schemas/{name}"
