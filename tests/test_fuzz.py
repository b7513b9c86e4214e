"""Anything at all, for whatever takes text from outside: a value, or one of the errors that are meant for it.

More of it, and what was tried: FUZZ_EXAMPLES=10000 pytest tests/test_fuzz.py --hypothesis-show-statistics
"""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from marshmallow import Schema

from handlers import senders
from handlers.deadline import Deadline
from handlers.logs import trace_fields
from handlers.providers import PROVIDERS
from handlers.providers.call import Answer, Request, Result, result
from handlers.retries import answered
from handlers.wire import Wire, WireError
from schemas import event as events
from schemas.apify import ApifyUpdate
from schemas.problem import Invalid, NotJSON, RelayError, problem_body
from schemas.redactor import Redactor
from schemas.strict import StrictSchema
from schemas.strict_json import JSON, dump, parse_object
from tests.conftest import Relay
from tests.misbehaving import Misbehaving

SCHEMAS = {name: provider.EVENT for name, provider in PROVIDERS.items()}
TOKEN = "apify_api_fuzzfuzzfuzz0123456789"

SOURCE: dict[str, JSON] = {
    "url": "https://user:pass@example.com/a.csv?x=1",
    "method": "POST",
    "requestHeaders": {"Content-Type": "text/csv", "Authorization": "Bearer x"},
    "requestEntity": "a=b",
    "authorization": {"type": "Bearer", "credentials": "x"},
    "credentials": {"user": "u", "password": "p"},
    "expandArchive": True,
}
VALID: list[dict[str, JSON]] = [
    {"provider": "apify", "dataset": "jane~a", "update": {"name": "b", "generalAccess": "RESTRICTED"}},
    {
        "provider": "data.world",
        "dataset": "acme/products",
        "id": "run-1",
        "type": "done",
        "time": "2026-11-22T08:30:00Z",
        "update": {
            "title": "Products",
            "description": "x",
            "summary": "# x",
            "tags": ["ab", "cd"],
            "license": "CC-BY",
            "visibility": "OPEN",
            "files": [{"name": "a.csv", "labels": ["raw data"], "description": "x", "source": SOURCE}],
            "properties": {"a": [1, None, {"b": 1.5}]},
        },
    },
]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
    | st.sampled_from(
        ["", "a" * 64, "a" * 30_000, "http://x", "~", "/", "a/b", "OPEN", "apify", "data.world", "\0", "-"]
    )
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=10,
)


def places(value: JSON, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in `value`."""
    found = [above]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        found += places(each, (*above, key))
    return found


def changed(value: Any, path: tuple[Any, ...], put: Any, how: str) -> Any:
    """`value` with something else at `path`: replaced, taken away, or with one more beside it."""
    if not path:
        return put
    copied = dict(value) if isinstance(value, dict) else list(value)
    key = path[0]
    if len(path) > 1:
        copied[key] = changed(value[key], path[1:], put, how)
    elif how == "replace":
        copied[key] = put
    elif how == "remove":
        del copied[key]
    elif isinstance(copied, dict):
        copied[put if isinstance(put, str) else "x"] = put
    else:
        copied.append(put)
    return copied


@st.composite
def almost_events(draw: st.DrawFn) -> Any:
    """A valid event with a few things changed."""
    event: Any = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(event)))
        event = changed(event, path, draw(ANYTHING), draw(st.sampled_from(["replace", "remove", "add"])))
    return event


@given(almost_events() | ANYTHING)
def test_events(event: JSON) -> None:
    if not isinstance(event, dict):
        return
    try:
        update = events.read_event(event, SCHEMAS).update
    except Invalid as error:
        errors = error.problem.errors
        assert errors
        assert all(isinstance(each, str) and each for messages in errors.values() for each in messages)
        assert len(json.dumps(problem_body(error.problem))) < 200_000
        return
    # What is sent on is what came in, at the place that the reference names, and nowhere else.
    request = PROVIDERS[update.provider].request("https://platform.example/v1", update)
    assert request.body == event["update"]
    assert re.fullmatch(r"https://platform\.example/v1/datasets/[\w.~-]+(/[\w.~-]+)?", request.url, re.ASCII)
    assert "/.." not in request.url


@given(st.sampled_from(VALID), st.binary(max_size=8), st.integers(0, 10**6), st.integers(0, 20))
def test_bytes(event: dict[str, JSON], put: bytes, at: int, cut: int) -> None:
    raw = dump(event)
    at %= len(raw)
    spoilt = raw[:at] + put + raw[at + cut :]
    try:
        assert parse_object(spoilt) == json.loads(spoilt)
    except NotJSON as error:
        assert error.problem.detail.isprintable()


NAMES = st.sampled_from(
    ["ce-id", "ce-type", "ce-source", "ce-specversion", "ce-time", "ce-data", "ce-", "webhook-id", "svix-id",
     "traceparent", "x-cloud-trace-context", *sorted(senders.hidden_headers()),
     *sorted(name for sender in senders.SENDERS.values() for name in sender.id_headers)]
)  # fmt: skip
HEADERS = st.dictionaries(NAMES, st.text(st.characters(codec="latin-1"), max_size=80), max_size=8)


@given(HEADERS)
@example({"ce-id": '"%00%ff"', "ce-source": "x", "ce-type": "x", "ce-specversion": "1.0"})
def test_headers(headers: dict[str, str]) -> None:
    if attributes := events.binary_attributes(headers):
        try:
            assert events.from_binary(attributes, {})
        except Invalid as error:
            assert error.problem.errors
    for name in senders.SENDERS:
        named = senders.delivery_id(name, headers)
        assert named is None or re.fullmatch("[\x20-\x7e]{1,200}", named)
    assert not set(senders.visible_headers(headers)) & senders.hidden_headers()
    assert all("\n" not in str(each) for each in trace_fields(headers, "p").values())


@given(st.sampled_from(sorted(senders.SENDERS)), ANYTHING)
def test_payloads(name: str, payload: JSON) -> None:
    whole: JSON = payload if isinstance(payload, dict) else {"id": payload, "data": payload, "build": payload}
    named = senders.delivery_id(name, {}, whole)
    assert named is None or re.fullmatch("[\x20-\x7e]{1,200}", named)
    assert senders.is_test_message(name, {}, whole) in (True, False)


@st.composite
def platform_answers(draw: st.DrawFn) -> Answer:
    """Whatever a platform may say; our token is mostly in it."""
    said = draw(ANYTHING.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
    at = draw(st.integers(0, len(said)))
    repeated = draw(st.sampled_from([TOKEN, TOKEN.encode().hex(), f'"{TOKEN}"', ""])).encode()
    headers = draw(st.dictionaries(st.sampled_from(["retry-after", "content-type"]), st.text(max_size=40)))
    return Answer(draw(st.integers(100, 999)), headers, said[:at] + repeated + said[at:])


@given(st.sampled_from(sorted(PROVIDERS)), platform_answers())
def test_answers_of_platforms(name: str, answer: Answer) -> None:
    try:
        given_back = result(PROVIDERS[name], answer, Redactor([TOKEN]))
        assert isinstance(given_back, Result)
        assert 200 <= given_back.status < 300
        shown = json.dumps(given_back.body, ensure_ascii=False)
    except RelayError as error:
        failure = answered(error, answer, now=1e9)
        assert failure.passing <= error.problem.retryable
        assert all(each.isascii() and each.isprintable() for each in error.problem.headers.values())
        shown = json.dumps(problem_body(error.problem), ensure_ascii=False)
    assert TOKEN not in shown
    assert TOKEN.encode().hex() not in shown


REQUEST = (
    b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer x\r\n"
    b"webhook-id: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from([b"", b"hooks/x", b"health", b"openapi.json", b"?dry_run=true"]),
    at=st.integers(0, 200),
    put=st.binary(max_size=6) | st.sampled_from([b"\r\n", b"\0", b" ", b":", b"%0a", b"\r\nContent-Length: 5\r\n"]),
    cut=st.integers(0, 30),
)
def test_http(relay: Relay, path: bytes, at: int, put: bytes, cut: int) -> None:
    whole = REQUEST % path
    at %= len(whole)
    with socket.create_connection(("127.0.0.1", relay.function.port), timeout=15) as connection:
        connection.sendall(whole[:at] + put + whole[at + cut :])
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
    if not received:
        return
    # What is left over on the connection the server may take for another request.
    head = received.partition(b"\r\n\r\n")[0]
    status = int(head[9:12])
    if b"Relay-Delivery: " in head:
        assert status < 500
        assert b"Content-Type: application/json" in head or b"Content-Type: application/problem+json" in head
    else:
        # What is no HTTP the server refuses by itself.
        assert status in (400, 431, 501, 505), head


PIECES = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\r\n", b"HTTP/1.1 103 Early\r\n", b"HTTP/1.1 204 No\r\n",
     b"Content-Length: 2\r\n", b"Content-Length: 9\r\n", b"Content-Length: -1\r\n", b"Content-Length: x\r\n",
     b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Content-Encoding: gzip\r\n",
     b"Content-Encoding: br\r\n", b"Connection: close\r\n", b"Set-Cookie: a=b\r\n", b"Location: http://[\r\n",
     b"Retry-After: 1\r\n", b": x\r\n", b"a b\r\n", b" folded\r\n", b"\r\n", b"\n", b"{}", b"2\r\n{}\r\n",
     b"0\r\n\r\n", b"\x00"]
)  # fmt: skip


@pytest.fixture(scope="module")
def wired() -> Iterator[tuple[Misbehaving, Wire]]:
    """A platform that says whatever it is told to, and a wire to it."""
    platform = Misbehaving().start()
    wire = Wire({"apify": platform.url})
    yield platform, wire
    wire._session.close()
    platform.stop()


@given(said=st.lists(PIECES | st.binary(max_size=5), max_size=8).map(b"".join), closes=st.booleans())
def test_what_a_platform_says(wired: tuple[Misbehaving, Wire], said: bytes, closes: bool) -> None:
    """An answer, or a reason why there is none, in time; and never an answer to the next call."""
    platform, wire = wired

    def speak(connection: socket.socket, _attempt: int, _over: threading.Event) -> None:
        connection.sendall(said)
        if closes:
            connection.shutdown(socket.SHUT_RDWR)

    platform.behaviours["/odd"] = speak
    began = time.monotonic()
    with suppress(WireError), wire.call("apify", call_of(platform, "/odd"), "t", Deadline.after(0.15)) as answer:
        assert 100 <= answer.status <= 999
    assert time.monotonic() - began < 1
    with wire.call("apify", call_of(platform, "/fine"), "t", Deadline.after(5)) as answer:
        assert (answer.status, answer.body) == (200, b"{}")


def call_of(platform: Misbehaving, path: str) -> Request:
    return Request("PUT", platform.url + path, {"a": 1})


@given(almost_events() | ANYTHING, st.sampled_from(sorted(SCHEMAS)))
def test_what_looks_right_is_right(event: JSON, provider: str) -> None:
    """The short way to say that an event breaks no rule never says so where marshmallow finds one broken."""
    schema = SCHEMAS[provider]
    if schema.is_right(event):
        assert isinstance(event, dict)
        assert Schema.validate(schema, event) == {}


@pytest.mark.parametrize("event", VALID)
def test_what_is_right_mostly_looks_so(event: dict[str, Any]) -> None:
    """A file's source has rules between its fields: there marshmallow decides."""
    has_source = any("source" in each for each in event["update"].get("files", []))
    assert SCHEMAS[event["provider"]].is_right(event) is not has_source


def test_rules_of_an_object_as_a_whole_are_never_passed_over() -> None:
    """What says that its fields are all there is to judge has no rule beside them; a subclass has to say so itself."""

    def kinds(kind: type[StrictSchema]) -> Iterator[type[StrictSchema]]:
        for each in kind.__subclasses__():
            yield each
            yield from kinds(each)

    known = {"_no_unknown_field", "_something_to_update"}
    plain = [each for each in kinds(StrictSchema) if each.is_plain]
    assert {each.__name__ for each in plain} >= {"ApifyEvent", "ApifyUpdate", "DataWorldEvent", "DataWorldUpdate"}
    for each in plain:
        hooks = {name for name in dir(each) if hasattr(getattr(each, name), "_marshmallow_hook")}
        assert hooks <= known, each

    class More(ApifyUpdate):
        pass

    assert ApifyUpdate.is_plain
    assert not More().is_right({"name": "a"})


@pytest.mark.parametrize("event", VALID)
def test_what_the_fuzzing_begins_with_is_valid(event: dict[str, JSON]) -> None:
    assert events.read_event(event, SCHEMAS).update.body == event["update"]
