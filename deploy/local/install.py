"""Install packages with pip, and show only a line of progress instead of pip's output.

    .venv/bin/python deploy/local/install.py PURPOSE PIP-ARGUMENTS

This program runs before the packages are installed, and so uses only the standard library.
"""

import re
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

_PIP = (
    *("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"),
    "--require-hashes",
)


def main(purpose: str, arguments: list[str]) -> int:
    """Install the packages. Return the exit status of pip, whose whole output is printed only after a failure."""
    files = [Path(file).read_text() for option, file in pairwise(arguments) if option == "-r"]
    total = len(re.findall(r"^[A-Za-z0-9]", "\n".join(files), re.MULTILINE))
    started = time.monotonic()
    _show(f"Installing the packages that {purpose}", is_last=not sys.stdout.isatty())
    output, count = [], 0
    with subprocess.Popen(
        [sys.executable, *_PIP, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            output.append(line)
            count += line.startswith(("Collecting ", "Requirement already satisfied: "))
            # pip prints nothing while it unpacks the packages.
            step = "all" if line.startswith("Installing collected") else min(count, total)
            if sys.stdout.isatty():
                _show(f"Installing {step} of {total} packages that {purpose}")
    if pip.returncode:
        _show(f"The packages that {purpose.partition(' (')[0]} can't be installed. The output of pip:", is_last=True)
        print("".join(output), end="")
    elif sys.stdout.isatty():
        _show(
            f"Installed the packages that {purpose.partition(' (')[0]} in {time.monotonic() - started:.0f} s.",
            is_last=True,
        )
    return pip.returncode


def _show(text: str, *, is_last: bool = False) -> None:
    """Print `text` in place of the current line of the terminal."""
    if sys.stdout.isatty():
        text = f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}"
    print(text, end="\n" if is_last else "", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
    except KeyboardInterrupt:
        sys.exit(130)
