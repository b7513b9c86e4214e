"""Tests of the HTTP client by itself: requests, responses, connections, and everything that can go wrong with them."""

import base64
import gzip
import os
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from handlers.deadline import Deadline
from handlers.delivery import http_client
from handlers.delivery.http_client import (
    MAX_RESPONSE_BYTES,
    CurlAdapter,
    HTTPClient,
    InvalidResponseError,
    NotSentError,
    ResponseTimeoutError,
    TruncatedResponseError,
)
from handlers.providers.base import Request, Response
from schemas.settings import SettingsError
from tests.support.certificates import create_certificate, server_context
from tests.support.misbehaving import (
    OK,
    Behavior,
    MisbehavingProvider,
    drop_packets,
    http_response,
    read_requests,
    reset,
    send,
    send_and_close,
)
from tests.support.open_sockets import count_client_sockets

# In seconds: longer than any call takes that is expected to succeed, on any machine.
LONG = 60.0
TOKEN = "CANARY-token"
ROOT = Path(__file__).parents[2]

CreateClient = Callable[[str], HTTPClient]


@pytest.fixture
def create_client() -> Iterator[CreateClient]:
    """Create clients for a provider at some URL, and close them at the end."""
    clients: list[HTTPClient] = []

    def create(base_url: str) -> HTTPClient:
        clients.append(HTTPClient({"apify": base_url}))
        return clients[-1]

    yield create
    for client in clients:
        client.close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[MisbehavingProvider, Path]]:
    """Run a provider with TLS, and provide its certificate."""
    certificate = create_certificate(tmp_path, "127.0.0.1")
    started = MisbehavingProvider(server_context(certificate)).start()
    yield started, certificate
    started.stop()


def call(
    client: HTTPClient, provider: MisbehavingProvider, path: str = "/x", *, seconds: float = LONG, body: Any = None
) -> Response:
    """Send an update, and return the response."""
    request = Request("PUT", provider.url + path, body or {"a": 1})
    return client.send("apify", request, TOKEN, Deadline.after(seconds))


def port_of(url: str) -> int:
    """Return the port in a URL."""
    return int(url.rpartition(":")[2])


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` is true, and fail if that takes too long."""
    deadline = Deadline.after(LONG)
    while not condition():
        assert deadline.remaining(), "the condition did not become true"
        time.sleep(0.02)


@contextmanager
def listening(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen on loopback, and let `behave` handle each connection. The value is `host:port`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def handle(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                behave(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=handle, args=(connection,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()


# Requests


def test_send_update_sends_exactly_this_request(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    call(create_client(provider.url), provider, "/datasets/jane~a%2Fb?x=%20", body={"name": "é", "n": [1, None]})
    ((received,),) = provider.requests.values()
    head, _, body = received.decode().partition("\r\n\r\n")
    first_line, *headers = head.split("\r\n")
    assert first_line == "PUT /datasets/jane~a%2Fb?x=%20 HTTP/1.1"
    assert body == '{"name":"é","n":[1,null]}'
    assert sorted(headers) == [
        "Accept-Encoding: identity",
        "Accept: application/json",
        f"Authorization: Bearer {TOKEN}",
        f"Content-Length: {len(body.encode())}",
        "Content-Type: application/json",
        f"Host: {provider.url.removeprefix('http://')}",
        "User-Agent: dataset-relay/1",
    ]


def test_send_request_without_body_has_no_body(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    client = create_client(provider.url)
    for method, body in (("PUT", {"a": 1}), ("GET", None), ("PATCH", {"a": 1}), ("GET", None)):
        client.send("apify", Request(method, f"{provider.url}/x", body), TOKEN, Deadline.after(LONG))
    put, get, patch, second_get = provider.requests["/x"]
    assert put.startswith(b"PUT /x HTTP/1.1\r\n")
    assert patch.startswith(b"PATCH /x HTTP/1.1\r\n")
    assert put.endswith(b'\r\n\r\n{"a":1}')
    assert get == second_get
    assert get.startswith(b"GET /x HTTP/1.1\r\n")
    assert get.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in get
    assert len(provider.connections) == 1


def test_send_large_body_does_not_wait_for_100_continue(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    call(create_client(provider.url), provider, body={"a": "x" * 5_000_000})
    ((received,),) = provider.requests.values()
    assert len(received) > 5_000_000
    assert b"Expect" not in received[:1000]


def test_send_path_with_dots_is_unchanged(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    call(create_client(provider.url), provider, "/datasets/../a/./b//c")
    assert list(provider.requests) == ["/datasets/../a/./b//c"]


@pytest.mark.parametrize(
    ("method", "path", "token"),
    [
        ("PUT\r\nX: y", "/x", TOKEN),
        ("PUT", "/x HTTP/1.1\r\nX: y", TOKEN),
        ("PUT", "/é", TOKEN),
        ("PUT", "/x\0", TOKEN),
        ("PUT", "/x", "t\r\nX: y"),
        ("PUT", "/x", "t\n"),
        ("PUT", "/x", "é"),
    ],
)
def test_send_header_injection_raises(
    create_client: CreateClient, provider: MisbehavingProvider, method: str, path: str, token: str
) -> None:
    client = create_client(provider.url)
    with pytest.raises(requests.exceptions.InvalidHeader):
        client.send("apify", Request(method, provider.url + path, {}), token, Deadline.after(LONG))
    assert not provider.requests


def test_send_url_of_another_server_raises(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    client = create_client("https://api.apify.com/v2")
    with pytest.raises(requests.exceptions.InvalidSchema):
        call(client, provider)
    assert not provider.connections


def test_adapter_in_a_session_of_requests_returns_response(provider: MisbehavingProvider) -> None:
    provider.default = send(http_response(200, b'{"a": "\xc3\xa9"}', "X-Header: 1", "x-header: 2"))
    with requests.Session() as session:
        session.trust_env = False
        session.mount(provider.url, CurlAdapter())
        response = session.post(f"{provider.url}/x", json={"b": 2}, timeout=LONG)
    assert response.json() == {"a": "é"}
    assert (response.status_code, response.headers["x-HEADER"]) == (200, "2")
    assert provider.requests["/x"][0].endswith(b'\r\n\r\n{"b": 2}')


# Redirects, cookies, .netrc


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["/elsewhere", "http://127.0.0.1:1/elsewhere", "http://[bad", "file:///etc/passwd"]
)
def test_send_redirect_is_returned(
    create_client: CreateClient, provider: MisbehavingProvider, status: int, location: str
) -> None:
    provider.default = send(http_response(status, b'{"a": 1}', f"Location: {location}"))
    response = call(create_client(provider.url), provider)
    assert response == Response(status, is_empty=True)
    assert list(provider.requests) == ["/x"]


def test_send_redirect_with_truncated_body_is_returned(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    provider.default = send_and_close(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 100\r\n\r\n{")
    assert call(create_client(provider.url), provider).status == 302


def test_send_after_set_cookie_sends_no_cookie(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    provider.default = send(http_response(200, b"{}", "Set-Cookie: sid=1; Path=/"))
    client = create_client(provider.url)
    for _ in range(3):
        call(client, provider)
    assert b"cookie" not in b"".join(provider.requests["/x"]).lower()


def test_send_with_netrc_keeps_token(
    create_client: CreateClient, provider: MisbehavingProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login someone password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    call(create_client(provider.url), provider)
    (received,) = provider.requests["/x"]
    assert received.count(b"Authorization") == 1
    assert f"Authorization: Bearer {TOKEN}\r\n".encode() in received


# Proxies


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the proxies and certificates of this machine from the environment."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    for name in names:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_send_http_url_with_proxy_uses_proxy(
    create_client: CreateClient, provider: MisbehavingProvider, environment: pytest.MonkeyPatch, variable: str
) -> None:
    proxy = provider
    environment.setenv(variable, proxy.url.replace("://", "://jane:pa%3A5%40word@"))
    client = create_client("http://provider.example")
    client.send("apify", Request("PUT", "http://provider.example/x", {}), TOKEN, Deadline.after(LONG))
    ((path, (received,)),) = proxy.requests.items()
    assert path == "http://provider.example/x"
    assert b"Host: provider.example\r\n" in received
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"jane:pa:5@word") in received


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("value", ["127.0.0.1", "127.0.0.0/8", "example.com,127.0.0.1", "*"])
def test_send_with_no_proxy_uses_no_proxy(
    create_client: CreateClient,
    provider: MisbehavingProvider,
    environment: pytest.MonkeyPatch,
    variable: str,
    value: str,
) -> None:
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    environment.setenv("http_proxy", "http://127.0.0.1:1")
    environment.setenv(variable, value)
    assert call(create_client(provider.url), provider).body == {}


def test_send_environment_changed_after_startup_has_no_effect(
    create_client: CreateClient, provider: MisbehavingProvider, environment: pytest.MonkeyPatch
) -> None:
    """libcurl itself would read the lower-case variables at every call."""
    client = create_client(provider.url)
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        environment.setenv(name, "http://127.0.0.1:1")
    assert call(client, provider).body == {}
    through_proxy = create_client("http://provider.example")
    for name in ("no_proxy", "NO_PROXY"):
        environment.setenv(name, "*")
    with pytest.raises(NotSentError, match="connection refused"):
        through_proxy.send("apify", Request("PUT", "http://provider.example/x", {}), TOKEN, Deadline.after(LONG))


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy everything from one connection to another."""
    with suppress(OSError):  # The other direction may have ended already.
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)


def connect_both(first: socket.socket, second: socket.socket) -> None:
    """Copy everything between two connections, in both directions."""
    back = threading.Thread(target=pump, args=(second, first))
    back.start()
    pump(first, second)
    back.join()


def test_send_https_url_with_proxy_uses_tunnel(
    create_client: CreateClient, secure: tuple[MisbehavingProvider, Path], environment: pytest.MonkeyPatch
) -> None:
    """The proxy receives the address and its own credentials, and nothing of the request."""
    provider, certificate = secure
    received_by_proxy = []

    def tunnel(connection: socket.socket) -> None:
        received_by_proxy.append(connection.recv(4096))
        host, _, port = received_by_proxy[-1].split(b" ")[1].decode().partition(":")
        with socket.create_connection((host, int(port))) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: 1\r\n\r\n")
            connect_both(connection, onward)

    with listening(tunnel) as address:
        environment.setenv("HTTPS_PROXY", f"http://jane:pa55word@{address}")
        environment.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        client = create_client(provider.url)
        for _ in range(3):
            assert call(client, provider).body == {}
        provider.default = send_and_close(b"HTTP/1.1 200 OK\r\nX: y\r\n")
        with pytest.raises(requests.ConnectionError) as broken:
            call(client, provider)
        assert not isinstance(broken.value, NotSentError)
        client.close()
    request = received_by_proxy[0]
    assert request.startswith(f"CONNECT {provider.url.removeprefix('https://')} HTTP/1.".encode())
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"jane:pa55word") in request
    assert b"Bearer" not in request
    assert b"User-Agent: dataset-relay" not in request
    assert b"roxy-" not in b"".join(provider.requests["/x"])


@pytest.mark.parametrize("status", [403, 407, 502])
def test_send_proxy_refuses_tunnel_raises_not_sent(
    create_client: CreateClient, environment: pytest.MonkeyPatch, status: int
) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(http_response(status, b"no", "Proxy-Authenticate: Basic realm=x"))

    with listening(refuse) as address:
        environment.setenv("HTTPS_PROXY", f"http://{address}")
        client = create_client("https://provider.example")
        with pytest.raises(NotSentError):
            client.send("apify", Request("PUT", "https://provider.example/x", {}), TOKEN, Deadline.after(LONG))


def test_send_proxy_drips_raises_not_sent_at_deadline(
    create_client: CreateClient, environment: pytest.MonkeyPatch
) -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    with listening(drip) as address:
        environment.setenv("HTTPS_PROXY", f"http://{address}")
        client = create_client("https://provider.example")
        with pytest.raises(NotSentError, match="timeout"):
            client.send("apify", Request("PUT", "https://provider.example/x", {}), TOKEN, Deadline.after(0.5))


def test_send_with_socks_proxy_uses_proxy(
    create_client: CreateClient, provider: MisbehavingProvider, environment: pytest.MonkeyPatch
) -> None:
    """SOCKS 5, RFC 1928: with the scheme socks5h, the proxy resolves the name."""
    names = []

    def serve(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"\x05\x00")
        names.append(connection.recv(300))
        with socket.create_connection(("127.0.0.1", port_of(provider.url))) as onward:
            connection.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            connect_both(connection, onward)

    with listening(serve) as address:
        environment.setenv("ALL_PROXY", f"socks5h://{address}")
        client = create_client("http://provider.example")
        response = client.send("apify", Request("PUT", "http://provider.example/x", {}), TOKEN, Deadline.after(LONG))
        client.close()
    assert response.body == {}
    assert b"provider.example" in names[0]


@pytest.mark.parametrize(
    ("proxy", "url"),
    [
        ("proxy.example", "http://proxy.example:80"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("http://proxy.example", "http://proxy.example:80"),
        ("http://jane:pa55@proxy.example/", "http://jane:pa55@proxy.example:80"),
        ("https://proxy.example", "https://proxy.example:443"),
        ("socks5h://[::1]", "socks5h://[::1]:1080"),
    ],
)
def test_proxy_url_without_port_has_default_port_of_requests(proxy: str, url: str) -> None:
    assert http_client._proxy_url(proxy) == url


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "http://", "http://127.0.0.1:port", "quic://127.0.0.1"])
def test_client_unusable_proxy_raises(create_client: CreateClient, environment: pytest.MonkeyPatch, proxy: str) -> None:
    environment.setenv("ALL_PROXY", proxy)
    with pytest.raises(SettingsError) as raised:
        create_client("https://provider.example")
    assert list(raised.value.errors) == ["HTTPS_PROXY"]


# TLS


def test_send_trusted_certificate_succeeds(
    create_client: CreateClient, secure: tuple[MisbehavingProvider, Path], environment: pytest.MonkeyPatch
) -> None:
    provider, certificate = secure
    environment.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    client = create_client(provider.url)
    for _ in range(5):
        assert call(client, provider).body == {}
    assert len(provider.connections) == 1


def test_send_untrusted_certificate_raises_and_sends_nothing(
    create_client: CreateClient, secure: tuple[MisbehavingProvider, Path], environment: pytest.MonkeyPatch
) -> None:
    provider, certificate = secure
    with pytest.raises(requests.exceptions.SSLError):
        call(create_client(provider.url), provider)
    environment.setenv("CURL_CA_BUNDLE", str(certificate))
    assert call(create_client(provider.url), provider).body == {}
    other_host = provider.url.replace("127.0.0.1", "localhost")
    client = create_client(other_host)
    with pytest.raises(requests.exceptions.SSLError):
        client.send("apify", Request("PUT", f"{other_host}/y", {}), TOKEN, Deadline.after(LONG))
    assert list(provider.requests) == ["/x"]


def test_send_expired_certificate_raises_and_sends_nothing(
    create_client: CreateClient, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate = create_certificate(tmp_path, "127.0.0.1", hours=-1)
    environment.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    provider = MisbehavingProvider(server_context(certificate)).start()
    with pytest.raises(requests.exceptions.SSLError):
        call(create_client(provider.url), provider)
    assert not provider.requests
    provider.stop()


def send_plain_http(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 The plain HTTP request was sent to an HTTPS port\r\n\r\n")


def reset_in_handshake(connection: socket.socket) -> None:
    connection.recv(100)
    reset(connection)


@pytest.mark.parametrize("behave", [send_plain_http, reset_in_handshake])
def test_send_broken_handshake_raises_not_sent(
    create_client: CreateClient, behave: Callable[[socket.socket], None]
) -> None:
    with listening(behave) as address:
        client = create_client(f"https://{address}")
        with pytest.raises(NotSentError, match="TLS handshake failed"):
            client.send("apify", Request("PUT", f"https://{address}/x", {}), TOKEN, Deadline.after(LONG))


def test_send_silent_handshake_raises_not_sent_at_deadline(create_client: CreateClient) -> None:
    with listening(lambda connection: (connection.recv(1) and None) or time.sleep(3)) as address:
        client = create_client(f"https://{address}")
        with pytest.raises(NotSentError, match="timeout"):
            client.send("apify", Request("PUT", f"https://{address}/x", {}), TOKEN, Deadline.after(0.3))


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_client_file_without_certificates_raises(
    create_client: CreateClient,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    content: str | None,
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    environment.setenv(variable, str(bundle))
    with pytest.raises(SettingsError) as raised:
        create_client("https://provider.example")
    assert list(raised.value.errors) == ["REQUESTS_CA_BUNDLE"]


def test_client_directory_of_certificates_is_used(
    create_client: CreateClient, secure: tuple[MisbehavingProvider, Path], environment: pytest.MonkeyPatch
) -> None:
    provider, certificate = secure
    directory = certificate.parent / "certificates"
    directory.mkdir()
    environment.setenv("REQUESTS_CA_BUNDLE", str(directory))
    with pytest.raises(SettingsError):
        create_client(provider.url)
    (directory / "ours.pem").write_bytes(certificate.read_bytes())
    subprocess.run(["openssl", "rehash", directory], check=True)
    assert call(create_client(provider.url), provider).body == {}


# The deadline


def hang(_connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
    stopped.wait(LONG)


def stall(connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    stopped.wait(LONG)


def drip(beginning: bytes, drop: bytes) -> Behavior:
    def behave(connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
        connection.sendall(beginning)
        while not stopped.wait(0.05):
            connection.sendall(drop)

    return behave


ENDLESS: dict[str, tuple[Behavior, int | None]] = {
    "no response": (hang, None),
    "stalled body": (stall, 200),
    "dripping status line": (drip(b"HTTP/1.1 200 ", b"O"), None),
    "dripping header": (drip(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"), None),
    "dripping headers": (drip(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), None),
    "dripping body": (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "), 200),
    "dripping body without length": (drip(b"HTTP/1.1 200 OK\r\n\r\n", b" "), 200),
    "dripping chunk length": (drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"), 200),
    "dripping chunks": (drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), 200),
    "endless 100 Continue": (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), None),
    "endless 103 Early Hints": (drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), None),
    "101 without a request for it": (drip(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", b"x"), None),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_send_endless_response_raises_at_deadline(
    create_client: CreateClient, provider: MisbehavingProvider, case: str
) -> None:
    provider.default, status = ENDLESS[case]
    started = time.monotonic()
    with pytest.raises(ResponseTimeoutError) as raised:
        call(create_client(provider.url), provider, seconds=0.5)
    assert time.monotonic() - started >= 0.5
    assert raised.value.status == status
    assert provider.request_count == 1


def test_send_provider_does_not_read_raises_at_deadline(create_client: CreateClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        client = create_client(url)
        with pytest.raises(ResponseTimeoutError):
            client.send("apify", Request("PUT", url, {"a": "x" * 15_000_000}), TOKEN, Deadline.after(1))


def test_send_deadline_has_passed_raises_not_sent(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    with pytest.raises(NotSentError, match="timeout"):
        call(create_client(provider.url), provider, seconds=0)
    assert not provider.connections


def test_send_on_kept_connection_has_its_own_deadline(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    client = create_client(provider.url)
    call(client, provider)
    provider.behaviors["/hanging"] = hang
    with pytest.raises(ResponseTimeoutError):
        call(client, provider, "/hanging", seconds=0.3)
    call(client, provider, seconds=0.4)
    time.sleep(0.5)
    call(client, provider)
    assert len(provider.connections) == 2


def test_send_connection_refused_raises_not_sent(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    provider.stop_listening()
    client = create_client("http://127.0.0.1:1")
    with pytest.raises(NotSentError) as raised:
        client.send("apify", Request("PUT", "http://127.0.0.1:1/x", {}), TOKEN, Deadline.after(LONG))
    assert raised.value.cause == "connection refused"


@contextmanager
def full_backlog(port: int = 0) -> Iterator[int]:
    """Listen on a port where the queue of connections is full, so that the kernel drops new connections."""
    with socket.socket() as full:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", port))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]
        for filler in fillers:
            filler.close()


def test_send_connect_timeout_raises_not_sent(create_client: CreateClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_CONNECT_TIMEOUT_MS", 200)
    with full_backlog() as port:
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(NotSentError, match="timeout"):
            create_client(url).send("apify", Request("PUT", url, {}), TOKEN, Deadline.after(LONG))


SLOW_LOOKUP = """
import socket, subprocess, sys, time
from handlers.deadline import Deadline
from handlers.delivery.http_client import HTTPClient, NotSentError
from handlers.providers.base import Request

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
name_server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
name_server.bind(("127.0.0.1", 53))
client = HTTPClient({"apify": "http://provider.example"})
for _ in range(3):
    try:
        client.send("apify", Request("PUT", "http://provider.example/x", {}), "t", Deadline.after(0.3))
    except NotSentError as error:
        print(error.cause)
client.close()
# The resolver has asked, and it still waits for an answer.
name_server.settimeout(10)
assert name_server.recv(500)
print("done", flush=True)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0,
    reason="NOT TESTED: a slow DNS lookup; only root on Linux can make one",
)
def test_send_slow_lookup_raises_not_sent_at_deadline(tmp_path: Path) -> None:
    """The lookup itself takes at least 150 s, and neither the call nor the end of the handle waits for it."""
    configuration = tmp_path / "resolv.conf"
    configuration.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    command = ["unshare", "--mount", "--net", sys.executable, "-c", SLOW_LOOKUP, str(configuration)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = []
        while (line := process.stdout.readline()) and line != "done\n":
            lines.append(line)
        # The process still waits for its resolver.
        process.kill()
    assert (lines, line) == (["timeout\n"] * 3, "done\n")


# Broken and invalid responses

BROKEN_HEADS = {
    "closed without a response": b"",
    "broken status line": b"HTTP/1.1 200",
    "status line only": b"HTTP/1.1 200 OK\r\n",
    "one header": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
    "length of an empty body": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
    "broken header": b"HTTP/1.1 200 OK\r\nContent-Len",
    "interim response": b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n",
    "broken head after an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "header of 200 kB": b"HTTP/1.1 200 OK\r\na: " + b"b" * 200_000 + b"\r\n\r\n",
    "10,000 headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
}


@pytest.mark.parametrize("case", BROKEN_HEADS)
def test_send_broken_head_raises_connection_error(
    create_client: CreateClient, provider: MisbehavingProvider, case: str
) -> None:
    provider.default = send_and_close(BROKEN_HEADS[case])
    with pytest.raises(requests.ConnectionError) as raised:
        call(create_client(provider.url), provider)
    assert not isinstance(raised.value, NotSentError | TruncatedResponseError | ResponseTimeoutError)
    assert provider.request_count == 1


def test_send_reset_raises_connection_error(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    """A connection that no call used before: libcurl doesn't send the request again."""
    provider.default = lambda connection, _attempt, _stopped: reset(connection)
    with pytest.raises(requests.ConnectionError) as raised:
        call(create_client(provider.url), provider)
    assert not isinstance(raised.value, NotSentError)
    assert provider.request_count == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN_BODIES = {
    "missing body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "short body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
    "broken chunk": CHUNKED + b"5\r\n{}",
    "missing last chunk": CHUNKED + b"2\r\n{}\r\n",
    "invalid chunk": CHUNKED + b"zz\r\n",
}


@pytest.mark.parametrize("case", BROKEN_BODIES)
def test_send_broken_body_raises_truncated_response(
    create_client: CreateClient, provider: MisbehavingProvider, case: str
) -> None:
    provider.default = send_and_close(BROKEN_BODIES[case])
    with pytest.raises(TruncatedResponseError) as raised:
        call(create_client(provider.url), provider)
    assert raised.value.status == 200
    assert provider.request_count == 1


INVALID: dict[str, tuple[bytes, str]] = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", "isn't HTTP"),
    "an unknown version": (b"HTTP/9.9 200 OK\r\n\r\n", "isn't HTTP"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "isn't valid HTTP"),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", "isn't valid HTTP"),
    "NUL in a header": (b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n{}", "isn't valid HTTP"),
    "wrong encoding": (
        http_response(200, b"{}", "Content-Encoding: gzip"),
        "isn't encoded as its Content-Encoding header states",
    ),
    "unknown encoding": (
        http_response(200, b"{}", "Content-Encoding: secret"),
        "isn't encoded as its Content-Encoding header states",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_send_invalid_response_raises(create_client: CreateClient, provider: MisbehavingProvider, case: str) -> None:
    content, predicate = INVALID[case]
    provider.default = send_and_close(content)
    with pytest.raises(InvalidResponseError) as raised:
        call(create_client(provider.url), provider)
    assert str(raised.value) == predicate
    assert raised.value.status == (200 if "encoding" in case else None)


def test_send_compressed_response_is_decoded(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    provider.default = send(http_response(200, gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip"))
    assert call(create_client(provider.url), provider).body == {"a": 1}


def test_send_response_at_size_limit_is_returned(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    text = b'"' + b"x" * (MAX_RESPONSE_BYTES - 2) + b'"'
    provider.behaviors["/gzip"] = send(http_response(200, gzip.compress(text), "Content-Encoding: gzip"))
    provider.default = send(http_response(200, text))
    client = create_client(provider.url)
    for path in ("/x", "/gzip"):
        response = call(client, provider, path)
        assert response.defect is None
        assert isinstance(response.body, str)
        assert len(response.body) == MAX_RESPONSE_BYTES - 2


OVERSIZED = {
    "announced": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
    "one byte over the limit": http_response(200, b" " * (MAX_RESPONSE_BYTES + 1)),
    "without length": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MAX_RESPONSE_BYTES + 1),
    "compressed": http_response(200, gzip.compress(b" " * 200_000_000), "Content-Encoding: gzip"),
    "compressed twice": http_response(
        200, gzip.compress(gzip.compress(b" " * 200_000_000)), "Content-Encoding: gzip, gzip"
    ),
}


@pytest.mark.parametrize("case", OVERSIZED)
def test_send_oversized_response_raises(create_client: CreateClient, provider: MisbehavingProvider, case: str) -> None:
    provider.default = send_and_close(OVERSIZED[case])
    with pytest.raises(InvalidResponseError, match=f"is over {MAX_RESPONSE_BYTES} bytes") as raised:
        call(create_client(provider.url), provider)
    assert raised.value.status == 200
    assert provider.request_count == 1


def test_send_response_before_end_of_request_is_returned(create_client: CreateClient) -> None:
    """A provider may reject a body that is too large, and close the connection."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(http_response(413, b'{"too": "large"}', "Connection: close"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with listening(refuse) as address:
        url = f"http://{address}"
        client = create_client(url)
        response = client.send("apify", Request("PUT", url, {"a": "x" * 3_000_000}), TOKEN, Deadline.after(LONG))
    assert (response.status, response.body) == (413, {"too": "large"})


@pytest.mark.parametrize("header", ["120", "Wed, 21 Oct 2026 07:28:00 GMT", "soon"])
def test_send_retry_after_is_returned_unchanged(
    create_client: CreateClient, provider: MisbehavingProvider, header: str
) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n"
    trailer = b"2\r\n{}\r\n0\r\nRetry-After: 2\r\n\r\n"
    head = f"HTTP/1.1 429 Limited\r\nretry-after:  {header} \r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    provider.default = send(interim + head + trailer)
    response = call(create_client(provider.url), provider)
    assert (response.status, response.retry_after, response.body) == (429, header, {})


@pytest.mark.parametrize(
    "fail",
    ["refused", "name", "reset", "invalid", "truncated", "late", "certificate"],
)
def test_send_error_repeats_no_secret(
    create_client: CreateClient,
    provider: MisbehavingProvider,
    secure: tuple[MisbehavingProvider, Path],
    environment: pytest.MonkeyPatch,
    fail: str,
) -> None:
    provider.behaviors.update(
        {
            "/CANARY-reset": lambda connection, _attempt, _stopped: reset(connection),
            "/CANARY-invalid": send(b"CANARY" * 3),
            "/CANARY-truncated": send_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nCANARY"),
            "/CANARY-late": hang,
        }
    )
    base_url = {
        "refused": "http://127.0.0.1:1",
        "name": "http://canary.invalid",
        "certificate": secure[0].url,
    }.get(fail, provider.url)
    client = create_client(base_url)
    with pytest.raises(requests.RequestException) as raised:
        client.send("apify", Request("PUT", f"{base_url}/CANARY-{fail}", {}), TOKEN, Deadline.after(3))
    # A traceback has the source code, but no values.
    assert "CANARY" not in "".join(traceback.format_exception_only(raised.value))
    assert "canary" not in repr(raised.value)
    assert base_url.partition("//")[2] not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None or raised.value.__suppress_context__


# A response is never the response to another request

FIRST, SECOND = http_response(200, b'{"is": "first"}'), http_response(200, b'{"is": "second"}')
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"


def send_later(response: bytes, more: bytes, seconds: float = 0.1) -> Behavior:
    """Return a behavior that sends more after a pause."""

    def behave(connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        connection.sendall(response)
        time.sleep(seconds)
        connection.sendall(more)

    return behave


MORE_THAN_A_RESPONSE: dict[str, tuple[Behavior, Any]] = {
    "two responses at once": (send(FIRST + SECOND), {"is": "first"}),
    "another response later": (send_later(FIRST, SECOND), {"is": "first"}),
    "redirect with a body": (send(http_response(302, SECOND)), None),
    "103, and the response at once": (send(INTERIM + FIRST), {"is": "first"}),
    "103, and the response later": (send_later(INTERIM, FIRST), {"is": "first"}),
    "102, 103, 100, and the response later": (
        send_later(b"HTTP/1.1 102 Processing\r\n\r\n" + INTERIM + b"HTTP/1.1 100 Continue\r\n\r\n", FIRST),
        {"is": "first"},
    ),
    "204 with a body at once": (send(b"HTTP/1.1 204 No Content\r\n\r\n" + SECOND), None),
    "204 with an announced body later": (
        send_later(b"HTTP/1.1 204 No Content\r\nContent-Length: 57\r\n\r\n", SECOND),
        None,
    ),
    "304 with an announced body later": (
        send_later(b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", SECOND),
        None,
    ),
    "chunks, and another response": (send(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n" + SECOND), {}),
    "chunks, and another response later": (send_later(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", SECOND), {}),
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("case", MORE_THAN_A_RESPONSE)
def test_send_after_surplus_response_gets_its_own_response(
    create_client: CreateClient, tmp_path: Path, environment: pytest.MonkeyPatch, case: str, tls: bool
) -> None:
    certificate = create_certificate(tmp_path, "127.0.0.1")
    environment.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    provider = MisbehavingProvider(server_context(certificate) if tls else None).start()
    provider.behaviors["/odd"], body = MORE_THAN_A_RESPONSE[case]
    client = create_client(provider.url)
    for _ in range(3):
        assert call(client, provider, "/odd").body == body
        if "another response later" in case:
            time.sleep(0.2)
        assert call(client, provider, "/fine").body == {}
    provider.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: only Linux counts the bytes on a connection")
@pytest.mark.parametrize("padding", [0, 4096, 8192, 16_384, 16_000 - len(SECOND), 40_000])
@pytest.mark.parametrize("is_one_write", [True, False])
def test_send_after_surplus_response_in_tls_buffer_gets_its_own_response(
    create_client: CreateClient,
    secure: tuple[MisbehavingProvider, Path],
    environment: pytest.MonkeyPatch,
    padding: int,
    is_one_write: bool,
) -> None:
    """OpenSSL reads ahead, so that it can have the second response in memory, where no poll() notices it."""
    provider, certificate = secure
    environment.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    first = http_response(200, b'"' + b"x" * padding + b'"')

    def send_both(connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        # The kernel sends everything at once, as one segment where possible.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        for part in [first + SECOND] if is_one_write else [first, SECOND]:
            connection.sendall(part)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    provider.behaviors["/odd"] = send_both
    provider.behaviors["/fine"] = send_later(b"", OK)
    client = create_client(provider.url)
    for _ in range(3):
        assert call(client, provider, "/odd").body == "x" * padding
        with suppress(requests.ConnectionError):
            assert call(client, provider, "/fine").body == {}
        assert call(client, provider, "/fine").body == {}


# Idle connections


def test_send_one_after_the_other_uses_one_connection(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    provider.behaviors["/interim"] = send(INTERIM + OK)
    provider.behaviors["/chunked"] = send(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n")
    provider.behaviors["/error"] = send(http_response(500))
    client = create_client(provider.url)
    for path in ("/x", "/interim", "/chunked", "/error", "/x"):
        call(client, provider, path)
    assert len(provider.connections) == 1


def test_client_import_and_creation_start_no_thread() -> None:
    """A server may fork after the import."""
    program = (
        "import threading; from handlers.delivery.http_client import HTTPClient; "
        "HTTPClient({'apify': 'https://provider.example'}); print(threading.active_count())"
    )
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert output.stdout == "1\n"


def sweepers() -> list[threading.Thread]:
    """Return the threads that close idle connections."""
    return [thread for thread in threading.enumerate() if thread.name == "idle-connections"]


class Crowd:
    """Calls at the same time, each on a connection of its own."""

    def __init__(self, provider: MisbehavingProvider, size: int) -> None:
        self._provider = provider
        self._barrier = threading.Barrier(size)
        self._size = size

    def send(self, client: HTTPClient, *, body: Any = None) -> list[Response | requests.RequestException]:
        """Send the requests, and return the outcome of each one. The provider responds when all have arrived."""

        def wait_for_all(connection: socket.socket, attempt: int, _stopped: threading.Event) -> None:
            if attempt <= self._size:
                self._barrier.wait(LONG)
            connection.sendall(OK)

        path = f"/crowd-{time.monotonic()}"
        self._provider.behaviors[path] = wait_for_all
        with ThreadPoolExecutor(self._size) as pool:
            return list(pool.map(lambda _: self._outcome(client, path, body), range(self._size)))

    def _outcome(self, client: HTTPClient, path: str, body: Any) -> Response | requests.RequestException:
        try:
            return call(client, self._provider, path, body=body)
        except requests.RequestException as error:
            return error


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: only Linux lists its connections")


@linux_only
@pytest.mark.parametrize("size", [16, 40])
def test_client_keeps_at_most_16_idle_connections(
    create_client: CreateClient, provider: MisbehavingProvider, size: int
) -> None:
    client = create_client(provider.url)
    assert Crowd(provider, size).send(client) == [Response(200, {})] * size
    assert len(provider.connections) == size
    assert count_client_sockets(port_of(provider.url)) == {"ESTABLISHED": 16}
    client.close()
    assert not count_client_sockets(port_of(provider.url))


@linux_only
def test_client_idle_time_is_over_closes_connections(
    create_client: CreateClient, provider: MisbehavingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further call is necessary. Afterward, no thread is left."""
    assert http_client._MAX_IDLE_SECONDS == 60
    monkeypatch.setattr(http_client, "_MAX_IDLE_SECONDS", 2.5)
    client = create_client(provider.url)
    Crowd(provider, 5).send(client)
    time.sleep(1.5)
    assert call(client, provider) == Response(200, {})
    wait_until(lambda: count_client_sockets(port_of(provider.url)) == {"ESTABLISHED": 1})
    wait_until(lambda: not count_client_sockets(port_of(provider.url)))
    wait_until(lambda: not sweepers())
    assert call(client, provider) == Response(200, {})
    assert len(provider.connections) == 6
    assert len(sweepers()) == 1


def test_client_idle_connection_too_old_is_not_used(
    create_client: CreateClient, provider: MisbehavingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = create_client(provider.url)
    call(client, provider)
    monkeypatch.setattr(http_client, "_MAX_IDLE_SECONDS", 0.0)
    call(client, provider)
    assert len(provider.connections) == 2


@linux_only
@pytest.mark.parametrize("end", [lambda connection: connection.shutdown(socket.SHUT_RDWR), reset])
def test_client_provider_closes_connections_leaves_no_socket(
    create_client: CreateClient, provider: MisbehavingProvider, end: Callable[[socket.socket], None]
) -> None:
    """No connection stays in CLOSE_WAIT, although no further call comes."""
    client = create_client(provider.url)
    Crowd(provider, 10).send(client)
    for connection in provider.connections[:6]:
        end(connection)
    wait_until(lambda: count_client_sockets(port_of(provider.url)) == {"ESTABLISHED": 4})
    for connection in provider.connections[6:]:
        end(connection)
    wait_until(lambda: not count_client_sockets(port_of(provider.url)))


@linux_only
def test_client_closed_during_call_keeps_no_connection(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    client = create_client(provider.url)

    def close_client(connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        client.close()
        connection.sendall(OK)

    provider.default = close_client
    assert call(client, provider) == Response(200, {})
    assert not count_client_sockets(port_of(provider.url))


@linux_only
def test_client_cannot_start_thread_keeps_no_connection(
    create_client: CreateClient, provider: MisbehavingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = create_client(provider.url)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            limited = create_client(url)
            outcome: list[Any] = []
            # The provider can't start a thread either, so this thread plays the provider.
            import _thread

            _thread.start_new_thread(
                lambda: outcome.append(limited.send("apify", Request("PUT", url, {}), TOKEN, Deadline.after(LONG))), ()
            )
            connection, _ = server.accept()
            with connection:
                next(read_requests(connection))
                connection.sendall(OK)
                wait_until(lambda: bool(outcome))
                assert outcome == [Response(200, {})]
                assert not count_client_sockets(port_of(url))
    call(client, provider)
    assert len(sweepers()) == 1


# Dead idle connections


def replace_connections(provider: MisbehavingProvider, kill: Callable[[socket.socket], None]) -> Callable[[], None]:
    def kill_all() -> None:
        for connection in provider.connections:
            with suppress(OSError):
                kill(connection)

    return kill_all


@linux_only
@pytest.mark.parametrize("count", [1, 16])
@pytest.mark.parametrize("kind", ["closed", "reset"])
def test_send_idle_connections_ended_by_provider_succeeds_with_one_request(
    create_client: CreateClient, provider: MisbehavingProvider, kind: str, count: int
) -> None:
    client = create_client(provider.url)
    Crowd(provider, count).send(client)
    for connection in list(provider.connections):
        reset(connection) if kind == "reset" else connection.shutdown(socket.SHUT_RDWR)
    before = provider.request_count
    assert Crowd(provider, count).send(client) == [Response(200, {})] * count
    assert provider.request_count - before == count


@pytest.mark.parametrize("body", [{"a": 1}, {"a": "x" * 3_000_000}], ids=["small", "large"])
def test_send_connections_reset_at_next_request_succeeds(
    create_client: CreateClient, provider: MisbehavingProvider, body: Any
) -> None:
    """libcurl sends each request again over a new connection. No retry by the caller is necessary."""
    client = create_client(provider.url)
    Crowd(provider, 16).send(client)
    old = set(provider.connections)

    def reset_old(connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        if connection in old:
            reset(connection)
        else:
            connection.sendall(OK)

    provider.behaviors["/x"] = reset_old
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda _: call(client, provider, body=body), range(16)))
    assert responses == [Response(200, {})] * 16
    assert provider.attempts["/x"] <= 2 * 16


@linux_only
def test_send_dead_connection_closes_other_idle_connections(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    """Each of the others is probably dead, too, and would cost the next call 3 s."""
    client = create_client(provider.url)
    Crowd(provider, 8).send(client)
    for connection in list(provider.connections):
        drop_packets(connection)
    for _ in range(8):
        assert call(client, provider) == Response(200, {})
    assert len(provider.connections) == 9
    assert count_client_sockets(port_of(provider.url)) == {"ESTABLISHED": 1}


@linux_only
@pytest.mark.parametrize("size", [1, 16])
@pytest.mark.parametrize("body", [{"a": 1}, {"a": "x" * 8_000_000}], ids=["small", "large"])
def test_send_packets_dropped_in_silence_succeeds(
    create_client: CreateClient, provider: MisbehavingProvider, size: int, body: Any
) -> None:
    """The kernel gives up after 3 s, and libcurl sends the request over a new connection within the same call."""
    if size > 1 and len(str(body)) > 1000:
        size = 4  # The memory of the machine has to suffice.
    client = create_client(provider.url)
    Crowd(provider, size).send(client)
    for connection in list(provider.connections):
        drop_packets(connection)
    started = time.monotonic()
    assert Crowd(provider, size).send(client, body=body) == [Response(200, {})] * size
    assert time.monotonic() - started >= 3
    # The provider received nothing over the old connections.
    assert provider.request_count == 2 * size
    assert len(provider.connections) == 2 * size


def test_send_half_of_100_connections_closed_succeeds(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    client = create_client(provider.url)
    Crowd(provider, 100).send(client)
    for connection in provider.connections[::2]:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    before = provider.request_count
    assert Crowd(provider, 100).send(client) == [Response(200, {})] * 100
    assert provider.request_count - before == 100


def reset_connections_of(provider: MisbehavingProvider, then: Behavior) -> Behavior:
    """Return a behavior that resets the connections that exist now, and does something else on new ones."""
    old = set(provider.connections)

    def behave(connection: socket.socket, attempt: int, stopped: threading.Event) -> None:
        if connection in old:
            reset(connection)
        else:
            then(connection, attempt, stopped)

    return behave


@pytest.mark.parametrize("status", [401, 404, 500])
def test_send_error_after_second_request_raises_connection_error(
    create_client: CreateClient, provider: MisbehavingProvider, status: int
) -> None:
    """A rename that the first request has carried out is the reason for a 404 to the second one."""
    client = create_client(provider.url)
    call(client, provider)
    provider.default = reset_connections_of(provider, send(http_response(status)))
    with pytest.raises(requests.ConnectionError) as raised:
        call(client, provider)
    assert not isinstance(raised.value, NotSentError)
    assert call(client, provider).status == status
    assert provider.request_count == 4


def test_send_refused_after_first_request_raises_connection_error(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    """The provider may have carried out the first request, so NotSentError would be wrong."""
    client = create_client(provider.url)
    call(client, provider)

    def disappear(connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        provider.stop_listening()
        reset(connection)

    provider.default = disappear
    with pytest.raises(requests.ConnectionError) as raised:
        call(client, provider)
    assert not isinstance(raised.value, NotSentError)


def test_send_connect_timeout_after_first_request_raises_connection_error(
    create_client: CreateClient, provider: MisbehavingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline has not passed, so that the caller can retry."""
    monkeypatch.setattr(http_client, "_CONNECT_TIMEOUT_MS", 200)
    client = create_client(provider.url)
    call(client, provider)
    port = port_of(provider.url)
    is_full, is_over = threading.Event(), threading.Event()

    def disappear(connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        provider.stop_listening()
        with full_backlog(port):
            reset(connection)
            is_full.set()
            is_over.wait(LONG)

    provider.default = disappear
    try:
        with pytest.raises(requests.ConnectionError) as raised:
            call(client, provider)
    finally:
        is_over.set()
    assert is_full.is_set()
    assert not isinstance(raised.value, NotSentError)


# Large responses


def test_adapter_large_responses_take_one_of_four_slots(provider: MisbehavingProvider) -> None:
    provider.default = send(http_response(200, b" " * 300_000))
    adapter = CurlAdapter()
    request = requests.Request("GET", f"{provider.url}/x").prepare()
    open_responses = [adapter.send(request, timeout=LONG) for _ in range(4)]
    with pytest.raises(ResponseTimeoutError) as raised:
        adapter.send(request, timeout=0.3)
    assert raised.value.status == 200
    provider.behaviors["/small"] = send(OK)
    small = adapter.send(requests.Request("GET", f"{provider.url}/small").prepare(), timeout=LONG)
    assert small.content == b"{}"
    open_responses.pop().close()
    open_responses.append(adapter.send(request, timeout=LONG))
    for response in open_responses:
        response.close()
        response.close()
    with pytest.raises(InvalidResponseError):
        provider.behaviors["/oversized"] = send(OVERSIZED["without length"])
        adapter.send(requests.Request("GET", f"{provider.url}/oversized").prepare(), timeout=LONG)
    again = [adapter.send(request, timeout=LONG) for _ in range(4)]
    assert [len(response.content) for response in again] == [300_000] * 4
    for response in again:
        response.close()
    adapter.close()


def test_send_large_responses_are_parsed_one_at_a_time(
    create_client: CreateClient, provider: MisbehavingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsing, counts = threading.Semaphore(0), []
    lock = threading.Lock()
    active = 0

    def read_slowly(status: int, retry_after: str | None, content: bytes) -> Response:
        nonlocal active
        with lock:
            active += 1
            counts.append(active)
        time.sleep(0.1)
        with lock:
            active -= 1
        return Response(status, len(content))

    monkeypatch.setattr(http_client, "read_response", read_slowly)
    provider.default = send(http_response(200, b" " * 300_000))
    client = create_client(provider.url)
    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda _: call(client, provider), range(6)))
    assert responses == [Response(200, 300_000)] * 6
    assert counts == [1] * 6
    assert not parsing.acquire(blocking=False)


# Platforms without poll()

WITHOUT_POLL = """
import select, sys
del select.poll, select.epoll
from handlers.deadline import Deadline
from handlers.delivery.http_client import HTTPClient
from handlers.providers.base import Request

client = HTTPClient({"apify": sys.argv[1]})
for _ in range(3):
    print(client.send("apify", Request("PUT", sys.argv[1] + "/x", {}), "t", Deadline.after(60)).status)
client.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no poll() that the test could remove.")
def test_send_without_poll_succeeds(provider: MisbehavingProvider) -> None:
    """Python on Windows has neither poll() nor epoll()."""
    command = [sys.executable, "-c", WITHOUT_POLL, provider.url]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert output.stdout == "200\n" * 3
    assert len(provider.connections) == 1


def test_headers_match_request(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    """A dry run shows these headers."""
    call(create_client(provider.url), provider)
    (received,) = provider.requests["/x"]
    for name, value in http_client.HEADERS.items():
        assert re.search(rf"(?m)^{name}: {value}\r$", received.decode())
