"""Tests of handlers.queue.publisher with a real gRPC server."""

import threading
from collections.abc import Iterator

import grpc
import pytest

from deploy.local.pubsub import PubSub
from handlers.deadline import Deadline
from handlers.queue.publisher import Message, Publisher
from schemas.problem import QueueUnreachableError, QueueUnusableError

A, B = "projects/p/topics/aaa", "projects/p/topics/bbb"


@pytest.fixture
def pubsub() -> Iterator[PubSub]:
    """Run a Pub/Sub server for one test."""
    started = PubSub().start()
    yield started
    started.stop()


@pytest.fixture
def publisher(pubsub: PubSub) -> Publisher:
    return Publisher(None, pubsub.address)


def test_publish_keeps_the_order_of_each_key(pubsub: PubSub, publisher: Publisher) -> None:
    messages = [Message([A, B][n % 2], f"{n}".encode(), f"key-{n % 3}", {"n": f"{n}"}) for n in range(30)]
    ids = publisher.publish(messages, Deadline.after(30))
    assert len(set(ids)) == 30
    for topic in (A, B):
        for key in ("key-0", "key-1", "key-2"):
            expected = [each for each in messages if (each.topic, each.ordering_key) == (topic, key)]
            received = [each for each in pubsub.messages[topic] if each.ordering_key == key]
            assert [(each.data, dict(each.attributes)) for each in received] == [
                (each.data, each.attributes) for each in expected
            ]
    # One request for each topic and key.
    assert sum(pubsub.requests.values()) == 6


def test_publish_splits_messages_that_exceed_the_limit_of_a_request(pubsub: PubSub, publisher: Publisher) -> None:
    publisher.publish([Message(A, bytes([65 + n]) * 4_000_000, "key") for n in range(5)], Deadline.after(60))
    assert [each.data[:1] for each in pubsub.messages[A]] == [b"A", b"B", b"C", b"D", b"E"]
    assert pubsub.requests[A] == 3


@pytest.mark.parametrize(
    "status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
def test_publish_transient_error_is_retried_until_the_deadline(
    pubsub: PubSub, publisher: Publisher, status: grpc.StatusCode
) -> None:
    pubsub.refusals[A] = status
    with pytest.raises(QueueUnreachableError) as caught:
        publisher.publish([Message(A, b"1", "key")], Deadline.after(1))
    assert caught.value.cause == f"{A} is unreachable: {status.name}."
    assert pubsub.requests[A] > 1
    pubsub.refusals.clear()
    publisher.publish([Message(A, b"2", "key")], Deadline.after(30))
    # The function publishes nothing after its response.
    assert [each.data for each in pubsub.messages[A]] == [b"2"]


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (grpc.StatusCode.NOT_FOUND, "Create the topic, or correct the setting."),
        (grpc.StatusCode.PERMISSION_DENIED, "Grant the function's service account the role Pub/Sub Publisher"),
        (grpc.StatusCode.INVALID_ARGUMENT, "Check the topic."),
    ],
)
def test_publish_refused_message_is_not_retried(
    pubsub: PubSub, publisher: Publisher, status: grpc.StatusCode, remedy: str
) -> None:
    pubsub.refusals[A] = status
    with pytest.raises(QueueUnusableError) as caught:
        publisher.publish([Message(A, b"1", "key")], Deadline.after(30))
    assert (caught.value.cause or "").startswith(f"Pub/Sub returned {status.name} for {A}. {remedy}")
    assert pubsub.requests[A] == 1


def test_publish_slow_response_ends_at_the_deadline_and_publishes_nothing_later(
    pubsub: PubSub, publisher: Publisher
) -> None:
    pubsub.delay = 2
    deadline = Deadline.after(0.5)
    with pytest.raises(QueueUnreachableError):
        publisher.publish([Message(A, b"1", "key")], deadline)
    # The server sees that the client has canceled the request.
    pubsub.delay = 0
    publisher.publish([Message(B, b"2", "key")], Deadline.after(30))
    threading.Event().wait(2.5)
    assert A not in pubsub.messages


def test_publish_lost_response_is_retried(pubsub: PubSub, publisher: Publisher) -> None:
    """Pub/Sub then has the message twice: a delivery happens at least once."""
    pubsub.lossy.add(A)
    threading.Timer(0.3, pubsub.lossy.clear).start()
    publisher.publish([Message(A, b"1", "key")], Deadline.after(30))
    assert len(pubsub.messages[A]) > 1


def test_publish_one_topic_that_fails_fails_the_event(pubsub: PubSub, publisher: Publisher) -> None:
    pubsub.refusals[B] = grpc.StatusCode.NOT_FOUND
    with pytest.raises(QueueUnusableError):
        publisher.publish([Message(A, b"1", "key"), Message(B, b"2", "key")], Deadline.after(30))


def test_publish_after_the_deadline_sends_nothing(pubsub: PubSub, publisher: Publisher) -> None:
    with pytest.raises(QueueUnreachableError):
        publisher.publish([Message(A, b"1", "key")], Deadline.after(0))
    assert pubsub.requests == {}


def test_publish_without_a_region_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only on Google Cloud is there a metadata server. A port that nothing listens on stands for its absence."""
    monkeypatch.setattr("handlers.queue.publisher._REGION_URL", "http://127.0.0.1:9/region")
    with pytest.raises(QueueUnreachableError) as caught:
        Publisher(None, None).publish([Message(A, b"1", "key")], Deadline.after(5))
    assert caught.value.cause == "The metadata server doesn't name the region of the instance. Set RELAY_REGION."
