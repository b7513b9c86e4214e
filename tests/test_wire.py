"""The wire by itself: what becomes of connections, threads and files when calls go wrong."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers.deadline import Deadline
from handlers.providers.call import Request
from handlers.wire import Broken, Late, NotSent, Wire
from tests.certificates import context, signed_for
from tests.misbehaving import OK, Behave, Misbehaving, answer, says
from tests.test_faults import FOR_EVER, PASSING

OPENED: list[Wire] = []


def opened(url: str) -> Wire:
    OPENED.append(Wire({"apify": url}))
    return OPENED[-1]


@pytest.fixture(autouse=True)
def no_wire_is_left() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop()._session.close()


def call(wire: Wire, platform: Misbehaving, seconds: float = 5.0, path: str = "/x", body: Any = None) -> bytes:
    request = Request("PUT", platform.url + path, body or {"a": 1})
    with wire.call("apify", request, "t0ken", Deadline.after(seconds)) as answered:
        return answered.body


def kept(wire: Wire, platform: Misbehaving) -> Any:
    """The one connection that is kept."""
    adapter: Any = wire._session.get_adapter(f"{platform.url}/x")
    (connection,) = adapter._idle
    return connection


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="LOUD: not Linux; a dead connection is NOT noticed")
def test_what_nobody_acknowledges_breaks_the_connection(platform: Misbehaving) -> None:
    """Whether the system keeps to it can't be seen on loopback, where everything is acknowledged: that it is asked."""
    wire = opened(platform.url)
    call(wire, platform)
    sock = kept(wire, platform).sock
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_deadline_is_for_one_call(platform: Misbehaving) -> None:
    """A kept connection has each call's own: neither what was left of the last one, nor all the time there is."""
    wire = opened(platform.url)
    call(wire, platform, seconds=0.3)
    time.sleep(0.4)
    call(wire, platform)
    assert platform.connections == 1
    platform.otherwise = FOR_EVER["hangs before it answers"]
    began = time.monotonic()
    with pytest.raises(Late):
        call(wire, platform, seconds=0.3)
    assert 0.3 <= time.monotonic() - began < 2


FIRST, FORGED = answer(200, b'{"is": "first"}'), answer(200, b'{"is": "forged"}')


def late(said: bytes, then: bytes) -> Behave:
    def behave(connection: socket.socket, _attempt: int, _over: threading.Event) -> None:
        connection.sendall(said)
        time.sleep(0.1)
        connection.sendall(then)

    return behave


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
MORE_THAN_AN_ANSWER: dict[str, tuple[Behave, list[bytes]]] = {
    "two answers at once": (says(FIRST + FORGED), [b'{"is": "first"}']),
    "another answer later": (late(FIRST, FORGED), [b'{"is": "first"}']),
    "a redirect with a body": (says(answer(302, FORGED)), [b""]),
    "103, and the answer at once": (says(EARLY + FIRST), [b'{"is": "first"}']),
    "103, and the answer later": (late(EARLY, FIRST), [b'{"is": "first"}']),
    "102 and 103 and 100": (
        late(b"HTTP/1.1 102 Processing\r\n\r\n" + EARLY + b"HTTP/1.1 100 Continue\r\n\r\n", FIRST),
        [b'{"is": "first"}'],
    ),
    "101, and something else": (late(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", FORGED), [b""]),
    "204, and a body at once": (says(b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED), [b""]),
    "204, and a body that it announces": (
        late(b"HTTP/1.1 204 No Content\r\nContent-Length: 500\r\n\r\n", FORGED),
        [b""],
    ),
    "chunks, and another answer": (
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + FORGED),
        [b"{}"],
    ),
}


@pytest.mark.parametrize("case", MORE_THAN_AN_ANSWER)
def test_an_answer_is_never_taken_for_another_calls(platform: Misbehaving, case: str) -> None:
    """What is left on a connection is gone with it; what comes before an answer is waited for."""
    behave, fitting = MORE_THAN_AN_ANSWER[case]
    platform.behaviours["/odd"] = behave
    wire = opened(platform.url)
    for _ in range(3):
        assert call(wire, platform, path="/odd") in fitting
        if "later" in case:
            time.sleep(0.2)
        assert call(wire, platform, path="/fine") == b"{}"


def test_what_tls_has_unpacked_is_no_answer_to_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One record of TLS with an answer, filled up to what is read at once, and another answer behind it."""
    certificate = signed_for(tmp_path, "127.0.0.1")
    platform = Misbehaving(context(certificate)).start()
    padding = 8192 - len(answer(200, b"{}", "X-Padding: "))
    platform.behaviours["/odd"] = says(answer(200, b"{}", f"X-Padding: {'x' * padding}") + FORGED)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    wire = opened(platform.url)
    for _ in range(3):
        assert call(wire, platform, path="/odd") == b"{}"
        assert call(wire, platform, path="/fine") == b"{}"
    platform.stop()


def test_answers_of_one_connection_follow_each_other(platform: Misbehaving) -> None:
    """Interim answers cost no connection."""
    platform.otherwise = says(EARLY + OK)
    wire = opened(platform.url)
    for _ in range(5):
        assert call(wire, platform) == b"{}"
    assert platform.connections == 1


def test_an_answer_before_the_request_is_whole(platform: Misbehaving) -> None:
    """As a platform does to which the body is too large: it says so, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer(413, b'{"too": "large"}', "Connection: close"))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

        refusing = threading.Thread(target=refuse)
        refusing.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        wire = opened(url)
        with wire.call("apify", Request("PUT", url, {"a": "x" * 3_000_000}), "t", Deadline.after(5)) as got:
            assert (got.status, got.body) == (413, b'{"too": "large"}')
        refusing.join()


def test_a_connection_that_the_platform_has_closed_meanwhile(platform: Misbehaving) -> None:
    def once(connection: socket.socket, _attempt: int, _over: threading.Event) -> None:
        connection.sendall(OK)
        connection.shutdown(socket.SHUT_RDWR)

    platform.otherwise = once
    wire = opened(platform.url)
    for _ in range(3):
        assert call(wire, platform) == b"{}"
        time.sleep(0.1)
    assert platform.connections == 3


def test_what_was_sent_and_what_was_not(platform: Misbehaving) -> None:
    """A broken connection may have been enough; one that was never made was not."""
    wire = opened(platform.url)
    platform.otherwise = PASSING["resets the connection"][0]
    with pytest.raises(Broken):
        call(wire, platform)
    nowhere = "http://127.0.0.1:1"
    with pytest.raises(NotSent), opened(nowhere).call("apify", Request("PUT", nowhere, {}), "t", Deadline.after(1)):
        pass


def test_a_call_that_looks_sends_no_body(platform: Misbehaving) -> None:
    wire = opened(platform.url)
    platform.otherwise = says(answer(200, b'{"data": {}}'))
    with wire.call("apify", Request("GET", f"{platform.url}/look"), "t0ken", Deadline.after(5)):
        pass
    ((received,),) = platform.requests.values()
    assert received.startswith(b"GET /look HTTP/1.1\r\n")
    assert received.endswith(b"\r\n\r\n")
    assert b"Authorization: Bearer t0ken" in received


def test_no_thread_to_spare_for_a_connection(platform: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that no input can make."""
    wire = opened(platform.url)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(NotSent):
            call(wire, platform)
    assert call(wire, platform) == b"{}"


def test_a_name_that_nobody_resolves_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the machine's resolver, which no server on loopback can make."""
    resolving, left = threading.Event(), []

    def slow(*_: Any, **__: Any) -> Any:
        left.append(threading.current_thread())
        resolving.wait(5)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    wire = opened("http://platform.example")
    began = time.monotonic()
    with pytest.raises(NotSent):
        wire.call(
            "apify", Request("PUT", "http://platform.example/datasets/x", {}), "t", Deadline.after(0.3)
        ).__enter__()
    assert time.monotonic() - began < 2
    # Its thread is left with the resolver, and ends with that.
    (thread,) = left
    assert thread.is_alive()
    resolving.set()
    thread.join(5)
    assert not thread.is_alive()
