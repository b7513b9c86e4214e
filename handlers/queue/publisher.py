"""Publish messages to Pub/Sub, with the generated client of the official library.

The high-level client of the library (`google.cloud.pubsub_v1`) publishes in a background thread, and with ordered
messages continues for an unlimited time after an error. A message would then be published although the sender got a
503. The generated client (`google.pubsub_v1`) publishes during the call, within the time limit of the call.
https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests

from handlers import google_api
from handlers.deadline import Deadline
from schemas.problem import BodyTooLargeError, QueueUnreachableError, QueueUnusableError, RelayError

if TYPE_CHECKING:
    from google.pubsub_v1 import PublisherClient

# The time limit of one attempt, in seconds. Pub/Sub responds within some tens of milliseconds.
_ATTEMPT_SECONDS = 3.0
# In bytes, for all messages of a request: https://cloud.google.com/pubsub/quotas#resource_limits. A message has less
# than 1 kB in addition to its data and attributes.
_MAX_REQUEST_BYTES = 10_000_000
_MESSAGE_OVERHEAD = 1_000
_REGION_URL = "http://metadata.google.internal/computeMetadata/v1/instance/region"
_UNREACHABLE = "The queue is temporarily unavailable, and may not have the event. Send the event again later."
_UNUSABLE = "The queue refuses the event. The log of the function has the cause."
_NO_CREDENTIALS = "The function has no usable Google credentials. Give the function a service account."
# The number of concurrent requests for one event.
_MAX_WORKERS = 8
# The remedy for each error status: https://cloud.google.com/pubsub/docs/reference/error-codes
_REMEDIES = {
    "NOT_FOUND": "Create the topic, or correct the setting.",
    "PERMISSION_DENIED": "Grant the function's service account the role Pub/Sub Publisher on the topic.",
    "UNAUTHENTICATED": "Check the credentials of the function's service account.",
    "FAILED_PRECONDITION": "Check the policies of the topic and the state of its encryption key.",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish. Pub/Sub keeps the order of messages with the same topic and the same `ordering_key`."""

    topic: str
    data: bytes = field(repr=False)
    ordering_key: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """An upper bound on the size of the message in a request, in bytes."""
        texts = [self.ordering_key, *self.attributes, *self.attributes.values()]
        return len(self.data) + sum(len(text.encode()) + 8 for text in texts) + _MESSAGE_OVERHEAD


class Publisher:
    """The connection to the Pub/Sub endpoint of a region, which opens at the first message.

    The imports are inside the methods. At startup, they would delay every start by 0.2 s. Here, they delay the first
    event by 0.1 s, or by 0.2 s without the client of Secret Manager (measured). A function without a queue never needs
    them.
    """

    def __init__(self, region: str | None, emulator: str | None) -> None:
        """Create the connection without I/O.

        `region` is the region of the endpoint, or None for the region of the instance. `emulator` is the host and port
        of a local server without TLS, or None.
        """
        self._region = region
        self._emulator = emulator
        self._lock = threading.Lock()
        self._client: PublisherClient | None = None

    def publish(self, messages: Sequence[Message], deadline: Deadline) -> list[str]:
        """Publish messages, and return their IDs once Pub/Sub has every message.

        After an error, Pub/Sub can have some of the messages, and the function publishes no further message.

        Raises:
            QueueUnreachableError: Pub/Sub is unreachable, or did not respond before the deadline.
            QueueUnusableError: Pub/Sub refuses a message, or there are no credentials.
            BodyTooLargeError: A message exceeds the limit of Pub/Sub.
        """
        # A request has the messages of one ordering key, in their order.
        groups: dict[tuple[str, str], list[int]] = {}
        for position, message in enumerate(messages):
            if message.size > _MAX_REQUEST_BYTES:
                raise BodyTooLargeError(
                    "An update is larger than 10 MB, which is the limit of the queue. Send a smaller update."
                )
            groups.setdefault((message.topic, message.ordering_key), []).append(position)
        client = self._get_client(deadline)
        ids = [""] * len(messages)
        has_failed = threading.Event()

        def publish_group(positions: Sequence[int]) -> None:
            for batch in _batches(positions, messages):
                if has_failed.is_set():
                    return
                try:
                    batch_ids = _publish(client, [messages[position] for position in batch], deadline)
                except BaseException:
                    has_failed.set()
                    raise
                for position, message_id in zip(batch, batch_ids, strict=True):
                    ids[position] = message_id

        if len(groups) == 1:
            publish_group(range(len(messages)))
            return ids
        with ThreadPoolExecutor(min(len(groups), _MAX_WORKERS), "publish") as executor:
            tasks = [executor.submit(publish_group, positions) for positions in groups.values()]
        for task in tasks:
            task.result()
        return ids

    def _get_client(self, deadline: Deadline) -> "PublisherClient":
        """Return the client, which the first event creates."""
        if not self._lock.acquire(timeout=deadline.remaining()):
            raise QueueUnreachableError(_UNREACHABLE)
        try:
            if self._client is None:
                self._client = self._create_client(min(_ATTEMPT_SECONDS, deadline.remaining()))
            return self._client
        finally:
            self._lock.release()

    def _create_client(self, seconds: float) -> "PublisherClient":
        """Return a client. The metadata server has `seconds` to respond."""
        from google.auth.exceptions import GoogleAuthError
        from google.pubsub_v1 import PublisherClient

        if self._emulator:
            from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

            channel = google_api.open_emulator_channel(self._emulator)
            return PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        # Order holds only among the messages of a region: https://cloud.google.com/pubsub/docs/ordering
        endpoint = f"{self._region or _instance_region(seconds)}-pubsub.googleapis.com"
        try:
            return PublisherClient(client_options={"api_endpoint": endpoint})
        except GoogleAuthError:
            raise _error(QueueUnusableError(_UNUSABLE), _NO_CREDENTIALS) from None


def _batches(positions: Sequence[int], messages: Sequence[Message]) -> Iterator[list[int]]:
    """Yield the positions of the messages of each request."""
    batch: list[int] = []
    size = 0
    for position in positions:
        if batch and size + messages[position].size > _MAX_REQUEST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(position)
        size += messages[position].size
    yield batch


def _publish(client: "PublisherClient", messages: Sequence[Message], deadline: Deadline) -> Sequence[str]:
    """Publish messages of one topic and one ordering key in one request, and return their IDs."""
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError
    from google.pubsub_v1 import PubsubMessage

    remaining = deadline.remaining()
    if not remaining:
        raise QueueUnreachableError(_UNREACHABLE)
    topic = messages[0].topic
    # The last attempt can begin at the end of the time for retries, and still ends before the deadline.
    attempt = min(_ATTEMPT_SECONDS, remaining / 2)
    try:
        response = client.publish(
            topic=topic,
            messages=[
                PubsubMessage(data=each.data, ordering_key=each.ordering_key, attributes=dict(each.attributes))
                for each in messages
            ],
            retry=google_api.create_retry(remaining - attempt),
            timeout=attempt,
        )
    except google_api.transient_errors() as error:
        cause = error.cause if isinstance(error, exceptions.RetryError) else error
        raise _error(
            QueueUnreachableError(_UNREACHABLE), f"{topic} is unreachable: {google_api.status_name(cause)}."
        ) from None
    except exceptions.GoogleAPICallError as error:
        status = google_api.status_name(error)
        remedy = _REMEDIES.get(status, "Check the topic.")
        raise _error(QueueUnusableError(_UNUSABLE), f"Pub/Sub returned {status} for {topic}. {remedy}") from None
    except GoogleAuthError as error:
        if error.retryable:
            raise _error(QueueUnreachableError(_UNREACHABLE), "Google's token server is unreachable.") from None
        raise _error(QueueUnusableError(_UNUSABLE), _NO_CREDENTIALS) from None
    return list(response.message_ids)


def _error(error: RelayError, cause: str) -> RelayError:
    """Return `error` with a cause for the log."""
    error.cause = cause
    return error


def _instance_region(seconds: float) -> str:
    """Return the region of the instance: https://cloud.google.com/run/docs/container-contract#metadata-server."""
    with requests.Session() as session:
        # The metadata server is part of the instance, and so behind no proxy.
        session.trust_env = False
        try:
            response = session.get(_REGION_URL, headers={"Metadata-Flavor": "Google"}, timeout=seconds)
            response.raise_for_status()
        except requests.RequestException:
            cause = "The metadata server doesn't name the region of the instance. Set RELAY_REGION."
            raise _error(QueueUnreachableError(_UNREACHABLE), cause) from None
    return response.text.rpartition("/")[2]
