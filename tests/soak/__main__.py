"""Send events of all kinds while faults happen at random, and then look for lost updates.

    python -m tests.soak MINUTES [--seed N] [--lanes N]

The exit status is 0 if every event was applied as confirmed, and 1 otherwise. The output has the seed, and the same
seed draws the same faults.
"""

import argparse
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from deploy.local.cloud import Cloud, Function, free_port
from tests.soak.chaos import Chaos
from tests.soak.ledger import audit
from tests.soak.senders import HOOKS, SECRET, Journal, lanes, send_events


class RestartableFunction:
    """The function on one port, across restarts, with the exit codes and the resident memory of its processes."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        config = folder / "relay.yaml"
        config.write_text(yaml.safe_dump({"hooks": HOOKS}))
        self._settings = {
            **cloud.settings(),
            "RELAY_CONFIG": str(config),
            "RELAY_SECRET": "env:SECRET",
            "SECRET": SECRET,
            "RELAY_DEADLINE_SECONDS": "4",
            "RELAY_SECRET_TTL_SECONDS": "5",
            "THREADS": "64",
        }
        self.log = folder / "log"
        self._port = free_port()
        self.exit_codes: list[int] = []
        self.megabytes: list[float] = []
        self.start()

    def start(self) -> None:
        """Start the function, and wait for the first response."""
        with self.log.open("ab") as log:
            self.function = Function(self._settings, port=self._port, log=log)
        self.function.wait_until_up()

    def stop(self) -> None:
        """Stop the function with SIGTERM, as Cloud Run does."""
        self.exit_codes.append(self.function.stop())

    def restart(self, in_order: bool) -> None:
        """Restart the function after SIGTERM, or after SIGKILL."""
        if in_order:
            self.stop()
        else:
            os.killpg(self.function.process.pid, signal.SIGKILL)
            self.function.process.wait()
        self.start()

    def measure_memory(self, over: threading.Event) -> None:
        """Record the resident memory of the worker twice a second."""
        while not over.wait(0.5):
            pid = self.function.process.pid
            try:
                for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    pages = int(Path(f"/proc/{child}/statm").read_text().split()[1])
                    self.megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            except (OSError, IndexError):
                continue  # No worker exists during a restart.


def main(arguments: Sequence[str]) -> int:
    """Run the soak test, print a report, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--lanes", type=int, default=3, help="the number of concurrent senders of each kind")
    options = parser.parse_args(arguments)
    print(f"soak: {options.minutes:g} minutes, seed {options.seed}", flush=True)
    cloud = Cloud(apify_token="apify_api_CANARYsoak", data_world_token="dw.CANARYsoak").start()
    with tempfile.TemporaryDirectory() as folder:
        function, journal, chaos = RestartableFunction(cloud, Path(folder)), Journal(), Chaos(cloud, options.seed)
        soak(options.minutes * 60, cloud, function, journal, chaos, options.lanes)
        return report(cloud, function, journal, chaos)


def soak(
    seconds: float, cloud: Cloud, function: RestartableFunction, journal: Journal, chaos: Chaos, lane_count: int
) -> None:
    """Run the senders and the faults at the same time, and stop everything."""
    all_lanes, over = lanes(cloud, lane_count), threading.Event()
    with ThreadPoolExecutor(len(all_lanes) + 2) as pool:
        pool.submit(function.measure_memory, over)
        faults = pool.submit(chaos.run, function.restart)
        senders = [pool.submit(send_events, function.function.url, lane, journal) for lane in all_lanes]
        time.sleep(seconds)
        # End the faults first, so that the senders can finish their last events.
        chaos.over.set()
        faults.result()
        journal.over.set()
        for sender in senders:
            sender.result()
        over.set()
    function.stop()
    cloud.stop()


def report(cloud: Cloud, function: RestartableFunction, journal: Journal, chaos: Chaos) -> int:
    """Print the report, and return the exit status."""
    applied = [
        (dataset, str(body.get("name") or body.get("summary")))
        for dataset, body in cloud.apify.applied + cloud.data_world.applied
    ]
    result = audit(journal.events, applied)
    latencies = sorted(journal.latencies_ms)
    p50, p99 = (latencies[int(len(latencies) * part)] for part in (0.5, 0.99))
    log = function.log.read_text()
    failures = {
        "lost updates of confirmed events": result.lost,
        "updates without an event": result.unexpected,
        "unconfirmed events": result.unconfirmed,
        "updates overwritten by an older event": result.overwritten,
        "requests without a response in time": ["timeout"] * journal.statuses["timeout"],
        "responses with status 500": ["500"] * journal.statuses["500"],
        "responses with a secret": ["CANARY"] * journal.leaks,
        "log lines with a secret": [line for line in log.splitlines() if "CANARY" in line],
        "log lines with a stack trace": [
            line for line in log.splitlines() if "stack_trace" in line or "Traceback" in line
        ],
        "exit codes other than 0": [code for code in function.exit_codes if code != 0],
    }
    rows = {
        "events": f"{len(journal.events)} ({_counts(Counter(event.kind for event in journal.events))})",
        "requests": f"{journal.statuses.total()} ({_counts(journal.statuses)})",
        "applied updates": f"{len(applied)}, {result.repeated} of them repeated by a retry",
        "faults": f"{chaos.counts.total()} ({_counts(chaos.counts)})",
        "latency": f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, maximum {latencies[-1]:.0f} ms",
        "memory": f"{function.megabytes[0]:.0f} MB at first, {function.megabytes[-1]:.0f} MB at the end, "
        f"{max(function.megabytes):.0f} MB at most",
        "renames that a retry found applied": str(sum(event.is_renamed for event in journal.events)),
        **{name: f"{len(found)} {', '.join(map(str, found[:5]))}" for name, found in failures.items()},
    }
    for name, value in rows.items():
        print(f"  {name + ':':<44}{value}")
    failed = any(failures.values())
    print("SOAK FAILED" if failed else "soak passed")
    return int(failed)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
