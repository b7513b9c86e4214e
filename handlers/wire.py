"""The wire to the platforms: one session, kept connections, and calls of which every part ends in time."""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import requests
from requests.auth import AuthBase
from requests.cookies import RequestsCookieJar
from urllib3.exceptions import DecodeError, HTTPError, NewConnectionError

from handlers.connections import DEADLINE, Adapter
from handlers.deadline import Deadline
from handlers.providers.call import Answer, Request
from schemas.settings import SettingsError
from schemas.strict_json import dump

MAX_ANSWER_BYTES = 10 * 1024 * 1024
HEADERS = {
    "Accept": "application/json",
    # Answers are a few kilobytes; what isn't compressed can't swell when it is unpacked.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "dataset-relay/1",
}

_CHUNK_BYTES = 64 * 1024
# Of longer answers there are so many at a time, so that a platform can't fill the memory with them.
_LONG_BYTES = 256 * 1024
_LONG_AT_ONCE = 4


class WireError(Exception):
    """A call without an answer that can be used; `status` is the answer's, as far as it came."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__()
        self.status = status


class NotSent(WireError):
    """No connection was made: the platform has not heard of the call."""


class Distrusted(NotSent):
    """The platform's certificate isn't one to trust."""


class Broken(WireError):
    """The connection broke: the platform may have carried the call out, or not."""


class Late(WireError):
    """The time was up: the platform may carry the call out, or not."""


class TooLong(WireError):
    """The answer is over MAX_ANSWER_BYTES."""


class Undecodable(WireError):
    """The answer isn't encoded as it says."""


class BearerAuth(AuthBase):
    """The token, given as `auth`: ~/.netrc replaces an Authorization that is given as a header."""

    def __init__(self, token: str) -> None:
        self._value = f"Bearer {token}"

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sets the header."""
        prepared.headers["Authorization"] = self._value
        return prepared


class Wire:
    """The session that all calls share; `base_urls` are all that is ever called, by provider."""

    def __init__(self, base_urls: Mapping[str, str], pool: int) -> None:
        """`pool` is how many connections to one host are kept.

        Raises SettingsError: the environment names certificates that aren't there.
        """
        self._session = _session(pool)
        self._long = {name: threading.Semaphore(_LONG_AT_ONCE) for name in base_urls}
        self._looking = threading.Lock()
        # What the environment says of proxies and certificates, read once: a look at it costs a tenth of a call's time.
        environment = requests.Session()
        self._network = {
            name: environment.merge_environment_settings(url, {}, stream=True, verify=None, cert=None)
            for name, url in base_urls.items()
        }
        for each in self._network.values():
            if isinstance(each["verify"], str) and not Path(each["verify"]).exists():
                message = "Must name a file or folder of certificates, as must CURL_CA_BUNDLE."
                raise SettingsError({"REQUESTS_CA_BUNDLE": [message]})

    @contextmanager
    def call(self, provider: str, request: Request, token: str, deadline: Deadline) -> Iterator[Answer]:
        """One call, which ends by the deadline. Raises the WireError that says what became of it.

        A long answer is held on to for as long as the `with` goes: of each provider there are few at a time, and of all
        together one that is looked through.
        """
        with ExitStack() as held:
            answer = self._called(provider, request, token, deadline, held)
            if len(answer.body) > _LONG_BYTES:
                if not self._looking.acquire(timeout=deadline.remaining()):
                    raise Late(answer.status)
                held.callback(self._looking.release)
            yield answer

    def _called(self, provider: str, request: Request, token: str, deadline: Deadline, held: ExitStack) -> Answer:
        DEADLINE.set(deadline)
        status = None

        def hold() -> None:
            if not self._long[provider].acquire(timeout=deadline.remaining()):
                raise TimeoutError
            held.callback(self._long[provider].release)

        try:
            with self._session.request(
                request.method,
                request.url,
                data=None if request.body is None else dump(request.body),
                headers=HEADERS,
                auth=BearerAuth(token),
                allow_redirects=False,
                **self._network[provider],
            ) as response:
                status = response.status_code
                # A redirect says nothing that could be of use.
                body = b"" if 300 <= status < 400 else _body(response, hold)
                return Answer(status, {name.lower(): value for name, value in response.headers.items()}, body)
        except (requests.RequestException, HTTPError, OSError) as error:
            raise _kind(list(_causes(error)), deadline)(status) from None


def _kind(causes: list[BaseException], deadline: Deadline) -> type[WireError]:
    def due_to(kind: type[Exception]) -> bool:
        return any(isinstance(each, kind) for each in causes)

    if due_to(ssl.SSLCertVerificationError):
        return Distrusted
    if due_to(NewConnectionError):
        return NotSent
    if not deadline.remaining():
        return Late
    return Undecodable if due_to(DecodeError) else Broken


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, what it was raised for, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _body(response: requests.Response, hold: Callable[[], None]) -> bytes:
    body, is_long = bytearray(), False
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        body += chunk
        if len(body) > _LONG_BYTES and not is_long:
            is_long = True
            hold()
        if len(body) > MAX_ANSWER_BYTES:
            raise TooLong(response.status_code)
    return bytes(body)


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
    adapter = Adapter(pool_connections=8, pool_maxsize=pool)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session
