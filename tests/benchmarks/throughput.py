"""Answers a second on one core: the whole job beside the floors, in alternating rounds."""

from contextlib import ExitStack
from typing import Any

from tests.benchmarks.events import HOOKS, hooked, native
from tests.benchmarks.ground import Ground, Load, middle

CONNECTIONS = (1, 8, 64)
KINDS = ("http", "https")
#: What is compared, and with which of them; the forwards hand on what the events of ours hold.
SUBJECTS = {
    "answer": ("bare answer", "forward"),
    "forward": ("bare forward", "forward"),
    "native": ("native event", "forward"),
    "forward_hook": ("bare forward, hook's payload", "forward_hook"),
    "hook": ("GitHub hook", "forward_hook"),
}


def measure(ground: Ground, rounds: int, seconds: int, threads: int) -> dict[str, Any]:
    """By kind of platform and number of connections: what each subject did, as medians of the rounds."""
    events = native(ground.cloud.relay_secret)
    found: dict[str, Any] = {}
    for kind in KINDS:
        settings = ground.settings(kind, threads, HOOKS)
        with ExitStack() as stack:
            floors = {
                name: stack.enter_context(ground.function(settings, floor=name)) for name in ("answer", "forward")
            }
            ours = stack.enter_context(ground.function(settings))
            subjects = {
                "answer": (floors["answer"], events),
                "forward": (floors["forward"], events),
                "native": (ours, events),
                "forward_hook": (floors["forward"], hooked()),
                "hook": (ours, hooked()),
            }
            for running, sent in subjects.values():
                running.warm_up(sent, 8)
            for number in CONNECTIONS:
                loads: dict[str, list[Load]] = {name: [] for name in subjects}
                for _ in range(rounds):
                    for name, (running, sent) in subjects.items():
                        loads[name].append(running.load(sent, number, seconds))
                found[f"{kind}, {number}"] = {name: middle(each).figures() for name, each in loads.items()}
    return found


def ratio(subjects: dict[str, Any], name: str) -> float:
    """What the subject `name` did, beside the bare forward of the same events."""
    done, floor = subjects[name]["per_second"], subjects[SUBJECTS[name][1]]["per_second"]
    return float(done / floor)


def lines(found: dict[str, Any]) -> list[str]:
    """The figures, as a table."""
    said = [f"{'platforms, connections':<24}" + "".join(f"{name:>17}" for name in SUBJECTS)]
    for place, subjects in found.items():
        cells = [f"{subjects[name]['per_second']:>8.0f} ({ratio(subjects, name):4.2f}x)" for name in SUBJECTS]
        said.append(f"{place:<24}" + "".join(f"{cell:>17}" for cell in cells))
        failed = {name: each["failed"] for name, each in subjects.items() if each["failed"]}
        if failed:
            said.append(f"  no success: {failed}")
    return said
