"""Tests of a function under load: slow providers, slow callers, many large bodies, and a stop in the middle of it."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.local.cloud import Cloud
from tests.support.canary import RECORDER
from tests.support.hook_events import HOOK_SECRET
from tests.support.hooks import call, hook, update, written
from tests.support.misbehaving import OK, MisbehavingProvider
from tests.support.raw_http import TIMEOUT, connect, is_complete, receive_until_closed
from tests.support.relay import JSON_TYPE, Launch, Relay, assert_problem, in_variables, unique
from tests.support.worker import cpu_seconds

#: A deadline that passes in no test, in seconds.
LONG_DEADLINE = "100"


def create_event(dataset: str) -> dict[str, Any]:
    """Return an event for a dataset of Apify."""
    return {"provider": "apify", "dataset": dataset, "update": {"generalAccess": "RESTRICTED"}}


class Gate:
    """A behavior of a provider: each request waits until the gate opens."""

    def __init__(self) -> None:
        self._is_open = threading.Event()
        self._arrivals = threading.Semaphore(0)

    def __call__(self, connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        """Serve one request."""
        self._arrivals.release()
        self._is_open.wait()
        connection.sendall(OK)

    def wait_for_requests(self, count: int) -> None:
        """Wait until this many requests have arrived."""
        for _ in range(count):
            assert self._arrivals.acquire(timeout=TIMEOUT)

    def open(self) -> None:
        """Respond to every request, from now on."""
        self._is_open.set()


# Limits on concurrency


def test_provider_that_hangs_occupies_only_its_slots(launch: Launch, provider: MisbehavingProvider) -> None:
    gate = provider.behaviors["/datasets/hanging"] = Gate()
    relay = launch(
        APIFY_BASE_URL=provider.url, THREADS="12", RELAY_PROVIDER_CONCURRENCY="8", RELAY_DEADLINE_SECONDS=LONG_DEADLINE
    )
    other = {"provider": "data.world", "dataset": relay.data_world_dataset(), "update": {"title": "x"}}
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(relay.post, create_event("hanging")) for _ in range(8)]
        try:
            gate.wait_for_requests(8)
            for _ in range(2):
                started = time.monotonic()
                response = relay.post(create_event("fine"))
                # The function waits for a slot.
                assert time.monotonic() - started >= 2
                assert_problem(response, 503, "busy", retryable=True)
                assert response.headers["Retry-After"] == "1"
                assert relay.post(other).status_code == 200
                assert relay.send(b"", method="GET", path="/health").status_code == 200
            assert not any(future.done() for future in waiting)
        finally:
            gate.open()
        assert [future.result().status_code for future in waiting] == [200] * 8
    # The slots are free again.
    assert relay.post(create_event("fine")).status_code == 200


def test_events_over_the_limit_wait_for_a_slot(launch: Launch, provider: MisbehavingProvider) -> None:
    """A healthy provider refuses none of a burst of events."""
    hanging = provider.behaviors["/datasets/hanging"] = Gate()
    relay = launch(
        APIFY_BASE_URL=provider.url, THREADS="12", RELAY_PROVIDER_CONCURRENCY="2", RELAY_DEADLINE_SECONDS=LONG_DEADLINE
    )
    assert relay.post(create_event("fine")).status_code == 200
    with ThreadPoolExecutor(10) as pool:
        first = [pool.submit(relay.post, create_event("hanging")) for _ in range(2)]
        try:
            hanging.wait_for_requests(2)
            waiting = [pool.submit(relay.post, create_event("fine")) for _ in range(8)]
            time.sleep(0.5)
            assert not any(future.done() for future in waiting)
        finally:
            hanging.open()
        assert [future.result().status_code for future in (*first, *waiting)] == [200] * 10


def test_event_waits_for_a_quarter_of_a_short_deadline(launch: Launch, provider: MisbehavingProvider) -> None:
    hanging = provider.behaviors["/datasets/hanging"] = Gate()
    relay = launch(APIFY_BASE_URL=provider.url, THREADS="4", RELAY_PROVIDER_CONCURRENCY="1", RELAY_DEADLINE_SECONDS="6")
    assert relay.post(create_event("fine")).status_code == 200
    with ThreadPoolExecutor(1) as pool:
        pool.submit(relay.post, create_event("hanging"))
        try:
            hanging.wait_for_requests(1)
            started = time.monotonic()
            assert_problem(relay.post(create_event("fine")), 503, "busy", retryable=True)
            assert time.monotonic() - started >= 1.4
        finally:
            hanging.open()


def test_updates_of_an_event_get_their_slots_together(
    launch: Launch, provider: MisbehavingProvider, tmp_path: Path
) -> None:
    hanging = provider.behaviors["/datasets/hanging"] = Gate()
    others = [update("apify", f"fine{number}", {"generalAccess": "RESTRICTED"}) for number in range(2)]
    relay = launch(
        APIFY_BASE_URL=provider.url,
        THREADS="4",
        RELAY_PROVIDER_CONCURRENCY="2",
        RELAY_DEADLINE_SECONDS=LONG_DEADLINE,
        RELAY_CONFIG=written(tmp_path, {"two": hook(*others, update("data.world", "acme/fine", {"title": "x"}))}),
        DATA_WORLD_BASE_URL=provider.url,
        HOOK_SECRET=HOOK_SECRET,
    )
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(relay.post, create_event("hanging"))
        try:
            hanging.wait_for_requests(1)
            # One slot is free, but the event needs two.
            response = call(relay, "two", {})
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            assert [result["status"] for result in response.json()["results"]] == [503] * 3
            # None of the updates was carried out.
            assert set(provider.requests) == {"/datasets/hanging"}
        finally:
            hanging.open()
        assert waiting.result().status_code == 200
    response = call(relay, "two", {})
    assert [result["status"] for result in response.json()["results"]] == [200] * 3


def test_provider_that_hangs_until_the_deadline_frees_its_slot(
    launch: Launch, provider: MisbehavingProvider, cloud: Cloud
) -> None:
    gate = provider.behaviors["/datasets/hanging"] = Gate()
    relay = launch(
        APIFY_BASE_URL=provider.url,
        RELAY_PROVIDER_CONCURRENCY="1",
        RELAY_DEADLINE_SECONDS="3",
        **in_variables(cloud),
    )
    assert_problem(relay.post(create_event("hanging")), 504, "deadline-exceeded", retryable=True)
    assert relay.post(create_event("fine")).status_code == 200
    gate.open()


def test_event_that_waits_for_its_retry_occupies_a_slot(launch: Launch, provider: MisbehavingProvider) -> None:
    first_attempt, gate = threading.Event(), Gate()

    def fail_once(connection: socket.socket, attempt: int, stopped: threading.Event) -> None:
        if attempt == 1:
            connection.sendall(b"HTTP/1.1 503 Down\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
            first_attempt.set()
        else:
            gate(connection, attempt, stopped)

    provider.behaviors["/datasets/failing"] = fail_once
    relay = launch(
        APIFY_BASE_URL=provider.url, THREADS="8", RELAY_PROVIDER_CONCURRENCY="1", RELAY_DEADLINE_SECONDS=LONG_DEADLINE
    )
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(relay.post, create_event("failing"))
        try:
            assert first_attempt.wait(TIMEOUT)
            assert_problem(relay.post(create_event("fine")), 503, "busy", retryable=True)
        finally:
            gate.open()
        assert waiting.result().status_code == 200


def test_large_bodies_occupy_only_their_slots(launch: Launch, provider: MisbehavingProvider) -> None:
    # One large body on each of many threads would need more memory than an instance has.
    gate = provider.behaviors["/datasets/acme/large"] = Gate()
    relay = launch(
        DATA_WORLD_BASE_URL=provider.url,
        THREADS="48",
        RELAY_PROVIDER_CONCURRENCY="40",
        RELAY_DEADLINE_SECONDS=LONG_DEADLINE,
    )
    large = {"provider": "data.world", "dataset": "acme/large", "update": {"properties": {"x": "y" * 70_000}}}
    with ThreadPoolExecutor(32) as pool:
        waiting = [pool.submit(relay.post, large) for _ in range(32)]
        try:
            gate.wait_for_requests(32)
            response = relay.post(large)
            assert_problem(response, 503, "busy", retryable=True)
            assert response.headers["Retry-After"] == "1"
            # A body in chunks doesn't announce its length. The size that arrives counts.
            headers = {"Content-Type": JSON_TYPE, **relay.bearer}
            chunked = requests.post(f"{relay.url}/", data=iter([b"{}"]), headers=headers, timeout=TIMEOUT)
            assert_problem(chunked, 422, "invalid")
            body = json.dumps(large).encode()
            chunked = requests.post(f"{relay.url}/", data=iter([body]), headers=headers, timeout=TIMEOUT)
            assert_problem(chunked, 503, "busy", retryable=True)
            small = relay.post(relay.apify_event())
            assert small.status_code == 200
        finally:
            gate.open()
        assert [future.result().status_code for future in waiting] == [200] * 32
    # The slots are free again.
    for _ in range(40):
        assert relay.post(large).status_code == 200


# The stop of a function


class Senders:
    """Senders that send events until the function ends. Half of them keep their connections."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.responses: list[tuple[str, int]] = []
        self.without_response: list[str] = []
        self.stopped = threading.Event()

    def run(self, number: int) -> None:
        """Send events one after the other."""
        with requests.Session() as session:
            session.trust_env = False
            while not self.stopped.is_set():
                dataset = unique("d").replace("-", "")
                headers = {**self._relay.bearer, "Connection": "keep-alive" if number % 2 else "close"}
                try:
                    response = session.post(
                        self._relay.url, json=create_event(dataset), headers=headers, timeout=TIMEOUT
                    )
                except requests.ConnectionError:
                    self.without_response.append(dataset)
                    if self._relay.function.process.poll() is not None:
                        return
                    continue
                RECORDER.add("POST /", f"{response.headers}\n{response.text}")
                self.responses.append((dataset, response.status_code))


@pytest.mark.parametrize("count", [24, 31, 38])
def test_stop_under_load_loses_no_event(launch: Launch, provider: MisbehavingProvider, count: int) -> None:
    def respond_slowly(connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
        stopped.wait(0.2)
        connection.sendall(OK)

    provider.default = respond_slowly
    relay = launch(APIFY_BASE_URL=provider.url, THREADS="16", RELAY_DEADLINE_SECONDS=LONG_DEADLINE)
    senders = Senders(relay)
    with ThreadPoolExecutor(12) as pool:
        for number in range(12):
            pool.submit(senders.run, number)
        try:
            wait_until(lambda: len(senders.responses) >= count)
            # SIGTERM, as Cloud Run sends it.
            assert relay.function.stop() == 0
        finally:
            senders.stopped.set()
    assert {status for _, status in senders.responses} == {200}
    # Every event that reached the provider has a response, and the provider has no other event.
    reached = {path.removeprefix("/datasets/") for path in provider.requests}
    assert reached == {dataset for dataset, _ in senders.responses}
    assert not reached & set(senders.without_response)
    assert relay.log_text().count('"outcome": "delivered"') == len(senders.responses)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` is true, and fail if that takes too long."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.02)


# Callers that neither read nor close

GET_HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n"


def get_health(relay: Relay) -> None:
    """Send GET /health on a new connection, and check the response.

    Raises:
        requests.Timeout: No response arrives within TIMEOUT.
    """
    assert requests.get(f"{relay.url}/health", timeout=TIMEOUT).status_code == 200


@contextmanager
def open_connections(relay: Relay, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Open connections, and send bytes on each of them without reading anything."""
    connections = [connect(relay) for _ in range(count)]
    for connection in connections:
        connection.setblocking(False)
        with suppress(BlockingIOError):
            connection.send(sent)
        connection.settimeout(TIMEOUT)
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def wait_until_idle(relay: Relay) -> None:
    """Wait until the function uses no CPU time, because all its threads wait."""
    used = -1.0
    while cpu_seconds(relay) - used > 0.05:
        used = cpu_seconds(relay)
        time.sleep(0.5)


def test_caller_that_reads_nothing_does_not_occupy_a_thread_forever(launch: Launch) -> None:
    relay = launch(THREADS="4", RELAY_DEADLINE_SECONDS="3")
    # On each thread: more responses than the buffers of a connection have room for. No authentication is necessary.
    with open_connections(relay, 4, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400):
        wait_until_idle(relay)
        # All threads wait for the callers. So this response comes only if the function gives up on them.
        get_health(relay)
        get_health(relay)


#: Requests after whose response the server closes the connection.
LAST_REQUESTS = [
    GET_HEALTH + b"Connection: close\r\n\r\n",
    GET_HEALTH + b"Connection: te, close\r\n\r\n",
    b"GET /health HTTP/1.0\r\n\r\n",
    b"GET /health HTTP/1.0\r\nConnection: keep-alive, te\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /robots.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
]


@pytest.mark.parametrize("request_", LAST_REQUESTS)
def test_caller_that_does_not_close_stops_no_other_request(launch: Launch, request_: bytes) -> None:
    relay = launch(THREADS="4")
    # gunicorn waits for the close of each of these callers for 2 s, in the one thread that accepts all connections. If
    # the function left the close to gunicorn, the next response would come only after TIMEOUT.
    with open_connections(relay, 40, request_) as connections:
        for connection in connections:
            assert connection.recv(1, socket.MSG_PEEK)
        for _ in range(3):
            get_health(relay)
        for connection in connections:
            assert receive_until_closed(connection).startswith(b"HTTP/1.")


def test_caller_with_http_1_0_and_keep_alive_keeps_the_connection(relay: Relay) -> None:
    with connect(relay) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            received = b""
            while not is_complete(received):
                received += connection.recv(65536)
            assert b"Connection: keep-alive" in received


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1000", b"Content-Length: 1000000", b"Transfer-Encoding: chunked"]
)
def test_caller_that_drips_an_unwanted_body_gets_the_response_at_once(launch: Launch, framing: bytes) -> None:
    # If the function waited for the body, the response would come only after TIMEOUT.
    relay = launch(THREADS="4", RELAY_DEADLINE_SECONDS=LONG_DEADLINE)
    over = threading.Event()
    with open_connections(relay, 6, b"POST /nowhere HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n") as connections:

        def drip() -> None:
            while not over.wait(0.1):
                for connection in connections:
                    with suppress(OSError):
                        connection.send(b"0")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            for _ in range(3):
                get_health(relay)
            for connection in connections:
                assert connection.recv(20).startswith(b"HTTP/1.1 404 ")
        finally:
            over.set()
            dripping.join()


# Requests that are refused before their body has arrived


@pytest.mark.parametrize("size", [900_000, 1_050_000])
def test_unwanted_body_does_not_lose_the_response(relay: Relay, size: int) -> None:
    # The function reads these bodies, before or after the response. Otherwise, the system would reset the connection.
    for _ in range(5):
        with connect(relay) as connection:
            head = f"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
            connection.sendall(head.encode() + b"x" * size)
            assert b"HTTP/1.1 404 " in connection.recv(65536)


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("size", [3, 60_000, 100_000, 900_000])
def test_unwanted_body_does_not_end_the_connection(relay: Relay, size: int, is_chunked: bool) -> None:
    event = {"provider": "data.world", "dataset": relay.data_world_dataset(), "update": {"title": "x"}}
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(10):
            body = iter([b"x" * size]) if is_chunked else b"x" * size
            refused = session.post(f"{relay.url}/nowhere", body, headers=relay.bearer, timeout=TIMEOUT)
            assert (refused.status_code, refused.headers["Connection"]) == (404, "keep-alive")
            accepted = session.post(relay.url, json=event, headers=relay.bearer, timeout=TIMEOUT)
            assert accepted.status_code == 200


@pytest.mark.parametrize("is_chunked", [False, True])
def test_body_over_the_limit_ends_only_its_own_connection(relay: Relay, is_chunked: bool) -> None:
    # The function can't announce the end, so that another request on this connection could fail.
    for _ in range(10):
        body = iter([b"x" * 2_000_000]) if is_chunked else b"x" * 2_000_000
        refused = requests.post(relay.url, body, headers=relay.bearer, timeout=TIMEOUT)
        assert refused.status_code == 413
        assert relay.post(relay.apify_event()).status_code == 200


CHUNKED_HEAD = b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

#: Requests that end their connection, or that have a body that no route needs.
FIRST_REQUESTS = [
    b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
    b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1100000\r\n\r\n" + b"x" * 1_100_000,
    CHUNKED_HEAD + b"5\r\nhello\r\n0\r\n\r\n",
    CHUNKED_HEAD + b"f4300\r\n" + b"x" * 1_000_192 + b"\r\n0\r\n\r\n",
    GET_HEALTH + b"Connection: close\r\n\r\n",
    GET_HEALTH + b"Connection: te, close\r\n\r\n",
]


def test_request_behind_a_refused_request_is_never_carried_out_in_silence(launch: Launch) -> None:
    relay = launch(RELAY_DEADLINE_SECONDS=LONG_DEADLINE)
    responses: dict[str, int] = {}
    for first in FIRST_REQUESTS:
        dataset = relay.data_world_dataset()
        event = json.dumps({"provider": "data.world", "dataset": dataset, "update": {"title": "x"}}).encode()
        head = (
            f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {relay.cloud.relay_secret}\r\n"
            f"Content-Type: {JSON_TYPE}\r\nContent-Length: {len(event)}\r\n\r\n"
        )
        with connect(relay) as connection:
            # The function can close the connection at once. The end of the caller's side ends it in any case.
            with suppress(OSError):
                connection.sendall(first + head.encode() + event)
                connection.shutdown(socket.SHUT_WR)
            responses[dataset] = receive_until_closed(connection).count(b"Dataset successfully updated.")
    # The function ends only after the end of every request.
    assert relay.function.stop() == 0
    assert {dataset: len(relay.cloud.data_world.seen(f"/datasets/{dataset}")) for dataset in responses} == responses
