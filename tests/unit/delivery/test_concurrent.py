"""Tests of the concurrent execution of an event's updates."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from handlers.deadline import Deadline
from handlers.delivery.concurrent import Bulkheads, preview_all, run_all
from handlers.delivery.delivery import Delivery, DeliveryContext
from handlers.providers import PROVIDERS
from schemas.event import Update

# In seconds: longer than any wait takes that is expected to succeed.
LONG = 60.0
# In seconds: the wait for something that must not happen.
SHORT = 0.1


def create(*updates: tuple[str, str]) -> list[Delivery]:
    # The actions of these tests need only the providers.
    context = cast(DeliveryContext, SimpleNamespace(providers=PROVIDERS))
    return [Delivery(Update(provider, dataset, {}), Deadline.after(LONG), context) for provider, dataset in updates]


@dataclass
class Clock:
    """A clock that stands still."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def create_bulkheads(limit: int, threads: int = 100, clock: Clock | None = None) -> Bulkheads:
    return Bulkheads(PROVIDERS, limit, threads, clock or Clock())


def run(
    deliveries: list[Delivery], bulkheads: Bulkheads, action: Callable[[Delivery], Any], seconds: float = LONG
) -> None:
    """Call run_all() with `action` in the place of the execution of an update."""
    for delivery in deliveries:
        delivery._run = lambda delivery=delivery: action(delivery)  # type: ignore[method-assign,misc]
    run_all(deliveries, bulkheads, Deadline.after(seconds))


def assert_all_free(bulkheads: Bulkheads) -> None:
    everything = dict.fromkeys(PROVIDERS, bulkheads.limit)
    assert bulkheads.acquire(everything, 0)
    assert not any(bulkheads.acquire({provider: 1}, 0) for provider in PROVIDERS)


def wait_in_thread(bulkheads: Bulkheads, slots: dict[str, int]) -> tuple[threading.Thread, threading.Event]:
    """Start a thread that waits for slots. Return the thread when it waits, and the event of its success."""
    has_slots, before = threading.Event(), len(bulkheads._waiting)

    def wait() -> None:
        if bulkheads.acquire(slots, LONG):
            has_slots.set()

    thread = threading.Thread(target=wait)
    thread.start()
    deadline = Deadline.after(LONG)
    while len(bulkheads._waiting) == before and not has_slots.is_set():
        assert deadline.remaining()
    return thread, has_slots


# Bulkheads


def test_acquire_more_than_free_takes_nothing() -> None:
    bulkheads = create_bulkheads(2)
    assert bulkheads.acquire({"apify": 1}, 0)
    assert not bulkheads.acquire({"apify": 2, "data.world": 1}, SHORT)
    assert bulkheads.acquire({"apify": 1, "data.world": 2}, 0)
    assert not bulkheads.acquire({"data.world": 1}, 0)


def test_acquire_provider_that_hangs_leaves_a_thread_for_other_requests() -> None:
    clock = Clock()
    bulkheads = create_bulkheads(2, threads=4, clock=clock)
    assert bulkheads.acquire({"apify": 2}, 0)
    clock.now += 0.6
    waiting, has_slots = wait_in_thread(bulkheads, {"apify": 1})
    # The next event would occupy the last thread.
    assert not bulkheads.acquire({"apify": 1}, LONG)
    assert bulkheads.acquire({"data.world": 1}, 0)
    bulkheads.release("apify")
    assert has_slots.wait(LONG)
    waiting.join(LONG)


def test_acquire_provider_that_responds_lets_every_event_wait() -> None:
    bulkheads = create_bulkheads(2, threads=4)
    assert bulkheads.acquire({"apify": 2}, 0)
    waits = [wait_in_thread(bulkheads, {"apify": 1}) for _ in range(2)]
    for thread, has_slots in waits:
        bulkheads.release("apify")
        assert has_slots.wait(LONG)
        thread.join(LONG)


def test_acquire_waits_for_released_slots() -> None:
    bulkheads = create_bulkheads(2)
    assert bulkheads.acquire({"apify": 2}, 0)
    thread, has_slots = wait_in_thread(bulkheads, {"apify": 2})
    bulkheads.release("apify")
    assert not has_slots.wait(SHORT)
    bulkheads.release("apify")
    assert has_slots.wait(LONG)
    thread.join()


def test_acquire_many_slots_come_before_a_later_single_slot() -> None:
    """Otherwise, events with a single update would overtake an event with many updates forever."""
    bulkheads = create_bulkheads(3)
    assert bulkheads.acquire({"apify": 3}, 0)
    many, many_has_slots = wait_in_thread(bulkheads, {"apify": 3})
    one, one_has_slots = wait_in_thread(bulkheads, {"apify": 1})
    for _ in range(2):
        bulkheads.release("apify")
    assert not bulkheads.acquire({"apify": 1}, 0)
    assert not one_has_slots.is_set()
    bulkheads.release("apify")
    assert many_has_slots.wait(LONG)
    assert not one_has_slots.wait(SHORT)
    bulkheads.release("apify")
    assert one_has_slots.wait(LONG)
    many.join()
    one.join()


def test_acquire_waiting_for_one_provider_leaves_slots_of_the_other() -> None:
    bulkheads = create_bulkheads(1)
    assert bulkheads.acquire({"apify": 1}, 0)
    thread, has_slots = wait_in_thread(bulkheads, {"apify": 1, "data.world": 1})
    assert bulkheads.acquire({"data.world": 1}, 0)
    bulkheads.release("apify")
    assert not has_slots.wait(SHORT)
    bulkheads.release("data.world")
    assert has_slots.wait(LONG)
    thread.join()


def test_acquire_given_up_leaves_its_slots_to_the_next() -> None:
    bulkheads = create_bulkheads(2)
    assert bulkheads.acquire({"apify": 1}, 0)
    given_up = threading.Thread(target=bulkheads.acquire, args=({"apify": 2}, 1.0))
    given_up.start()
    while not bulkheads._waiting:
        pass
    thread, has_slots = wait_in_thread(bulkheads, {"apify": 1})
    assert has_slots.wait(LONG)
    given_up.join()
    thread.join()


# Execution


def test_run_all_carries_out_every_delivery() -> None:
    deliveries = create(*[("apify" if number % 2 else "data.world", str(number)) for number in range(9)])

    def count(delivery: Delivery) -> None:
        delivery.attempts = int(delivery.update.dataset)

    bulkheads = create_bulkheads(2)
    run(deliveries, bulkheads, count)
    assert [delivery.attempts for delivery in deliveries] == list(range(9))
    assert_all_free(bulkheads)


def test_run_all_single_delivery_runs_in_the_same_thread() -> None:
    threads: list[threading.Thread] = []
    run(create(("apify", "a")), create_bulkheads(2), lambda _: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


def test_run_all_providers_run_at_the_same_time() -> None:
    barrier = threading.Barrier(2, timeout=LONG)
    results: list[Any] = []
    run(create(("apify", "a"), ("data.world", "b/c")), create_bulkheads(1), lambda _: results.append(barrier.wait()))
    assert sorted(results) == [0, 1]


@pytest.mark.parametrize("limit", [1, 3])
def test_run_all_more_deliveries_than_slots_run_in_turns(limit: int) -> None:
    lock, running, maximum = threading.Lock(), Counter[str](), Counter[str]()
    full = threading.Barrier(2 * limit, timeout=LONG)

    def action(delivery: Delivery) -> None:
        provider = delivery.update.provider
        with lock:
            running[provider] += 1
            maximum[provider] = max(maximum[provider], running[provider])
        full.wait()
        with lock:
            running[provider] -= 1

    bulkheads = create_bulkheads(limit)
    run(create(*[(provider, "x") for provider in ("data.world", "apify") for _ in range(6)]), bulkheads, action)
    assert maximum == {"apify": limit, "data.world": limit}
    assert_all_free(bulkheads)


def test_run_all_slot_without_work_is_free_before_the_end() -> None:
    bulkheads, runs = create_bulkheads(2), Counter[str]()

    def action(delivery: Delivery) -> None:
        if delivery.update.dataset == "slow":
            assert bulkheads.acquire({"apify": 1}, LONG)
        runs[delivery.update.dataset] += 1

    run(create(("apify", "slow"), ("apify", "fast")), bulkheads, action)
    assert runs == {"slow": 1, "fast": 1}


@pytest.mark.parametrize("seconds", [LONG, 1.0])
def test_run_all_full_bulkhead_sets_busy_problem(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    bulkheads, timeouts = create_bulkheads(2), []
    acquire = bulkheads.acquire
    assert acquire({"apify": 1}, 0)

    def note_timeout(slots: Any, timeout: float) -> bool:
        timeouts.append(timeout)
        return acquire(slots, 0)

    monkeypatch.setattr(bulkheads, "acquire", note_timeout)
    deliveries, ran = create(("apify", "a"), ("apify", "b"), ("data.world", "c/d")), list[Delivery]()
    run(deliveries, bulkheads, ran.append, seconds)
    assert not ran
    # The function waits for two seconds, or for a quarter of the time until the deadline.
    (timeout,) = timeouts
    assert timeout == 2 if seconds == LONG else 0.2 < timeout <= 0.25
    for delivery in deliveries:
        assert delivery.problem is not None
        assert (delivery.problem.name, delivery.problem.status, delivery.attempts) == ("busy", 503, 0)
        assert "RELAY_PROVIDER_CONCURRENCY" in delivery.problem.detail
        assert delivery.problem.headers["Retry-After"]
    bulkheads.release("apify")
    monkeypatch.undo()
    assert_all_free(bulkheads)


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

    runs, bulkheads = Counter[Delivery](), create_bulkheads(2)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_if_available)
        run(deliveries, bulkheads, lambda delivery: runs.update([delivery]))
    assert runs == Counter(deliveries)
    assert_all_free(bulkheads)


def test_preview_all_needs_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Counter[Delivery]()
    monkeypatch.setattr(Delivery, "preview", lambda delivery: runs.update([delivery]))
    deliveries = create(*[(provider, "x") for provider in ("data.world", "apify") for _ in range(3)])
    preview_all(deliveries, 2)
    assert runs == Counter(deliveries)
