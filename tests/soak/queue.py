"""Send updates through the queue while a provider fails and the function is killed, and look for lost updates.

    python -m tests.soak.queue [--updates N] [--datasets N] [--outage SECONDS] [--kills N] [--race N]

The official emulator of Pub/Sub pushes the updates. Each dataset has one sender, which sends the next update as soon as
it has the 202 for the last one. With `--race`, the script instead sends two updates of one dataset N times, with the
queue and without it, while the provider is slow or fails once.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from flask import Response, request

from deploy.local.cloud import Cloud, Function, queue_settings
from deploy.local.emulator import INSTALL, Emulator, find_gcloud

#: The time limit for the updates in the queue after the last event, in seconds.
DRAIN_SECONDS = 300.0
_UPDATE_METHODS = ("PUT", "PATCH")


@dataclass
class Result:
    """The updates of a run. An update is a dataset and its number, from 1."""

    accepted: int
    applied: int
    #: The accepted updates that the providers never received.
    lost: list[tuple[str, int]]
    #: The datasets whose updates arrived for the first time in another order.
    out_of_order: list[str]
    #: The datasets whose last value isn't the last update.
    stale: list[str]
    duplicates: int
    statuses: Counter[int | str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def has_passed(self) -> bool:
        """True if no update is lost, and the updates of each dataset kept their order."""
        return not (self.lost or self.out_of_order or self.stale)


class QueuedFunction:
    """A function with a queue in the emulator, and a cloud."""

    def __init__(self, gcloud: str, folder: Path, **settings: str) -> None:
        self.cloud = Cloud().start()
        self.emulator = Emulator(gcloud).wait_until_up()
        self.emulator.create_queue(self.cloud.google.push_url)
        self._settings = {**self.cloud.settings(), **queue_settings(self.emulator.address), "THREADS": "64", **settings}
        self._log = (folder / "log").open("ab")
        self.function = Function(self._settings, log=self._log).wait_until_up()
        self.cloud.google.target = f"{self.function.url}/deliveries"

    def kill(self) -> None:
        """End the function without a warning, and start it again on the same port."""
        os.killpg(self.function.process.pid, signal.SIGKILL)
        self.function.process.wait()
        self.function = Function(self._settings, log=self._log, port=self.function.port).wait_until_up()

    def stop(self) -> None:
        """Stop everything."""
        self.function.stop()
        self.emulator.stop()
        self.cloud.stop()
        self._log.close()

    def post(self, session: requests.Session, event: Mapping[str, Any], *, wait: bool = False) -> int | str:
        """Send an event, and return the status, or the name of the error of a broken connection."""
        headers = {"Authorization": f"Bearer {self.cloud.relay_secret}"}
        url = f"{self.function.url}/{'?wait=true' if wait else ''}"
        try:
            return session.post(url, json=event, headers=headers, timeout=60).status_code
        except requests.RequestException as error:
            return type(error).__name__

    def applied(self) -> Iterator[tuple[str, int]]:
        """Yield the updates that each provider has applied, in the order of their application."""
        for dataset, body in list(self.cloud.apify.applied) + list(self.cloud.data_world.applied):
            text = str(body.get("name") or body.get("summary"))
            yield dataset, int(text.rpartition("-")[2])


def event_of(dataset: str, number: int) -> dict[str, Any]:
    """Return the event with update `number` of a dataset."""
    if "/" in dataset:
        return {"provider": "data.world", "dataset": dataset, "update": {"summary": f"update-{number}"}}
    return {"provider": "apify", "dataset": dataset, "update": {"name": f"{dataset.lower()}-{number}"}}


def send_all(target: QueuedFunction, updates: int, datasets: int, outage: float, kills: int) -> Result:
    """Send all updates, wait until the queue is empty, and return the result."""
    cloud, start = target.cloud, time.monotonic()
    names = [
        cloud.apify.add("jane", f"set-{number}") if number % 2 else cloud.data_world.add(f"acme/set-{number}")
        for number in range(datasets)
    ]
    each = updates // datasets
    accepted: dict[str, int] = dict.fromkeys(names, 0)
    statuses: Counter[int | str] = Counter()
    lock = threading.Lock()

    def send(dataset: str) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while accepted[dataset] < each:
                status = target.post(session, event_of(dataset, accepted[dataset] + 1))
                with lock:
                    statuses[status] += 1
                if status == 202:
                    accepted[dataset] += 1
                else:
                    time.sleep(0.2)

    def progress() -> float:
        return sum(accepted.values()) / updates

    with ThreadPoolExecutor(32) as executor:
        tasks = [executor.submit(send, dataset) for dataset in names]
        if outage:
            _await(lambda: progress() > 0.2)
            cloud.data_world.instead[""] = lambda: Response(status=503)
            threading.Timer(outage, cloud.data_world.instead.clear).start()
        for kill in range(kills):
            _await(lambda kill=kill: progress() > 0.4 + 0.4 * kill / kills)
            target.kill()
        for task in tasks:
            task.result()
    expected = {(dataset, number) for dataset in names for number in range(1, each + 1)}
    end = time.monotonic() + DRAIN_SECONDS
    while (lost := expected - set(target.applied())) and time.monotonic() < end:
        time.sleep(0.5)
    # A redelivery may still be on its way.
    time.sleep(2)
    by_dataset: defaultdict[str, list[int]] = defaultdict(list)
    for dataset, number in target.applied():
        by_dataset[dataset].append(number)
    firsts = {dataset: list(dict.fromkeys(numbers)) for dataset, numbers in by_dataset.items()}
    return Result(
        accepted=sum(accepted.values()),
        applied=sum(map(len, firsts.values())),
        lost=sorted(lost),
        out_of_order=[dataset for dataset, numbers in firsts.items() if numbers != sorted(numbers)],
        stale=[dataset for dataset, numbers in by_dataset.items() if numbers[-1] != each],
        duplicates=sum(len(numbers) - len(set(numbers)) for numbers in by_dataset.values()),
        statuses=statuses,
        seconds=time.monotonic() - start,
    )


def race(target: QueuedFunction, rounds: int, *, wait: bool) -> int:
    """Send two updates of one dataset `rounds` times, and return the number of rounds that the second update won.

    The provider responds slowly to the first update, or fails it once. The second update follows the response to the
    first one; with `wait`, which makes the updates without the queue, it follows while the first one is in progress.
    """
    cloud, chance = target.cloud, random.Random(7)
    fails_once: set[str] = set()

    def disturb() -> Response | None:
        if request.method in _UPDATE_METHODS and (number := _number(request.get_json())) % 2:
            if number % 4 == 1:
                time.sleep(0.05)
            elif (path := request.path) not in fails_once:
                fails_once.add(path)
                return Response(status=503)
        return None

    cloud.apify.instead[""] = disturb
    names = [cloud.apify.add("jane", None) for _ in range(rounds)]
    first = {name: chance.choice((1, 3)) for name in names}

    def send(name: str) -> None:
        with requests.Session() as session:
            session.trust_env = False
            if not wait:
                assert target.post(session, event_of(name, first[name])) == 202
                assert target.post(session, event_of(name, first[name] + 1)) == 202
                return
            # Without the queue, the sender that gets no early response doesn't wait for the first update.
            thread = threading.Thread(
                target=target.post, args=(session, event_of(name, first[name])), kwargs={"wait": True}
            )
            thread.start()
            time.sleep(0.01)
            with requests.Session() as other:
                other.trust_env = False
                target.post(other, event_of(name, first[name] + 1), wait=True)
            thread.join()

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(send, names))
    wanted = {name: f"{name.lower()}-{first[name] + 1}" for name in names}
    end = time.monotonic() + (0 if wait else DRAIN_SECONDS)
    while True:
        won = sum(bool(cloud.apify.datasets[name]["name"] == wanted[name]) for name in names)
        if won == rounds or time.monotonic() > end:
            break
        time.sleep(0.5)
    cloud.apify.instead.clear()
    return won


def _number(body: Any) -> int:
    return int(str(body.get("name") or body.get("summary")).rpartition("-")[2])


def _await(condition: Any) -> None:
    while not condition():
        time.sleep(0.01)


@contextmanager
def queued_function(gcloud: str, **settings: str) -> Iterator[QueuedFunction]:
    """Run a function with a queue. Remove its log at the end."""
    with tempfile.TemporaryDirectory() as folder:
        target = QueuedFunction(gcloud, Path(folder), **settings)
        try:
            yield target
        finally:
            target.stop()


def main(arguments: Sequence[str]) -> int:
    """Run, and print the result."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.queue")
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--datasets", type=int, default=100)
    parser.add_argument("--outage", type=float, default=20.0, help="the outage of data.world, in seconds")
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--race", type=int, help="the number of rounds of two updates")
    options = parser.parse_args(arguments)
    gcloud = find_gcloud()
    if gcloud is None:
        print(f"The emulator of Pub/Sub is missing. To install it, run: {INSTALL}", file=sys.stderr)
        return 1
    with queued_function(gcloud) as target:
        if options.race:
            for wait in (False, True):
                won = race(target, options.race, wait=wait)
                print(
                    f"{'without' if wait else 'with'} the queue: the second update won {won} of {options.race} rounds"
                )
            return 0
        result = send_all(target, options.updates, options.datasets, options.outage, options.kills)
    print(
        f"accepted {result.accepted}, applied {result.applied}, lost {len(result.lost)}, out of order "
        f"{len(result.out_of_order)}, stale {len(result.stale)}, duplicates {result.duplicates}, {result.seconds:.0f} s"
    )
    print(f"statuses: {dict(result.statuses)}")
    return 0 if result.has_passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
