"""Load: a platform that hangs is kept to its share, and an end in the midst of it loses nothing."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import requests

from deploy.local.cloud import Cloud
from tests.conftest import Launch, Relay, assert_problem, unique
from tests.misbehaving import OK, Misbehaving

JSON = {"Content-Type": "application/json"}


def test_a_platform_that_hangs_has_its_share_and_no_more(launch: Launch, platform: Misbehaving) -> None:
    under_way = threading.Semaphore(0)
    event = {"provider": "apify", "dataset": "hanging", "update": {"generalAccess": "RESTRICTED"}}

    def hang(_connection: socket.socket, _attempt: int, over: threading.Event) -> None:
        under_way.release()
        over.wait(10)

    platform.behaviours["/datasets/hanging"] = hang
    relay = launch(
        APIFY_BASE_URL=platform.url, THREADS="12", RELAY_PROVIDER_CONCURRENCY="8", RELAY_DEADLINE_SECONDS="5"
    )
    other = {"provider": "data.world", "dataset": relay.data_world_dataset(), "update": {"title": "x"}}
    assert relay.post(other).status_code == 200
    assert relay.post({**event, "dataset": "fine"}).status_code == 200
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(relay.post, event) for _ in range(8)]
        for _ in range(8):
            assert under_way.acquire(timeout=5)
        for _ in range(20):
            began = time.monotonic()
            answer = relay.post(event)
            assert_problem(answer, 503, "busy", retryable=True)
            assert answer.headers["Retry-After"] == "1"
            assert relay.post(other).status_code == 200
            assert relay.send(b"", method="GET", path="/health").status_code == 200
            assert time.monotonic() - began < 2
        assert not any(each.done() for each in waiting)
        assert [each.result().status_code for each in waiting] == [504] * 8
    # The share is free again.
    assert relay.post({**event, "dataset": "fine"}).status_code == 200


def test_large_bodies_have_their_places(launch: Launch, platform: Misbehaving) -> None:
    """A megabyte on each thread, with all that is made of it, would be more than an instance has."""
    under_way, go_on = threading.Semaphore(0), threading.Event()

    def hold(connection: socket.socket, _attempt: int, _over: threading.Event) -> None:
        under_way.release()
        go_on.wait(20)
        connection.sendall(OK)

    platform.otherwise = hold
    relay = launch(DATA_WORLD_BASE_URL=platform.url, THREADS="48", RELAY_PROVIDER_CONCURRENCY="40")
    large = {"provider": "data.world", "dataset": "acme/large", "update": {"properties": {"x": "y" * 70_000}}}
    small = {"provider": "apify", "dataset": relay.apify_dataset(), "update": {"generalAccess": "RESTRICTED"}}
    with ThreadPoolExecutor(32) as pool:
        waiting = [pool.submit(relay.post, large) for _ in range(32)]
        for _ in range(32):
            assert under_way.acquire(timeout=5)
        answer = requests.post(f"{relay.url}/", json=large, headers=relay.bearer, timeout=20)
        assert_problem(answer, 503, "busy", retryable=True)
        assert answer.headers["Retry-After"] == "1"
        chunked = requests.post(f"{relay.url}/", data=iter([b"{}"]), headers={**relay.bearer, **JSON}, timeout=20)
        assert_problem(chunked, 503, "busy", retryable=True)
        assert relay.post(small).status_code == 200
        go_on.set()
        assert [each.result().status_code for each in waiting] == [200] * 32
    for _ in range(40):
        assert relay.post(large).status_code == 200


def test_a_waiting_try_is_a_call_under_way(launch: Launch, platform: Misbehaving) -> None:
    """What is tried again counts for as long as it goes on: a platform that is down is not stormed."""
    relay = launch(APIFY_BASE_URL=platform.url, THREADS="8", RELAY_PROVIDER_CONCURRENCY="1", RELAY_DEADLINE_SECONDS="2")
    failing = threading.Event()

    def fail(connection: socket.socket, _attempt: int, _over: threading.Event) -> None:
        failing.set()
        connection.sendall(b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n")

    platform.behaviours["/datasets/failing"] = fail
    event = {"provider": "apify", "dataset": "failing", "update": {"generalAccess": "RESTRICTED"}}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(relay.post, event)
        assert failing.wait(5)
        assert_problem(relay.post(event), 503, "busy", retryable=True)
        assert_problem(first.result(), 502, "upstream-failed", retryable=True)


def test_threads_that_are_too_few_are_told_of(launch: Launch) -> None:
    relay = launch(THREADS="4", RELAY_PROVIDER_CONCURRENCY="4")
    assert "THREADS is 4, and 4 calls to one platform may be under way" in relay.log_text()
    enough = launch(THREADS="4")
    assert "THREADS is" not in enough.log_text()


class Senders:
    """Senders that go on until they are told, or nobody answers any more: half of them on kept connections."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.answered: list[tuple[str, int]] = []
        self.unanswered: list[str] = []
        self.over = threading.Event()

    def run(self, number: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not self.over.is_set():
                dataset = unique("d").replace("-", "")
                event = {"provider": "apify", "dataset": dataset, "update": {"generalAccess": "RESTRICTED"}}
                headers = {**self._relay.bearer, "Connection": "keep-alive" if number % 2 else "close"}
                try:
                    answer = session.post(self._relay.url, json=event, headers=headers, timeout=20)
                except requests.ConnectionError:
                    self.unanswered.append(dataset)
                    if self._relay.function.process.poll() is not None:
                        return
                    continue
                self.answered.append((dataset, answer.status_code))


@pytest.mark.parametrize("round_", range(3))
def test_an_end_under_load_loses_nothing(launch: Launch, cloud: Cloud, platform: Misbehaving, round_: int) -> None:
    """SIGTERM: whatever reached a platform was answered, and what was not answered reached none."""

    def take_time(connection: socket.socket, _attempt: int, over: threading.Event) -> None:
        over.wait(0.2)
        connection.sendall(OK)

    platform.otherwise = take_time
    relay = launch(APIFY_BASE_URL=platform.url, THREADS="16")
    assert relay.send(b"{}", headers=relay.bearer).status_code == 415
    senders = Senders(relay)
    with ThreadPoolExecutor(12) as pool:
        for number in range(12):
            pool.submit(senders.run, number)
        time.sleep(1.0 + 0.07 * round_)
        began = time.monotonic()
        assert relay.function.stop() == 0
        took = time.monotonic() - began
        senders.over.set()
    assert took < 5
    assert {status for _, status in senders.answered} == {200}
    reached = {path.removeprefix("/datasets/") for path in platform.requests}
    answered = {dataset for dataset, _ in senders.answered}
    assert len(answered) > 20
    assert reached == answered
    assert not reached & set(senders.unanswered)
    lines = relay.log_text().count('"outcome": "delivered"')
    assert lines == len(answered)


def health(relay: Relay) -> float:
    """How long GET /health takes, in seconds, on a connection of its own."""
    began = time.monotonic()
    answer = requests.get(f"{relay.url}/health", timeout=30)
    assert answer.status_code == 200
    return time.monotonic() - began


@contextmanager
def connections(relay: Relay, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections on which this was sent, and nothing is read."""
    made = [socket.create_connection(("127.0.0.1", relay.function.port), timeout=30) for _ in range(count)]
    for each in made:
        each.setblocking(False)
        with suppress(BlockingIOError):
            each.send(sent)
    try:
        yield made
    finally:
        for each in made:
            each.close()


def test_who_does_not_read_answers_is_hung_up_on(launch: Launch) -> None:
    """Nobody has to prove anything for that: on each thread, more answers than a connection holds."""
    relay = launch(THREADS="4", RELAY_DEADLINE_SECONDS="2")
    health(relay)
    with connections(relay, 4, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400):
        time.sleep(0.5)
        assert health(relay) < 4
        assert health(relay) < 1


def test_who_does_not_hang_up_keeps_nobody_waiting(launch: Launch) -> None:
    relay = launch(THREADS="4")
    health(relay)
    with connections(relay, 12, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as held:
        time.sleep(0.3)
        assert health(relay) < 1.5
        for each in held:
            each.setblocking(True)
            assert b'{"status":"ok"}' in each.makefile("rb").read()
    for asked in (
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /health HTTP/1.0\r\nConnection: keep-alive, te\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: te, close\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HEAD /robots.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ):
        with connections(relay, 8, asked):
            time.sleep(0.3)
            assert health(relay) < 1.5, asked


@pytest.mark.parametrize("length", [b"1000", b"1000000", b"chunked"])
def test_who_drips_what_nobody_wants_keeps_nobody_waiting(launch: Launch, length: bytes) -> None:
    relay = launch(THREADS="8")
    health(relay)
    framing = b"Transfer-Encoding: chunked" if length == b"chunked" else b"Content-Length: " + length
    over = threading.Event()
    with connections(relay, 6, b"POST /nowhere HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n") as held:

        def drip() -> None:
            while not over.wait(0.1):
                for each in held:
                    with suppress(OSError):
                        each.send(b"0")

        dripping = threading.Thread(target=drip)
        dripping.start()
        for _ in range(5):
            assert health(relay) < 1.5
            time.sleep(0.3)
        for each in held:
            each.settimeout(5)
            assert each.recv(20).startswith(b"HTTP/1.1 404 ")
        over.set()
        dripping.join()


def test_a_large_body_that_nobody_wants_costs_no_answer(relay: Relay) -> None:
    """The rest of it is read for a while: else the system would take the answer back."""
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", relay.function.port), timeout=10) as connection:
            connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n")
            for _ in range(9):
                connection.sendall(b"x" * 100_000)
            assert b"HTTP/1.1 404 " in connection.recv(65536)


def in_chunks(body: bytes) -> Iterator[bytes]:
    yield body


REFUSED: dict[str, tuple[Any, int]] = {
    "10 bytes": (b"x" * 10, 404),
    "60 kB": (b"x" * 60_000, 404),
    "3 bytes in chunks": (lambda: in_chunks(b"xyz"), 404),
    "60 kB in chunks": (lambda: in_chunks(b"x" * 60_000), 404),
    "100 kB": (b"x" * 100_000, 404),
    "100 kB in chunks": (lambda: in_chunks(b"x" * 100_000), 404),
    "2 MB": (b"x" * 2_000_000, 413),
    "2 MB in chunks": (lambda: in_chunks(b"x" * 2_000_000), 413),
}


@pytest.mark.parametrize("size", REFUSED)
def test_the_next_event_on_a_connection_is_served(relay: Relay, size: str) -> None:
    """Whatever became of the one before: where the connection doesn't go on, the answer says so."""
    body, status = REFUSED[size]
    dataset = relay.data_world_dataset()
    event = {"provider": "data.world", "dataset": dataset, "update": {"title": "x"}}
    path = "/" if status == 413 else "/nowhere"
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(15):
            sent = body() if callable(body) else body
            refused = session.post(f"{relay.url}{path}", sent, headers=relay.bearer, timeout=10)
            assert refused.status_code == status
            assert refused.headers["Connection"] == ("keep-alive" if status == 404 and "100" not in size else "close")
            assert session.post(relay.url, json=event, headers=relay.bearer, timeout=10).status_code == 200


def test_what_is_behind_a_refused_request_is_answered_or_not_heard(relay: Relay) -> None:
    """Two requests at once, the first of which is refused: the second is never carried out in silence."""
    dataset = relay.data_world_dataset()
    event = json.dumps({"provider": "data.world", "dataset": dataset, "update": {"title": "x"}}).encode()
    bearer = f"Authorization: Bearer {relay.cloud.relay_secret}\r\nContent-Type: application/json\r\n".encode()
    second = b"POST / HTTP/1.1\r\nHost: x\r\n" + bearer + b"Content-Length: %d\r\n\r\n" % len(event) + event
    for first in (
        b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: te, close\r\n\r\n",
        b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
    ):
        before = len(relay.cloud.data_world.seen(f"/datasets/{dataset}"))
        with socket.create_connection(("127.0.0.1", relay.function.port), timeout=3) as connection:
            connection.sendall(first + second)
            received = b""
            with suppress(TimeoutError, ConnectionError):
                while (chunk := connection.recv(65536)) and b"successfully" not in received:
                    received += chunk
                received += chunk
        time.sleep(0.3)
        carried_out = len(relay.cloud.data_world.seen(f"/datasets/{dataset}")) - before
        assert carried_out == received.count(b"Dataset successfully updated."), first[:60]


def test_an_end_does_not_wait_for_who_does_not_hang_up(launch: Launch) -> None:
    """Kept connections that are used once more while the function ends, and held on to."""
    relay = launch(THREADS="8")
    ask = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with connections(relay, 10, ask) as held:
        time.sleep(0.5)
        for each in held:
            each.setblocking(True)
            assert each.recv(65536).startswith(b"HTTP/1.1 200 ")
        relay.function.process.terminate()
        time.sleep(0.3)
        for each in held:
            with suppress(ConnectionError):
                each.sendall(ask)
        began = time.monotonic()
        assert relay.function.stop() == 0
        assert time.monotonic() - began < 8
