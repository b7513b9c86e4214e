"""The comparison of the events that the senders sent with the updates that the providers applied."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

#: An update: the ID of a dataset, and the mark of an event, which no other event has.
Update = tuple[str, str]


@dataclass(slots=True)
class Event:
    """An event that a sender sent. `status` is the status of the last response, or None without a response."""

    number: int
    kind: str
    updates: tuple[Update, ...]
    status: int | None = None

    @property
    def is_confirmed(self) -> bool:
        """Return whether the function confirmed that all updates are applied."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_renamed(self) -> bool:
        """Return whether the event is a rename, and the old name doesn't exist.

        This happens when the response to an earlier request for the same event was lost.
        """
        return self.kind == "rename" and self.status == 404


@dataclass(frozen=True, slots=True)
class Audit:
    """The differences between the events and the applied updates."""

    #: Updates of confirmed events that no provider applied.
    lost: Sequence[str]
    #: Applied updates that no event contains.
    unexpected: Sequence[Update]
    #: Events that weren't confirmed, except for renames that were applied.
    unconfirmed: Sequence[str]
    #: The newest update of each dataset that an older update has overwritten.
    overwritten: Sequence[Update]
    #: The number of updates that were applied again. A retry may do so, since an update is idempotent.
    repeated: int

    @property
    def is_clean(self) -> bool:
        """Return whether every event was applied as confirmed."""
        return not (self.lost or self.unexpected or self.unconfirmed or self.overwritten)


def audit(events: Sequence[Event], applied: Sequence[Update]) -> Audit:
    """Compare the events with the applied updates. The events of a dataset must be in the order of sending."""
    counts = Counter(applied)
    expected = {update for event in events for update in event.updates}
    last_sent: dict[str, str] = {}
    for event in events:
        if counts.keys() >= set(event.updates):
            last_sent |= dict(event.updates)
    last_applied = dict(applied)
    return Audit(
        lost=[
            f"{event.kind} {event.number}: {dataset} {mark}"
            for event in events
            if event.is_confirmed
            for dataset, mark in event.updates
            if (dataset, mark) not in counts
        ],
        unexpected=sorted(counts.keys() - expected),
        unconfirmed=[
            f"{event.kind} {event.number}: {event.status}"
            for event in events
            if not event.is_confirmed and not (event.is_renamed and counts.keys() >= set(event.updates))
        ],
        overwritten=[(dataset, mark) for dataset, mark in last_sent.items() if last_applied[dataset] != mark],
        repeated=sum(count - 1 for count in counts.values()),
    )
