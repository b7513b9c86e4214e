"""deploy/gcp/RUNBOOK.md: its queries find what they are for, its commands are right, its table is what is granted."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Response

from deploy.local.cloud import DATA_WORLD_OWNER, ROOT, Cloud, secret_name
from tests import logging_query
from tests.conftest import Relay, running
from tests.gcloud import GCLOUD, lint
from tests.hooks import hook, update, written

RUNBOOK = ROOT / "deploy/gcp/RUNBOOK.md"
TEXT = RUNBOOK.read_text()
#: (what it is for, the code), for each block of code.
BLOCKS = [
    (tag, re.sub(r"^ +", "", code, flags=re.MULTILINE))
    for tag, code in re.findall(r"<!-- test: ([a-z ]+) -->\n+ *```\w+\n(.*?)```", TEXT, re.DOTALL)
]
QUERIES = [(tag.split()[1:], code) for tag, code in BLOCKS if tag.startswith("query ")]


def test_every_block_is_tested() -> None:
    assert len(re.findall(r"^ *```\w+$", TEXT, re.MULTILINE)) == len(BLOCKS)


# The queries


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, dict[str, Any]]]:
    """What the log has of each kind of trouble, and of none, by name, made by running functions."""
    folder, cloud = tmp_path_factory.mktemp("runbook"), Cloud().start()
    other = cloud.apify.add("jane", "other")
    products, record = cloud.apify.add("jane", "products"), cloud.data_world.add(f"{DATA_WORLD_OWNER}/products")
    for name in ("denied", "away"):
        cloud.secret_manager.add_version(secret_name(name), "not-a-token")
    cloud.secret_manager.refusals[secret_name("away")] = grpc.StatusCode.UNAVAILABLE

    def one(token: str) -> Any:
        return hook(update("apify", other, {"generalAccess": "RESTRICTED"}, token=token), secret="relay-secret")

    restricted = {"generalAccess": "RESTRICTED"}
    hooks = {
        "both": hook(
            update("apify", products, restricted), update("data.world", "acme/nothing", {"title": "x"}),
            secret="relay-secret",
        ),
        **{name: one(name) for name in ("denied", "missing", "away")},
    }  # fmt: skip
    more = {"RELAY_CONFIG": written(folder, hooks), "RELAY_PROVIDER_CONCURRENCY": "1", "RELAY_DEADLINE_SECONDS": "4"}

    def native(dataset: str, body: dict[str, Any], **own: str) -> dict[str, Any]:
        return {**own, "provider": "data.world" if "/" in dataset else "apify", "dataset": dataset, "update": body}

    found: dict[str, dict[str, Any]] = {}

    def keep(name: str, relay: Relay, delivery: str) -> None:
        found[name] = logging_query.entry(json.dumps(relay.logged(delivery)))

    def slowly() -> Response:
        time.sleep(1.2)
        return Response('{"message": "Dataset successfully updated."}', mimetype="application/json")

    (folder / "main").mkdir()
    with running(cloud, {**cloud.settings(), **more}, folder / "main") as relay:
        for name, body in {
            "delivered": native(products, restricted, id="run-1"),
            "refused": native("xxxxx", {"name": "a"}),
        }.items():
            keep(name, relay, relay.post(body).headers["Relay-Delivery"])
        for name, path in {"several": "both", "denied": "denied", "unusable": "missing", "unreachable": "away"}.items():
            keep(name, relay, relay.post({}, path=f"/hooks/{path}").headers["Relay-Delivery"])
        keep("unproven", relay, relay.post({}, headers={"Authorization": "Bearer x"}).headers["Relay-Delivery"])
        keep("rejected", relay, relay.post(native(other, {"names": "x"})).headers["Relay-Delivery"])
        cloud.data_world.instead[f"/datasets/{record}"] = slowly
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(relay.post, native(record, {"title": "xx"}))
            time.sleep(0.5)
            keep("busy", relay, relay.post(native(record, {"title": "yy"})).headers["Relay-Delivery"])
            keep("slow", relay, slow.result().headers["Relay-Delivery"])
    (folder / "fault").mkdir()
    source = {"FUNCTION_SOURCE": str(ROOT / "tests/faulty.py")}
    with running(cloud, {**cloud.settings(), **source}, folder / "fault") as relay:
        keep("fault", relay, relay.post(native(other, restricted)).headers["Relay-Delivery"])
    refused = subprocess.run(
        [sys.executable, "-c", "import main"],
        env={"RELAY_SECRET": "x"}, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    found["start"] = logging_query.entry(refused.stderr.splitlines()[0])
    found["products"] = {"id": products}
    yield found
    cloud.stop()


@pytest.mark.parametrize(("names", "query"), QUERIES, ids=[" ".join(names) for names, _ in QUERIES])
def test_a_query_finds_what_it_is_for(entries: Mapping[str, dict[str, Any]], names: list[str], query: str) -> None:
    match = logging_query.parse(query.replace("products-id", entries["products"]["id"]))
    found = {name for name, each in entries.items() if name != "products" and match(each)}
    assert found == set(names)


def test_the_runbook_names_every_field_of_the_log(entries: Mapping[str, dict[str, Any]]) -> None:
    fields = {name for entry in entries.values() for name in entry.get("jsonPayload", {}) if "." not in name}
    assert {"problem", "attempts", "updates", "stack_trace"} < fields
    assert not {name for name in fields - {"dry_run"} if f"`{name}`" not in TEXT}


def test_the_language_of_queries() -> None:
    """The judge of the queries is judged by what Cloud Logging's page says."""
    found = {"severity": "ERROR", "a": {"b": "Some text", "n": 5}, "list": [{"x": 1}, {"x": 2}]}
    for query in (
        'severity>=WARNING a.n=5', 'a.b:"TEXT"', 'a.b=~"^So"', "a.n>4 AND a.n<6", 'a.b="x" OR a.n=5', "a.b:*",
        'NOT a.c:*', 'a.n=(4 OR 5)', "list.x=2", '(a.n=1 OR a.n=5) AND severity="ERROR"', "a.n=1 OR a.n=5 a.b:*",
    ):  # fmt: skip
        assert logging_query.parse(query)(found), query
    for query in ("severity>ERROR", 'a.b="text"', "a.n=4 AND a.n=5", "a.c:*", 'a.c!="x"', "a.n=5 OR a.n=1 a.c:*"):
        assert not logging_query.parse(query)(found), query
    for query in ("a.b", "(a.n=1", "a.n=1)", "a.n==1"):
        with pytest.raises(ValueError, match=r"ends too soon|what is|a bracket is open"):
            logging_query.parse(query)


# The commands


@pytest.mark.skipif(
    GCLOUD is None, reason="LOUD: gcloud is not on this machine; the runbook's commands are NOT checked"
)
def test_the_commands_are_gclouds(tmp_path: Path) -> None:
    code = "\n".join(code for tag, code in BLOCKS if tag == "commands")
    lines = re.findall(r"gcloud [^|;\n]+", code)
    assert len(lines) >= 8
    with ThreadPoolExecutor(2) as pool:
        assert not {
            line: wrong
            for line, wrong in zip(lines, pool.map(lambda line: lint(line, tmp_path), lines), strict=True)
            if wrong
        }


@pytest.mark.parametrize("code", [code for tag, code in BLOCKS if tag == "deploy" or "deploy.sh" in code])
def test_deploy_sh_takes_what_is_written(code: str) -> None:
    for line in re.findall(r"deploy/gcp/deploy\.sh.*", code):
        script = line.replace("deploy.sh", "deploy.sh --dry-run", 1)
        done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "+ gcloud --project your-project --quiet run deploy dataset-relay" in done.stdout


def test_every_link_leads_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 10
    for link in links:
        path, _, anchor = link.partition("#")
        if not path:
            assert anchor in anchors, link
        elif "://" not in path:
            assert (RUNBOOK.parent / path).exists(), link


# Who may do what


def permissions(by: str = "") -> set[tuple[str, str, str]]:
    """Role, who, and on what, of each row of the table; of those that are granted `by` that, or of all."""
    (rows,) = re.findall(r"<!-- test: grants -->\n(.*?)\n\n", TEXT, re.DOTALL)
    cells = [[each.strip().replace("`", "") for each in row.strip("|").split("|")] for row in rows.splitlines()[2:]]
    assert all(why for _, _, _, why, _ in cells)
    return {(role, who, what) for role, who, what, _, granted_by in cells if by in ("", granted_by)}


def test_a_permission_is_listed_once() -> None:
    assert len(permissions()) == len(re.findall(r"^\| `roles/", TEXT, re.MULTILINE))
