"""Start to first answer, and memory, beside a bare function under the same server, in alternating rounds of one run.

`python -m tests.benchmarks.start [ROUNDS]`
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import requests

from deploy.local.cloud import APIFY_USER, Cloud, Function

BARE = """
import functions_framework

@functions_framework.http
def relay(request):
    return "{}", 200, {"Content-Type": "application/json"}
"""


def resident_megabytes(pid: int) -> float:
    """Proportional set size of a process and its children: memory that several share is divided among them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = next(int(line.split()[1]) for line in own.splitlines() if line.startswith("Pss:"))
    return kilobytes / 1024 + sum(resident_megabytes(int(child)) for child in children)


def measure(settings: Mapping[str, str], first: Callable[[str], requests.Response]) -> tuple[float, float]:
    """Seconds from the process's start to its first answer, and megabytes after it."""
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        function = Function(settings, log=log)
        while True:
            try:
                answer = first(function.url)
                break
            except requests.ConnectionError:
                time.sleep(0.002)
        seconds = time.perf_counter() - began
        assert answer.status_code == 200, answer.text
        megabytes = resident_megabytes(function.process.pid)
        function.stop()
    return seconds, megabytes


def main() -> None:
    """Prints medians and ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    cloud = Cloud().start()
    dataset = cloud.apify.add(APIFY_USER)
    event = {"provider": "apify", "dataset": dataset, "update": {"generalAccess": "RESTRICTED"}}
    proof = {"Authorization": f"Bearer {cloud.relay_secret}"}
    variables = {
        **cloud.settings(),
        "APIFY_TOKEN": "env:A", "A": cloud.apify_token, "DATA_WORLD_TOKEN": "", "RELAY_SECRET": "env:B",
        "B": cloud.relay_secret,
    }  # fmt: skip

    def health(url: str) -> requests.Response:
        return requests.get(f"{url}/health", timeout=10)

    def update(url: str) -> requests.Response:
        return requests.post(f"{url}/", json=event, headers=proof, timeout=10)

    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder, "main.py")
        bare.write_text(BARE)
        kinds: dict[str, Callable[[], tuple[float, float]]] = {
            "bare framework, first answer": lambda: measure({"FUNCTION_SOURCE": str(bare)}, health),
            "the relay, GET /health": lambda: measure(cloud.settings(), health),
            "the relay, first update, env: secrets": lambda: measure(variables, update),
            "the relay, first update, Secret Manager": lambda: measure(cloud.settings(), update),
        }
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, run in kinds.items():
                results[name].append(run())
    cloud.stop()
    floor = [statistics.median(values) for values in zip(*results["bare framework, first answer"], strict=True)]
    print(f"medians of {rounds} rounds\n{'':<42}{'seconds':>9}{'':>8}{'MB':>8}")  # noqa: T201
    for name, values in results.items():
        seconds, megabytes = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"{name:<42}{seconds:>9.3f}{seconds / floor[0]:>7.2f}x{megabytes:>8.1f}{megabytes / floor[1]:>7.2f}x")  # noqa: T201


if __name__ == "__main__":
    main()
