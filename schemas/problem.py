"""What is answered when there is no platform's answer to hand back: problem details, RFC 9457.

One exception per thing that a caller can do about it; each knows its own answer, so that whoever
finds the trouble raises it and nobody in between translates.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple, TypeAlias

from marshmallow import Schema, fields

MEDIA_TYPE = "application/problem+json"

#: A problem's `type` is this with the problem's own name behind it: a name to compare, not an address to open.
TYPE_PREFIX = "urn:dataset-relay:problem:"

#: From a field's path, as `update.files.0.name`, to what is wrong with it.
Errors: TypeAlias = Mapping[str, list[str]]


class Upstream(NamedTuple):
    """What the platform said: its status, and its body as JSON, as text, or None where it sent none."""

    status: int
    body: object


class Problem(NamedTuple):
    """One problem answer; `headers` go beside the body, not into it."""

    type: str
    title: str
    status: int
    detail: str
    retryable: bool
    errors: Errors | None = None
    upstream: Upstream | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def name(self) -> str:
        """What the log calls it."""
        return self.type.removeprefix(TYPE_PREFIX)


class UpstreamSchema(Schema):
    """The platform's side of a problem."""

    status = fields.Integer(required=True)
    body = fields.Raw(required=True, allow_none=True)


class ProblemSchema(Schema):
    """The body of a problem answer; members that do not apply are left out."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    retryable = fields.Boolean(required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))
    upstream = fields.Nested(UpstreamSchema)


_PROBLEM = ProblemSchema()


def problem_body(problem: Problem) -> dict[str, object]:
    """The problem as the JSON object that is sent."""
    return {name: value for name, value in _PROBLEM.dump(problem).items() if value is not None}


class RelayError(Exception):
    """A request that ends in a problem answer. `detail` goes to the sender: it never holds a secret."""

    name: ClassVar[str]
    title: ClassVar[str]
    status: int
    retryable: bool = False
    #: How long to wait, where the problem says so by itself.
    RETRY_AFTER_SECONDS: ClassVar[int | None] = None

    def __init__(
        self,
        detail: str,
        *,
        errors: Errors | None = None,
        upstream: Upstream | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        wait = self.RETRY_AFTER_SECONDS
        self.problem = Problem(
            type=TYPE_PREFIX + self.name,
            title=self.title,
            status=self.status,
            detail=detail,
            retryable=self.retryable,
            errors=errors,
            upstream=upstream,
            headers=headers or ({} if wait is None else {"Retry-After": str(wait)}),
        )


# The sender's side: nothing was sent to a platform.


class NotJSON(RelayError):
    """The body is not one JSON object that every reader would read alike."""

    name, title, status = "not-json", "The body is not acceptable JSON", 400


class Unproven(RelayError):
    """The proof of who calls is missing, wrong or stale; the answer never says which."""

    name, title, status = "unproven", "Not authenticated", 401

    def __init__(self, challenge: str) -> None:
        """`challenge` is what WWW-Authenticate asks for."""
        super().__init__(
            "The request does not prove who sent it: a valid signature or secret is needed.",
            headers={"WWW-Authenticate": challenge},
        )


class NotAllowed(RelayError):
    """The dataset is none that native events may update (`events.allow` in relay.yaml)."""

    name, title, status = "not-allowed", "The dataset is not allowed", 403


class UnknownRoute(RelayError):
    """There is nothing at this path."""

    name, title, status = "not-found", "Not found", 404


class WrongMethod(RelayError):
    """The path is there, the method is not."""

    name, title, status = "method-not-allowed", "Method not allowed", 405


class BodyTooSlow(RelayError):
    """The body takes longer to arrive than RELAY_DEADLINE_SECONDS."""

    name, title, status, retryable = "body-too-slow", "The body takes too long", 408, True


class TooLarge(RelayError):
    """The body is larger than RELAY_MAX_BODY_BYTES."""

    name, title, status = "too-large", "The body is too large", 413


class WrongMediaType(RelayError):
    """The body says that it is something else than plain JSON."""

    name, title, status = "unsupported-media-type", "Not a JSON content type", 415


class Invalid(RelayError):
    """The event breaks a rule; `errors` says which, where."""

    name, title, status = "invalid", "The event breaks a rule", 422


# The platform's side.


class UpstreamRefused(RelayError):
    """The platform refuses the update, for a reason that the sender can mend: its own status is ours."""

    name, title = "upstream-refused", "The platform refused the update"

    def __init__(self, status: int, detail: str, *, upstream: Upstream) -> None:
        self.status = status
        super().__init__(detail, upstream=upstream)


class UpstreamDenied(RelayError):
    """The platform refuses us, not the update: the sender can't mend that."""

    name, title, status = "upstream-denied", "The platform refused the relay", 502


class UpstreamLimited(RelayError):
    """The platform asks for more time than there is."""

    name, title, status, retryable = "upstream-limited", "The platform asks to slow down", 429, True


class UpstreamFailed(RelayError):
    """The platform failed, or said what can't be understood."""

    name, title, status, retryable = "upstream-failed", "The platform failed", 502, True


class UpstreamRedirected(RelayError):
    """The platform points elsewhere; a redirect would carry the token away, so none is followed."""

    name, title, status = "upstream-redirected", "The platform redirected the call", 502


class Unreachable(RelayError):
    """No connection to the platform could be made, or it broke."""

    name, title, status, retryable = "upstream-unreachable", "The platform can't be reached", 502, True


class TimeUp(RelayError):
    """RELAY_DEADLINE_SECONDS have passed."""

    name, title, status, retryable = "time-up", "The time is up", 504, True


# Our own side.


class ShareFull(RelayError):
    """As many calls to this provider, or large bodies, are under way as this instance allows."""

    RETRY_AFTER_SECONDS: ClassVar[int] = 1

    name, title, status, retryable = "busy", "Too many calls under way", 503, True


class SecretUnreachable(RelayError):
    """Secret Manager can't be reached; another try may help."""

    RETRY_AFTER_SECONDS: ClassVar[int] = 5

    name, title, status, retryable = "secret-unreachable", "A secret can't be had now", 503, True


class SecretUnusable(RelayError):
    """A secret is missing, denied, empty or damaged; somebody has to mend that."""

    name, title, status = "secret-unusable", "A secret can't be had", 500


class Unexpected(RelayError):
    """A fault of ours; the log has the stack."""

    name, title, status = "unexpected", "Unexpected error", 500

    def __init__(self) -> None:
        super().__init__("The function failed as it never should; its log says where.")
