"""Tests of handlers.queue.queue: the messages of an event, the slots, and the reasons to remove an update."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from handlers.deadline import Deadline
from handlers.queue.publisher import Message, Publisher
from handlers.queue.queue import Queue
from schemas.event import Update
from schemas.problem import (
    BodyTooLargeError,
    BusyError,
    DeadlineExceededError,
    InternalError,
    InvalidEventError,
    RelayError,
    SecretUnreachableError,
    SecretUnusableError,
    UnknownHookError,
    Upstream,
    UpstreamDeniedError,
    UpstreamFailedError,
    UpstreamOutcomeUnknownError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from schemas.pubsub import PushIdentity, PushMessage
from schemas.secret_reference import SecretReference
from schemas.settings import QueueSettings
from tests.unit.secret_store.fakes import Clock

SETTINGS = QueueSettings(
    topics={"apify": "projects/p/topics/apify", "data.world": "projects/p/topics/data-world"},
    dead_letter_topic="projects/p/topics/dead",
    identity=PushIdentity("https://relay.example", "push@p.example"),
    park_after_seconds=100,
    delivery_deadline_seconds=10,
    region=None,
    emulator=None,
)
APIFY = Update("apify", "jane~products", {"name": "products"})
TITLE = Update("data.world", "acme/products", {"title": "A"})
MESSAGE = PushMessage(b"data", {"a": "b"}, "7", "2026-11-22T08:30:00Z", "projects/p/subscriptions/apify")


@dataclass
class FakePublisher:
    """A publisher that keeps the messages."""

    messages: list[Message] = field(default_factory=list)

    def publish(self, messages: Sequence[Message], _deadline: Deadline) -> list[str]:
        self.messages += messages
        return [f"id-{position}" for position, _ in enumerate(messages)]


def create(threads: int = 8, clock: Clock | None = None) -> tuple[Queue, FakePublisher]:
    publisher = FakePublisher()
    return Queue(SETTINGS, cast(Publisher, publisher), threads, clock or Clock()), publisher


def test_enqueue_publishes_each_update_to_the_topic_of_its_provider() -> None:
    queue, publisher = create()
    own_token = replace(TITLE, token=SecretReference("manager", "s"), position=1)
    assert queue.enqueue([APIFY, own_token], "run-1", "build", Deadline.after(9)) == ["id-0", "id-1"]
    first, second = publisher.messages
    assert (first.topic, first.ordering_key) == ("projects/p/topics/apify", "apify:jane~products")
    assert b'"id":"run-1"' in first.data
    assert b'"hook"' not in first.data
    assert (second.topic, second.ordering_key) == ("projects/p/topics/data-world", "data.world:acme/products")
    assert b'"hook":"build","position":1' in second.data


def test_enqueue_update_that_is_too_large_publishes_nothing() -> None:
    queue, publisher = create()
    large = Update("data.world", "acme/products", {"properties": {"a": "x" * 9_900_000}})
    with pytest.raises(BodyTooLargeError, match="more than 9900000 bytes"):
        queue.enqueue([APIFY, large], "run-1", None, Deadline.after(9))
    assert publisher.messages == []


def test_enqueue_update_that_is_nested_too_deep_publishes_nothing() -> None:
    queue, publisher = create()
    value: object = 1
    for _ in range(63):
        value = {"a": value}
    deep = Update("data.world", "acme/products", {"properties": value}, position=2)  # type: ignore[dict-item]
    with pytest.raises(InvalidEventError) as caught:
        queue.enqueue([APIFY, deep], "run-1", "build", Deadline.after(9))
    assert list(caught.value.problem.errors or ()) == ["updates.2.update"]
    assert publisher.messages == []


@pytest.mark.parametrize(("threads", "share"), [(8, 2), (9, 2), (200, 50), (1, 1)])
def test_slot_each_provider_has_an_equal_share_of_half_of_the_threads(threads: int, share: int) -> None:
    queue, _ = create(threads)
    slots = [queue.slot("apify") for _ in range(share)]
    for slot in slots:
        slot.__enter__()
    with pytest.raises(BusyError), queue.slot("apify"):
        pass
    with queue.slot("data.world"):
        pass
    slots[0].__exit__(None, None, None)
    with queue.slot("apify"):
        pass


def test_slot_during_the_wait_of_a_provider_raises() -> None:
    clock = Clock()
    queue, _ = create(clock=clock)
    for seconds in ("600", "1"):
        error = UpstreamRateLimitedError("", upstream=Upstream(429, None), headers={"Retry-After": seconds})
        queue.note_wait("apify", error.problem)
    queue.note_wait("data.world", DeadlineExceededError("").problem)
    queue.note_wait("data.world", SecretUnreachableError("").problem)
    with queue.slot("data.world"):
        pass
    with pytest.raises(UpstreamRateLimitedError) as caught, queue.slot("apify"):
        pass
    assert caught.value.problem.headers == {"Retry-After": "601"}
    clock.now += 600
    with queue.slot("apify"):
        pass


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 413, 415, 422])
def test_reason_to_remove_update_that_the_provider_rejects_is_lost(status: int) -> None:
    queue, _ = create()
    problem = UpstreamRejectedError(status, "", upstream=Upstream(status, None)).problem
    assert queue.reason_to_remove(problem, 0, 1) == "lost"
    assert queue.reason_to_remove(problem, 1000, 1) == "lost"


def test_reason_to_remove_invalid_update_is_lost() -> None:
    queue, _ = create()
    assert queue.reason_to_remove(InvalidEventError("").problem, 0, 0) == "lost"


def test_reason_to_remove_unknown_outcome_of_an_action_is_parked() -> None:
    queue, _ = create()
    assert queue.reason_to_remove(UpstreamOutcomeUnknownError("").problem, 0, 1) == "parked"


@pytest.mark.parametrize(
    "error",
    [
        UpstreamRejectedError(402, "", upstream=Upstream(402, None)),
        UpstreamDeniedError("", upstream=Upstream(403, None)),
        UpstreamFailedError("", upstream=Upstream(500, None)),
        UpstreamRateLimitedError(""),
        SecretUnusableError(""),
        UnknownHookError(""),
        InternalError(),
        BusyError(""),
        DeadlineExceededError(""),
    ],
    ids=lambda error: error.name,
)
def test_reason_to_remove_problem_that_can_end_depends_on_the_age(error: RelayError) -> None:
    queue, _ = create()
    assert queue.reason_to_remove(error.problem, 0, 1) is None
    assert queue.reason_to_remove(error.problem, 100, 1) is None
    assert queue.reason_to_remove(error.problem, 100.1, 1) == "parked"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BusyError(""), None),
        (UpstreamRateLimitedError(""), None),
        (SecretUnreachableError(""), None),
        (SecretUnusableError(""), "parked"),
        (UnknownHookError(""), "parked"),
        (InternalError(), "parked"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_reason_to_remove_old_update_without_a_call_depends_on_the_problem(
    error: RelayError, reason: str | None
) -> None:
    queue, _ = create()
    assert queue.reason_to_remove(error.problem, 1000, 0) == reason


def test_publish_dead_letter_has_the_whole_message() -> None:
    queue, publisher = create()
    queue.publish_dead_letter(MESSAGE, "parked", BusyError("").problem)
    (message,) = publisher.messages
    assert message == Message(
        "projects/p/topics/dead",
        b"data",
        "",
        {
            "a": "b",
            "relay-reason": "parked",
            "relay-problem": "busy",
            "relay-published": "2026-11-22T08:30:00Z",
            "relay-message": "7",
            "relay-subscription": "projects/p/subscriptions/apify",
        },
    )


def test_publish_dead_letter_has_at_most_100_attributes() -> None:
    queue, publisher = create()
    attributes = {"googclient_x": "", **{f"a{number}": "" for number in range(100)}}
    queue.publish_dead_letter(replace(MESSAGE, attributes=attributes), "lost", BusyError("").problem)
    assert len(publisher.messages[0].attributes) == 100
    assert "googclient_x" not in publisher.messages[0].attributes
