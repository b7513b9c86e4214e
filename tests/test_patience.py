"""Requests that never arrive: who waits for them is let go, in time, and nobody else is."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from handlers.patience import Patience


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_who_waits_too_long_reads_the_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    began = time.monotonic()
    with pytest.raises(TimeoutError), Patience(0.3).reading(ours):
        assert ours.recv(10) == b""
    assert 0.3 <= time.monotonic() - began < 3
    # There still is a way to answer.
    ours.sendall(b"too slow")
    assert theirs.recv(10) == b"too slow"


def test_a_trickle_does_not_help(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(0.05):
            theirs.sendall(b" ")

    dripping = threading.Thread(target=trickle)
    dripping.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError), Patience(0.3).reading(ours):
        b"".join(iter(lambda: ours.recv(10), b""))
    over.set()
    dripping.join()
    assert time.monotonic() - began < 3


def test_who_is_done_in_time_is_left_alone(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    patience = Patience(0.3)
    for _ in range(3):
        with patience.reading(ours):
            time.sleep(0.1)
    time.sleep(0.5)
    theirs.sendall(b"x")
    assert ours.recv(10) == b"x"


def fail_late() -> None:
    time.sleep(0.5)
    raise ZeroDivisionError


def test_an_error_of_the_reader_is_told_apart(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(ZeroDivisionError), Patience(5).reading(ends[0]):
        raise ZeroDivisionError
    with pytest.raises(TimeoutError), Patience(0.1).reading(ends[0]):
        fail_late()


def test_many_wait_for_as_long_as_each_may() -> None:
    pairs = [socket.socketpair() for _ in range(50)]
    patience = Patience(0.5)
    took: list[float] = []

    def wait(sock: socket.socket) -> None:
        began = time.monotonic()
        with pytest.raises(TimeoutError), patience.reading(sock):
            sock.recv(1)
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=wait, args=(ours,)) for ours, _ in pairs]
    for each in threads:
        each.start()
        time.sleep(0.01)
    for each in threads:
        each.join()
    assert len(took) == 50
    assert all(0.5 <= each < 3 for each in took)
    assert not patience._waiting
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_connection_that_is_closed_meanwhile_harms_nobody(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    patience = Patience(0.2)
    threading.Timer(0.1, ours.close).start()
    with pytest.raises(TimeoutError), patience.reading(ours):
        time.sleep(0.5)
    with pytest.raises(TimeoutError), patience.reading(theirs):
        time.sleep(0.5)


def test_a_server_that_keeps_its_sockets_to_itself() -> None:
    with Patience(0.1).reading(None):
        time.sleep(0.3)
