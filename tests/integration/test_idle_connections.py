"""Tests of the connections that the HTTP client keeps: their number, their age, their end, and stray responses."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import requests

from deploy.local.cloud import ROOT
from handlers.deadline import Deadline
from handlers.delivery import http_client
from handlers.delivery.http_client import (
    HTTPClient,
    NotSentError,
)
from handlers.providers.base import Request, Response
from tests.support.http_calls import LONG, TOKEN, CreateClient, call, port_of, wait_until
from tests.support.misbehaving import (
    OK,
    Behavior,
    MisbehavingProvider,
    drop_packets,
    full_backlog,
    http_response,
    reset,
    send,
)
from tests.support.open_sockets import count_client_sockets

# A response is never the response to another request

FIRST, SECOND = http_response(200, b'{"is": "first"}'), http_response(200, b'{"is": "second"}')
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
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
    "chunks, and another response": (send(CHUNKED + SECOND), {}),
    "chunks, and another response later": (send_later(CHUNKED, SECOND), {}),
}


@pytest.mark.parametrize("case", MORE_THAN_A_RESPONSE)
def test_send_after_surplus_response_gets_its_own_response(
    create_client: CreateClient, provider_of_each_kind: MisbehavingProvider, case: str
) -> None:
    provider = provider_of_each_kind
    provider.behaviors["/odd"], body = MORE_THAN_A_RESPONSE[case]
    client = create_client(provider.url)
    for _ in range(3):
        assert call(client, provider, "/odd").body == body
        if "another response later" in case:
            time.sleep(0.2)
        assert call(client, provider, "/fine").body == {}


# Idle connections


def test_send_one_after_the_other_uses_one_connection(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    provider.behaviors["/interim"] = send(INTERIM + OK)
    provider.behaviors["/chunked"] = send(CHUNKED)
    provider.behaviors["/error"] = send(http_response(500))
    client = create_client(provider.url)
    for path in ("/x", "/interim", "/chunked", "/error", "/x"):
        call(client, provider, path)
    assert len(provider.connections) == 1


def test_send_after_concurrent_calls_uses_most_recent_connection(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    """The other connections become old enough to be closed."""
    client = create_client(provider.url)
    Crowd(provider, 5).send(client)
    used = []

    def note_connection(connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        used.append(connection)
        connection.sendall(OK)

    provider.default = note_connection
    for _ in range(10):
        call(client, provider)
    assert len(set(used)) == 1


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
    monkeypatch.setattr(http_client, "_MAX_IDLE_SECONDS", 1)
    client = create_client(provider.url)
    Crowd(provider, 5).send(client)
    wait_until(lambda: not count_client_sockets(port_of(provider.url)))
    wait_until(lambda: not sweepers())
    assert call(client, provider) == Response(200, {})
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
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "idle-connections":
            raise RuntimeError("can't start new thread")
        start(thread)

    client = create_client(provider.url)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert call(client, provider) == Response(200, {})
        assert not count_client_sockets(port_of(provider.url))
    call(client, provider)
    assert count_client_sockets(port_of(provider.url)) == {"ESTABLISHED": 1}
    assert len(sweepers()) == 1


# Dead idle connections


def reset_connections_of(provider: MisbehavingProvider, then: Behavior) -> Behavior:
    """Return a behavior that resets the connections that exist now, and does something else on new ones."""
    old = set(provider.connections)

    def behave(connection: socket.socket, attempt: int, stopped: threading.Event) -> None:
        if connection in old:
            reset(connection)
        else:
            then(connection, attempt, stopped)

    return behave


@linux_only
@pytest.mark.parametrize("size", [1, 16])
@pytest.mark.parametrize("kind", ["closed", "reset"])
def test_send_idle_connections_ended_by_provider_succeeds_with_one_request(
    create_client: CreateClient, provider_of_each_kind: MisbehavingProvider, kind: str, size: int
) -> None:
    provider = provider_of_each_kind
    client = create_client(provider.url)
    Crowd(provider, size).send(client)
    for connection in list(provider.connections):
        reset(connection) if kind == "reset" else connection.shutdown(socket.SHUT_RDWR)
    # A reset takes effect when the thread of the provider has left recv().
    wait_until(lambda: not count_client_sockets(port_of(provider.url))["ESTABLISHED"])
    assert Crowd(provider, size).send(client) == [Response(200, {})] * size
    assert provider.request_count == 2 * size
    assert count_client_sockets(port_of(provider.url)) == {"ESTABLISHED": size}


@linux_only
@pytest.mark.parametrize("body", [{"a": 1}, {"a": "x" * 3_000_000}], ids=["small", "large"])
def test_send_connections_reset_at_next_request_succeeds(
    create_client: CreateClient, provider_of_each_kind: MisbehavingProvider, body: Any
) -> None:
    """libcurl sends each request again over a new connection. No retry by the caller is necessary."""
    provider = provider_of_each_kind
    client = create_client(provider.url)
    Crowd(provider, 16).send(client)
    provider.behaviors["/x"] = reset_connections_of(provider, send(OK))
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda _: call(client, provider, body=body), range(16)))
    assert responses == [Response(200, {})] * 16
    assert provider.attempts["/x"] <= 2 * 16


def send_single(client: HTTPClient, provider: MisbehavingProvider, path: str = "/x") -> Response:
    """Send an update that must not be repeated."""
    request = Request("PATCH", provider.url + path, {"a": 1})
    return client.send("apify", request, TOKEN, Deadline.after(LONG), is_repeatable=False)


def test_send_request_that_is_not_repeatable_uses_new_connection(
    create_client: CreateClient, provider_of_each_kind: MisbehavingProvider
) -> None:
    provider = provider_of_each_kind
    client = create_client(provider.url)
    for count in range(1, 4):
        assert send_single(client, provider) == Response(200, {})
        assert len(provider.connections) == count
    # Another request can use one of these connections.
    call(client, provider)
    assert len(provider.connections) == 3


def test_send_request_that_is_not_repeatable_is_sent_once(
    create_client: CreateClient, provider_of_each_kind: MisbehavingProvider
) -> None:
    """On an idle connection, libcurl would send the request again."""
    provider = provider_of_each_kind
    client = create_client(provider.url)
    call(client, provider)
    provider.behaviors["/single"] = lambda connection, _attempt, _stopped: reset(connection)
    with pytest.raises(requests.ConnectionError) as raised:
        send_single(client, provider, "/single")
    assert not isinstance(raised.value, NotSentError)
    assert provider.attempts["/single"] == 1


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
@pytest.mark.parametrize(("size", "length"), [(1, 1), (16, 1), (4, 8_000_000)])
def test_send_packets_dropped_in_silence_succeeds(
    create_client: CreateClient, provider_of_each_kind: MisbehavingProvider, size: int, length: int
) -> None:
    """The kernel gives up after 3 s, and libcurl sends the request over a new connection within the same call."""
    provider = provider_of_each_kind
    client = create_client(provider.url)
    Crowd(provider, size).send(client)
    for connection in list(provider.connections):
        drop_packets(connection)
    started = time.monotonic()
    assert Crowd(provider, size).send(client, body={"a": "x" * length}) == [Response(200, {})] * size
    assert time.monotonic() - started >= 3
    # The provider received nothing over the old connections.
    assert provider.request_count == 2 * size
    assert len(provider.connections) == 2 * size
    assert count_client_sockets(port_of(provider.url)) == {"ESTABLISHED": size}


@linux_only
def test_send_half_of_100_connections_closed_succeeds(
    create_client: CreateClient, provider_of_each_kind: MisbehavingProvider
) -> None:
    provider = provider_of_each_kind
    client = create_client(provider.url)
    Crowd(provider, 100).send(client)
    for connection in provider.connections[::2]:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    assert Crowd(provider, 100).send(client) == [Response(200, {})] * 100
    assert provider.request_count == 200
    assert count_client_sockets(port_of(provider.url)) == {"ESTABLISHED": 16}


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
    monkeypatch.setattr(http_client, "_CONNECT_TIMEOUT_MS", 1000)
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
