"""HTTP in and out: the routes, the order of the checks, and an answer to everything."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from flask import Request

from handlers import hooks, results, senders
from handlers.answers import Reply, empty_response, json_response, leave_body_unread, problem_response
from handlers.authenticate import authenticate
from handlers.body import (
    CLOUD_EVENT,
    check_encoding,
    check_media_type,
    check_no_form,
    is_dry_run,
    is_out_of_the_way,
    may_be_large,
    read_body,
)
from handlers.deadline import Deadline
from handlers.deliver import Deliverer
from handlers.exchange import Exchange, headers_of
from handlers.patience import Patience, connection_of
from handlers.proofs import Incoming
from handlers.together import Outcome, together
from handlers.tokens import Secrets
from handlers.tries import Progress
from schemas import event as events
from schemas.bounds import Budget
from schemas.config import Config, Hook
from schemas.event import EventSchema, Update
from schemas.problem import (
    Invalid,
    NotAllowed,
    Problem,
    RelayError,
    ShareFull,
    Unexpected,
    UnknownRoute,
    WrongMethod,
)
from schemas.redaction import credentials
from schemas.reference import SecretReference
from schemas.settings import Settings
from schemas.strict_json import JSON, parse_object

T = TypeVar("T")

_READING = ("GET", "HEAD")
# As many as may be large, of a megabyte each, cost 250 MB with all that is made of them, measured; each thread's would
# cost more than an instance has.
_LARGE_AT_ONCE = 32


class Receiver:
    """The function: a request in, an answer out, always."""

    def __init__(
        self,
        settings: Settings,
        config: Config,
        schemas: Mapping[str, EventSchema],
        secrets: Secrets,
        deliverer: Deliverer,
        document: bytes | None,
    ) -> None:
        """`schemas` has, for each provider, the schema of an event for it. `document` is OpenAPI's, if there is one."""
        self._settings = settings
        self._config = config
        self._schemas = schemas
        self._secrets = secrets
        self._deliverer = deliverer
        self._patience = Patience(settings.deadline_seconds)
        self._large_bodies = threading.BoundedSemaphore(_LARGE_AT_ONCE)
        # Each path, without a slash at its end, is one that is known at start: what answers it, and to which methods.
        self._routes: dict[str, tuple[Callable[[Exchange], Reply], tuple[str, ...]]] = {
            "": (self._event, ("POST",)),
            "/health": (self._health, _READING),
            **{f"/hooks/{name}": (partial(self._hook, hook), ("POST",)) for name, hook in config.hooks.items()},
        }
        if document:
            self._routes["/openapi.json"] = (partial(_openapi, document), _READING)

    def __call__(self, request: Request) -> Reply:
        """Answers `request`; whatever goes wrong is an answer too, and a line in the log."""
        headers = headers_of(request)
        exchange = Exchange(request, headers, delivery=events.printable_id(senders.standard_id(headers)))
        problem: Problem | None = None
        try:
            response = self._route(request)(exchange)
        except RelayError as error:
            problem = error.problem
        except Exception as error:
            exchange.fault, problem = error, Unexpected().problem
        finally:
            if exchange.has_large_body:
                self._large_bodies.release()
        if problem:
            exchange.outcome = exchange.outcome or ("failed" if problem.status >= 500 else "rejected")
            response = problem_response(problem)
        exchange.delivery = exchange.delivery or str(uuid.uuid4())
        response.headers["Relay-Delivery"] = exchange.delivery
        unread = not is_out_of_the_way(exchange, self._patience)
        if unread:
            leave_body_unread(response)
        self._patience.answering(connection_of(request), response, unread=unread)
        exchange.log(response.status_code, problem, self._settings.project)
        return response

    def _route(self, request: Request) -> Callable[[Exchange], Reply]:
        # As it came: werkzeug takes several slashes at the beginning for one.
        path: str = request.environ["PATH_INFO"]
        # One slash at the end makes no difference.
        found = self._routes.get(path.removesuffix("/"))
        if found is None:
            raise UnknownRoute("There is nothing at this path. Events go to POST / or to a hook.")
        endpoint, methods = found
        if request.method not in methods:
            allowed = ", ".join(methods)
            raise WrongMethod(f"This path takes {allowed}.", headers={"Allow": allowed})
        return endpoint

    def _health(self, _exchange: Exchange) -> Reply:
        return json_response(200, {"status": "ok"})

    def _event(self, exchange: Exchange) -> Reply:
        """A native event: one update, written by the sender."""
        body, deadline = self._body(exchange)
        check_encoding(exchange)
        check_media_type(exchange.request)
        self._prove(senders.NATIVE, self._settings.secrets, exchange, body, deadline)
        update = self._read(exchange, parse_object(body))
        dry_run = is_dry_run(exchange.request)
        exchange.provider, exchange.dataset = update.provider, update.dataset
        if not self._config.allows(update):
            raise NotAllowed(f"Events may not update {update.provider}:{update.dataset} (events.allow in relay.yaml).")
        if dry_run:
            shown = self._deliverer.rehearse(update, deadline)
            exchange.dry_run, exchange.outcome = True, "ignored"
            return json_response(200, {"dry_run": True, **shown})
        try:
            result = self._deliverer.deliver(update, deadline, exchange.progress)
        except Invalid:
            raise
        except RelayError:
            exchange.outcome = "failed"
            raise
        exchange.outcome = "delivered"
        return empty_response(result.status) if result.empty else json_response(result.status, result.body)

    def _hook(self, hook: Hook, exchange: Exchange) -> Reply:
        """A sender's own payload, and the updates that the hook makes of it."""
        exchange.hook = hook.name
        exchange.delivery = senders.delivery_id(hook.sender, exchange.headers) or exchange.delivery
        body, deadline = self._body(exchange)
        check_encoding(exchange)
        check_no_form(exchange.request)
        self._prove((hook.sender,), hook.secrets, exchange, body, deadline)
        payload = parse_object(body)
        exchange.delivery = senders.delivery_id(hook.sender, exchange.headers, payload) or exchange.delivery
        dry_run = is_dry_run(exchange.request)
        budget = Budget(self._settings.max_body_bytes, expired=lambda: not deadline.remaining())
        is_test = senders.is_test_message(hook.sender, exchange.headers, payload)
        visible = senders.visible_headers(exchange.headers)
        found = hooks.read(hook, payload, visible, self._schemas, budget, is_test=is_test)
        if isinstance(found, hooks.Ignored):
            exchange.outcome, exchange.said, exchange.is_odd = "ignored", found.why, found.is_odd
            return json_response(200, {"ignored": found.why})
        self._check_tokens(found)
        # What is a credential in one update is none to be shown in the answer to another.
        hidden = [each for update in found for each in credentials(dict(update.body))]
        if dry_run:
            exchange.dry_run = True
            shown = self._together(found, exchange, lambda each, _: self._deliverer.rehearse(each, deadline, hidden))
            exchange.outcome = exchange.outcome if exchange.outcome == "failed" else "ignored"
            return self._answer(shown, {"dry_run": True, "results": results.rehearsed(shown)})
        done = self._together(
            found, exchange, lambda each, so_far: self._deliverer.deliver(each, deadline, so_far, hidden)
        )
        return self._answer(done, {"results": results.listed(done)})

    def _together(
        self, updates: Sequence[Update], exchange: Exchange, carry_out: Callable[[Update, Progress], T]
    ) -> list[Outcome[T]]:
        outcomes = together(updates, self._settings.provider_concurrency, carry_out)
        exchange.outcome = "failed" if any(each.problem for each in outcomes) else "delivered"
        exchange.note(outcomes)
        return outcomes

    def _answer(self, outcomes: Sequence[Outcome[Any]], body: dict[str, object]) -> Reply:
        status, headers = results.status(outcomes, time.time())
        return json_response(status, body, headers=headers)

    def _check_tokens(self, updates: Sequence[Update]) -> None:
        """Raises Invalid where one of `updates` has no token: before the first is sent."""
        errors = {}
        for position, update in enumerate(updates):
            try:
                self._deliverer.reference(update)
            except Invalid as error:
                errors[f"updates.{position}.provider"] = [error.problem.detail]
        if errors:
            raise Invalid("An update of the hook has no token.", errors=errors)

    def _body(self, exchange: Exchange) -> tuple[bytes, Deadline]:
        """The body, and the deadline, which counts from when it is there. Raises ShareFull; what read_body raises."""
        if may_be_large(exchange):
            if not self._large_bodies.acquire(blocking=False):
                raise ShareFull("Too many large bodies are under way.")
            exchange.has_large_body = True
        body = read_body(exchange, self._settings.max_body_bytes, self._patience)
        return body, Deadline.after(self._settings.deadline_seconds)

    def _prove(
        self,
        names: Sequence[str],
        references: Sequence[SecretReference],
        exchange: Exchange,
        body: bytes,
        deadline: Deadline,
    ) -> None:
        if not self._settings.allow_unauthenticated:
            query = exchange.request.query_string.decode("latin-1")
            incoming = Incoming(exchange.headers, query, body, time.time())
            exchange.sender = authenticate(names, references, self._secrets, incoming, deadline)

    def _read(self, exchange: Exchange, payload: dict[str, JSON]) -> Update:
        exchange.take_name(payload)
        if exchange.request.mimetype == CLOUD_EVENT:
            payload = events.from_structured(payload)
        elif attributes := events.binary_attributes(exchange.headers):
            exchange.take_name(attributes)
            payload = events.from_binary(attributes, payload)
        return events.read_event(payload, self._schemas).update


def _openapi(document: bytes, _exchange: Exchange) -> Reply:
    return Reply(document, content_type="application/json")
