import re
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from deploy.local.cloud import ROOT
from tests.benchmarks.bench import missing_tools

MISSING = missing_tools()


@pytest.mark.skipif(MISSING is not None, reason=f"LOUD: {MISSING}. The benchmark is NOT tested.")
def test_bench_quick_run_prints_a_table_for_each_part(tmp_path: Path) -> None:
    picture = tmp_path / "results.svg"
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench", "--quick", "--picture", str(picture)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [cells[0] for cells in rows if cells[0] != "---"] == [
        "events",
        *["native, 8 connections"] * 2,
        *["native, 64 connections"] * 2,
        *["GitHub hook, 8 connections"] * 2,
        *["GitHub hook, 64 connections"] * 2,
        "200 requests in flight",
        "forward",
        "function",
        "startup to the first response",
        "bare",
        "forward",
        "function, secrets in variables",
        "function, secrets in variables, a hook",
        "function, secrets in Secret Manager",
        "memory",
        "function",
    ]
    numbers = [float(number) for cells in rows for cell in cells[1:] for number in re.findall(r"^[\d.]+", cell)]
    assert len(numbers) == 8 * 3 + 2 * 4 + 5 * 2 + 3
    assert all(number > 0 for number in numbers)
    assert "CANARY" not in done.stdout + done.stderr
    bars = [element for element in xml.etree.ElementTree.parse(picture).iter() if element.get("fill") != "white"]
    assert len([element for element in bars if element.tag.endswith("rect")]) == 8
