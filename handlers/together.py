"""Several updates of one event, carried out at the same time: one that fails or is slow doesn't hide the others."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from handlers.tries import Progress
from schemas.event import Update
from schemas.problem import Problem, RelayError, Unexpected

T = TypeVar("T")


class Outcome(Generic[T]):
    """What became of one update: what it gave, or its problem; `fault` where nobody expected that."""

    given: T | None = None
    problem: Problem | None = None
    fault: Exception | None = None

    def __init__(self, update: Update) -> None:
        self.update = update
        self.progress = Progress()


def together(updates: Sequence[Update], share: int, carry_out: Callable[[Update, Progress], T]) -> list[Outcome[T]]:
    """What `carry_out` gives for each of `updates`, in their order.

    Of one provider's no more than `share` are under way at once: an event with more can get through by itself.
    """

    def work(waiting: deque[Outcome[T]]) -> None:
        while waiting:
            try:
                outcome = waiting.popleft()
            except IndexError:
                return  # somebody else was quicker
            try:
                outcome.given = carry_out(outcome.update, outcome.progress)
            except RelayError as error:
                outcome.problem = error.problem
            except Exception as fault:
                outcome.problem, outcome.fault = Unexpected().problem, fault

    outcomes: list[Outcome[T]] = [Outcome(update) for update in updates]
    by_provider: defaultdict[str, deque[Outcome[T]]] = defaultdict(deque)
    for each in outcomes:
        by_provider[each.update.provider].append(each)
    places = [waiting for waiting in by_provider.values() for _ in range(min(len(waiting), share))]
    # This thread works at the first of them, and at those for which there is no thread to spare.
    helpers = []
    for waiting in places[1:]:
        helper = threading.Thread(target=work, args=(waiting,))
        try:
            helper.start()
        except RuntimeError:
            break
        helpers.append(helper)
    for waiting in (places[0], *places[1 + len(helpers) :]):
        work(waiting)
    for helper in helpers:
        helper.join()
    return outcomes
