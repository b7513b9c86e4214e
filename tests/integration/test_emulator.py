"""Tests of the queue with the official emulator of Pub/Sub, which pushes, keeps the order, and pushes again."""

import json
import threading
import time
from collections.abc import Iterator

import pytest
import requests
from flask import Response

from deploy.local.cloud import topic_name
from deploy.local.emulator import INSTALL, find_gcloud
from tests.soak.queue import QueuedFunction, event_of, queued_function, race, send_all

GCLOUD = find_gcloud()
pytestmark = pytest.mark.skipif(
    GCLOUD is None,
    reason=f"LOUD: the emulator of Pub/Sub is missing ({INSTALL}). The order of the queue is NOT tested.",
)


@pytest.fixture(scope="module")
def target() -> Iterator[QueuedFunction]:
    """Run a function with a queue in the emulator."""
    assert GCLOUD
    with queued_function(GCLOUD, RELAY_DELIVERY_DEADLINE_SECONDS="5") as started:
        yield started


def send(target: QueuedFunction, dataset: str, number: int) -> None:
    with requests.Session() as session:
        session.trust_env = False
        assert target.post(session, event_of(dataset, number)) == 202


def await_applied(target: QueuedFunction, dataset: str, number: int) -> list[int]:
    """Wait until a provider has applied an update, and return the numbers of all updates of the dataset so far."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        numbers = [applied for name, applied in target.applied() if name == dataset]
        if number in numbers:
            return numbers
        time.sleep(0.05)
    raise AssertionError(f"Update {number} of {dataset} wasn't applied.")


def test_no_update_is_lost_or_out_of_order_when_a_provider_fails_and_the_function_is_killed(
    target: QueuedFunction,
) -> None:
    result = send_all(target, updates=300, datasets=10, outage=3, kills=1)
    assert result.accepted == 300
    assert result.has_passed, result


def test_second_update_wins_although_the_first_is_slow_or_fails_once(target: QueuedFunction) -> None:
    assert race(target, 20, wait=False) == 20


def test_update_that_can_never_succeed_does_not_block_its_dataset(target: QueuedFunction) -> None:
    dataset = target.cloud.data_world.add("acme/blocked")
    rejected = iter([Response(json.dumps({"message": "No."}), 422, content_type="application/json")])
    target.cloud.data_world.instead[f"/datasets/{dataset}"] = lambda: next(rejected, None)
    send(target, dataset, 1)
    send(target, dataset, 2)
    assert await_applied(target, dataset, 2) == [2]
    response = target.emulator.subscriber.pull(
        subscription=topic_name("dead-letters").replace("/topics/", "/subscriptions/"), max_messages=10, timeout=30
    )
    letters = [json.loads(each.message.data) for each in response.received_messages]
    assert [each["update"]["summary"] for each in letters if each["dataset"] == dataset] == ["update-1"]


def test_dataset_whose_update_hangs_does_not_delay_another_dataset(target: QueuedFunction) -> None:
    stuck, free = target.cloud.data_world.add("acme/stuck"), target.cloud.data_world.add("acme/free")
    leave = threading.Event()

    def hang() -> None:
        leave.wait(60)

    target.cloud.data_world.instead[f"/datasets/{stuck}"] = hang
    send(target, stuck, 1)
    send(target, stuck, 2)
    send(target, free, 1)
    assert await_applied(target, free, 1) == [1]
    leave.set()
    numbers = await_applied(target, stuck, 2)
    assert list(dict.fromkeys(numbers)) == [1, 2]
