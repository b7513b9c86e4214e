"""Memory over many events: flat, if nothing is kept of them."""

from typing import Any

from tests.benchmarks.events import HOOKS, hooked, native
from tests.benchmarks.ground import Ground


def measure(ground: Ground, events: int, threads: int) -> dict[str, Any]:
    """Resident megabytes of the worker, as events go by."""
    settings = ground.settings("http", threads, HOOKS)
    done, seen = 0, []
    with ground.function(settings) as running:
        # All threads first: each takes some memory when it first has something to do, and keeps it.
        running.warm_up([*native(ground.cloud.relay_secret), *hooked()], threads, 4)
        while done < events:
            seen.append((done, round(running.resident_megabytes(), 1)))
            done += running.load([*native(ground.cloud.relay_secret), *hooked()], 64, 4).answers
        seen.append((done, round(running.resident_megabytes(), 1)))
    return {"megabytes": seen}


def lines(found: dict[str, Any]) -> list[str]:
    """The figures, as text."""
    first, last = found["megabytes"][0], found["megabytes"][-1]
    most = max(size for _, size in found["megabytes"])
    return [f"memory: {first[1]} MB after a second's events, {last[1]} MB after {last[0]} more, {most} MB at most"]
