"""The concurrent execution of the updates of one event, within the limits on concurrent calls to the providers."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from handlers.deadline import Deadline
from handlers.delivery.delivery import Delivery
from schemas.problem import BusyError

# The longest wait for slots: in seconds, and as a part of the time until the deadline. The rest of the time must
# suffice for the calls.
_MAX_WAIT_SECONDS = 2.0
_MAX_WAIT_SHARE = 0.25
# A provider without enough free slots probably hangs after this time without a taken or released slot, in seconds.
_STALL_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class _Waiter:
    """An event that waits for `slots`, the number of slots by provider."""

    slots: Mapping[str, int]
    has_slots: threading.Event = field(default_factory=threading.Event)


class Bulkheads:
    """The limit on concurrent calls to each provider: a provider that hangs can't occupy every thread of the instance.

    An event gets all its slots at once, or waits without a slot. Thus, two events never wait for each other's slots,
    and an event that waits for one provider takes no slot of another provider. Events get the slots of a provider in
    the order of their arrival, so that an event with many updates gets its turn.

    A waiting event occupies a thread of the server. While the providers respond, every other thread may wait. Once the
    providers hang, the last thread stays free for other requests, such as GET /health.
    """

    def __init__(
        self, providers: Iterable[str], limit: int, threads: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create the bulkheads of `providers`, each with `limit` slots, in a server with `threads` threads."""
        providers = tuple(providers)
        self.limit = limit
        self._max_waiting_in_stall = max(0, threads - limit - 1)
        self._clock = clock
        # For each provider: the time at which a slot was last taken or released.
        self._changed = dict.fromkeys(providers, clock())
        # The lock protects the free slots, and the waiting events in the order of their arrival.
        self._lock = threading.Lock()
        self._free = dict.fromkeys(providers, limit)
        self._waiting: list[_Waiter] = []

    def acquire(self, slots: Mapping[str, int], timeout: float) -> bool:
        """Take `slots`, the number of slots by provider. Return False if the slots are not free within `timeout`."""
        with self._lock:
            if not self._waiting and self._take(slots):
                return True
            if len(self._waiting) >= self._max_waiting_in_stall and self._is_stalled(slots):
                return False
            waiter = _Waiter(slots)
            self._waiting.append(waiter)
            self._serve_waiting()
        if waiter.has_slots.wait(timeout):
            return True
        with self._lock:
            if not waiter.has_slots.is_set():
                self._waiting.remove(waiter)
                # The slots that this event waited for may be enough for the next event.
                self._serve_waiting()
        return waiter.has_slots.is_set()

    def release(self, provider: str) -> None:
        """Release one slot of `provider`."""
        with self._lock:
            self._free[provider] += 1
            self._changed[provider] = self._clock()
            self._serve_waiting()

    def _take(self, slots: Mapping[str, int]) -> bool:
        """Take `slots` if all of them are free. The caller must hold the lock."""
        if any(self._free[provider] < count for provider, count in slots.items()):
            return False
        for provider, count in slots.items():
            self._free[provider] -= count
            self._changed[provider] = self._clock()
        return True

    def _is_stalled(self, slots: Mapping[str, int]) -> bool:
        """Return True if a provider without enough slots probably hangs. The caller must hold the lock."""
        now = self._clock()
        return any(
            self._free[provider] < count and now - self._changed[provider] > _STALL_SECONDS
            for provider, count in slots.items()
        )

    def _serve_waiting(self) -> None:
        """Give slots to the events whose turn it is. The caller must hold the lock."""
        short: set[str] = set()
        for waiter in list(self._waiting):
            if short.isdisjoint(waiter.slots) and self._take(waiter.slots):
                self._waiting.remove(waiter)
                waiter.has_slots.set()
            else:
                # The free slots of these providers belong to this event. They are too few.
                short.update(provider for provider, count in waiter.slots.items() if self._free[provider] < count)


def run_all(deliveries: Sequence[Delivery], bulkheads: Bulkheads, deadline: Deadline) -> None:
    """Carry out the updates of an event, and return after the last one.

    The updates get their slots together. If a provider has fewer slots than the event has updates for the provider, the
    updates take turns. If the slots are not free in time, every update fails, and the function sends nothing.
    """
    slots = _workers(deliveries, bulkheads.limit)
    if bulkheads.acquire(slots, min(_MAX_WAIT_SECONDS, deadline.remaining() * _MAX_WAIT_SHARE)):
        _apply(Delivery.run, deliveries, slots, bulkheads.release)
        return
    titles = " or to ".join(sorted({delivery.provider.title for delivery in deliveries}))
    error = BusyError(
        f"This instance makes at most {bulkheads.limit} calls to {titles} at a time (RELAY_PROVIDER_CONCURRENCY), and "
        "had no room for the event. The function sent nothing. Send the event again later."
    )
    for delivery in deliveries:
        delivery.problem = error.problem


def preview_all(deliveries: Sequence[Delivery], max_workers: int) -> None:
    """Preview the updates of an event, and return after the last one. At most `max_workers` threads per provider run.

    A preview calls no provider, and needs no slot.
    """
    _apply(Delivery.preview, deliveries, _workers(deliveries, max_workers), lambda _: None)


def _workers(deliveries: Sequence[Delivery], limit: int) -> dict[str, int]:
    """Return the number of workers for each provider: one for each delivery, up to `limit`."""
    counts: defaultdict[str, int] = defaultdict(int)
    for delivery in deliveries:
        counts[delivery.update.provider] += 1
    return {provider: min(count, limit) for provider, count in counts.items()}


def _apply(
    action: Callable[[Delivery], None],
    deliveries: Sequence[Delivery],
    workers: Mapping[str, int],
    release: Callable[[str], None],
) -> None:
    """Apply `action` to every delivery. `workers` has the number of threads by provider.

    Each thread calls `release` with its provider as soon as no delivery is left for the thread. One of the threads is
    the calling thread: a single delivery, which is the usual case, needs no other thread.
    """
    # The workers of a provider share one iterator. The iterator of a list is thread-safe.
    queues: dict[str, Iterator[Delivery]] = {
        provider: iter([delivery for delivery in deliveries if delivery.update.provider == provider])
        for provider in workers
    }

    def work(provider: str) -> None:
        try:
            for delivery in queues[provider]:
                action(delivery)
        finally:
            release(provider)

    last, *others = [provider for provider, count in workers.items() for _ in range(count)]
    threads, without_thread = [], []
    for provider in others:
        thread = threading.Thread(target=work, args=(provider,), name="update")
        try:
            thread.start()
        except RuntimeError:  # The process can't start another thread.
            without_thread.append(provider)
        else:
            threads.append(thread)
    for provider in (last, *without_thread):
        work(provider)
    for thread in threads:
        thread.join()
