"""A source of secrets, a clock, and a deadline that a test controls."""

import threading
from dataclasses import dataclass, field

from handlers.deadline import Deadline
from handlers.secret_store.store import SecretStore
from schemas.secret_reference import SecretReference

#: A limit for waits that end at once unless the code is wrong, in seconds.
LONG = 30.0
TTL = 300.0
REFERENCE = SecretReference("env", "TOKEN", "APIFY_TOKEN")


@dataclass
class Clock:
    """A monotonic clock that stands still."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.now += seconds


@dataclass
class Source:
    """A source of secrets. Each fetch reads the text and the error when it starts, and waits while paused."""

    text: str = "CANARY-first"
    error: Exception | None = None
    fetches: int = 0
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _permits: threading.Semaphore | None = None

    def fetch(self, _reference: SecretReference, _seconds: float) -> tuple[bytes, str]:
        self.fetches += 1
        text, error = self.text, self.error
        self.started.release()
        if self._permits:
            assert self._permits.acquire(timeout=LONG)
        if error:
            raise error
        return text.encode(), f"version {self.fetches}"

    def pause(self) -> None:
        """Let every fetch wait for `finish_fetch`."""
        self._permits = threading.Semaphore(0)

    def finish_fetch(self) -> None:
        """Let one paused fetch go on."""
        assert self._permits
        self._permits.release()

    def await_start(self) -> None:
        """Wait until a fetch started, for each fetch once."""
        assert self.started.acquire(timeout=LONG)


@dataclass(frozen=True)
class WatchedDeadline(Deadline):
    """A distant deadline that reports each caller who is about to wait for a fetch."""

    at: float = float("inf")
    waiting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def remaining(self) -> float:
        self.waiting.release()
        return 4 * LONG

    def await_callers(self, count: int) -> None:
        """Wait until `count` more callers wait for a fetch."""
        for _ in range(count):
            assert self.waiting.acquire(timeout=LONG)


@dataclass
class Fixture:
    """A store, its only source of secrets, and its clock."""

    source: Source = field(default_factory=Source)
    clock: Clock = field(default_factory=Clock)
    store: SecretStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = SecretStore({"env": self.source.fetch}, TTL, self.clock, self.clock.sleep)


def soon() -> Deadline:
    """Return a deadline that no test reaches."""
    return Deadline.after(4 * LONG)


def passed() -> Deadline:
    """Return a deadline that leaves no time to wait for a fetch."""
    return Deadline(0)


def await_fetches() -> None:
    """Wait until no fetch is in progress."""
    for thread in threading.enumerate():
        if thread.name == "secret-fetch":
            thread.join(LONG)
            assert not thread.is_alive()
