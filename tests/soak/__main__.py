"""Mixed senders, both platforms, faults at random, restarts of the function; then nothing may be missing.

    python -m tests.soak MINUTES [--seed N] [--lanes N] [--plot FILE]

Exit status 0 if it all adds up, 1 if not. The seed is printed: the same one draws the same faults.
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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local.cloud import Cloud, Function, free_port
from tests.hooks import written
from tests.soak.chaos import Chaos
from tests.soak.plot import draw, quantile
from tests.soak.reckoning import Wanted, reckon
from tests.soak.senders import HOOKS, SECRET, Journal, lanes, send_on

_DEADLINE_SECONDS = "4"


class Subject:
    """The function, which is restarted now and then, on the same port; its memory is measured all along."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self._settings = {
            **cloud.settings(),
            "RELAY_CONFIG": written(folder, HOOKS),
            "RELAY_SECRET": "env:SECRET",
            "SECRET": SECRET,
            "RELAY_DEADLINE_SECONDS": _DEADLINE_SECONDS,
            "RELAY_SECRET_TTL_SECONDS": "5",
            "THREADS": "64",
        }
        self.log = folder / "log"
        self._port = free_port()
        self.codes: list[int] = []
        self.memory: list[tuple[float, float]] = []
        self.start()

    @property
    def url(self) -> str:
        return self.function.url

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.function = Function(self._settings, port=self._port, log=log)
        self.function.wait_until_up()

    def restart(self, gently: bool) -> None:
        """With SIGTERM, as the platform does; or without a word."""
        if gently:
            self.codes.append(self.function.stop())
        else:
            os.killpg(self.function.process.pid, signal.SIGKILL)
            self.function.process.wait()
        self.start()

    def measure(self, over: threading.Event) -> None:
        """Notes the worker's resident memory twice a second."""
        while not over.wait(0.5):
            pid = self.function.process.pid
            try:
                for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    pages = int(Path(f"/proc/{child}/statm").read_text().split()[1])
                    self.memory.append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
            except (OSError, IndexError):
                continue  # between an end and a start there is none


def main(arguments: Sequence[str]) -> int:
    """Soaks the function for some minutes."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--lanes", type=int, default=3)
    parser.add_argument("--plot", type=Path, default=Path(".soak/soak.svg"))
    given = parser.parse_args(arguments)
    print(f"soak: {given.minutes:g} minutes, seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        return soak(given.minutes * 60, given.seed, given.lanes, given.plot, Path(folder))


def soak(seconds: float, seed: int, count: int, plot: Path, folder: Path) -> int:
    """As `main` says."""
    cloud = Cloud().start()
    subject, journal, chaos = Subject(cloud, folder), Journal(), Chaos(cloud, seed)
    makers = lanes(cloud, count, journal)
    began, measured = time.monotonic(), threading.Event()
    with ThreadPoolExecutor(len(makers) + 2) as pool:
        pool.submit(subject.measure, measured)
        breaking = pool.submit(chaos.run, subject.restart)
        sending = [pool.submit(send_on, subject.url, make, journal) for make in makers]
        time.sleep(seconds)
        # First it gets well again, so that the last events can be finished; and nobody is restarted any more.
        chaos.over.set()
        breaking.result()
        journal.over.set()
        for each in sending:
            each.result()
        measured.set()
    subject.codes.append(subject.function.stop())
    cloud.stop()
    applied = [(dataset, _mark(body)) for dataset, body in cloud.apify.applied + cloud.data_world.applied]
    draw(plot, began, journal.answered, subject.memory, chaos.marks)
    return report(journal, chaos, subject, applied, plot)


def _mark(body: object) -> str:
    assert isinstance(body, dict)
    return str(body.get("name") or body.get("summary"))


def report(journal: Journal, chaos: Chaos, subject: Subject, applied: list[Wanted], plot: Path) -> int:
    """Prints what was seen, and whether it adds up; the exit status."""
    reckoning = reckon(journal.sent, applied)
    latencies = [each.seconds * 1000 for each in journal.answered if each.status is not None]
    statuses = Counter(str(each.status or "no answer") for each in journal.answered)
    kinds = Counter(event.kind for event in journal.sent)
    tracebacks = subject.log.read_text().count("stack_trace") + subject.log.read_text().count("Traceback")
    memory = [size for _, size in subject.memory]
    settled = sum(event.is_gone for event in journal.sent)
    rows = {
        "events": f"{len(journal.sent)} ({', '.join(f'{kind} {count}' for kind, count in sorted(kinds.items()))})",
        "requests": f"{len(journal.answered)} ({', '.join(f'{name} {n}' for name, n in sorted(statuses.items()))})",
        "updates carried out": str(len(applied)),
        "faults": f"{sum(chaos.counts.values())} ({', '.join(f'{w} {n}' for w, n in sorted(chaos.counts.items()))})",
        "answer after": f"p50 {quantile(latencies, 0.5):.0f} ms, p99 {quantile(latencies, 0.99):.0f} ms, "
        f"longest {max(latencies):.0f} ms",
        "memory": f"{memory[0]:.0f} MB at the start, {memory[-1]:.0f} MB at the end, at most {max(memory):.0f} MB",
        "confirmed, but lost": _some(reckoning.lost),
        "done, but wanted by nobody": _some(reckoning.unexplained),
        "never confirmed": _some(reckoning.undelivered),
        "overwritten by an older one": _some(reckoning.overwritten),
        "repeated, which changes nothing": str(reckoning.repeated),
        "renames that ended in 404 when sent again": str(settled),
        "stacks in the log": str(tracebacks),
        "orderly ends": f"{subject.codes.count(0)} of {len(subject.codes)}",
        "plot": str(plot),
    }
    for name, value in rows.items():
        print(f"  {name + ':':<44}{value}")
    late = max(latencies) > (float(_DEADLINE_SECONDS) + 0.5) * 1000
    fine = reckoning.adds_up and not tracebacks and not late and not any(subject.codes) and "500" not in statuses
    print("it all adds up" if fine else "IT DOES NOT ADD UP")
    return 0 if fine else 1


def _some(found: Sequence[object]) -> str:
    shown = ", ".join(str(each) for each in found[:5])
    return f"{len(found)}{f': {shown}' if found else ''}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
