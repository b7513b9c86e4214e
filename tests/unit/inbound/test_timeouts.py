"""Tests of the limits on the time that a caller can take."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from flask import Request, Response
from werkzeug.test import EnvironBuilder

from handlers.inbound.timeouts import ConnectionWatchdog

# In seconds. A test ends at once if the watchdog works, whatever the machine does.
LIMIT = 0.1


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Provide both ends of a connection: the server's and the caller's."""
    server, caller = socket.socketpair()
    caller.settimeout(30)
    yield server, caller
    server.close()
    caller.close()


def test_reading_limit_passed_ends_the_stream(ends: tuple[socket.socket, socket.socket]) -> None:
    server, caller = ends
    started = time.monotonic()
    with pytest.raises(TimeoutError), ConnectionWatchdog(LIMIT).reading(server):
        assert server.recv(10) == b""
    assert time.monotonic() - started >= LIMIT
    # The server can still send a response.
    server.sendall(b"too slow")
    assert caller.recv(10) == b"too slow"


def test_reading_single_bytes_do_not_extend_the_limit(ends: tuple[socket.socket, socket.socket]) -> None:
    server, caller = ends
    finished = threading.Event()

    def send_slowly() -> None:
        while not finished.wait(0.02):
            caller.sendall(b" ")

    sender = threading.Thread(target=send_slowly)
    sender.start()
    with pytest.raises(TimeoutError), ConnectionWatchdog(LIMIT).reading(server):
        b"".join(iter(lambda: server.recv(10), b""))
    finished.set()
    sender.join()


def test_reading_in_time_leaves_the_connection_open(ends: tuple[socket.socket, socket.socket]) -> None:
    server, caller = ends
    watchdog = ConnectionWatchdog(LIMIT)
    for _ in range(3):
        caller.sendall(b"x")
        with watchdog.reading(server, 60):
            assert server.recv(10) == b"x"
    # The watchdog ends another connection, and so has checked this one.
    other, other_caller = socket.socketpair()
    with pytest.raises(TimeoutError), watchdog.reading(other):
        other.recv(1)
    caller.sendall(b"y")
    assert server.recv(10) == b"y"
    other.close()
    other_caller.close()


def test_reading_error_of_the_reader_is_raised(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(ZeroDivisionError), ConnectionWatchdog(60).reading(ends[0]):
        raise ZeroDivisionError


def test_reading_many_connections_each_has_its_own_limit() -> None:
    pairs = [socket.socketpair() for _ in range(50)]
    watchdog = ConnectionWatchdog(LIMIT)
    durations: list[float] = []

    def read(connection: socket.socket) -> None:
        started = time.monotonic()
        with pytest.raises(TimeoutError), watchdog.reading(connection):
            connection.recv(1)
        durations.append(time.monotonic() - started)

    threads = [threading.Thread(target=read, args=(server,)) for server, _ in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(durations) == 50
    assert all(duration >= LIMIT for duration in durations)
    for pair in pairs:
        for end in pair:
            end.close()


def test_reading_closed_connection_does_not_stop_the_watchdog(ends: tuple[socket.socket, socket.socket]) -> None:
    server, _ = ends
    watchdog = ConnectionWatchdog(LIMIT)
    closed, other = socket.socketpair()
    closed.close()
    with pytest.raises(TimeoutError), watchdog.reading(closed), pytest.raises(TimeoutError), watchdog.reading(server):
        server.recv(1)
    other.close()


def test_reading_without_connection_has_no_limit() -> None:
    with ConnectionWatchdog(0).reading(None):
        time.sleep(0.5)


def request_on(connection: socket.socket, *, protocol: str = "HTTP/1.1", **headers: str) -> Request:
    environ = EnvironBuilder(headers=list(headers.items())).get_environ()
    return Request(environ | {"gunicorn.socket": connection, "SERVER_PROTOCOL": protocol})


def test_responding_limit_passed_closes_the_connection(ends: tuple[socket.socket, socket.socket]) -> None:
    server, caller = ends
    ConnectionWatchdog(LIMIT).responding(request_on(server), Response(), has_unread_body=False)
    assert caller.recv(1) == b""


@pytest.mark.parametrize(
    ("protocol", "headers"),
    [("HTTP/1.1", {}), ("HTTP/1.1", {"Connection": "te"}), ("HTTP/1.0", {"Connection": "Keep-Alive"})],
)
def test_responding_in_time_leaves_the_connection_open(
    ends: tuple[socket.socket, socket.socket], protocol: str, headers: dict[str, str]
) -> None:
    server, caller = ends
    watchdog, response = ConnectionWatchdog(60), Response()
    request = request_on(server, protocol=protocol, **headers)
    watchdog.responding(request, response, has_unread_body=False)
    response.close()
    caller.sendall(b"x")
    assert server.recv(1) == b"x"
    assert not watchdog.has_closed(request)


@pytest.mark.parametrize(
    ("protocol", "headers"),
    [
        ("HTTP/1.0", {}),
        ("HTTP/1.0", {"Connection": "keep-alive, te"}),
        ("HTTP/1.1", {"Connection": "close"}),
        ("HTTP/1.1", {"Connection": "TE, Close"}),
    ],
)
def test_responding_last_request_closes_the_connection(
    ends: tuple[socket.socket, socket.socket], protocol: str, headers: dict[str, str]
) -> None:
    server, caller = ends
    watchdog, response = ConnectionWatchdog(60), Response()
    request = request_on(server, protocol=protocol, **headers)
    watchdog.responding(request, response, has_unread_body=False)
    assert not watchdog.has_closed(request)
    response.close()
    assert caller.recv(1) == b""
    # gunicorn may already have read another request from this connection.
    assert watchdog.has_closed(request_on(server))


def test_responding_unread_body_is_read_for_a_while(ends: tuple[socket.socket, socket.socket]) -> None:
    server, caller = ends
    response = Response()
    ConnectionWatchdog(60).responding(request_on(server), response, has_unread_body=True)
    closing = threading.Thread(target=response.close)
    closing.start()
    assert caller.recv(1) == b""
    # The function still reads: otherwise, a socket buffer's worth of data would block.
    caller.sendall(b"x" * 900_000)
    caller.close()
    closing.join()
