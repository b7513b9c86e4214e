"""No test may be shown a secret: the one during which it is fails, and what pytest prints of it is without.

A part of tests/conftest.py.
"""

import time
from collections.abc import Generator
from typing import Any

import pytest

from tests.leak_watch import DETECTOR, watch

TITLE = "A secret is shown"
_TOTAL = pytest.StashKey[list[tuple[int, int, float]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TOTAL] = []
    watch()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(nextitem: pytest.Item | None) -> Generator[None, object, object]:
    DETECTOR.last = nextitem is None
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    began = time.perf_counter()
    leaks = DETECTOR.leaks()
    if DETECTOR.last and call.when == "teardown":
        leaks += DETECTOR.late_leaks()
    judge(report, leaks)
    DETECTOR.seconds += time.perf_counter() - began
    return report


def judge(report: pytest.TestReport, leaks: list[str]) -> None:
    """Fails the test of `report` if a secret leaked, also if it did so into the report, where it is taken out."""
    said = report.longreprtext
    traceback = DETECTOR.inside("the traceback", said.encode("utf-8", "surrogatepass"))
    for number, (name, text) in enumerate(report.sections):
        if found := DETECTOR.inside(name, text.encode("utf-8", "surrogatepass")):
            report.sections[number] = (name, DETECTOR.secrets.cleaned(text))
            # What was captured is in the reports of the test's later phases, too: it is told once.
            leaks = leaks + (found if name.endswith(f" {report.when}") else [])
    leaks = leaks + traceback
    if not leaks:
        return
    message = "\n".join([f"{TITLE}:", *(f"  {each}" for each in leaks)])
    if traceback:
        report.longrepr = f"{message}\n\n{DETECTOR.secrets.cleaned(said)}"
    elif report.failed:
        report.sections.append((TITLE, message))
    else:
        report.longrepr = message
    report.outcome = "failed"


def _own() -> tuple[int, int, float]:
    return len(DETECTOR.secrets.labels), DETECTOR.secrets.scanned, DETECTOR.seconds


def pytest_sessionfinish(session: pytest.Session) -> None:
    config: Any = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["leaks"] = _own()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # Without it where a worker was killed.
    if found := getattr(node, "workeroutput", {}).get("leaks"):
        node.config.stash[_TOTAL].append(found)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """How much was looked through: a detector that sees nothing finds nothing."""
    parts = config.stash[_TOTAL] or [_own()]
    secrets, scanned, seconds = (sum(each) for each in zip(*parts, strict=True))
    terminalreporter.write_line(f"{secrets} secrets looked for in {scanned / 1e6:.1f} MB, in {seconds:.1f} s")
