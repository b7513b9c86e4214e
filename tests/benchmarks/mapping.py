"""What a hook costs: a payload of 25 KB mapped to two updates, in microseconds. One core, nothing sent.

`python -m tests.benchmarks.mapping [EVENTS]`
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from handlers import hooks
from handlers.providers import PROVIDERS
from handlers.senders import SENDERS
from schemas.bounds import Budget
from schemas.relay_yaml import Reader
from schemas.strict_json import parse_object
from tests import payloads

SIZE = 25_000
LIMIT = 1_048_576
SCHEMAS = {name: provider.EVENT for name, provider in PROVIDERS.items()}
RECIPE = "deploy/recipes/apify-run.yaml"


def payload(size: int) -> bytes:
    """An Apify run's payload of `size` bytes, most of them the run's own options and usage."""
    run: dict[str, Any] = payloads.apify_run("kVxQb3TnWkzbQMuFY")
    usage = run["resource"].setdefault("usageByDay", [])
    while len(json.dumps(run, ensure_ascii=False).encode()) < size - 60:
        usage.append({"day": "2026-11-22", "ACTOR_COMPUTE_UNITS": 0.61, "DATASET_WRITES": 12480, "note": "größer " * 8})
    return json.dumps(run, ensure_ascii=False).encode()


def main() -> None:
    """Prints medians."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000
    with open(RECIPE) as file:
        text = file.read()
    hook = Reader(SENDERS, SCHEMAS, None, LIMIT).read(text, RECIPE).hooks["apify-run"]
    body = payload(SIZE)
    parsed = parse_object(body)

    def mapped() -> object:
        return hooks.read(hook, parsed, {}, SCHEMAS, Budget(LIMIT))

    def measured(job: Callable[[], object]) -> float:
        times = []
        for _ in range(events):
            began = time.perf_counter()
            job()
            times.append(time.perf_counter() - began)
        return statistics.median(times) * 1e6

    updates = mapped()
    assert isinstance(updates, tuple)
    assert len(updates) == 2
    print(f"{len(body)} bytes, {len(updates)} updates, medians of {events} events, in µs")  # noqa: T201
    for name, job in (("parsed", lambda: parse_object(body)), ("mapped and checked", mapped)):
        print(f"{name:<20}{measured(job):>8.0f}")  # noqa: T201


if __name__ == "__main__":
    main()
