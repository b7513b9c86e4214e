"""The deadline of a request."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline that is `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Return the seconds until the deadline, or 0 after the deadline."""
        return max(0.0, self.at - time.monotonic())

    def has_passed(self) -> bool:
        """Return True after the deadline."""
        return time.monotonic() >= self.at
