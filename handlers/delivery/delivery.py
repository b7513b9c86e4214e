"""The delivery of one update: its token, its attempts within the deadline, and its outcome."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

import requests

from handlers.deadline import Deadline
from handlers.delivery import retry
from handlers.delivery.http_client import HTTPClient
from handlers.delivery.retry import Failure, RetryBudget
from handlers.providers.base import Provider, Request, Response, response_error
from handlers.secret_store.store import Secret, SecretStore
from schemas.event import Update
from schemas.problem import (
    DeadlineExceededError,
    InternalError,
    Problem,
    RelayError,
    SecretUnusableError,
    UpstreamRejectedError,
)
from schemas.secret_reference import SecretReference
from schemas.settings import Settings, provider_variable


class Merges:
    """The updates that read a record, change a list, and write the list: one at a time for each dataset.

    Two such updates of this instance would otherwise overwrite each other's changes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Each lock exists as long as an update uses the lock.
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    @contextmanager
    def one_at_a_time(self, dataset: str, deadline: Deadline) -> Iterator[None]:
        """Wait until no other update of `dataset` is in progress.

        Raises:
            DeadlineExceededError: The deadline passed first.
        """
        with self._lock:
            lock = self._locks.setdefault(dataset, threading.Lock())
        if not lock.acquire(timeout=deadline.remaining()):
            raise DeadlineExceededError("The deadline passed while another update changed the dataset.")
        try:
            yield
        finally:
            lock.release()


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """The parts that all deliveries of an instance use."""

    settings: Settings
    providers: Mapping[str, Provider]
    secrets: SecretStore
    client: HTTPClient
    #: The bound on the retries of all events, by provider.
    retry_budgets: Mapping[str, RetryBudget]
    merges: Merges

    @classmethod
    def create(cls, settings: Settings, providers: Mapping[str, Provider], secrets: SecretStore) -> "DeliveryContext":
        """Return the context for these settings.

        Raises:
            SettingsError: The environment names unusable certificates, or an unusable proxy.
        """
        return cls(
            settings,
            providers,
            secrets,
            HTTPClient({name: provider.base_url for name, provider in settings.providers.items()}),
            {name: RetryBudget() for name in providers},
            Merges(),
        )

    def token_reference(self, update: Update) -> SecretReference | None:
        """Return the reference to the token for `update`, or None if `update` has no token."""
        return update.token or self.settings.providers[update.provider].token

    def missing_token_message(self, update: Update) -> str | None:
        """Return the error message for an update without a token, or None for an update with a token."""
        if self.token_reference(update):
            return None
        variable = provider_variable(update.provider, "TOKEN")
        return f"The function has no token for {update.provider}. Set {variable}."


class Delivery:
    """One update, the state of its delivery to the provider, and the outcome.

    After `run` or `preview`, exactly one of `response`, `request` (preview only), and `problem` is set.
    """

    def __init__(
        self, update: Update, deadline: Deadline, context: DeliveryContext, *, is_repeat: bool = False
    ) -> None:
        """Create the delivery. With `is_repeat`, an earlier delivery may have carried out the update."""
        self.update = update
        self.attempts = 0
        #: The status of the last response of the provider, if the last attempt had a response.
        self.upstream_status: int | None = None
        self.response: Response | None = None
        #: The request that `run` would send.
        self.request: Request | None = None
        self.problem: Problem | None = None
        #: A sentence about the problem for the operator. The log has the sentence, and the response doesn't.
        self.note: str | None = None
        #: An unforeseen exception.
        self.fault: Exception | None = None
        #: The tokens of this delivery, in the order of their use.
        self.tokens: list[Secret] = []
        self._deadline = deadline
        self._context = context
        self._may_have_succeeded = False
        self._is_repeat = is_repeat

    @property
    def provider(self) -> Provider:
        """The provider of the update."""
        return self._context.providers[self.update.provider]

    def run(self) -> None:
        """Carry out the update, and set `response` or `problem`."""
        self._finish(self._run)

    def preview(self) -> None:
        """Do everything except the call, and set `request` or `problem`."""
        self._finish(self._preview)

    def _finish(self, action: Callable[[], None]) -> None:
        try:
            action()
        except RelayError as error:
            self.problem = error.problem
        except Exception as fault:
            self.problem, self.fault = InternalError().problem, fault

    def _preview(self) -> None:
        self._fetch_token()
        self.request = self.provider.update_request(self._base_url, self.update)

    def _run(self) -> None:
        self.response = self._call_provider()

    def _call_provider(self) -> Response:
        read_request = self.provider.read_request(self._base_url, self.update)
        if read_request is None:
            return self._write(self.update)
        with self._context.merges.one_at_a_time(f"{self.update.provider}:{self.update.dataset}", self._deadline):
            record = self._call_with_fresh_token(read_request)
            if isinstance(record, Failure):
                raise record.error
            merged = self.provider.merged_update(self.update, record.body)
            return Response(200, {"unchanged": True}) if merged is None else self._write(merged)

    def _write(self, update: Update) -> Response:
        """Carry out `update`, which doesn't depend on the record."""
        outcome = self._call_with_fresh_token(self.provider.update_request(self._base_url, update))
        if isinstance(outcome, Response):
            return outcome
        request = self.provider.confirmation_request(self._base_url, update)
        if outcome.status == 404 and (self._may_have_succeeded or (self._is_repeat and request)):
            return self._confirm_rename(outcome.error.problem, request)
        raise outcome.error

    def _call_with_fresh_token(self, request: Request) -> Response | Failure:
        """Send `request`. If the provider refuses the token, and there is a newer token, send `request` once more."""
        token = self.tokens[-1] if self.tokens else self._fetch_token()
        outcome = self._call(request, token)
        if isinstance(outcome, Failure) and outcome.is_token_refused:
            # The provider also refuses a cached token that has been rotated in the meantime.
            fresh = self._fetch_token(refused=token)
            if fresh.text != token.text:
                outcome = self._call(request, fresh)
        if isinstance(outcome, Failure) and outcome.is_token_refused:
            self.note = (
                f"The token comes from {self._token_reference.label}. Check that the token is valid and may change the "
                "dataset, and store a new token if necessary."
            )
        return outcome

    @property
    def _base_url(self) -> str:
        return self._context.settings.providers[self.update.provider].base_url

    @property
    def _token_reference(self) -> SecretReference:
        reference = self._context.token_reference(self.update)
        assert reference is not None
        return reference

    def _fetch_token(self, *, refused: Secret | None = None) -> Secret:
        reference = self._token_reference
        if refused is None:
            token = self._context.secrets.get(reference, self._deadline)
        else:
            token = self._context.secrets.refresh(reference, refused, self._deadline)
        if not (token.text.isascii() and token.text.isprintable() and " " not in token.text):
            raise SecretUnusableError(f"{reference.label} is damaged: a token must be printable ASCII without spaces.")
        self.tokens.append(token)
        return token

    def _call(self, request: Request, token: Secret) -> Response | Failure:
        """Send `request` until an attempt succeeds, a retry can't help or is out of budget, or no time is left."""
        budget = self._context.retry_budgets[self.update.provider]
        is_repeatable = request.body is None or self.provider.is_repeatable(self.update)
        failure: Failure | None = None
        attempts = 0
        while before := self._deadline.remaining():
            if self.attempts == 0:
                budget.add_event()
            elif attempts and not budget.take_retry():
                break
            outcome = self._attempt(request, token, is_repeatable=is_repeatable)
            remaining = self._deadline.remaining()
            if isinstance(outcome, Response):
                # The success of a read doesn't show that the provider carries out updates.
                if request.body is not None:
                    budget.add_success()
                return outcome
            failure = outcome
            attempts += 1
            self._may_have_succeeded |= failure.may_have_succeeded
            if failure.is_rejection:
                budget.add_success()
            else:
                budget.add_failure(before - remaining)
            if failure.may_have_succeeded and not is_repeatable:
                return retry.unrepeatable_failure(self.provider.title, failure)
            delay = retry.next_delay(
                failure,
                attempts,
                remaining,
                last_duration=before - remaining,
                jitter=random.random(),  # noqa: S311 - the jitter spreads the load; it is not a secret
            )
            # Check the budget before the wait, so that no event waits in vain, and again after the wait.
            if delay is None or not budget.has_retry():
                break
            time.sleep(delay)
        detail = f"The deadline passed before the call to {self.provider.title}."
        return failure or Failure(DeadlineExceededError(detail))

    def _attempt(self, request: Request, token: Secret, *, is_repeatable: bool) -> Response | Failure:
        self.attempts += 1
        self.upstream_status = None
        try:
            response = self._context.client.send(
                self.update.provider, request, token.text, self._deadline, is_repeatable=is_repeatable
            )
        except requests.RequestException as error:
            self.upstream_status = getattr(error, "status", None)
            return retry.call_failure(self.provider.title, error)
        self.upstream_status = response.status
        relay_error = response_error(self.provider, response)
        if relay_error is None:
            return response
        return retry.response_failure(
            relay_error, response, is_token_refused=self.provider.refuses_token(response.status, response.body)
        )

    def _confirm_rename(self, problem: Problem, request: Request | None) -> Response:
        """Return the renamed dataset, if an earlier attempt with an unknown outcome has renamed the dataset.

        Raises:
            UpstreamRejectedError: The rename can't be confirmed. `problem` is the provider's 404.
        """
        attempts, upstream_status = self.attempts, self.upstream_status
        if request:
            outcome = self._call(request, self.tokens[-1])
            # The log counts the attempts of the update, without the attempts of the confirmation request.
            self.attempts = attempts
            if isinstance(outcome, Response) and self.provider.confirms(self.update, outcome.body):
                return Response(200, outcome.body)
            self.upstream_status = upstream_status
        assert problem.upstream is not None
        detail = f"{problem.detail.rstrip('.')}. An earlier attempt had an unknown outcome: it may have succeeded."
        raise UpstreamRejectedError(404, detail, upstream=problem.upstream)
