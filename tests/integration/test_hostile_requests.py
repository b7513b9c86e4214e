"""Tests of hostile requests: each gets the response that is documented for it, never a 500, and never an HTML page."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from deploy.local.cloud import Cloud
from deploy.local.signing import authentication, signed_headers
from tests.support.canary import secret
from tests.support.hooks import hook, update, written
from tests.support.raw_http import connect, exchange, is_complete
from tests.support.relay import JSON_TYPE, Relay, assert_problem, in_variables, running, unique

SECRET = secret("whsec_")
BEARER = {"Authorization": f"Bearer {SECRET}"}

#: The senders that sign, and the header with the signature.
SIGNATURE_HEADERS = {
    "standard-webhooks": "webhook-signature",
    "github": "X-Hub-Signature-256",
    "bitbucket": "X-Hub-Signature",
    "gitlab": "webhook-signature",
    "dbt": "Authorization",
    "fivetran": "X-Fivetran-Signature-256",
    "circleci": "circleci-signature",
    "hookdeck": "x-hookdeck-signature",
    "buildkite": "X-Buildkite-Signature",
}


@pytest.fixture(scope="module")
def relay(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function with a hook for each sender that signs, and with a hook for any dataset. All share one secret."""
    hooks = {
        sender: hook(update("data.world", "acme/products", {"title": "x"}), sender=sender, secret="env:SECRET")
        for sender in SIGNATURE_HEADERS
    }
    hooks["open"] = hook(
        update("apify", "{{ event.dataset }}", {"name": "{{ event.name | default('x') }}"}), secret="env:SECRET"
    )
    folder = tmp_path_factory.mktemp("hostile")
    settings = {
        **cloud.settings(),
        **in_variables(cloud),
        "RELAY_CONFIG": written(folder, hooks),
        "SECRET": SECRET,
        "RELAY_SECRET": "env:SECRET",
        "RELAY_DEADLINE_SECONDS": "60",
        "RELAY_MAX_BODY_BYTES": "12000000",
    }
    with running(cloud, settings, folder) as started:
        yield started


def is_authenticated(relay: Relay, sender: str, body: bytes, headers: dict[str, str]) -> bool:
    """Send a request to the hook of `sender`, and return False for a 401."""
    response = relay.send(body, path=f"/hooks/{sender}", headers=headers)
    if response.status_code == 401:
        assert_problem(response, 401, "unauthenticated")
    return response.status_code != 401


# Signatures


@pytest.mark.parametrize("sender", SIGNATURE_HEADERS)
def test_signature_that_is_removed_or_changed_is_401(relay: Relay, sender: str) -> None:
    body, header = b"{}", SIGNATURE_HEADERS[sender]
    signed, _ = authentication(sender, SECRET, body, message_id="m")
    assert is_authenticated(relay, sender, body, signed)
    removed = {name: value for name, value in signed.items() if name != header}
    for headers in (
        removed,
        {**signed, header: ""},
        {**signed, header: f"{signed[header]}0"},
        # The alternative credentials of GitLab and Buildkite, but empty.
        {**removed, "X-Gitlab-Token": "", "X-Buildkite-Token": ""},
    ):
        assert not is_authenticated(relay, sender, body, headers)


@pytest.mark.parametrize("sender", SIGNATURE_HEADERS)
def test_signature_for_another_sender_is_401(relay: Relay, sender: str) -> None:
    body = b"{}"
    signed, _ = authentication(sender, SECRET, body, message_id="m")
    for other in SIGNATURE_HEADERS:
        # GitLab signs by Standard Webhooks.
        is_same = other == sender or {sender, other} == {"standard-webhooks", "gitlab"}
        assert is_authenticated(relay, other, body, signed) == is_same, other


@pytest.mark.parametrize("sender", ["standard-webhooks", "gitlab", "buildkite"])
def test_signature_that_is_replayed_counts_only_within_the_tolerance(relay: Relay, sender: str) -> None:
    body, now = b"{}", time.time()
    recent, _ = authentication(sender, SECRET, body, at=now - 200, message_id="m")
    for _ in range(2):
        assert is_authenticated(relay, sender, body, recent)
    for at in (now - 310, now + 400, now - 10**9, 0.0):
        stale, _ = authentication(sender, SECRET, body, at=at, message_id="m")
        assert not is_authenticated(relay, sender, body, stale)


@pytest.mark.parametrize("sender", ["standard-webhooks", "gitlab", "buildkite"])
def test_signature_with_another_timestamp_is_401(relay: Relay, sender: str) -> None:
    body, now = b"{}", time.time()
    headers, _ = authentication(sender, SECRET, body, at=now - 310, message_id="m")
    name = "webhook-timestamp" if "webhook-timestamp" in headers else "X-Buildkite-Signature"
    headers[name] = re.sub(r"\d{10}", str(int(now)), headers[name])
    assert not is_authenticated(relay, sender, body, headers)


@pytest.mark.parametrize("body", [b'{"a": 1} ', b'{"a":1}', b'{"a": 2}', b""])
def test_signature_of_another_body_is_401(relay: Relay, body: bytes) -> None:
    signed = signed_headers(SECRET, "m", b'{"a": 1}')
    response = relay.send(body, headers={"Content-Type": JSON_TYPE, **signed})
    assert_problem(response, 401, "unauthenticated")


def test_signature_in_a_similar_header_does_not_count(relay: Relay) -> None:
    body = b"{}"
    signature = authentication("github", SECRET, body)[0]["X-Hub-Signature-256"]
    for line in (
        # A CGI program would read this header as X-Hub-Signature-256.
        f"X_Hub_Signature_256: {signature}",
        f"X-Hub-Signature-256: sha256=00\r\nX-Hub-Signature-256: {signature}",
        f"X-Hub-Signature-256: {signature}\r\nX-Hub-Signature-256: sha256=00",
        f"X-Hub-Signature-256 : {signature}",
        f"X-Other: a\r\n X-Hub-Signature-256: {signature}",
    ):
        response = exchange(relay, create_request("/hooks/github", body, line))
        assert response.status in (400, 401), line
    right = exchange(relay, create_request("/hooks/github", body, f"X-Hub-Signature-256: {signature}"))
    assert right.status not in (400, 401)


# References to datasets


REFERENCES = [
    "", ".", "..", "../x", "..%2fx", "%2e%2e", "a/b", "a/b/c", "a//b", "/a/b", "a/b/", "a/..", "a/../b", "a/b?x=1",
    "a/b#x", "a/b;x", "a\\b", "jane~", "~-a", "jane~a~b", "jane~a/../b", "jane~a?token=x", "jane~a#b", "jane~a%2Fb",
    "jane~-a", "jane~a-", "jane~a b", "@evil.example", "jane@evil.example", "//evil.example/a", "http://evil.example/a",
    "a:b", "a/b@c", "a\n", "a\r\nHost: evil", "a\0", "acme/products\n", "acme/pro\u200bducts", "acme/products\u202e",
    "аcme/products", "ａcme/products", "acme／products", "acme/pröducts", "acme/ﬁles", "jane～a", "jane∼a",
    "\u212a", "ſet", "a" * 65, "jane~" + "a" * 64, "a" * 100_000, "Acme/Products", "acme/a--b", "acme/-a", "acme/a-",
    "{{ 7 * 7 }}", "${jndi:ldap://x}", "%00", "acme/%70roducts", "acme/products%0d%0aX: y", "\ufeffacme/products",
]  # fmt: skip


@pytest.mark.parametrize("provider", ["apify", "data.world"])
@pytest.mark.parametrize("reference", REFERENCES, ids=lambda reference: ascii(reference)[:40])
def test_reference_that_leads_to_another_path_is_invalid(relay: Relay, provider: str, reference: str) -> None:
    calls = len(relay.cloud.apify.calls) + len(relay.cloud.data_world.calls)
    event = {
        "provider": provider,
        "dataset": reference,
        "update": {"name": "x"} if provider == "apify" else {"title": "x"},
    }
    response = relay.post(event, headers=BEARER)
    assert list(assert_problem(response, 422, "invalid")["errors"]) == ["dataset"]
    if provider == "apify":
        by_hook = relay.post({"dataset": reference}, path="/hooks/open", headers=BEARER)
        assert list(assert_problem(by_hook, 422, "invalid")["errors"]) == ["updates.0.dataset"]
    assert len(relay.cloud.apify.calls) + len(relay.cloud.data_world.calls) == calls


# Unicode


def send_title(relay: Relay, dataset: str, title: str) -> requests.Response:
    """Send an event that changes the title of a dataset of data.world."""
    event = {"provider": "data.world", "dataset": dataset, "update": {"title": title}}
    return relay.post(event, headers=BEARER)


@pytest.mark.parametrize(
    "title",
    ["e\u0301", "\u00e9", "ﬁle", "аcme", "a\u200bb", "\u202egnp", "a\u0000b", "💶" * 60, "\u212a"],
    ids=ascii,
)
def test_text_reaches_the_provider_unchanged(relay: Relay, title: str) -> None:
    dataset = relay.data_world_dataset()
    assert send_title(relay, dataset, title).status_code == 200
    assert relay.cloud.data_world.datasets[dataset]["title"] == title


def test_text_length_counts_code_points(relay: Relay) -> None:
    response = send_title(relay, relay.data_world_dataset(), "💶" * 61)
    assert list(assert_problem(response, 422, "invalid")["errors"]) == ["update.title"]


# JSON


def wide_object(count: int) -> bytes:
    """Return an object with many keys."""
    return b"{" + b",".join(b'"k%d":0' % number for number in range(count)) + b"}"


BODIES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "a hundred thousand nested arrays": (b"[" * 100_000 + b"]" * 100_000, 400),
    "a hundred thousand nested objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
    "65 nested objects": (b'{"a":' * 65 + b"1" + b"}" * 65, 400),
    "half a million keys": (wide_object(500_000), 422),
    "a million items": (b'{"update":{"tags":[' + b",".join([b"0"] * 1_000_000) + b"]}}", 422),
    "a million duplicate keys": (b"{" + b",".join([b'"a":0'] * 1_000_000) + b"}", 400),
    "duplicate keys": (b'{"provider":"apify","provider":"data.world"}', 400),
    "duplicate keys, one escaped": (b'{"a":1,"\\u0061":2}', 400),
    "duplicate keys, nested": (b'{"a":[{"b":{"c":1,"c":1}}]}', 400),
    "an integer of a million digits": (b'{"a":' + b"9" * 1_000_000 + b"}", 400),
    "an integer of 4 000 digits": (b'{"a":' + b"9" * 4_000 + b"}", 400),
    "a number out of range": (b'{"a":1e400}', 400),
    "NaN": (b'{"a":NaN}', 400),
    "Infinity": (b'{"a":-Infinity}', 400),
    "a NUL byte": (b'{"a":"\0"}', 400),
    "a newline in a string": (b'{"a":"\n"}', 400),
    "a lone surrogate": (b'{"a":"\\ud800"}', 400),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), 400),
    "overlong UTF-8": (b'{"a":"\xc0\xaf"}', 400),
    "a byte order mark": (b'\xef\xbb\xbf{"a":1}', 422),
    "two objects": (b"{}{}", 400),
    "a comment": (b'{"a":1/**/}', 400),
    "single quotes": (b"{'a':1}", 400),
    "a trailing comma": (b'{"a":1,}', 400),
    "a string of a megabyte": (b'{"provider":"' + b"a" * 1_000_000 + b'"}', 422),
    "a key of a megabyte": (b'{"' + b"a" * 1_000_000 + b'":1}', 422),
    "half a million escapes": (b'{"a":"' + b"\\u0041" * 500_000 + b'"}', 422),
}


#: The values that a hook ignores, because it doesn't use them.
UNUSED_VALUES = {
    "a million duplicate keys", "duplicate keys", "duplicate keys, one escaped", "duplicate keys, nested",
    "an integer of a million digits", "an integer of 4 000 digits", "a number out of range", "NaN", "Infinity",
    "a lone surrogate",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/", "/hooks/open"])
@pytest.mark.parametrize("case", BODIES)
def test_json_that_is_hostile_is_invalid(relay: Relay, case: str, path: str) -> None:
    body, status = BODIES[case]
    if path == "/hooks/open" and case in UNUSED_VALUES:
        status = 422
    response = relay.send(body, path=path, headers={"Content-Type": JSON_TYPE, **BEARER})
    assert_problem(response, status, "invalid" if status == 422 else "invalid-json")
    assert len(response.content) < 100_000


@pytest.mark.parametrize(
    "encoding", ["gzip", "deflate", "br", "", "GZIP, gzip", "aws-chunked", "identity, gzip", "identity,", "*"]
)
@pytest.mark.parametrize("path", ["/", "/hooks/open"])
def test_content_encoding_of_any_kind_is_415(relay: Relay, path: str, encoding: str) -> None:
    response = relay.send(b"{}", path=path, headers={"Content-Type": JSON_TYPE, "Content-Encoding": encoding, **BEARER})
    assert_problem(response, 415, "unsupported-content-encoding")


# Bodies that arrive slowly


def create_request(path: str, body: bytes, *lines: str, method: str = "POST", with_length: bool = True) -> bytes:
    """Return the bytes of a request with these further header lines."""
    length = [f"Content-Length: {len(body)}"] if with_length else []
    head = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Type: {JSON_TYPE}", *length, *lines]
    return "\r\n".join(head).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


AUTHORIZED = f"Authorization: Bearer {SECRET}"
HEAD_WITH_LENGTH = create_request("/", b"", AUTHORIZED, "Content-Length: 1000", with_length=False)
CHUNKED_HEAD = create_request("/", b"", AUTHORIZED, "Transfer-Encoding: chunked", with_length=False)

#: The deadline for a body, in seconds, and the number of threads of the function with that deadline.
BODY_DEADLINE, THREADS = 2.0, 8

#: What a caller sends at once, and what the caller sends with one byte every tenth of a second. No body is complete
#: before the timeout of `exchange`.
SLOW_BODIES = {
    "no body": (HEAD_WITH_LENGTH, b""),
    "dripping body": (HEAD_WITH_LENGTH, b" " * 1000),
    "no chunk": (CHUNKED_HEAD, b""),
    "dripping chunk length": (CHUNKED_HEAD, b"0" * 1000),
    "dripping chunk": (CHUNKED_HEAD + b"3e8\r\n", b" " * 1000),
}


@pytest.fixture(scope="module")
def impatient(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function with a short deadline, and with the secret of `relay`."""
    settings = {
        **cloud.settings(),
        "SECRET": SECRET,
        "RELAY_SECRET": "env:SECRET",
        "RELAY_DEADLINE_SECONDS": str(BODY_DEADLINE),
        "THREADS": str(THREADS),
    }
    with running(cloud, settings, tmp_path_factory.mktemp("impatient")) as started:
        yield started


@pytest.mark.parametrize("case", SLOW_BODIES)
def test_slow_body_is_408_at_the_deadline(impatient: Relay, case: str) -> None:
    sent, slowly = SLOW_BODIES[case]
    response = exchange(impatient, sent, slowly=slowly)
    assert response.status == 408
    assert b"body-timeout" in response.body
    assert "Relay-Delivery" in response.head
    assert response.seconds >= BODY_DEADLINE


def test_slow_body_that_arrives_in_time_is_accepted(relay: Relay) -> None:
    request = create_request("/", json.dumps(relay.apify_event()).encode(), AUTHORIZED)
    response = exchange(relay, request[:-10], slowly=request[-10:])
    assert response.status == 200
    assert response.seconds >= 1


def test_slow_bodies_on_all_threads_do_not_stop_other_requests(impatient: Relay) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(impatient)) for _ in range(THREADS)]
        for connection in slow:
            connection.sendall(HEAD_WITH_LENGTH + b"{")
        # The bodies never arrive. So this response comes only if the function gives up on them.
        assert impatient.send(b"", method="GET", path="/health").status_code == 200
        for connection in slow:
            received = b""
            while not is_complete(received):
                received += connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 408 ")


# HTTP


FRAMING: dict[str, tuple[bytes, set[int]]] = {
    "no length": (create_request("/", b"", AUTHORIZED, with_length=False), {400}),
    "length 0": (create_request("/", b"", AUTHORIZED), {400}),
    "length over the body, and the end": (
        create_request("/", b"{}", AUTHORIZED, "Content-Length: 99", with_length=False),
        {400},
    ),
    "length under the body": (
        create_request("/", b"{}{}", AUTHORIZED, "Content-Length: 2", with_length=False),
        {422},
    ),
    "negative length": (create_request("/", b"{}", AUTHORIZED, "Content-Length: -1", with_length=False), {400}),
    "length with a sign": (create_request("/", b"{}", AUTHORIZED, "Content-Length: +2", with_length=False), {400}),
    "length in other digits": (
        create_request("/", b"{}", AUTHORIZED, "Content-Length: ２", with_length=False),
        {400},
    ),
    "length that is no number": (
        create_request("/", b"{}", AUTHORIZED, "Content-Length: x", with_length=False),
        {400},
    ),
    "two lengths": (
        create_request("/", b"{}", AUTHORIZED, "Content-Length: 2", "Content-Length: 3", with_length=False),
        {400},
    ),
    "length and chunks": (
        create_request("/", b"2\r\n{}\r\n0\r\n\r\n", AUTHORIZED, "Transfer-Encoding: chunked"),
        {400},
    ),
    "length over the limit": (
        create_request("/", b"{", AUTHORIZED, "Content-Length: 99999999999999", with_length=False),
        {413},
    ),
    "chunks over the limit": (CHUNKED_HEAD + b"b71b01\r\n" + b" " * 12_000_001 + b"\r\n0\r\n\r\n", {413}),
    "malformed chunk": (CHUNKED_HEAD + b"zz\r\n{}\r\n0\r\n\r\n", {400}),
    "unknown framing": (
        create_request("/", b"{}", AUTHORIZED, "Transfer-Encoding: x", with_length=False),
        {400, 501},
    ),
    "header of 100 000 bytes": (create_request("/", b"{}", AUTHORIZED, f"X-Long: {'x' * 100_000}"), {400, 431}),
    "a thousand headers": (create_request("/", b"{}", *[f"X-{number}: x" for number in range(1000)]), {400, 431}),
    "NUL in a header": (create_request("/", b"{}", AUTHORIZED, "X-Nul: \0"), {400}),
    "bare line feed in a header": (create_request("/", b"{}", AUTHORIZED, "X-Lf: a\nInjected: b"), {400}),
    "folded header": (create_request("/", b"{}", AUTHORIZED, "X-Fold: a\r\n b"), {400}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400}),
    "HTTP/9.9": (create_request("/", b"{}", AUTHORIZED).replace(b"HTTP/1.1", b"HTTP/9.9"), {400, 505}),
    "malformed method": (create_request("/", b"{}", AUTHORIZED, method="P\tOST"), {400}),
    "unknown method": (create_request("/", b"{}", AUTHORIZED, method="PUBLISH"), {405}),
    "method in a header": (
        create_request("/", b"{}", AUTHORIZED, "X-HTTP-Method-Override: POST", method="GET"),
        {405},
    ),
    "path of 100 000 characters": (create_request("/" + "a" * 100_000, b"{}", AUTHORIZED), {404}),
    "query of 100 000 characters": (create_request("/?" + "a" * 100_000, b"{}", AUTHORIZED), {414}),
    "query of 4 MB": (create_request("/?" + "a&" * 2_000_000, b"{}", AUTHORIZED), {414}),
    "path of 4 MB": (create_request("/" + "%3F" * 1_400_000, b"{}", AUTHORIZED), {404}),
    "length of 4 200 digits": (
        create_request("/", b"{}", AUTHORIZED, f"Content-Length: {'9' * 4200}", with_length=False),
        {413},
    ),
    "length of 5 000 digits": (
        create_request("/", b"{}", AUTHORIZED, f"Content-Length: {'9' * 5000}", with_length=False),
        {400},
    ),
    "path with NUL": (create_request("/hooks/open%00", b"{}", AUTHORIZED), {404}),
    "path with a newline": (create_request("/hooks/open%0d%0aX:%20y", b"{}", AUTHORIZED), {404}),
    "path with a newline at the end": (create_request("/hooks/open%0a", b"{}", AUTHORIZED), {404}),
    "newline as the path": (create_request("/%0a", b"{}", AUTHORIZED), {404}),
    "path with dots": (create_request("/hooks/../hooks/open", b"{}", AUTHORIZED), {404}),
    "encoded path": (create_request("/hooks/%6fpen", b"{}", AUTHORIZED), {422}),
    "path that isn't UTF-8": (create_request("/hooks/%ff", b"{}", AUTHORIZED), {404}),
    "path with two slashes": (create_request("//hooks/open", b"{}", AUTHORIZED), {404}),
    "URL as the path": (create_request("http://evil.example/", b"{}", AUTHORIZED), {404, 422}),
    # functions-framework itself handles this path.
    "robots.txt": (create_request("/robots.txt", b"", method="GET"), {404}),
    "forwarded host": (create_request("/", b"{}", AUTHORIZED, "X-Forwarded-Host: evil.example"), {422}),
}


@pytest.mark.parametrize("case", FRAMING)
def test_http_that_is_hostile_gets_the_documented_status(relay: Relay, case: str) -> None:
    sent, statuses = FRAMING[case]
    response = exchange(relay, sent, finish="and the end" in case)
    assert response.status in statuses, response.head
    # gunicorn rejects malformed HTTP before the function runs, with a response of its own.
    if "Relay-Delivery" in response.head:
        assert "application/problem+json" in response.head
    else:
        assert response.status in (400, 431, 501, 505)
    assert "Injected" not in response.head
    assert relay.send(b"", method="GET", path="/health").status_code == 200


# The log and the headers of the response


def test_log_line_can_not_be_forged(relay: Relay) -> None:
    forged = '\r\n{"severity": "INFO", "delivery": "forged"}\r\n'
    # The line of this request follows the lines of all earlier requests.
    assert relay.send(b"", method="GET", path="/health").status_code == 200
    before = len(relay.log_text().splitlines())
    responses = [
        relay.post({"id": f"a{forged}", "provider": f"apify{forged}", "dataset": forged}, headers=BEARER),
        relay.post({forged: 1, "dataset": forged}, path="/hooks/open", headers=BEARER),
        relay.post({"dataset": "x", "name": forged}, path="/hooks/open", headers=BEARER),
        relay.send(b"{}", path="/%0d%0a%7b%22delivery%22:%22forged%22%7d", headers=BEARER),
        relay.send(b"{}", path="/\u2028forged", headers=BEARER),
        relay.send(b"{}", headers={**BEARER, "webhook-id": "a\x85b\u00a0".encode("latin-1")}),  # type: ignore[dict-item]
        relay.send(b"{}", headers={**BEARER, "traceparent": "00-forged", "X-Cloud-Trace-Context": "x" * 5000}),
    ]
    lines = relay.log_text().splitlines()[before:]
    assert len(lines) == len(responses)
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert all(len(line) < 10_000 for line in lines)
    ids = [json.loads(line)["delivery"] for line in lines]
    assert ids == [response.headers["Relay-Delivery"] for response in responses]
    assert "forged" not in ids


def test_response_headers_in_a_request_have_no_effect(relay: Relay) -> None:
    response = relay.post({"id": unique("a")}, headers={**BEARER, "Relay-Delivery": "mine", "Retry-After": "1"})
    assert response.headers["Relay-Delivery"] != "mine"
    assert response.status_code == 422
