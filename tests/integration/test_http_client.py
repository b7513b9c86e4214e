"""Tests of the HTTP client by itself: requests, responses, the deadline, and broken responses."""

import gzip
import os
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from deploy.local.cloud import ROOT
from handlers.deadline import Deadline
from handlers.delivery import http_client
from handlers.delivery.http_client import (
    MAX_RESPONSE_BYTES,
    CurlAdapter,
    InvalidResponseError,
    NotSentError,
    ResponseTimeoutError,
    TruncatedResponseError,
)
from handlers.providers.base import Request, Response
from tests.support.http_calls import LONG, TOKEN, CreateClient, call
from tests.support.misbehaving import (
    OK,
    Behavior,
    MisbehavingProvider,
    full_backlog,
    http_response,
    listening,
    reset,
    send,
    send_and_close,
)

# Requests


def test_send_update_sends_exactly_this_request(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    call(create_client(provider.url), provider, "/datasets/jane~a%2Fb?x=%20", body={"name": "é", "n": [1, None]})
    ((received,),) = provider.requests.values()
    head, _, body = received.decode().partition("\r\n\r\n")
    first_line, *headers = head.split("\r\n")
    assert first_line == "PUT /datasets/jane~a%2Fb?x=%20 HTTP/1.1"
    assert body == '{"name":"é","n":[1,null]}'
    assert sorted(headers) == [
        "Accept-Encoding: identity",
        "Accept: application/json",
        f"Authorization: Bearer {TOKEN}",
        f"Content-Length: {len(body.encode())}",
        "Content-Type: application/json",
        f"Host: {provider.url.removeprefix('http://')}",
        "User-Agent: dataset-relay/1",
    ]


def test_send_request_without_body_has_no_body(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    client = create_client(provider.url)
    for method, body in (("PUT", {"a": 1}), ("GET", None), ("PATCH", {"a": 1}), ("GET", None)):
        client.send("apify", Request(method, f"{provider.url}/x", body), TOKEN, Deadline.after(LONG))
    put, get, patch, second_get = provider.requests["/x"]
    assert put.startswith(b"PUT /x HTTP/1.1\r\n")
    assert patch.startswith(b"PATCH /x HTTP/1.1\r\n")
    assert put.endswith(b'\r\n\r\n{"a":1}')
    assert get == second_get
    assert get.startswith(b"GET /x HTTP/1.1\r\n")
    assert get.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in get
    assert len(provider.connections) == 1


def test_send_large_body_does_not_wait_for_100_continue(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    call(create_client(provider.url), provider, body={"a": "x" * 5_000_000})
    ((received,),) = provider.requests.values()
    assert len(received) > 5_000_000
    assert b"Expect" not in received[:1000]


def test_send_path_with_dots_is_unchanged(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    call(create_client(provider.url), provider, "/datasets/../a/./b//c")
    assert list(provider.requests) == ["/datasets/../a/./b//c"]


@pytest.mark.parametrize(
    ("method", "path", "token"),
    [
        ("PUT\r\nX: y", "/x", TOKEN),
        ("PUT", "/x HTTP/1.1\r\nX: y", TOKEN),
        ("PUT", "/é", TOKEN),
        ("PUT", "/x\0", TOKEN),
        ("PUT", "/x", "t\r\nX: y"),
        ("PUT", "/x", "t\n"),
        ("PUT", "/x", "é"),
    ],
)
def test_send_header_injection_raises(
    create_client: CreateClient, provider: MisbehavingProvider, method: str, path: str, token: str
) -> None:
    client = create_client(provider.url)
    with pytest.raises(requests.exceptions.InvalidHeader):
        client.send("apify", Request(method, provider.url + path, {}), token, Deadline.after(LONG))
    assert not provider.requests


def test_send_url_of_another_server_raises(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    client = create_client("https://api.apify.com/v2")
    with pytest.raises(requests.exceptions.InvalidSchema):
        call(client, provider)
    assert not provider.connections


def test_adapter_in_a_session_of_requests_returns_response(provider: MisbehavingProvider) -> None:
    provider.default = send(http_response(200, b'{"a": "\xc3\xa9"}', "Retry-After: 60"))
    with requests.Session() as session:
        session.trust_env = False
        session.mount(provider.url, CurlAdapter({}))
        response = session.post(f"{provider.url}/x", json={"b": 2}, timeout=LONG)
    assert response.json() == {"a": "é"}
    assert (response.status_code, response.headers["retry-AFTER"]) == (200, "60")
    assert provider.requests["/x"][0].endswith(b'\r\n\r\n{"b": 2}')


def test_headers_match_request(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    """A dry run shows these headers."""
    call(create_client(provider.url), provider)
    (received,) = provider.requests["/x"]
    for name, value in http_client.HEADERS.items():
        assert re.search(rf"(?m)^{name}: {value}\r$", received.decode())


# Redirects, cookies, .netrc


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["/elsewhere", "http://127.0.0.1:1/elsewhere", "http://[bad", "file:///etc/passwd"]
)
def test_send_redirect_is_returned(
    create_client: CreateClient, provider: MisbehavingProvider, status: int, location: str
) -> None:
    provider.default = send(http_response(status, b'{"a": 1}', f"Location: {location}"))
    response = call(create_client(provider.url), provider)
    assert response == Response(status, is_empty=True)
    assert list(provider.requests) == ["/x"]


def test_send_redirect_with_truncated_body_is_returned(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    provider.default = send_and_close(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 100\r\n\r\n{")
    assert call(create_client(provider.url), provider).status == 302


def test_send_after_set_cookie_sends_no_cookie(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    provider.default = send(http_response(200, b"{}", "Set-Cookie: sid=1; Path=/"))
    client = create_client(provider.url)
    for _ in range(3):
        call(client, provider)
    assert b"cookie" not in b"".join(provider.requests["/x"]).lower()


def test_send_with_netrc_keeps_token(
    create_client: CreateClient, provider: MisbehavingProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login someone password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    call(create_client(provider.url), provider)
    (received,) = provider.requests["/x"]
    assert received.count(b"Authorization") == 1
    assert f"Authorization: Bearer {TOKEN}\r\n".encode() in received


# The deadline


def hang(_connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
    stopped.wait(LONG)


def stall(connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    stopped.wait(LONG)


def drip(beginning: bytes, drop: bytes) -> Behavior:
    def behave(connection: socket.socket, _attempt: int, stopped: threading.Event) -> None:
        connection.sendall(beginning)
        while not stopped.wait(0.4):
            connection.sendall(drop)

    return behave


ENDLESS: dict[str, tuple[Behavior, int | None]] = {
    "no response": (hang, None),
    "stalled body": (stall, 200),
    "dripping status line": (drip(b"HTTP/1.1 200 ", b"O"), None),
    "dripping header": (drip(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"), 200),
    "dripping headers": (drip(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), 200),
    "dripping body": (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "), 200),
    "dripping body without length": (drip(b"HTTP/1.1 200 OK\r\n\r\n", b" "), 200),
    "dripping chunk length": (drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"), 200),
    "dripping chunks": (drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), 200),
    "endless 100 Continue": (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), None),
    "endless 103 Early Hints": (drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), None),
    "101 without a request for it": (drip(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", b"x"), None),
}


def test_send_endless_response_raises_at_deadline(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    client = create_client(provider.url)

    def status_at_deadline(case: str) -> int | None:
        path = f"/{case.replace(' ', '-')}"
        provider.behaviors[path], _ = ENDLESS[case]
        started = time.monotonic()
        with pytest.raises(ResponseTimeoutError) as raised:
            call(client, provider, path, seconds=5)
        assert time.monotonic() - started >= 5
        assert provider.attempts[path] == 1
        return raised.value.status

    with ThreadPoolExecutor(len(ENDLESS)) as pool:
        statuses = dict(zip(ENDLESS, pool.map(status_at_deadline, ENDLESS), strict=True))
    assert statuses == {case: status for case, (_, status) in ENDLESS.items()}


def test_send_provider_does_not_read_raises_at_deadline(create_client: CreateClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        client = create_client(url)
        with pytest.raises(ResponseTimeoutError):
            client.send("apify", Request("PUT", url, {"a": "x" * 15_000_000}), TOKEN, Deadline.after(2))


def test_send_deadline_has_passed_raises_not_sent(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    with pytest.raises(NotSentError, match="timeout"):
        call(create_client(provider.url), provider, seconds=0)
    assert not provider.connections


def test_send_on_kept_connection_has_its_own_deadline(
    create_client: CreateClient, provider: MisbehavingProvider
) -> None:
    client = create_client(provider.url)
    call(client, provider, seconds=2)
    time.sleep(2)
    call(client, provider)
    assert len(provider.connections) == 1


def test_send_connection_refused_raises_not_sent(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    provider.stop_listening()
    client = create_client("http://127.0.0.1:1")
    with pytest.raises(NotSentError) as raised:
        client.send("apify", Request("PUT", "http://127.0.0.1:1/x", {}), TOKEN, Deadline.after(LONG))
    assert raised.value.cause == "connection refused"


def test_send_connect_timeout_raises_not_sent(create_client: CreateClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_CONNECT_TIMEOUT_MS", 200)
    with full_backlog() as port:
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(NotSentError, match="timeout"):
            create_client(url).send("apify", Request("PUT", url, {}), TOKEN, Deadline.after(LONG))


SLOW_LOOKUP = """
import os, socket, subprocess, sys
from handlers.deadline import Deadline
from handlers.delivery.http_client import HTTPClient, NotSentError
from handlers.providers.base import Request

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
name_server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
name_server.bind(("127.0.0.1", 53))
client = HTTPClient({"apify": "http://provider.example"})
for _ in range(3):
    try:
        client.send("apify", Request("PUT", "http://provider.example/x", {}), "t", Deadline.after(0.3))
    except NotSentError as error:
        print(error.cause)
client.close()
# The resolver has asked, and it still waits for an answer.
name_server.settimeout(10)
assert name_server.recv(500)
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0,
    reason="NOT TESTED: a slow DNS lookup; only root on Linux can make one",
)
def test_send_slow_lookup_raises_not_sent_at_deadline(tmp_path: Path) -> None:
    """The lookup itself takes at least 150 s, and neither the call nor the end of the handle waits for it."""
    configuration = tmp_path / "resolv.conf"
    configuration.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    command = ["unshare", "--mount", "--net", sys.executable, "-c", SLOW_LOOKUP, str(configuration)]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=LONG).stdout
    assert output == "timeout\n" * 3 + "done\n"


# Broken and invalid responses

BROKEN_HEADS = {
    "closed without a response": b"",
    "broken status line": b"HTTP/1.1 200",
    "status line only": b"HTTP/1.1 200 OK\r\n",
    "one header": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
    "length of an empty body": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
    "broken header": b"HTTP/1.1 200 OK\r\nContent-Len",
    "interim response": b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n",
    "broken head after an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n",
    "broken head of HTTP/1.0": b"HTTP/1.0 200 OK\r\n",
    "broken head with Connection: close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n",
}


@pytest.mark.parametrize("case", BROKEN_HEADS)
def test_send_broken_head_raises_connection_error(
    create_client: CreateClient, provider: MisbehavingProvider, case: str
) -> None:
    provider.default = send_and_close(BROKEN_HEADS[case])
    with pytest.raises(requests.ConnectionError) as raised:
        call(create_client(provider.url), provider)
    assert not isinstance(raised.value, NotSentError | TruncatedResponseError | ResponseTimeoutError)
    assert provider.request_count == 1


def test_send_reset_raises_connection_error(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    """A connection that no call used before: libcurl doesn't send the request again."""
    provider.default = lambda connection, _attempt, _stopped: reset(connection)
    with pytest.raises(requests.ConnectionError) as raised:
        call(create_client(provider.url), provider)
    assert not isinstance(raised.value, NotSentError)
    assert provider.request_count == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN_BODIES = {
    "missing body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "short body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
    "broken chunk": CHUNKED + b"5\r\n{}",
    "missing last chunk": CHUNKED + b"2\r\n{}\r\n",
}


@pytest.mark.parametrize("case", BROKEN_BODIES)
def test_send_broken_body_raises_truncated_response(
    create_client: CreateClient, provider: MisbehavingProvider, case: str
) -> None:
    provider.default = send_and_close(BROKEN_BODIES[case])
    with pytest.raises(TruncatedResponseError) as raised:
        call(create_client(provider.url), provider)
    assert raised.value.status == 200
    assert provider.request_count == 1


INVALID: dict[str, tuple[bytes, str]] = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", "isn't HTTP"),
    "an unknown version": (b"HTTP/9.9 200 OK\r\n\r\n", "isn't HTTP"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "isn't valid HTTP"),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", "isn't valid HTTP"),
    "NUL in a header": (b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n{}", "isn't valid HTTP"),
    "header of 200 kB": (b"HTTP/1.1 200 OK\r\na: " + b"b" * 200_000 + b"\r\n\r\n", "has too many or too long headers"),
    "10,000 headers": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", "has too many or too long headers"),
    "chunk length without digits": (CHUNKED + b"zz\r\n", "isn't valid HTTP"),
    "negative chunk length": (CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n", "isn't valid HTTP"),
    "empty chunk length": (CHUNKED + b"\r\n{}\r\n0\r\n\r\n", "isn't valid HTTP"),
    "chunk length of 20 digits": (CHUNKED + b"00000000000000000002\r\n{}\r\n0\r\n\r\n", "isn't valid HTTP"),
    "huge chunk length": (CHUNKED + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n", "isn't valid HTTP"),
    "chunk without end": (CHUNKED + b"2\r\n{}xx0\r\n\r\n", "isn't valid HTTP"),
    "wrong encoding": (
        http_response(200, b"{}", "Content-Encoding: gzip"),
        "isn't encoded as its Content-Encoding header states",
    ),
    "unknown encoding": (
        http_response(200, b"{}", "Content-Encoding: secret"),
        "isn't encoded as its Content-Encoding header states",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_send_invalid_response_raises(create_client: CreateClient, provider: MisbehavingProvider, case: str) -> None:
    content, predicate = INVALID[case]
    provider.default = send_and_close(content)
    with pytest.raises(InvalidResponseError) as raised:
        call(create_client(provider.url), provider)
    assert str(raised.value) == predicate
    assert raised.value.status == (None if predicate == "isn't HTTP" else 200)


def test_send_switch_of_protocols_raises(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    provider.default = send_and_close(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
    with pytest.raises(InvalidResponseError) as raised:
        call(create_client(provider.url), provider)
    assert (raised.value.status, provider.request_count) == (101, 1)


def send_and_close_at_once(content: bytes) -> Behavior:
    """Return a behavior that sends a response, and the end of the connection in the same packet."""

    def behave(connection: socket.socket, _attempt: int, _stopped: threading.Event) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    return behave


#: Complete responses without a body, and their status.
WITHOUT_BODY = {
    "length 0": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\n", 200),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
    "no chunks": (CHUNKED + b"0\r\n\r\n", 200),
    "no chunks, and surplus bytes": (CHUNKED + b"0\r\n\r\nsurplus", 200),
    "no chunks, and a trailer": (CHUNKED + b"0\r\nX: y\r\n\r\n", 200),
    "404 without chunks": (CHUNKED.replace(b"200 OK", b"404 Gone") + b"0\r\n\r\n", 404),
    "lines that end in a line feed": (CHUNKED.replace(b"\r\n", b"\n") + b"0\n\n", 200),
}


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux has TCP_CORK.")
@pytest.mark.parametrize("case", WITHOUT_BODY)
def test_send_response_without_body_on_ending_connection_is_returned(
    create_client: CreateClient, provider: MisbehavingProvider, case: str
) -> None:
    content, status = WITHOUT_BODY[case]
    provider.default = send_and_close_at_once(content)
    response = call(create_client(provider.url), provider)
    assert (response.status, response.is_empty, provider.request_count) == (status, True, 1)


def test_send_compressed_response_is_decoded(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    provider.default = send(http_response(200, gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip"))
    assert call(create_client(provider.url), provider).body == {"a": 1}


def test_send_response_at_size_limit_is_returned(create_client: CreateClient, provider: MisbehavingProvider) -> None:
    text = b'"' + b"x" * (MAX_RESPONSE_BYTES - 2) + b'"'
    provider.behaviors["/gzip"] = send(http_response(200, gzip.compress(text), "Content-Encoding: gzip"))
    provider.default = send(http_response(200, text))
    client = create_client(provider.url)
    for path in ("/x", "/gzip"):
        response = call(client, provider, path)
        assert response.defect is None
        assert isinstance(response.body, str)
        assert len(response.body) == MAX_RESPONSE_BYTES - 2


OVERSIZED = {
    "announced": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
    "one byte over the limit": http_response(200, b" " * (MAX_RESPONSE_BYTES + 1)),
    "without length": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MAX_RESPONSE_BYTES + 1),
    "compressed": http_response(200, gzip.compress(b" " * 200_000_000), "Content-Encoding: gzip"),
    "compressed twice": http_response(
        200, gzip.compress(gzip.compress(b" " * 200_000_000)), "Content-Encoding: gzip, gzip"
    ),
}


@pytest.mark.parametrize("case", OVERSIZED)
def test_send_oversized_response_raises(create_client: CreateClient, provider: MisbehavingProvider, case: str) -> None:
    provider.default = send_and_close(OVERSIZED[case])
    with pytest.raises(InvalidResponseError, match=f"is over {MAX_RESPONSE_BYTES} bytes") as raised:
        call(create_client(provider.url), provider)
    assert raised.value.status == 200
    assert provider.request_count == 1


def test_send_response_before_end_of_request_is_returned(create_client: CreateClient) -> None:
    """A provider may reject a body that is too large, and close the connection."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(http_response(413, b'{"too": "large"}', "Connection: close"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with listening(refuse) as address:
        url = f"http://{address}"
        client = create_client(url)
        response = client.send("apify", Request("PUT", url, {"a": "x" * 3_000_000}), TOKEN, Deadline.after(LONG))
    assert (response.status, response.body) == (413, {"too": "large"})


# The last two dates are in the past and in the far future. libcurl cuts the wait at six hours.
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("-1", 0),
        ("soon", 0),
        ("9" * 12, 21_600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 21 Oct 2095 07:28:00 GMT", 21_600),
    ],
)
def test_send_retry_after_becomes_seconds(
    create_client: CreateClient, provider: MisbehavingProvider, header: str, seconds: int
) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n"
    trailer = b"2\r\n{}\r\n0\r\nRetry-After: 2\r\n\r\n"
    head = f"HTTP/1.1 429 Limited\r\nretry-after:  {header} \r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    provider.default = send(interim + head + trailer)
    response = call(create_client(provider.url), provider)
    assert (response.status, response.retry_after, response.body) == (429, seconds, {})


@pytest.mark.parametrize(
    "fail",
    ["refused", "name", "reset", "invalid", "truncated", "late", "certificate"],
)
def test_send_error_repeats_no_secret(
    create_client: CreateClient,
    provider: MisbehavingProvider,
    secure: tuple[MisbehavingProvider, Path],
    environment: pytest.MonkeyPatch,
    fail: str,
) -> None:
    provider.behaviors.update(
        {
            "/CANARY-reset": lambda connection, _attempt, _stopped: reset(connection),
            "/CANARY-invalid": send(b"CANARY" * 3),
            "/CANARY-truncated": send_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nCANARY"),
            "/CANARY-late": hang,
        }
    )
    base_url = {
        "refused": "http://127.0.0.1:1",
        "name": "http://canary.invalid",
        "certificate": secure[0].url,
    }.get(fail, provider.url)
    client = create_client(base_url)
    with pytest.raises(requests.RequestException) as raised:
        client.send("apify", Request("PUT", f"{base_url}/CANARY-{fail}", {}), TOKEN, Deadline.after(3))
    # A traceback has the source code, but no values.
    assert "CANARY" not in "".join(traceback.format_exception_only(raised.value))
    assert "canary" not in repr(raised.value)
    assert base_url.partition("//")[2] not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None or raised.value.__suppress_context__


# Large responses


def test_adapter_large_responses_take_one_of_four_slots(provider: MisbehavingProvider) -> None:
    provider.default = send(http_response(200, b" " * 300_000))
    adapter = CurlAdapter({})
    request = requests.Request("GET", f"{provider.url}/x").prepare()
    open_responses = [adapter.send(request, timeout=LONG) for _ in range(4)]
    with pytest.raises(ResponseTimeoutError) as raised:
        adapter.send(request, timeout=3)
    assert raised.value.status == 200
    provider.behaviors["/small"] = send(OK)
    small = adapter.send(requests.Request("GET", f"{provider.url}/small").prepare(), timeout=LONG)
    assert small.content == b"{}"
    open_responses.pop().close()
    open_responses.append(adapter.send(request, timeout=LONG))
    for response in open_responses:
        response.close()
        response.close()
    provider.behaviors["/oversized"] = send(OVERSIZED["without length"])
    with pytest.raises(InvalidResponseError):
        adapter.send(requests.Request("GET", f"{provider.url}/oversized").prepare(), timeout=LONG)
    again = [adapter.send(request, timeout=LONG) for _ in range(4)]
    assert [len(response.content) for response in again] == [300_000] * 4
    for response in again:
        response.close()
    adapter.close()


def test_send_large_responses_are_parsed_one_at_a_time(
    create_client: CreateClient, provider: MisbehavingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    lock = threading.Lock()
    active = 0

    def read_slowly(status: int, retry_after: int, content: bytes) -> Response:
        nonlocal active
        with lock:
            active += 1
            counts.append(active)
        time.sleep(0.1)
        with lock:
            active -= 1
        return Response(status, len(content))

    monkeypatch.setattr(http_client, "read_response", read_slowly)
    provider.default = send(http_response(200, b" " * 300_000))
    client = create_client(provider.url)
    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda _: call(client, provider), range(6)))
    assert responses == [Response(200, 300_000)] * 6
    assert counts == [1] * 6


def test_send_large_response_does_not_wait_for_another_provider(
    provider: MisbehavingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_parsing, may_continue = threading.Event(), threading.Event()

    def read(status: int, _retry_after: int, content: bytes) -> Response:
        if content.startswith(b"1"):
            is_parsing.set()
            assert may_continue.wait(LONG)
        return Response(status)

    monkeypatch.setattr(http_client, "read_response", read)
    provider.behaviors["/1"] = send(http_response(200, b"1" * 300_000))
    provider.behaviors["/2"] = send(http_response(200, b"2" * 300_000))
    client = http_client.HTTPClient({"apify": provider.url, "data.world": provider.url})
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(call, client, provider, "/1")
        try:
            assert is_parsing.wait(LONG)
            request = Request("PATCH", f"{provider.url}/2", {})
            assert client.send("data.world", request, TOKEN, Deadline.after(LONG)) == Response(200)
            assert not first.done()
        finally:
            may_continue.set()
        assert first.result() == Response(200)
    client.close()


# Platforms without poll()

WITHOUT_POLL = """
import select, sys
del select.poll, select.epoll
from handlers.deadline import Deadline
from handlers.delivery.http_client import HTTPClient
from handlers.providers.base import Request

client = HTTPClient({"apify": sys.argv[1]})
for _ in range(3):
    print(client.send("apify", Request("PUT", sys.argv[1] + "/x", {}), "t", Deadline.after(60)).status)
client.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no poll() that the test could remove.")
def test_send_without_poll_succeeds(provider: MisbehavingProvider) -> None:
    """Python on Windows has neither poll() nor epoll()."""
    command = [sys.executable, "-c", WITHOUT_POLL, provider.url]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert output.stdout == "200\n" * 3
    assert len(provider.connections) == 1
