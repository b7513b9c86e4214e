"""Show the updates that have left the queue, and send them again.

An update leaves the queue for the subscription SERVICE-dead-letters if it can never succeed ("lost"), or if it has
failed for too long ("parked").

An old update must not replace a newer one. Thus, `send` sends only the newest update of each dataset, and removes the
older ones. It first looks into the log of the function for a later update of the dataset. The log names a dataset as
the sender did: the program doesn't know that an Apify ID and a username~name can mean the same dataset.
"""

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import requests

from handlers import google_api
from handlers.deadline import Deadline
from handlers.providers import PROVIDERS
from handlers.providers.base import event_schemas, mask_updates
from handlers.redaction import Redactor
from schemas.event import Update
from schemas.problem import InvalidEventError
from schemas.queued_update import QueuedUpdate, read_queued_update
from schemas.secret_reference import LOCATION, PROJECT
from schemas.settings import is_loopback
from schemas.strict_json import JSON, dump_text, exact_numbers

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.pubsub_v1 import PublisherClient, PubsubMessage, SubscriberClient

_PROGRAM = "deploy/gcp/replay"
_LOGGING_URL = "https://logging.googleapis.com"
# `gcloud auth application-default login` grants this scope, and Google refuses a token for any other scope.
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_NO_CREDENTIALS = (
    "There are no usable Google credentials, or Google's token server is unreachable. Run: "
    "gcloud auth application-default login"
)

# The time for which the program holds the pulled messages, in seconds. Pub/Sub accepts at most 600 s:
# https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions/modifyAckDeadline
_LEASE_SECONDS = 600
# Pub/Sub limits a request with acknowledgment IDs to 512 KiB, and an ID has about 200 bytes.
_MAX_MESSAGES = 500
_CONNECT_SECONDS = 30.0
# Pub/Sub responds to a pull at once if it has a message, and otherwise waits for one.
_PULL_SECONDS = 5.0
_REQUEST_SECONDS = 30.0

# Cloud Logging keeps the entries for 30 days by default, and allows 60 requests per minute and project:
# https://cloud.google.com/logging/quotas
_LOG_RETENTION = timedelta(days=30)
_RATE_LIMIT_WAITS = (5.0, 15.0, 30.0, 30.0)
_MAX_PAGES = 50
_PAGE_SIZE = 1000
# The function cuts a dataset in its log line at this number of characters.
_MAX_LOGGED_DATASET = 256
# The times in the log line of a delivery from the queue are rounded, and two machines measured them.
_TOLERANCE = timedelta(seconds=1)

# The rule of deploy.sh, and the rules of the function's settings.
_RULES = {
    "project": (PROJECT, "the ID of a Google Cloud project"),
    "region": (LOCATION, "a region of Google Cloud, such as europe-west1"),
    "service": (
        r"[a-z][a-z0-9-]{4,22}[a-z0-9]",
        "6 to 24 lowercase letters, digits, and hyphens, with a letter at its beginning and no hyphen at its end",
    ),
}


class ReplayError(Exception):
    """The command fails with this message and exit status 1."""


class _LogError(Exception):
    """The log is unavailable for this reason."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead-letter subscription.

    `published` is the time at which the function published the update to the queue. `queued` is None for a message
    without a valid update, and `mistakes` then has the reasons.
    """

    message_id: str
    attributes: Mapping[str, str]
    data: bytes = field(repr=False)
    #: The time at which the message arrived in the subscription.
    arrived: datetime
    published: datetime | None
    queued: QueuedUpdate | None = field(repr=False)
    mistakes: tuple[str, ...] = ()

    @property
    def age_key(self) -> tuple[datetime, int, str]:
        """The position of the message in time. Pub/Sub numbers the messages of one request in their order."""
        original = self.attributes.get("relay-message", "")
        return self.published or self.arrived, len(original), original


@dataclass(frozen=True, slots=True)
class Candidate:
    """The newest update of a dataset, and the messages with older updates of the same dataset."""

    newest: DeadLetter
    older: tuple[DeadLetter, ...]

    @property
    def queued(self) -> QueuedUpdate:
        """The newest update."""
        assert self.newest.queued is not None
        return self.newest.queued

    @property
    def published(self) -> datetime:
        """The time at which the function published the newest update to the queue."""
        assert self.newest.published is not None
        return self.newest.published

    @property
    def name(self) -> str:
        """The provider and the dataset, as the option --dataset expects them."""
        return dataset_name(self.queued.update)

    @property
    def deliveries(self) -> set[str]:
        """The IDs of the deliveries of all messages."""
        return {letter.queued.delivery_id for letter in (self.newest, *self.older) if letter.queued}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of the search for a later update of a dataset.

    `later` describes a later update. `unknown` states the reason why the search has no result.
    """

    later: str | None = None
    unknown: str | None = None


def dataset_name(update: Update) -> str:
    """Return the provider and the dataset of an update as one text."""
    return f"{update.provider}:{update.dataset}"


def read_letter(message: "PubsubMessage") -> DeadLetter:
    """Return the message with its update, or with the reasons why it has no valid update."""
    attributes = dict(message.attributes)
    published = _read_time(attributes.get("relay-published"))
    # The library returns the time of the publication as a datetime in UTC.
    arrived: datetime = message.publish_time
    queued, mistakes = None, []
    try:
        queued = read_queued_update(message.data, event_schemas(PROVIDERS))
        # The function refuses an update with too many credentials.
        mask_updates([queued.update], PROVIDERS)
    except InvalidEventError as error:
        errors = error.problem.errors or {}
        mistakes = [f"{path}: {text}" for path, texts in errors.items() for text in texts] or [str(error)]
    if published is None:
        mistakes.append("The attribute relay-published isn't a time, so the age of the update is unknown.")
    return DeadLetter(
        message.message_id, attributes, message.data, arrived, published, None if mistakes else queued, tuple(mistakes)
    )


def _read_time(text: object) -> datetime | None:
    """Return the moment that an RFC 3339 text names, or None for any other value."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def newest_of_each_dataset(letters: Iterable[DeadLetter]) -> list[Candidate]:
    """Return the newest update of each dataset, in their order. Leave out the messages without a valid update."""
    by_dataset: dict[str, list[DeadLetter]] = {}
    for letter in sorted(letters, key=lambda letter: letter.age_key):
        if letter.queued:
            by_dataset.setdefault(dataset_name(letter.queued.update), []).append(letter)
    candidates = [Candidate(group[-1], tuple(group[:-1])) for group in by_dataset.values()]
    return sorted(candidates, key=lambda candidate: candidate.newest.age_key)


# The log


def log_filter(service: str, candidate: Candidate) -> str:
    """Return the query for the log lines of the later updates of a dataset, and for the line of the update itself.

    https://cloud.google.com/logging/docs/view/logging-query-language. The lines of a query are joined by AND, and a
    path through a list leads into each of its elements.
    """
    update = candidate.queued.update
    provider, dataset = _quoted(update.provider), _quoted(update.dataset[:_MAX_LOGGED_DATASET])
    since = _quoted(_time_text(candidate.published))
    own = f'jsonPayload.delivery={_quoted(candidate.queued.delivery_id)} AND jsonPayload.outcome="queued"'
    single = (
        f'jsonPayload.outcome=("delivered" OR "queued") AND jsonPayload.provider={provider} '
        f"AND jsonPayload.dataset={dataset}"
    )
    several = f"jsonPayload.updates.provider={provider} AND jsonPayload.updates.dataset={dataset}"
    return "\n".join(
        [
            'resource.type="cloud_run_revision"',
            f"resource.labels.service_name={_quoted(service)}",
            # An update that was sent again is older than its last publication.
            f"timestamp>={_quoted(_time_text(candidate.published - _LOG_RETENTION))}",
            f"(({own}) OR (timestamp>={since} AND (({single}) OR ({several}))))",
        ]
    )


def _quoted(text: str) -> str:
    r"""Return `text` as a string of the query language, whose escapes include those of JSON: \" \\ and \n."""
    return json.dumps(text, ensure_ascii=False)


def _time_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def find_later(entries: Iterable[Mapping[str, Any]], candidate: Candidate) -> Finding:
    """Search the log entries for a later update of the dataset.

    The entries must also have the line of the update itself. Otherwise, the log is incomplete.
    """
    is_complete = False
    for entry in entries:
        payload = entry.get("jsonPayload")
        if not isinstance(payload, dict):
            continue
        is_queued = payload.get("outcome") == "queued"
        delivery = str(payload.get("delivery"))
        if is_queued and delivery in candidate.deliveries:
            is_complete |= delivery == candidate.queued.delivery_id
        elif _has_update(payload, candidate.queued.update) and _is_later(entry, payload, candidate.published):
            done = "was queued, and may still be in the queue" if is_queued else "was delivered"
            return Finding(later=f"A later update {done}: delivery {delivery}, {entry.get('timestamp')}.")
    if is_complete:
        return Finding()
    return Finding(
        unknown=f"The log has no line of the delivery {candidate.queued.delivery_id}. The log is incomplete (the "
        "setting LOG_LEVEL must be INFO), or no longer has lines of that age."
    )


def _has_update(payload: Mapping[str, Any], update: Update) -> bool:
    """Return True if a log line is about this dataset, and its update was delivered or queued."""

    def is_same(item: Any) -> bool:
        name = (update.provider, update.dataset[:_MAX_LOGGED_DATASET])
        return isinstance(item, dict) and (item.get("provider"), item.get("dataset")) == name

    updates, outcome = payload.get("updates"), payload.get("outcome")
    if isinstance(updates, list):
        # If one update of an event fails, the event fails, although its other updates were delivered.
        is_real = outcome in ("delivered", "failed", "queued") and not payload.get("dry_run")
        return is_real and any(is_same(item) and "problem" not in item for item in updates)
    return outcome in ("delivered", "queued") and is_same(payload)


def _is_later(entry: Mapping[str, Any], payload: Mapping[str, Any], published: datetime) -> bool:
    """Return True if the update in a log line is later than the time `published`. An unreadable time counts as later.

    A delivery from the queue can be the delivery of an earlier update.
    """
    moment = _read_time(entry.get("timestamp"))
    if moment is None:
        return True
    if "message_id" not in payload:
        return moment >= published
    try:
        age = timedelta(seconds=payload.get("queued_seconds", 0), milliseconds=payload.get("duration_ms", 0))
    except (TypeError, OverflowError):
        return True
    return moment - age >= published - _TOLERANCE


class DeliveryLog:
    """The log of the function in Cloud Logging."""

    def __init__(self, project: str, service: str, url: str | None) -> None:
        """Create the connection without I/O. `url` is the address of Cloud Logging, or None if there is no log."""
        self._project, self._service, self._url = project, service, url
        self._session: requests.Session | None = None
        #: The reason why the log is unavailable. The program doesn't ask again after an error.
        self._unavailable = None if url else "The emulator of Pub/Sub has no log."

    def find_later(self, candidate: Candidate) -> Finding:
        """Search the log for a later update of the dataset."""
        if self._unavailable is None:
            try:
                return find_later(self._entries(log_filter(self._service, candidate)), candidate)
            except _LogError as error:
                self._unavailable = str(error)
        return Finding(unknown=self._unavailable)

    def _entries(self, query: str) -> Iterator[Mapping[str, Any]]:
        """Yield the log entries, the newest first.

        Raises:
            _LogError: The log is unavailable.
        """
        body: dict[str, Any] = {
            "resourceNames": [f"projects/{self._project}"],
            "filter": query,
            "orderBy": "timestamp desc",
            "pageSize": _PAGE_SIZE,
        }
        for _ in range(_MAX_PAGES):
            page = self._post(body)
            yield from (entry for entry in page.get("entries") or [] if isinstance(entry, dict))
            # A page can be empty although a further page has entries.
            if not page.get("nextPageToken"):
                return
            body["pageToken"] = page["nextPageToken"]
        raise _LogError(f"The log has more than {_MAX_PAGES * _PAGE_SIZE} lines of a dataset.")

    def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a page of the log: https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list."""
        response = self._request(body)
        for seconds in _RATE_LIMIT_WAITS:
            if response.status_code != requests.codes.too_many_requests:
                break
            print(f"Cloud Logging limits the rate of requests. Waiting for {seconds:.0f} s.", file=sys.stderr)
            time.sleep(seconds)
            response = self._request(body)
        if response.status_code == requests.codes.forbidden:
            raise _LogError(
                f"Your account may not read the log of the project {self._project}. Ask an owner of the project for "
                "roles/logging.viewer on the project."
            )
        if response.status_code != requests.codes.ok:
            raise _LogError(f"Cloud Logging returned {response.status_code}. Try again later.")
        try:
            page = response.json()
        except ValueError:
            page = None
        if not isinstance(page, dict):
            raise _LogError("The response of Cloud Logging isn't a JSON object. Try again later.")
        return page

    def _request(self, body: Mapping[str, Any]) -> requests.Response:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import AuthorizedSession

        try:
            if self._session is None:
                self._session = AuthorizedSession(load_credentials())  # type: ignore[no-untyped-call]
            return self._session.post(
                f"{self._url}/v2/entries:list", json=body, timeout=_REQUEST_SECONDS, allow_redirects=False
            )
        except ReplayError as error:
            raise _LogError(str(error)) from None
        except GoogleAuthError:
            raise _LogError(_NO_CREDENTIALS) from None
        except requests.RequestException:
            raise _LogError("Cloud Logging is unreachable. Check the network.") from None


# Pub/Sub


def load_credentials() -> "Credentials":
    """Return the credentials of this machine, with a valid token.

    Raises:
        ReplayError: There are no usable credentials.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        credentials.refresh(Request())  # type: ignore[no-untyped-call]
    except GoogleAuthError:
        raise ReplayError(_NO_CREDENTIALS) from None
    return credentials


def connect(emulator: str | None, region: str) -> "tuple[SubscriberClient, PublisherClient]":
    """Return clients of Pub/Sub. `emulator` is the host and port of a local server without TLS, or None.

    Raises:
        ReplayError: There are no usable credentials, or Pub/Sub is unreachable.
    """
    import grpc
    from google.pubsub_v1 import PublisherClient, SubscriberClient
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    if emulator:
        if not is_loopback(urlsplit(f"//{emulator}").hostname or ""):
            raise ReplayError("PUBSUB_EMULATOR_HOST must be host:port with a loopback host, such as 127.0.0.1:8085.")
        channel = google_api.open_emulator_channel(emulator)
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
    else:
        credentials = load_credentials()
        subscriber = SubscriberClient(credentials=credentials)
        # Order holds only among the messages of a region: https://cloud.google.com/pubsub/docs/ordering
        endpoint = f"{region}-pubsub.googleapis.com"
        publisher = PublisherClient(credentials=credentials, client_options={"api_endpoint": endpoint})
    # A pull that ends without a response must mean that there is no message, and not that the connection is slow.
    transport = subscriber.transport
    assert isinstance(transport, SubscriberGrpcTransport)
    try:
        grpc.channel_ready_future(transport.grpc_channel).result(timeout=_CONNECT_SECONDS)
    except grpc.FutureTimeoutError:
        raise ReplayError("Pub/Sub is unreachable. Check the network, and run the command again.") from None
    return subscriber, publisher


@contextmanager
def _explained(resource: str, role: str) -> Iterator[None]:
    """Turn an error of Pub/Sub into a ReplayError. `role` is the role that the call needs on `resource`."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except GoogleAuthError:
        raise ReplayError(_NO_CREDENTIALS) from None
    except (GoogleAPICallError, RetryError) as error:
        cause = error.cause if isinstance(error, RetryError) else error
        status = google_api.status_name(cause)
        remedies = {
            "PERMISSION_DENIED": f"Ask an owner of the project for {role} on it.",
            "NOT_FOUND": "It doesn't exist. Check --project and --service.",
            "UNAUTHENTICATED": _NO_CREDENTIALS,
        }
        remedy = remedies.get(status, "Run the command again later.")
        raise ReplayError(f"Pub/Sub returned {status} for {resource}. {remedy}") from None


class DeadLetters:
    """The messages of a dead-letter subscription. At the end of the context, other clients can pull them again."""

    def __init__(self, client: "SubscriberClient", subscription: str) -> None:
        self._client, self._subscription = client, subscription
        #: The acknowledgment ID of each message that the program holds, by the ID of the message.
        self._held: dict[str, str] = {}
        self._lease = Deadline.after(_LEASE_SECONDS)

    def __enter__(self) -> Self:
        """Return the messages."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the messages that the program still holds."""
        try:
            self._change_deadline(list(self._held.values()), 0)
        except ReplayError:
            minutes = _LEASE_SECONDS // 60
            print(f"The messages couldn't be released. They reappear within {minutes} minutes.", file=sys.stderr)

    def pull(self) -> list[DeadLetter]:
        """Return all messages, in the order of their publication to the queue, and hold them.

        Raises:
            ReplayError: Pub/Sub refuses the request, or is unreachable.
        """
        from google.api_core.exceptions import DeadlineExceeded

        letters: dict[str, DeadLetter] = {}
        while True:
            with self._calls():
                try:
                    received = self._client.pull(
                        subscription=self._subscription, max_messages=_MAX_MESSAGES, timeout=_PULL_SECONDS
                    ).received_messages
                except DeadlineExceeded:
                    break
            if not received:
                break
            ack_ids = {each.message.message_id: each.ack_id for each in received}
            self._held |= ack_ids
            self._change_deadline(list(ack_ids.values()), _LEASE_SECONDS)
            letters |= {each.message.message_id: read_letter(each.message) for each in received}
            self.hold()
        return sorted(letters.values(), key=lambda letter: letter.age_key)

    def hold(self) -> None:
        """Hold the messages for at least half of _LEASE_SECONDS from now.

        Raises:
            ReplayError: Another client can have the messages by now, or Pub/Sub refuses the request or is unreachable.
        """
        if self._lease.has_passed():
            raise ReplayError(f"More than {_LEASE_SECONDS // 60} minutes have passed. Run the command again.")
        if self._lease.remaining() < _LEASE_SECONDS / 2:
            lease = Deadline.after(_LEASE_SECONDS)
            self._change_deadline(list(self._held.values()), _LEASE_SECONDS)
            self._lease = lease

    def acknowledge(self, letters: Iterable[DeadLetter]) -> None:
        """Remove messages from the subscription.

        Raises:
            ReplayError: Pub/Sub refuses the request, or is unreachable.
        """
        message_ids = [letter.message_id for letter in letters]
        for chunk in _chunks([self._held[message_id] for message_id in message_ids]):
            with self._calls():
                self._client.acknowledge(subscription=self._subscription, ack_ids=chunk, timeout=_REQUEST_SECONDS)
        for message_id in message_ids:
            del self._held[message_id]

    def _change_deadline(self, ack_ids: Sequence[str], seconds: int) -> None:
        for chunk in _chunks(ack_ids):
            with self._calls():
                self._client.modify_ack_deadline(
                    subscription=self._subscription,
                    ack_ids=chunk,
                    ack_deadline_seconds=seconds,
                    timeout=_REQUEST_SECONDS,
                )

    @contextmanager
    def _calls(self) -> Iterator[None]:
        with _explained(self._subscription, "roles/pubsub.subscriber"):
            yield


def _chunks(ack_ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ack_ids), _MAX_MESSAGES):
        yield list(ack_ids[start : start + _MAX_MESSAGES])


def publish(client: "PublisherClient", topic: str, letter: DeadLetter, ordering_key: str) -> str:
    """Publish the data of a message again, and return the ID of the new message.

    Raises:
        ReplayError: Pub/Sub refuses the message, or is unreachable.
    """
    from google.pubsub_v1 import PubsubMessage

    with _explained(topic, "roles/pubsub.publisher"):
        response = client.publish(
            topic=topic,
            messages=[PubsubMessage(data=letter.data, ordering_key=ordering_key)],
            timeout=_REQUEST_SECONDS,
        )
    return str(response.message_ids[0])


# The commands


def list_letters(letters: Sequence[DeadLetter]) -> None:
    """Print a line for each message, with the newest update last."""
    rows = []
    for letter in letters:
        reason = [letter.message_id, *(letter.attributes.get(f"relay-{name}") or "-" for name in ("reason", "problem"))]
        published = letter.attributes.get("relay-published") or "-"
        if letter.queued:
            update = letter.queued.update
            rows.append([*reason, update.provider, update.dataset, published, letter.queued.delivery_id])
        else:
            rows.append([*reason, "-", "(not a valid update)", published, "-"])
    rows = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show_letter(letters: Iterable[DeadLetter], message_id: str) -> None:
    """Print a message without its credentials. The ID of the message in the queue also names the message.

    Raises:
        ReplayError: There is no such message.
    """
    found = [each for each in letters if message_id in (each.message_id, each.attributes.get("relay-message"))]
    if not found:
        raise ReplayError(f"There is no message {_printable(message_id)}. To list the messages, run: {_PROGRAM} list")
    for letter in found:
        print(f"message: {_printable(letter.message_id)}")
        masked = mask_updates([letter.queued.update] if letter.queued else [], PROVIDERS)
        redactor = Redactor((), masked.credentials)
        attributes: dict[str, JSON] = dict(letter.attributes)
        print(f"attributes: {_json_text(redactor.redact(attributes))}")
        if letter.queued is None:
            print("The message has no valid update:")
            for mistake in letter.mistakes:
                print(f"  {_printable(mistake)}")
            continue
        print(f"dataset: {dataset_name(letter.queued.update)}")
        print(f"delivery: {letter.queued.delivery_id}")
        if letter.queued.hook is not None:
            print(f"token: of the hook {_printable(letter.queued.hook)}, updates.{letter.queued.update.position}")
        print(f"update: {_json_text(redactor.redact(masked.bodies[0]))}")


def _json_text(value: JSON) -> str:
    # json.dumps would write an ExactNumber as another number.
    has_exact_number = next(exact_numbers(value), None) is not None
    text = dump_text(value) if has_exact_number else json.dumps(value, ensure_ascii=False, indent=2)
    return "\n".join(map(_printable, text.split("\n")))


def _printable(text: str) -> str:
    """Return `text` without control characters, which could change the output of a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


@dataclass(frozen=True, slots=True)
class SendOptions:
    """The options of the command `send`."""

    force: bool
    yes: bool
    dataset: str | None


def send_letters(
    dead_letters: DeadLetters,
    letters: Sequence[DeadLetter],
    client: "PublisherClient",
    topic_prefix: str,
    log: DeliveryLog,
    options: SendOptions,
) -> bool:
    """Send the newest update of each dataset again, and remove its messages. Return False if something is left.

    Raises:
        ReplayError: The command fails.
    """
    candidates = newest_of_each_dataset(letters)
    invalid = [letter for letter in letters if letter.queued is None]
    if options.dataset is not None:
        candidates = [candidate for candidate in candidates if candidate.name == options.dataset]
        invalid = []
        if not candidates:
            name = _printable(options.dataset)
            raise ReplayError(f"There is no message with an update of {name}. To list them, run: {_PROGRAM} list")
    for letter in invalid:
        name = _printable(letter.message_id)
        print(f"Skipped: the message {name} has no valid update. To see the mistakes, run: {_PROGRAM} show {name}")
    chosen: list[tuple[Candidate, Finding]] = []
    for candidate in candidates:
        dead_letters.hold()
        finding = log.find_later(candidate)
        if reason := _reason_to_skip(finding, options):
            print(f"Skipped: {candidate.name}. {reason}")
        else:
            chosen.append((candidate, finding))
    is_complete = not invalid and len(chosen) == len(candidates)
    if not chosen:
        print("There is nothing to send.")
        return is_complete
    for candidate, finding in chosen:
        _print_plan(candidate, finding)
    dead_letters.hold()
    if not options.yes and not _confirm(len(chosen)):
        print("Nothing was sent.")
        return False
    for candidate, finding in chosen:
        # A later update can have arrived since the question.
        if not (options.yes or options.force):
            latest = log.find_later(candidate)
            if latest.later or (latest.unknown and not finding.unknown):
                print(f"Skipped: {candidate.name}. {_printable(latest.later or latest.unknown or '')}")
                is_complete = False
                continue
        dead_letters.hold()
        topic = topic_prefix + candidate.queued.update.provider.replace(".", "-")
        message_id = publish(client, topic, candidate.newest, candidate.queued.ordering_key)
        try:
            dead_letters.acknowledge([candidate.newest, *candidate.older])
        except ReplayError as error:
            raise ReplayError(
                f"{candidate.name} was sent as message {message_id}, but its messages couldn't be removed, so that the "
                f"next run finds them again. {error}"
            ) from None
        superseded = f" Superseded: {_count(len(candidate.older), 'older message')}." if candidate.older else ""
        print(f"Sent: {candidate.name} as message {message_id}.{superseded}")
    return is_complete


def _reason_to_skip(finding: Finding, options: SendOptions) -> str | None:
    """Return the reason not to send an update, with the remedy, or None."""
    if options.force:
        return None
    if finding.later:
        return f"{_printable(finding.later)} To send the older update nevertheless, use --force."
    if finding.unknown and options.yes:
        return (
            f"It is unknown if a later update was delivered. {_printable(finding.unknown)} To send the update "
            "nevertheless, run the command without --yes, or with --force."
        )
    return None


def _print_plan(candidate: Candidate, finding: Finding) -> None:
    published = _printable(candidate.newest.attributes["relay-published"])
    print(f"To send: {candidate.name}")
    print(f"  update: published {published}, delivery {candidate.queued.delivery_id}, {_fields([candidate.newest])}")
    if candidate.older:
        # An update changes only its own fields, so the older updates can have changes that the newest one hasn't.
        older = _count(len(candidate.older), "older message")
        print(f"  superseded, and then removed: {older}, {_fields(candidate.older)}")
    if finding.later:
        print(f"  Warning: {_printable(finding.later)} The older update will replace it.")
    if finding.unknown:
        print(f"  Warning: it is unknown if a later update was delivered. {_printable(finding.unknown)}")


def _fields(letters: Iterable[DeadLetter]) -> str:
    names = dict.fromkeys(name for letter in letters if letter.queued for name in letter.queued.update.body)
    return f"{'field' if len(names) == 1 else 'fields'} {', '.join(names)}"


def _confirm(count: int) -> bool:
    try:
        return input(f"Send {_count(count, 'update')} again? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _parser() -> argparse.ArgumentParser:
    # The options are valid before and after the command. A default would replace a value before the command.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--project", metavar="ID", help="the project; default: the current project of gcloud")
    common.add_argument("--service", metavar="NAME", help="the name of the service; default: dataset-relay")
    common.add_argument("--region", help="the region of the service; default: europe-west1")
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(_PROGRAM, description=__doc__, parents=[common], formatter_class=style)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", parents=[common], help="print a line for each message, with the newest update last")
    show = commands.add_parser("show", parents=[common], help="print a message without its credentials")
    show.add_argument(
        "message_id", metavar="MESSAGE-ID", help="the ID in the list, or the ID in the log of the function"
    )
    send = commands.add_parser("send", parents=[common], help="send the newest update of each dataset again")
    send.add_argument("--force", action="store_true", help="send an update although there is, or can be, a later one")
    send.add_argument("--yes", action="store_true", help="don't ask for a confirmation")
    send.add_argument("--dataset", metavar="PROVIDER:DATASET", help="send only the update of this dataset")
    return parser


def _default_project() -> str:
    """Return the current project of gcloud, or an empty text."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return ""
    command = [gcloud, "config", "get-value", "project"]
    project = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    return "" if project == "(unset)" else project


def _check_options(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Complete the project, and check the options.

    Raises:
        ReplayError: There is no project, or no terminal for the question.
    """
    if options.project is None:
        options.project = _default_project()
        if not options.project:
            raise ReplayError("No project is set. Use --project ID, or run: gcloud config set project ID")
    for name, (pattern, rule) in _RULES.items():
        if not re.fullmatch(pattern, getattr(options, name)):
            parser.error(f"--{name} must be {rule}.")
    if options.command != "send":
        return
    if options.dataset is not None and options.dataset.partition(":")[0] not in PROVIDERS:
        names = " or ".join(PROVIDERS)
        parser.error(f"--dataset must be PROVIDER:DATASET, with the provider {names}.")
    if not options.yes and not sys.stdin.isatty():
        raise ReplayError("The confirmation needs a terminal. Run the command in a terminal, or use --yes.")


def main(arguments: Sequence[str], *, logging_url: str | None = None) -> int:
    """Run the command, and return its exit status: 0, or 1 for an error or for an update that was skipped.

    `logging_url` is the address of a server in place of Cloud Logging.
    """
    # Silence the messages of the gRPC library about closed connections.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An update can contain characters that the encoding of the terminal doesn't support.
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _parser()
    defaults = argparse.Namespace(project=None, service="dataset-relay", region="europe-west1")
    options = parser.parse_args(arguments, defaults)
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST") or None
    if logging_url is None and not emulator:
        logging_url = _LOGGING_URL
    try:
        _check_options(options, parser)
        subscriber, publisher = connect(emulator, options.region)
        subscription = f"projects/{options.project}/subscriptions/{options.service}-dead-letters"
        with DeadLetters(subscriber, subscription) as dead_letters:
            letters = dead_letters.pull()
            if not letters:
                print(f"{subscription} has no message, or another run holds its messages.", file=sys.stderr)
            if options.command == "list":
                list_letters(letters)
            elif options.command == "show":
                show_letter(letters, options.message_id)
            else:
                topic_prefix = f"projects/{options.project}/topics/{options.service}-"
                log = DeliveryLog(options.project, options.service, logging_url)
                send_options = SendOptions(options.force, options.yes, options.dataset)
                if not send_letters(dead_letters, letters, publisher, topic_prefix, log, send_options):
                    return 1
        return 0
    except ReplayError as error:
        print(f"replay: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nreplay: The command was interrupted.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
