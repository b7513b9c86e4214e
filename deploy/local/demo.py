"""`make demo`: an Apify PUT and a data.world PATCH, from a pipeline's event to the changed record."""

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
from deploy.local.signing import signed_headers
from deploy.local.upstream import Platform

_WIDTH = 100
_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}


@dataclass(frozen=True)
class Scene:
    """One event of the demo, and where its effect is to be seen."""

    title: str
    event: dict[str, Any]
    platform: Platform
    token: str
    signed: bool
    read_back: str


class Failed(Exception):
    """The demo did not show what it should."""


def main() -> int:
    """Runs the demo; 0 if both records are changed."""
    over = ending()
    cloud = Cloud().start()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        began = time.monotonic()
        with log.open("wb") as stream:
            function = Function(cloud.settings(), log=stream)
        try:
            function.wait_until_up(over=over)
            if not over.is_set():
                _introduce(cloud, function, time.monotonic() - began)
            for number, scene in enumerate(_scenes(cloud), start=1):
                if over.is_set():
                    print("\nInterrupted.")
                    return 130
                _play(number, scene, function, cloud.relay_secret)
        except (Failed, RuntimeError, requests.RequestException) as error:
            function.stop()
            print(f"\n{paint('red', 'The demo failed:')} {error}\n\nWhat the function said:\n{log.read_text()}")
            return 1
        finally:
            function.stop()
            cloud.stop()
        _print_log(log.read_text())
    print(f"\n{paint('green', '✓')} Both records are changed. {time.monotonic() - began:.1f} s in all.")
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
    ):
        print(f"  {name:<16}{paint('cyan', where)}")


def _scenes(cloud: Cloud) -> list[Scene]:
    dataset_id = cloud.apify.add(APIFY_USER, "products-staging")
    cloud.data_world.add(f"{DATA_WORLD_OWNER}/products")
    return [
        Scene(
            "A scraper is done: its dataset on Apify gets a name, and is opened. Signed (Standard Webhooks).",
            {
                "provider": "apify",
                "dataset": f"{APIFY_USER}~products-staging",
                "update": {"name": "products-2026-11-22", "generalAccess": "ANYONE_WITH_NAME_CAN_READ"},
            },
            cloud.apify,
            cloud.apify_token,
            signed=True,
            read_back=f"/datasets/{dataset_id}",
        ),
        Scene(
            "A model run is done: the record on data.world says so, and gets the new file. With a bearer secret.",
            {
                "id": "run-4711",
                "provider": "data.world",
                "dataset": f"{DATA_WORLD_OWNER}/products",
                "update": {
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
                },
            },
            cloud.data_world,
            cloud.data_world_token,
            signed=False,
            read_back=f"/datasets/{DATA_WORLD_OWNER}/products",
        ),
    ]


def _play(number: int, scene: Scene, function: Function, secret: str) -> None:
    body = json.dumps(scene.event, ensure_ascii=False).encode()
    proof = signed_headers(secret, f"demo-{number}", body) if scene.signed else {"Authorization": f"Bearer {secret}"}
    print(f"\n{paint('bold', f'{number}  {scene.title}')}")
    shown = proof if scene.signed else {"Authorization": "Bearer ••••"}
    _part("sent", f"POST {function.url}/", *(f"{name}: {value}" for name, value in shown.items()), scene.event)
    began = time.monotonic()
    headers = {"Content-Type": "application/json", **proof}
    answer = requests.post(f"{function.url}/", data=body, headers=headers, timeout=15)
    elapsed = (time.monotonic() - began) * 1000
    if not scene.platform.calls:
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
    wrong = [key for key, value in scene.event["update"].items() if record.get(key) != value]
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
