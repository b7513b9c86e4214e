"""The benchmarks can be run, and say what they measured; what that is, is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.cloud import ROOT
from tests.benchmarks import report
from tests.benchmarks.ground import missing

WHY_NOT = missing()


@pytest.mark.skipif(WHY_NOT is not None, reason=f"LOUD: {WHY_NOT}; whether the benchmarks run is NOT tested")
def test_they_run(tmp_path: Path) -> None:
    parts = ["in_flight", "start", "memory", "profile"]
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
    assert found["profile"]["hook"]["templates"] > 0
    assert "200 connections" in done.stdout


def test_the_readme_has_what_was_measured() -> None:
    """`make bench` puts it there."""
    assert report.shown(report.README.read_text()) == report.markdown(json.loads(report.RESULTS.read_text()))


def test_nothing_failed_while_it_was_measured() -> None:
    found = json.loads(report.RESULTS.read_text())
    rates = [*found["throughput"].values(), found["in_flight"], found["cores"], *found["growth"].values()]
    failed = [each["failed"] for rate in rates for each in rate.values() if isinstance(each, dict)]
    assert len(failed) == 5 * 6 + 2 + 3 + 9
    assert not any(failed)
