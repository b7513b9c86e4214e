"""What an event costs the worker, as hooks, payloads and updates become more."""

from typing import Any

from tests.benchmarks.events import HOOKS, hooked
from tests.benchmarks.ground import Ground, Running, middle
from tests.hooks import hook, update

NUMBERS = {"hooks": (1, 100, 1000), "kilobytes": (1, 25, 250), "updates": (1, 5, 20)}
_CONNECTIONS = 8


def measure(ground: Ground, rounds: int, seconds: int, threads: int) -> dict[str, Any]:
    """By what grows, and how far: microseconds of CPU for an event, medians of the rounds."""
    found: dict[str, Any] = {}
    for number in NUMBERS["hooks"]:
        hooks = {**{f"build-{each}": HOOKS["build"] for each in range(number - 1)}, **HOOKS}
        with _started(ground, threads, hooks) as running:
            found.setdefault("hooks", {})[number] = _cost(running, rounds, seconds)
    for number in NUMBERS["kilobytes"]:
        commits = {"commits": [{"id": "9c1d3be07f5b2a66f0c0", "message": "Prices of the day", "distinct": True}] * 12}
        filler = {"files": [commits] * max(0, number - 1)} if number > 1 else {}
        with _started(ground, threads, HOOKS) as running:
            found.setdefault("kilobytes", {})[number] = _cost(running, rounds, seconds, **filler)
    for number in NUMBERS["updates"]:
        each = update("data.world", "acme/products", {"summary": "{{ event.workflow_run.html_url }}"})
        hooks = {"build": hook(*[each] * number, sender="github")}
        with _started(ground, threads, hooks) as running:
            found.setdefault("updates", {})[number] = _cost(running, rounds, seconds)
    return found


def _started(ground: Ground, threads: int, hooks: dict[str, Any]) -> Any:
    return ground.function(ground.settings("http", threads, hooks))


def _cost(running: Running, rounds: int, seconds: int, **more: Any) -> dict[str, float]:
    sent = hooked(**more)
    running.warm_up(sent, _CONNECTIONS)
    loads = [running.load(sent, _CONNECTIONS, seconds) for _ in range(rounds)]
    return {**middle(loads).figures(), "bytes": len(sent[0].body)}


def lines(found: dict[str, Any]) -> list[str]:
    """The figures, as text."""
    return [
        f"{what:<12}" + "".join(f"{number:>6}: {each['cpu_us']:>6} µs" for number, each in costs.items())
        for what, costs in found.items()
    ]
