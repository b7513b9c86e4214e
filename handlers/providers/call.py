"""A call to a platform, as values: what is sent, what comes back, and what that means for the sender."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

from schemas.event import EventSchema, Update
from schemas.problem import (
    NotJSON,
    RelayError,
    Upstream,
    UpstreamDenied,
    UpstreamFailed,
    UpstreamLimited,
    UpstreamRedirected,
    UpstreamRefused,
)
from schemas.redaction import Redactor, without_signing_keys
from schemas.strict_json import JSON, parse_answer

#: What the sender can mend: the platform's status is handed back as it is.
PASSED_ON = frozenset({400, 402, 404, 405, 409, 410, 413, 415, 422})

# An error page can be long; what matters of it stands at its head. In characters.
_LONGEST_TEXT = 2_000


@dataclass(frozen=True)
class Request:
    """A call to a platform, but for the token."""

    method: str
    url: str
    body: Mapping[str, JSON]


@dataclass(frozen=True)
class Answer:
    """What came back: `headers` with lower-case names, `body` as bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Result:
    """A success to hand back: the platform's status, and its JSON; `empty` where it sent none."""

    status: int
    body: JSON
    empty: bool = False


class Provider(Protocol):
    """What a module must have to be a provider."""

    @property
    def TITLE(self) -> str:
        """The platform's name, as it writes it."""

    @property
    def BASE_URL(self) -> str:
        """Where the platform's API is, without a final slash."""

    @property
    def EVENT(self) -> EventSchema:
        """The schema of an event for this provider."""

    def request(self, base_url: str, update: Update) -> Request:
        """The call that carries out `update`."""

    def reason(self, body: JSON) -> str | None:
        """The platform's own words for what went wrong, from the body of its answer."""


def result(provider: Provider, answer: Answer, redactor: Redactor, now: datetime) -> Result:
    """What to hand back for `answer`, without secrets. `now` is aware.

    Raises the RelayError that says what went wrong.
    """
    if 200 <= answer.status < 300:
        return _success(provider, answer, redactor)
    raise _failure(provider, answer, redactor, now)


def _success(provider: Provider, answer: Answer, redactor: Redactor) -> Result:
    if not answer.body.strip():
        return Result(answer.status, None, empty=True)
    try:
        body = parse_answer(answer.body)
    except NotJSON:
        raise UpstreamFailed(
            f"{provider.TITLE} answered {answer.status}, but not with JSON.",
            upstream=_shown(answer, redactor),
        ) from None
    return Result(answer.status, redactor.json(without_signing_keys(body)))


def _failure(provider: Provider, answer: Answer, redactor: Redactor, now: datetime) -> RelayError:
    status, upstream = answer.status, _shown(answer, redactor)
    said = redactor.text(provider.reason(_json_or_text(answer)) or "")[:_LONGEST_TEXT]
    detail = f"{provider.TITLE} answered {status}{f': {said}' if said else '.'}"
    if status in PASSED_ON:
        return UpstreamRefused(status, detail, upstream=upstream)
    if status == 429:
        wait = answer.headers.get("retry-after", "").strip()
        headers = {"Retry-After": wait} if retry_after_seconds(wait, now) is not None else {}
        return UpstreamLimited(detail, upstream=upstream, headers=headers)
    if 300 <= status < 400:
        return UpstreamRedirected(f"{detail.rstrip('.')}: a redirect, which is never followed.", upstream=upstream)
    if status == 408 or status >= 500:
        return UpstreamFailed(detail, upstream=upstream)
    return UpstreamDenied(detail, upstream=upstream)


def retry_after_seconds(text: str, now: datetime) -> float | None:
    """How long `Retry-After` asks to wait, in seconds from `now`, given as seconds or as a date (RFC 9110, 10.2.3).

    None if `text` is neither.
    """
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def _shown(answer: Answer, redactor: Redactor) -> Upstream:
    """The platform's answer as a problem shows it."""
    body = redactor.json(without_signing_keys(_json_or_text(answer)))
    if isinstance(body, str):
        # Cut only now: half a secret is one too, and would not have been found.
        body = body[:_LONGEST_TEXT]
    return Upstream(answer.status, body)


def _json_or_text(answer: Answer) -> JSON:
    try:
        return parse_answer(answer.body)
    except NotJSON:
        return answer.body.decode("utf-8", "replace").strip() or None


def text_at(body: JSON, *path: str) -> str | None:
    """The string at `path` in `body`, if there is one."""
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return body if isinstance(body, str) and body else None
