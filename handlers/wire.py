"""The wire to the platforms: one session, kept connections, and calls of which every part ends in time."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import requests
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy
from urllib3.exceptions import DecodeError, HTTPError

from handlers.connections import Adapter, NotConnected
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

    def __init__(self, base_urls: Mapping[str, str]) -> None:
        """Raises SettingsError: the environment names certificates that aren't there, or a proxy of another kind."""
        self._long = {name: threading.Semaphore(_LONG_AT_ONCE) for name in base_urls}
        self._looking = threading.Lock()
        self._session = requests.Session()
        self._session.adapters.clear()
        for url in base_urls.values():
            self._session.mount(url, _adapter(url))

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
        status = None

        def hold() -> None:
            if not self._long[provider].acquire(timeout=deadline.remaining()):
                raise TimeoutError
            held.callback(self._long[provider].release)

        try:
            # What Session.request would add (cookies, ~/.netrc, redirects, hooks) is what must not be here.
            adapter = self._session.get_adapter(request.url)
            with adapter.send(_prepared(request, token), timeout=deadline.remaining(), stream=True) as response:
                status = response.status_code
                # A redirect says nothing that could be of use.
                body = b"" if 300 <= status < 400 else _body(response, hold)
                return Answer(status, response.headers, body)
        except requests.exceptions.SSLError:
            raise Distrusted from None
        except NotConnected:
            raise NotSent from None
        except (requests.RequestException, HTTPError, OSError) as error:
            if not deadline.remaining():
                raise Late(status) from None
            raise (Undecodable if isinstance(error, DecodeError) else Broken)(status) from None


def _prepared(request: Request, token: str) -> requests.PreparedRequest:
    prepared = requests.PreparedRequest()
    prepared.method, prepared.url = request.method, request.url
    prepared.headers = CaseInsensitiveDict(HEADERS)
    prepared.body = None if request.body is None else dump(request.body)
    return BearerAuth(token)(prepared)


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


def _adapter(url: str) -> Adapter:
    """The way to `url`, by what the environment says of proxies and certificates: it is read once, now."""
    network = requests.Session().merge_environment_settings(url, {}, stream=True, verify=None, cert=None)
    verify = network["verify"] if isinstance(network["verify"], str) else None
    if verify and not Path(verify).exists():
        message = "Must name a file or folder of certificates, as must CURL_CA_BUNDLE."
        raise SettingsError({"REQUESTS_CA_BUNDLE": [message]})
    try:
        return Adapter(url, verify=verify, proxy=select_proxy(url, network["proxies"]))
    except ValueError:
        message = "The proxy for this must be an http or https URL (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY)."
        raise SettingsError({"HTTPS_PROXY": [message]}) from None
