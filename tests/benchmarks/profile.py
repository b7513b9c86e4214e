"""Where the microseconds of one event go: what the server takes, what the framework, and each stage of ours."""

import json
import os
import subprocess
from typing import Any

from deploy.local.cloud import ROOT
from tests.benchmarks.events import HOOKS, Sent, hooked, native
from tests.benchmarks.ground import OWN, Ground

_CONNECTIONS = 8
SERVER = "gunicorn: sockets, HTTP, threads"


def measure(ground: Ground, seconds: int, threads: int) -> dict[str, Any]:
    """For a native event and a hook's: microseconds of CPU by stage, the most first; they add up to the event's."""
    settings = ground.settings("http", threads, HOOKS)
    found = {}
    for name, sent in (("native", native(ground.cloud.relay_secret)), ("hook", hooked())):
        with ground.function(settings) as running:
            running.warm_up(sent, _CONNECTIONS)
            whole = running.load(sent, _CONNECTIONS, seconds).cpu_us
        own = _sampled(ground, settings, sent, seconds)
        stages = {stage: share * own["cpu_us"] for stage, share in own["shares"].items() if stage != "the measurement"}
        stages[SERVER] = whole - sum(stages.values())
        found[name] = {stage: round(each) for stage, each in sorted(stages.items(), key=lambda pair: -pair[1])}
    return found


def _sampled(ground: Ground, settings: dict[str, str], sent: list[Sent], seconds: int) -> dict[str, Any]:
    events = [(each.path, each.proven(), each.body.decode()) for each in sent]
    command = ["taskset", "-c", ",".join(map(str, OWN)), ground.python, "-m", "tests.benchmarks.sampled"]
    said = subprocess.run(
        command, input=json.dumps({"events": events, "seconds": seconds, "source": str(ROOT / "main.py")}),
        env={**os.environ, **settings}, cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    measured: dict[str, Any] = json.loads(said.stdout)
    return measured


def lines(found: dict[str, Any]) -> list[str]:
    """The figures, as a table."""
    said = [f"{'µs of an event':<36}" + "".join(f"{name:>8}" for name in found)]
    stages = list(dict.fromkeys(stage for each in found.values() for stage in each))
    said += [f"{stage:<36}" + "".join(f"{each.get(stage, 0):>8}" for each in found.values()) for stage in stages]
    said.append(f"{'in all':<36}" + "".join(f"{sum(each.values()):>8}" for each in found.values()))
    return said
