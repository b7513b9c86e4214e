"""Load: a platform that hangs is kept to its share, and an end in the midst of it loses nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from deploy.local.cloud import Cloud
from tests.conftest import Launch, Relay, assert_problem, unique
from tests.misbehaving import OK, Misbehaving


@pytest.fixture
def platform() -> Iterator[Misbehaving]:
    started = Misbehaving().start()
    yield started
    started.stop()


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
            assert time.monotonic() - began < 0.5
        assert not any(each.done() for each in waiting)
        assert [each.result().status_code for each in waiting] == [504] * 8
    # The share is free again.
    assert relay.post({**event, "dataset": "fine"}).status_code == 200


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
