"""The senders of a soak: each sends its events one after another, and each event until it is told that it is done."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from deploy.local.cloud import APIFY_USER, DATA_WORLD_OWNER, Cloud
from deploy.local.signing import proven, signed_headers
from tests import payloads
from tests.hooks import hook, update
from tests.soak.reckoning import Sent

#: A sender gives an event up after so many seconds: none should be.
_GIVE_UP_SECONDS = 60.0
_PAUSE_SECONDS = 0.1

SECRET = "whsec_c29hayBhbmQgY2hhb3M="


@dataclass(frozen=True)
class Source:
    """A sender with a payload of its own: what makes it, under which key it is changed, whose datasets it is about."""

    payload: Callable[..., dict[str, Any]]
    key: str
    providers: tuple[str, ...]

    def hook(self, sender: str) -> Any:
        """The hook that puts an event's mark on its datasets."""
        place = f"event.{self.key}"
        bodies = {
            "apify": {"name": f"{{{{ {place}.mark }}}}"},
            "data.world": {"summary": f"{{{{ {place}.mark }}}}", "tags": ["daily"]},
        }
        updates = [
            update(provider, f"{{{{ {place}.datasets[{position}] }}}}", bodies[provider])
            for position, provider in enumerate(self.providers)
        ]
        return hook(*updates, sender=sender, secret="env:SECRET", when=f"{place}.mark is string")


SOURCES = {
    "github": Source(payloads.github_workflow, "workflow_run", ("data.world",)),
    "gitlab": Source(payloads.gitlab_pipeline, "object_attributes", ("apify",)),
    "dbt": Source(payloads.dbt_run, "data", ("apify", "data.world")),
    "airbyte": Source(payloads.airbyte_sync, "data", ("data.world",)),
}
HOOKS = {name: source.hook(name) for name, source in SOURCES.items()}


@dataclass(frozen=True)
class Answered:
    """One request: when it was sent, in seconds on the monotonic clock, how long it took, and its status."""

    at: float
    seconds: float
    status: int | None


@dataclass
class Journal:
    """What all senders have seen."""

    sent: list[Sent] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def begin(self, kind: str, lane: str, *datasets: str) -> tuple[Sent, str]:
        """A new event for these datasets, and its mark."""
        with self.lock:
            mark = f"soak-{len(self.sent)}"
            event = Sent(len(self.sent), kind, lane, tuple((dataset, mark) for dataset in datasets))
            self.sent.append(event)
        return event, mark


@dataclass(frozen=True)
class Outgoing:
    """A request to the function, but for where that is."""

    path: str
    body: bytes
    headers: dict[str, str]


def native(provider: str, dataset: str, body: dict[str, Any], *, signed: bool) -> Outgoing:
    """A native event, proven in either way."""
    raw = json.dumps({"provider": provider, "dataset": dataset, "update": body}).encode()
    proof = signed_headers(SECRET, "msg", raw) if signed else {"Authorization": f"Bearer {SECRET}"}
    return Outgoing("/", raw, proof)


def hooked(name: str, payload: dict[str, Any]) -> Outgoing:
    """A sender's own payload."""
    raw = json.dumps(payload).encode()
    proof, query = proven(name, SECRET, raw, message_id="msg")
    return Outgoing(f"/hooks/{name}{query}", raw, proof)


def lanes(cloud: Cloud, count: int, journal: Journal) -> list[Callable[[], tuple[Sent, Outgoing]]]:
    """`count` lanes of each kind: each call of one makes its next event. A lane has datasets of its own."""
    made: list[Callable[[], tuple[Sent, Outgoing]]] = []
    for number in range(count):
        made += [
            _apify_by_id(cloud, journal, number),
            _data_world(cloud, journal, number),
            _renames(cloud, journal, number),
            *(_hook(cloud, journal, name, number) for name in HOOKS),
        ]
    return made


def _apify_by_id(cloud: Cloud, journal: Journal, number: int) -> Callable[[], tuple[Sent, Outgoing]]:
    dataset = cloud.apify.add(APIFY_USER)

    def make() -> tuple[Sent, Outgoing]:
        event, mark = journal.begin("native apify", dataset, dataset)
        return event, native("apify", dataset, {"name": mark, "generalAccess": "RESTRICTED"}, signed=number % 2 == 0)

    return make


def _data_world(cloud: Cloud, journal: Journal, number: int) -> Callable[[], tuple[Sent, Outgoing]]:
    dataset = cloud.data_world.add(f"{DATA_WORLD_OWNER}/native-{number}")

    def make() -> tuple[Sent, Outgoing]:
        event, mark = journal.begin("native data.world", dataset, dataset)
        return event, native("data.world", dataset, {"summary": mark, "tags": []}, signed=number % 2 == 1)

    return make


def _renames(cloud: Cloud, journal: Journal, number: int) -> Callable[[], tuple[Sent, Outgoing]]:
    dataset = cloud.apify.add(APIFY_USER, f"renamed-{number}")

    def make() -> tuple[Sent, Outgoing]:
        old = cloud.apify.datasets[dataset]["name"]
        event, mark = journal.begin("rename", dataset, dataset)
        return event, native("apify", f"{APIFY_USER}~{old}", {"name": mark}, signed=True)

    return make


def _hook(cloud: Cloud, journal: Journal, name: str, number: int) -> Callable[[], tuple[Sent, Outgoing]]:
    source = SOURCES[name]
    datasets = [
        cloud.apify.add(APIFY_USER)
        if provider == "apify"
        else cloud.data_world.add(f"{DATA_WORLD_OWNER}/{name}-{number}")
        for provider in source.providers
    ]

    def make() -> tuple[Sent, Outgoing]:
        event, mark = journal.begin(name, datasets[0], *datasets)
        return event, hooked(name, source.payload(datasets=datasets, mark=mark))

    return make


def send_on(url: str, make: Callable[[], tuple[Sent, Outgoing]], journal: Journal) -> None:
    """Sends one event after another until it is over; the last one is finished."""
    with requests.Session() as session:
        session.trust_env = False
        while not journal.over.is_set():
            event, outgoing = make()
            _send(session, url, event, outgoing, journal)


def _send(session: requests.Session, url: str, event: Sent, outgoing: Outgoing, journal: Journal) -> None:
    headers = {"Content-Type": "application/json", **outgoing.headers}
    give_up = time.monotonic() + _GIVE_UP_SECONDS
    while time.monotonic() < give_up:
        began = time.monotonic()
        event.requests += 1
        status, wait = None, _PAUSE_SECONDS
        try:
            answer = session.post(url + outgoing.path, outgoing.body, headers=headers, timeout=30)
            event.status = status = answer.status_code
            wait = min(float(answer.headers.get("Retry-After", _PAUSE_SECONDS)), 1.0)
        except requests.RequestException:
            event.unanswered += 1
        with journal.lock:
            journal.answered.append(Answered(began, time.monotonic() - began, status))
        if event.is_confirmed or event.is_gone:
            return
        time.sleep(wait)
