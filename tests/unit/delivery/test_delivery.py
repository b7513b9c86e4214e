"""Tests of a delivery, with a client that returns prepared outcomes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import requests

from handlers.deadline import Deadline
from handlers.delivery.delivery import Delivery, DeliveryContext, Merges
from handlers.delivery.http_client import InvalidResponseError, NotSentError, ResponseTimeoutError
from handlers.delivery.retry import RetryBudget
from handlers.providers import PROVIDERS
from handlers.providers.base import Request, Response
from handlers.secret_store.store import SecretStore
from schemas.event import Update
from schemas.problem import DeadlineExceededError
from schemas.secret_reference import ReferenceParser
from schemas.settings import read_settings
from schemas.strict_json import JSON

RENAME = Update("apify", "jane~old", {"name": "new"})
DATASET: JSON = {"data": {"name": "new"}}
MISSING = Response(404, {"error": {"type": "record-not-found", "message": "Dataset was not found"}})

HIDDEN = Response(404, {"error": {"type": "record-or-token-not-found", "message": "Dataset was not found"}})


@dataclass
class Client:
    """A client that returns, or raises, the given outcomes in order."""

    outcomes: list[Response | requests.RequestException]
    sent: list[tuple[Request, str]] = field(default_factory=list)
    #: For each request: whether the client may send the request twice.
    repeatable: list[bool] = field(default_factory=list)

    def send(
        self, _provider: str, request: Request, token: str, _deadline: Deadline, *, is_repeatable: bool
    ) -> Response:
        self.sent.append((request, token))
        self.repeatable.append(is_repeatable)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, requests.RequestException):
            raise outcome
        return outcome


@dataclass
class Clock:
    """The time of the retry budget, in seconds."""

    now: float = 0.0


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.delivery.delivery.random.random", lambda: 0.0)


def create(
    client: Client,
    update: Update = RENAME,
    *,
    tokens: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> Delivery:
    variables = {"APIFY_TOKEN": "env:A", "A": "token-CANARY", **(environ or {})}
    base_urls = {name: provider.base_url for name, provider in PROVIDERS.items()}
    remaining_tokens = iter(tokens)
    settings, _ = read_settings(variables, base_urls, ReferenceParser(variables), default_threads=4)

    def fetch(reference: Any, _seconds: float) -> tuple[bytes, str]:
        return next(remaining_tokens, variables[reference.name]).encode(), str(reference)

    context = DeliveryContext(
        settings,
        PROVIDERS,
        SecretStore({"env": fetch}, settings.secret_ttl_seconds),
        cast(Any, client),
        {name: RetryBudget(lambda: (clock or Clock()).now) for name in PROVIDERS},
        Merges(),
    )
    return Delivery(update, Deadline.after(60), context)


def test_run_success_sets_response() -> None:
    client = Client([Response(200, DATASET)])
    delivery = create(client)
    delivery.run()
    assert (delivery.response, delivery.problem, delivery.fault) == (Response(200, DATASET), None, None)
    assert (delivery.attempts, delivery.upstream_status) == (1, 200)
    assert client.sent == [
        (Request("PUT", "https://api.apify.com/v2/datasets/jane~old", {"name": "new"}), "token-CANARY")
    ]
    assert [token.text for token in delivery.tokens] == ["token-CANARY"]


def test_run_transient_failures_are_retried() -> None:
    broken = requests.exceptions.ConnectionError()
    delivery = create(Client([Response(503), NotSentError("timeout"), broken, Response(200, DATASET)]))
    delivery.run()
    assert (delivery.response, delivery.attempts) == (Response(200, DATASET), 4)


def test_run_permanent_failure_sets_problem() -> None:
    delivery = create(Client([Response(400, {"error": {"message": "No."}})]))
    delivery.run()
    assert delivery.response is None
    assert delivery.problem is not None
    assert (delivery.problem.status, delivery.problem.detail) == (400, "Apify returned 400: No.")
    assert (delivery.attempts, delivery.upstream_status) == (1, 400)


class ShortDeadline:
    """A deadline that leaves no time for a second attempt."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def remaining(self) -> float:
        return 0.1 if self._client.sent else 60.0


@pytest.mark.parametrize(
    ("status", "name", "shown"),
    [(429, "upstream-rate-limited", 429), (408, "upstream-failed", 502), (503, "upstream-failed", 502)],
)
def test_run_deadline_leaves_no_time_for_a_retry(status: int, name: str, shown: int) -> None:
    client = Client([Response(status)])
    delivery = create(client)
    delivery._deadline = cast(Deadline, ShortDeadline(client))
    delivery.run()
    assert delivery.problem is not None
    assert (delivery.problem.name, delivery.problem.status, delivery.attempts) == (name, shown, 1)
    assert delivery.problem.headers == {}


def test_run_refused_token_is_fetched_again_once() -> None:
    client = Client([Response(401), Response(200, DATASET)])
    delivery = create(client, tokens=["old-CANARY", "new-CANARY"])
    delivery.run()
    assert delivery.response == Response(200, DATASET)
    assert [token for _, token in client.sent] == ["old-CANARY", "new-CANARY"]
    assert [token.text for token in delivery.tokens] == ["old-CANARY", "new-CANARY"]


def test_run_hidden_dataset_is_tried_with_a_fresh_token() -> None:
    client = Client([HIDDEN, Response(200, DATASET)])
    delivery = create(client, tokens=["CANARY-old", "CANARY-new"])
    delivery.run()
    assert delivery.response == Response(200, DATASET)
    assert [token for _, token in client.sent] == ["CANARY-old", "CANARY-new"]


def test_run_hidden_dataset_with_the_same_token_is_the_404() -> None:
    client = Client([HIDDEN])
    delivery = create(client)
    delivery.run()
    assert delivery.problem is not None
    assert (delivery.problem.name, delivery.problem.status) == ("upstream-rejected", 404)
    assert delivery.note is not None
    assert "APIFY_TOKEN" in delivery.note
    assert len(client.sent) == 1


TAGS = Update("data.world", "acme/products", {"tags": {"add": ["new"], "remove": ["old"]}})
DATA_WORLD_TOKEN = {"DATA_WORLD_TOKEN": "env:A"}


def test_run_change_of_tags_reads_and_writes_the_list() -> None:
    client = Client([Response(200, {"id": "products", "tags": ["mine", "old"]}), Response(200, {"message": "ok"})])
    delivery = create(client, TAGS, environ=DATA_WORLD_TOKEN)
    delivery.run()
    assert delivery.response == Response(200, {"message": "ok"})
    (read, _), (write, _) = client.sent
    assert (read.method, read.body) == ("GET", None)
    assert (write.method, write.body) == ("PATCH", {"tags": ["mine", "new"]})
    assert len(delivery.tokens) == 1


def test_run_change_of_tags_without_a_difference_writes_nothing() -> None:
    client = Client([Response(200, {"id": "products", "tags": ["new"]})])
    delivery = create(client, TAGS, environ=DATA_WORLD_TOKEN)
    delivery.run()
    assert delivery.response == Response(200, {"unchanged": True})
    assert len(client.sent) == 1


@pytest.mark.parametrize(("status", "name"), [(404, "upstream-rejected"), (403, "upstream-denied")])
def test_run_change_of_tags_of_an_unreadable_record_is_its_problem(status: int, name: str) -> None:
    client = Client([Response(status, {"message": "no"})])
    delivery = create(client, TAGS, environ=DATA_WORLD_TOKEN)
    delivery.run()
    assert delivery.problem is not None
    assert delivery.problem.name == name
    assert len(client.sent) == 1


def test_run_change_of_tags_with_a_refused_token_reads_again() -> None:
    outcomes: list[Response | requests.RequestException] = [
        Response(401), Response(200, {"id": "products", "tags": []}), Response(200, {"message": "ok"})
    ]  # fmt: skip
    client = Client(outcomes)
    delivery = create(client, TAGS, tokens=["CANARY-old", "CANARY-new"], environ=DATA_WORLD_TOKEN)
    delivery.run()
    assert [token for _, token in client.sent] == ["CANARY-old", "CANARY-new", "CANARY-new"]
    assert delivery.response == Response(200, {"message": "ok"})


def test_run_change_of_tags_of_an_unreadable_record_writes_nothing() -> None:
    client = Client([Response(204, None, is_empty=True)])
    delivery = create(client, TAGS, environ=DATA_WORLD_TOKEN)
    delivery.run()
    assert delivery.problem is not None
    assert (delivery.problem.name, delivery.problem.retryable) == ("upstream-failed", True)
    assert len(client.sent) == 1


def test_run_successful_read_does_not_end_an_outage(clock: Clock) -> None:
    outcomes: list[Response | requests.RequestException] = [
        Response(200, {"id": "products", "tags": []}), *[Response(500)] * 2
    ]  # fmt: skip
    client = Client(outcomes)
    delivery = create(client, TAGS, environ=DATA_WORLD_TOKEN, clock=clock)
    budget = delivery._context.retry_budgets["data.world"]
    budget.add_failure(0)
    clock.now += 4
    budget.add_failure(0)
    clock.now += 2
    delivery.run()
    assert len(client.sent) == 2


def test_merges_of_one_dataset_run_one_at_a_time() -> None:
    merges = Merges()
    with merges.one_at_a_time("a", Deadline.after(60)):
        with merges.one_at_a_time("b", Deadline.after(60)):
            pass
        with pytest.raises(DeadlineExceededError), merges.one_at_a_time("a", Deadline(0)):
            pass
    with merges.one_at_a_time("a", Deadline(0)):
        pass


def test_run_read_of_an_update_with_post_is_repeatable() -> None:
    source: JSON = {"url": "https://example.com/a", "method": "POST"}
    update = Update("data.world", "acme/products", {**TAGS.body, "files": [{"name": "a", "source": source}]})
    client = Client([Response(200, {"id": "products", "tags": []}), Response(200, {"message": "ok"})])
    create(client, update, environ=DATA_WORLD_TOKEN).run()
    assert client.repeatable == [True, False]


def test_run_refused_token_that_has_not_changed_is_not_sent_again() -> None:
    client = Client([Response(403)])
    delivery = create(client)
    delivery.run()
    assert delivery.problem is not None
    assert (delivery.problem.name, len(client.sent)) == ("upstream-denied", 1)


@pytest.mark.parametrize("status", [401, 403])
def test_run_refused_token_notes_the_setting_for_the_log(status: int) -> None:
    delivery = create(Client([Response(status)]))
    delivery.run()
    assert delivery.note is not None
    assert delivery.note.startswith("The token comes from APIFY_TOKEN. Check that the token is valid")
    assert delivery.problem is not None
    assert delivery.problem.detail == f"Apify returned {status}."


def test_run_other_problem_has_no_note() -> None:
    delivery = create(Client([Response(406)]))
    delivery.run()
    assert (delivery.problem and delivery.problem.name, delivery.note) == ("upstream-denied", None)


POST_UPDATE = Update(
    "data.world",
    "acme/products",
    {"files": [{"name": "a.csv", "source": {"url": "https://example.com/run", "method": "POST"}}]},
)
DATA_WORLD_TOKEN = {"DATA_WORLD_TOKEN": "env:B", "B": "token-CANARY"}


@pytest.mark.parametrize(
    "outcome",
    [
        *[Response(status, {}, 1) for status in (408, 500, 502, 503, 504, 599)],
        Response(200, "<html>", defect="The body is not JSON."),
        requests.exceptions.ConnectionError(),
        requests.exceptions.ChunkedEncodingError(),
        ResponseTimeoutError(None),
        InvalidResponseError("isn't HTTP", None),
    ],
    ids=str,
)
def test_run_post_update_with_unknown_outcome_is_not_retried(outcome: Response | requests.RequestException) -> None:
    client = Client([outcome])
    delivery = create(client, POST_UPDATE, environ=DATA_WORLD_TOKEN)
    delivery.run()
    problem = delivery.problem
    assert problem is not None
    assert (problem.name, problem.status, problem.retryable) == ("upstream-outcome-unknown", 502, False)
    assert (problem.headers, len(client.sent)) == ({}, 1)
    # The transport must not send the request twice either.
    assert client.repeatable == [False]


@pytest.mark.parametrize("outcome", [Response(429), NotSentError("timeout")], ids=str)
def test_run_post_update_that_was_not_carried_out_is_retried(outcome: Response | requests.RequestException) -> None:
    client = Client([outcome, Response(200, {})])
    delivery = create(client, POST_UPDATE, environ=DATA_WORLD_TOKEN)
    delivery.run()
    assert (delivery.response, delivery.attempts) == (Response(200, {}), 2)
    assert client.repeatable == [False, False]


def test_run_outage_limits_the_calls_of_all_events(clock: Clock) -> None:
    client = Client([])
    first = create(client, clock=clock)

    def run_failing_event() -> int:
        delivery = Delivery(RENAME, Deadline.after(60), first._context)
        client.outcomes = [*[Response(500)] * 3, MISSING, MISSING]
        delivery.run()
        return delivery.attempts

    # Before the outage, each event is retried. The 404 shows that the provider works.
    assert [run_failing_event() for _ in range(3)] == [4] * 3

    def run_event_in_outage() -> int:
        delivery = Delivery(RENAME, Deadline.after(60), first._context)
        client.outcomes = [Response(500)] * 9
        before = len(client.sent)
        delivery.run()
        assert delivery.problem is not None
        assert delivery.problem.name == "upstream-failed"
        return len(client.sent) - before

    first._context.retry_budgets["apify"].add_failure(0)
    clock.now += 5
    assert [run_event_in_outage() for _ in range(20)] == [1, 1, 1, 1, 2] * 4


def test_run_outage_begins_during_the_wait_ends_the_retries(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client([Response(500)] * 3)
    delivery = create(client, clock=clock)

    def sleep(_seconds: float) -> None:
        clock.now += 5

    monkeypatch.setattr("handlers.delivery.delivery.time.sleep", sleep)
    delivery.run()
    assert (delivery.attempts, delivery.problem and delivery.problem.name) == (1, "upstream-failed")


@pytest.mark.parametrize("outcome", [Response(200, DATASET), Response(400)])
def test_run_provider_that_works_again_ends_the_outage(clock: Clock, outcome: Response) -> None:
    client = Client([outcome])
    delivery = create(client, clock=clock)
    budget = delivery._context.retry_budgets["apify"]
    budget.add_failure(0)
    clock.now += 5
    assert not budget.has_retry()
    delivery.run()
    assert budget.has_retry()


def test_run_damaged_token_sets_problem_without_its_text() -> None:
    delivery = create(Client([]), environ={"A": "two CANARY words"})
    delivery.run()
    assert delivery.problem is not None
    assert delivery.problem.name == "secret-unusable"
    assert "CANARY" not in str(delivery.problem)


def test_run_unforeseen_exception_is_a_fault() -> None:
    delivery = create(Client([]))
    delivery.run()
    assert isinstance(delivery.fault, IndexError)
    assert delivery.problem is not None
    assert delivery.problem.name == "internal-error"


def test_run_lost_rename_is_confirmed() -> None:
    client = Client([Response(500), MISSING, Response(200, DATASET)])
    delivery = create(client)
    delivery.run()
    assert delivery.response == Response(200, DATASET)
    assert client.sent[-1][0] == Request("GET", "https://api.apify.com/v2/datasets/jane~new")
    assert (delivery.attempts, delivery.upstream_status) == (2, 200)


@pytest.mark.parametrize("confirmation", [Response(200, {"data": {"name": "other"}}), Response(404), Response(403)])
def test_run_unconfirmed_rename_is_the_404(confirmation: Response) -> None:
    delivery = create(Client([Response(500), MISSING, confirmation]))
    delivery.run()
    assert delivery.problem is not None
    assert delivery.problem.status == 404
    assert delivery.problem.detail.endswith("An earlier attempt had an unknown outcome: it may have succeeded.")
    assert (delivery.attempts, delivery.upstream_status) == (2, 404)


def test_run_404_of_the_first_attempt_is_not_confirmed() -> None:
    delivery = create(Client([MISSING]))
    delivery.run()
    assert delivery.problem is not None
    assert delivery.problem.detail == "Apify returned 404: Dataset was not found"


def test_preview_sends_nothing() -> None:
    client = Client([])
    delivery = create(client)
    delivery.preview()
    assert delivery.request == Request("PUT", "https://api.apify.com/v2/datasets/jane~old", {"name": "new"})
    assert (client.sent, delivery.problem) == ([], None)


def test_missing_token_message_names_the_variable() -> None:
    context = create(Client([]))._context
    assert context.missing_token_message(RENAME) is None
    message = context.missing_token_message(Update("data.world", "acme/products", {}))
    assert message == "The function has no token for data.world. Set DATA_WORLD_TOKEN."
