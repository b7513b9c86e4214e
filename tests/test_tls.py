"""A platform over TLS: broken TLS, certificates of others, proxies."""

import base64
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cloud import Cloud
from tests.certificates import context, signed_for
from tests.conftest import Launch, Relay, assert_problem, in_variables
from tests.misbehaving import OK, Misbehaving, reset, says
from tests.test_faults import DEADLINE, GRACE, Seen, tell

EVENT = {"provider": "apify", "dataset": "jane~a", "update": {"generalAccess": "RESTRICTED"}}


@pytest.fixture
def quick(launch: Launch, cloud: Cloud) -> Any:
    """Starts functions whose Apify is at a URL, and whose deadline is short."""

    def start(url: str, **more: str) -> Relay:
        return launch(APIFY_BASE_URL=url, RELAY_DEADLINE_SECONDS=str(DEADLINE), **in_variables(cloud), **more)

    return start


def timed(relay: Relay) -> Seen:
    began = time.monotonic()
    answer = relay.post(EVENT)
    attempts = relay.logged(answer.headers["Relay-Delivery"]).get("attempts", 0)
    return Seen(answer, time.monotonic() - began, attempts)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Misbehaving, Path]]:
    """A platform over TLS, and its certificate."""
    certificate = signed_for(tmp_path, "127.0.0.1")
    started = Misbehaving(context(certificate)).start()
    yield started, certificate
    started.stop()


def test_https(quick: Any, secure: tuple[Misbehaving, Path]) -> None:
    platform, certificate = secure
    relay = quick(platform.url, REQUESTS_CA_BUNDLE=str(certificate))
    for _ in range(3):
        assert relay.post(EVENT).json() == {}
    assert platform.connections == 1


def test_a_certificate_that_nobody_trusts(quick: Any, secure: tuple[Misbehaving, Path]) -> None:
    platform, certificate = secure
    other_host = platform.url.replace("127.0.0.1", "localhost")
    for fault, relay in (
        ("nobody signed", quick(platform.url)),
        ("is another host's", quick(other_host, REQUESTS_CA_BUNDLE=str(certificate))),
    ):
        seen = timed(relay)
        tell(f"platform's certificate {fault}", "502 at once, nothing sent", seen)
        problem = assert_problem(seen.answer, 502, "upstream-unreachable", retryable=True)
        assert "certificate can't be trusted: nothing was sent" in problem["detail"]
        assert (seen.tries, seen.seconds < 1) == (1, True)
    assert not platform.requests


def test_a_certificate_that_has_expired(quick: Any, tmp_path: Path) -> None:
    certificate = signed_for(tmp_path, "127.0.0.1", hours=-1)
    platform = Misbehaving(context(certificate)).start()
    seen = timed(quick(platform.url, REQUESTS_CA_BUNDLE=str(certificate)))
    tell("platform's certificate has expired", "502 at once, nothing sent", seen)
    assert_problem(seen.answer, 502, "upstream-unreachable", retryable=True)
    assert (seen.tries, seen.seconds < 1) == (1, True)
    platform.stop()


@contextmanager
def listening(behave: Any) -> Iterator[str]:
    """Listens on loopback, and gives each connection to `behave` before anything is read; host:port."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(20) as pool:

        def accept() -> None:
            while not over.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                pool.submit(one, connection)

        def one(connection: socket.socket) -> None:
            with connection:
                try:
                    behave(connection, over)
                except OSError:
                    return

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()


def plain(connection: socket.socket, _over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 400 The plain HTTP request was sent to an HTTPS port\r\n\r\n")


def cut(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(100)
    reset(connection)


def silent(_connection: socket.socket, over: threading.Event) -> None:
    over.wait(30)


def drip(connection: socket.socket, over: threading.Event) -> None:
    # A TLS record of 16 kB, as its head says.
    connection.sendall(b"\x16\x03\x03\x40\x00")
    while not over.wait(0.1):
        connection.sendall(b"\x02")


@pytest.mark.parametrize(
    ("fault", "behave"),
    [
        ("does not speak TLS", plain),
        ("breaks off within the handshake", cut),
        ("is silent within the handshake", silent),
        ("drips its handshake", drip),
    ],
)
def test_broken_tls(quick: Any, fault: str, behave: Any) -> None:
    with listening(behave) as address:
        seen = timed(quick(f"https://{address}"))
        tell(f"platform {fault}", "502 by the deadline, nothing sent", seen)
        assert_problem(seen.answer, 502, "upstream-unreachable", retryable=True)
        assert seen.seconds < DEADLINE + GRACE


def test_a_tunnel_through_a_proxy(quick: Any, secure: tuple[Misbehaving, Path]) -> None:
    """The proxy is told where to, and who asks; nothing of what goes through."""
    platform, certificate = secure
    heard = []

    def tunnel(connection: socket.socket, _over: threading.Event) -> None:
        heard.append(connection.recv(4096))
        host, _, port = heard[-1].split(b" ")[1].decode().partition(":")
        with socket.create_connection((host, int(port))) as onwards:
            connection.sendall(b"HTTP/1.1 200 Go on\r\n\r\n")
            back = threading.Thread(target=pump, args=(onwards, connection))
            back.start()
            pump(connection, onwards)
            back.join()

    with listening(tunnel) as address:
        proxy = f"http://jane:pa55word@{address}"
        relay = quick(
            platform.url,
            REQUESTS_CA_BUNDLE=str(certificate),
            HTTPS_PROXY=proxy,
            https_proxy=proxy,
            NO_PROXY="",
            no_proxy="",
        )
        assert [relay.post(EVENT).status_code for _ in range(3)] == [200] * 3
        (said,) = heard
        assert said.startswith(f"CONNECT {platform.url.removeprefix('https://')} HTTP/1.".encode())
        assert b"proxy-authorization: basic " + base64.b64encode(b"jane:pa55word").lower() in said.lower()
        assert b"Bearer" not in said
        (received,) = platform.requests.values()
        assert len(received) == 3
        assert b"roxy-" not in b"".join(received)
        relay.function.stop()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):  # the other way may be closed already
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)


def drip_tunnel(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not over.wait(0.1):
        connection.sendall(b"x")


def test_a_proxy_that_drips(quick: Any) -> None:
    with listening(drip_tunnel) as proxy:
        relay = quick("https://platform.example", HTTPS_PROXY=f"http://{proxy}", https_proxy=f"http://{proxy}")
        seen = timed(relay)
        tell("proxy drips its answer to CONNECT", "502 by the deadline, nothing sent", seen)
        assert_problem(seen.answer, 502, "upstream-unreachable", retryable=True)
        assert seen.seconds < DEADLINE + GRACE


def test_a_tls_connection_that_drips_or_breaks(quick: Any, secure: tuple[Misbehaving, Path]) -> None:
    platform, certificate = secure

    def drip_body(connection: socket.socket, _attempt: int, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not over.wait(0.1):
            connection.sendall(b" ")

    def break_off(connection: socket.socket, _attempt: int, _over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        time.sleep(0.1)  # else the system drops what has not been read yet
        reset(connection)

    relay = quick(platform.url, REQUESTS_CA_BUNDLE=str(certificate))
    platform.otherwise = drip_body
    seen = timed(relay)
    tell("platform drips its body through TLS", "504 by the deadline", seen)
    assert_problem(seen.answer, 504, "time-up", retryable=True)
    assert seen.seconds < DEADLINE + GRACE
    platform.otherwise = break_off
    seen = timed(relay)
    tell("platform breaks off within TLS", "tried again; 502 when the time is up", seen)
    assert_problem(seen.answer, 502, "upstream-failed", retryable=True)
    assert seen.tries >= 3
    platform.otherwise = says(OK)
    assert relay.post(EVENT).json() == {}
