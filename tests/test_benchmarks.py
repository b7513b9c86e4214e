"""The benchmarks can be run, and say what they measured; what that is, is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.cloud import ROOT
from tests.benchmarks.ground import missing

WHY_NOT = missing()


@pytest.mark.skipif(WHY_NOT is not None, reason=f"LOUD: {WHY_NOT}; whether the benchmarks run is NOT tested")
def test_they_run(tmp_path: Path) -> None:
    parts = ["in_flight", "start", "memory"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--quick", "--write", str(tmp_path), "--only", *parts],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert list(found) == ["machine", *parts]
    assert found["in_flight"]["native"]["per_second"] > 0
    assert found["in_flight"]["native"]["failed"] == 0
    assert all(each > 0 for each in found["start"].values())
    assert found["memory"]["megabytes"][-1][0] >= 1000
    assert "200 connections" in done.stdout
