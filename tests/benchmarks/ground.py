"""What is measured with: nginx as both platforms, wrk as the senders, and functions, each on a core of its own."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.cloud import ROOT, Cloud, Function, free_port
from tests.benchmarks.events import VARIABLES, Sent, written
from tests.certificates import signed_for
from tests.hooks import written as hooks_file

#: The function has the first of this machine's cores, the senders and the platforms the last: where there is but one,
#: they share it, and the figures say nothing.
CORES = sorted(os.sched_getaffinity(0))
OWN, OTHERS = CORES[:1], CORES[-1:]
#: Of platforms.
KINDS = ("http", "https", "slow")
FLOORS = Path(__file__).parent / "floors"
#: Where the modules are, in Debian, that nginx loads when it starts.
_ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
# Where the log goes, so that nobody waits for a disk.
_IN_MEMORY = "/dev/shm"
_TICKS = os.sysconf("SC_CLK_TCK")

_RECORD = {
    "data": {
        "id": "kVxQb3TnWkzbQMuFY",
        "name": "products-2026-11-22",
        "userId": "wRwJZtadYvn4mBZmm",
        "createdAt": "2026-11-01T06:00:00.000Z",
        "modifiedAt": "2026-11-22T08:30:00.000Z",
        "accessedAt": "2026-11-22T08:30:00.000Z",
        "itemCount": 12480,
        "cleanItemCount": 12480,
        "actId": "mK8cGmdFbmSdEMQyj",
        "actRunId": "kgrdsR4vbzWZUeePf",
        "generalAccess": "ANYONE_WITH_NAME_CAN_READ",
        "urlSigningSecretKey": "0tQ9bWZ3kd81",
        "stats": {"readCount": 21, "writeCount": 12480, "storageBytes": 9217204},
    }
}
_DONE = {"message": "Dataset updated successfully."}

_NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
load_module {echo};
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_requests 1000000000;
    client_max_body_size 20m;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/t1; fastcgi_temp_path {folder}/t2; uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    server {{
        listen 127.0.0.1:{http} backlog=4096;
        listen 127.0.0.1:{https} ssl backlog=4096;
        location /v2 {{ return 200 '{record}'; }}
        location /v0 {{ return 200 '{done}'; }}
    }}
    server {{
        listen 127.0.0.1:{slow} backlog=4096;
        location /v2 {{ echo_sleep 0.2; echo '{record}'; }}
        location /v0 {{ echo_sleep 0.2; echo '{done}'; }}
    }}
}}
"""


def missing() -> str | None:
    """What this machine lacks to measure on it, with what to do; None: nothing."""
    if not (shutil.which("wrk") and shutil.which("nginx") and _ECHO.exists() and shutil.which("taskset")):
        return "wrk and nginx are needed: apt-get install wrk nginx-light libnginx-mod-http-echo"
    return None


@dataclass(frozen=True)
class Load:
    """What wrk saw: answers a second, milliseconds, and how many were no success; and the workers' CPU for each."""

    per_second: float
    p50: float
    p99: float
    answers: int
    failed: int
    cpu_us: float

    def figures(self) -> dict[str, float]:
        """As they are written down."""
        return {
            "per_second": round(self.per_second),
            "p50_ms": round(self.p50, 2),
            "p99_ms": round(self.p99, 2),
            "cpu_us": round(self.cpu_us),
            "failed": self.failed,
        }


def middle(loads: Sequence[Load]) -> Load:
    """Of several loads the medians, and what came and failed in them all."""
    return Load(
        per_second=statistics.median(each.per_second for each in loads),
        p50=statistics.median(each.p50 for each in loads),
        p99=statistics.median(each.p99 for each in loads),
        answers=sum(each.answers for each in loads),
        failed=sum(each.failed for each in loads),
        cpu_us=statistics.median(each.cpu_us for each in loads),
    )


@dataclass
class Ground:
    """The platforms, fast and slow, over http and https; a Secret Manager; and what starts functions between them."""

    folder: Path
    cloud: Cloud
    ports: Mapping[str, int]
    certificate: Path
    python: str

    def platforms(self, kind: str) -> dict[str, str]:
        """The settings by which a function calls the platforms of this kind: http, https or slow."""
        base = f"{'https' if kind == 'https' else 'http'}://127.0.0.1:{self.ports[kind]}"
        return {
            "APIFY_BASE_URL": f"{base}/v2",
            "DATA_WORLD_BASE_URL": f"{base}/v0",
            "FORWARD_TO": f"{base}/v2/datasets/jane~products",
            "REQUESTS_CA_BUNDLE": str(self.certificate),
        }

    def settings(self, kind: str, threads: int, hooks: Mapping[str, Any] | None = None, **more: str) -> dict[str, str]:
        """What a function needs, a floor or ours, to call the platforms of this `kind`."""
        return {
            **self.cloud.settings(),
            **self.platforms(kind),
            "APIFY": self.cloud.apify_token,
            "SECRET": self.cloud.relay_secret,
            "THREADS": str(threads),
            **(self.hooked(hooks) if hooks else {}),
            **more,
        }

    def hooked(self, hooks: Mapping[str, Any]) -> dict[str, str]:
        """The settings by which a function has these hooks."""
        return {"RELAY_CONFIG": hooks_file(self.folder, dict(hooks)), **VARIABLES}

    @contextmanager
    def function(
        self, settings: Mapping[str, str], *, floor: str | None = None, cores: Sequence[int] = OWN
    ) -> Iterator["Running"]:
        """A function on `cores`: ours, or the `floor` of this name."""
        log = self.folder / f"log-{free_port()}"
        with log.open("ab") as stream:
            started = Function(settings, log=stream, command=self.command(floor, cores), port=free_port())
        try:
            yield Running(self, started.wait_until_up(), log)
        finally:
            started.stop()
            log.unlink()

    def command(self, floor: str | None, cores: Sequence[int] = OWN) -> list[str]:
        """What starts such a function."""
        source = ["--source", str(FLOORS / f"{floor}.py")] if floor else []
        python = [self.python, "-m", "functions_framework", "--target", "relay", *source]
        return ["taskset", "-c", ",".join(map(str, cores)), *python]


@dataclass(frozen=True)
class Running:
    """A function that runs."""

    ground: Ground
    function: Function
    log: Path

    def warm_up(self, sent: Sequence[Sent], connections: int, seconds: int = 1) -> None:
        """Has it take in these events for some seconds that don't count, and longer, if nothing comes in them."""
        for _ in range(10):
            if self._loaded(sent, connections, seconds, OTHERS)["answers"]:
                return
        raise RuntimeError(f"No answer within {10 * seconds} s.")

    def load(self, sent: Sequence[Sent], connections: int, seconds: int, cores: Sequence[int] = OTHERS) -> Load:
        """What it makes of these events, one after the other, over so many connections, for so many seconds."""
        before = self.cpu_seconds()
        seen = self._loaded(sent, connections, seconds, cores)
        return Load(
            per_second=seen["answers"] / seen["seconds"],
            p50=seen["p50"],
            p99=seen["p99"],
            answers=seen["answers"],
            failed=seen["failed"],
            cpu_us=(self.cpu_seconds() - before) / seen["answers"] * 1e6,
        )

    def _loaded(self, sent: Sequence[Sent], connections: int, seconds: int, cores: Sequence[int]) -> Any:
        script = written(self.ground.folder / "senders.lua", sent)
        command = ["taskset", "-c", ",".join(map(str, cores)), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
        said = subprocess.run(
            [*command, "--timeout", "10s", "-s", str(script), self.function.url],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        os.truncate(self.log, 0)
        return json.loads(said.stdout.rsplit("\n", 2)[-2])

    def workers(self) -> list[int]:
        """The process ids of the server's workers."""
        pid = self.function.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def cpu_seconds(self) -> float:
        """What its workers have computed, so far."""
        times = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.workers()]
        return sum(int(each[11]) + int(each[12]) for each in times) / _TICKS

    def resident_megabytes(self) -> float:
        """What its workers have of this machine's memory."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.workers()]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _quoted(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")).replace("'", "\\'")


@contextmanager
def ground(python: str = sys.executable) -> Iterator[Ground]:
    """All that is measured with; `python` is the one that functions run with."""
    # As an image and the buildpack have it; what was compiled for an older text would be compiled at each start.
    compiled = ["main.py", "handlers", "schemas", str(FLOORS)]
    subprocess.run([python, "-m", "compileall", "-q", *compiled], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None) as name:
        folder = Path(name)
        certificate = signed_for(folder, "127.0.0.1", hours=24)
        free: set[int] = set()
        while len(free) < len(KINDS):
            free.add(free_port())
        ports = dict(zip(KINDS, free, strict=True))
        answers = {"record": _quoted(_RECORD), "done": _quoted(_DONE)}
        text = _NGINX.format(folder=folder, certificate=certificate, echo=_ECHO, **ports, **answers)
        (folder / "nginx.conf").write_text(text)
        command = ["taskset", "-c", ",".join(map(str, OTHERS)), "nginx", "-p", name, "-c", f"{name}/nginx.conf"]
        nginx = subprocess.Popen([*command, "-e", f"{name}/nginx.log"])
        cloud = Cloud().start()
        try:
            yield Ground(folder, cloud, ports, certificate, python)
        finally:
            cloud.stop()
            nginx.terminate()
            nginx.wait()
