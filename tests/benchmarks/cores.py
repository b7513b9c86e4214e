"""More than one core: a worker for each, and what becomes of one worker on two."""

from typing import Any

from tests.benchmarks.events import native
from tests.benchmarks.ground import CORES, OWN, Ground

CONNECTIONS = 64


def measure(ground: Ground, seconds: int, threads: int) -> dict[str, Any]:
    """Answers a second; the senders and the platforms take their share of the same cores."""
    found: dict[str, Any] = {"cores": len(CORES)}
    if len(CORES) < 2:
        return found
    for name, workers, cores in (
        ("one worker, one core", 1, OWN),
        ("one worker, two cores", 1, CORES[:2]),
        ("two workers, two cores", 2, CORES[:2]),
    ):
        settings = ground.settings("http", threads, WORKERS=str(workers))
        with ground.function(settings, cores=cores) as running:
            sent = native(ground.cloud.relay_secret)
            running.warm_up(sent, CONNECTIONS)
            found[name] = running.load(sent, CONNECTIONS, seconds, cores=CORES).figures()
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """The figures, as text."""
    if found["cores"] < 2:
        return ["more than one core: there is but one here, so nothing was measured"]
    return [
        f"{name:<24}{each['per_second']:>6.0f}/s  {each['cpu_us']} µs each  p99 {each['p99_ms']:.0f} ms"
        for name, each in found.items()
        if isinstance(each, dict)
    ]
