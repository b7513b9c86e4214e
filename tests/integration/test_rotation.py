"""Secrets that are rotated or unavailable while events arrive."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Response

from deploy.local.cloud import APIFY_USER, Cloud, secret_name
from tests.support.canary import secret
from tests.support.relay import Launch, Relay, assert_problem, create_cloud

SECRET = secret_name("apify-token")
LATEST = f"{SECRET}/versions/latest"
#: A limit for waits that end soon unless the code is wrong, in seconds.
LONG = 60.0


@pytest.fixture
def own_cloud() -> Iterator[Cloud]:
    """Run a cloud that no other test uses."""
    started = create_cloud().start()
    yield started
    started.stop()


def rotate(cloud: Cloud) -> str:
    """Add a new token to Secret Manager, make Apify refuse every other token, and return the new token."""
    token = secret("apify_api_")
    cloud.apify.tokens[token] = APIFY_USER
    cloud.secret_manager.add_version(SECRET, token)
    for old in [other for other in cloud.apify.tokens if other != token]:
        del cloud.apify.tokens[old]
    return token


def create_event(relay: Relay) -> dict[str, Any]:
    """Return a valid event for a new dataset."""
    return {"provider": "apify", "dataset": relay.apify_dataset(), "update": {"generalAccess": "RESTRICTED"}}


def create_events(relay: Relay, count: int = 100) -> Iterator[dict[str, Any]]:
    """Return an endless iterator over events for many datasets: Apify limits the rate of requests per dataset."""
    return itertools.cycle([create_event(relay) for _ in range(count)])


def fetches(cloud: Cloud) -> int:
    """Return the number of fetches of the token so far."""
    return cloud.secret_manager.accesses.count(LATEST)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Load:
    """Threads that send requests all the time."""

    def __init__(self, send: Callable[[], None], threads: int) -> None:
        self._send = send
        self._over = threading.Event()
        self._completed = [0] * threads

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the threads. An exception in a thread fails the test."""
        with ThreadPoolExecutor(len(self._completed)) as pool:
            futures = [pool.submit(self._run, number) for number in range(len(self._completed))]
            try:
                yield
            finally:
                self._over.set()
            for future in futures:
                future.result()

    def await_requests(self, count: int = 2) -> None:
        """Wait until every thread has completed `count` requests more.

        After 2 requests, every request that was in progress at the beginning has its response.
        """
        target = [completed + count for completed in self._completed]
        wait_until(lambda: all(now >= then for now, then in zip(self._completed, target, strict=True)))

    def _run(self, number: int) -> None:
        while not self._over.is_set():
            self._send()
            self._completed[number] += 1


# The token of a provider


def test_rotated_token_is_fetched_again(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud)
    assert relay.post(create_event(relay)).status_code == 200
    token = rotate(own_cloud)
    event = create_event(relay)
    response = relay.post(event)
    assert response.status_code == 200
    assert fetches(own_cloud) == 2
    calls = own_cloud.apify.seen(f"/datasets/{event['dataset']}")
    assert len(calls) == 2
    assert calls[1].headers["authorization"] == f"Bearer {token}"
    assert relay.logged(response.headers["Relay-Delivery"])["attempts"] == 2
    # The cache has the new token now.
    assert relay.post(create_event(relay)).status_code == 200
    assert fetches(own_cloud) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_unchanged_token_that_is_refused_is_not_sent_again(launch: Launch, own_cloud: Cloud, status: int) -> None:
    relay = launch(on=own_cloud)
    event = create_event(relay)
    path = f"/datasets/{event['dataset']}"
    own_cloud.apify.instead[path] = lambda: Response("{}", status)
    assert_problem(relay.post(event), 502, "upstream-denied")
    assert fetches(own_cloud) == 2
    assert len(own_cloud.apify.seen(path)) == 1
    rotate(own_cloud)
    assert_problem(relay.post(event), 502, "upstream-denied")
    assert fetches(own_cloud) == 3
    assert len(own_cloud.apify.seen(path)) == 3


def test_old_and_new_token_are_redacted(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud)
    old = own_cloud.apify_token
    assert relay.post(create_event(relay)).status_code == 200
    new = rotate(own_cloud)
    event = create_event(relay)
    own_cloud.apify.instead[f"/datasets/{event['dataset']}"] = lambda: Response(f"neither {old} nor {new}", 401)
    assert relay.post(event).json()["upstream"]["body"] == "neither [redacted] nor [redacted]"


def test_new_token_that_is_unavailable_is_a_problem_of_the_secret(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, RELAY_DEADLINE_SECONDS="2")
    assert relay.post(create_event(relay)).status_code == 200
    rotate(own_cloud)
    own_cloud.secret_manager.refusals[SECRET] = grpc.StatusCode.UNAVAILABLE
    response = relay.post(create_event(relay))
    assert_problem(response, 503, "secret-unreachable", retryable=True)
    assert response.headers["Retry-After"] == "5"
    own_cloud.secret_manager.refusals[SECRET] = grpc.StatusCode.PERMISSION_DENIED
    # The fetch from before may still be in progress, with its own result.
    wait_until(lambda: relay.post(create_event(relay)).status_code == 500)
    assert_problem(relay.post(create_event(relay)), 500, "secret-unusable")
    assert "PERMISSION_DENIED" in relay.log_text()
    own_cloud.secret_manager.refusals.clear()
    # The function remembers the unusable secret for some seconds.
    wait_until(lambda: relay.post(create_event(relay)).status_code == 200)


def test_burst_with_a_refused_token_has_one_fetch(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, THREADS="20")
    assert relay.post(create_event(relay)).status_code == 200
    events = [create_event(relay) for _ in range(12)]
    own_cloud.secret_manager.delay = 0.2
    rotate(own_cloud)
    with ThreadPoolExecutor(12) as pool:
        assert [response.status_code for response in pool.map(relay.post, events)] == [200] * 12
    assert fetches(own_cloud) == 2


def test_outage_of_secret_manager_expired_secrets_are_used(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, RELAY_SECRET_TTL_SECONDS="0.2")
    assert relay.post(create_event(relay)).status_code == 200
    own_cloud.secret_manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
    time.sleep(0.3)
    for _ in range(5):
        assert relay.post(create_event(relay)).status_code == 200
    # The log has the outage as soon as the fetch gives up.
    wait_until(lambda: "APIFY_TOKEN is unavailable: Secret Manager is unreachable." in relay.log_text())


def test_token_rotated_under_load_fails_no_event(launch: Launch, own_cloud: Cloud) -> None:
    relay = launch(on=own_cloud, THREADS="16")
    events = create_events(relay)
    statuses: Counter[int] = Counter()
    load = Load(lambda: statuses.update([relay.post(next(events)).status_code]), threads=8)
    with load.running():
        for _ in range(6):
            # No request overlaps two rotations: the function fetches a refused token once per request.
            load.await_requests()
            rotate(own_cloud)
        load.await_requests()
    assert set(statuses) == {200}


def test_mounted_secret_that_is_replaced_is_read_again(launch: Launch, own_cloud: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(own_cloud.apify_token)
    relay = launch(on=own_cloud, APIFY_TOKEN=f"file:{path}")
    assert relay.post(create_event(relay)).status_code == 200
    path.write_text(rotate(own_cloud))
    assert relay.post(create_event(relay)).status_code == 200


# The secret of a sender


def test_secret_of_a_sender_rotated_under_load_fails_no_event(launch: Launch, own_cloud: Cloud) -> None:
    """Rotate as in the runbook: accept both secrets, change the sender, and remove the old secret: three revisions."""
    old, new = own_cloud.relay_secret, secret("new-")
    own_cloud.secret_manager.add_version(secret_name("relay-secret-2"), new)
    revisions = [launch(on=own_cloud, THREADS="16")]
    secrets = [old]
    events = create_events(revisions[0])
    statuses: Counter[tuple[int, str, int]] = Counter()

    def send() -> None:
        revision, used = len(revisions) - 1, secrets[-1]
        response = revisions[revision].post(next(events), headers={"Authorization": f"Bearer {used}"})
        statuses[revision, used, response.status_code] += 1

    def deploy(references: str) -> None:
        """Start a revision that receives all further requests, and stop the revision before."""
        revisions.append(launch(on=own_cloud, THREADS="16", RELAY_SECRET=references))
        load.await_requests()
        revisions[-2].function.stop()

    load = Load(send, threads=6)
    with load.running():
        load.await_requests()
        deploy("relay-secret,relay-secret-2")
        load.await_requests()
        secrets.append(new)
        load.await_requests()
        deploy("relay-secret-2")
        load.await_requests()
    assert set(statuses) == {(0, old, 200), (1, old, 200), (1, new, 200), (2, new, 200)}
    headers = {"Authorization": f"Bearer {old}"}
    assert_problem(revisions[-1].post(next(events), headers=headers), 401, "unauthenticated")
