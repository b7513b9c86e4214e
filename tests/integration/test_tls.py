"""Tests of the function with a provider that uses TLS: certificates, broken TLS, and proxies, end to end."""

import base64
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from deploy.local.cloud import Cloud
from tests.support.certificates import create_certificate, server_context
from tests.support.misbehaving import (
    OK,
    MisbehavingProvider,
    listening,
    reset,
    reset_in_handshake,
    send,
    send_plain_http,
)
from tests.support.relay import Launch, Relay, assert_problem, in_variables

EVENT = {"provider": "apify", "dataset": "jane~a", "update": {"generalAccess": "RESTRICTED"}}
# In seconds. The short deadline is for a provider that never succeeds, and the long one for a provider that does.
SHORT, LONG = "1.5", "60"

LaunchFor = Callable[..., Relay]


@pytest.fixture
def launch_for(launch: Launch, cloud: Cloud) -> LaunchFor:
    """Start a function whose Apify is at a URL."""

    def start(url: str, deadline: str = LONG, **settings: str) -> Relay:
        return launch(APIFY_BASE_URL=url, RELAY_DEADLINE_SECONDS=deadline, **in_variables(cloud), **settings)

    return start


def attempts(relay: Relay, response: requests.Response) -> int:
    """Return the number of attempts in the log of a delivery."""
    count = relay.logged(response.headers["Relay-Delivery"])["attempts"]
    assert isinstance(count, int)
    return count


def test_relay_provider_with_tls_succeeds(launch_for: LaunchFor, secure: tuple[MisbehavingProvider, Path]) -> None:
    provider, certificate = secure
    relay = launch_for(provider.url, REQUESTS_CA_BUNDLE=str(certificate))
    for _ in range(3):
        assert relay.post(EVENT).json() == {}
    assert len(provider.connections) == 1


@pytest.mark.parametrize("fault", ["nobody trusts it", "another host"])
def test_relay_untrusted_certificate_sends_nothing(
    launch_for: LaunchFor, secure: tuple[MisbehavingProvider, Path], fault: str
) -> None:
    provider, certificate = secure
    if fault == "another host":
        other_host = provider.url.replace("127.0.0.1", "localhost")
        relay = launch_for(other_host, REQUESTS_CA_BUNDLE=str(certificate))
    else:
        relay = launch_for(provider.url)
    response = relay.post(EVENT)
    problem = assert_problem(response, 502, "upstream-unreachable", retryable=True)
    assert "certificate" in problem["detail"]
    assert "sent nothing" in problem["detail"]
    assert attempts(relay, response) == 1
    assert not provider.requests


def test_relay_expired_certificate_sends_nothing(launch_for: LaunchFor, tmp_path: Path) -> None:
    certificate = create_certificate(tmp_path, "127.0.0.1", hours=-1)
    provider = MisbehavingProvider(server_context(certificate)).start()
    relay = launch_for(provider.url, REQUESTS_CA_BUNDLE=str(certificate))
    response = relay.post(EVENT)
    assert_problem(response, 502, "upstream-unreachable", retryable=True)
    assert attempts(relay, response) == 1
    assert not provider.requests
    provider.stop()


def stay_silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def drip_handshake(connection: socket.socket) -> None:
    # The head of a TLS record of 16 kB.
    connection.sendall(b"\x16\x03\x03\x40\x00")
    while True:
        connection.sendall(b"\x02")
        time.sleep(0.1)


@pytest.mark.parametrize("behave", [send_plain_http, reset_in_handshake, stay_silent, drip_handshake])
def test_relay_broken_handshake_is_unreachable(launch_for: LaunchFor, behave: Callable[[socket.socket], None]) -> None:
    with listening(behave) as address:
        response = launch_for(f"https://{address}", SHORT).post(EVENT)
        assert_problem(response, 502, "upstream-unreachable", retryable=True)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy everything from one connection to another."""
    with suppress(OSError):  # The other direction may have ended already.
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)


def test_relay_with_proxy_uses_tunnel(launch_for: LaunchFor, secure: tuple[MisbehavingProvider, Path]) -> None:
    """The proxy receives the address and its own credentials, and nothing of the request."""
    provider, certificate = secure
    received_by_proxy = []

    def tunnel(connection: socket.socket) -> None:
        received_by_proxy.append(connection.recv(4096))
        host, _, port = received_by_proxy[-1].split(b" ")[1].decode().partition(":")
        with socket.create_connection((host, int(port))) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(onward, connection))
            back.start()
            pump(connection, onward)
            back.join()

    with listening(tunnel) as address:
        proxy = f"http://jane:pa55word@{address}"
        relay = launch_for(
            provider.url,
            REQUESTS_CA_BUNDLE=str(certificate),
            HTTPS_PROXY=proxy,
            https_proxy=proxy,
            NO_PROXY="",
            no_proxy="",
        )
        assert [relay.post(EVENT).status_code for _ in range(3)] == [200] * 3
        assert "pa55word" not in relay.log_text()
        relay.function.stop()
    (request,) = received_by_proxy
    assert request.startswith(f"CONNECT {provider.url.removeprefix('https://')} HTTP/1.".encode())
    assert b"proxy-authorization: basic " + base64.b64encode(b"jane:pa55word").lower() in request.lower()
    assert b"Bearer" not in request
    (requests_of_function,) = provider.requests.values()
    assert len(requests_of_function) == 3
    assert b"roxy-" not in b"".join(requests_of_function)


def drip_tunnel(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.1)


def test_relay_with_dripping_proxy_is_unreachable(launch_for: LaunchFor) -> None:
    with listening(drip_tunnel) as address:
        proxy = f"http://{address}"
        relay = launch_for("https://provider.example", SHORT, HTTPS_PROXY=proxy, https_proxy=proxy)
        assert_problem(relay.post(EVENT), 502, "upstream-unreachable", retryable=True)


def test_relay_dripping_body_over_tls_exceeds_deadline(
    launch_for: LaunchFor, secure: tuple[MisbehavingProvider, Path]
) -> None:
    provider, certificate = secure

    def drip_body(connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not stopped.wait(0.1):
            connection.sendall(b" ")

    provider.default = drip_body
    relay = launch_for(provider.url, SHORT, REQUESTS_CA_BUNDLE=str(certificate))
    assert_problem(relay.post(EVENT), 504, "deadline-exceeded", retryable=True)


def test_relay_body_broken_within_tls_is_retried(
    launch_for: LaunchFor, secure: tuple[MisbehavingProvider, Path]
) -> None:
    provider, certificate = secure

    def break_off_twice(connection: socket.socket, attempt: int, _stopped: threading.Event) -> None:
        if attempt > 2:
            connection.sendall(OK)
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        time.sleep(0.1)  # With a reset, the kernel of the client discards everything that the client has not read.
        reset(connection)

    provider.default = break_off_twice
    relay = launch_for(provider.url, REQUESTS_CA_BUNDLE=str(certificate))
    response = relay.post(EVENT)
    assert response.json() == {}
    assert attempts(relay, response) == 3
    provider.default = send(OK)
    assert relay.post(EVENT).json() == {}
