"""What the senders were told, against what the platforms have done: nothing lost, nothing out of nowhere."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: An update that an event asks for: the dataset, by the platform's own id, and a mark that no other event has.
Wanted = tuple[str, str]


@dataclass
class Sent:
    """An event, and what became of it: `status` is the last answer's, None where none came."""

    number: int
    kind: str
    lane: str
    wanted: tuple[Wanted, ...]
    requests: int = 0
    unanswered: int = 0
    status: int | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether the sender was told that it is done."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether it is a rename whose old name is gone: carried out by a request that wasn't answered."""
        return self.kind == "rename" and self.status == 404


@dataclass(frozen=True)
class Reckoning:
    """What doesn't add up, by event; all of it should be empty, but for `repeated`."""

    #: Confirmed, but not done.
    lost: Sequence[str]
    #: Done, but wanted by nobody.
    unexplained: Sequence[Wanted]
    #: Neither confirmed nor, as a 404 for a name that is gone, settled.
    undelivered: Sequence[str]
    #: A dataset that doesn't say what its last event wanted.
    overwritten: Sequence[Wanted]
    #: Done more than once, and how often more: allowed, since repeating changes nothing.
    repeated: int

    @property
    def adds_up(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.unexplained or self.undelivered or self.overwritten)


def reckon(sent: Sequence[Sent], applied: Sequence[Wanted]) -> Reckoning:
    """Compares the events, in the order in which their lanes sent them, with what was done, in that order."""
    done = Counter(applied)
    wanted = {each for event in sent for each in event.wanted}
    last: dict[str, str] = {}
    for event in sent:
        if all(each in done for each in event.wanted):
            last |= dict(event.wanted)
    state: Mapping[str, str] = dict(applied)
    return Reckoning(
        lost=[
            f"{event.kind} {event.number}: {dataset} {mark}"
            for event in sent
            if event.is_confirmed
            for dataset, mark in event.wanted
            if (dataset, mark) not in done
        ],
        unexplained=sorted(each for each in done if each not in wanted),
        undelivered=[
            f"{event.kind} {event.number}: {event.status}"
            for event in sent
            if not event.is_confirmed and not (event.is_gone and all(each in done for each in event.wanted))
        ],
        overwritten=[(dataset, mark) for dataset, mark in last.items() if state.get(dataset) != mark],
        repeated=sum(count - 1 for count in done.values()),
    )
