"""Several updates of one event, carried out at the same time: one that fails or is slow doesn't hide the others."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from handlers.deliver import Progress
from schemas.event import Update
from schemas.problem import Problem, RelayError, ShareFull, Unexpected

T = TypeVar("T")


@dataclass
class Outcome(Generic[T]):
    """What became of one update: what it gave, or its problem; `fault` where nobody expected that."""

    update: Update
    progress: Progress = field(default_factory=Progress)
    given: T | None = None
    problem: Problem | None = None
    fault: Exception | None = None


def together(updates: Sequence[Update], share: int, carry_out: Callable[[Update, Progress], T]) -> list[Outcome[T]]:
    """What `carry_out` gives for each of `updates`, in their order.

    Of one provider's no more than `share` are under way at once: an event with more can get through by itself.
    """

    def attempt(update: Update) -> Outcome[T]:
        outcome: Outcome[T] = Outcome(update)
        try:
            outcome.given = carry_out(update, outcome.progress)
        except RelayError as error:
            outcome.problem = error.problem
        except Exception as fault:
            outcome.problem, outcome.fault = Unexpected().problem, fault
        return outcome

    if len(updates) == 1:
        return [attempt(updates[0])]
    with ExitStack() as stack:
        pools = {
            provider: stack.enter_context(ThreadPoolExecutor(min(count, share)))
            for provider, count in Counter(update.provider for update in updates).items()
        }
        futures = [_submitted(pools[update.provider], attempt, update) for update in updates]
        return [each.result() if isinstance(each, Future) else each for each in futures]


def _submitted(
    pool: ThreadPoolExecutor, attempt: Callable[[Update], Outcome[T]], update: Update
) -> Future[Outcome[T]] | Outcome[T]:
    try:
        return pool.submit(attempt, update)
    except RuntimeError:
        full = ShareFull("This instance has no thread to spare.", headers={"Retry-After": "1"})
        return Outcome(update, problem=full.problem)
