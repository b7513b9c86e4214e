"""The delivery of one update: its token, its attempts within the deadline, and its outcome."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import requests

from handlers.deadline import Deadline
from handlers.delivery import retry
from handlers.delivery.http_client import HTTPClient
from handlers.delivery.retry import Failure
from handlers.providers.base import Provider, Request, Response, response_error
from handlers.secret_store.store import Secret, SecretStore
from schemas.event import Update
from schemas.problem import (
    BusyError,
    DeadlineExceededError,
    InternalError,
    Problem,
    RelayError,
    SecretUnusableError,
    UpstreamRejectedError,
)
from schemas.secret_reference import SecretReference
from schemas.settings import Settings, provider_variable


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """The parts that all deliveries of an instance use."""

    settings: Settings
    providers: Mapping[str, Provider]
    secrets: SecretStore
    client: HTTPClient
    #: The limit on concurrent calls, by provider: a provider that hangs can't occupy every thread of the instance.
    bulkheads: Mapping[str, threading.BoundedSemaphore]

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
            {name: threading.BoundedSemaphore(settings.provider_concurrency) for name in providers},
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

    def __init__(self, update: Update, deadline: Deadline, context: DeliveryContext) -> None:
        self.update = update
        self.attempts = 0
        #: The status of the last response of the provider, if the last attempt had a response.
        self.upstream_status: int | None = None
        self.response: Response | None = None
        #: The request that `run` would send.
        self.request: Request | None = None
        self.problem: Problem | None = None
        #: An unforeseen exception.
        self.fault: Exception | None = None
        #: The tokens of this delivery, in the order of their use.
        self.tokens: list[Secret] = []
        self._deadline = deadline
        self._context = context
        self._may_have_succeeded = False

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
        self.request = self._update_request()

    def _run(self) -> None:
        bulkhead = self._context.bulkheads[self.update.provider]
        if not bulkhead.acquire(blocking=False):
            limit = self._context.settings.provider_concurrency
            raise BusyError(
                f"{limit} calls to {self.provider.title} are in progress, which is the limit of this instance "
                "(RELAY_PROVIDER_CONCURRENCY). Send the event again later."
            )
        try:
            self.response = self._call_provider()
        finally:
            bulkhead.release()

    def _call_provider(self) -> Response:
        request = self._update_request()
        token = self._fetch_token()
        outcome = self._call(request, token)
        if isinstance(outcome, Failure) and outcome.status in (401, 403):
            # The provider also refuses a cached token that has been rotated in the meantime.
            fresh = self._fetch_token(refused=token)
            if fresh.text != token.text:
                token = fresh
                outcome = self._call(request, token)
        if isinstance(outcome, Response):
            return outcome
        if outcome.status == 404 and self._may_have_succeeded:
            return self._confirm_rename(token, outcome.error.problem)
        raise outcome.error

    def _update_request(self) -> Request:
        return self.provider.update_request(self._base_url, self.update)

    @property
    def _base_url(self) -> str:
        return self._context.settings.providers[self.update.provider].base_url

    def _fetch_token(self, *, refused: Secret | None = None) -> Secret:
        reference = self._context.token_reference(self.update)
        assert reference is not None
        if refused is None:
            token = self._context.secrets.get(reference, self._deadline)
        else:
            token = self._context.secrets.refresh(reference, refused, self._deadline)
        if not (token.text.isascii() and token.text.isprintable() and " " not in token.text):
            raise SecretUnusableError(f"{reference.label} is damaged: a token must be printable ASCII without spaces.")
        self.tokens.append(token)
        return token

    def _call(self, request: Request, token: Secret) -> Response | Failure:
        """Send `request` until an attempt succeeds, a retry can't help, or the deadline leaves no time for a retry."""
        failure: Failure | None = None
        attempts = 0
        while before := self._deadline.remaining():
            outcome = self._attempt(request, token)
            if isinstance(outcome, Response):
                return outcome
            failure = outcome
            attempts += 1
            self._may_have_succeeded |= failure.may_have_succeeded
            remaining = self._deadline.remaining()
            delay = retry.next_delay(
                failure,
                attempts,
                remaining,
                last_duration=before - remaining,
                jitter=random.random(),  # noqa: S311 - the jitter spreads the load; it is not a secret
            )
            if delay is None:
                break
            time.sleep(delay)
        detail = f"The deadline passed before the call to {self.provider.title}."
        return failure or Failure(DeadlineExceededError(detail))

    def _attempt(self, request: Request, token: Secret) -> Response | Failure:
        self.attempts += 1
        self.upstream_status = None
        try:
            response = self._context.client.send(self.update.provider, request, token.text, self._deadline)
        except requests.RequestException as error:
            self.upstream_status = getattr(error, "status", None)
            return retry.call_failure(self.provider.title, error)
        self.upstream_status = response.status
        relay_error = response_error(self.provider, response)
        if relay_error is None:
            return response
        return retry.response_failure(relay_error, response)

    def _confirm_rename(self, token: Secret, problem: Problem) -> Response:
        """Return the renamed dataset, if an earlier attempt with an unknown outcome has renamed the dataset.

        Raises:
            UpstreamRejectedError: The rename can't be confirmed. `problem` is the provider's 404.
        """
        attempts, upstream_status = self.attempts, self.upstream_status
        request = self.provider.confirmation_request(self._base_url, self.update)
        if request:
            outcome = self._call(request, token)
            # The log counts the attempts of the update, without the attempts of the confirmation request.
            self.attempts = attempts
            if isinstance(outcome, Response) and self.provider.confirms(self.update, outcome.body):
                return Response(200, outcome.body)
            self.upstream_status = upstream_status
        assert problem.upstream is not None
        detail = f"{problem.detail} An earlier attempt had an unknown outcome: it may have succeeded."
        raise UpstreamRejectedError(404, detail, upstream=problem.upstream)
