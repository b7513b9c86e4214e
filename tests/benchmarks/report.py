"""What was measured, as the README has it; run by itself, it puts results.json there."""

import json
import re
from pathlib import Path
from typing import Any

from deploy.local.cloud import ROOT
from tests.benchmarks.throughput import SUBJECTS, ratio

README = ROOT / "README.md"
RESULTS = Path(__file__).with_name("results.json")
_MARKED = re.compile(r"(?<=<!-- measured -->\n\n).*?(?=\n\n<!-- end of what was measured -->)", re.DOTALL)


def shown(readme: str) -> str:
    """The lines that the README has now."""
    (found,) = _MARKED.findall(readme)
    return str(found)


def markdown(found: dict[str, Any]) -> str:
    """The README's lines on a whole run, which a test holds against results.json."""
    items = [_in_flight(found["in_flight"]), _cores(found["cores"]), _start(found["start"]), _memory(found["memory"])]
    tables = [_throughput(found["throughput"]), _profile(found["profile"])]
    return "\n\n".join([*tables, "\n".join(f"- {item}" for item in items)])


def _throughput(found: dict[str, Any]) -> str:
    rows = [[title for title, _ in SUBJECTS.values()]]
    rows += [
        [f"{subjects[name]['per_second']} ({ratio(subjects, name):.2f} ×)" for name in SUBJECTS]
        for subjects in found.values()
    ]
    return _table(["platforms, connections", *found], rows)


def _profile(found: dict[str, Any]) -> str:
    stages = list(dict.fromkeys(stage for each in found.values() for stage in each))
    rows = [[SUBJECTS[name][0] for name in found]]
    rows += [[str(each.get(stage, 0)) for each in found.values()] for stage in stages]
    rows.append([str(sum(each.values())) for each in found.values()])
    return _table(["µs of CPU for an event", *stages, "in all"], rows)


def _table(first: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {name} | {' | '.join(row)} |" for name, row in zip(first, rows, strict=True)]
    return "\n".join([lines[0], "|---" * (len(rows[0]) + 1) + "|", *lines[1:]])


def _in_flight(found: dict[str, Any]) -> str:
    native, forward = found["native"], found["forward"]
    return (
        f"**In flight**, {found['connections']} connections, platforms of 200 ms: {native['per_second']} events a "
        f"second, {native['p50_ms']:.0f} ms (p50), {native['p99_ms']:.0f} ms (p99), {native['megabytes']} MB; bare "
        f"forward {forward['per_second']}, {forward['p50_ms']:.0f} and {forward['p99_ms']:.0f} ms."
    )


def _cores(found: dict[str, Any]) -> str:
    said = [f"{name}, {each['per_second']} a second" for name, each in found.items() if isinstance(each, dict)]
    return f"**Cores**, which senders and platforms share here: {'; '.join(said)}."


def _start(found: dict[str, Any]) -> str:
    return (
        f"**From the process's start to the first update**: {found['variables']:.0f} ms with secrets in variables, "
        f"{found['with_a_hook']:.0f} with a hook, {found['secret_manager']:.0f} with Secret Manager. A bare answer: "
        f"{found['answer']:.0f}; to import `requests` and `marshmallow` {found['libraries']:.0f}, Secret Manager's "
        f"client {found['client_import']:.0f}."
    )


def _memory(found: dict[str, Any]) -> str:
    (_, first), *_, (events, last) = found["megabytes"]
    return f"**Memory**: {first:.0f} MB at first, {last:.0f} MB after {events // 1000} 000 events more."


if __name__ == "__main__":
    lines = markdown(json.loads(RESULTS.read_text()))
    README.write_text(_MARKED.sub(lambda _: lines, README.read_text()))
