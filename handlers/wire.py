"""The wire to the platforms: one session, kept connections, and calls of which every part ends in time."""

import threading
from collections.abc import Callable, Mapping
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
        self._looking = threading.Semaphore()
        self._session = requests.Session()
        self._session.adapters.clear()
        for url in base_urls.values():
            self._session.mount(url, _adapter(url))

    def call(self, provider: str, request: Request, token: str, deadline: Deadline) -> "Call":
        """One call, to be made by `with`: it ends by the deadline."""
        return Call(self, provider, request, token, deadline)

    def take_in(self, provider: str, deadline: Deadline) -> Callable[[], None]:
        """Waits for a place among the few long answers of `provider`; what gives it back. Raises TimeoutError."""
        return _acquired(self._long[provider], deadline)

    def look_through(self, deadline: Deadline) -> Callable[[], None]:
        """Waits until no other long answer is looked through; what lets the next. Raises TimeoutError."""
        return _acquired(self._looking, deadline)

    def answer(self, request: Request, token: str, deadline: Deadline) -> requests.Response:
        """The answer, whose body is still to come. Raises requests' own exceptions."""
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url = request.method, request.url
        prepared.headers = CaseInsensitiveDict()
        prepared.body = None if request.body is None else dump(request.body)
        # What Session.request would add (cookies, ~/.netrc, redirects, hooks) is what must not be here.
        adapter = self._session.get_adapter(request.url)
        return adapter.send(BearerAuth(token)(prepared), timeout=deadline.remaining(), stream=True)


class Call:
    """A call under way.

    A long answer is held on to until the `with` is left: of each provider there are few at a time, and of all together
    one that is looked through.
    """

    def __init__(self, wire: Wire, provider: str, request: Request, token: str, deadline: Deadline) -> None:
        self._wire = wire
        self._provider = provider
        self._request = request
        self._token = token
        self._deadline = deadline
        self._held: list[Callable[[], None]] = []

    def __enter__(self) -> Answer:
        """The answer. Raises the WireError that says what became of the call."""
        try:
            return self._answer()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        while self._held:
            self._held.pop()()

    def _answer(self) -> Answer:
        status, deadline = None, self._deadline
        try:
            with self._wire.answer(self._request, self._token, deadline) as response:
                status = response.status_code
                # A redirect says nothing that could be of use.
                body = b"" if 300 <= status < 400 else self._body(response)
                headers = response.headers
            if len(body) > _LONG_BYTES:
                self._held.append(self._wire.look_through(deadline))
            return Answer(status, headers, body)
        except requests.exceptions.SSLError:
            raise Distrusted from None
        except NotConnected:
            raise NotSent from None
        except (requests.RequestException, HTTPError, OSError) as error:
            if not deadline.remaining():
                raise Late(status) from None
            raise (Undecodable if isinstance(error, DecodeError) else Broken)(status) from None

    def _body(self, response: requests.Response) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            pieces.append(chunk)
            size += len(chunk)
            if size > _LONG_BYTES and not self._held:
                self._held.append(self._wire.take_in(self._provider, self._deadline))
            if size > MAX_ANSWER_BYTES:
                raise TooLong(response.status_code)
        return b"".join(pieces)


def _acquired(place: threading.Semaphore, deadline: Deadline) -> Callable[[], None]:
    if not place.acquire(timeout=deadline.remaining()):
        raise TimeoutError
    return place.release


def _adapter(url: str) -> Adapter:
    """The way to `url`, by what the environment says of proxies and certificates: it is read once, now."""
    network = requests.Session().merge_environment_settings(url, {}, stream=True, verify=None, cert=None)
    verify = network["verify"] if isinstance(network["verify"], str) else None
    if verify and not Path(verify).exists():
        message = "Must name a file or folder of certificates, as must CURL_CA_BUNDLE."
        raise SettingsError({"REQUESTS_CA_BUNDLE": [message]})
    try:
        return Adapter(url, HEADERS, verify=verify, proxy=select_proxy(url, network["proxies"]))
    except ValueError:
        message = "A proxy must be an http:// URL (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY)."
        raise SettingsError({"HTTPS_PROXY": [message]}) from None
