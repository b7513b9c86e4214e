"""The responses to failed requests: problem details (RFC 9457), and one exception for each kind of problem.

Each exception contains its own problem. The code that detects a failure raises the exception, and only the outermost
layer turns the exception into a response.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from marshmallow import Schema, fields

MEDIA_TYPE = "application/problem+json"

#: The prefix of each problem's `type`. A `type` is a name to compare, not a URL to open (RFC 9457, 3.1.1).
TYPE_PREFIX = "urn:dataset-relay:problem:"

#: Error messages by the path of their field, such as `update.files.0.name`.
Errors: TypeAlias = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The provider's response in a problem. `body` is JSON, text, or None for an empty body."""

    status: int
    body: object


@dataclass(frozen=True, slots=True)
class Problem:
    """The content of a problem response. `headers` are headers of the response, and not part of its body."""

    type: str
    title: str
    status: int
    detail: str
    retryable: bool
    errors: Errors | None = None
    upstream: Upstream | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The last part of `type`, which the log shows."""
        return self.type.removeprefix(TYPE_PREFIX)


class UpstreamSchema(Schema):
    """The provider's response."""

    status = fields.Integer(required=True)
    body = fields.Raw(required=True, allow_none=True)


class ProblemSchema(Schema):
    """Problem details (RFC 9457). A member that does not apply is absent."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    retryable = fields.Boolean(required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))
    upstream = fields.Nested(UpstreamSchema)


_PROBLEM = ProblemSchema()


def problem_body(problem: Problem) -> dict[str, object]:
    """Return the body of a problem response as a JSON object."""
    return {name: value for name, value in _PROBLEM.dump(problem).items() if value is not None}


class RelayError(Exception):
    """A failure that ends a request with a problem response.

    The sender receives `detail`, so `detail` must never contain a secret.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    status: int
    retryable: bool = False
    #: The `Retry-After` header of the response, in seconds. The argument `headers` takes precedence.
    retry_after_seconds: ClassVar[int | None] = None
    #: The cause, which only the log shows.
    cause: str | None = None

    def __init__(
        self,
        detail: str,
        *,
        errors: Errors | None = None,
        upstream: Upstream | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        if not headers and self.retry_after_seconds is not None:
            headers = {"Retry-After": str(self.retry_after_seconds)}
        self.problem = Problem(
            type=TYPE_PREFIX + self.name,
            title=self.title,
            status=self.status,
            detail=detail,
            retryable=self.retryable,
            errors=errors,
            upstream=upstream,
            headers=headers or {},
        )


# Problems of the request. No request was sent to a provider.


class InvalidJSONError(RelayError):
    """The body is not a JSON object, or its meaning depends on the parser, as with duplicate keys."""

    name, title, status = "invalid-json", "The body is not acceptable JSON", 400


class UnauthenticatedError(RelayError):
    """The credential of the request is missing, wrong, or stale. The response never names the cause."""

    name, title, status = "unauthenticated", "Not authenticated", 401

    def __init__(self, scheme: str, cause: str = "") -> None:
        """Create the error.

        `scheme` is the authentication scheme in the `WWW-Authenticate` header. `cause` is only for the log.
        """
        self.cause = cause
        super().__init__(
            "The request has no valid signature or secret. Send the signature or the secret that the endpoint expects.",
            headers={"WWW-Authenticate": f'{scheme} realm="dataset-relay"'},
        )


class NotAllowedError(RelayError):
    """`events.allow` in relay.yaml does not allow native events to update the dataset."""

    name, title, status = "not-allowed", "The dataset is not allowed", 403


class UnknownRouteError(RelayError):
    """The path does not exist."""

    name, title, status = "not-found", "Not found", 404


class MethodNotAllowedError(RelayError):
    """The path exists, but does not support the method."""

    name, title, status = "method-not-allowed", "Method not allowed", 405


class QueryTooLongError(RelayError):
    """The query of the URL is longer than 8 kB."""

    name, title, status = "query-too-long", "The query is too long", 414


class BodyTimeoutError(RelayError):
    """The body did not arrive within `RELAY_DEADLINE_SECONDS`."""

    name, title, status, retryable = "body-timeout", "The body arrives too slowly", 408, True


class BodyTooLargeError(RelayError):
    """The body is larger than `RELAY_MAX_BODY_BYTES`."""

    name, title, status = "too-large", "The body is too large", 413


class UnsupportedMediaTypeError(RelayError):
    """The content type is not JSON."""

    name, title, status = "unsupported-media-type", "The content type is not JSON", 415


class UnsupportedContentEncodingError(RelayError):
    """The body has a content encoding, such as gzip."""

    name, title, status = "unsupported-content-encoding", "The content encoding is not supported", 415


class InvalidEventError(RelayError):
    """The event breaks a rule. `errors` lists each field with its rule."""

    name, title, status = "invalid", "The event breaks a rule", 422

    def __init__(self, detail: str, *, errors: Errors | None = None, dataset: str | None = None) -> None:
        """Create the error. `dataset` is the dataset of the event for the log, if that field is valid."""
        super().__init__(detail, errors=errors)
        self.dataset = dataset


# Problems of the provider.


class UpstreamRejectedError(RelayError):
    """The provider rejects the update for a reason that the sender can correct. The status is the provider's own."""

    name, title = "upstream-rejected", "The provider rejected the update"

    def __init__(self, status: int, detail: str, *, upstream: Upstream) -> None:
        self.status = status
        super().__init__(detail, upstream=upstream)


class UpstreamDeniedError(RelayError):
    """The provider denies access to the function. The sender can't correct the cause."""

    name, title, status = "upstream-denied", "The provider denied access", 502


class UpstreamRateLimitedError(RelayError):
    """The provider limits the rate of requests, and the requested wait would end after the deadline."""

    name, title, status, retryable = "upstream-rate-limited", "The provider limits the rate of requests", 429, True


class UpstreamFailedError(RelayError):
    """The provider failed, or its response is unintelligible."""

    name, title, status, retryable = "upstream-failed", "The provider failed", 502, True


class UpstreamRedirectedError(RelayError):
    """The provider returned a redirect. The function follows no redirect: the token would go to another host."""

    name, title, status = "upstream-redirected", "The provider returned a redirect", 502


class UpstreamUnreachableError(RelayError):
    """The connection to the provider failed or broke."""

    name, title, status, retryable = "upstream-unreachable", "The provider is unreachable", 502, True


class UpstreamOutcomeUnknownError(RelayError):
    """The provider may have carried out the update, and a second update would repeat an action of the provider."""

    name, title, status = "upstream-outcome-unknown", "The outcome of the update is unknown", 502


class DeadlineExceededError(RelayError):
    """The deadline passed: `RELAY_DEADLINE_SECONDS` after the arrival of the body."""

    name, title, status, retryable = "deadline-exceeded", "The deadline passed", 504, True


# Problems of the function.


class BusyError(RelayError):
    """The instance has reached its limit on concurrent calls to this provider, or on concurrent large bodies."""

    name, title, status, retryable = "busy", "Too many requests are in progress", 503, True
    retry_after_seconds = 1


class SecretUnreachableError(RelayError):
    """Secret Manager is unreachable. A later attempt may succeed."""

    name, title, status, retryable = "secret-unreachable", "A secret is temporarily unavailable", 503, True
    retry_after_seconds = 5


class SecretUnusableError(RelayError):
    """A secret is missing, denied, empty, or damaged. The operator of the function must correct the secret."""

    name, title, status = "secret-unusable", "A secret is unusable", 500


class QueueUnreachableError(RelayError):
    """Pub/Sub is unreachable. The queue may have the event, and the function publishes nothing later."""

    name, title, status, retryable = "queue-unreachable", "The queue is temporarily unavailable", 503, True
    retry_after_seconds = 5


class QueueUnusableError(RelayError):
    """Pub/Sub refuses the event, for example because the topic is missing. The operator must correct the cause."""

    name, title, status = "queue-unusable", "The queue is unusable", 500


class UnknownHookError(RelayError):
    """relay.yaml no longer has the hook of an update in the queue. The update stays in the queue."""

    name, title, status = "unknown-hook", "The hook does not exist", 503


class InternalError(RelayError):
    """The function failed in an unforeseen way. The log of the function contains the stack."""

    name, title, status = "internal-error", "Internal error", 500

    def __init__(self) -> None:
        super().__init__("Internal error. See the function's log.")
