"""Tests of the proxies and certificates that the environment names."""

import base64
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from deploy.local.cloud import Function
from handlers.deadline import Deadline
from handlers.delivery import http_client
from handlers.delivery.http_client import NotSentError, TruncatedResponseError
from handlers.providers.base import Request
from schemas.settings import SettingsError
from tests.support.certificates import create_certificate, server_context
from tests.support.http_calls import LONG, TOKEN, CreateClient, call, port_of
from tests.support.misbehaving import (
    MisbehavingProvider,
    http_response,
    listening,
    reset_in_handshake,
    send_and_close,
    send_plain_http,
)

# Proxies


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
        with pytest.raises(TruncatedResponseError):
            call(client, provider)
        client.close()
    request = received_by_proxy[0]
    assert request.startswith(f"CONNECT {provider.url.removeprefix('https://')} HTTP/1.".encode())
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"jane:pa55word") in request
    assert b"Bearer" not in request
    assert b"User-Agent: dataset-relay" not in request
    assert b"roxy-" not in b"".join(provider.requests["/x"])


@pytest.mark.parametrize("status", [200, 302, 403, 407, 502])
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


# Certificates


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


@pytest.mark.parametrize("behave", [send_plain_http, reset_in_handshake])
def test_send_broken_handshake_raises_not_sent(
    create_client: CreateClient, behave: Callable[[socket.socket], None]
) -> None:
    with listening(behave) as address:
        client = create_client(f"https://{address}")
        with pytest.raises(NotSentError, match="TLS handshake failed"):
            client.send("apify", Request("PUT", f"https://{address}/x", {}), TOKEN, Deadline.after(LONG))


def read_until_closed(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def test_send_silent_handshake_raises_not_sent_at_deadline(create_client: CreateClient) -> None:
    with listening(read_until_closed) as address:
        client = create_client(f"https://{address}")
        with pytest.raises(NotSentError, match="timeout"):
            client.send("apify", Request("PUT", f"https://{address}/x", {}), TOKEN, Deadline.after(0.3))


def assert_certificates_rejected(create_client: CreateClient) -> None:
    """Check that the environment doesn't allow the function to start, because of its certificates."""
    with pytest.raises(SettingsError) as raised:
        create_client("https://provider.example")
    assert list(raised.value.errors) == ["REQUESTS_CA_BUNDLE"]


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
    assert_certificates_rejected(create_client)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_startup_empty_file_of_certificates_names_the_variable(tmp_path: Path, variable: str) -> None:
    bundle, log = tmp_path / "bundle.pem", tmp_path / "log"
    bundle.touch()
    with log.open("wb") as stream:
        function = Function({variable: str(bundle)}, log=stream)
    assert function.process.wait(timeout=300) == 1
    lines = log.read_text().splitlines()
    assert "dataset-relay can't start. Correct these settings:" in lines
    (mistake,) = (line for line in lines if line.startswith("  "))
    assert variable in mistake


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_send_with_unusable_certificates_of_openssl_succeeds(
    create_client: CreateClient,
    secure: tuple[MisbehavingProvider, Path],
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
) -> None:
    """`requests` has variables of its own. Thus, the function doesn't check those of OpenSSL."""
    provider, certificate = secure
    environment.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    environment.setenv(variable, str(tmp_path / "missing"))
    assert call(create_client(provider.url), provider).body == {}


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_client_directory_with_hashed_name_but_without_certificate_raises(
    create_client: CreateClient,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    content: str | None,
) -> None:
    """The name is one that `openssl rehash` gives. Without content, the link leads nowhere."""
    entry, target = tmp_path / "certificates" / "0123abcd.0", tmp_path / "ours.pem"
    entry.parent.mkdir()
    entry.symlink_to(target)
    if content is not None:
        target.write_text(content)
    environment.setenv(variable, str(entry.parent))
    assert_certificates_rejected(create_client)


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
    # One unusable file doesn't make the others unusable.
    (directory / "00000000.0").touch()
    assert call(create_client(provider.url), provider).body == {}
