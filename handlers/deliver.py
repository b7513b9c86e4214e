"""An update carried out: its token, the call within the deadline, the provider's share of the instance."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.cookies import RequestsCookieJar
from urllib3 import Timeout
from urllib3.exceptions import HTTPError, ReadTimeoutError

from handlers.deadline import Deadline
from handlers.providers.call import Answer, Provider, Request, Result, result
from handlers.tokens import Secret, Secrets
from schemas.event import Update
from schemas.problem import (
    Invalid,
    SecretUnusable,
    ShareFull,
    TimeUp,
    Unreachable,
    UpstreamFailed,
)
from schemas.redaction import MARK, Redactor, credentials, masked
from schemas.reference import SecretReference
from schemas.settings import Settings, SettingsError, variable
from schemas.strict_json import JSON, dump

MAX_ANSWER_BYTES = 10 * 1024 * 1024

# A connection that takes longer, in seconds, mostly is never made.
_CONNECT_SECONDS = 3.0
_CHUNK_BYTES = 64 * 1024
_HEADERS = {
    "Accept": "application/json",
    # Answers are a few kilobytes; what isn't compressed can't swell when it is unpacked.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "dataset-relay/1",
}


@dataclass
class Progress:
    """How far a delivery has come, for the log: filled in as it goes, so that it is there when it fails."""

    attempts: int = 0
    upstream_status: int | None = None


class BearerAuth(AuthBase):
    """The token, given as `auth`: ~/.netrc replaces an Authorization that is given as a header."""

    def __init__(self, token: str) -> None:
        self._value = f"Bearer {token}"

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sets the header."""
        prepared.headers["Authorization"] = self._value
        return prepared


class Deliverer:
    """What outlives a request: the pooled session, and each provider's share of the instance."""

    def __init__(self, settings: Settings, providers: Mapping[str, Provider], secrets: Secrets) -> None:
        """Raises SettingsError: the environment names certificates that aren't there."""
        self._settings = settings
        self._providers = providers
        self._secrets = secrets
        self._session = _session(pool=max(settings.threads, settings.provider_concurrency))
        # What the environment says of proxies and certificates, read once: a look at it costs a tenth of a call's time.
        environment = requests.Session()
        self._network = {
            name: environment.merge_environment_settings(each.base_url, {}, stream=True, verify=None, cert=None)
            for name, each in settings.providers.items()
        }
        for each in self._network.values():
            if isinstance(each["verify"], str) and not Path(each["verify"]).exists():
                message = "Must name a file or folder of certificates, as must CURL_CA_BUNDLE."
                raise SettingsError({"REQUESTS_CA_BUNDLE": [message]})
        self._shares = {name: threading.BoundedSemaphore(settings.provider_concurrency) for name in providers}

    def deliver(self, update: Update, deadline: Deadline, progress: Progress, hidden: Iterable[str] = ()) -> Result:
        """Carries `update` out. Raises the RelayError that says what went wrong.

        `hidden` are credentials of the same event's other updates: no more to be shown than this one's.
        """
        with self._share(update.provider):
            token = self._token(update, deadline)
            redactor = _redactor(token, update, hidden)
            provider = self._providers[update.provider]
            answer = self._call(update.provider, self._request(update), token, deadline, progress)
            return result(provider, answer, redactor)

    def rehearse(self, update: Update, deadline: Deadline, hidden: Iterable[str] = ()) -> dict[str, JSON]:
        """What `deliver` would send, without credentials, and where the token came from.

        Raises what `deliver` raises before the call, but for ShareFull.
        """
        token = self._token(update, deadline)
        request = self._request(update)
        shown: dict[str, JSON] = {
            "method": request.method,
            "url": request.url,
            "headers": {**_HEADERS, "Authorization": f"Bearer {MARK}"},
            "body": _redactor(token, update, hidden).json(masked(dict(request.body))),
        }
        return {"request": shown, "token": token.source}

    def reference(self, update: Update) -> SecretReference:
        """Where the token for `update` is. Raises Invalid: nowhere."""
        reference = update.token or self._settings.providers[update.provider].token
        if reference is None:
            name = variable(update.provider, "TOKEN")
            message = f"This function has no token for {update.provider}: {name} is not set."
            raise Invalid(message, errors={"provider": [message]})
        return reference

    def _request(self, update: Update) -> Request:
        base_url = self._settings.providers[update.provider].base_url
        return self._providers[update.provider].request(base_url, update)

    def _token(self, update: Update, deadline: Deadline) -> Secret:
        reference = self.reference(update)
        token = self._secrets.get(reference, deadline)
        if not (token.text.isascii() and token.text.isprintable() and " " not in token.text):
            raise SecretUnusable(f"{reference.label} is damaged: a token is printable ASCII without spaces.")
        return token

    @contextmanager
    def _share(self, provider: str) -> Iterator[None]:
        share = self._shares[provider]
        if not share.acquire(blocking=False):
            most = self._settings.provider_concurrency
            raise ShareFull(
                f"{most} calls to {provider} are under way, as many as this instance allows.",
                headers={"Retry-After": "1"},
            )
        try:
            yield
        finally:
            share.release()

    def _call(self, provider: str, request: Request, token: Secret, deadline: Deadline, progress: Progress) -> Answer:
        """One try. Raises Unreachable, TimeUp or UpstreamFailed; any answer is an answer."""
        title = self._providers[provider].TITLE
        left = deadline.remaining()
        if not left:
            raise TimeUp(f"The time was up before {title} could be called.")
        progress.attempts += 1
        try:
            response = self._session.request(
                request.method,
                request.url,
                data=dump(request.body),
                headers=_HEADERS,
                auth=BearerAuth(token.text),
                # For connecting and waiting together; a pair, as requests has it, would be for each.
                timeout=Timeout(total=left, connect=min(_CONNECT_SECONDS, left)),  # type: ignore[arg-type]
                allow_redirects=False,
                **self._network[provider],
            )
            with response:
                progress.upstream_status = response.status_code
                # A redirect says nothing that could be of use.
                body = b"" if 300 <= response.status_code < 400 else _body(response, title, deadline)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, headers, body)
        except (requests.ReadTimeout, ReadTimeoutError, TimeoutError):
            raise TimeUp(f"{title} had not answered when the time was up.") from None
        except requests.ConnectionError:
            if not deadline.remaining():
                raise TimeUp(f"{title} had not taken the request when the time was up.") from None
            raise Unreachable(f"{title} can't be reached, or broke the connection.") from None
        except (requests.RequestException, HTTPError):
            raise UpstreamFailed(f"{title}'s answer broke off, or isn't HTTP.") from None


def _redactor(token: Secret, update: Update, hidden: Iterable[str]) -> Redactor:
    return Redactor([token.text, *credentials(dict(update.body)), *hidden])


def _body(response: requests.Response, title: str, deadline: Deadline) -> bytes:
    """The answer's body, up to MAX_ANSWER_BYTES and the deadline."""
    body = bytearray()
    while left := deadline.remaining():
        if (connection := response.raw.connection) and connection.sock:
            # The limit that the call began with is for each read anew; this one is for what is left. (Of a
            # connection that the platform will close, http.client keeps the socket to itself.)
            connection.sock.settimeout(left)
        # read1 gives what there is, so that the clock is looked at between the drops of a trickle.
        chunk = response.raw.read1(_CHUNK_BYTES, decode_content=True)
        if not chunk:
            return bytes(body)
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise UpstreamFailed(f"{title}'s answer is over {MAX_ANSWER_BYTES} bytes.")
    raise TimeoutError


class _Session(requests.Session):
    """Follows no redirect, and doesn't look for one: requests reads the whole answer to do that."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, whatever the answer says."""


class _NoCookies(RequestsCookieJar):
    """Keeps nothing: one sender's call must not change another's."""

    def set_cookie(self, cookie: object, *_: object, **__: object) -> None:
        """Drops the cookie."""


def _session(pool: int) -> requests.Session:
    session = _Session()
    # ~/.netrc has no say, and the rest of the environment was read once, above.
    session.trust_env = False
    session.cookies = _NoCookies()
    adapter = HTTPAdapter(pool_connections=8, pool_maxsize=pool)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session
