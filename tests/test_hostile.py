"""Hostile input: whatever is sent gets the answer that is documented for it, never a 500, never a page."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from deploy.local.cloud import Cloud
from deploy.local.signing import proven, signed_headers
from tests.conftest import JSON_TYPE, Relay, assert_problem, in_variables, running, unique
from tests.hooks import hook, update, written
from tests.raw import exchange

SECRET = "whsec_aG9zdGlsZSBpbnB1dCBpcyByZWZ1c2Vk"
DEADLINE = 2.0
GRACE = 0.5

#: Senders that sign, and the header that they sign in.
SIGNING = {
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
def target(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A function with a hook for each sender that signs, all with the same secret, and one that takes any dataset."""
    hooks = {
        sender: hook(update("data.world", "acme/products", {"title": "x"}), sender=sender, secret="env:SECRET")
        for sender in SIGNING
    }
    hooks["open"] = hook(
        update("apify", "{{ event.dataset }}", {"name": "{{ event.name | default('x') }}"}), secret="env:SECRET"
    )
    folder = tmp_path_factory.mktemp("target")
    settings = {
        **cloud.settings(),
        **in_variables(cloud),
        "RELAY_CONFIG": written(folder, hooks),
        "SECRET": SECRET,
        "RELAY_SECRET": "env:SECRET",
        "RELAY_DEADLINE_SECONDS": str(DEADLINE),
        "RELAY_MAX_BODY_BYTES": "12000000",
        "THREADS": "24",
    }
    with running(cloud, settings, folder) as started:
        yield started


BEARER = {"Authorization": f"Bearer {SECRET}"}


# Signatures that are taken away, or taken for another's


@pytest.mark.parametrize("sender", SIGNING)
def test_a_signature_that_is_taken_away(target: Relay, sender: str) -> None:
    body = b"{}"
    proof, _ = proven(sender, SECRET, body, message_id="m")
    assert target.send(body, path=f"/hooks/{sender}", headers=proof).status_code != 401
    stripped = {name: value for name, value in proof.items() if name != SIGNING[sender]}
    emptied = {**proof, SIGNING[sender]: ""}
    doubled = {**proof, SIGNING[sender]: f"{proof[SIGNING[sender]]}0"}
    for headers in (stripped, emptied, doubled, {**stripped, "X-Gitlab-Token": "", "X-Buildkite-Token": ""}):
        answer = target.send(body, path=f"/hooks/{sender}", headers=headers)
        assert_problem(answer, 401, "unproven")


@pytest.mark.parametrize("sender", SIGNING)
def test_a_proof_is_no_proof_for_another_sender(target: Relay, sender: str) -> None:
    body = b"{}"
    proof, _ = proven(sender, SECRET, body, message_id="m")
    for other in SIGNING:
        same = {sender, other} == {"standard-webhooks", "gitlab"}
        status = target.send(body, path=f"/hooks/{other}", headers=proof).status_code
        assert (status != 401) == (other == sender or same), other


@pytest.mark.parametrize("sender", ["standard-webhooks", "gitlab", "buildkite"])
def test_replays(target: Relay, sender: str) -> None:
    """Within the tolerance the same update is made again, which changes nothing; outside of it nobody is heard."""
    body = b"{}"
    now = time.time()
    fresh, _ = proven(sender, SECRET, body, at=now - 290, message_id="m")
    for _ in range(2):
        assert target.send(body, path=f"/hooks/{sender}", headers=fresh).status_code != 401
    for at in (now - 310, now + 310, now - 10**9, 0.0):
        stale, _ = proven(sender, SECRET, body, at=at, message_id="m")
        assert_problem(target.send(body, path=f"/hooks/{sender}", headers=stale), 401, "unproven")
    early, _ = proven(sender, SECRET, body, at=now - 310, message_id="m")
    # A time of today's over yesterday's signature.
    name = "webhook-timestamp" if "webhook-timestamp" in early else "X-Buildkite-Signature"
    early[name] = re.sub(r"\d{10}", str(int(now)), early[name])
    assert_problem(target.send(body, path=f"/hooks/{sender}", headers=early), 401, "unproven")


def test_a_signature_of_another_events_body(target: Relay) -> None:
    signed = signed_headers(SECRET, "m", b'{"a": 1}')
    for body in (b'{"a": 1} ', b'{"a":1}', b'{"a": 2}', b""):
        answer = target.send(body, headers={"Content-Type": JSON_TYPE, **signed})
        assert_problem(answer, 401, "unproven")


def test_look_alikes_of_headers_prove_nothing(target: Relay) -> None:
    """What CGI would take for `X-Hub-Signature-256`, and what is behind another that it hides."""
    body = b"{}"
    signature = proven("github", SECRET, body)[0]["X-Hub-Signature-256"]
    for lines in (
        [f"X_Hub_Signature_256: {signature}"],
        [f"X-Hub-Signature-256: sha256=00\r\nX-Hub-Signature-256: {signature}"],
        [f"X-Hub-Signature-256: {signature}\r\nX-Hub-Signature-256: sha256=00"],
        [f"X-Hub-Signature-256 : {signature}"],
        [f"X-Other: a\r\n X-Hub-Signature-256: {signature}"],
    ):
        got = exchange(target, request("/hooks/github", body, *lines))
        assert got.status in (400, 401), lines
    good = exchange(target, request("/hooks/github", body, f"X-Hub-Signature-256: {signature}"))
    assert good.status not in (400, 401)


# Dataset references


REFERENCES = [
    "", ".", "..", "../x", "..%2fx", "%2e%2e", "a/b", "a/b/c", "a//b", "/a/b", "a/b/", "a/..", "a/../b", "a/b?x=1",
    "a/b#x", "a/b;x", "a\\b", "jane~", "~a", "jane~a~b", "jane~a/../b", "jane~a?token=x", "jane~a#b", "jane~a%2Fb",
    "jane~-a", "jane~a-", "jane~a b", "@evil.example", "jane@evil.example", "//evil.example/a", "http://evil.example/a",
    "a:b", "a/b@c", "a\n", "a\r\nHost: evil", "a\0", "acme/products\n", "acme/pro\u200bducts", "acme/products\u202e",
    "аcme/products", "ａcme/products", "acme／products", "acme/pröducts", "acme/ﬁles", "jane～a", "jane∼a",
    "\u212a", "ſet", "a" * 65, "jane~" + "a" * 64, "a" * 100_000, "Acme/Products", "acme/a--b", "acme/-a", "acme/a-",
    "{{ 7 * 7 }}", "${jndi:ldap://x}", "%00", "acme/%70roducts", "acme/products%0d%0aX: y", "\ufeffacme/products",
]  # fmt: skip


@pytest.mark.parametrize("provider", ["apify", "data.world"])
@pytest.mark.parametrize("reference", REFERENCES, ids=lambda each: ascii(each)[:40])
def test_a_reference_that_leads_elsewhere(target: Relay, provider: str, reference: str) -> None:
    calls = len(target.cloud.apify.calls) + len(target.cloud.data_world.calls)
    event = {
        "provider": provider,
        "dataset": reference,
        "update": {"name": "x"} if provider == "apify" else {"title": "x"},
    }
    answer = target.post(event, headers=BEARER)
    assert list(assert_problem(answer, 422, "invalid")["errors"]) == ["dataset"]
    if provider == "apify":
        by_hook = target.post({"dataset": reference}, path="/hooks/open", headers=BEARER)
        assert list(assert_problem(by_hook, 422, "invalid")["errors"]) == ["updates.0.dataset"]
    assert len(target.cloud.apify.calls) + len(target.cloud.data_world.calls) == calls


def test_text_goes_out_as_it_came_in(target: Relay) -> None:
    """Nothing is normalised: two spellings of a letter stay two, and what looks alike stays what it is."""
    dataset = target.data_world_dataset()

    def entitle(title: str) -> requests.Response:
        event = {"provider": "data.world", "dataset": dataset, "update": {"title": title}}
        return target.post(event, headers=BEARER)

    for title in ("e\u0301", "\u00e9", "ﬁle", "аcme", "a\u200bb", "\u202egnp", "a\u0000b", "💶" * 60, "\u212a"):
        assert entitle(title).status_code == 200
        assert target.cloud.data_world.datasets[dataset]["title"] == title
    assert list(assert_problem(entitle("💶" * 61), 422, "invalid")["errors"]) == ["update.title"]


# JSON


def wide_object(count: int) -> bytes:
    return b"{" + b",".join(b'"k%d":0' % number for number in range(count)) + b"}"


BODIES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "a hundred thousand arrays deep": (b"[" * 100_000 + b"]" * 100_000, 400),
    "a hundred thousand objects deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
    "65 deep": (b'{"a":' * 65 + b"1" + b"}" * 65, 400),
    "a million keys wide": (wide_object(1_000_000 // 2), 422),
    "a million items wide": (b'{"update":{"tags":[' + b",".join([b"0"] * 1_000_000) + b"]}}", 422),
    "a million duplicate keys": (b"{" + b",".join([b'"a":0'] * 1_000_000) + b"}", 400),
    "duplicate keys": (b'{"provider":"apify","provider":"data.world"}', 400),
    "duplicate keys, one escaped": (b'{"a":1,"\\u0061":2}', 400),
    "duplicate keys, deep down": (b'{"a":[{"b":{"c":1,"c":1}}]}', 400),
    "an integer of a million digits": (b'{"a":' + b"9" * 1_000_000 + b"}", 400),
    "an integer of 4 000 digits": (b'{"a":' + b"9" * 4_000 + b"}", 400),
    "a number out of range": (b'{"a":1e400}', 400),
    "NaN": (b'{"a":NaN}', 400),
    "Infinity": (b'{"a":-Infinity}', 400),
    "a NUL byte": (b'{"a":"\0"}', 400),
    "a line end within text": (b'{"a":"\n"}', 400),
    "half a character": (b'{"a":"\\ud800"}', 400),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), 400),
    "UTF-8, too long": (b'{"a":"\xc0\xaf"}', 400),
    "a byte order mark": (b'\xef\xbb\xbf{"a":1}', 400),
    "two objects": (b"{}{}", 400),
    "a comment": (b'{"a":1/**/}', 400),
    "single quotes": (b"{'a':1}", 400),
    "a trailing comma": (b'{"a":1,}', 400),
    "text of a megabyte": (b'{"provider":"' + b"a" * 1_000_000 + b'"}', 422),
    "a key of a megabyte": (b'{"' + b"a" * 1_000_000 + b'":1}', 422),
    "escapes without end": (b'{"a":"' + b"\\u0041" * 500_000 + b'"}', 422),
}


@pytest.mark.parametrize("body", BODIES)
def test_hostile_json(target: Relay, body: str) -> None:
    sent, status = BODIES[body]
    headers = {"Content-Type": JSON_TYPE, **BEARER}
    began = time.monotonic()
    answer = target.send(sent, headers=headers)
    assert_problem(answer, status, "invalid" if status == 422 else "not-json")
    assert len(answer.content) < 100_000
    assert time.monotonic() - began < DEADLINE + GRACE
    by_hook = target.send(sent, path="/hooks/open", headers=headers)
    assert_problem(by_hook, status, "invalid" if status == 422 else "not-json")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity", "", "GZIP, gzip", "aws-chunked"])
@pytest.mark.parametrize("path", ["/", "/hooks/open"])
def test_content_encodings(target: Relay, path: str, encoding: str) -> None:
    answer = target.send(b"{}", path=path, headers={"Content-Type": JSON_TYPE, "Content-Encoding": encoding, **BEARER})
    assert_problem(answer, 415, "unsupported-media-type")


# HTTP


def request(path: str, body: bytes, *lines: str, method: str = "POST", length: bool = True) -> bytes:
    """A request of one's own making."""
    sized = [f"Content-Length: {len(body)}"] if length else []
    head = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Type: {JSON_TYPE}", *sized, *lines]
    return "\r\n".join(head).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


AUTHORIZED = f"Authorization: Bearer {SECRET}"


def test_slow_bodies_are_given_up(target: Relay) -> None:
    """They hold a thread until the time is up, not for ever; and get an answer."""
    lying = request("/", b"", AUTHORIZED, "Content-Length: 1000", length=False)
    chunked = request("/", b"", AUTHORIZED, "Transfer-Encoding: chunked", length=False)
    cases = {
        "never sends its body": (lying, b""),
        "drips its body": (lying, b" " * 1000),
        "never sends a chunk": (chunked, b""),
        "drips a chunk's length": (chunked, b"0" * 1000),
        "drips a chunk": (chunked + b"3e8\r\n", b" " * 1000),
    }
    with ThreadPoolExecutor(8) as pool:
        futures = {name: pool.submit(exchange, target, sent, slowly=rest) for name, (sent, rest) in cases.items()}
        health = target.send(b"", method="GET", path="/health")
        assert health.status_code == 200
        for name, future in futures.items():
            got = future.result()
            assert got.status == 408, name
            assert b"body-too-slow" in got.body
            assert "Relay-Delivery" in got.head
            assert DEADLINE - 0.1 < got.seconds < DEADLINE + GRACE + 1


def test_a_slow_body_that_arrives_in_time(target: Relay) -> None:
    dataset = target.apify_dataset()
    event = {"provider": "apify", "dataset": dataset, "update": {"generalAccess": "RESTRICTED"}}
    body = json.dumps(event).encode()
    head = request("/", b"", AUTHORIZED, f"Content-Length: {len(body)}", length=False)
    got = exchange(target, head + body[:-10], slowly=body[-10:])
    assert got.status == 200
    assert got.seconds >= 1


def test_many_slow_bodies_give_way_to_others(target: Relay) -> None:
    """More of them than there are threads: who waits behind them is served when their time is up."""
    lying = request("/", b"{", AUTHORIZED, "Content-Length: 1000", length=False)
    with ThreadPoolExecutor(30) as pool:
        slow = [pool.submit(exchange, target, lying) for _ in range(24)]
        time.sleep(0.3)
        began = time.monotonic()
        assert target.send(b"", method="GET", path="/health").status_code == 200
        assert time.monotonic() - began < DEADLINE + GRACE
        assert {each.result().status for each in slow} == {408}


FRAMING: dict[str, tuple[bytes, set[int]]] = {
    "no length at all": (request("/", b"", AUTHORIZED, length=False), {400}),
    "a length of 0": (request("/", b"", AUTHORIZED), {400}),
    "a length that is too long, then the end": (
        request("/", b"{}", AUTHORIZED, "Content-Length: 99", length=False),
        {400},
    ),
    "a length that is too short": (request("/", b"{}{}", AUTHORIZED, "Content-Length: 2", length=False), {422}),
    "a negative length": (request("/", b"{}", AUTHORIZED, "Content-Length: -1", length=False), {400}),
    "a length with a sign": (request("/", b"{}", AUTHORIZED, "Content-Length: +2", length=False), {400}),
    "a length in other digits": (request("/", b"{}", AUTHORIZED, "Content-Length: ２", length=False), {400}),
    "a length that is no number": (request("/", b"{}", AUTHORIZED, "Content-Length: x", length=False), {400}),
    "two lengths": (
        request("/", b"{}", AUTHORIZED, "Content-Length: 2", "Content-Length: 3", length=False),
        {400},
    ),
    "a length and chunks": (request("/", b"2\r\n{}\r\n0\r\n\r\n", AUTHORIZED, "Transfer-Encoding: chunked"), {400}),
    "a length past the limit": (
        request("/", b"{", AUTHORIZED, "Content-Length: 99999999999999", length=False),
        {413},
    ),
    "chunks past the limit": (
        request(
            "/",
            b"b71b01\r\n" + b" " * 12_000_001 + b"\r\n0\r\n\r\n",
            AUTHORIZED,
            "Transfer-Encoding: chunked",
            length=False,
        ),
        {413},
    ),
    "a chunk that is none": (
        request("/", b"zz\r\n{}\r\n0\r\n\r\n", AUTHORIZED, "Transfer-Encoding: chunked", length=False),
        {400},
    ),
    "an unknown framing": (request("/", b"{}", AUTHORIZED, "Transfer-Encoding: x", length=False), {400, 501}),
    "a header of 100 000 bytes": (request("/", b"{}", AUTHORIZED, f"X-Long: {'x' * 100_000}"), {400, 431}),
    "a thousand headers": (request("/", b"{}", *[f"X-{n}: x" for n in range(1000)]), {400, 431}),
    "a NUL in a header": (request("/", b"{}", AUTHORIZED, "X-Nul: \0"), {400}),
    "a bare line feed in a header": (request("/", b"{}", AUTHORIZED, "X-Lf: a\nInjected: b"), {400}),
    "a folded header": (request("/", b"{}", AUTHORIZED, "X-Fold: a\r\n b"), {400}),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400}),
    "HTTP/9.9": (request("/", b"{}", AUTHORIZED).replace(b"HTTP/1.1", b"HTTP/9.9"), {400, 505}),
    "a method that is none": (request("/", b"{}", AUTHORIZED, method="P\tOST"), {400}),
    "a method of its own": (request("/", b"{}", AUTHORIZED, method="PUBLISH"), {405}),
    "another's method, by a header": (
        request("/", b"{}", AUTHORIZED, "X-HTTP-Method-Override: POST", method="GET"),
        {405},
    ),
    "a path of 100 000 characters": (request("/" + "a" * 100_000, b"{}", AUTHORIZED), {404}),
    "a query of 100 000 characters": (request("/?" + "a" * 100_000, b"{}", AUTHORIZED), {422}),
    "a path with a NUL": (request("/hooks/open%00", b"{}", AUTHORIZED), {404}),
    "a path with a line end": (request("/hooks/open%0d%0aX:%20y", b"{}", AUTHORIZED), {404}),
    "a path that ends in a line end": (request("/hooks/open%0a", b"{}", AUTHORIZED), {404}),
    "a line end as the path": (request("/%0a", b"{}", AUTHORIZED), {404}),
    "a path that climbs": (request("/hooks/../hooks/open", b"{}", AUTHORIZED), {404}),
    "a path that is encoded": (request("/hooks/%6fpen", b"{}", AUTHORIZED), {422}),
    "a path that isn't UTF-8": (request("/hooks/%ff", b"{}", AUTHORIZED), {404}),
    "a path with two slashes": (request("//hooks/open", b"{}", AUTHORIZED), {404}),
    "a whole address as the path": (request("http://evil.example/", b"{}", AUTHORIZED), {404, 422}),
    "a path that the framework keeps to itself": (request("/robots.txt", b"", method="GET"), {404}),
    "another's host": (request("/", b"{}", AUTHORIZED, "X-Forwarded-Host: evil.example"), {422}),
}


@pytest.mark.parametrize("case", FRAMING)
def test_hostile_http(target: Relay, case: str) -> None:
    sent, statuses = FRAMING[case]
    got = exchange(target, sent, finish="then the end" in case)
    assert got.status in statuses, got.head
    assert got.seconds < DEADLINE + GRACE
    # What the server refuses as malformed, before us, is the server's own.
    if "Relay-Delivery" in got.head:
        assert "application/problem+json" in got.head
    else:
        assert got.status in (400, 431, 501, 505)
    assert "Injected" not in got.head
    assert target.send(b"", method="GET", path="/health").status_code == 200


# What is logged


def test_nobody_writes_a_line_of_the_log(target: Relay, tmp_path: Path) -> None:
    forged = '\r\n{"severity": "INFO", "delivery": "forged"}\r\n'
    before = len(target.log_text().splitlines())
    answers = [
        target.post({"id": f"a{forged}", "provider": f"apify{forged}", "dataset": forged}, headers=BEARER),
        target.post({forged: 1, "dataset": forged}, path="/hooks/open", headers=BEARER),
        target.post({"dataset": "x", "name": forged}, path="/hooks/open", headers=BEARER),
        target.send(b"{}", path="/%0d%0a%7b%22delivery%22:%22forged%22%7d", headers=BEARER),
        target.send(b"{}", path="/\u2028forged", headers=BEARER),
        target.send(b"{}", headers={**BEARER, "webhook-id": "a\x85b\u00a0".encode("latin-1")}),  # type: ignore[dict-item]
        target.send(b"{}", headers={**BEARER, "traceparent": "00-forged", "X-Cloud-Trace-Context": "x" * 5000}),
    ]
    lines = target.log_text().splitlines()[before:]
    assert len(lines) == len(answers)
    entries = [json.loads(line) for line in lines]
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert [entry["delivery"] for entry in entries] == [each.headers["Relay-Delivery"] for each in answers]
    assert "forged" not in [entry["delivery"] for entry in entries]
    assert all(len(line) < 10_000 for line in lines)


def test_a_header_of_ours_that_is_sent_to_us_says_nothing(target: Relay) -> None:
    answer = target.post({"id": unique("a")}, headers={**BEARER, "Relay-Delivery": "mine", "Retry-After": "1"})
    assert answer.headers["Relay-Delivery"] != "mine"
    assert answer.status_code == 422
