"""Tests of deploy/gcp/RUNBOOK.md: the queries, the commands, the links and the table of permissions."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Response

from deploy.local.cloud import DATA_WORLD_OWNER, ROOT, Cloud, queue_settings, secret_name
from deploy.local.pubsub import PubSub
from tests.support import logging_query
from tests.support.gcloud import GCLOUD, lint_error
from tests.support.hooks import hook, update, written
from tests.support.markdown import code_blocks, count_code_blocks
from tests.support.project import RUNBOOK
from tests.support.queue import push
from tests.support.relay import Relay, running
from tests.support.runbook import permissions

BLOCKS = code_blocks(RUNBOOK)
#: The names of the log entries that a query must find, and the query.
QUERIES = [(name.split()[1:], code) for name, code in BLOCKS if name.startswith("query ")]

LogEntry = dict[str, Any]


def test_runbook_every_block_of_code_is_tested() -> None:
    assert count_code_blocks(RUNBOOK) == len(BLOCKS)


# The queries


class Log:
    """The log entries of running functions, by the names that the queries in the runbook use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cloud = Cloud().start()
        self.entries: dict[str, LogEntry] = {}
        self.products = self.cloud.apify.add("jane", "products")
        self.other = self.cloud.apify.add("jane", "other")
        self.record = self.cloud.data_world.add(f"{DATA_WORLD_OWNER}/products")

    def add(self, name: str, relay: Relay, event: object, path: str = "/", **headers: str) -> None:
        """Send an event, and keep its log entry."""
        self.add_line(name, relay, relay.post(event, path=path, headers=headers).headers["Relay-Delivery"])

    def add_line(self, name: str, relay: Relay, delivery: str) -> None:
        """Keep the log entry of a delivery."""
        line = relay.logged(delivery)
        if name != "slow":
            line["duration_ms"] = 50  # on a busy machine every event can be slow
        self.entries[name] = logging_query.log_entry(json.dumps(line))

    def add_native_events(self, relay: Relay) -> None:
        self.add("delivered", relay, {"id": "run-1", **native_event(self.products, {"generalAccess": "RESTRICTED"})})
        self.add("rejected", relay, native_event(self.other, {"names": "x"}))
        self.add("upstream-rejected", relay, native_event("xxxxx", {"name": "a"}))
        self.add("unauthenticated", relay, {}, Authorization="Bearer x")
        # The function can't verify the credential of any caller.
        self.add("own-secret", relay, {}, path="/hooks/own-secret")

    def hooks(self) -> dict[str, Any]:
        """Return hooks that fail in different ways, and the hook `both`, one of whose two updates succeeds."""
        restricted = {"generalAccess": "RESTRICTED"}
        for name in ("denied", "unreachable"):
            self.cloud.secret_manager.add_version(secret_name(name), "not-a-token-CANARY")
        self.cloud.secret_manager.refusals[secret_name("unreachable")] = grpc.StatusCode.UNAVAILABLE
        one = update("apify", self.products, restricted)
        two = update("data.world", "acme/nothing", {"title": "x"})
        return {
            "both": hook(one, two, secret="relay-secret"),
            "own-secret": hook(one, secret="missing"),
            **{
                name: hook(update("apify", self.other, restricted, token=name), secret="relay-secret")
                for name in ("denied", "missing", "unreachable")
            },
        }

    def add_hook_events(self, relay: Relay) -> None:
        for name, hook_name in (
            ("several", "both"), ("denied", "denied"), ("unusable", "missing"), ("unreachable", "unreachable"),
        ):  # fmt: skip
            self.add(name, relay, {}, path=f"/hooks/{hook_name}")

    def add_slow_and_busy_event(self, relay: Relay) -> None:
        """Occupy the only slot for calls to data.world for more than a second, and send another event meanwhile."""
        has_call, may_respond = threading.Event(), threading.Event()

        def respond_slowly() -> Response:
            has_call.set()
            may_respond.wait()
            return Response('{"message": "Dataset successfully updated."}', mimetype="application/json")

        self.cloud.data_world.instead[f"/datasets/{self.record}"] = respond_slowly
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(self.add, "slow", relay, native_event(self.record, {"title": "xx"}))
            has_call.wait()
            self.add("busy", relay, native_event(self.record, {"title": "yy"}))
            time.sleep(1.1)
            may_respond.set()
            slow.result()

    def add_fault(self, relay: Relay) -> None:
        self.add("fault", relay, native_event(self.other, {"generalAccess": "RESTRICTED"}))

    def add_queue_events(self, relay: Relay, pubsub: PubSub) -> None:
        """Send an event to the queue, another one while Pub/Sub denies it, and push updates that fail."""
        event = native_event(self.other, {"generalAccess": "RESTRICTED"})
        self.add("queued", relay, event)
        pubsub.refusals[""] = grpc.StatusCode.PERMISSION_DENIED
        self.add("queue-unusable", relay, event)
        pubsub.refusals.clear()
        self.cloud.data_world.instead[f"/datasets/{self.record}"] = lambda: Response(
            '{"message": "The plan has ended."}', 402, mimetype="application/json"
        )
        unpaid = native_event(self.record, {"title": "zz"})
        for name, event, age in (
            ("waiting", unpaid, 60.0),
            ("parked", unpaid, 100_000.0),
            ("lost", native_event("xxxxx", {"name": "a"}), 60.0),
        ):
            push(relay, json.dumps({**event, "id": name}).encode(), age=age)
            self.add_line(name, relay, name)
        self.add_line("unauthenticated-push", relay, push(relay, b"{}", token="x").headers["Relay-Delivery"])

    def add_failed_start(self) -> None:
        completed = subprocess.run(
            [sys.executable, "-c", "import main"],
            env={"RELAY_SECRET": "x"}, cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        self.entries["start"] = logging_query.log_entry(completed.stderr.splitlines()[0])


def native_event(dataset: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"provider": "data.world" if "/" in dataset else "apify", "dataset": dataset, "update": body}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    log = Log(tmp_path_factory.mktemp("runbook"))
    settings = {
        **log.cloud.settings(),
        "RELAY_CONFIG": written(log.folder, log.hooks()),
        "RELAY_PROVIDER_CONCURRENCY": "1",
        "RELAY_DEADLINE_SECONDS": "10",
    }
    (log.folder / "main").mkdir()
    with running(log.cloud, settings, log.folder / "main") as relay:
        log.add_native_events(relay)
        log.add_hook_events(relay)
        log.add_slow_and_busy_event(relay)
    (log.folder / "fault").mkdir()
    settings = {**log.cloud.settings(), "FUNCTION_SOURCE": str(ROOT / "tests/support/faulty_function.py")}
    with running(log.cloud, settings, log.folder / "fault") as relay:
        log.add_fault(relay)
    (log.folder / "queue").mkdir()
    pubsub = PubSub().start()
    settings = {**log.cloud.settings(), **queue_settings(pubsub.address)}
    with running(log.cloud, settings, log.folder / "queue") as relay:
        log.add_queue_events(relay, pubsub)
    pubsub.stop()
    log.add_failed_start()
    yield log
    log.cloud.stop()


@pytest.mark.parametrize(("names", "query"), QUERIES, ids=[" ".join(names) for names, _ in QUERIES])
def test_runbook_query_finds_the_entries_that_it_is_for(log: Log, names: list[str], query: str) -> None:
    matches = logging_query.parse(query.replace("products-id", log.products))
    assert {name for name, entry in log.entries.items() if matches(entry)} == set(names)


def test_runbook_names_every_field_of_the_log(log: Log) -> None:
    fields = {name for entry in log.entries.values() for name in entry.get("jsonPayload", {}) if "." not in name}
    assert {"problem", "attempts", "updates", "stack_trace"} < fields
    assert not {name for name in fields - {"dry_run"} if f"`{name}`" not in RUNBOOK}


ENTRY = {"severity": "ERROR", "a": {"b": "Some text", "n": 5}, "list": [{"x": 1}, {"x": 2}]}


@pytest.mark.parametrize(
    "query",
    [
        'severity>=WARNING a.n=5', 'a.b:"TEXT"', 'a.b=~"^So"', "a.n>4 AND a.n<6", 'a.b="x" OR a.n=5', "a.b:*",
        'NOT a.c:*', 'a.n=(4 OR 5)', "list.x=2", '(a.n=1 OR a.n=5) AND severity="ERROR"', "a.n=1 OR a.n=5 a.b:*",
    ],
)  # fmt: skip
def test_logging_query_matching_entry_is_found(query: str) -> None:
    assert logging_query.parse(query)(ENTRY)


@pytest.mark.parametrize(
    "query",
    ["severity>ERROR", 'a.b="text"', "a.n=4 AND a.n=5", "a.c:*", 'a.c!="x"', "a.n=5 OR a.n=1 a.c:*"],
)
def test_logging_query_other_entry_is_not_found(query: str) -> None:
    assert not logging_query.parse(query)(ENTRY)


@pytest.mark.parametrize("query", ["a.b", "(a.n=1", "a.n=1)", "a.n==1"])
def test_logging_query_syntax_error_raises(query: str) -> None:
    with pytest.raises(ValueError, match=r"ends too early|is unexpected|bracket is missing"):
        logging_query.parse(query)


# The commands


@pytest.mark.skipif(GCLOUD is None, reason="gcloud isn't installed: the commands of the runbook are NOT tested")
def test_runbook_gcloud_commands_are_valid(tmp_path: Path) -> None:
    code = "\n".join(code for name, code in BLOCKS if name == "commands")
    commands = re.findall(r"gcloud [^|;\n]+", code)
    assert len(commands) >= 8
    with ThreadPoolExecutor(2) as pool:
        errors = pool.map(lambda command: lint_error(command, tmp_path), commands)
        assert not {command: error for command, error in zip(commands, errors, strict=True) if error}


@pytest.mark.parametrize("code", [code for name, code in BLOCKS if name == "deploy" or "deploy.sh" in code])
def test_runbook_deploy_sh_commands_succeed_as_dry_runs(code: str) -> None:
    for command in re.findall(r"deploy/gcp/deploy\.sh.*", code):
        script = command.replace("deploy.sh", "deploy.sh --dry-run", 1)
        completed = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
        assert completed.returncode == 0, completed.stderr
        assert "+ gcloud --project your-project --quiet run deploy dataset-relay" in completed.stdout


def test_runbook_links_lead_to_existing_files_and_headings() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", RUNBOOK)
    assert len(links) > 10
    for link in links:
        path, _, heading = link.partition("#")
        if not path:
            assert heading in headings, link
        elif "://" not in path:
            assert (ROOT / "deploy/gcp" / path).exists(), link


def test_runbook_lists_each_permission_once() -> None:
    assert len(permissions()) == len(re.findall(r"^\| `roles/", RUNBOOK, re.MULTILINE))
