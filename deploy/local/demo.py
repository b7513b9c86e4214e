"""`make demo`: three events, of which one is a GitHub webhook, and the records that they change."""

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

from deploy.local.cloud import APIFY_USER, DATA_WORLD_OWNER, Cloud, Function, stop_event
from deploy.local.provider import LocalProvider
from deploy.local.signing import authentication, signed_headers

RECIPE = "deploy/recipes/github-workflow.yaml"
_WIDTH = 100
_COLORS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}


@dataclass(frozen=True)
class Scene:
    """An event of the demo, and its expected effect."""

    title: str
    path: str
    event: dict[str, Any]
    #: The headers that authenticate the event, and the same headers without secrets.
    credentials: dict[str, str]
    printed_headers: dict[str, str]
    #: The fields that the record must have at the end.
    update: dict[str, Any]
    provider: LocalProvider
    token: str
    read_back: str

    @property
    def body(self) -> bytes:
        """The request body."""
        return _body(self.event)


class DemoError(Exception):
    """An event doesn't have its expected effect."""


def main() -> int:
    """Run the demo, and return 0 if all records have changed."""
    stop = stop_event()
    cloud = Cloud().start()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        started = time.monotonic()
        with log.open("wb") as stream:
            function = Function({**cloud.settings(), "RELAY_CONFIG": RECIPE}, log=stream)
        try:
            function.wait_until_up(stop=stop)
            if not stop.is_set():
                _introduce(cloud, function, time.monotonic() - started)
            for number, scene in enumerate(_scenes(cloud), start=1):
                if stop.is_set():
                    print("\nInterrupted.")
                    return 130
                _play(number, scene, function)
        except (DemoError, RuntimeError, requests.RequestException) as error:
            function.stop()
            print(f"\n{paint('red', 'The demo failed:')} {error}\n\nThe log of the function:\n{log.read_text()}")
            return 1
        finally:
            function.stop()
            cloud.stop()
        _print_log(log.read_text())
    print(f"\n{paint('green', '✓')} All records have changed. The demo took {time.monotonic() - started:.1f} s.")
    print("  Next: `make run` keeps everything running for you to try, and `make test` runs all tests.")
    return 0


def paint(color: str, text: str) -> str:
    """Return `text` in color, if the standard output is a terminal that allows color (https://no-color.org)."""
    is_allowed = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return f"\x1b[{_COLORS[color]}m{text}\x1b[0m" if is_allowed else text


def _introduce(cloud: Cloud, function: Function, seconds: float) -> None:
    print(f"\n{paint('bold', 'Dataset Relay')} on this machine, started in {seconds:.1f} s:\n")
    for name, address in (
        ("Apify", cloud.apify.base_url),
        ("data.world", cloud.data_world.base_url),
        ("Secret Manager", f"{cloud.secret_manager.address} (gRPC)"),
        ("the function", function.url),
        ("its hooks", RECIPE),
    ):
        print(f"  {name:<16}{paint('cyan', address)}")


def _body(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def workflow() -> dict[str, Any]:
    """Return GitHub's payload for a workflow run, shortened to the fields that the recipe uses."""
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
    signed, _ = authentication("github", cloud.github_secret, _body(workflow()))
    github = {"X-GitHub-Event": "workflow_run", "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab", **signed}
    return [
        Scene(
            "A scraper has finished. Its dataset on Apify gets a name and becomes public. The event is signed.",
            "/",
            scraped,
            credentials=signature,
            printed_headers=signature,
            update=renamed,
            provider=cloud.apify,
            token=cloud.apify_token,
            read_back=f"/datasets/{dataset_id}",
        ),
        Scene(
            "A model run has finished. The record on data.world gets a new summary and a file. The event has a secret.",
            "/",
            {"id": "run-4711", "provider": "data.world", "dataset": products, "update": described},
            credentials={"Authorization": f"Bearer {cloud.relay_secret}"},
            printed_headers={"Authorization": "Bearer ••••"},
            update=described,
            provider=cloud.data_world,
            token=cloud.data_world_token,
            read_back=f"/datasets/{products}",
        ),
        Scene(
            "A GitHub workflow has finished. A hook turns the payload of GitHub into an update.",
            "/hooks/github-workflow",
            workflow(),
            credentials=github,
            printed_headers=github,
            update={
                "summary": "Built by [Build #214](https://github.com/acme/products/actions/runs/19520441207)\n"
                "on 2026-11-22, from commit 9c1d3be\nof acme/products.\n"
            },
            provider=cloud.data_world,
            token=cloud.data_world_token,
            read_back=f"/datasets/{products}",
        ),
    ]


def _play(number: int, scene: Scene, function: Function) -> None:
    url = f"{function.url}{scene.path}"
    print(f"\n{paint('bold', f'{number}  {scene.title}')}")
    _print_part(
        "sent", f"POST {url}", *(f"{name}: {value}" for name, value in scene.printed_headers.items()), scene.event
    )
    calls_before = len(scene.provider.calls)
    started = time.monotonic()
    headers = {"Content-Type": "application/json", **scene.credentials}
    response = requests.post(url, data=scene.body, headers=headers, timeout=15)
    elapsed = (time.monotonic() - started) * 1000
    if len(scene.provider.calls) == calls_before:
        raise DemoError(f"The provider has received no call. The response was {response.status_code}: {response.text}")
    call = scene.provider.calls[-1]
    if call.headers.get("authorization") != f"Bearer {scene.token}":
        raise DemoError("The provider has not received the token that is in Secret Manager.")
    token = "Authorization: Bearer •••• (the token in Secret Manager)"
    _print_part("received", f"{call.method} {call.path}", token, call.json)
    status = f"{response.status_code} {HTTPStatus(response.status_code).phrase}, {elapsed:.0f} ms"
    delivery = f"Relay-Delivery: {response.headers['Relay-Delivery']}"
    _print_part("response", paint("green" if response.ok else "red", status), delivery, response.json())
    if not response.ok:
        raise DemoError(f"The response was {response.status_code}.")
    _check_record(scene)


def _check_record(scene: Scene) -> None:
    """Read the record from the provider, and compare the record with the update.

    Raises:
        DemoError: A field of the record differs.
    """
    url = scene.provider.base_url + scene.read_back
    record = requests.get(url, headers={"Authorization": f"Bearer {scene.token}"}, timeout=15).json()
    record = record.get("data", record)
    different = [key for key, value in scene.update.items() if record.get(key) != value]
    if different:
        raise DemoError(f"The record differs from the update: {', '.join(different)}.")
    _print_part("record", f"{paint('green', '✓')} has the values of the update (GET {scene.read_back})")


def _print_part(label: str, *lines: object) -> None:
    for line in lines:
        text = line if isinstance(line, str) else format_json(line)
        for text_line in text.splitlines():
            print(f"   {paint('cyan', f'{label:<12}')}{text_line}")
            label = ""


def format_json(value: Any, indent: str = "") -> str:
    """Return `value` as JSON, with a line for each element that fits on a line."""
    text = json.dumps(value, ensure_ascii=False)
    if len(indent + text) <= _WIDTH or not value or not isinstance(value, dict | list):
        return text
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {format_json(member, inner)}" for key, member in value.items()]
    else:
        parts = [format_json(element, inner) for element in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{closing}"


def _print_log(text: str) -> None:
    print(f"\n{paint('bold', 'The log of the function, with a line per request:')}")
    for line in text.splitlines():
        if '"delivery"' in line and "/health" not in line:
            print(f"   {paint('dim', line)}")


if __name__ == "__main__":
    sys.exit(main())
