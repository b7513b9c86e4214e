"""Whether a call that failed is made again, and when: exponential backoff with full jitter, within the deadline.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

Of urllib3's Retry the waits know no deadline; of tenacity there would be the loop alone: how long to wait (Retry-After)
and when to stop (what is left, and what a try takes) would still be said here.
"""

import math
from typing import NamedTuple

from handlers.providers.call import Answer, wait_asked
from schemas.problem import RelayError

# In seconds. The official clients begin with half a second, too.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 4.0
# A try that has less time than this, in seconds, is not worth being made.
_SHORTEST_TRY = 0.2
_TRY_AGAIN = frozenset({408, 429})


class Failure(NamedTuple):
    """A try that failed: `error` is what the sender is told, if it was the last one."""

    error: RelayError
    #: Whether the same call may succeed later.
    passing: bool = False
    #: Whether the platform may have carried it out all the same.
    unknown: bool = False
    #: The answer's status, where one came.
    status: int | None = None
    #: How long the platform asks to be left alone, in seconds.
    asked: float = 0.0


def answered(error: RelayError, answer: Answer, now: float) -> Failure:
    """The failure that `answer` is; `now` is in seconds since 1970."""
    status = answer.status
    return Failure(
        error,
        passing=status in _TRY_AGAIN or status >= 500,
        # A gateway that gives up doesn't know what the platform behind it goes on to do.
        unknown=status == 408 or status >= 500,
        status=status,
        asked=wait_asked(answer.headers.get("retry-after", ""), now),
    )


def pause(failure: Failure, tries: int, left: float, took: float, chance: float) -> float | None:
    """How long to wait before the next try, in seconds; None: there is none.

    `tries` have been made, the last of which `took` so long; `left` is until the deadline; `chance` is drawn from 0 to
    1. A platform that asks for some time gets it, and the same random more: not all come back at once.
    """
    room = left - max(took, _SHORTEST_TRY)
    if not failure.passing or room < failure.asked or room <= 0:
        return None
    backoff = chance * min(_LONGEST_PAUSE, math.ldexp(_FIRST_PAUSE, min(tries - 1, 10)))
    return min(failure.asked + backoff, room)
