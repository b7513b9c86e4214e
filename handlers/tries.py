"""A call to a platform, made again where that may help, until the time is up."""

import random
import time

from handlers import retries
from handlers.deadline import Deadline
from handlers.providers.call import Provider, Request, Result, result
from handlers.retries import Failure
from handlers.wire import (
    MAX_ANSWER_BYTES,
    Broken,
    Distrusted,
    Late,
    NotSent,
    TooLong,
    Undecodable,
    Wire,
    WireError,
)
from schemas.problem import RelayError, TimeUp, Unreachable, UpstreamFailed
from schemas.redactor import Redactor


class Progress:
    """How far a delivery has come, for the log: filled in as it goes, so that it is there when it fails."""

    attempts: int = 0
    upstream_status: int | None = None


class Tries:
    """The tries of one delivery, at the provider called `name`."""

    def __init__(self, wire: Wire, name: str, provider: Provider, deadline: Deadline, progress: Progress) -> None:
        self.wire = wire
        self.name = name
        self.provider = provider
        self.deadline = deadline
        self.progress = progress
        #: Whether the platform may have carried out one of those that failed.
        self.unknown = False

    def persist(self, request: Request, token: str, redactor: Redactor) -> Result | Failure:
        """What the platform makes of `request`, or how the last try failed."""
        failure: Failure | None = None
        tries = 0
        while began := self.deadline.remaining():
            outcome = self._once(request, token, redactor)
            if isinstance(outcome, Result):
                return outcome
            failure, self.unknown = outcome, self.unknown or outcome.unknown
            tries, left = tries + 1, self.deadline.remaining()
            # The jitter spreads out who comes back; nobody has to be unable to guess it.
            wait = retries.pause(failure, tries, left, took=began - left, chance=random.random())  # noqa: S311
            if wait is None:
                break
            time.sleep(wait)
        return failure or Failure(TimeUp(f"The time was up before {self.provider.TITLE} could be called."))

    def _once(self, request: Request, token: str, redactor: Redactor) -> Result | Failure:
        self.progress.attempts += 1
        self.progress.upstream_status = None
        try:
            with self.wire.call(self.name, request, token, self.deadline) as answer:
                self.progress.upstream_status = answer.status
                try:
                    return result(self.provider, answer, redactor)
                except RelayError as error:
                    return retries.answered(error, answer, time.time())
        except WireError as wrong:
            self.progress.upstream_status = wrong.status
            return self._failure(wrong)

    def _failure(self, wrong: WireError) -> Failure:
        title = self.provider.TITLE
        match wrong:
            case Distrusted():
                return Failure(Unreachable(f"{title}'s certificate can't be trusted: nothing was sent."))
            case NotSent():
                return Failure(Unreachable(f"{title} can't be reached."), passing=True)
            case Late():
                return Failure(TimeUp(f"{title} had not answered when the time was up."), unknown=True)
            case TooLong():
                return Failure(UpstreamFailed(f"{title}'s answer is over {MAX_ANSWER_BYTES} bytes."), unknown=True)
            case Undecodable():
                return Failure(UpstreamFailed(f"{title}'s answer isn't encoded as it says."), unknown=True)
            case Broken(status=None):
                return Failure(Unreachable(f"{title} broke the connection."), passing=True, unknown=True)
            case _:
                return Failure(UpstreamFailed(f"{title}'s answer broke off."), passing=True, unknown=True)
