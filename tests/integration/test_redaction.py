"""Tests of the credentials of an event, and of the cost of the search for them, with the real server."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Response, request

from deploy.local.cloud import APIFY_USER, ROOT, Cloud
from handlers.redaction import MARK, MAX_CREDENTIALS
from tests.support.canary import secret
from tests.support.hooks import call, hook, update, written
from tests.support.misbehaving import MisbehavingProvider, http_response, send
from tests.support.relay import Launch, Relay, assert_problem, in_variables, lose_responses, unique

HOOK_SECRET = "CANARY-hook-secret"


def files_event(relay: Relay, sources: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a native event with one file for each source."""
    files = [{"name": f"{number}.csv", "source": source} for number, source in enumerate(sources)]
    return {"provider": "data.world", "dataset": relay.data_world_dataset(), "update": {"files": files}}


def url_source(query: str) -> dict[str, Any]:
    """Return a source whose URL has this query."""
    return {"url": f"https://example.com/items?{query}"}


# The cost of a response


@pytest.mark.parametrize("unit", [b"%2541", b"\\\\", b"\\n", b"x y "])
def test_response_beyond_the_budget_is_shown_as_mark(
    launch: Launch, provider: MisbehavingProvider, cloud: Cloud, unit: bytes
) -> None:
    provider.default = send(http_response(200, b'{"data": "' + unit * (9_500_000 // len(unit)) + b'"}'))
    relay = launch(APIFY_BASE_URL=provider.url, RELAY_DEADLINE_SECONDS="60", **in_variables(cloud))
    response = relay.post({"provider": "apify", "dataset": "abc", "update": {"name": "x"}})
    assert (response.status_code, response.json()) == (200, MARK)


def test_costly_responses_of_one_provider_leave_the_other_provider_alone(
    launch: Launch, provider: MisbehavingProvider, cloud: Cloud
) -> None:
    harmless = {"message": "x y " * 75_000}
    provider.behaviors["/datasets/abc"] = send(http_response(200, b'{"data": "' + b"%2541" * 49_800 + b'"}'))
    provider.behaviors["/datasets/acme/products"] = send(http_response(200, json.dumps(harmless).encode()))
    relay = launch(
        APIFY_BASE_URL=provider.url, DATA_WORLD_BASE_URL=provider.url, RELAY_DEADLINE_SECONDS="60", THREADS="8",
        **in_variables(cloud),
    )  # fmt: skip
    costly = {"provider": "apify", "dataset": "abc", "update": {"name": "x"}}
    other = {"provider": "data.world", "dataset": "acme/products", "update": {"title": "x"}}
    # With 8 threads, each provider has 6 slots.
    with ThreadPoolExecutor(6) as costly_pool, ThreadPoolExecutor(2) as other_pool:
        costly_responses = costly_pool.map(relay.post, [costly] * 25)
        responses = list(other_pool.map(relay.post, [other] * 5))
    assert [response.status_code for response in (*costly_responses, *responses)] == [200] * 30
    assert [response.json() for response in responses] == [harmless] * 5


# The number of credentials


@pytest.mark.parametrize("dry_run", [False, True])
def test_event_with_more_than_500_credentials_is_invalid(relay: Relay, dry_run: bool) -> None:
    cookies = [";".join(f"={number * 200 + part:06}" for part in range(200)) for number in range(3)]
    event = files_event(relay, [{**url_source("a=b"), "requestHeaders": {"c": each}} for each in cookies])
    problem = assert_problem(relay.post(event, path="/?dry_run=true" if dry_run else "/"), 422, "invalid")
    assert f"more than {MAX_CREDENTIALS} credentials" in problem["errors"]["update"][0]
    assert relay.cloud.data_world.seen(f"/datasets/{event['dataset']}") == []


def test_event_with_500_credentials_is_delivered(relay: Relay) -> None:
    tokens = [secret(f"t{number}-") for number in range(MAX_CREDENTIALS)]
    event = files_event(relay, [url_source(f"token={token}") for token in tokens])
    assert relay.post(event).status_code == 200


def test_updates_of_a_hook_with_more_than_500_credentials_are_invalid(launch: Launch, tmp_path: Path) -> None:
    updates = [
        update("data.world", f"acme/products-{number}", {"properties": {"password": f"{{{{ event.{name} }}}}"}})
        for number, name in enumerate("ab")
    ]
    relay = launch(RELAY_CONFIG=written(tmp_path, {"a": hook(*updates)}), HOOK_SECRET=HOOK_SECRET)
    passwords = [secret("p") for _ in range(600)]
    payload = {"a": passwords[:300], "b": passwords[300:]}
    problem = assert_problem(call(relay, "a", payload), 422, "invalid")
    assert f"more than {MAX_CREDENTIALS} credentials" in problem["detail"]
    assert [entry.path for entry in relay.cloud.data_world.calls if "/acme/products-" in entry.path] == []


# The query of a URL


def test_token_in_the_query_of_a_url_is_not_shown(relay: Relay) -> None:
    token = secret("tok-")
    event = files_event(relay, [url_source(f"format=csv&token={token}&clean=true")])
    preview = relay.post(event, path="/?dry_run=true")
    (file,) = preview.json()["request"]["body"]["files"]
    assert file["source"]["url"] == f"https://example.com/items?format=csv&token={MARK}&clean=true"

    def repeat() -> Response:
        return Response(json.dumps({"message": f"Can't fetch {request.json}"}), 422, mimetype="application/json")

    relay.cloud.data_world.instead[f"/datasets/{event['dataset']}"] = repeat
    response = relay.post(event)
    assert_problem(response, 422, "upstream-rejected")
    assert token not in preview.text + response.text + relay.log_text()
    assert MARK in response.json()["detail"]


def test_literal_token_in_the_query_of_a_url_causes_a_warning(launch: Launch, tmp_path: Path) -> None:
    token = secret("tok-")
    files = {"files": [{"name": "a.csv", "source": url_source(f"format=csv&token={token}")}]}
    config = written(tmp_path, {"a": hook(update("data.world", "acme/products", files))})
    message = "hook a: updates.0.update.files.0.source.url has a credential in a URL."
    relay = launch(RELAY_CONFIG=config, HOOK_SECRET=HOOK_SECRET)
    (line,) = [json.loads(line) for line in relay.log_text().splitlines() if message in line]
    assert line["severity"] == "WARNING"
    payload = tmp_path / "payload.json"
    payload.write_text("{}")
    for arguments, is_named in (([], True), (["--hook", "a", "--payload", str(payload)], False)):
        check = subprocess.run(
            [sys.executable, "main.py", "check", *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "RELAY_CONFIG": config},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert token not in check.stdout + check.stderr
        assert (message in check.stdout) is is_named


# Comparisons


def test_rename_is_confirmed_although_a_credential_occurs_in_the_name(launch: Launch, tmp_path: Path) -> None:
    old, new = unique("old"), unique("products-2026")
    source = {"url": "https://example.com/a", "credentials": {"user": "u", "password": "2026"}}
    first = update("apify", f"{APIFY_USER}~{{{{ event.old }}}}", {"name": "{{ event.new }}"})
    second = update("data.world", "{{ event.record }}", {"files": [{"name": "a", "source": source}]})
    relay = launch(
        RELAY_CONFIG=written(tmp_path, {"a": hook(first, second)}), HOOK_SECRET=HOOK_SECRET, RELAY_DEADLINE_SECONDS="60"
    )
    relay.apify_dataset(old)
    lose_responses(relay.cloud.apify, f"/datasets/{APIFY_USER}~{old}", 502)
    response = call(relay, "a", {"old": old, "new": new, "record": relay.data_world_dataset()})
    assert response.status_code == 200, response.text
    renamed = response.json()["results"][0]
    assert (renamed["status"], renamed["body"]["data"]["name"]) == (200, new.replace("2026", MARK))
