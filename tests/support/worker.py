"""The process that serves the requests of a function, as Linux reports it.

https://docs.kernel.org/filesystems/proc.html
"""

import os
from pathlib import Path

from tests.support.relay import Relay


def cpu_seconds(relay: Relay) -> float:
    """Return the CPU time that the process has used so far."""
    # The name of the process, in parentheses, can contain spaces.
    fields = (_worker(relay) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(relay: Relay) -> int:
    """Return the largest amount of memory that the process has ever had, in kB."""
    (line,) = [line for line in (_worker(relay) / "status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


def count_threads_and_files(relay: Relay) -> tuple[int, int]:
    """Return the number of threads and the number of open files of the process."""
    worker = _worker(relay)
    return len(list((worker / "task").iterdir())), len(list((worker / "fd").iterdir()))


def _worker(relay: Relay) -> Path:
    """Return the directory of the only worker of gunicorn, which is a child of the process that the test started."""
    pid = relay.function.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return Path(f"/proc/{child}")
