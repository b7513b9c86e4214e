"""The concurrent execution of the updates of one event."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from handlers.delivery.delivery import Delivery


def run_all(deliveries: Sequence[Delivery], max_workers: int, action: Callable[[Delivery], None]) -> None:
    """Apply `action` to every delivery, and return after the last one.

    `action` is `Delivery.run` or `Delivery.preview`. Each provider has at most `max_workers` deliveries in progress:
    an event with more updates than the provider's bulkhead has slots runs them in turns.
    """
    if len(deliveries) == 1:
        # The usual case needs no thread.
        action(deliveries[0])
        return
    by_provider: defaultdict[str, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        by_provider[delivery.update.provider].append(delivery)
    with ExitStack() as stack:
        for group in by_provider.values():
            pool = stack.enter_context(ThreadPoolExecutor(min(len(group), max_workers)))
            for delivery in group:
                pool.submit(action, delivery)
