"""`make demo`: an Apify PUT and a data.world PATCH, and a GitHub webhook that becomes one: from event to record."""

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

from deploy.local.cloud import APIFY_USER, DATA_WORLD_OWNER, Cloud, Function, ending
from deploy.local.signing import proven, signed_headers
from deploy.local.upstream import Platform

RECIPE = "deploy/recipes/github-workflow.yaml"
_WIDTH = 100
_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}


@dataclass(frozen=True)
class Scene:
    """One event of the demo, and where its effect is to be seen."""

    title: str
    path: str
    event: dict[str, Any]
    #: The headers that prove the event, and those of them that may be shown.
    proof: dict[str, str]
    shown: dict[str, str]
    #: What the record must say in the end.
    update: dict[str, Any]
    platform: Platform
    token: str
    read_back: str

    @property
    def body(self) -> bytes:
        """The event as it is sent."""
        return _body(self.event)


class Failed(Exception):
    """The demo did not show what it should."""


def main() -> int:
    """Runs the demo; 0 if all records are changed."""
    over = ending()
    cloud = Cloud().start()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        began = time.monotonic()
        with log.open("wb") as stream:
            function = Function({**cloud.settings(), "RELAY_CONFIG": RECIPE}, log=stream)
        try:
            function.wait_until_up(over=over)
            if not over.is_set():
                _introduce(cloud, function, time.monotonic() - began)
            for number, scene in enumerate(_scenes(cloud), start=1):
                if over.is_set():
                    print("\nInterrupted.")
                    return 130
                _play(number, scene, function)
        except (Failed, RuntimeError, requests.RequestException) as error:
            function.stop()
            print(f"\n{paint('red', 'The demo failed:')} {error}\n\nWhat the function said:\n{log.read_text()}")
            return 1
        finally:
            function.stop()
            cloud.stop()
        _print_log(log.read_text())
    print(f"\n{paint('green', '✓')} All records are changed. {time.monotonic() - began:.1f} s in all.")
    print("  Next: `make run` keeps it all running for you to try, `make test` proves the rest.")
    return 0


def paint(colour: str, text: str) -> str:
    """`text` in colour, on a terminal that wants it (https://no-color.org)."""
    wanted = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if wanted else text


def _introduce(cloud: Cloud, function: Function, seconds: float) -> None:
    print(f"\n{paint('bold', 'Dataset Relay')}, with this machine as the cloud. Up in {seconds:.1f} s:\n")
    for name, where in (
        ("Apify", cloud.apify.base_url),
        ("data.world", cloud.data_world.base_url),
        ("Secret Manager", f"{cloud.secret_manager.address} (gRPC)"),
        ("the function", function.url),
        ("its hooks", RECIPE),
    ):
        print(f"  {name:<16}{paint('cyan', where)}")


def _body(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def workflow() -> dict[str, Any]:
    """What GitHub says of a workflow's run, cut to what matters here."""
    return {
        "action": "completed",
        "workflow_run": {
            "name": "Build",
            "run_number": 214,
            "event": "push",
            "conclusion": "success",
            "head_branch": "main",
            "head_sha": "9c1d3be07f5b2a66f0c0b7ce6a2f4d0a4d2f7e11",
            "html_url": "https://github.com/acme/products/actions/runs/19520441207",
            "updated_at": "2026-11-22T08:31:40Z",
        },
        "repository": {"full_name": "acme/products", "default_branch": "main"},
    }


def _scenes(cloud: Cloud) -> list[Scene]:
    dataset_id = cloud.apify.add(APIFY_USER, "products-staging")
    products = cloud.data_world.add(f"{DATA_WORLD_OWNER}/products")
    renamed = {"name": "products-2026-11-22", "generalAccess": "ANYONE_WITH_NAME_CAN_READ"}
    scraped = {"provider": "apify", "dataset": f"{APIFY_USER}~products-staging", "update": renamed}
    signature = signed_headers(cloud.relay_secret, "demo-1", _body(scraped))
    described = {
        "summary": "Built **2026-11-22** from 12 480 rows. Größe, 価格, 💶 included.",
        "tags": ["products", "daily"],
        "license": "CC-BY",
        "files": [
            {
                "name": "products.csv",
                "labels": ["clean data"],
                "source": {"url": "https://example.com/exports/products.csv"},
            }
        ],
    }
    signed, _ = proven("github", cloud.github_secret, _body(workflow()))
    github = {"X-GitHub-Event": "workflow_run", "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab", **signed}
    return [
        Scene(
            "A scraper is done: its dataset on Apify gets a name, and is opened. Signed (Standard Webhooks).",
            "/",
            scraped,
            proof=signature,
            shown=signature,
            update=renamed,
            platform=cloud.apify,
            token=cloud.apify_token,
            read_back=f"/datasets/{dataset_id}",
        ),
        Scene(
            "A model run is done: the record on data.world says so, and gets the new file. With a bearer secret.",
            "/",
            {"id": "run-4711", "provider": "data.world", "dataset": products, "update": described},
            proof={"Authorization": f"Bearer {cloud.relay_secret}"},
            shown={"Authorization": "Bearer ••••"},
            update=described,
            platform=cloud.data_world,
            token=cloud.data_world_token,
            read_back=f"/datasets/{products}",
        ),
        Scene(
            "GitHub says in its own words that a workflow is done: a hook turns that into an update.",
            "/hooks/github-workflow",
            workflow(),
            proof=github,
            shown=github,
            update={
                "summary": "Built by [Build #214](https://github.com/acme/products/actions/runs/19520441207)\n"
                "on 2026-11-22, from commit 9c1d3be\nof acme/products.\n"
            },
            platform=cloud.data_world,
            token=cloud.data_world_token,
            read_back=f"/datasets/{products}",
        ),
    ]


def _play(number: int, scene: Scene, function: Function) -> None:
    url = f"{function.url}{scene.path}"
    print(f"\n{paint('bold', f'{number}  {scene.title}')}")
    _part("sent", f"POST {url}", *(f"{name}: {value}" for name, value in scene.shown.items()), scene.event)
    calls = len(scene.platform.calls)
    began = time.monotonic()
    headers = {"Content-Type": "application/json", **scene.proof}
    answer = requests.post(url, data=scene.body, headers=headers, timeout=15)
    elapsed = (time.monotonic() - began) * 1000
    if len(scene.platform.calls) == calls:
        raise Failed(f"no call reached the platform; the answer was {answer.status_code}: {answer.text}")
    call = scene.platform.calls[-1]
    if call.headers.get("authorization") != f"Bearer {scene.token}":
        raise Failed("the platform did not get the token that Secret Manager keeps.")
    token = "Authorization: Bearer •••• (the one that Secret Manager keeps)"
    _part("received", f"{call.method} {call.path}", token, call.json)
    status = f"{answer.status_code} {HTTPStatus(answer.status_code).phrase}, {elapsed:.0f} ms"
    delivery = f"Relay-Delivery: {answer.headers['Relay-Delivery']}"
    _part("came back", paint("green" if answer.ok else "red", status), delivery, answer.json())
    if not answer.ok:
        raise Failed(f"the answer was {answer.status_code}.")
    _check(scene)


def _check(scene: Scene) -> None:
    """Reads the record back from the platform: what was sent is what is there."""
    url = scene.platform.base_url + scene.read_back
    record = requests.get(url, headers={"Authorization": f"Bearer {scene.token}"}, timeout=15).json()
    record = record.get("data", record)
    wrong = [key for key, value in scene.update.items() if record.get(key) != value]
    if wrong:
        raise Failed(f"the record does not say what the update said: {', '.join(wrong)}.")
    _part("record now", f"{paint('green', '✓')} says what the update says (GET {scene.read_back})")


def _part(label: str, *lines: object) -> None:
    for line in lines:
        text = line if isinstance(line, str) else pretty(line)
        for each in text.splitlines():
            print(f"   {paint('cyan', f'{label:<12}')}{each}")
            label = ""


def pretty(value: Any, indent: str = "") -> str:
    """`value` as JSON, a line for each thing that fits on one."""
    text = json.dumps(value, ensure_ascii=False)
    if len(indent + text) <= _WIDTH or not value or not isinstance(value, dict | list):
        return text
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {pretty(each, inner)}" for key, each in value.items()]
    else:
        parts = [pretty(each, inner) for each in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{closing}"


def _print_log(text: str) -> None:
    print(f"\n{paint('bold', 'What the function logged, a line per request:')}")
    for line in text.splitlines():
        if '"delivery"' in line and "/health" not in line:
            print(f"   {paint('dim', line)}")


if __name__ == "__main__":
    sys.exit(main())
