"""Compare the function with a bare forward of the same events, and print the results as Markdown tables.

    python -m tests.benchmarks.bench [--quick] [--only PART ...] [--python PATH] [--checkout PATH ...] [--page FILE]

wrk sends signed events, and nginx responds for both providers. Every function runs on the first core of the machine,
with the server and the THREADS of a deployment. Everything else runs on the last core. The subjects of a comparison
run in alternating rounds, so that a change in the load of the machine affects all of them.

The subjects are "bare" and "forward" (the two files in functions/), "function" (this checkout, run by --python), and
each --checkout, run by the Python in its .venv. The script ends with an error when a request fails.
"""

import argparse
import html
import http.client
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from deploy.local.cloud import ROOT, Cloud, Function, free_port
from deploy.local.generated import replace_generated_part
from deploy.local.signing import authentication
from tests.support import payloads

THREADS = 200
CORES = sorted(os.sched_getaffinity(0))
HERE = Path(__file__).parent
HOOK_SECRET = "CANARY-benchmark-hook-secret"
# https://docs.github.com/webhooks/webhook-events-and-payloads#delivery-headers
GITHUB_HEADERS = {
    "User-Agent": "GitHub-Hookshot/1d2c3f4",
    "X-GitHub-Delivery": "6f2b8c1e-c7a0-11f0-9d4e-3b7f5a2c9e10",
    "X-GitHub-Event": "workflow_run",
    "X-GitHub-Hook-ID": "510283746",
}
T = TypeVar("T")
#: The lines of a table, the header first.
Table = list[list[str]]


@dataclass(frozen=True, slots=True)
class Event:
    """A request of a sender, without the headers that authenticate the request."""

    path: str
    body: str
    sender: str
    secret: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    def signed_headers(self) -> dict[str, str]:
        """Return all headers. A signature is valid for five minutes."""
        credential, _ = authentication(self.sender, self.secret, self.body.encode(), message_id="msg-0")
        return {"Content-Type": "application/json", **self.headers, **credential}

    def lua(self) -> str:
        """Return the request as an entry of a Lua table."""
        headers = ", ".join(f"['{name}'] = [==[{value}]==]" for name, value in self.signed_headers().items())
        return f"{{path = '{self.path}', body = [==[{self.body}]==], headers = {{{headers}}}}},\n"


def native_events(secret: str) -> list[Event]:
    """Return 16 native events, for Apify and data.world in turn."""
    bodies: list[dict[str, Any]] = []
    for number in range(8):
        name = f"products-{number}"
        apify = {"name": name, "generalAccess": "RESTRICTED"}
        data_world = {"summary": f"Batch {number} of 8.", "tags": ["daily", "prices"], "visibility": "OPEN"}
        bodies.append({"provider": "apify", "dataset": f"jane~{name}", "update": apify})
        bodies.append({"provider": "data.world", "dataset": f"acme/{name}", "update": data_world})
    return [Event("/", json.dumps(body), "standard-webhooks", secret) for body in bodies]


def hook_events() -> list[Event]:
    """Return the event of a successful GitHub workflow, for the hook in relay.yaml."""
    return [Event("/hooks/build", json.dumps(payloads.github_workflow()), "github", HOOK_SECRET, GITHUB_HEADERS)]


@dataclass(frozen=True, slots=True)
class Subject:
    """A function to measure: the source in a folder, or one file."""

    name: str
    python: Path
    folder: Path = ROOT
    file: Path | None = None

    def start(self, settings: Mapping[str, str], log: Any) -> Function:
        """Start the function on the first core."""
        source = ["--source", str(self.file)] if self.file else []
        command = [str(self.python), "-m", "functions_framework", "--target", "relay", *source]
        return Function(settings, log=log, cwd=self.folder, command=["taskset", "-c", str(CORES[0]), *command])

    def compile(self) -> None:
        """Write the bytecode, as the build of an image does, so that no start compiles a module."""
        sources = [self.file] if self.file else [self.folder / name for name in ("main.py", "handlers", "schemas")]
        subprocess.run([self.python, "-m", "compileall", "-q", *sources], check=True)


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one run of wrk. `cpu_us` is the CPU time of the function per event, in microseconds."""

    events: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_us: float

    @property
    def rate(self) -> float:
        """Return the events per second."""
        return self.events / self.seconds


@dataclass(frozen=True, slots=True)
class Running:
    """A function that serves requests. Its log is in memory, so that no function waits for a disk."""

    function: Function
    log: Path

    def load(self, events: Sequence[Event], connections: int, seconds: int) -> Load:
        """Send the events in turn, over all connections, for the given time."""
        script = self.log.with_suffix(".lua")
        entries = "".join(event.lua() for event in events)
        script.write_text(f"local events = {{\n{entries}}}\n{HERE.joinpath('wrk.lua').read_text()}")
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
        before = self.cpu_seconds()
        wrk = subprocess.run([*command, self.function.url], check=True, capture_output=True, text=True)
        cpu_us = (self.cpu_seconds() - before) * 1e6
        os.truncate(self.log, 0)
        result = json.loads(wrk.stdout.splitlines()[-1])
        if failed := result.pop("failed"):
            raise RuntimeError(f"{failed} of {result['events']} requests failed.")
        return Load(**result, cpu_us=cpu_us / max(1, result["events"]))

    def workers(self) -> list[Path]:
        """Return the folders in /proc of the workers, which are the children of the server's first process."""
        pid = self.function.process.pid
        return [Path("/proc", child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def cpu_seconds(self) -> float:
        """Return the CPU time of the workers: the fields utime and stime of proc_pid_stat(5)."""
        stats = [(worker / "stat").read_text().rpartition(")")[2].split() for worker in self.workers()]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """Return the resident memory of the workers."""
        pages = [int((worker / "statm").read_text().split()[1]) for worker in self.workers()]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True, slots=True)
class Bench:
    """The subjects, the providers, and Secret Manager."""

    bare: Subject
    forward: Subject
    functions: Sequence[Subject]
    folder: Path
    cloud: Cloud
    port: int
    quick: bool

    def settings(self, provider: str = "fast", *, hook: bool = True, secret_manager: bool = True) -> dict[str, str]:
        """Return the environment of every subject. `provider` is "fast", or "slow" for responses after 200 ms."""
        base = f"http://127.0.0.1:{self.port}/{provider}"
        settings = {**self.cloud.settings(), "APIFY_BASE_URL": f"{base}/v2", "DATA_WORLD_BASE_URL": f"{base}/v0"}
        settings |= {"FORWARD_URL": f"{base}/v2/datasets/jane~products", "FORWARD_TOKEN": self.cloud.apify_token}
        settings |= {"THREADS": str(THREADS), "HOOK_SECRET": HOOK_SECRET, "SECRET": self.cloud.relay_secret}
        if hook:
            settings["RELAY_CONFIG"] = str(HERE / "relay.yaml")
        if not secret_manager:
            settings |= dict.fromkeys(("APIFY_TOKEN", "DATA_WORLD_TOKEN"), "env:FORWARD_TOKEN")
            settings["RELAY_SECRET"] = "env:SECRET"
        return settings

    @contextmanager
    def running(self, subjects: Sequence[Subject], provider: str = "fast") -> Iterator[dict[str, Running]]:
        """Start functions, and stop them at the end."""
        with ExitStack() as stack:
            started = {}
            for subject in subjects:
                log = self.folder / f"{subject.name}.log"
                with log.open("ab") as stream:
                    function = subject.start(self.settings(provider), stream)
                stack.callback(function.stop)
                started[subject.name] = Running(function.wait_until_up(), log)
            yield started

    def compare(
        self, running: Mapping[str, Running], events: Sequence[Event], connections: int, seconds: int, rounds: int
    ) -> dict[str, list[Load]]:
        """Load all functions in alternating rounds; in one short round, if the benchmark is quick."""
        seconds, rounds = (1, 1) if self.quick else (seconds, rounds)
        for function in running.values():
            # The first requests start threads and open connections, which is no part of the result.
            function.load(events, connections, min(seconds, 3))
        measurements = {name: partial(each.load, events, connections, seconds) for name, each in running.items()}
        return in_rounds(rounds, measurements)


def in_rounds(rounds: int, measurements: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Return the results of each measurement. Every second round runs the measurements in reverse order."""
    results: dict[str, list[T]] = {name: [] for name in measurements}
    for number in range(rounds):
        for name in list(measurements)[:: -1 if number % 2 else 1]:
            results[name].append(measurements[name]())
    return results


def throughput(bench: Bench) -> Table:
    """Measure native events and hooks at 8 and 64 connections, as multiples of the forward in the same round."""
    lines = [["events", "function", "events/s", "× forward", "CPU per event"]]
    kinds = {"native": native_events(bench.cloud.relay_secret), "GitHub hook": hook_events()}
    with bench.running([bench.forward, *bench.functions]) as running:
        for kind, events in kinds.items():
            for connections in (8, 64):
                results = bench.compare(running, events, connections, seconds=3, rounds=7)
                for name, loads in results.items():
                    pairs = zip(loads, results["forward"], strict=True)
                    ratio = statistics.median(load.rate / forward.rate for load, forward in pairs)
                    rate = statistics.median(load.rate for load in loads)
                    cpu = statistics.median(load.cpu_us for load in loads)
                    label = f"{kind}, {connections} connections"
                    lines.append([label, name, f"{rate:.0f}", f"{ratio:.2f}", f"{cpu:.0f} µs"])
    return lines


def in_flight(bench: Bench) -> Table:
    """Measure 200 connections to providers that respond after 200 ms. The best possible rate is 1000 events/s."""
    lines = [["200 requests in flight", "events/s", "p50", "p99", "memory"]]
    events = native_events(bench.cloud.relay_secret)
    with bench.running([bench.forward, *bench.functions], "slow") as running:
        for name, loads in bench.compare(running, events, 200, seconds=10, rounds=5).items():
            rate = statistics.median(load.rate for load in loads)
            p50 = statistics.median(load.p50_ms for load in loads)
            p99 = statistics.median(load.p99_ms for load in loads)
            memory = running[name].megabytes()
            lines.append([name, f"{rate:.0f}", f"{p50:.0f} ms", f"{p99:.0f} ms", f"{memory:.0f} MB"])
    return lines


def startup(bench: Bench) -> Table:
    """Measure the time from the start of the process to the response to the first event."""
    native, hook = native_events(bench.cloud.relay_secret)[0], hook_events()[0]
    bare = partial(first_response_ms, bench.bare, bench.settings(), native)
    forward = partial(first_response_ms, bench.forward, bench.settings(), native)
    measurements = {"bare": bare, "forward": forward}
    for each in bench.functions:
        start = partial(first_response_ms, each)
        settings = bench.settings(hook=False, secret_manager=False)
        measurements[f"{each.name}, secrets in variables"] = partial(start, settings, native)
        settings = bench.settings(secret_manager=False)
        measurements[f"{each.name}, secrets in variables, a hook"] = partial(start, settings, hook)
        settings = bench.settings(hook=False)
        measurements[f"{each.name}, secrets in Secret Manager"] = partial(start, settings, native)
    times = in_rounds(1 if bench.quick else 15, measurements)
    medians = {name: statistics.median(each) for name, each in times.items()}
    rows = [[name, f"{each:.0f} ms", f"{each / medians['bare']:.2f}"] for name, each in medians.items()]
    return [["startup to the first response", "time", "× bare"], *rows]


def first_response_ms(subject: Subject, settings: Mapping[str, str], event: Event) -> float:
    """Start a function, send an event, and return the time until the response, in milliseconds."""
    start = time.perf_counter()
    function = subject.start(settings, subprocess.DEVNULL)
    connection = http.client.HTTPConnection("127.0.0.1", function.port, timeout=30)
    try:
        while connection.sock is None:
            try:
                connection.connect()
            except ConnectionRefusedError:
                if function.process.poll() is not None:
                    raise RuntimeError(f"{subject.name} ended during startup.") from None
                time.sleep(0.001)
        connection.request("POST", event.path, event.body, {**event.signed_headers(), "Connection": "close"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{subject.name} responded with status {response.status}: {response.read()[:500]!r}")
        return (time.perf_counter() - start) * 1000
    finally:
        connection.close()
        function.stop()


def memory(bench: Bench) -> Table:
    """Measure the resident memory before and after many events of both kinds."""
    lines = [["memory", "at first", "at the end", "events"]]
    events = [*native_events(bench.cloud.relay_secret), *hook_events()]
    for subject in bench.functions:
        with bench.running([subject]) as running:
            function = running[subject.name]
            # Each thread takes some memory with its first request, and keeps that memory.
            function.load(events, THREADS, 1 if bench.quick else 5)
            first, count = function.megabytes(), 0
            while count < (1_000 if bench.quick else 100_000):
                count += function.load(events, 64, 1 if bench.quick else 5).events
            lines.append([subject.name, f"{first:.0f} MB", f"{function.megabytes():.0f} MB", str(count)])
    return lines


PARTS: Mapping[str, Callable[[Bench], Table]] = {
    each.__name__: each for each in (throughput, in_flight, startup, memory)
}


def picture(rows: Table) -> str:
    """Return an SVG with one bar for each row of the throughput table."""
    longest = max(float(rate) for _, _, rate, _, _ in rows)
    elements, y, previous = ['<rect width="100%" height="100%" fill="white"/>'], 0, ""
    for label, name, rate, ratio, _ in rows:
        if label != previous:
            y += 26
            elements.append(f'<text x="10" y="{y}" font-weight="bold">{label}: events per second</text>')
            y, previous = y + 8, label
        color = {"forward": "#9aa0a6", "function": "#1a73e8"}.get(name, "#f29900")
        width = round(400 * float(rate) / longest)
        elements.append(f'<text x="10" y="{y + 12}">{html.escape(name)}</text>')
        elements.append(f'<rect x="90" y="{y}" width="{width}" height="15" fill="{color}"/>')
        elements.append(f'<text x="{95 + width}" y="{y + 12}">{rate} ({ratio} × forward)</text>')
        y += 20
    attributes = f'width="640" height="{y + 10}" font-family="sans-serif" font-size="12"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>', *elements, "</svg>\n"])


def missing_tools() -> str | None:
    """Return a message about the tools that this machine lacks, or None."""
    echo_module = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
    if all(map(shutil.which, ("wrk", "nginx", "taskset"))) and echo_module.exists():
        return None
    return "The benchmark needs wrk and nginx: apt-get install wrk nginx-light libnginx-mod-http-echo"


@contextmanager
def prepared(python: Path, checkouts: Sequence[Path], *, quick: bool) -> Iterator[Bench]:
    """Start the providers and Secret Manager, and stop them at the end."""
    bare, forward = (Subject(name, python, file=HERE / "functions" / f"{name}.py") for name in ("bare", "forward"))
    others = [Subject(each.name, each / ".venv/bin/python", each) for each in checkouts]
    functions = [Subject("function", python), *others]
    for subject in (bare, forward, *functions):
        subject.compile()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        port = free_port()
        conf = HERE.joinpath("nginx.conf").read_text().replace("FOLDER", folder).replace("PORT", str(port))
        Path(folder, "nginx.conf").write_text(conf)
        nginx = subprocess.Popen(["nginx", "-p", folder, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/nginx.log"])
        cloud = Cloud().start()
        try:
            yield Bench(bare, forward, functions, Path(folder), cloud, port, quick)
        finally:
            cloud.stop()
            nginx.terminate()
            nginx.wait()


def main(arguments: Sequence[str]) -> int:
    """Run the parts, and print a table for each part."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench")
    parser.add_argument("--quick", action="store_true", help="measure for a minute; the results are rough")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="a Python with requirements.txt")
    parser.add_argument("--checkout", type=Path, action="append", default=[], help="another checkout with a .venv")
    parser.add_argument("--page", type=Path, help="a Markdown file for the tables; the picture is written beside it")
    options = parser.parse_args(arguments)
    if message := missing_tools():
        print(message, file=sys.stderr)
        return 1
    # Every process but the functions inherits this core.
    os.sched_setaffinity(0, CORES[-1:])
    results = [f"Measured with Python {platform.python_version()} on {len(CORES)} cores of {platform.machine()}:"]
    print(*results)
    checkouts = [each.absolute() for each in options.checkout]
    with prepared(options.python.absolute(), checkouts, quick=options.quick) as bench:
        for part in options.only:
            header, *rows = PARTS[part](bench)
            lines = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
            results.append("\n".join(lines))
            print("", *lines, sep="\n", flush=True)
            if part == "throughput" and options.page:
                options.page.with_name("results.svg").write_text(picture(rows))
    if options.page:
        page = replace_generated_part(options.page.read_text(), "make bench", "\n\n".join(results) + "\n")
        options.page.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
