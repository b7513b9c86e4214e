"""An update carried out: its token, tries within the deadline, and the provider's share of the instance."""

import threading
from collections.abc import Iterable, Mapping

from handlers.deadline import Deadline
from handlers.providers.call import Provider, Request, Result
from handlers.retries import Failure
from handlers.tokens import Secret, Secrets
from handlers.tries import Progress, Tries
from handlers.wire import HEADERS, Wire
from schemas.event import Update
from schemas.problem import Invalid, RelayError, SecretUnusable, ShareFull
from schemas.redaction import MARK, credentials, masked
from schemas.redactor import Redactor
from schemas.reference import SecretReference
from schemas.settings import Settings, variable
from schemas.strict_json import JSON


class Deliverer:
    """What outlives a request: the wire, and each provider's share of the instance."""

    def __init__(self, settings: Settings, providers: Mapping[str, Provider], secrets: Secrets) -> None:
        """Raises SettingsError: the environment names certificates that aren't there."""
        self._settings = settings
        self._providers = providers
        self._secrets = secrets
        self._wire = Wire({name: each.base_url for name, each in settings.providers.items()})
        self._shares = {name: threading.BoundedSemaphore(settings.provider_concurrency) for name in providers}

    def deliver(self, update: Update, deadline: Deadline, progress: Progress, hidden: Iterable[str] = ()) -> Result:
        """Carries `update` out. Raises the RelayError that says what went wrong.

        `hidden` are credentials of the same event's other updates: no more to be shown than this one's.
        """
        share = self._shares[update.provider]
        if not share.acquire(blocking=False):
            most = self._settings.provider_concurrency
            raise ShareFull(f"{most} calls to {update.provider} are under way, as many as this instance allows.")
        try:
            return self._delivered(update, deadline, progress, hidden)
        finally:
            share.release()

    def rehearse(self, update: Update, deadline: Deadline, hidden: Iterable[str] = ()) -> dict[str, JSON]:
        """What `deliver` would send, without credentials, and where the token came from.

        Raises what `deliver` raises before the call, but for ShareFull.
        """
        token = self._token(update, deadline)
        request = self._request(update)
        shown: dict[str, JSON] = {
            "method": request.method,
            "url": request.url,
            "headers": {**HEADERS, "Authorization": f"Bearer {MARK}"},
            "body": _redactor(token, update, hidden).json(masked(dict(request.body or {}))),
        }
        return {"request": shown, "token": token.source}

    def reference(self, update: Update) -> SecretReference:
        """Where the token for `update` is. Raises Invalid: nowhere."""
        reference = update.token or self._settings.providers[update.provider].token
        if reference is None:
            name = variable(update.provider, "TOKEN")
            message = f"This function has no token for {update.provider}: {name} is not set."
            raise Invalid(message, errors={"provider": [message]})
        return reference

    def _request(self, update: Update) -> Request:
        return self._providers[update.provider].request(self._base_url(update), update)

    def _base_url(self, update: Update) -> str:
        return self._settings.providers[update.provider].base_url

    def _token(self, update: Update, deadline: Deadline, *, instead_of: Secret | None = None) -> Secret:
        reference = self.reference(update)
        if instead_of is None:
            token = self._secrets.get(reference, deadline)
        else:
            token = self._secrets.renewed(reference, instead_of, deadline)
        if not (token.text.isascii() and token.text.isprintable() and " " not in token.text):
            raise SecretUnusable(f"{reference.label} is damaged: a token is printable ASCII without spaces.")
        return token

    def _delivered(self, update: Update, deadline: Deadline, progress: Progress, hidden: Iterable[str]) -> Result:
        tries = Tries(self._wire, update.provider, self._providers[update.provider], deadline, progress)
        request = self._request(update)
        token = self._token(update, deadline)
        redactor = _redactor(token, update, hidden)
        outcome = tries.persist(request, token.text, redactor)
        if isinstance(outcome, Failure) and outcome.status in (401, 403):
            # A token that was rotated is refused before its time in the cache is up.
            fresh = self._token(update, deadline, instead_of=token)
            if fresh.text != token.text:
                redactor = _redactor(fresh, update, [*hidden, token.text])
                token = fresh
                outcome = tries.persist(request, token.text, redactor)
        if isinstance(outcome, Result):
            return outcome
        if outcome.status == 404 and tries.unknown:
            return self._settled(update, tries, token, redactor, outcome.error)
        raise outcome.error

    def _settled(self, update: Update, tries: Tries, token: Secret, redactor: Redactor, missing: RelayError) -> Result:
        """What became of `update`, which ended in a 404 after a try of which nobody knows what it did.

        Raises `missing`: it can't be seen, or wasn't carried out.
        """
        look = tries.provider.look(self._base_url(update), update)
        if look:
            looking = Tries(self._wire, tries.name, tries.provider, tries.deadline, Progress())
            seen = looking.persist(look, token.text, redactor)
            if isinstance(seen, Result) and tries.provider.is_done(update, seen.body):
                tries.progress.upstream_status = looking.progress.upstream_status
                return Result(200, seen.body)
        missing.problem = missing.problem._replace(
            detail=f"{missing.problem.detail} An earlier try was not answered: it may have been carried out.",
        )
        raise missing


def _redactor(token: Secret, update: Update, hidden: Iterable[str]) -> Redactor:
    return token.redactor.and_also({*credentials(dict(update.body)), *hidden})
