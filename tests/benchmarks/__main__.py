"""What the function costs, beside what can't be avoided; prints it, and writes it down.

    python -m tests.benchmarks [--quick] [--only PART …] [--python PATH] [--write FOLDER]

With --quick everything is measured, but too shortly to mean much. PART is one of those below. PATH is the Python that
the functions run with. FOLDER gets results.json, which keeps what it had of other parts, and results.svg, once it has
all that is drawn; without it nothing is written.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import cores, growth, in_flight, memory, plot, profile, start, throughput
from tests.benchmarks.ground import Ground, ground, missing

#: As deployed.
THREADS = 200
# Asked of the Python that is measured, which may be another than this.
_VERSIONS = """
import json, platform
from importlib.metadata import version
names = "functions-framework", "gunicorn", "requests", "marshmallow", "httptools"
print(json.dumps({"python": platform.python_version(), **{name: version(name) for name in names}}))
"""


def main(arguments: Sequence[str]) -> int:
    """0; 1 where what is needed to measure isn't there."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args(arguments)
    if lacking := missing():
        print(lacking, file=sys.stderr)
        return 1
    rounds, seconds = (1, 1) if asked.quick else (5, 3)
    parts: dict[str, tuple[Callable[[Ground], dict[str, Any]], Callable[[dict[str, Any]], list[str]]]] = {
        "throughput": (lambda on: throughput.measure(on, rounds, seconds, THREADS), throughput.lines),
        "in_flight": (lambda on: in_flight.measure(on, 2 if asked.quick else 30, THREADS), in_flight.lines),
        "cores": (lambda on: cores.measure(on, 1 if asked.quick else 8, THREADS), cores.lines),
        "start": (lambda on: start.measure(on, 1 if asked.quick else 15, THREADS), start.lines),
        "memory": (lambda on: memory.measure(on, 1_000 if asked.quick else 100_000, THREADS), memory.lines),
        "profile": (lambda on: profile.measure(on, 1 if asked.quick else 20, THREADS), profile.lines),
        "growth": (lambda on: growth.measure(on, rounds, 1 if asked.quick else 2, THREADS), growth.lines),
    }
    if unknown := set(asked.only) - set(parts):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    said = subprocess.run([asked.python, "-c", _VERSIONS], check=True, capture_output=True, text=True)
    machine = {"system": platform.platform(), "cores": os.cpu_count(), **json.loads(said.stdout)}
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    found: dict[str, Any] = {"machine": machine}
    if asked.write and (before := asked.write / "results.json").exists():
        kept = json.loads(before.read_text())
        # Of what isn't measured now, what was measured before, if it was on the same.
        found = {**kept, **found} if kept["machine"] == machine else found
    with ground(asked.python) as on:
        for name in asked.only or parts:
            measure, lines = parts[name]
            found[name] = measure(on)
            print("", *lines(found[name]), sep="\n", flush=True)
            if asked.write:
                text = json.dumps(found, indent=1)
                asked.write.joinpath("results.json").write_text(f"{text}\n")
    if asked.write and {"throughput", "profile", "growth"} <= found.keys():
        plot.draw(asked.write / "results.svg", json.loads(text))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
