"""Tokens that change, or can't be had, while events come in."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Response

from deploy.local.cloud import APIFY_USER, Cloud, secret_name
from tests.conftest import Launch, Relay, assert_problem, unique

SECRET = secret_name("apify-token")
LATEST = f"{SECRET}/versions/latest"


@pytest.fixture
def own_cloud() -> Iterator[Cloud]:
    """A cloud whose tokens a test may change."""
    started = Cloud().start()
    yield started
    started.stop()


def rotate(cloud: Cloud) -> str:
    """A new token in Secret Manager; the old one is worth nothing from now on."""
    token = unique("apify_api")
    cloud.apify.tokens[token] = APIFY_USER
    cloud.secret_manager.add_version(SECRET, token)
    for old in [each for each in cloud.apify.tokens if each != token]:
        del cloud.apify.tokens[old]
    return token


def event(relay: Relay) -> dict[str, Any]:
    return {"provider": "apify", "dataset": relay.apify_dataset(), "update": {"generalAccess": "RESTRICTED"}}


def fetches(cloud: Cloud) -> int:
    return cloud.secret_manager.accesses.count(LATEST)


def test_a_token_that_was_rotated(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud)
    assert relay.post(event(relay)).status_code == 200
    token = rotate(own_cloud)
    body = event(relay)
    answer = relay.post(body)
    assert answer.status_code == 200
    assert fetches(own_cloud) == 2
    calls = own_cloud.apify.seen(f"/datasets/{body['dataset']}")
    assert len(calls) == 2
    assert calls[1].headers["authorization"] == f"Bearer {token}"
    assert relay.logged(answer.headers["Relay-Delivery"])["attempts"] == 2
    # From now on it is the kept one.
    assert relay.post(event(relay)).status_code == 200
    assert fetches(own_cloud) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused_for_good(launch: Launch, own_cloud: Cloud, status: int) -> None:
    relay = launch(on=own_cloud)
    body = event(relay)
    path = f"/datasets/{body['dataset']}"
    own_cloud.apify.instead[path] = lambda: Response("{}", status)
    assert_problem(relay.post(body), 502, "upstream-denied")
    assert fetches(own_cloud) == 2
    assert len(own_cloud.apify.seen(path)) == 1
    rotate(own_cloud)
    assert_problem(relay.post(body), 502, "upstream-denied")
    assert fetches(own_cloud) == 3
    assert len(own_cloud.apify.seen(path)) == 3


def test_no_token_old_or_new_is_shown(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud)
    old = own_cloud.apify_token
    assert relay.post(event(relay)).status_code == 200
    new = rotate(own_cloud)
    body = event(relay)
    own_cloud.apify.instead[f"/datasets/{body['dataset']}"] = lambda: Response(f"neither {old} nor {new}", 401)
    answer = relay.post(body)
    assert answer.json()["upstream"]["body"] == "neither [redacted] nor [redacted]"


def test_a_fresh_token_that_cannot_be_had(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, RELAY_DEADLINE_SECONDS="2")
    assert relay.post(event(relay)).status_code == 200
    rotate(own_cloud)
    own_cloud.secret_manager.refusals[SECRET] = grpc.StatusCode.UNAVAILABLE
    began = time.monotonic()
    answer = relay.post(event(relay))
    assert_problem(answer, 503, "secret-unreachable", retryable=True)
    assert answer.headers["Retry-After"] == "5"
    assert time.monotonic() - began < 2.5
    own_cloud.secret_manager.refusals[SECRET] = grpc.StatusCode.PERMISSION_DENIED
    while "PERMISSION_DENIED" not in relay.log_text():
        answer = relay.post(event(relay))
        assert answer.status_code in (500, 503)
        time.sleep(0.1)
    assert_problem(relay.post(event(relay)), 500, "secret-unusable")
    own_cloud.secret_manager.refusals.clear()
    assert relay.post(event(relay)).status_code == 200


def test_a_burst_with_a_refused_token_makes_one_fetch(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, THREADS="20")
    assert relay.post(event(relay)).status_code == 200
    bodies = [event(relay) for _ in range(12)]
    own_cloud.secret_manager.delay = 0.5
    rotate(own_cloud)
    with ThreadPoolExecutor(12) as pool:
        assert [each.status_code for each in pool.map(relay.post, bodies)] == [200] * 12
    assert fetches(own_cloud) == 2


def test_a_burst_when_the_cache_has_expired_makes_one_fetch_a_secret(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, THREADS="20", RELAY_SECRET_TTL_SECONDS="1")
    assert relay.post(event(relay)).status_code == 200
    bodies = [event(relay) for _ in range(12)]
    time.sleep(1.1)
    own_cloud.secret_manager.delay = 0.3
    before = len(own_cloud.secret_manager.accesses)
    with ThreadPoolExecutor(12) as pool:
        assert [each.status_code for each in pool.map(relay.post, bodies)] == [200] * 12
    assert sorted(own_cloud.secret_manager.accesses[before:]) == [
        LATEST,
        f"{secret_name('relay-secret')}/versions/latest",
    ]


def test_an_outage_of_secret_manager_is_not_noticed(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, RELAY_SECRET_TTL_SECONDS="0.2")
    assert relay.post(event(relay)).status_code == 200
    own_cloud.secret_manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
    time.sleep(0.3)
    for _ in range(5):
        assert relay.post(event(relay)).status_code == 200
    # The log says so, as soon as the fetch has given up.
    until = time.monotonic() + 10
    while "APIFY_TOKEN can't be had: Secret Manager can't be reached." not in relay.log_text():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_token_rotated_under_load_loses_no_event(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, THREADS="16")
    bodies = [event(relay) for _ in range(80)]
    over = threading.Event()

    def turn() -> int:
        count = 0
        while not over.wait(0.25):
            rotate(own_cloud)
            count += 1
        return count

    with ThreadPoolExecutor(9) as pool:
        turning = pool.submit(turn)
        statuses = []
        until = time.monotonic() + 3
        while time.monotonic() < until:
            statuses += [each.status_code for each in pool.map(relay.post, bodies)]
        over.set()
        assert turning.result() >= 5
    assert len(statuses) > 80
    assert set(statuses) == {200}


def test_a_mounted_secret_that_was_replaced(launch: Launch, own_cloud: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(own_cloud.apify_token)
    relay = launch(on=own_cloud, APIFY_TOKEN=f"file:{path}")
    assert relay.post(event(relay)).status_code == 200
    path.write_text(rotate(own_cloud))
    assert relay.post(event(relay)).status_code == 200


def test_a_senders_secret_rotated_under_load_fails_no_event(launch: Launch, own_cloud: Cloud) -> None:
    """As the runbook does it: both are accepted, the sender changes over, the old one goes. Three revisions."""
    old, new = own_cloud.relay_secret, unique("new-secret")
    own_cloud.secret_manager.add_version(secret_name("relay-secret-2"), new)
    revision = launch(on=own_cloud, THREADS="16")
    serving, secret = [revision], [old]
    statuses: dict[tuple[int, str], list[int]] = defaultdict(list)
    over = threading.Event()

    def send(body: dict[str, Any]) -> None:
        while not over.wait(0.01):
            relay, used = serving[-1], secret[-1]
            answer = relay.post(body, headers={"Authorization": f"Bearer {used}"})
            statuses[serving.index(relay), used].append(answer.status_code)

    def replace(settings: str) -> None:
        """A new revision: when it is up it gets what comes now; the one before ends when it has nothing to do."""
        serving.append(launch(on=own_cloud, THREADS="16", RELAY_SECRET=settings))
        time.sleep(0.5)
        serving[-2].function.stop()

    with ThreadPoolExecutor(6) as pool:
        sending = [pool.submit(send, event(revision)) for _ in range(6)]
        time.sleep(0.5)
        replace("relay-secret,relay-secret-2")
        time.sleep(0.5)
        secret.append(new)
        time.sleep(0.5)
        replace("relay-secret-2")
        time.sleep(0.5)
        over.set()
        for each in sending:
            each.result()
    assert set(statuses) == {(0, old), (1, old), (1, new), (2, new)}
    assert all(len(each) > 20 for each in statuses.values())
    assert {status for each in statuses.values() for status in each} == {200}
    assert serving[-1].post(event(revision)).status_code == 401
