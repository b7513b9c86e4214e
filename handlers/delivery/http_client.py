"""The HTTP client: a transport adapter for `requests` over libcurl.

The adapter of `requests` itself applies its timeout to each read, so a provider that sends one byte per second never
times out. Here, one timeout covers the whole call, and libcurl enforces it.

A dead idle connection costs no event:
- The client closes a connection that has been idle for 60 s, and one that the provider has closed or reset.
- If a reused connection breaks before the first byte of a response, libcurl sends the request again over a new
  connection, at once, within the same attempt. The provider may have carried out both requests, as with any retry. So
  the client accepts only a success as the response to the second request, and reports any other response as a broken
  connection: the first request may be the reason for a 404 to the second one.
- A request that must not be repeated always uses a new connection.
- A NAT that has forgotten a connection drops the packets in silence. The connection breaks as soon as the kernel has
  waited 3 s for an acknowledgment.
- Where one connection was dead, the others may be dead, too. The client closes all idle connections to that provider,
  so that the next attempt uses a new connection.
"""

import errno
import io
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pycurl
import requests
from requests.adapters import BaseAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3.util import wait_for_read

from handlers.deadline import Deadline
from handlers.providers.base import Request, Response, read_response
from schemas.settings import SettingsError
from schemas.strict_json import dump

#: The limit on the body of a response, after decompression.
MAX_RESPONSE_BYTES = 10 * 1024 * 1024
#: The headers of every request, except `Authorization`.
HEADERS: Mapping[str, str] = {
    "Accept": "application/json",
    # A response has a few kilobytes, which are not worth compressing.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "dataset-relay/1",
}

# An attempt to connect that takes longer rarely succeeds at all.
_CONNECT_TIMEOUT_MS = 3000
_ACKNOWLEDGMENT_TIMEOUT_MS = 3000
_MAX_IDLE_CONNECTIONS = 16
_MAX_IDLE_SECONDS = 60
_SWEEP_SECONDS = 1.0
# Of the responses over this size, only a few take memory at the same time.
_LARGE_BYTES = 256 * 1024
_MAX_LARGE_RESPONSES = 4
# CURLOPT_QUICK_EXIT, which has no name in pycurl. Without it, closing a handle waits for the end of a DNS lookup.
_QUICK_EXIT = 322
# Without a port in the URL of an HTTP proxy, libcurl would use port 1080, unlike `requests`.
_PROXY_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

_CERTIFICATE_ERRORS = {pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_ISSUER_ERROR}
_NOT_SENT_CAUSES = {
    pycurl.E_COULDNT_RESOLVE_HOST: "name not found",
    pycurl.E_COULDNT_RESOLVE_PROXY: "name of the proxy not found",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_SSL_CONNECT_ERROR: "TLS handshake failed",
}
_NOT_SENT_ERRNOS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ETIMEDOUT: "timeout",
    errno.ENETUNREACH: "network unreachable",
    errno.EHOSTUNREACH: "host unreachable",
}
# CURLE_TOO_LARGE, which has no name in pycurl.
_TOO_LARGE = 100
_INVALID_RESPONSES = {
    pycurl.E_UNSUPPORTED_PROTOCOL: "isn't HTTP",
    # pycurl has the old name of CURLE_WEIRD_SERVER_REPLY.
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "isn't valid HTTP",
    pycurl.E_BAD_CONTENT_ENCODING: "isn't encoded as its Content-Encoding header states",
    pycurl.E_FILESIZE_EXCEEDED: f"is over {MAX_RESPONSE_BYTES} bytes",
    # `_Body.receive` has rejected a chunk, or bytes follow the end of a compressed body.
    pycurl.E_WRITE_ERROR: f"is over {MAX_RESPONSE_BYTES} bytes, or isn't encoded as its Content-Encoding header states",
    _TOO_LARGE: "has too many or too long headers",
}


class NotSentError(requests.ConnectionError):
    """Nothing of the request was sent. `cause` is a short text without names or addresses."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"The request was not sent: {cause}.")
        self.cause = cause


class ResponseTimeoutError(requests.exceptions.ReadTimeout):
    """The time was up after the request was sent. `status` is the status of the response, if the status arrived."""

    def __init__(self, status: int | None) -> None:
        super().__init__("The response was not complete in time.")
        self.status = status


class TruncatedResponseError(requests.exceptions.ChunkedEncodingError):
    """The response broke off after its status. `status` is the status of the response."""

    def __init__(self, status: int) -> None:
        super().__init__("The response broke off.")
        self.status = status


class InvalidResponseError(requests.RequestException):
    """The response is unusable. The text completes a sentence about it, such as "is over 10485760 bytes"."""

    def __init__(self, predicate: str, status: int | None) -> None:
        super().__init__(predicate)
        self.status = status


class SingleRequest(requests.PreparedRequest):
    """A request that must not be sent twice, not even on a dead connection."""


class BearerAuth(AuthBase):
    """Authentication by a bearer token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the `Authorization` header to `request`."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class HTTPClient:
    """The client for all calls to providers."""

    def __init__(self, base_urls: Mapping[str, str]) -> None:
        """Create a session for each provider. `base_urls` has the base URLs by provider.

        Raises:
            SettingsError: The environment names unusable certificates, or an unusable proxy.
        """
        self._sessions = {provider: _create_session(base_url) for provider, base_url in base_urls.items()}
        # Parsing takes a multiple of the size of a body in memory. A provider does not wait for another provider.
        self._large_parsers = {provider: threading.Lock() for provider in base_urls}

    def send(
        self, provider: str, request: Request, token: str, deadline: Deadline, *, is_repeatable: bool = True
    ) -> Response:
        """Send `request` to `provider`, and return the response.

        A request that is not repeatable is never sent twice, not even on a dead connection.

        Raises:
            requests.exceptions.SSLError: The certificate isn't trusted. Nothing was sent.
            NotSentError: Nothing was sent.
            ResponseTimeoutError: The deadline passed after the request was sent.
            TruncatedResponseError: The response broke off after its status.
            InvalidResponseError: The response is unusable, and a retry can't help.
            requests.ConnectionError: The connection broke. The provider may have carried out the request.
        """
        remaining = deadline.remaining()
        if not remaining:
            raise NotSentError("timeout")
        # Request.prepare() and Session.send() would take as much time as libcurl does, and add redirects and cookies.
        prepared = requests.PreparedRequest() if is_repeatable else SingleRequest()
        prepared.method, prepared.url = request.method, request.url
        prepared.headers = CaseInsensitiveDict()
        prepared.body = None if request.body is None else dump(request.body)
        BearerAuth(token)(prepared)
        adapter = self._sessions[provider].get_adapter(request.url)
        with adapter.send(prepared, timeout=remaining) as response:
            status, retry_after = response.status_code, int(response.headers.get("Retry-After", 0))
            content: bytes = response.raw.read()
            if len(content) <= _LARGE_BYTES:
                return read_response(status, retry_after, content)
            parser = self._large_parsers[provider]
            if not parser.acquire(timeout=deadline.remaining()):
                raise ResponseTimeoutError(status)
            try:
                return read_response(status, retry_after, content)
            finally:
                parser.release()

    def close(self) -> None:
        """Close all idle connections."""
        for session in self._sessions.values():
            session.close()


def _create_session(base_url: str) -> requests.Session:
    """Return a session for the URLs that start with `base_url`.

    The environment determines proxies and certificates, in the way that the documentation of `requests` describes.

    Raises:
        SettingsError: The environment names unusable certificates, or an unusable proxy.
    """
    session = requests.Session()
    environment = session.merge_environment_settings(base_url, {}, stream=True, verify=None, cert=None)
    certificates = environment["verify"] if isinstance(environment["verify"], str) else DEFAULT_CA_BUNDLE_PATH
    if certificates != DEFAULT_CA_BUNDLE_PATH and not _has_certificates(Path(certificates)):
        message = (
            "Must name a file with certificates in PEM format, or a directory that `openssl rehash` has prepared. "
            "The same applies to CURL_CA_BUNDLE."
        )
        raise SettingsError({"REQUESTS_CA_BUNDLE": [message]})
    proxy = select_proxy(base_url, environment["proxies"])
    session.adapters.clear()
    proxy_url = _proxy_url(proxy) if proxy else ""
    session.mount(base_url, CurlAdapter(HEADERS, certificates=certificates, proxy=proxy_url))
    return session


def _has_certificates(path: Path) -> bool:
    """Return True if OpenSSL finds certificates in the file or directory at `path`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if path.is_dir():
            entries = (entry for entry in path.iterdir() if re.fullmatch(r"[0-9a-f]{8}\.\d+", entry.name))
            return any(_has_certificates(entry) for entry in entries if entry.is_file())
        context.load_verify_locations(path)
    except OSError:  # An SSLError is an OSError.
        return False
    return context.cert_store_stats()["x509"] > 0


def _proxy_url(proxy: str) -> str:
    """Return the URL of a proxy, completed with the scheme and the port that `requests` would use.

    Raises:
        SettingsError: libcurl can't use such a proxy.
    """
    with suppress(ValueError):  # The URL or its port is malformed.
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme in _PROXY_PORTS and parts.hostname:
            port = "" if parts.port else f":{_PROXY_PORTS[parts.scheme]}"
            return f"{parts.scheme}://{parts.netloc}{port}"
    message = (
        f"A proxy must be a URL with one of the schemes {', '.join(_PROXY_PORTS)}. The same applies to HTTP_PROXY and "
        "ALL_PROXY."
    )
    raise SettingsError({"HTTPS_PROXY": [message]})


class CurlAdapter(BaseAdapter):
    """Transport adapter over libcurl, which keeps idle connections for later requests."""

    def __init__(
        self, headers: Mapping[str, str], *, certificates: str = DEFAULT_CA_BUNDLE_PATH, proxy: str = ""
    ) -> None:
        """Create an adapter.

        The adapter adds `headers` to every request. `certificates` is the path of a file or directory with trusted
        certificates. `proxy` is a URL with scheme and port, or the empty string for direct connections.
        """
        super().__init__()
        self._headers = [f"{name}: {value}" for name, value in headers.items()]
        self._options = _curl_options(certificates, proxy)
        self._large_responses = threading.Semaphore(_MAX_LARGE_RESPONSES)
        self._lock = threading.Lock()
        #: In the order of their last use. The last one is the next one to be used.
        self._idle: list[_Connection] = []
        self._has_sweeper = False
        self._closed = threading.Event()

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send `request`, and return the response, with its body in memory.

        `timeout` is required. It limits the whole call, in seconds. The parameters after it have no effect. A large
        response takes one of a few slots until the caller closes the response.

        Raises:
            requests.RequestException: See `HTTPClient.send`.
            requests.exceptions.InvalidHeader: A part of the request is not printable ASCII.
        """
        started = time.monotonic()
        deadline = Deadline(started + timeout)
        body = _Body(self._large_responses, deadline)
        connection = (
            _Connection(self._options, self._headers) if isinstance(request, SingleRequest) else self._take_connection()
        )
        try:
            response = connection.send(request, body, deadline)
        except BaseException:
            connection.close()
            body.close()
            raise
        finally:
            if connection.may_have_been_dead:
                self._close_idle(lambda idle: idle.idle_since < started)
        self._keep(connection)
        return response

    def close(self) -> None:
        """Close the idle connections, and keep no connection from now on."""
        self._closed.set()
        self._close_idle(lambda idle: True)

    def _take_connection(self) -> "_Connection":
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return _Connection(self._options, self._headers)
            if connection.is_usable():
                connection.is_reused = True
                return connection
            connection.close()

    def _keep(self, connection: "_Connection") -> None:
        if connection.can_be_kept:
            with self._lock:
                if len(self._idle) < _MAX_IDLE_CONNECTIONS and not self._closed.is_set() and self._start_sweeper():
                    self._idle.append(connection)
                    return
        connection.close()

    def _close_idle(self, is_unwanted: "Callable[[_Connection], bool]") -> None:
        with self._lock:
            unwanted = [connection for connection in self._idle if is_unwanted(connection)]
            self._idle = [connection for connection in self._idle if connection not in unwanted]
        for connection in unwanted:
            connection.close()

    def _start_sweeper(self) -> bool:
        """Start the thread that closes idle connections, unless it runs. Return False if it can't start.

        The thread starts with the first idle connection, because a server may fork after the import of this module,
        and a thread doesn't survive a fork.
        """
        if not self._has_sweeper:
            sweeper = threading.Thread(target=self._sweep, name="idle-connections", daemon=True)
            with suppress(RuntimeError):  # The process has too many threads.
                sweeper.start()
                self._has_sweeper = True
        return self._has_sweeper

    def _sweep(self) -> None:
        """Close unusable idle connections every second, as long as there are idle connections."""
        while True:
            self._closed.wait(_SWEEP_SECONDS)
            self._close_idle(lambda idle: not idle.is_usable())
            with self._lock:
                if not self._idle:
                    self._has_sweeper = False
                    return


class _Connection:
    """A libcurl handle, which keeps one connection. One thread at a time may use it."""

    def __init__(self, options: Iterable[tuple[int, Any]], headers: Iterable[str]) -> None:
        self._headers = headers
        self.is_reused = False
        #: True if the last call has failed on a reused connection, or libcurl had to replace the connection.
        self.may_have_been_dead = False
        self.can_be_kept = False
        self.idle_since = 0.0
        self._curl: Any = pycurl.Curl()
        for option, value in options:
            self._curl.setopt(option, value)
        # The lines of all heads, and of the trailer. The callback costs 2 µs per response, because `append` is in C.
        self._header_lines: list[bytes] = []
        self._curl.setopt(pycurl.HEADERFUNCTION, self._header_lines.append)

    def is_usable(self) -> bool:
        """Return True if the idle connection is recent, and nothing has arrived on it.

        The arrival is either the end of the connection, or a response without a request. libcurl makes the same
        check, but only after the connection has been idle for a second.
        """
        return time.monotonic() - self.idle_since <= _MAX_IDLE_SECONDS and not wait_for_read(
            self._curl.getinfo(pycurl.ACTIVESOCKET), timeout=0
        )

    def send(self, request: requests.PreparedRequest, body: "_Body", deadline: Deadline) -> requests.Response:
        """Send `request`, and return the response, with its body in `body`."""
        self.may_have_been_dead = self.is_reused
        self._set_request(request)
        self._curl.setopt(pycurl.WRITEFUNCTION, body.receive)
        self._curl.setopt(pycurl.TIMEOUT_MS, max(1, math.ceil(deadline.remaining() * 1000)))
        code = 0
        try:
            self._curl.perform()
        except pycurl.error as error:
            code = _error_code(error)
        try:
            return self._response(request, body, code, is_late=deadline.has_passed())
        finally:
            # An idle handle keeps no content.
            self._curl.setopt(pycurl.POSTFIELDS, b"")
            self._header_lines.clear()

    def close(self) -> None:
        """Close the handle and its connection."""
        self._curl.close()

    def _set_request(self, request: requests.PreparedRequest) -> None:
        method, url = request.method or "", request.url or ""
        headers = [*self._headers, *(f"{name}: {value}" for name, value in request.headers.items())]
        text = "".join([method, url, *headers])
        if not (text.isascii() and text.isprintable()):
            raise requests.exceptions.InvalidHeader("A request must consist of printable ASCII characters.")
        self._curl.setopt(pycurl.URL, url)
        # libcurl never sends a request again if the connection is new.
        self._curl.setopt(pycurl.FRESH_CONNECT, isinstance(request, SingleRequest))
        # Without "Expect:", libcurl would wait for the response "100 Continue" before it sends a large body.
        self._curl.setopt(pycurl.HTTPHEADER, [*headers, "Expect:"])
        if request.body is None:
            self._curl.setopt(pycurl.HTTPGET, 1)
        else:
            self._curl.setopt(pycurl.POSTFIELDS, request.body)
        self._curl.setopt(pycurl.CUSTOMREQUEST, method)

    def _response(
        self, request: requests.PreparedRequest, body: "_Body", code: int, *, is_late: bool
    ) -> requests.Response:
        """Return the response to `request`. `code` is libcurl's error code, or 0.

        The only header of the response is `Retry-After`, in seconds: libcurl converts a date, and cuts the wait at six
        hours.

        Raises:
            requests.RequestException: See `HTTPClient.send`.
        """
        getinfo = self._curl.getinfo
        status = getinfo(pycurl.RESPONSE_CODE)
        is_open = getinfo(pycurl.ACTIVESOCKET) != -1
        # libcurl reports a head that breaks off as a response without a body.
        if status < 200 or not (code or _has_complete_head(self._header_lines)):
            raise self._error(code, None, is_late=is_late)
        # The body of a redirect has no use, so the redirect is complete without its body.
        is_redirect = 300 <= status < 400
        if code and not is_redirect:
            raise self._error(code, status, is_late=is_late)

        # Where libcurl has replaced a reused connection, the request may have been sent twice.
        was_replaced = self.is_reused and getinfo(pycurl.NUM_CONNECTS) > 0
        if was_replaced and not 200 <= status < 300:
            raise requests.ConnectionError("The response may be a result of the first request.")
        self.may_have_been_dead = was_replaced
        self.idle_since = time.monotonic()
        # A response with status 204 or 304 has no body, but a faulty provider may still send one.
        self.can_be_kept = is_open and not code and status not in (204, 304)

        response = requests.Response()
        response.request, response.url = request, request.url or ""
        response.status_code = status
        if retry_after := getinfo(pycurl.RETRY_AFTER):
            response.headers["Retry-After"] = str(retry_after)
        if is_redirect:
            body.truncate(0)
        body.seek(0)
        response.raw = body
        return response

    def _error(self, code: int, status: int | None, *, is_late: bool) -> requests.RequestException:
        """Return the error for libcurl's error code. The code 0 means that the head of the response broke off."""
        if not self._curl.getinfo(pycurl.REQUEST_SIZE):
            if code in _CERTIFICATE_ERRORS:
                return requests.exceptions.SSLError("The certificate of the server isn't trusted.")
            cause = _NOT_SENT_ERRNOS.get(self._curl.getinfo(pycurl.OS_ERRNO), "connection failed")
            return NotSentError(_NOT_SENT_CAUSES.get(code, cause))
        if is_late:
            return ResponseTimeoutError(status)
        if self._curl.getinfo(pycurl.RESPONSE_CODE) == 101:
            return InvalidResponseError("switches to a protocol that the function did not ask for", 101)
        if code in _INVALID_RESPONSES:
            return InvalidResponseError(_INVALID_RESPONSES[code], status)
        if status is not None:
            return TruncatedResponseError(status)
        return requests.ConnectionError("The connection broke.")


def _error_code(error: pycurl.error) -> int:
    """Return the code of libcurl's error.

    The message of the error can contain a name or a URL. libcurl reports a malformed chunk, and a flood of interim
    responses, with the code of a broken connection, so that only the message tells them apart.
    """
    code, message = int(error.args[0]), str(error.args[-1])
    if code == pycurl.E_RECV_ERROR and "chunk" in message:
        return pycurl.E_FTP_WEIRD_SERVER_REPLY
    if code == pycurl.E_RECV_ERROR and "headers" in message:
        return _TOO_LARGE
    return code


def _has_complete_head(lines: Sequence[bytes]) -> bool:
    """Return True if the last head in `lines` ends with an empty line. A trailer can follow the head."""
    for line in reversed(lines):
        if line in (b"\r\n", b"\n"):
            return True
        if line[:5].upper() == b"HTTP/":
            return False
    return False


class _Body(io.BytesIO):
    """The body of a response. A large one takes one of a few slots until it is closed."""

    def __init__(self, slots: threading.Semaphore, deadline: Deadline) -> None:
        super().__init__()
        self._slots = slots
        self._has_slot = False
        self._deadline = deadline

    def receive(self, chunk: bytes) -> int | None:
        """Add a decoded chunk, or return -1, which makes libcurl end the call with E_WRITE_ERROR.

        Before version 8.20 of libcurl, MAXFILESIZE doesn't limit the size after decompression.
        """
        size = self.tell() + len(chunk)
        if size > MAX_RESPONSE_BYTES:
            return -1
        if size > _LARGE_BYTES and not self._has_slot:
            self._has_slot = self._slots.acquire(timeout=self._deadline.remaining())
            if not self._has_slot:
                return -1
        self.write(chunk)
        return None

    def close(self) -> None:
        """Discard the body, and release its slot."""
        if self._has_slot:
            self._has_slot = False
            self._slots.release()
        super().close()


def _curl_options(certificates: str, proxy: str) -> list[tuple[int, Any]]:
    """Return the options of every handle. See `CurlAdapter` for the parameters."""
    # Without None, libcurl would also trust the certificates at the paths of its build.
    file, directory = (None, certificates) if Path(certificates).is_dir() else (certificates, None)
    options = [
        # In a process with threads, libcurl must not use signals.
        (pycurl.NOSIGNAL, 1),
        (_QUICK_EXIT, 1),
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.FOLLOWLOCATION, 0),
        (pycurl.PATH_AS_IS, 1),
        # Decode a response in any encoding that libcurl knows, although no request accepts one.
        (pycurl.ACCEPT_ENCODING, ""),
        (pycurl.MAXFILESIZE, MAX_RESPONSE_BYTES),
        (pycurl.CONNECTTIMEOUT_MS, _CONNECT_TIMEOUT_MS),
        (pycurl.MAXCONNECTS, 1),
        (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
        (pycurl.CAINFO, file),
        (pycurl.CAPATH, directory),
        (pycurl.PROXY_CAINFO, file),
        (pycurl.PROXY_CAPATH, directory),
        # An empty string keeps libcurl from reading the environment.
        (pycurl.PROXY, proxy),
        (pycurl.NOPROXY, ""),
    ]
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        options.append((pycurl.SOCKOPTFUNCTION, _limit_acknowledgment))
    return options


def _limit_acknowledgment(descriptor: int, _purpose: int) -> int:
    """Make the kernel break a connection on which nothing is acknowledged. Return 0, which means success."""
    borrowed = socket.socket(fileno=descriptor)
    with suppress(OSError):
        borrowed.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _ACKNOWLEDGMENT_TIMEOUT_MS)
    borrowed.detach()
    return 0
