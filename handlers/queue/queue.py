"""The queue: publish the updates of an event, and decide on the outcome of an update that comes back."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Literal, TypeAlias

from handlers.deadline import Deadline
from handlers.queue.publisher import Message, Publisher
from schemas.event import Update
from schemas.problem import (
    BodyTooLargeError,
    BusyError,
    InvalidEventError,
    InvalidJSONError,
    Problem,
    UpstreamOutcomeUnknownError,
    UpstreamRateLimitedError,
)
from schemas.pubsub import PushMessage
from schemas.queued_update import QueuedUpdate
from schemas.settings import QueueSettings
from schemas.strict_json import check_depth

#: The largest body of a push, in bytes: 10 MB of data in base64, and the attributes.
MAX_PUSH_BYTES = 14_000_000
#: The reason for which a message leaves the queue without being delivered.
Reason: TypeAlias = Literal["lost", "parked"]

# In bytes. Pub/Sub accepts 10 MB for the data, the attributes, and the ordering key of a message:
# https://cloud.google.com/pubsub/quotas#resource_limits
_MAX_DATA_BYTES = 9_900_000
# A message has at most 100 attributes, of which the function adds five to a dead letter.
_MAX_ATTRIBUTES = 95
# In seconds. The acknowledgment deadline of the subscription ends 20 s after the deadline of the delivery.
_DEAD_LETTER_SECONDS = 10.0
# The statuses of a provider that mean that the update itself can never succeed. A 402 is a problem of the account.
_HOPELESS_STATUSES = frozenset({400, 404, 405, 409, 410, 413, 415, 422})


class Queue:
    """The topics of an instance, the slots for deliveries from the queue, and the waits that providers asked for.

    Each provider has an equal share of the slots, so that the deliveries to one provider that hangs don't stop the
    deliveries to the other provider. All slots together are half of the server's threads: the other half receives
    events.
    """

    def __init__(
        self, settings: QueueSettings, publisher: Publisher, threads: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self._publisher = publisher
        self._clock = clock
        share = max(1, threads // 2 // len(settings.topics))
        self._slots = {provider: threading.BoundedSemaphore(share) for provider in settings.topics}
        self._lock = threading.Lock()
        # The time until which a provider asked the function to wait, on the clock.
        self._wait_ends: dict[str, float] = {}

    def enqueue(self, updates: Sequence[Update], delivery_id: str, hook: str | None, deadline: Deadline) -> list[str]:
        """Publish the updates of an event, and return the IDs of their messages once Pub/Sub has all of them.

        `hook` is the name of the hook that derived the updates, or None for a native event.

        Raises:
            BodyTooLargeError: An update is too large for a message. The function has published nothing.
            InvalidEventError: An update is nested too deep for a message. The function has published nothing.
            QueueUnreachableError, QueueUnusableError: Pub/Sub doesn't have all updates.
        """
        messages = []
        for update in updates:
            queued = QueuedUpdate(update, delivery_id, hook if update.token else None)
            data = queued.data()
            if len(data) > _MAX_DATA_BYTES:
                raise BodyTooLargeError(
                    f"An update of {update.provider} has more than {_MAX_DATA_BYTES} bytes, which is the limit of the "
                    "queue. Send a smaller update, or add ?wait=true."
                )
            try:
                # The update in the message is nested deeper than in the event.
                check_depth(data)
            except InvalidJSONError as error:
                path = f"updates.{update.position}.update" if hook else "update"
                raise InvalidEventError("The queue can't take the update.", errors={path: [str(error)]}) from None
            messages.append(Message(self.settings.topics[update.provider], data, queued.ordering_key))
        return self._publisher.publish(messages, deadline)

    @contextmanager
    def slot(self, provider: str) -> Iterator[None]:
        """Occupy a slot for a delivery to `provider`.

        Raises:
            BusyError: All slots of the provider are occupied. Pub/Sub sends the message again.
            UpstreamRateLimitedError: The wait that the provider asked for isn't over.
        """
        wait = self._wait_ends.get(provider, 0.0) - self._clock()
        if wait > 0:
            headers = {"Retry-After": str(int(wait) + 1)}
            raise UpstreamRateLimitedError(f"{provider} asked the function to wait for {wait:.0f} s.", headers=headers)
        slots = self._slots[provider]
        if not slots.acquire(blocking=False):
            raise BusyError(f"The instance has no free slot for a delivery from the queue. The provider is {provider}.")
        try:
            yield
        finally:
            slots.release()

    def note_wait(self, provider: str, problem: Problem) -> None:
        """Remember the wait that a provider asked for with `problem`, which was too long for the delivery."""
        # The function's own problems have a Retry-After, too.
        if problem.upstream and (wait := problem.headers.get("Retry-After")):
            with self._lock:
                self._wait_ends[provider] = max(self._wait_ends.get(provider, 0.0), self._clock() + int(wait))

    def reason_to_remove(self, problem: Problem, age: float, attempts: int) -> Reason | None:
        """Return the reason to remove an update with this problem from the queue, or None to keep the update.

        `age` is the time since the publication of the update, in seconds. `attempts` is the number of calls for the
        update. Without a call, a problem that soon ends, such as occupied slots, is no reason to park an old update.
        """
        if problem.status == 422 and problem.upstream is None:
            return "lost"
        if problem.upstream and problem.status in _HOPELESS_STATUSES:
            return "lost"
        has_failed = attempts > 0 or not problem.retryable
        if problem.name == UpstreamOutcomeUnknownError.name or (age > self.settings.park_after_seconds and has_failed):
            return "parked"
        return None

    def publish_dead_letter(self, message: PushMessage, reason: Reason, problem: Problem) -> None:
        """Publish a message that leaves the queue, in full, to the dead-letter topic.

        Raises:
            QueueUnreachableError, QueueUnusableError: Pub/Sub doesn't have the message.
        """
        # Pub/Sub refuses the names that it uses itself.
        own = ((name, value) for name, value in message.attributes.items() if not name.startswith("goog"))
        attributes = {
            **dict(islice(own, _MAX_ATTRIBUTES)),
            "relay-reason": reason,
            "relay-problem": problem.name,
            "relay-published": message.published,
            "relay-message": message.message_id,
            "relay-subscription": message.subscription,
        }
        dead_letter = Message(self.settings.dead_letter_topic, message.data, "", attributes)
        self._publisher.publish([dead_letter], Deadline.after(_DEAD_LETTER_SECONDS))
