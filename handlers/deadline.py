"""The one deadline of a request."""

import time
from typing import NamedTuple


class Deadline(NamedTuple):
    """A moment on the monotonic clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """The deadline that is `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds that are left; 0 when none are."""
        return max(0.0, self.at - time.monotonic())
