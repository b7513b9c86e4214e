"""The concurrent execution of the updates of one event."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from handlers.delivery.delivery import Delivery


def run_all(deliveries: Sequence[Delivery], max_workers: int, action: Callable[[Delivery], None]) -> None:
    """Apply `action` to every delivery, and return after the last one.

    `action` is `Delivery.run` or `Delivery.preview`. At most `max_workers` deliveries to each provider are in progress.
    The other deliveries wait, so that an event with many updates doesn't exceed the provider's bulkhead.
    """
    if len(deliveries) == 1:
        # A single delivery, which is the usual case, needs no thread.
        action(deliveries[0])
        return
    by_provider: defaultdict[str, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        by_provider[delivery.update.provider].append(delivery)
    started: set[Delivery] = set()

    def start(delivery: Delivery) -> None:
        started.add(delivery)
        action(delivery)

    # submit() raises RuntimeError if the process can't start another thread.
    with ExitStack() as stack, suppress(RuntimeError):
        for group in by_provider.values():
            pool = stack.enter_context(ThreadPoolExecutor(min(len(group), max_workers)))
            for delivery in group:
                pool.submit(start, delivery)
    for delivery in deliveries:
        if delivery not in started:
            action(delivery)
