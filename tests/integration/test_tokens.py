"""Tests of the providers' tokens, and of secrets that are unavailable."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from deploy.local.cloud import Cloud, secret_name
from tests.support.canary import secret
from tests.support.relay import Launch, assert_problem, unique

DATA_WORLD_EVENT = {"provider": "data.world", "dataset": "acme/products", "update": {"title": "x"}}


def test_provider_without_a_token_is_invalid(launch: Launch) -> None:
    relay = launch(DATA_WORLD_TOKEN=None)
    for path in ("/", "/?dry_run=true"):
        problem = assert_problem(relay.post(DATA_WORLD_EVENT, path=path), 422, "invalid")
        assert "DATA_WORLD_TOKEN" in problem["errors"]["provider"][0]
    assert relay.post(relay.apify_event()).status_code == 200


def test_token_that_is_missing_is_unusable(launch: Launch) -> None:
    relay = launch(DATA_WORLD_TOKEN="unknown-secret")
    problem = assert_problem(relay.post(DATA_WORLD_EVENT), 500, "secret-unusable")
    assert "NOT_FOUND" in problem["detail"]


def test_token_that_is_damaged_is_unusable_and_not_shown(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, APIFY_TOKEN="damaged")
    own_cloud.secret_manager.add_version(secret_name("damaged"), "two\nlines")
    problem = assert_problem(relay.post(relay.apify_event()), 500, "secret-unusable")
    assert "printable ASCII" in problem["detail"]
    assert "lines" not in json.dumps(problem)


@pytest.mark.parametrize("name", ["data-world-token", ""], ids=["only the token", "every secret"])
def test_secret_manager_unreachable_is_retryable(launch: Launch, own_cloud: Cloud, name: str) -> None:
    relay = launch(on=own_cloud, RELAY_DEADLINE_SECONDS="2")
    own_cloud.secret_manager.refusals[secret_name(name) if name else ""] = grpc.StatusCode.UNAVAILABLE
    response = relay.post(DATA_WORLD_EVENT)
    problem = assert_problem(response, 503, "secret-unreachable", retryable=True)
    assert "projects/" not in problem["detail"]
    assert response.headers["Retry-After"] == "5"


def test_concurrent_events_fetch_each_secret_once(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, THREADS="16", RELAY_DEADLINE_SECONDS="60")
    own_cloud.secret_manager.delay = 0.2
    event = relay.apify_event()
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda _: relay.post(event).status_code, range(12)))
    assert statuses == [200] * 12
    assert sorted(own_cloud.secret_manager.accesses) == [
        f"{secret_name('apify-token')}/versions/latest",
        f"{secret_name('relay-secret')}/versions/latest",
    ]


def test_refused_token_is_fetched_again_at_most_once_a_second(launch: Launch, own_cloud: Cloud) -> None:
    name = unique("token")
    own_cloud.secret_manager.add_version(secret_name(name), secret("apify_api_"))
    relay = launch(on=own_cloud, APIFY_TOKEN=name, RELAY_DEADLINE_SECONDS="60")
    event = relay.apify_event()
    started = time.monotonic()
    for _ in range(20):
        response = relay.post(event)
        assert_problem(response, 502, "upstream-denied")
    seconds = int(time.monotonic() - started)
    assert len([access for access in own_cloud.secret_manager.accesses if name in access]) <= 2 + seconds
    assert "APIFY_TOKEN" in relay.log_text()
    assert "APIFY_TOKEN" not in response.text
