"""A call to a platform, as values: what is sent, what comes back, and what that means for the sender."""

from collections.abc import Mapping
from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime
from typing import NamedTuple, Protocol

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
from schemas.redaction import MARK, without_signing_keys
from schemas.redactor import Redactor
from schemas.strict_json import JSON, at, parse_answer

#: What the sender can mend: the platform's status is handed back as it is.
PASSED_ON = frozenset({400, 402, 404, 405, 409, 410, 413, 415, 422})

# An error page can be long; what matters of it stands at its head. In characters.
_LONGEST_TEXT = 2_000
# In bytes: looking for secrets in more of what isn't even JSON is not worth the time.
_LONGEST_PAGE = 64 * 1024


class Request(NamedTuple):
    """A call to a platform, but for the token; without a `body`, one that only looks."""

    method: str
    url: str
    body: Mapping[str, JSON] | None = None


class Answer(NamedTuple):
    """What came back: `headers` with lower-case names, `body` as bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Result(NamedTuple):
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

    def look(self, base_url: str, update: Update) -> Request | None:
        """How to see, after a 404, whether an earlier try has moved the dataset away; None: it can't have."""

    def is_done(self, update: Update, body: JSON) -> bool:
        """Whether `body`, the answer to that look, says what `update` says."""


def result(provider: Provider, answer: Answer, redactor: Redactor) -> Result:
    """What to hand back for `answer`, without secrets. Raises the RelayError that says what went wrong."""
    said, flaw = _read(answer)
    body = redactor.json(without_signing_keys(said))
    if not 200 <= answer.status < 300:
        raise _failure(provider, answer, body)
    if not answer.body.strip():
        return Result(answer.status, None, empty=True)
    if flaw:
        detail = f"{provider.TITLE} answered {answer.status}, but not as it should: {flaw}"
        raise UpstreamFailed(detail, upstream=_shown(answer, body))
    return Result(answer.status, body)


def _failure(provider: Provider, answer: Answer, body: JSON) -> RelayError:
    """The problem that `answer` is; `body` is the answer's, without secrets."""
    status, upstream = answer.status, _shown(answer, body)
    said = (provider.reason(body) or "")[:_LONGEST_TEXT]
    detail = f"{provider.TITLE} answered {status}{f': {said}' if said else '.'}"
    if status in PASSED_ON:
        return UpstreamRefused(status, detail, upstream=upstream)
    if status == 429:
        return UpstreamLimited(detail, upstream=upstream, headers=_wait_headers(answer))
    if 300 <= status < 400:
        return UpstreamRedirected(f"{detail.rstrip('.')}: a redirect, which is never followed.", upstream=upstream)
    if 400 <= status < 500 and status != 408:
        return UpstreamDenied(detail, upstream=upstream)
    return UpstreamFailed(detail, upstream=upstream, headers=_wait_headers(answer))


def _wait_headers(answer: Answer) -> dict[str, str]:
    wait = retry_after(answer.headers.get("retry-after", ""))
    return {"Retry-After": wait} if wait else {}


def retry_after(text: str) -> str | None:
    """A `Retry-After` header written anew, as seconds or as a date (RFC 9110, 10.2.3); None if it is neither.

    Never the platform's own text: what a header may not hold must not get into one of ours.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return text
    try:
        moment = parsedate_to_datetime(text)
        return format_datetime(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC), usegmt=True)
    except (ValueError, OverflowError):
        return None


def wait_asked(text: str, now: float) -> float:
    """The seconds that a `Retry-After` header asks for, 0 if it is none; `now` is in seconds since 1970."""
    wait = retry_after(text)
    if wait is None or wait.isdigit():
        return float(wait or 0)
    return max(0.0, parsedate_to_datetime(wait).timestamp() - now)


def _shown(answer: Answer, body: JSON) -> Upstream:
    # Cut only now that secrets are out: half a secret is one too, and would not have been found.
    return Upstream(answer.status, body[:_LONGEST_TEXT] if isinstance(body, str) else body)


def _read(answer: Answer) -> tuple[JSON, str | None]:
    """The answer's body; as text, or None where it is empty, if it isn't JSON, and why it isn't.

    In bytes that aren't plain UTF-8 nothing could be found, and a long page is no message: they are not shown.
    """
    try:
        return parse_answer(answer.body), None
    except NotJSON as error:
        flaw = str(error)
    if len(answer.body) > _LONGEST_PAGE:
        return MARK, flaw
    try:
        text = answer.body.decode("utf-8").strip()
    except UnicodeDecodeError:
        return MARK, flaw
    return (MARK if "\0" in text else text or None), flaw


def text_at(body: JSON, *path: str) -> str | None:
    """The string at `path` in `body`, if there is one."""
    found = at(body, *path)
    return found if isinstance(found, str) and found else None
