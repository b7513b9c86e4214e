"""The senders of a soak test. A sender sends each event until the function confirms the event."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import requests

from deploy.local.cloud import APIFY_USER, DATA_WORLD_OWNER, Cloud
from deploy.local.signing import authentication, signed_headers
from tests.soak.ledger import Event
from tests.support import payloads

# A sender reports an event as unconfirmed after this time. The faults of a soak test are much shorter.
GIVE_UP_SECONDS = 120.0
# A response must arrive by RELAY_DEADLINE_SECONDS. A response that takes this long is missing, even on a busy machine.
TIMEOUT_SECONDS = 20.0
PAUSE_SECONDS = 0.1
#: The secret of all senders. Its text behind the prefix is base64.
SECRET = "whsec_CANARYsoakCANARYsoak"


@dataclass(frozen=True, slots=True)
class HookSender:
    """A sender with a payload of its own, whose object at `key` takes the mark and the datasets of an event."""

    payload: Callable[..., dict[str, Any]]
    key: str
    providers: tuple[str, ...]

    def hook(self, sender: str) -> Any:
        """Return the hook that writes the mark of an event into its datasets."""
        mark = f"{{{{ event.{self.key}.mark }}}}"
        bodies = {"apify": {"name": mark}, "data.world": {"summary": mark, "tags": ["daily"]}}
        updates = [
            {
                "provider": provider,
                "dataset": f"{{{{ event.{self.key}.datasets[{position}] }}}}",
                "update": bodies[provider],
            }
            for position, provider in enumerate(self.providers)
        ]
        return {
            "sender": sender,
            "secret": "env:SECRET",
            "when": f"event.{self.key}.mark is string",
            "updates": updates,
        }


HOOK_SENDERS = {
    "github": HookSender(payloads.github_workflow, "workflow_run", ("data.world",)),
    "gitlab": HookSender(payloads.gitlab_pipeline, "object_attributes", ("apify",)),
    "dbt": HookSender(payloads.dbt_run, "data", ("apify", "data.world")),
    "airbyte": HookSender(payloads.airbyte_sync, "data", ("data.world",)),
}
HOOKS = {name: sender.hook(name) for name, sender in HOOK_SENDERS.items()}


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request to the function. `path` includes the query."""

    path: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Lane:
    """A sender whose events update the same datasets, one event after another. `request` takes the mark of an event."""

    kind: str
    datasets: tuple[str, ...]
    request: Callable[[str], OutgoingRequest]


@dataclass(slots=True)
class Journal:
    """The events of all senders, and the responses of the function. The senders stop when `over` is set."""

    events: list[Event] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    #: The number of responses with a text that only a secret contains.
    leaks: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def add_event(self, lane: Lane) -> tuple[Event, str]:
        """Return a new event of the lane, and its mark."""
        with self.lock:
            mark = f"soak-{len(self.events)}"
            event = Event(len(self.events), lane.kind, tuple((dataset, mark) for dataset in lane.datasets))
            self.events.append(event)
        return event, mark

    def add_response(self, response: requests.Response | None, status: str, seconds: float) -> None:
        """Record the response to a request, or the reason for its absence."""
        with self.lock:
            self.statuses[status] += 1
            if response is not None:
                self.latencies_ms.append(seconds * 1000)
                self.leaks += "CANARY" in f"{response.headers}{response.text}"


def lanes(cloud: Cloud, count: int) -> list[Lane]:
    """Return `count` lanes of each kind, and create the datasets of the lanes."""
    result = []
    for number in range(count):
        apify = cloud.apify.add(APIFY_USER)
        data_world = cloud.data_world.add(f"{DATA_WORLD_OWNER}/native-{number}")
        renamed = cloud.apify.add(APIFY_USER, f"renamed-{number}")
        signed = number % 2 == 0
        result += [
            Lane("native apify", (apify,), partial(_apify_request, apify, signed)),
            Lane("native data.world", (data_world,), partial(_data_world_request, data_world, not signed)),
            Lane("rename", (renamed,), partial(_rename_request, cloud, renamed)),
        ]
        for name, sender in HOOK_SENDERS.items():
            datasets = tuple(
                cloud.apify.add(APIFY_USER)
                if provider == "apify"
                else cloud.data_world.add(f"{DATA_WORLD_OWNER}/{name}-{number}")
                for provider in sender.providers
            )
            result.append(Lane(name, datasets, partial(_hook_request, name, datasets)))
    return result


def _apify_request(dataset: str, signed: bool, mark: str) -> OutgoingRequest:
    return _native_request("apify", dataset, {"name": mark, "generalAccess": "RESTRICTED"}, signed)


def _data_world_request(dataset: str, signed: bool, mark: str) -> OutgoingRequest:
    return _native_request("data.world", dataset, {"summary": mark, "tags": []}, signed)


def _rename_request(cloud: Cloud, dataset: str, mark: str) -> OutgoingRequest:
    old_name = cloud.apify.datasets[dataset]["name"]
    return _native_request("apify", f"{APIFY_USER}~{old_name}", {"name": mark}, signed=True)


def _native_request(provider: str, dataset: str, body: dict[str, Any], signed: bool) -> OutgoingRequest:
    raw = json.dumps({"provider": provider, "dataset": dataset, "update": body}).encode()
    return OutgoingRequest(
        "/", raw, signed_headers(SECRET, "msg", raw) if signed else {"Authorization": f"Bearer {SECRET}"}
    )


def _hook_request(name: str, datasets: tuple[str, ...], mark: str) -> OutgoingRequest:
    raw = json.dumps(HOOK_SENDERS[name].payload(datasets=datasets, mark=mark)).encode()
    headers, query = authentication(name, SECRET, raw, message_id="msg")
    return OutgoingRequest(f"/hooks/{name}{query}", raw, headers)


def send_events(url: str, lane: Lane, journal: Journal) -> None:
    """Send one event of the lane after another until the journal is over, and finish the last event."""
    with requests.Session() as session:
        session.trust_env = False
        while not journal.over.is_set():
            event, mark = journal.add_event(lane)
            _send_until_confirmed(session, url, lane.request(mark), event, journal)


def _send_until_confirmed(
    session: requests.Session, url: str, outgoing: OutgoingRequest, event: Event, journal: Journal
) -> None:
    headers = {"Content-Type": "application/json", **outgoing.headers}
    end = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < end and not event.is_confirmed and not event.is_renamed:
        start = time.monotonic()
        response, status, pause = None, "", PAUSE_SECONDS
        try:
            response = session.post(url + outgoing.path, outgoing.body, headers=headers, timeout=TIMEOUT_SECONDS)
            event.status, status = response.status_code, str(response.status_code)
            pause = 0 if event.is_confirmed else min(float(response.headers.get("Retry-After", PAUSE_SECONDS)), 1.0)
        except requests.Timeout:
            status = "timeout"
        except requests.RequestException:
            status = "no response"
        journal.add_response(response, status, time.monotonic() - start)
        time.sleep(pause)
