"""Calls to a provider as values: the request for an update, the response, and the error in a response."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from marshmallow import Schema, fields

from handlers.redaction import MARK, Masked, mask
from schemas.event import EventSchema, Update
from schemas.problem import (
    InvalidJSONError,
    RelayError,
    Upstream,
    UpstreamDeniedError,
    UpstreamFailedError,
    UpstreamRateLimitedError,
    UpstreamRedirectedError,
    UpstreamRejectedError,
)
from schemas.strict_json import JSON, parse_response, value_at

#: The statuses of a provider that the sender can act on. The function returns them unchanged.
PASSED_THROUGH = frozenset({400, 402, 404, 405, 409, 410, 413, 415, 422})

#: In characters. An error page can be long, and its beginning identifies the error.
MAX_TEXT_LENGTH = 2_000
# In bytes. The search for secrets in a longer page is not worth the time, because the page isn't JSON.
_MAX_PAGE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a provider, without the token. A request without a `body` only reads.

    The body is text only in a preview, where it replaces a body that is too large to be redacted.
    """

    method: str
    url: str
    body: Mapping[str, JSON] | str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A response from a provider.

    `body` is the JSON of the response, or a short text, or None. `defect` states why the body is not acceptable JSON.
    `retry_after` is the wait that the provider requests, in seconds, or 0.
    """

    status: int
    body: JSON = None
    retry_after: int = 0
    is_empty: bool = False
    defect: str | None = None

    @property
    def is_success(self) -> bool:
        """True if the status is 2xx."""
        return 200 <= self.status < 300


class Provider(ABC):
    """An external service whose datasets the function updates.

    A subclass and its schema contain everything that is specific to one provider.
    """

    #: The name of the provider, in the provider's own spelling.
    title: ClassVar[str]
    #: The URL of the provider's API, without a trailing slash.
    base_url: ClassVar[str]
    #: The schema of an event for this provider.
    event_schema: ClassVar[EventSchema]
    #: The keys that the function removes from every response of the provider, at any depth.
    secret_keys: ClassVar[frozenset[str]] = frozenset()
    #: A regular expression that matches the beginning of the provider's tokens.
    token_pattern: ClassVar[str | None] = None

    @property
    def update_schema(self) -> Schema:
        """The schema of the provider's own request body."""
        field = self.event_schema.fields["update"]
        assert isinstance(field, fields.Nested)
        return field.schema

    @abstractmethod
    def update_request(self, base_url: str, update: Update) -> Request:
        """Return the request that carries out `update`."""

    def is_repeatable(self, update: Update) -> bool:
        """Return False if `update` makes the provider perform an action that a retry would perform again."""
        return True

    def read_request(self, base_url: str, update: Update) -> Request | None:
        """Return the request that reads the record, or None if `update` doesn't depend on the record."""
        return None

    def merged_update(self, update: Update, record: JSON) -> Update | None:
        """Return `update` with the changed list in place of the change of the list.

        `record` is the response to the read request. Return None if `update` wouldn't change the record.

        Raises:
            UpstreamFailedError: `record` isn't usable.
        """
        return update

    def refuses_token(self, status: int, body: JSON) -> bool:
        """Return True if a response with this status and body can mean that the token is invalid."""
        return status in (401, 403)

    def error_message(self, body: JSON) -> str | None:
        """Return the provider's own description of an error, from the `body` of a response, or None."""
        return None

    def confirmation_request(self, base_url: str, update: Update) -> Request | None:
        """Return the request that shows, after a 404, that an earlier attempt has renamed the dataset.

        Return None if `update` can't change the reference of its dataset.
        """
        return None

    def confirms(self, update: Update, body: JSON) -> bool:
        """Return True if `body`, the response to the confirmation request, contains every value of `update`."""
        return False


def read_response(status: int, retry_after: int, content: bytes) -> Response:
    """Return the response with this status, a requested wait of `retry_after` seconds, and `content` as its body."""
    if not content.strip():
        return Response(status, None, retry_after, is_empty=True)
    try:
        return Response(status, parse_response(content), retry_after)
    except InvalidJSONError as error:
        return Response(status, _as_text(content), retry_after, defect=str(error))


def _as_text(content: bytes) -> str:
    """Return a body that is not JSON as text.

    Return MARK for a long body, and for a body in an unknown encoding, in which the search for secrets finds nothing.
    """
    if len(content) > _MAX_PAGE_BYTES or b"\0" in content:
        return MARK
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return MARK


def response_error(provider: Provider, response: Response) -> RelayError | None:
    """Return the error that `response` represents, or None for a success.

    The error contains text of the provider, which is not redacted yet.
    """
    if response.is_success and response.defect is None:
        return None
    status = response.status
    upstream = Upstream(status, response.body)
    if response.is_success:
        detail = f"{provider.title} returned {status} with an unacceptable body. {response.defect}"
        return UpstreamFailedError(detail, upstream=upstream)
    message = provider.error_message(response.body)
    detail = f"{provider.title} returned {status}{f': {message}' if message else '.'}"
    if status in PASSED_THROUGH:
        return UpstreamRejectedError(status, detail, upstream=upstream)
    if status == 429:
        return UpstreamRateLimitedError(detail, upstream=upstream, headers=_retry_after_header(response))
    if 300 <= status < 400:
        detail = f"{provider.title} returned the redirect {status}. The function never follows a redirect."
        return UpstreamRedirectedError(detail, upstream=upstream)
    if 400 <= status < 500 and status != 408:
        return UpstreamDeniedError(detail, upstream=upstream)
    return UpstreamFailedError(detail, upstream=upstream, headers=_retry_after_header(response))


def _retry_after_header(response: Response) -> dict[str, str]:
    return {"Retry-After": str(response.retry_after)} if response.retry_after else {}


def event_schemas(providers: Mapping[str, Provider]) -> dict[str, EventSchema]:
    """Return the schema of each provider's events."""
    return {name: provider.event_schema for name, provider in providers.items()}


def token_patterns(providers: Mapping[str, Provider]) -> list[str]:
    """Return the regular expressions that match the beginnings of the providers' tokens."""
    return [provider.token_pattern for provider in providers.values() if provider.token_pattern]


def mask_updates(updates: Iterable[Update], providers: Mapping[str, Provider]) -> Masked:
    """Return the bodies of an event's updates without the credentials, and the credentials.

    Raises:
        InvalidEventError: The updates have more than MAX_CREDENTIALS credentials.
    """
    return mask((providers[update.provider].update_schema, update.body) for update in updates)


def text_at(body: JSON, *path: str) -> str | None:
    """Return the string at `path` in `body`, or None if the string is missing or empty."""
    value = value_at(body, *path)
    return value if isinstance(value, str) and value else None
