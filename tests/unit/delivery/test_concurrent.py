"""Tests of the concurrent execution of an event's updates."""

import threading
from collections import Counter
from typing import Any, cast

import pytest

from handlers.deadline import Deadline
from handlers.delivery.concurrent import run_all
from handlers.delivery.delivery import Delivery, DeliveryContext
from schemas.event import Update


def create(*updates: tuple[str, str]) -> list[Delivery]:
    # The actions of these tests need no context.
    context = cast(DeliveryContext, None)
    return [Delivery(Update(provider, dataset, {}), Deadline.after(60), context) for provider, dataset in updates]


def test_run_all_applies_the_action_to_every_delivery() -> None:
    deliveries = create(*[("apify" if number % 2 else "data.world", str(number)) for number in range(9)])

    def count(delivery: Delivery) -> None:
        delivery.attempts = int(delivery.update.dataset)

    run_all(deliveries, 2, count)
    assert [delivery.attempts for delivery in deliveries] == list(range(9))


def test_run_all_single_delivery_runs_in_the_same_thread() -> None:
    threads: list[threading.Thread] = []
    run_all(create(("apify", "a")), 2, lambda _: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


def test_run_all_providers_run_at_the_same_time() -> None:
    barrier = threading.Barrier(2, timeout=30)
    results: list[Any] = []
    run_all(create(("apify", "a"), ("data.world", "b/c")), 1, lambda _: results.append(barrier.wait()))
    assert sorted(results) == [0, 1]


@pytest.mark.parametrize("limit", [1, 3])
def test_run_all_more_deliveries_than_workers_run_in_turns(limit: int) -> None:
    lock, running, maximum = threading.Lock(), Counter[str](), Counter[str]()
    full = threading.Barrier(2 * limit, timeout=30)

    def action(delivery: Delivery) -> None:
        provider = delivery.update.provider
        with lock:
            running[provider] += 1
            maximum[provider] = max(maximum[provider], running[provider])
        full.wait()
        with lock:
            running[provider] -= 1

    run_all(create(*[(provider, "x") for provider in ("data.world", "apify") for _ in range(6)]), limit, action)
    assert maximum == {"apify": limit, "data.world": limit}


@pytest.mark.parametrize("available", range(4))
def test_run_all_without_enough_threads_runs_every_delivery_once(
    monkeypatch: pytest.MonkeyPatch, available: int
) -> None:
    deliveries = create(*[(provider, "x") for provider in ("data.world", "apify") for _ in range(3)])
    threads = iter(range(available))
    start = threading.Thread.start

    def start_if_available(thread: threading.Thread) -> None:
        if next(threads, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_available)
    runs = Counter[Delivery]()
    run_all(deliveries, 2, lambda delivery: runs.update([delivery]))
    assert runs == Counter(deliveries)
