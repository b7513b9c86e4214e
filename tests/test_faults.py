"""Whatever a platform does, the sender gets the answer that was promised, in the time that was promised.

With FAULT_TABLE=FILE what was seen is written there, a row of Markdown a fault.
"""

import gzip
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests

from deploy.local.cloud import Cloud, free_port
from tests.conftest import Launch, Relay, assert_problem, in_variables, running, unique
from tests.misbehaving import OK, Behave, Misbehaving, answer, reset, says

DEADLINE = 2.0
#: What an answer may take beyond the deadline, in seconds.
GRACE = 0.5


@pytest.fixture(scope="module")
def platform() -> Iterator[Misbehaving]:
    started = Misbehaving().start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def strained(cloud: Cloud, platform: Misbehaving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A function whose Apify is `platform`."""
    settings = {
        **cloud.settings(),
        **in_variables(cloud),
        "APIFY_BASE_URL": platform.url,
        "RELAY_DEADLINE_SECONDS": str(DEADLINE),
        "THREADS": "16",
    }
    with running(cloud, settings, tmp_path_factory.mktemp("strained")) as started:
        yield started


def event(dataset: str, **update: Any) -> dict[str, Any]:
    return {"provider": "apify", "dataset": dataset, "update": update or {"generalAccess": "RESTRICTED"}}


@dataclass(frozen=True)
class Seen:
    answer: requests.Response
    seconds: float
    tries: int


def send(relay: Relay, platform: Misbehaving, behave: Behave, body: dict[str, Any] | None = None) -> Seen:
    """Sends an event for a dataset of its own, with which the platform does this."""
    dataset = unique("x").replace("-", "")
    path = f"/datasets/{dataset}"
    platform.behaviours[path] = behave
    began = time.monotonic()
    got = relay.post(body or event(dataset))
    return Seen(got, time.monotonic() - began, platform.tries[path])


def tell(fault: str, promised: str, seen: Seen) -> None:
    """A row of the fault table, if one is wanted."""
    if path := os.environ.get("FAULT_TABLE"):
        problem = seen.answer.json() if seen.answer.content else {}
        name = str(problem.get("type", "")).rpartition(":")[2] if isinstance(problem, dict) else ""
        with Path(path).open("a") as table:
            table.write(
                f"| {fault} | {promised} | {seen.answer.status_code} {name}, "
                f"{seen.tries} {'try' if seen.tries == 1 else 'tries'} | {seen.seconds:.2f} s |\n"
            )


def hang(_connection: socket.socket, _attempt: int, over: threading.Event) -> None:
    over.wait(30)


def stall(connection: socket.socket, _attempt: int, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    over.wait(30)


def stall_closing(connection: socket.socket, _attempt: int, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n{")
    over.wait(30)


def dripping(head: bytes, drop: bytes) -> Behave:
    def behave(connection: socket.socket, _attempt: int, over: threading.Event) -> None:
        connection.sendall(head)
        while not over.wait(0.1):
            connection.sendall(drop)

    return behave


FOR_EVER = {
    "hangs before it answers": hang,
    "stalls within its answer": stall,
    "announces that it will close, and stalls": stall_closing,
    "drips its status line": dripping(b"HTTP/1.1 200 ", b"O"),
    "drips a header": dripping(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "drips headers": dripping(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "drips its body": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "),
    "drips a body without end": dripping(b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "drips a body, announcing that it will close": dripping(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n", b" "
    ),
    "drips a chunk's length": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "drips chunks": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "says 100 Continue for ever": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "gives early hints for ever": dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


@pytest.mark.parametrize("fault", FOR_EVER)
def test_a_platform_that_takes_for_ever(strained: Relay, platform: Misbehaving, fault: str) -> None:
    seen = send(strained, platform, FOR_EVER[fault])
    tell(f"platform {fault}", "504 by the deadline", seen)
    assert_problem(seen.answer, 504, "time-up", retryable=True)
    assert DEADLINE - 0.1 < seen.seconds < DEADLINE + GRACE
    assert seen.tries == 1


def test_a_platform_that_does_not_read_is_not_written_to_for_ever(launch: Launch, cloud: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        relay = launch(
            DATA_WORLD_BASE_URL=f"http://127.0.0.1:{deaf.getsockname()[1]}",
            RELAY_DEADLINE_SECONDS=str(DEADLINE),
            RELAY_MAX_BODY_BYTES="20000000",
            **in_variables(cloud),
        )
        body = {"provider": "data.world", "dataset": "acme/products", "update": {"properties": {"x": "x" * 15_000_000}}}
        relay.post(body, path="/?dry_run=true")
        began = time.monotonic()
        seen = Seen(relay.post(body), time.monotonic() - began, 1)
        tell("platform does not read what it is sent (15 MB)", "504 by the deadline", seen)
        assert_problem(seen.answer, 504, "time-up", retryable=True)
        # Fifteen megabytes are read and judged before and after.
        assert time.monotonic() - began < DEADLINE + GRACE + 1


def worker(relay: Relay) -> Path:
    """What the system says of the process that serves."""
    pid = relay.function.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return Path(f"/proc/{child}")


def peak(relay: Relay) -> int:
    """The most memory that it ever had, in kB."""
    (line,) = [each for each in (worker(relay) / "status").read_text().splitlines() if "VmHWM" in each]
    return int(line.split()[1])


def test_nothing_is_left_behind(strained: Relay, platform: Misbehaving) -> None:
    """Neither a thread nor an open file, whatever a call came to."""

    def left() -> tuple[int, int]:
        return tuple(len(list((worker(strained) / each).iterdir())) for each in ("task", "fd"))  # type: ignore[return-value]

    def burst(behaviours: list[Behave]) -> set[int]:
        with ThreadPoolExecutor(10) as pool:
            return {each.answer.status_code for each in pool.map(lambda b: send(strained, platform, b), behaviours)}

    for_ever, broken = [*FOR_EVER.values()][:10], [behave for behave, _, _ in PASSING.values()][-10:]
    burst(for_ever)
    before = left()
    for _ in range(2):
        assert burst(for_ever) == {504}
        assert burst(broken) <= {502, 429}
    # The senders' own connections are closed by the server in its own time.
    until = time.monotonic() + 5
    while any(now > then for now, then in zip(left(), before, strict=True)) and time.monotonic() < until:
        time.sleep(0.1)
    assert all(now <= then for now, then in zip(left(), before, strict=True)), (before, left())


def break_off(connection: socket.socket, _attempt: int, _over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    connection.close()


def hang_up(connection: socket.socket, _attempt: int, _over: threading.Event) -> None:
    connection.close()


def send_reset(connection: socket.socket, _attempt: int, _over: threading.Event) -> None:
    reset(connection)


def cut(said: bytes) -> Behave:
    def behave(connection: socket.socket, _attempt: int, _over: threading.Event) -> None:
        connection.sendall(said)
        connection.close()

    return behave


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PASSING: dict[str, tuple[Behave, int, str]] = {
    **{
        f"answers {status}": (says(answer(status)), 502, "upstream-failed")
        for status in (408, 500, 502, 503, 504, 520, 599)
    },
    "answers 429": (says(answer(429)), 429, "upstream-limited"),
    "closes without an answer": (hang_up, 502, "upstream-unreachable"),
    "resets the connection": (send_reset, 502, "upstream-unreachable"),
    "speaks another protocol": (cut(b"SSH-2.0-OpenSSH_9.2\r\n"), 502, "upstream-unreachable"),
    "sends more headers than anybody reads": (
        cut(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n"),
        502,
        "upstream-unreachable",
    ),
    "sends a header of 100 000 bytes": (
        cut(b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000 + b"\r\n\r\n"),
        502,
        "upstream-unreachable",
    ),
    "breaks off within its answer": (break_off, 502, "upstream-failed"),
    "breaks off within a chunk": (cut(CHUNKED + b"5\r\n{}"), 502, "upstream-failed"),
    "sends a chunk that is none": (cut(CHUNKED + b"zz\r\n"), 502, "upstream-failed"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again_until_the_time_is_up(strained: Relay, platform: Misbehaving, fault: str) -> None:
    behave, status, name = PASSING[fault]
    seen = send(strained, platform, behave)
    tell(f"platform {fault}, always", f"tried again; {status} when the time is up", seen)
    assert_problem(seen.answer, status, name, retryable=True)
    assert seen.tries >= 3
    assert DEADLINE / 2 < seen.seconds < DEADLINE + GRACE
    assert strained.logged(seen.answer.headers["Relay-Delivery"])["attempts"] == seen.tries


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_a_success(strained: Relay, platform: Misbehaving, fault: str) -> None:
    behave, _, _ = PASSING[fault]

    def twice(connection: socket.socket, attempt: int, over: threading.Event) -> None:
        if attempt <= 2:
            behave(connection, attempt, over)
        else:
            connection.sendall(OK)

    seen = send(strained, platform, twice)
    tell(f"platform {fault}, twice", "tried again; its success", seen)
    assert (seen.answer.status_code, seen.answer.json(), seen.tries) == (200, {}, 3)


NOT_AGAIN: dict[str, tuple[Behave, int, str, bool]] = {
    **{
        f"answers {status}": (says(answer(status)), status, "upstream-refused", False)
        for status in (400, 402, 404, 405, 409, 410, 413, 415, 422)
    },
    **{f"answers {status}": (says(answer(status)), 502, "upstream-denied", False) for status in (401, 403, 406, 451)},
    **{
        f"redirects with {status}": (
            says(answer(status, b"", "Location: http://127.0.0.1:1/elsewhere")),
            502,
            "upstream-redirected",
            False,
        )
        for status in (301, 302, 303, 307, 308)
    },
    "redirects nowhere, and stalls": (
        cut(b"HTTP/1.1 302 Found\r\nLocation: http://[bad\r\nContent-Length: 100\r\n\r\n{"),
        502,
        "upstream-redirected",
        False,
    ),
    "asks for a longer wait than there is time": (
        says(answer(429, b"{}", "Retry-After: 120")),
        429,
        "upstream-limited",
        True,
    ),
    "is down for longer than there is time": (
        says(answer(503, b"{}", "Retry-After: 120")),
        502,
        "upstream-failed",
        True,
    ),
    "answers with a page": (says(answer(200, b"<html>It works!</html>")), 502, "upstream-failed", True),
    "answers with broken JSON": (says(answer(200, b'{"a": ')), 502, "upstream-failed", True),
    "answers with JSON that is nested too deep": (says(answer(200, b"[" * 100_000)), 502, "upstream-failed", True),
    "answers with a million values": (
        says(answer(200, b"[" + b"1," * 999_999 + b"1]")),
        502,
        "upstream-failed",
        True,
    ),
    "answers in another encoding than it says": (
        says(answer(200, b"{}", "Content-Encoding: gzip")),
        502,
        "upstream-failed",
        True,
    ),
    "answers with a gigabyte": (
        cut(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b" " * 11_000_000),
        502,
        "upstream-failed",
        True,
    ),
    "answers with 200 MB in 200 kB": (
        says(answer(200, gzip.compress(b" " * 200_000_000), "Content-Encoding: gzip")),
        502,
        "upstream-failed",
        True,
    ),
}


@pytest.mark.parametrize("fault", NOT_AGAIN)
def test_what_does_not_pass_is_answered_at_once(strained: Relay, platform: Misbehaving, fault: str) -> None:
    behave, status, name, retryable = NOT_AGAIN[fault]
    seen = send(strained, platform, behave)
    tell(f"platform {fault}", f"{status} at once", seen)
    assert_problem(seen.answer, status, name, retryable=retryable)
    assert seen.tries == 1
    assert seen.seconds < 1.5
    if "longer" in fault:
        assert seen.answer.headers["Retry-After"] == "120"


def test_a_gigantic_answer_costs_no_memory(strained: Relay, platform: Misbehaving) -> None:
    before = peak(strained)
    bomb = answer(200, gzip.compress(b" " * 500_000_000), "Content-Encoding: gzip")
    assert_problem(send(strained, platform, says(bomb)).answer, 502, "upstream-failed", retryable=True)
    assert peak(strained) - before < 60_000


DENSE = {
    "lists": b"[" + b"[]," * 3_300_000 + b"[]]",
    "objects": b"[" + b'{"a":1},' * 1_200_000 + b"1]",
    "text that is encoded": b"[" + b'"%41",' * 1_600_000 + b"1]",
    "one text": b'"' + b"%41," * 2_400_000 + b'"',
}


@pytest.mark.parametrize("made_of", DENSE)
def test_long_answers_at_once_cost_neither_time_nor_memory(
    strained: Relay, platform: Misbehaving, made_of: str
) -> None:
    """Ten megabytes each, the last byte of which comes shortly before the time is up."""

    def last_byte_late(connection: socket.socket, _attempt: int, over: threading.Event) -> None:
        said = answer(200, DENSE[made_of])
        connection.sendall(said[:-1])
        over.wait(DEADLINE * 0.85)
        connection.sendall(said[-1:])

    before = peak(strained)
    with ThreadPoolExecutor(6) as pool:
        seen = list(pool.map(lambda _: send(strained, platform, last_byte_late), range(6)))
    for each in seen:
        assert each.answer.status_code in (200, 502, 504)
        assert each.seconds < DEADLINE + GRACE
    tell(f"six answers of 10 MB at once, of {made_of}", "by the deadline", max(seen, key=lambda each: each.seconds))
    assert peak(strained) - before < 130_000


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_is_asked_for_is_kept(strained: Relay, platform: Misbehaving, status: int, form: str) -> None:
    moments = []

    def limit(connection: socket.socket, attempt: int, _over: threading.Event) -> None:
        moments.append(time.time())
        # A date has no parts of a second: one that is a second and a half away is at least a half away.
        asked = "1" if form == "seconds" else formatdate(time.time() + 1.5, usegmt=True)
        connection.sendall(answer(status, b"{}", f"Retry-After: {asked}") if attempt == 1 else OK)

    seen = send(strained, platform, limit)
    tell(f"platform answers {status} and asks for a wait, as {form}", "waits, tries again; its success", seen)
    assert seen.answer.status_code == 200
    assert seen.tries == 2
    assert moments[1] - moments[0] >= (1.0 if form == "seconds" else 0.4)


@pytest.mark.parametrize("wait", ["Wed, 21 Oct 2026 07:28:00 +99999999999999999999", "soon", "-1", "1e9", "Wed\t"])
def test_a_wait_that_is_none(strained: Relay, platform: Misbehaving, wait: str) -> None:
    seen = send(strained, platform, says(answer(429, b"{}", f"Retry-After: {wait}")))
    assert_problem(seen.answer, 429, "upstream-limited", retryable=True)
    assert "Retry-After" not in seen.answer.headers
    assert seen.tries >= 3


def test_a_wait_that_is_over(strained: Relay, platform: Misbehaving) -> None:
    past = answer(429, b"{}", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT")
    seen = send(strained, platform, says(past, OK))
    assert (seen.answer.status_code, seen.tries) == (200, 2)


def test_a_platform_that_is_away_and_comes_back(launch: Launch, cloud: Cloud) -> None:
    port = free_port()
    relay = launch(RELAY_DEADLINE_SECONDS="3", APIFY_BASE_URL=f"http://127.0.0.1:{port}", **in_variables(cloud))
    relay.post(event("x"), path="/?dry_run=true")
    began = time.monotonic()
    seen = Seen(relay.post(event("x")), time.monotonic() - began, 1)
    problem = assert_problem(seen.answer, 502, "upstream-unreachable", retryable=True)
    assert "127.0.0.1" not in problem["detail"]
    assert 1.5 < time.monotonic() - began < 3 + GRACE
    attempts = relay.logged(seen.answer.headers["Relay-Delivery"])["attempts"]
    tell("nobody listens", "tried again; 502 when the time is up", Seen(seen.answer, seen.seconds, attempts))
    assert attempts >= 3
    back = Misbehaving()
    threading.Timer(1, lambda: back.start(port)).start()
    began = time.monotonic()
    seen = Seen(relay.post(event("x")), time.monotonic() - began, 2)
    tell("nobody listens for a second", "tried again; its success", seen)
    assert seen.answer.json() == {}
    back.stop()


def test_a_platform_whose_address_swallows_everything(launch: Launch, cloud: Cloud) -> None:
    """A queue of connections that is full: what comes then is dropped, as by a firewall."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        relay = launch(
            APIFY_BASE_URL=f"http://127.0.0.1:{full.getsockname()[1]}",
            RELAY_DEADLINE_SECONDS=str(DEADLINE),
            **in_variables(cloud),
        )
        began = time.monotonic()
        seen = Seen(relay.post(event("x")), time.monotonic() - began, 1)
        tell("platform's address swallows everything", "502 by the deadline", seen)
        assert_problem(seen.answer, 502, "upstream-unreachable", retryable=True)
        assert seen.seconds < DEADLINE + GRACE
        for each in fillers:
            each.close()


# Secret Manager, with nothing in the cache


def hang_up_on_secrets(cloud: Cloud) -> None:
    cloud.secret_manager.delay = 20


def refuse_secrets(cloud: Cloud) -> None:
    cloud.secret_manager.refusals[""] = grpc.StatusCode.UNAVAILABLE


def stop_secrets(cloud: Cloud) -> None:
    cloud.secret_manager.stop()


def deny_secrets(cloud: Cloud) -> None:
    cloud.secret_manager.refusals[""] = grpc.StatusCode.PERMISSION_DENIED


def lose_secrets(cloud: Cloud) -> None:
    cloud.secret_manager.secrets.clear()


def empty_secrets(cloud: Cloud) -> None:
    for name in cloud.secret_manager.secrets:
        cloud.secret_manager.add_version(name, "\n")


def damage_secrets(cloud: Cloud) -> None:
    cloud.secret_manager.damaged |= set(cloud.secret_manager.secrets)


def slow_secrets(cloud: Cloud) -> None:
    cloud.secret_manager.delay = 0.4


@pytest.mark.parametrize(
    ("fault", "make", "status", "name"),
    [
        ("hangs", hang_up_on_secrets, 503, "secret-unreachable"),
        ("is unavailable", refuse_secrets, 503, "secret-unreachable"),
        ("is not there", stop_secrets, 503, "secret-unreachable"),
        ("denies", deny_secrets, 500, "secret-unusable"),
        ("has no such secret", lose_secrets, 500, "secret-unusable"),
        ("has an empty secret", empty_secrets, 500, "secret-unusable"),
        ("sends a damaged secret", damage_secrets, 500, "secret-unusable"),
        ("takes 0.4 s", slow_secrets, 200, ""),
    ],
)
@pytest.mark.parametrize("whose", ["our own secret", "the token"])
def test_secret_manager(
    launch: Launch, fault: str, make: Callable[[Cloud], None], status: int, name: str, whose: str
) -> None:
    own = Cloud().start()
    own_secret = {"RELAY_SECRET": "env:B", "B": own.relay_secret} if whose == "the token" else {}
    relay = launch(on=own, RELAY_DEADLINE_SECONDS=str(DEADLINE), **own_secret)
    dataset = relay.apify_dataset()
    make(own)
    began = time.monotonic()
    answer = relay.post(event(dataset))
    seen = Seen(answer, time.monotonic() - began, len(own.apify.calls))
    promised = {503: "503 by the deadline", 500: "500 at once", 200: "its success"}[status]
    tell(f"Secret Manager {fault} ({whose})", promised, seen)
    if name:
        assert_problem(answer, status, name, retryable=status == 503)
    assert (answer.status_code, seen.tries) == (status, 1 if status == 200 else 0)
    assert answer.headers.get("Retry-After") == ("5" if status == 503 else None)
    assert seen.seconds < DEADLINE + GRACE
    own.secret_manager.delay = 0
    own.stop()
