"""Tests of deploy/gcp/replay with the official emulator of Pub/Sub, and with local servers in place of Google."""

import json
import os
import pty
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from flask import Flask, Response, request
from google.pubsub_v1 import (
    AcknowledgeRequest,
    ModifyAckDeadlineRequest,
    PublishRequest,
    PublishResponse,
    PubsubMessage,
    PullRequest,
    PullResponse,
    ReceivedMessage,
    Subscription,
)
from hypothesis import example, given
from hypothesis import strategies as st

from deploy.gcp import replay
from deploy.gcp.replay import Candidate, DeadLetter, Finding, find_later, log_filter, newest_of_each_dataset
from deploy.local.cloud import PROJECT, ROOT, free_port
from deploy.local.emulator import INSTALL, Emulator, find_gcloud
from deploy.local.google_identity import ACCOUNT, AUDIENCE
from deploy.local.server import LoopbackServer
from handlers.queue.publisher import Publisher
from handlers.queue.queue import Queue, Reason
from schemas.event import Update
from schemas.problem import UpstreamFailedError
from schemas.pubsub import PushIdentity, PushMessage
from schemas.queued_update import QueuedUpdate
from schemas.settings import QueueSettings
from tests.soak.queue import QueuedFunction
from tests.support.canary import RECORDER, secret
from tests.support.logging_query import log_entry, parse

GCLOUD = find_gcloud()
needs_emulator = pytest.mark.skipif(
    GCLOUD is None,
    reason=f"LOUD: the emulator of Pub/Sub is missing ({INSTALL}). deploy/gcp/replay is NOT tested with it.",
)
BIN = Path(sys.executable).parent
SERVICE = "dataset-relay"
APIFY, DATA_WORLD = "jane~products", "acme/prices"
#: The time at which the first update of a test was published to the queue.
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


def at(minutes: float) -> str:
    """Return the time of an update, in minutes after START, as Pub/Sub writes it."""
    return (START + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def update_of(dataset: str, **body: Any) -> Update:
    return Update("data.world" if "/" in dataset else "apify", dataset, body or {"name": "a"})


def letter(
    message_id: str, update: Update, minutes: float, *, delivery: str | None = None, original: str | None = None
) -> DeadLetter:
    attributes = {"relay-published": at(minutes), "relay-message": original or message_id}
    queued = QueuedUpdate(update, f"run-{message_id}" if delivery is None else delivery)
    published = START + timedelta(minutes=minutes)
    return DeadLetter(message_id, attributes, queued.data(), START, published, queued)


def candidate_of(update: Update, delivery: str = "run-1") -> Candidate:
    return Candidate(letter("1", update, 0, delivery=delivery), ())


def message(data: bytes, **attributes: str) -> PubsubMessage:
    renamed = {f"relay-{name}": value for name, value in attributes.items()}
    return PubsubMessage(data=data, attributes=renamed, message_id="1", publish_time=START)


# The parts without I/O


def test_read_letter_with_an_update() -> None:
    queued = QueuedUpdate(update_of(APIFY), "run-1", "build")
    read = replay.read_letter(message(queued.data(), published="2026-11-22T08:30:00.123456789Z"))
    assert (read.queued, read.mistakes) == (queued, ())
    assert read.published == datetime(2026, 11, 22, 8, 30, 0, 123456, UTC)


@pytest.mark.parametrize(
    "data",
    [b"", b"not JSON", b"[]", b'{"provider": "apify"}', b'{"provider":"apify","dataset":"a","update":{"name":"b"}}'],
)
def test_read_letter_without_an_update_has_mistakes(data: bytes) -> None:
    read = replay.read_letter(message(data, published=at(0)))
    assert read.queued is None
    assert read.mistakes


def test_read_letter_with_too_many_credentials_has_mistakes() -> None:
    files = [
        {"name": f"{n}", "source": {"url": "https://files.example", "requestHeaders": {"X-Key": f"CANARY-{n}"}}}
        for n in range(600)
    ]
    read = replay.read_letter(message(QueuedUpdate(update_of(DATA_WORLD, files=files), "run").data(), published=at(0)))
    assert read.queued is None
    assert "credentials" in read.mistakes[0]


@pytest.mark.parametrize("attributes", [{}, {"published": ""}, {"published": "soon"}, {"published": "2026-11-22"}])
def test_read_letter_without_a_time_is_not_sent(attributes: dict[str, str]) -> None:
    read = replay.read_letter(message(QueuedUpdate(update_of(APIFY), "run").data(), **attributes))
    assert read.queued is None
    assert read.mistakes == ("The attribute relay-published isn't a time, so the age of the update is unknown.",)


def test_newest_of_each_dataset_is_by_the_time_of_publication() -> None:
    letters = [
        letter("4", update_of(APIFY), 3),
        letter("1", update_of(DATA_WORLD), 9),
        letter("2", update_of(APIFY), 1),
        letter("3", update_of(APIFY), 2),
    ]
    found = newest_of_each_dataset(letters)
    assert [(each.name, each.newest.message_id, [old.message_id for old in each.older]) for each in found] == [
        (f"apify:{APIFY}", "4", ["2", "3"]),
        (f"data.world:{DATA_WORLD}", "1", []),
    ]


def test_newest_of_each_dataset_at_the_same_time_is_by_the_number_of_the_message() -> None:
    letters = [letter(n, update_of(APIFY), 0, original=n) for n in ("10", "9", "11", "8")]
    (found,) = newest_of_each_dataset(letters)
    assert found.newest.message_id == "11"
    assert [old.message_id for old in found.older] == ["8", "9", "10"]


def test_newest_of_each_dataset_leaves_out_messages_without_an_update() -> None:
    assert newest_of_each_dataset([replay.read_letter(message(b"{}", published=at(0)))]) == []


def with_numbers(query: str) -> str:
    """Return a query with its times as numbers, because tests.support.logging_query compares only numbers."""
    return re.sub(
        r'timestamp>="([^"]+)"', lambda match: f"timestamp>={datetime.fromisoformat(match[1]).timestamp()}", query
    )


def matching(query: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    match = parse(with_numbers(query))
    numbers = [{**entry, "timestamp": datetime.fromisoformat(entry["timestamp"]).timestamp()} for entry in entries]
    return [entry for entry, number in zip(entries, numbers, strict=True) if match(number)]


def line(minutes: float, service: str = SERVICE, **payload: Any) -> dict[str, Any]:
    """Return the log entry of a line of the function."""
    entry = log_entry(json.dumps({"severity": "INFO", **payload}), service)
    return {**entry, "timestamp": at(minutes)}


def own_line(delivery: str = "run-1", minutes: float = 0.01) -> dict[str, Any]:
    return line(minutes, outcome="queued", delivery=delivery, provider="apify", dataset=APIFY)


def test_log_filter_finds_the_lines_of_the_dataset() -> None:
    dataset = {"provider": "apify", "dataset": APIFY}
    wanted = [
        own_line(),
        # The event of an update that was sent again is older than the update's last publication.
        own_line(minutes=-20 * 24 * 60),
        line(1, outcome="delivered", delivery="run-2", **dataset),
        line(2, outcome="queued", delivery="run-3", **dataset),
        line(3, outcome="failed", updates=[{"provider": "data.world", "dataset": DATA_WORLD}, dataset]),
    ]
    others = [
        own_line(minutes=-31 * 24 * 60),
        line(-1, outcome="delivered", **dataset),
        line(1, outcome="failed", **dataset),
        line(1, outcome="lost", delivery="run-1", **dataset),
        line(1, outcome="delivered", provider="data.world", dataset=APIFY),
        line(1, outcome="delivered", provider="apify", dataset="jane~other"),
        line(1, "another-service", outcome="delivered", **dataset),
    ]
    assert matching(log_filter(SERVICE, candidate_of(update_of(APIFY))), wanted + others) == wanted


_HOSTILE = '" OR jsonPayload.outcome="delivered'


@given(st.text(max_size=20), st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
@example(_HOSTILE, _HOSTILE)
@example('\\" OR "a"="a', "\\")
@example('a"\nOR timestamp>="2000', 'a")')
def test_log_filter_with_quotes_in_a_name_finds_only_the_name(dataset: str, delivery: str) -> None:
    if "--" in dataset + delivery:
        return  # The parser of the tests sees a comment.
    query = log_filter(SERVICE, candidate_of(update_of(dataset), delivery))
    name = {"provider": "data.world" if "/" in dataset else "apify", "dataset": dataset}
    wanted = [
        line(1, outcome="delivered", **name),
        line(1, outcome="queued", delivery=delivery),
    ]
    others = [
        line(1, outcome="delivered", **{**name, "dataset": f"{dataset}x"}),
        line(1, outcome="queued", delivery=f"{delivery}x"),
        line(1, outcome="delivered"),
    ]
    assert matching(query, wanted + others) == wanted
    assert query.count("\n") == 3


def test_log_filter_of_a_long_dataset_has_the_name_in_the_log() -> None:
    dataset = "acme/" + "a" * 400
    logged = line(1, outcome="delivered", delivery="run-2", provider="data.world", dataset=dataset[:256])
    candidate = candidate_of(update_of(dataset))
    assert matching(log_filter(SERVICE, candidate), [logged]) == [logged]
    assert find_later([logged], candidate).later


LATER = {"provider": "apify", "dataset": APIFY}


@pytest.mark.parametrize(
    "entry",
    [
        line(5, outcome="delivered", **LATER),
        line(5, outcome="queued", delivery="run-2", **LATER),
        # A delivery from the queue of an update that was published later.
        line(5, outcome="delivered", message_id="2", queued_seconds=120.0, duration_ms=900, **LATER),
        # The update itself.
        line(5, outcome="delivered", message_id="1", queued_seconds=299.9, duration_ms=99.9, **LATER),
        line(5, outcome="delivered", message_id="2", queued_seconds="?", **LATER),
        {**line(5, outcome="delivered", **LATER), "timestamp": "?"},
        line(5, outcome="delivered", updates=[{"provider": "data.world", "dataset": DATA_WORLD}, {**LATER}]),
        line(5, outcome="queued", updates=[{**LATER}]),
        # The other update of the event failed.
        line(5, outcome="failed", updates=[{**LATER}, {"provider": "apify", "dataset": "x", "problem": "busy"}]),
    ],
)
def test_find_later_finds_a_later_update(entry: dict[str, Any]) -> None:
    finding = find_later([entry, own_line()], candidate_of(update_of(APIFY)))
    assert finding.later is not None
    assert finding.later.startswith("A later update was ")


@pytest.mark.parametrize(
    "entry",
    [
        # Cloud Logging ignores the case of letters, but the ID of a dataset on Apify doesn't.
        line(5, outcome="delivered", provider="apify", dataset=APIFY.upper()),
        # A delivery from the queue of an update that was published earlier.
        line(5, outcome="delivered", message_id="0", queued_seconds=360.0, duration_ms=900, **LATER),
        line(5, outcome="failed", **LATER),
        line(5, outcome="failed", updates=[{**LATER, "problem": "busy"}, {"provider": "apify", "dataset": "x"}]),
        line(5, outcome="failed", dry_run=True, updates=[{**LATER}]),
        line(5, outcome="dry_run", updates=[{**LATER}]),
        line(5, outcome="delivered", updates=["?", {"provider": "data.world", "dataset": APIFY}]),
        {"textPayload": "?"},
    ],
)
def test_find_later_passes_over_other_lines(entry: dict[str, Any]) -> None:
    assert find_later([entry, own_line()], candidate_of(update_of(APIFY))) == Finding()


def test_find_later_passes_over_the_events_of_the_superseded_messages() -> None:
    candidate = Candidate(
        letter("2", update_of(APIFY), 0, delivery="run-1"), (letter("1", update_of(APIFY), -1, delivery="run-0"),)
    )
    assert find_later([own_line("run-0", 1), own_line("run-1", 1)], candidate) == Finding()


@pytest.mark.parametrize("entries", [[], [line(0, outcome="lost", delivery="run-1", **LATER)]])
def test_find_later_without_the_line_of_the_update_is_unknown(entries: list[dict[str, Any]]) -> None:
    finding = find_later(entries, candidate_of(update_of(APIFY)))
    assert finding.later is None
    assert finding.unknown is not None
    assert "no line of the delivery run-1" in finding.unknown


# The servers in place of Google


@dataclass
class FakeLogging(LoopbackServer):
    """Cloud Logging with log entries in memory, and the token server of a user."""

    token: str = field(default_factory=lambda: secret("ya29."), repr=False)
    entries: list[dict[str, Any]] = field(default_factory=list, repr=False)
    #: The responses in place of the entries. The last one stays.
    instead: list[Callable[[], Response]] = field(default_factory=list, repr=False)
    queries: list[str] = field(default_factory=list)
    page_size: int = 1000

    def routes(self, app: Flask) -> None:
        """Add the routes."""

        @app.post("/token")
        def token() -> dict[str, Any]:
            return {"access_token": self.token, "token_type": "Bearer", "expires_in": 3600}

        @app.post("/v2/entries:list")
        def entries() -> Any:
            assert request.headers["Authorization"] == f"Bearer {self.token}"
            body = request.get_json()
            assert body["resourceNames"] == [f"projects/{PROJECT}"]
            assert body["orderBy"] == "timestamp desc"
            self.queries.append(body["filter"])
            if self.instead:
                return (self.instead.pop(0) if len(self.instead) > 1 else self.instead[0])()
            found = matching(body["filter"], self.entries)
            found.sort(key=lambda entry: datetime.fromisoformat(entry["timestamp"]), reverse=True)
            start = int(body.get("pageToken", 0))
            page: dict[str, Any] = {"entries": found[start : start + self.page_size]}
            if start + self.page_size < len(found):
                page["nextPageToken"] = str(start + self.page_size)
            return page


@pytest.fixture
def logging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeLogging]:
    """Run a server in place of Cloud Logging, to which the credentials of this machine give access."""
    started = FakeLogging()
    started.start()
    # The credentials of a service account would also look up its allowed locations at Google.
    user = {
        "type": "authorized_user",
        "client_id": "client",
        "client_secret": secret("client-"),
        "refresh_token": secret("1//"),
        "quota_project_id": PROJECT,
    }
    (tmp_path / "user.json").write_text(json.dumps(user))
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{started.url}/token")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "user.json"))
    yield started
    started.stop()


class FakePubSub:
    """A Pub/Sub with the messages of one subscription. It records the calls, and can refuse them."""

    def __init__(self) -> None:
        self.messages: list[PubsubMessage] = []
        #: The name and the request of each call, except for pulls.
        self.calls: list[tuple[str, Any]] = []
        self.pulls = 0
        self.refusals: dict[str, grpc.StatusCode] = {}
        self._server = grpc.server(ThreadPoolExecutor(4))
        calls: dict[str, tuple[Any, Any]] = {
            "Pull": (PullRequest, self._pull),
            "ModifyAckDeadline": (ModifyAckDeadlineRequest, None),
            "Acknowledge": (AcknowledgeRequest, None),
            "Publish": (PublishRequest, self._publish),
        }
        for service in ("Subscriber", "Publisher"):
            handlers: dict[str, Any] = {
                name: grpc.unary_unary_rpc_method_handler(
                    self._handler(name, handle), request_deserializer=kind.deserialize
                )
                for name, (kind, handle) in calls.items()
            }
            handler = grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", handlers)
            self._server.add_generic_rpc_handlers((handler,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def add(self, update: Update, minutes: float, delivery: str, number: int = 1) -> None:
        attributes = {"relay-published": at(minutes), "relay-message": f"{number}", "relay-reason": "parked"}
        data = QueuedUpdate(update, delivery).data()
        self.messages.append(
            PubsubMessage(data=data, attributes=attributes, message_id=f"m{number}", publish_time=START)
        )

    @property
    def released(self) -> set[str]:
        """The messages that the last call released."""
        name, call = self.calls[-1]
        assert (name, call.ack_deadline_seconds) == ("ModifyAckDeadline", 0)
        return set(call.ack_ids)

    def _handler(self, name: str, handle: Callable[[Any], bytes] | None) -> Callable[..., bytes]:
        def respond(call: Any, context: grpc.ServicerContext) -> bytes:
            if name == "Pull":
                self.pulls += 1
            else:
                self.calls.append((name, call))
            if status := self.refusals.get(name):
                context.abort(status, "CANARY in the details of an error")
            return handle(call) if handle else b""

        return respond

    def _pull(self, _: PullRequest) -> bytes:
        # Give out one message for each pull.
        received = [
            ReceivedMessage(ack_id=f"ack-{each.message_id}", message=each)
            for each in self.messages[self.pulls - 1 : self.pulls]
        ]
        serialized: bytes = PullResponse.serialize(PullResponse(received_messages=received))
        return serialized

    def _publish(self, _: PublishRequest) -> bytes:
        serialized: bytes = PublishResponse.serialize(PublishResponse(message_ids=["77"]))
        return serialized


@pytest.fixture
def pubsub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePubSub]:
    started = FakePubSub()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", started.address)
    yield started
    started.stop()


@dataclass
class Result:
    """The exit status and the output of the command."""

    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command, with an answer to its question, or without a terminal."""

    def call(
        *arguments: str, log: FakeLogging | str | None = None, answer: str | Callable[[], str] | None = None
    ) -> Result:
        def respond(question: str) -> str:
            sys.stdout.write(f"{question}\n")
            return answer() if callable(answer) else str(answer)

        monkeypatch.setattr("builtins.input", respond)
        monkeypatch.setattr("sys.stdin.isatty", lambda: answer is not None, raising=False)
        url = log.url if isinstance(log, FakeLogging) else log
        status = replay.main(["--project", PROJECT, *arguments], logging_url=url)
        output = capsys.readouterr()
        return Result(status, output.out, output.err)

    return call


# Sending


@pytest.fixture
def parked(pubsub: FakePubSub, logging: FakeLogging) -> FakePubSub:
    """Park two updates of one dataset and an update of another one, whose events are in the log."""
    pubsub.add(update_of(DATA_WORLD, title="A"), 1, "run-3", 3)
    pubsub.add(update_of(APIFY, name="new"), 2, "run-2", 2)
    pubsub.add(update_of(APIFY, generalAccess="RESTRICTED"), 0, "run-1", 1)
    logging.entries += [own_line("run-1", 0.1), own_line("run-2", 2.1)]
    logging.entries.append(line(1.1, outcome="queued", delivery="run-3", provider="data.world", dataset=DATA_WORLD))
    return pubsub


def test_send_publishes_the_newest_update_and_then_acknowledges(
    parked: FakePubSub, logging: FakeLogging, run: Run
) -> None:
    result = run("send", "--yes", "--dataset", f"apify:{APIFY}", log=logging)
    assert result.status == 0, result
    assert result.out.splitlines() == [
        f"To send: apify:{APIFY}",
        f"  update: published {at(2)}, delivery run-2, field name",
        "  superseded, and then removed: 1 older message, field generalAccess",
        f"Sent: apify:{APIFY} as message 77. Superseded: 1 older message.",
    ]
    held = [("ModifyAckDeadline", [f"ack-m{n}"], 600) for n in (3, 2, 1)]
    assert [(name, list(call.ack_ids), call.ack_deadline_seconds) for name, call in parked.calls[:3]] == held
    (published, publish), (acknowledged, acknowledge), _ = parked.calls[3:]
    assert (published, acknowledged) == ("Publish", "Acknowledge")
    assert publish.topic == f"projects/{PROJECT}/topics/dataset-relay-apify"
    (sent,) = publish.messages
    assert (sent.data, sent.ordering_key) == (parked.messages[1].data, f"apify:{APIFY}")
    assert dict(sent.attributes) == {}
    assert acknowledge.subscription == f"projects/{PROJECT}/subscriptions/dataset-relay-dead-letters"
    assert set(acknowledge.ack_ids) == {"ack-m1", "ack-m2"}
    assert parked.released == {"ack-m3"}


def test_send_skips_a_dataset_with_a_later_delivery_unless_force(
    parked: FakePubSub, logging: FakeLogging, run: Run
) -> None:
    logging.entries.append(line(30, outcome="delivered", delivery="run-9", **LATER))
    result = run("send", "--yes", log=logging)
    assert result.status == 1
    assert f"Skipped: apify:{APIFY}. A later update was delivered: delivery run-9, {at(30)}." in result.out
    assert "use --force" in result.out
    topics = [call.topic for name, call in parked.calls if name == "Publish"]
    assert topics == [f"projects/{PROJECT}/topics/dataset-relay-data-world"]
    assert parked.released == {"ack-m1", "ack-m2"}
    parked.pulls = 0
    result = run("send", "--yes", "--force", "--dataset", f"apify:{APIFY}", log=logging)
    assert result.status == 0
    assert "Warning: A later update was delivered: delivery run-9" in result.out
    assert [name for name, _ in parked.calls[-3:]] == ["Publish", "Acknowledge", "ModifyAckDeadline"]


def test_send_reads_every_page_of_the_log(parked: FakePubSub, logging: FakeLogging, run: Run) -> None:
    logging.page_size = 1
    earlier: dict[str, Any] = {"outcome": "delivered", "message_id": "0", "queued_seconds": 9000}
    logging.entries += [line(minutes, **earlier, **LATER) for minutes in (3, 4, 5)]
    assert run("send", "--yes", "--dataset", f"apify:{APIFY}", log=logging).status == 0
    assert len(logging.queries) == 4


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (lambda: Response("", 403), "Ask an owner of the project for roles/logging.viewer on the project."),
        (lambda: Response(request.headers["Authorization"], 500), "Cloud Logging returned 500."),
        (lambda: Response("", 302, {"Location": "/token"}), "Cloud Logging returned 302."),
        (lambda: Response(request.headers["Authorization"], 200), "isn't a JSON object"),
        (lambda: Response("[]", 200), "isn't a JSON object"),
        (lambda: Response("{}", 200), "has no line of the delivery run-2"),
    ],
)
def test_send_without_the_log_says_so_and_needs_a_confirmation_or_force(
    parked: FakePubSub, logging: FakeLogging, run: Run, response: Callable[[], Response], reason: str
) -> None:
    logging.instead = [response]
    arguments = ("send", "--dataset", f"apify:{APIFY}")
    refused = run(*arguments, "--yes", log=logging)
    assert refused.status == 1
    assert f"Skipped: apify:{APIFY}. It is unknown if a later update was delivered." in refused.out
    assert reason in refused.out
    parked.pulls = 0
    asked = run(*arguments, answer="n", log=logging)
    assert asked.status == 1
    assert "Warning: it is unknown if a later update was delivered." in asked.out
    assert reason in asked.out
    assert asked.out.splitlines()[-2:] == ["Send 1 update again? [y/N] ", "Nothing was sent."]
    assert {name for name, _ in parked.calls} == {"ModifyAckDeadline"}
    parked.pulls = 0
    assert run(*arguments, answer="y", log=logging).status == 0
    parked.pulls = 0
    assert run(*arguments, "--yes", "--force", log=logging).status == 0


def test_send_asks_an_unavailable_log_only_once(parked: FakePubSub, logging: FakeLogging, run: Run) -> None:
    logging.instead = [lambda: Response("", 403)]
    assert run("send", "--yes", log=logging).out.count("roles/logging.viewer") == 2
    assert len(logging.queries) == 1


def test_send_waits_if_cloud_logging_limits_the_rate(
    parked: FakePubSub, logging: FakeLogging, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_RATE_LIMIT_WAITS", (0.01, 0.01, 0.01))
    limited = [lambda: Response("", 429)] * 2
    logging.instead = [*limited, lambda: Response(json.dumps({"entries": [own_line("run-2")]}))]
    assert run("send", "--yes", "--dataset", f"apify:{APIFY}", log=logging).status == 0
    logging.instead, parked.pulls = limited, 0
    result = run("send", "--yes", "--dataset", f"apify:{APIFY}", log=logging)
    assert result.status == 1
    assert "Cloud Logging returned 429." in result.out


def test_send_without_a_connection_to_the_log_is_unknown(parked: FakePubSub, logging: FakeLogging, run: Run) -> None:
    result = run("send", "--yes", log=f"http://127.0.0.1:{free_port()}")
    assert result.status == 1
    # AuthorizedSession reports a failure of the connection as an error of requests.
    assert "Cloud Logging is unreachable." in result.out


def test_send_without_credentials_for_the_log_is_unknown(
    parked: FakePubSub, logging: FakeLogging, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")
    result = run("send", "--yes", log=logging)
    assert result.status == 1
    assert "gcloud auth application-default login" in result.out
    assert logging.queries == []


def test_send_skips_a_dataset_whose_later_update_arrives_before_the_answer(
    parked: FakePubSub, logging: FakeLogging, run: Run
) -> None:
    def answer() -> str:
        logging.entries.append(line(30, outcome="queued", delivery="run-9", **LATER))
        return "y"

    result = run("send", answer=answer, log=logging)
    assert result.status == 1
    assert result.out.splitlines()[-2:] == [
        f"Sent: data.world:{DATA_WORLD} as message 77.",
        f"Skipped: apify:{APIFY}. A later update was queued, and may still be in the queue: delivery run-9, {at(30)}.",
    ]


def test_send_after_the_hold_has_ended_sends_nothing(
    parked: FakePubSub, logging: FakeLogging, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer() -> str:
        now = time.monotonic()
        monkeypatch.setattr("handlers.deadline.time.monotonic", lambda: now + 601)
        return "y"

    result = run("send", answer=answer, log=logging)
    assert result.status == 1
    assert result.err == "replay: More than 10 minutes have passed. Run the command again.\n"
    assert "Publish" not in {name for name, _ in parked.calls}


def test_send_holds_the_messages_again_after_half_of_the_time(
    parked: FakePubSub, logging: FakeLogging, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer() -> str:
        now = time.monotonic()
        monkeypatch.setattr("handlers.deadline.time.monotonic", lambda: now + 400)
        return "y"

    assert run("send", answer=answer, log=logging).status == 0
    position = next(index for index, (name, _) in enumerate(parked.calls) if name == "Publish")
    name, call = parked.calls[position - 1]
    assert (name, call.ack_deadline_seconds) == ("ModifyAckDeadline", 600)
    assert set(call.ack_ids) == {"ack-m1", "ack-m2", "ack-m3"}


def test_send_without_a_terminal_needs_yes(pubsub: FakePubSub, run: Run) -> None:
    result = run("send")
    assert result.status == 1
    assert "use --yes" in result.err
    assert pubsub.pulls == 0


@pytest.mark.parametrize("stop", [EOFError, KeyboardInterrupt])
def test_send_interrupted_releases_the_messages(
    parked: FakePubSub, logging: FakeLogging, run: Run, stop: type[BaseException]
) -> None:
    def answer() -> str:
        raise stop

    assert run("send", answer=answer, log=logging).status == 1
    assert parked.released == {"ack-m1", "ack-m2", "ack-m3"}


def test_send_with_a_refused_publish_removes_nothing(parked: FakePubSub, logging: FakeLogging, run: Run) -> None:
    parked.refusals["Publish"] = grpc.StatusCode.PERMISSION_DENIED
    result = run("send", "--yes", log=logging)
    assert result.status == 1
    assert result.err == (
        f"replay: Pub/Sub returned PERMISSION_DENIED for projects/{PROJECT}/topics/dataset-relay-data-world. Ask an "
        "owner of the project for roles/pubsub.publisher on it.\n"
    )
    assert "Acknowledge" not in {name for name, _ in parked.calls}
    assert parked.released == {"ack-m1", "ack-m2", "ack-m3"}


def test_send_with_a_refused_acknowledgment_says_that_the_update_was_sent(
    parked: FakePubSub, logging: FakeLogging, run: Run
) -> None:
    parked.refusals["Acknowledge"] = grpc.StatusCode.INTERNAL
    result = run("send", "--yes", log=logging)
    assert result.status == 1
    assert f"data.world:{DATA_WORLD} was sent as message 77, but its messages couldn't be removed" in result.err
    assert parked.released == {"ack-m1", "ack-m2", "ack-m3"}


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("PERMISSION_DENIED", "Ask an owner of the project for roles/pubsub.subscriber on it."),
        ("NOT_FOUND", "Check --project and --service."),
        ("UNAUTHENTICATED", "Run: gcloud auth application-default login"),
        ("FAILED_PRECONDITION", "Run the command again later."),
    ],
)
def test_refused_pull_names_the_remedy(pubsub: FakePubSub, run: Run, status: str, remedy: str) -> None:
    pubsub.refusals["Pull"] = grpc.StatusCode[status]
    result = run("list")
    subscription = f"projects/{PROJECT}/subscriptions/dataset-relay-dead-letters"
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"replay: Pub/Sub returned {status} for {subscription}. ")
    assert remedy in result.err


def test_refused_release_is_reported(parked: FakePubSub, run: Run) -> None:
    parked.refusals["ModifyAckDeadline"] = grpc.StatusCode.PERMISSION_DENIED
    result = run("list")
    assert result.status == 1
    assert "They reappear within 10 minutes." in result.err


# The options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "--region", "evil.example/"], "--region must be"),
        (["list", "--service", 'a"b'], "--service must be"),
        (["list", "--project", "P"], "--project must be"),
        (["send", "--dataset", "other:x"], "--dataset must be PROVIDER:DATASET"),
        (["forget"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_option_is_reported(
    pubsub: FakePubSub, run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert pubsub.pulls == 0


def test_options_are_valid_before_and_after_the_command(parked: FakePubSub, run: Run) -> None:
    parked.refusals["Pull"] = grpc.StatusCode.NOT_FOUND
    for arguments in (["--service", "my-relay", "list"], ["list", "--service", "my-relay"]):
        assert f"projects/{PROJECT}/subscriptions/my-relay-dead-letters" in run(*arguments).err


@pytest.mark.parametrize(("output", "project"), [("my-project", "my-project"), ("(unset)", None), ("", None)])
def test_project_is_the_current_project_of_gcloud(
    pubsub: FakePubSub,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    output: str,
    project: str | None,
) -> None:
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(f"#!/bin/sh\n[ \"$*\" = 'config get-value project' ] && echo '{output}'\n")
    gcloud.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    pubsub.refusals["Pull"] = grpc.StatusCode.NOT_FOUND
    assert replay.main(["list"]) == 1
    message = f"projects/{project}/subscriptions/" if project else "Use --project ID, or run: gcloud config set project"
    assert message in capsys.readouterr().err


def test_project_without_gcloud_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert replay.main(["list"]) == 1
    assert capsys.readouterr().err.startswith("replay: No project is set.")


def test_emulator_on_another_machine_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "pubsub.example:8085")
    result = run("list")
    assert (result.status, "PUBSUB_EMULATOR_HOST must be host:port" in result.err) == (1, True)


def test_unreachable_pubsub_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_CONNECT_SECONDS", 0.2)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    result = run("list")
    assert (result.status, result.err) == (
        1,
        "replay: Pub/Sub is unreachable. Check the network, and run the command again.\n",
    )


def test_missing_credentials_are_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")
    result = run("list")
    assert result.status == 1
    assert "Run: gcloud auth application-default login" in result.err


def test_replay_has_no_shellcheck_findings() -> None:
    completed = subprocess.run([BIN / "shellcheck", ROOT / "deploy/gcp/replay"], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout


# The emulator


@dataclass
class Deployment:
    """The queue of a service in the emulator. The updates of both providers stay in subscriptions."""

    emulator: Emulator
    service: str = field(default_factory=lambda: f"relay-{secrets.token_hex(4)}")

    def __post_init__(self) -> None:
        for name in ("apify", "data-world", "dead-letters"):
            self.emulator.create_topic(self.topic(name))
            self.emulator.subscriber.create_subscription(
                request=Subscription(
                    name=self.subscription(name),
                    topic=self.topic(name),
                    ack_deadline_seconds=10,
                    enable_message_ordering=name != "dead-letters",
                )
            )

    def topic(self, name: str) -> str:
        return f"projects/{PROJECT}/topics/{self.service}-{name}"

    def subscription(self, name: str) -> str:
        return f"projects/{PROJECT}/subscriptions/{self.service}-{name}"

    def add(self, data: bytes, minutes: float, *, original: int = 1, reason: Reason = "parked") -> None:
        """Let the function publish a dead letter."""
        settings = QueueSettings(
            topics={"apify": self.topic("apify"), "data.world": self.topic("data-world")},
            dead_letter_topic=self.topic("dead-letters"),
            identity=PushIdentity(AUDIENCE, ACCOUNT),
            park_after_seconds=3600,
            delivery_deadline_seconds=100,
            region=None,
            emulator=self.emulator.address,
        )
        queue = Queue(settings, Publisher(None, self.emulator.address), threads=4)
        pushed = PushMessage(data, {}, f"{original}", at(minutes), self.subscription("apify"))
        queue.publish_dead_letter(pushed, reason, UpstreamFailedError("Failed.").problem)

    def sent(self, name: str) -> list[PubsubMessage]:
        """Return the messages that were sent again to a provider's topic. A message can take a moment to arrive."""
        response = self.emulator.subscriber.pull(subscription=self.subscription(name), max_messages=10, timeout=20)
        return [each.message for each in response.received_messages]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    assert GCLOUD
    started = Emulator(GCLOUD).wait_until_up()
    yield started
    started.stop()


@pytest.fixture
def deployment(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.address)
    return Deployment(emulator)


def cells(result: Result) -> list[list[str]]:
    assert result.status == 0, result
    return [re.split(r" {2,}", text) for text in result.out.splitlines()]


@needs_emulator
def test_list_has_a_line_for_each_message_and_releases_the_messages(deployment: Deployment, run: Run) -> None:
    deployment.add(QueuedUpdate(update_of(DATA_WORLD, title="A"), "run 2").data(), 2, reason="lost")
    deployment.add(b"CANARY is no JSON", 1)
    deployment.add(QueuedUpdate(update_of(APIFY), "run-1").data(), 0)
    for _ in range(3):
        rows = cells(run("list", "--service", deployment.service))
        assert [row[1:] for row in rows] == [
            ["parked", "upstream-failed", "apify", APIFY, at(0), "run-1"],
            ["parked", "upstream-failed", "-", "(not a valid update)", at(1), "-"],
            ["lost", "upstream-failed", "data.world", DATA_WORLD, at(2), "run 2"],
        ]
        assert len({row[0] for row in rows}) == 3


@needs_emulator
def test_list_of_many_messages_has_them_all(deployment: Deployment, run: Run) -> None:
    for number in range(40):
        deployment.add(QueuedUpdate(update_of(APIFY, name="a" * 63), f"run-{number}").data(), number)
    for number in range(3):
        body = {"summary": "s" * 24_000, "properties": {"text": "p" * 3_000_000}}
        deployment.add(QueuedUpdate(update_of(DATA_WORLD, **body), f"large-{number}").data(), 100 + number)
    rows = cells(run("list", "--service", deployment.service))
    assert [row[-1] for row in rows] == [f"run-{n}" for n in range(40)] + [f"large-{n}" for n in range(3)]


@needs_emulator
def test_list_without_messages_says_so(deployment: Deployment, run: Run) -> None:
    result = run("list", "--service", deployment.service)
    assert (result.status, result.out) == (0, "")
    assert f"{deployment.subscription('dead-letters')} has no message" in result.err


@needs_emulator
def test_show_redacts_credentials(deployment: Deployment, run: Run) -> None:
    token = secret("Bearer ")
    source = {
        "url": f"https://{secret('user:')}@files.example/a.csv?token={secret('t')}",
        "requestHeaders": {"Authorization": token, "Accept": "text/csv"},
    }
    body = {"title": "Größe", "summary": f"See {token}.", "files": [{"name": "a.csv", "source": source}]}
    deployment.add(QueuedUpdate(update_of(DATA_WORLD, **body), "run-1", "build").data(), 0, original=4711)
    message_id = cells(run("list", "--service", deployment.service))[0][0]
    for name in (message_id, "4711"):
        result = run("show", "--service", deployment.service, name)
        assert result.status == 0
        assert f"message: {message_id}\n" in result.out
        assert '"relay-reason": "parked"' in result.out
        assert f'"relay-published": "{at(0)}"' in result.out
        assert f"dataset: data.world:{DATA_WORLD}\ndelivery: run-1\ntoken: of the hook build, updates.0\n" in result.out
        update = json.loads(result.out.partition("\nupdate: ")[2])
        assert (update["title"], update["summary"]) == ("Größe", "See [redacted].")
        assert update["files"][0]["source"] == {
            "url": "https://[redacted]@files.example/a.csv?token=[redacted]",
            "requestHeaders": {"Authorization": "[redacted]", "Accept": "text/csv"},
        }
    missing = run("show", "--service", deployment.service, "4712\x1b[2J")
    assert (missing.status, "There is no message 4712\ufffd[2J." in missing.err) == (1, True)


@needs_emulator
def test_show_of_a_message_without_an_update_shows_only_the_mistakes(deployment: Deployment, run: Run) -> None:
    event = {"provider": "apify", "dataset": APIFY, "update": {"nam": "CANARY"}, "id": "run"}
    deployment.add(json.dumps(event).encode(), 0, original=4711)
    result = run("show", "--service", deployment.service, "4711")
    assert result.status == 0
    assert "The message has no valid update:\n  update.nam: Unknown field; did you mean name?\n" in result.out


@needs_emulator
def test_send_sends_the_newest_update_of_each_dataset(deployment: Deployment, logging: FakeLogging, run: Run) -> None:
    newest = QueuedUpdate(update_of(APIFY, name="newest"), "run-3").data()
    deployment.add(newest, 3)
    deployment.add(QueuedUpdate(update_of(APIFY, name="oldest"), "run-1").data(), 1)
    deployment.add(QueuedUpdate(update_of(APIFY, name="middle"), "run-2").data(), 2)
    credential = {"Authorization": secret("Bearer ")}
    files = [{"name": "a.csv", "source": {"url": "https://files.example/a.csv", "requestHeaders": credential}}]
    other = QueuedUpdate(update_of(DATA_WORLD, files=files), "run-4").data()
    deployment.add(other, 4)
    deployment.add(b"{}", 5)
    service = deployment.service
    for delivery in ("run-1", "run-2", "run-3", "run-4"):
        logging.entries.append(line(3.5, service, outcome="queued", delivery=delivery))
    result = run("send", "--service", service, answer="yes", log=logging)
    assert result.status == 1
    assert "has no valid update. To see the mistakes, run: deploy/gcp/replay show " in result.out
    assert "Send 2 updates again? [y/N] " in result.out
    assert re.search(rf"Sent: apify:{APIFY} as message \d+\. Superseded: 2 older messages\.", result.out)
    assert re.search(rf"Sent: data\.world:{DATA_WORLD} as message \d+\.\n", result.out)
    assert [(each.data, each.ordering_key) for each in deployment.sent("apify")] == [(newest, f"apify:{APIFY}")]
    assert [(each.data, each.ordering_key) for each in deployment.sent("data-world")] == [
        (other, f"data.world:{DATA_WORLD}")
    ]
    (row,) = cells(run("list", "--service", service))
    assert row[3:5] == ["-", "(not a valid update)"]


@needs_emulator
def test_send_of_one_dataset_leaves_the_others(deployment: Deployment, logging: FakeLogging, run: Run) -> None:
    deployment.add(QueuedUpdate(update_of(APIFY), "run-1").data(), 1)
    deployment.add(QueuedUpdate(update_of(DATA_WORLD, title="A"), "run-2").data(), 2)
    deployment.add(b"{}", 3)
    arguments = ("send", "--service", deployment.service, "--yes", "--force", "--dataset")
    assert run(*arguments, f"data.world:{DATA_WORLD}", log=logging).status == 0
    (sent,) = deployment.sent("data-world")
    assert json.loads(sent.data)["update"] == {"title": "A"}
    assert [row[3] for row in cells(run("list", "--service", deployment.service))] == ["apify", "-"]
    missing = run(*arguments, f"data.world:{DATA_WORLD}", log=logging)
    assert missing.status == 1
    assert f"There is no message with an update of data.world:{DATA_WORLD}." in missing.err


@needs_emulator
def test_send_in_a_terminal_asks(deployment: Deployment) -> None:
    deployment.add(QueuedUpdate(update_of(APIFY), "run-1").data(), 1)
    parent, child = pty.openpty()
    threading.Timer(0, os.write, (parent, b"y\n")).start()
    completed = subprocess.run(
        [ROOT / "deploy/gcp/replay", "send", "--project", PROJECT, "--service", deployment.service],
        cwd="/", stdin=child, capture_output=True, text=True, timeout=300,
        env={"PATH": os.environ["PATH"], "PUBSUB_EMULATOR_HOST": deployment.emulator.address},
    )  # fmt: skip
    os.close(child)
    os.close(parent)
    RECORDER.add("the output of replay", completed.stdout + completed.stderr)
    assert completed.returncode == 0, completed.stderr
    assert "The emulator of Pub/Sub has no log." in completed.stdout
    assert "Send 1 update again? [y/N] Sent: " in completed.stdout
    assert len(deployment.sent("apify")) == 1


def lines_of(log: Path, entries: list[dict[str, Any]]) -> None:
    """Add the new lines of the function's log to the entries, with the current time."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    lines = log.read_text().splitlines()[len(entries) :]
    entries.extend({**log_entry(text), "timestamp": now} for text in lines)


@needs_emulator
def test_function_delivers_the_update_that_was_sent_again(
    logging: FakeLogging, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The whole way: the provider refuses an update once, and later the update succeeds, until a newer one follows."""
    assert GCLOUD
    topics = {
        "APIFY_TOPIC": "apify", "DATA_WORLD_TOPIC": "data-world", "RELAY_DEAD_LETTER_TOPIC": "dead-letters",
    }  # fmt: skip
    names = {setting: f"projects/{PROJECT}/topics/dataset-relay-{name}" for setting, name in topics.items()}
    target = QueuedFunction(GCLOUD, tmp_path, **names)
    log = tmp_path / "log"
    try:
        RECORDER.watch(log)
        for setting, name in names.items():
            target.emulator.create_topic(name)
            # Pub/Sub delays a message that a subscription with a retry policy gets back.
            if setting == "RELAY_DEAD_LETTER_TOPIC":
                subscription = name.replace("/topics/", "/subscriptions/")
                target.emulator.subscriber.create_subscription(
                    request=Subscription(name=subscription, topic=name, ack_deadline_seconds=10)
                )
            else:
                target.emulator.create_subscription(name, target.cloud.google.push_url)
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", target.emulator.address)
        dataset = target.cloud.data_world.add("acme/replayed")
        refuse_next(target, dataset)
        post(target, dataset, "first", "run-1")
        await_line(log, logging.entries, outcome="lost", delivery="run-1")
        (row,) = cells(run("list"))
        assert row[1:4] == ["lost", "upstream-rejected", "data.world"]

        result = run("send", "--yes", log=logging)
        assert result.status == 0, result
        await_line(log, logging.entries, outcome="delivered", delivery="run-1")
        assert target.cloud.data_world.datasets[dataset]["title"] == "first"

        refuse_next(target, dataset)
        post(target, dataset, "second", "run-2")
        await_line(log, logging.entries, outcome="lost", delivery="run-2")
        post(target, dataset, "third", "run-3")
        await_line(log, logging.entries, outcome="delivered", delivery="run-3")
        result = run("send", "--yes", log=logging)
        assert result.status == 1, result
        assert f"Skipped: data.world:{dataset}. A later update was delivered: delivery run-3" in result.out
        assert target.cloud.data_world.datasets[dataset]["title"] == "third"
    finally:
        target.stop()


def refuse_next(target: QueuedFunction, dataset: str) -> None:
    """Let data.world refuse the next update of a dataset."""
    refusals = iter([Response(json.dumps({"message": "No."}), 422, content_type="application/json")])
    target.cloud.data_world.instead[f"/datasets/{dataset}"] = lambda: next(refusals, None)


def post(target: QueuedFunction, dataset: str, title: str, delivery: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        event = {"provider": "data.world", "dataset": dataset, "update": {"title": title}, "id": delivery}
        assert target.post(session, event) == 202


def await_line(log: Path, entries: list[dict[str, Any]], **fields: str) -> None:
    """Wait until the function has written a line with these fields."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        lines_of(log, entries)
        if any(fields.items() <= entry.get("jsonPayload", {}).items() for entry in entries):
            return
        time.sleep(0.05)
    raise AssertionError(f"The function has not written a line with {fields}.")
