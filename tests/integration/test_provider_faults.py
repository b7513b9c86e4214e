"""Tests of faults of a provider: whatever a provider does, the sender gets the documented response."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.local.cloud import Cloud
from tests.support.certificates import create_certificate, server_context
from tests.support.misbehaving import (
    OK,
    Behavior,
    MisbehavingProvider,
    full_backlog,
    http_response,
    reset,
    send,
    send_and_close,
)
from tests.support.open_sockets import count_client_sockets
from tests.support.relay import Launch, Relay, assert_problem, in_variables, running, unique
from tests.support.worker import count_threads_and_files, cpu_seconds, peak_memory

#: The deadline of the function that gives up, in seconds.
DEADLINE = 2.0
#: A deadline that passes in no test, in seconds. The test's own client waits only 60 s for a response.
LONG_DEADLINE = "100"


@pytest.fixture(scope="module")
def provider() -> Iterator[MisbehavingProvider]:
    """Run a provider that does whatever a test needs."""
    started = MisbehavingProvider().start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def settings(cloud: Cloud, provider: MisbehavingProvider) -> dict[str, str]:
    """Return the settings of a function whose Apify is `provider`."""
    return {**cloud.settings(), **in_variables(cloud), "APIFY_BASE_URL": provider.url, "THREADS": "16"}


@pytest.fixture(scope="module")
def impatient(cloud: Cloud, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function with a short deadline, for the faults that last until the deadline."""
    with running(
        cloud, {**settings, "RELAY_DEADLINE_SECONDS": str(DEADLINE)}, tmp_path_factory.mktemp("impatient")
    ) as started:
        yield started


@pytest.fixture(scope="module")
def patient(cloud: Cloud, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function with a long deadline.

    If the function waited for this deadline, the client of the test would not receive the response.
    """
    with running(
        cloud, {**settings, "RELAY_DEADLINE_SECONDS": LONG_DEADLINE}, tmp_path_factory.mktemp("patient")
    ) as started:
        yield started


@dataclass(frozen=True)
class Outcome:
    """The response to an event, the seconds until the response, and the number of requests to the provider."""

    response: requests.Response
    seconds: float
    requests: int
    attempts: int | None


def create_event(dataset: str) -> dict[str, Any]:
    """Return an event for a dataset of Apify."""
    return {"provider": "apify", "dataset": dataset, "update": {"generalAccess": "RESTRICTED"}}


def send_event(relay: Relay, provider: MisbehavingProvider, behave: Behavior) -> Outcome:
    """Send an event for a dataset with which the provider behaves in this way."""
    dataset = unique("x").replace("-", "")
    path = f"/datasets/{dataset}"
    provider.behaviors[path] = behave
    started = time.monotonic()
    response = relay.post(create_event(dataset))
    seconds = time.monotonic() - started
    attempts = relay.logged(response.headers["Relay-Delivery"]).get("attempts")
    return Outcome(response, seconds, provider.attempts[path], attempts)


def assert_healthy(relay: Relay) -> None:
    """Check that an event succeeds, whatever has happened before."""
    assert relay.post(create_event("healthy")).status_code == 200


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` is true, and fail if that takes a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.05)


# Responses that never end


# In seconds. libcurl rejects a chunk length of more than 17 digits, which must not arrive before the deadline.
DROP_INTERVAL = 0.2


def hang(_connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
    stopped.wait()


def send_and_hang(part: bytes) -> Behavior:
    """Return a behavior that sends a part of a response, and keeps the connection open."""

    def behave(connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
        connection.sendall(part)
        stopped.wait()

    return behave


def drip(beginning: bytes, drop: bytes) -> Behavior:
    """Return a behavior that sends the beginning of a response, and then a few bytes again and again."""

    def behave(connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
        connection.sendall(beginning)
        while not stopped.wait(DROP_INTERVAL):
            connection.sendall(drop)

    return behave


ENDLESS = {
    "no response": hang,
    "stalled body": send_and_hang(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"),
    "stalled body with Connection: close": send_and_hang(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n{"
    ),
    "stalled error": send_and_hang(b"HTTP/1.1 500 Down\r\nContent-Length: 1000\r\n\r\n{"),
    "dripping status line": drip(b"HTTP/1.1 200 ", b"O"),
    "dripping header": drip(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "dripping headers": drip(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "dripping body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "),
    "dripping body without length": drip(b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "dripping body with Connection: close": drip(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n", b" "
    ),
    "dripping chunk length": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "dripping chunks": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "endless 100 Continue": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless 103 Early Hints": drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "101 Switching Protocols": send_and_hang(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
}


@pytest.mark.parametrize("fault", ENDLESS)
def test_provider_endless_response_is_504_at_the_deadline(
    impatient: Relay, provider: MisbehavingProvider, fault: str
) -> None:
    assert_healthy(impatient)
    # The provider stops only after the last test. So the response comes while the provider's own response goes on.
    outcome = send_event(impatient, provider, ENDLESS[fault])
    assert_problem(outcome.response, 504, "deadline-exceeded", retryable=True)
    assert outcome.seconds >= DEADLINE - 0.1
    assert (outcome.requests, outcome.attempts) == (1, 1)


def test_provider_endless_redirect_is_reported_as_a_redirect(impatient: Relay, provider: MisbehavingProvider) -> None:
    # The body of a redirect has no use.
    part = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 100\r\n\r\n{"
    outcome = send_event(impatient, provider, send_and_hang(part))
    assert_problem(outcome.response, 502, "upstream-redirected")
    assert outcome.requests == 1


def test_provider_that_reads_nothing_is_504_at_the_deadline(launch: Launch, cloud: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        relay = launch(
            DATA_WORLD_BASE_URL=f"http://127.0.0.1:{deaf.getsockname()[1]}",
            RELAY_DEADLINE_SECONDS=str(DEADLINE),
            RELAY_MAX_BODY_BYTES="20000000",
            **in_variables(cloud),
        )
        # The buffers of the kernel have less room than this.
        update = {"properties": {"x": "x" * 15_000_000}}
        response = relay.post({"provider": "data.world", "dataset": "acme/products", "update": update})
        assert_problem(response, 504, "deadline-exceeded", retryable=True)


# Faults that another attempt can overcome

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

#: The behavior of the provider, and the status and the problem if the fault lasts until the deadline.
TRANSIENT: dict[str, tuple[Behavior, int, str]] = {
    **{
        f"status {status}": (send(http_response(status)), 502, "upstream-failed")
        for status in (408, 500, 503, 504, 599)
    },
    "status 429": (send(http_response(429)), 429, "upstream-rate-limited"),
    **{
        f"Retry-After: {wait}": (send(http_response(429, b"{}", f"Retry-After: {wait}")), 429, "upstream-rate-limited")
        for wait in ("Wed, 21 Oct 2026 07:28:00 +99999999999999999999", "soon", "-1")
    },
    "closed connection": (send_and_close(b""), 502, "upstream-unreachable"),
    "reset connection": (lambda connection, _attempt, _stopped: reset(connection), 502, "upstream-unreachable"),
    "broken status line": (send_and_close(b"HTTP/1.1 200"), 502, "upstream-unreachable"),
    "broken headers": (send_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), 502, "upstream-unreachable"),
    "only an interim response": (send_and_close(b"HTTP/1.1 103 Early Hints\r\n\r\n"), 502, "upstream-unreachable"),
    "broken body": (send_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"), 502, "upstream-failed"),
    "broken body that is JSON": (
        send_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}"),
        502,
        "upstream-failed",
    ),
    "broken chunk": (send_and_close(CHUNKED + b"5\r\n{}"), 502, "upstream-failed"),
    "missing last chunk": (send_and_close(CHUNKED + b"2\r\n{}\r\n"), 502, "upstream-failed"),
}


@pytest.mark.parametrize("fault", TRANSIENT)
def test_provider_transient_fault_is_retried_until_the_deadline(
    impatient: Relay, provider: MisbehavingProvider, fault: str
) -> None:
    assert_healthy(impatient)
    behave, status, name = TRANSIENT[fault]
    outcome = send_event(impatient, provider, behave)
    assert_problem(outcome.response, status, name, retryable=True)
    # No header of the response repeats an invalid Retry-After.
    assert "Retry-After" not in outcome.response.headers
    assert outcome.attempts is not None
    assert outcome.attempts >= 2
    # On a dead idle connection, libcurl sends the request of one attempt twice.
    assert outcome.attempts <= outcome.requests <= 2 * outcome.attempts
    # The last attempt ends the retries if the rest of the time is shorter than the attempt.
    assert outcome.seconds >= DEADLINE / 2


@pytest.mark.parametrize("fault", TRANSIENT)
def test_provider_transient_fault_that_ends_is_a_success(
    patient: Relay, provider: MisbehavingProvider, fault: str
) -> None:
    behave, _, _ = TRANSIENT[fault]

    def behave_twice(connection: socket.socket, attempt: int, stopped: threading.Event) -> None:
        if attempt <= 2:
            behave(connection, attempt, stopped)
        else:
            connection.sendall(OK)

    outcome = send_event(patient, provider, behave_twice)
    assert (outcome.response.status_code, outcome.response.json(), outcome.requests) == (200, {}, 3)


@pytest.mark.parametrize("status", [429, 503])
def test_provider_retry_after_in_seconds_is_waited_for(
    patient: Relay, provider: MisbehavingProvider, status: int
) -> None:
    moments: list[float] = []

    def limit_once(connection: socket.socket, attempt: int, _stopped: threading.Event) -> None:
        moments.append(time.monotonic())
        connection.sendall(http_response(status, b"{}", "Retry-After: 1") if attempt == 1 else OK)

    outcome = send_event(patient, provider, limit_once)
    assert (outcome.response.status_code, outcome.requests) == (200, 2)
    assert moments[1] - moments[0] >= 1.0


@pytest.mark.parametrize("status", [429, 503])
def test_provider_retry_after_as_date_is_waited_for(patient: Relay, provider: MisbehavingProvider, status: int) -> None:
    moments: list[float] = []

    def limit_once(connection: socket.socket, attempt: int, _stopped: threading.Event) -> None:
        moments.append(time.time())
        # A date has no fractions of a second: this date is at least half a second from now.
        date = formatdate(time.time() + 1.5, usegmt=True)
        connection.sendall(http_response(status, b"{}", f"Retry-After: {date}") if attempt == 1 else OK)

    outcome = send_event(patient, provider, limit_once)
    assert (outcome.response.status_code, outcome.requests) == (200, 2)
    assert moments[1] - moments[0] >= 0.4


def test_provider_retry_after_in_the_past_is_no_wait(patient: Relay, provider: MisbehavingProvider) -> None:
    past = http_response(429, b"{}", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT")
    outcome = send_event(patient, provider, send(past, OK))
    assert (outcome.response.status_code, outcome.requests) == (200, 2)


# Faults that a retry can't help


def not_http(content: bytes) -> tuple[Behavior, int, str, bool]:
    """Return a fault for `content` in the place of a response."""
    return send_and_close(content), 502, "upstream-failed", True


#: The behavior of the provider, the status, the problem, and whether the problem is retryable.
PERMANENT: dict[str, tuple[Behavior, int, str, bool]] = {
    **{
        f"status {status}": (send(http_response(status)), status, "upstream-rejected", False)
        for status in (400, 402, 404, 405, 409, 410, 413, 415, 422)
    },
    **{
        f"status {status}": (send(http_response(status)), 502, "upstream-denied", False)
        for status in (401, 403, 406, 451)
    },
    **{
        f"status {status}": (
            send(http_response(status, b"", "Location: http://127.0.0.1:1/elsewhere")),
            502,
            "upstream-redirected",
            False,
        )
        for status in (301, 302, 303, 307, 308)
    },
    "broken redirect": (
        send_and_close(b"HTTP/1.1 302 Found\r\nLocation: http://[bad\r\nContent-Length: 100\r\n\r\n{"),
        502,
        "upstream-redirected",
        False,
    ),
    "status 429 with a long wait": (
        send(http_response(429, b"{}", "Retry-After: 1000")),
        429,
        "upstream-rate-limited",
        True,
    ),
    "status 503 with a long wait": (
        send(http_response(503, b"{}", "Retry-After: 1000")),
        502,
        "upstream-failed",
        True,
    ),
    "page": (send(http_response(200, b"<html>It works!</html>")), 502, "upstream-failed", True),
    "broken JSON": (send(http_response(200, b'{"a": ')), 502, "upstream-failed", True),
    "deeply nested JSON": (send(http_response(200, b"[" * 100_000)), 502, "upstream-failed", True),
    "a million values": (send(http_response(200, b"[" + b"1," * 999_999 + b"1]")), 502, "upstream-failed", True),
    "wrong encoding": (send(http_response(200, b"{}", "Content-Encoding: gzip")), 502, "upstream-failed", True),
    "unknown encoding": (send(http_response(200, b"{}", "Content-Encoding: x")), 502, "upstream-failed", True),
    "announced gigabyte": (
        send_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b" " * 11_000_000),
        502,
        "upstream-failed",
        True,
    ),
    "50 MB in 50 kB": (
        send(http_response(200, gzip.compress(b" " * 50_000_000), "Content-Encoding: gzip")),
        502,
        "upstream-failed",
        True,
    ),
    "another protocol": not_http(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "HTTP/0.9": not_http(b"{}"),
    "HTTP/9.9": not_http(b"HTTP/9.9 200 OK\r\n\r\n{}"),
    "status line without status": not_http(b"HTTP/1.1 OK\r\n\r\n{}"),
    "status 000": not_http(b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\n{}"),
    "two lengths": not_http(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "negative length": not_http(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}"),
    "header without colon": not_http(b"HTTP/1.1 200 OK\r\nbroken\r\nContent-Length: 2\r\n\r\n{}"),
    "NUL in a header": not_http(b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\n{}"),
    "unknown framing": not_http(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n{}"),
    "unexpected 101": not_http(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    "malformed chunk length": not_http(CHUNKED + b"zz\r\n"),
    "malformed chunk end": not_http(CHUNKED + b"2\r\n{}xx0\r\n\r\n"),
    "huge chunk": not_http(CHUNKED + b"fffffffffffffffff\r\n{}"),
    "malformed chunk of an error": not_http(CHUNKED.replace(b"200 OK", b"500 Down") + b"zz\r\n"),
    "two lengths of an error": not_http(b"HTTP/1.1 500 Down\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
}


@pytest.mark.parametrize("fault", PERMANENT)
def test_provider_permanent_fault_is_reported_at_once(
    patient: Relay, provider: MisbehavingProvider, fault: str
) -> None:
    behave, status, name, retryable = PERMANENT[fault]
    outcome = send_event(patient, provider, behave)
    assert_problem(outcome.response, status, name, retryable=retryable)
    assert (outcome.requests, outcome.attempts) == (1, 1)
    assert outcome.response.headers.get("Retry-After") == ("1000" if "long wait" in fault else None)


@pytest.mark.parametrize(
    "headers", [b"a: " + b"b" * 400_000 + b"\r\n", b"a: b\r\n" * 10_000], ids=["long header", "many headers"]
)
def test_provider_response_with_too_much_in_its_head_fails_at_once(
    patient: Relay, provider: MisbehavingProvider, headers: bytes
) -> None:
    outcome = send_event(patient, provider, send(b"HTTP/1.1 200 OK\r\n" + headers + b"Content-Length: 2\r\n\r\n{}"))
    assert_problem(outcome.response, 502, "upstream-failed", retryable=True)
    assert (outcome.requests, outcome.attempts) == (1, 1)


# Unusual responses that are valid

UNUSUAL = {
    "HTTP/1.0": send_and_close(b"HTTP/1.0 200 OK\r\n\r\n{}"),
    "neither length nor chunks": send_and_close(b"HTTP/1.1 200 OK\r\n\r\n{}"),
    "no reason": send(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}"),
    "lines that end in a line feed": send(b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"),
    "folded header": send(b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}"),
    "header of 50 kB": send(http_response(200, b"{}", f"a: {'b' * 50_000}")),
    "a thousand headers": send(http_response(200, b"{}", *["a: b"] * 1000)),
    "length and chunks": send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    ),
    "length twice": send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
    "list of equal lengths": send(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}"),
    "chunks twice": send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    ),
    "chunk with an extension, and a trailer": send(CHUNKED + b"2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n"),
    "header without a name": send(http_response(200, b"{}", ": x")),
    "version in lowercase": send(b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    "byte order mark": send(http_response(200, b"\xef\xbb\xbf{}")),
    "interim responses": send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK),
    "surplus bytes": send(OK + b"surplus"),
    "gzip": send(http_response(200, gzip.compress(b"{}"), "Content-Encoding: gzip")),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_provider_unusual_response_is_a_success(patient: Relay, provider: MisbehavingProvider, case: str) -> None:
    outcome = send_event(patient, provider, UNUSUAL[case])
    assert (outcome.response.status_code, outcome.response.json(), outcome.requests) == (200, {}, 1)


@pytest.mark.parametrize("status", [204, 205])
def test_provider_status_without_content_ignores_the_body(
    patient: Relay, provider: MisbehavingProvider, status: int
) -> None:
    outcome = send_event(patient, provider, send(http_response(status, b"" if status == 205 else b"{}")))
    assert (outcome.response.status_code, outcome.response.content, outcome.requests) == (status, b"", 1)
    assert_healthy(patient)


# Updates that must not be repeated


def post_event(dataset: str) -> dict[str, Any]:
    """Return an event that makes data.world send a POST request to a third party."""
    source = {"url": "https://example.com/export", "method": "POST"}
    return {
        "provider": "data.world",
        "dataset": f"acme/{dataset}",
        "update": {"files": [{"name": "a.csv", "source": source}]},
    }


UNKNOWN_OUTCOMES: dict[str, Behavior] = {
    **{name: behave for name, (behave, _, _) in TRANSIENT.items() if "429" not in name and "Retry-After" not in name},
    "status 503 with a wait": send(http_response(503, b"{}", "Retry-After: 1")),
    "no response": hang,
    "page": send(http_response(200, b"<html>It works!</html>")),
    "another protocol": send(b"SSH-2.0-OpenSSH_9.2\r\n"),
}


@pytest.fixture(scope="module")
def data_world(
    cloud: Cloud, settings: dict[str, str], provider: MisbehavingProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Relay]:
    """Run a function whose data.world is `provider`."""
    changes = {"DATA_WORLD_BASE_URL": provider.url, "RELAY_DEADLINE_SECONDS": str(DEADLINE)}
    with running(cloud, {**settings, **changes}, tmp_path_factory.mktemp("data-world")) as started:
        yield started


@pytest.mark.parametrize("fault", UNKNOWN_OUTCOMES)
def test_post_update_with_unknown_outcome_is_sent_once(
    data_world: Relay, provider: MisbehavingProvider, fault: str
) -> None:
    # This event leaves an idle connection, on which libcurl would repeat a request.
    fine = {"provider": "data.world", "dataset": "acme/healthy", "update": {"title": "x"}}
    assert data_world.post(fine).status_code == 200
    dataset = unique("x")
    path = f"/datasets/acme/{dataset}"
    provider.behaviors[path] = UNKNOWN_OUTCOMES[fault]
    response = data_world.post(post_event(dataset))
    problem = assert_problem(response, 502, "upstream-outcome-unknown", retryable=False)
    assert "Retry-After" not in response.headers
    assert "Check the result of the action" in problem["detail"]
    assert provider.attempts[path] == 1


def test_post_update_after_429_is_retried(data_world: Relay, provider: MisbehavingProvider) -> None:
    dataset = unique("x")
    path = f"/datasets/acme/{dataset}"
    provider.behaviors[path] = send(http_response(429), OK)
    assert data_world.post(post_event(dataset)).status_code == 200
    assert provider.attempts[path] == 2


# Outages


def test_provider_outage_limits_the_calls_of_all_events(launch: Launch, cloud: Cloud) -> None:
    provider = MisbehavingProvider(default=send(http_response(500))).start()
    relay = launch(APIFY_BASE_URL=provider.url, RELAY_DEADLINE_SECONDS="2", THREADS="8", **in_variables(cloud))
    assert relay.post(create_event("x")).status_code == 502
    assert provider.request_count > 1
    begin = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        while time.monotonic() - begin < 5.5:
            list(pool.map(relay.post, [create_event("x")] * 4))
        before = provider.request_count
        statuses = list(pool.map(lambda _: relay.post(create_event("x")).status_code, range(40)))
    assert statuses == [502] * 40
    # The events before these can leave a part of a retry.
    assert 40 <= provider.request_count - before <= 48
    # A success ends the outage.
    provider.default = send(OK)
    assert relay.post(create_event("x")).status_code == 200
    provider.behaviors["/datasets/y"] = send(http_response(500), http_response(500), OK)
    assert relay.post(create_event("y")).status_code == 200
    provider.stop()


# The causes in the log


def test_rejected_token_is_logged_with_its_setting(patient: Relay, provider: MisbehavingProvider) -> None:
    provider.behaviors["/datasets/denied"] = send(http_response(403))
    response = patient.post(create_event("denied"))
    problem = assert_problem(response, 502, "upstream-denied")
    assert "APIFY_TOKEN" not in problem["detail"]
    message = patient.logged(response.headers["Relay-Delivery"])["message"]
    assert "Apify returned 403. The token comes from APIFY_TOKEN. Check that the token is valid" in message


@pytest.mark.parametrize(
    ("base_url", "cause"),
    [
        ("https://no-such-host.invalid", "name not found"),
        ("http://127.0.0.1:1", "connection refused"),
        ("TLS", "certificate"),
        ("full", "timeout"),
    ],
)
def test_unreachable_provider_is_logged_with_the_cause(
    launch: Launch, cloud: Cloud, tmp_path: Path, base_url: str, cause: str
) -> None:
    with ExitStack() as stack:
        if base_url == "full":
            base_url = f"http://127.0.0.1:{stack.enter_context(full_backlog())}"
        elif base_url == "TLS":
            untrusted = MisbehavingProvider(tls=server_context(create_certificate(tmp_path, "127.0.0.1"))).start()
            stack.callback(untrusted.stop)
            base_url = untrusted.url
        relay = launch(APIFY_BASE_URL=base_url, RELAY_DEADLINE_SECONDS="2", **in_variables(cloud))
        response = relay.post(create_event("x"))
        assert_problem(response, 502, "upstream-unreachable", retryable=True)
        message = relay.logged(response.headers["Relay-Delivery"])["message"]
        assert cause in message
        assert "127.0.0.1" not in message


# Providers that are away


def test_provider_that_is_away_is_retried_until_it_is_back(launch: Launch, cloud: Cloud) -> None:
    # The socket reserves the port, and refuses connections.
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        in_use = {"APIFY_BASE_URL": f"http://127.0.0.1:{port}", **in_variables(cloud)}
        relay = launch(RELAY_DEADLINE_SECONDS=str(DEADLINE), **in_use)
        started = time.monotonic()
        response = relay.post(create_event("x"))
        assert time.monotonic() - started >= DEADLINE / 2
        problem = assert_problem(response, 502, "upstream-unreachable", retryable=True)
        assert "127.0.0.1" not in problem["detail"]
        assert relay.logged(response.headers["Relay-Delivery"])["attempts"] >= 2
        patient = launch(RELAY_DEADLINE_SECONDS=LONG_DEADLINE, **in_use)
        provider = MisbehavingProvider()
        start = threading.Timer(1, lambda: provider.start(port))
        start.start()
        response = patient.post(create_event("x"))
        assert (response.status_code, response.json()) == (200, {})
        start.join()
        provider.stop()


def test_provider_address_that_drops_every_packet_is_unreachable(launch: Launch, cloud: Cloud) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # The queue of new connections is full, so that the kernel drops the packets of further connections.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        relay = launch(
            APIFY_BASE_URL=f"http://127.0.0.1:{full.getsockname()[1]}",
            RELAY_DEADLINE_SECONDS=str(DEADLINE),
            **in_variables(cloud),
        )
        assert_problem(relay.post(create_event("x")), 502, "upstream-unreachable", retryable=True)
        for filler in fillers:
            filler.close()


# The cost of faults


def test_provider_compressed_half_gigabyte_needs_little_memory(
    launch: Launch, provider: MisbehavingProvider, settings: dict[str, str]
) -> None:
    relay = launch(**settings, RELAY_DEADLINE_SECONDS=LONG_DEADLINE)
    assert_healthy(relay)
    before = peak_memory(relay)
    bomb = http_response(200, gzip.compress(b" " * 500_000_000, compresslevel=1), "Content-Encoding: gzip")
    outcome = send_event(relay, provider, send(bomb))
    assert_problem(outcome.response, 502, "upstream-failed", retryable=True)
    assert peak_memory(relay) - before < 60_000


#: The content of a response of 10 MB that is expensive to read.
DENSE = {
    "lists": b"[" + b"[]," * 3_300_000 + b"[]]",
    "objects": b"[" + b'{"a":1},' * 1_200_000 + b"1]",
    "encoded strings": b"[" + b'"%41",' * 1_600_000 + b"1]",
    "encoded string": b'"' + b"%41," * 2_400_000 + b'"',
}


@pytest.mark.parametrize("content", DENSE)
@pytest.mark.parametrize("deadline", [str(DEADLINE), LONG_DEADLINE])
def test_provider_six_large_responses_need_little_time_and_memory(
    launch: Launch, provider: MisbehavingProvider, settings: dict[str, str], content: str, deadline: str
) -> None:
    def send_last_byte_late(connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
        response = http_response(200, DENSE[content])
        connection.sendall(response[:-1])
        # With the short deadline, the rest of the time is too short for reading the response.
        stopped.wait(DEADLINE * 0.85)
        connection.sendall(response[-1:])

    relay = launch(**settings, RELAY_DEADLINE_SECONDS=deadline)
    assert_healthy(relay)
    memory, cpu = peak_memory(relay), cpu_seconds(relay)
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda _: send_event(relay, provider, send_last_byte_late), range(6)))
    assert {outcome.response.status_code for outcome in outcomes} <= {200, 502, 504}
    assert peak_memory(relay) - memory < 130_000
    # Reading these responses takes a fraction of this time. The CPU time doesn't depend on other processes.
    assert cpu_seconds(relay) - cpu < 10


def test_provider_faults_leave_neither_threads_nor_files(
    launch: Launch, provider: MisbehavingProvider, settings: dict[str, str]
) -> None:
    relay = launch(**settings, RELAY_DEADLINE_SECONDS=str(DEADLINE))
    behaviors = [*list(ENDLESS.values())[:10], *[behave for behave, _, _ in TRANSIENT.values()][-10:]]
    port = int(provider.url.rpartition(":")[2])

    def cause_faults() -> None:
        with ThreadPoolExecutor(10) as pool:
            statuses = set(pool.map(lambda behave: send_event(relay, provider, behave).response.status_code, behaviors))
        assert statuses <= {429, 502, 504}
        # The function closes an idle connection that the provider has closed.
        for connection in provider.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def count() -> tuple[int, int]:
        return count_threads_and_files(relay)

    # The first faults start the threads that stay.
    cause_faults()
    wait_until(lambda: count_client_sockets(port).total() == 0)
    before = count()
    for _ in range(2):
        cause_faults()
    wait_until(lambda: count()[0] <= before[0] and count()[1] <= before[1])
