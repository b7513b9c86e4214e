"""What the platforms may answer, and what the sender then gets: the function's side of the call, end to end."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from flask import Response

from deploy.local.cloud import Cloud
from handlers.providers.call import PASSED_ON
from tests.conftest import Launch, Relay, assert_problem, unique


def answering(relay: Relay, response: Response) -> dict[str, Any]:
    """An event for a new Apify dataset, to which the platform will answer this."""
    dataset = relay.apify_dataset()
    relay.cloud.apify.instead[f"/datasets/{dataset}"] = lambda: response
    return {"provider": "apify", "dataset": dataset, "update": {"name": unique("x")}}


def platform_error(status: int, **headers: str) -> Response:
    body = json.dumps({"error": {"type": "some-type", "message": "Said the platform"}})
    return Response(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("status", [200, 201, 202, 203])
def test_success_is_handed_back(relay: Relay, status: int) -> None:
    body = '{"z": [1, "é", {"urlSigningSecretKey": "sign-me", "b": null}], "a": 1.5}'
    answer = relay.post(answering(relay, Response(body, status, content_type="text/plain")))
    assert answer.status_code == status
    assert answer.text == '{"z":[1,"é",{"b":null}],"a":1.5}'
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [200, 204, 205])
def test_an_empty_success_stays_empty(relay: Relay, status: int) -> None:
    answer = relay.post(answering(relay, Response(b"", status)))
    assert (answer.status_code, answer.content) == (status, b"")
    assert answer.headers["Relay-Delivery"]


@pytest.mark.parametrize("status", sorted(PASSED_ON))
def test_what_the_sender_can_mend_has_the_platforms_status(relay: Relay, status: int) -> None:
    answer = relay.post(answering(relay, platform_error(status)))
    problem = assert_problem(answer, status, "upstream-refused")
    assert problem["detail"] == f"Apify answered {status}: Said the platform"
    assert problem["upstream"] == {
        "status": status,
        "body": {"error": {"type": "some-type", "message": "Said the platform"}},
    }


@pytest.mark.parametrize(
    ("status", "name", "retryable"),
    [
        *[(status, "upstream-denied", False) for status in (401, 403, 406, 418, 451)],
        *[(status, "upstream-failed", True) for status in (408, 500, 502, 503, 504)],
        *[(status, "upstream-redirected", False) for status in (301, 302, 303, 304, 307, 308)],
    ],
)
def test_what_the_sender_cannot_mend_is_502(relay: Relay, status: int, name: str, retryable: bool) -> None:
    location = {"Location": f"{relay.cloud.apify.base_url}/elsewhere"} if 300 <= status < 400 else {}
    answer = relay.post(answering(relay, platform_error(status, **location)))
    assert_problem(answer, 502, name, retryable=retryable)
    assert relay.cloud.apify.seen("/elsewhere") == []


def test_a_platform_that_asks_to_wait(relay: Relay) -> None:
    answer = relay.post(answering(relay, platform_error(429, Retry_After="120")))
    assert_problem(answer, 429, "upstream-limited", retryable=True)
    assert answer.headers["Retry-After"] == "120"
    answer = relay.post(answering(relay, platform_error(429)))
    assert_problem(answer, 429, "upstream-limited", retryable=True)
    assert "Retry-After" not in answer.headers


def test_the_platforms_own_refusals(relay: Relay) -> None:
    taken = unique("taken")
    relay.apify_dataset(taken)
    event: dict[str, Any] = {"provider": "apify", "dataset": relay.apify_dataset(), "update": {"name": taken}}
    problem = assert_problem(relay.post(event), 400, "upstream-refused")
    assert problem["upstream"]["body"]["error"]["type"] == "name-not-unique"
    event["dataset"] = "NoSuchDatasetAnywh"
    assert "Dataset was not found" in assert_problem(relay.post(event), 404, "upstream-refused")["detail"]
    relay.cloud.data_world.add("others/products")
    event = {"provider": "data.world", "dataset": "others/products", "update": {"title": "x"}}
    problem = assert_problem(relay.post(event), 502, "upstream-denied")
    assert problem["upstream"]["status"] == 403


@pytest.mark.parametrize("body", [b"<html>It works!</html>", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100])
def test_nonsense(relay: Relay, body: bytes) -> None:
    answer = relay.post(answering(relay, Response(body, 200, content_type="application/json")))
    assert_problem(answer, 502, "upstream-failed", retryable=True)


def test_an_answer_on_each_side_of_10_mb(relay: Relay) -> None:
    limit = 10 * 1024 * 1024
    fitting = b'"' + b"x" * (limit - 2) + b'"'
    answer = relay.post(answering(relay, Response(fitting, 200)))
    assert (answer.status_code, answer.content) == (200, fitting)
    answer = relay.post(answering(relay, Response(fitting + b" ", 200)))
    problem = assert_problem(answer, 502, "upstream-failed", retryable=True)
    assert "10485760 bytes" in problem["detail"]


def test_what_the_platform_repeats_of_our_token(relay: Relay) -> None:
    token = relay.cloud.apify_token
    for status in (200, 400, 401, 500):
        for body in (json.dumps({"error": {"message": f"bad token {token}"}, token: [token]}), f"<p>{token}</p>"):
            answer = relay.post(answering(relay, Response(body, status)))
            assert token not in answer.text
            assert token not in str(answer.headers)
            assert "[redacted]" in answer.text


def test_what_the_platform_repeats_of_an_events_credentials(relay: Relay) -> None:
    dataset = relay.data_world_dataset()
    source = {
        "url": "https://me:hunter2@example.com/a.csv",
        "requestHeaders": {"Authorization": "Bearer tok-98765", "Cookie": "sid=cookie-123"},
        "credentials": {"user": "someuser", "password": 'sword"fish'},
        "authorization": {"type": "Custom", "credentials": "cred-1234"},
    }
    event = {"provider": "data.world", "dataset": dataset, "update": {"files": [{"name": "a.csv", "source": source}]}}
    for status in (200, 422, 500):
        for body in (
            json.dumps({"message": "said", "echo": event}),
            json.dumps({"message": f"not valid: {json.dumps(event)}"}),
            f"not valid: {json.dumps(event)}",
        ):
            relay.cloud.data_world.instead[f"/datasets/{dataset}"] = partial(Response, body, status)
            answer = relay.post(event)
            for secret in ("hunter2", "tok-98765", "cookie-123", "fish", "cred-1234", "someuser"):
                assert secret not in answer.text, (status, body)
    assert "hunter2" not in relay.log_text()


# A platform that isn't one: sockets that do what no HTTP server would.


def test_many_credentials_cost_no_short_answer(relay: Relay) -> None:
    credentials = [{"user": f"user{number}", "password": f"password-{number}"} for number in range(300)]
    files = [
        {"name": f"{number}", "source": {"url": "https://example.com", "credentials": each}}
        for number, each in enumerate(credentials)
    ]
    event = {"provider": "data.world", "dataset": relay.data_world_dataset(), "update": {"files": files}}
    assert relay.post(event).json() == {"message": "Dataset successfully updated."}


@pytest.mark.parametrize(
    "repeated",
    [
        "token hunter22x",
        "dG9rOmh1bnRlcjIyeA==",
        "user=tok&amp;pass=hunter%32%32x",
        json.dumps(json.dumps('"hunter\\u00322x"')),
        "hunter22x".encode("utf-16").decode("latin-1"),
    ],
)
def test_a_credential_of_any_shape_however_it_is_repeated(relay: Relay, repeated: str) -> None:
    for credential in ("tok:hunter22x", "Bearer hunter22x", "dG9rOmh1bnRlcjIyeA=="):
        dataset = relay.data_world_dataset()
        source = {"url": "https://example.com", "authorization": {"type": "x", "credentials": credential}}
        event = {"provider": "data.world", "dataset": dataset, "update": {"files": [{"name": "a", "source": source}]}}
        body = repeated.encode("latin-1")
        relay.cloud.data_world.instead[f"/datasets/{dataset}"] = partial(Response, body, 500)
        said = relay.post(event).json()["upstream"]["body"]
        if "Bearer" not in credential or "dG9r" not in repeated:
            assert "[redacted]" in said
            assert "hunter" not in said


@contextmanager
def tcp(behave: Any) -> Iterator[str]:
    """Listens on loopback; each connection is given to `behave`. The base URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        def one(connection: socket.socket) -> None:
            # The function hangs up on some of them, as it should.
            with connection, suppress(OSError):
                behave(connection, over)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()


EVENT = {"provider": "apify", "dataset": "jane~a", "update": {"name": "b"}}


def whole_request(connection: socket.socket) -> bytes:
    """The request that carries EVENT, to its last byte, which comes apart from its head; empty at the end."""
    received = b""
    while not received.endswith(b'{"name":"b"}'):
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        received += chunk
    return received


def hang(_connection: socket.socket, over: threading.Event) -> None:
    over.wait(10)


def stall(connection: socket.socket, over: threading.Event) -> None:
    over.wait(0.5)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    over.wait(10)


def drip(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not over.wait(0.1):
        connection.sendall(b" ")


@pytest.mark.parametrize("behave", [hang, stall, drip])
def test_a_platform_that_takes_too_long(launch: Launch, cloud: Cloud, behave: Any) -> None:
    def answer(connection: socket.socket, over: threading.Event) -> None:
        whole_request(connection)
        behave(connection, over)

    with tcp(answer) as url:
        # Without Secret Manager, whose client takes a part of so short a time to be imported.
        here = {"APIFY_TOKEN": "env:A", "A": cloud.apify_token, "RELAY_SECRET": "env:B", "B": cloud.relay_secret}
        relay = launch(APIFY_BASE_URL=url, RELAY_DEADLINE_SECONDS="0.8", **here)
        began = time.monotonic()
        assert_problem(relay.post(EVENT), 504, "time-up", retryable=True)
        assert time.monotonic() - began < 1.3


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (b"", "upstream-unreachable"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "upstream-unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", "upstream-failed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", "upstream-failed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "upstream-failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "upstream-failed"),
    ],
)
def test_answers_that_break_off(launch: Launch, said: bytes, name: str) -> None:
    def speak(connection: socket.socket, _over: threading.Event) -> None:
        whole_request(connection)
        connection.sendall(said)

    with tcp(speak) as url:
        relay = launch(APIFY_BASE_URL=url)
        assert_problem(relay.post(EVENT), 502, name, retryable=True)


def test_a_platform_that_is_not_there(launch: Launch) -> None:
    relay = launch(APIFY_BASE_URL="http://127.0.0.1:9")
    problem = assert_problem(relay.post(EVENT), 502, "upstream-unreachable", retryable=True)
    assert "127.0.0.1" not in problem["detail"]


def test_a_platform_without_its_tls(launch: Launch, relay: Relay) -> None:
    plain = launch(APIFY_BASE_URL=relay.cloud.apify.base_url.replace("http:", "https:"))
    assert_problem(plain.post(EVENT), 502, "upstream-unreachable", retryable=True)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, secret


def test_https(launch: Launch, certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def serve(connection: socket.socket, _over: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            whole_request(secure)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with tcp(serve) as url:
        secure = url.replace("http:", "https:")
        trusting = launch(APIFY_BASE_URL=secure, REQUESTS_CA_BUNDLE=str(certificate[0]))
        assert trusting.post(EVENT).json() == {}
        other_host = launch(
            APIFY_BASE_URL=secure.replace("127.0.0.1", "localhost"), REQUESTS_CA_BUNDLE=str(certificate[0])
        )
        assert_problem(other_host.post(EVENT), 502, "upstream-unreachable", retryable=True)
        doubting = launch(APIFY_BASE_URL=secure)
        assert_problem(doubting.post(EVENT), 502, "upstream-unreachable", retryable=True)


def test_the_providers_share_of_the_instance(launch: Launch) -> None:
    under_way = threading.Semaphore(0)

    def hang(connection: socket.socket, over: threading.Event) -> None:
        whole_request(connection)
        under_way.release()
        over.wait(10)

    with tcp(hang) as url, ThreadPoolExecutor(4) as pool:
        relay = launch(APIFY_BASE_URL=url, THREADS="8", RELAY_PROVIDER_CONCURRENCY="2", RELAY_DEADLINE_SECONDS="2")
        waiting = [pool.submit(relay.post, EVENT) for _ in range(2)]
        assert under_way.acquire(timeout=5)
        assert under_way.acquire(timeout=5)
        answer = relay.post(EVENT)
        assert_problem(answer, 503, "busy", retryable=True)
        assert answer.headers["Retry-After"] == "1"
        other = {"provider": "data.world", "dataset": relay.data_world_dataset(), "update": {"title": "x"}}
        assert relay.post(other).status_code == 200
        assert relay.send(b"", method="GET", path="/health").status_code == 200
        assert [each.result().status_code for each in waiting] == [504, 504]
        assert relay.post(EVENT).status_code == 504


def test_a_redirect_is_not_waited_for(launch: Launch) -> None:
    def redirect(connection: socket.socket, over: threading.Event) -> None:
        whole_request(connection)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://[bad\r\nContent-Length: 100\r\n\r\n{")
        over.wait(10)

    with tcp(redirect) as url:
        relay = launch(APIFY_BASE_URL=url)
        began = time.monotonic()
        assert_problem(relay.post(EVENT), 502, "upstream-redirected")
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("wait", ["Wed, 21 Oct 2026 07:28:00 +99999999999999999999", "soon", "Wed, 21 Oct 2026\x01"])
def test_a_wait_that_is_no_header_of_ours(launch: Launch, wait: str) -> None:
    def limit(connection: socket.socket, _over: threading.Event) -> None:
        whole_request(connection)
        connection.sendall(f"HTTP/1.1 429 Slow\r\nRetry-After: {wait}\r\nContent-Length: 0\r\n\r\n".encode())

    with tcp(limit) as url:
        answer = launch(APIFY_BASE_URL=url).post(EVENT)
        assert_problem(answer, 429, "upstream-limited", retryable=True)
        assert "Retry-After" not in answer.headers


def test_an_event_with_more_credentials_than_can_be_looked_for(relay: Relay) -> None:
    """Looking for sixty thousand passwords in an answer would take minutes, and hold up everybody else."""
    passwords = [f"pw{number:06}" for number in range(60_000)]
    event = {
        "provider": "data.world",
        "dataset": relay.data_world_dataset(),
        "update": {"properties": {"password": passwords}},
    }
    began = time.monotonic()
    answer = relay.post(event)
    assert (answer.status_code, answer.json()) == (200, {"message": "Dataset successfully updated."})
    assert relay.post(event, path="/?dry_run=true").json()["request"]["body"] == "[redacted]"
    assert time.monotonic() - began < 5


# What must have no say


def test_netrc_and_cookies_have_no_say(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login someone password something\n")
    (tmp_path / ".netrc").chmod(0o600)
    relay = launch(HOME=str(tmp_path), NETRC=str(tmp_path / ".netrc"))
    dataset = relay.apify_dataset()
    path = f"/datasets/{dataset}"
    relay.cloud.apify.instead[path] = lambda: Response("{}", 200, {"Set-Cookie": "sid=1; Path=/"})
    for _ in range(2):
        assert relay.post({"provider": "apify", "dataset": dataset, "update": {"name": "x"}}).status_code == 200
    for call in relay.cloud.apify.seen(path):
        assert call.headers["authorization"] == f"Bearer {relay.cloud.apify_token}"
        assert "cookie" not in call.headers


def test_a_proxy_of_the_environment_is_used(launch: Launch) -> None:
    """Some networks have no other way out; the proxy of this test is no proxy, and says so."""

    def refuse(connection: socket.socket, _over: threading.Event) -> None:
        seen.append(whole_request(connection))
        connection.sendall(b"HTTP/1.1 418 Proxy\r\nContent-Length: 0\r\n\r\n")

    seen: list[bytes] = []
    with tcp(refuse) as url:
        relay = launch(HTTP_PROXY=url, http_proxy=url, NO_PROXY="", no_proxy="")
        assert_problem(relay.post(EVENT), 502, "upstream-denied")
        assert seen[0].startswith(b"PUT http://127.0.0.1:")
        spared = launch(HTTP_PROXY=url, http_proxy=url, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
        assert_problem(spared.post(EVENT), 404, "upstream-refused")
        assert len(seen) == 1


def test_connections_are_kept(launch: Launch) -> None:
    answers = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    connections = []

    def keep(connection: socket.socket, _over: threading.Event) -> None:
        connections.append(connection)
        while whole_request(connection):
            connection.sendall(answers)

    with tcp(keep) as url:
        relay = launch(APIFY_BASE_URL=url)
        for _ in range(5):
            assert relay.post(EVENT).status_code == 200
    assert len(connections) == 1
