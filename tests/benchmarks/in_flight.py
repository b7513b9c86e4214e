"""Many calls at once: platforms that take 200 ms, 200 connections over both of them, one core."""

from typing import Any

from tests.benchmarks.events import HOOKS, native
from tests.benchmarks.ground import Ground

CONNECTIONS = 200


def measure(ground: Ground, seconds: int, threads: int) -> dict[str, Any]:
    """What a bare forward and ours do, each with so many threads; 1 000 a second would be all that there is to do."""
    found: dict[str, Any] = {"threads": threads, "connections": CONNECTIONS}
    for name, floor in (("forward", "forward"), ("native", None)):
        settings = ground.settings("slow", threads, HOOKS)
        with ground.function(settings, floor=floor) as running:
            # All begin at the same moment, which happens once: it is no part of what is measured.
            running.warm_up(native(ground.cloud.relay_secret), CONNECTIONS, 2)
            load = running.load(native(ground.cloud.relay_secret), CONNECTIONS, seconds)
            found[name] = {**load.figures(), "megabytes": round(running.resident_megabytes())}
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """The figures, as text."""
    said = [f"{found['connections']} connections, {found['threads']} threads, platforms that take 200 ms"]
    for name in ("forward", "native"):
        each = found[name]
        said.append(
            f"{name:<10}{each['per_second']:>6.0f}/s  p50 {each['p50_ms']:.0f} ms  p99 {each['p99_ms']:.0f} ms"
            f"  {each['failed']} failed  {each['megabytes']} MB"
        )
    return said
