"""`make demo`: five events, the records that they change, and the responses to a mistake and to a failing provider."""

import json
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests
from flask import Response

from deploy.local.cloud import APIFY_USER, DATA_WORLD_OWNER, ROOT, Cloud, Function, stop_event
from deploy.local.provider import LocalProvider
from deploy.local.run import RECIPE
from deploy.local.signing import authentication, signed_headers
from deploy.local.terminal import accept_all_characters, format_json, paint, readable, width, wrap

# The width of the labels on the left, in columns.
_LABEL = 12
_HIDDEN = "Authorization: Bearer ••••"


@dataclass(frozen=True)
class Scene:
    """An event of the demo, and its expected effect."""

    title: str
    path: str
    event: dict[str, Any]
    #: The headers that authenticate the event, and the lines that show these headers without a secret.
    credentials: dict[str, str]
    printed_headers: list[str]
    provider: LocalProvider
    token: str
    #: The path of the record at the provider.
    record: str
    #: The fields that the event changes in the record.
    update: dict[str, Any]
    status: int = 200
    #: The number of requests that the provider rejects before it works again.
    failures: int = 0
    #: The configuration that maps the event.
    hook: str | None = None


class DemoError(Exception):
    """An event doesn't have its expected effect."""


def main() -> int:
    """Run the demo, and return 0 if every event has its expected effect."""
    accept_all_characters()
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
    print(
        f"\n{paint('green', '✓')} Four updates have changed their records. The mistake has changed nothing.\n"
        f"  The demo took {time.monotonic() - started:.1f} s. Next:\n"
        f"  {paint('bold', 'make run')}   keeps everything running\n"
        f"  {paint('bold', 'make test')}  runs all tests"
    )
    return 0


def _introduce(cloud: Cloud, function: Function, seconds: float) -> None:
    print(f"\n{paint('bold', 'Dataset Relay')} on this machine, started in {seconds:.1f} s:\n")
    for name, address in (
        ("the function", function.url),
        ("Apify", cloud.apify.base_url),
        ("data.world", cloud.data_world.base_url),
        ("Secret Manager", f"{cloud.secret_manager.address} (gRPC)"),
    ):
        print(f"  {name:<16}{paint('cyan', address)}")


def _body(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def _workflow() -> dict[str, Any]:
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
    apify: dict[str, Any] = {
        "provider": cloud.apify,
        "token": cloud.apify_token,
        "record": f"/datasets/{dataset_id}",
    }
    data_world: dict[str, Any] = {
        "provider": cloud.data_world,
        "token": cloud.data_world_token,
        "record": f"/datasets/{products}",
    }
    bearer: dict[str, Any] = {
        "credentials": {"Authorization": f"Bearer {cloud.relay_secret}"},
        "printed_headers": [_HIDDEN],
    }
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
                "source": {"url": "https://example.com/products.csv"},
            }
        ],
    }
    mistaken = {"titel": "Products, daily", "tags": ["products", "x"]}
    retitled = {"title": "Products, daily"}
    signed, _ = authentication("github", cloud.github_secret, _body(_workflow()))
    github = {"X-GitHub-Event": "workflow_run", "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab", **signed}
    return [
        Scene(
            "A scraper has finished. Its dataset on Apify gets a name and becomes public. The event is signed.",
            "/",
            scraped,
            signature,
            _header_lines(signature),
            update=renamed,
            **apify,
        ),
        Scene(
            "A model run has finished. The record on data.world gets a summary, tags, a license, and a file. The event "
            "carries a secret.",
            "/",
            {"id": "run-4711", "provider": "data.world", "dataset": products, "update": described},
            update=described,
            **bearer,
            **data_world,
        ),
        Scene(
            "A GitHub workflow has finished. A hook maps the payload of GitHub to an update.",
            "/hooks/github-workflow",
            _workflow(),
            github,
            _header_lines(github),
            update={
                "summary": "Built by [Build #214](https://github.com/acme/products/actions/runs/19520441207)\n"
                "on 2026-11-22, from commit 9c1d3be\nof acme/products.\n"
            },
            hook=(ROOT / RECIPE).read_text().partition("\nhooks:\n")[2],
            **data_world,
        ),
        Scene(
            "An event has two mistakes. The response names both, and data.world receives nothing.",
            "/",
            {"provider": "data.world", "dataset": products, "update": mistaken},
            update={},
            status=422,
            **bearer,
            **data_world,
        ),
        Scene(
            "data.world fails twice. The function waits, tries again, and succeeds before its deadline.",
            "/",
            {"id": "run-4712", "provider": "data.world", "dataset": products, "update": retitled},
            update=retitled,
            failures=2,
            **bearer,
            **data_world,
        ),
    ]


def _header_lines(headers: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in headers.items()]


def _play(number: int, scene: Scene, function: Function) -> None:
    """Send the event of a scene, and print the event, its mapping, the calls, the response, and the changed record.

    Raises:
        DemoError: The event doesn't have its expected effect.
    """
    title = textwrap.fill(scene.title, width(), initial_indent=f"{number}  ", subsequent_indent="   ")
    print("\n" + "\n".join(paint("bold", line) for line in title.splitlines()))
    _print_part("event", f"POST {function.url}{scene.path}", *scene.printed_headers, *_json_lines(scene.event))
    if scene.hook:
        _print_part("relay.yaml", "hooks:", *scene.hook.splitlines())
    before = _read_record(scene)
    failing = _fail(scene)
    calls_before = len(scene.provider.calls)
    started = time.monotonic()
    headers = {"Content-Type": "application/json", **scene.credentials}
    response = requests.post(f"{function.url}{scene.path}", data=_body(scene.event), headers=headers, timeout=15)
    elapsed = time.monotonic() - started
    calls = list(scene.provider.calls)[calls_before:]
    if any(call.headers.get("authorization") != f"Bearer {scene.token}" for call in calls):
        raise DemoError("The provider has not received the token that is in Secret Manager.")
    for position, call in enumerate(calls):
        status = 503 if position < scene.failures else response.status_code
        _print_part("" if position else "call", f"{call.method} {call.path}: {_status(status)}")
    _print_part("response", f"{_status(response.status_code)}, after {elapsed * 1000:.0f} ms")
    if scene.hook or not response.ok:
        _print_part("", *_json_lines(response.json()))
    if (response.status_code, len(failing)) != (scene.status, 0):
        raise DemoError(f"The response was {response.status_code}: {response.text}")
    after = _read_record(scene)
    different = [key for key, value in scene.update.items() if after.get(key) != value]
    if different or (not scene.update and after != before):
        raise DemoError(f"The record isn't as expected: {', '.join(different)}.")
    _print_difference(before, after, scene.record)


def _fail(scene: Scene) -> list[Response]:
    """Make the provider reject the next requests for the record. Return the responses that it hasn't sent yet."""
    failing = [Response("{}", 503, mimetype="application/json") for _ in range(scene.failures)]
    scene.provider.instead = {scene.record: lambda: failing.pop() if failing else None}
    return failing


def _read_record(scene: Scene) -> dict[str, Any]:
    """Return the record of a scene from its provider, without the secret that Apify puts into each record."""
    url = scene.provider.base_url + scene.record
    response = requests.get(url, headers={"Authorization": f"Bearer {scene.token}"}, timeout=15).json()
    record: dict[str, Any] = response.get("data", response)
    record.pop("urlSigningSecretKey", None)
    return record


def _print_difference(before: dict[str, Any], after: dict[str, Any], path: str) -> None:
    """Print the fields that differ between two states of a record."""
    if before == after:
        _print_part("record", f"unchanged (GET {path})")
        return
    _print_part("record", f"GET {path}, before (-) and after (+)")
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            for sign, color, record in (("-", "red", before), ("+", "green", after)):
                if key in record:
                    field = f'"{key}": {format_json(record[key], width() - _LABEL - len(f"{sign} {key}:   "))}'
                    _print_part("", *(f"{sign} {line}" for line in field.splitlines()), color=color)


def _status(status: int) -> str:
    return paint("green" if status < 400 else "red", f"{status} {HTTPStatus(status).phrase}")


def _json_lines(value: Any) -> list[str]:
    return format_json(value, width() - _LABEL).splitlines()


def _print_part(label: str, *lines: str, color: str | None = None) -> None:
    """Print lines to the right of a label. A line that is colored already must fit on the terminal."""
    for line in lines:
        parts = [line] if "\x1b" in line else wrap(line, width() - _LABEL)
        for part in parts:
            margin = paint("cyan", f" {label:<{_LABEL - 1}}") if label else " " * _LABEL
            print(margin + (paint(color, part) if color else part))
            label = ""


def _print_log(text: str) -> None:
    print(f"\n{paint('bold', 'The log of the function, in a readable form:')}")
    for line in text.splitlines():
        if '"delivery"' in line and "/health" not in line:
            print(readable(line))


if __name__ == "__main__":
    sys.exit(main())
