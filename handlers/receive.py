"""HTTP in and out: the routes, the order of the checks, and an answer to everything."""

import time
import uuid
from collections.abc import Callable, Mapping

from flask import Request, Response
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, Rule

from handlers import senders
from handlers.answers import empty_response, json_response, leave_body_unread, problem_response
from handlers.deadline import Deadline
from handlers.deliver import Deliverer
from handlers.exchange import Exchange
from handlers.logs import LOGGER
from handlers.tokens import Secret, Secrets
from schemas import event as events
from schemas.event import Event, EventSchema
from schemas.problem import (
    Invalid,
    NotJSON,
    Problem,
    RelayError,
    SecretUnusable,
    TooLarge,
    Unexpected,
    UnknownRoute,
    Unproven,
    WrongMediaType,
    WrongMethod,
)
from schemas.settings import Settings
from schemas.strict import closest
from schemas.strict_json import JSON, parse_object

_CLOUD_EVENT = "application/cloudevents+json"
_CLOUD_EVENTS = "application/cloudevents-batch+json"


class Receiver:
    """The function: a request in, an answer out, always."""

    def __init__(
        self, settings: Settings, schemas: Mapping[str, EventSchema], secrets: Secrets, deliverer: Deliverer
    ) -> None:
        """`schemas` has, for each provider, the schema of an event for it."""
        self._settings = settings
        self._schemas = schemas
        self._secrets = secrets
        self._deliverer = deliverer
        self._endpoints: Mapping[str, Callable[[Exchange], Response]] = {"event": self._event, "health": self._health}
        self._routes = Map(
            [
                Rule("/", endpoint="event", methods=["POST"]),
                Rule("/health", endpoint="health", methods=["GET"]),
            ],
            strict_slashes=False,
            merge_slashes=False,
        )

    def __call__(self, request: Request) -> Response:
        """Answers `request`; whatever goes wrong is an answer too, and a line in the log."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        named = events.printable_id(senders.delivery_id(headers))
        exchange = Exchange(request, headers, delivery=named or str(uuid.uuid4()))
        problem: Problem | None = None
        fault: Exception | None = None
        try:
            response = self._route(request)(exchange)
        except RelayError as error:
            problem = error.problem
        except Exception as error:
            fault, problem = error, Unexpected("The function failed as it never should; its log says where.").problem
        if problem:
            exchange.outcome = exchange.outcome or ("failed" if problem.status >= 500 else "rejected")
            response = problem_response(problem)
        response.headers["Relay-Delivery"] = exchange.delivery
        if not exchange.body_is_read:
            leave_body_unread(request, response)
        exchange.log(response.status_code, problem, fault, self._settings.project)
        return response

    def _route(self, request: Request) -> Callable[[Exchange], Response]:
        try:
            # werkzeug takes several slashes at the beginning for one.
            if request.environ["PATH_INFO"].startswith("//"):
                raise NotFound
            # Bound to no host: what the Host header says plays no part.
            name, _ = self._routes.bind("relay").match(request.path, method=request.method)
        except NotFound:
            raise UnknownRoute("There is nothing at this path. Events go to POST /.") from None
        except MethodNotAllowed as error:
            allowed = ", ".join(sorted(error.valid_methods or ()))
            raise WrongMethod(f"This path takes {allowed}.", headers={"Allow": allowed}) from None
        return self._endpoints[name]

    def _health(self, _exchange: Exchange) -> Response:
        return json_response(200, {"status": "ok"})

    def _event(self, exchange: Exchange) -> Response:
        body = self._body(exchange)
        deadline = Deadline.after(self._settings.deadline_seconds)
        _check_media_type(exchange.request)
        exchange.sender = self._prove(exchange.headers, body, deadline)
        event = self._read(exchange, parse_object(body))
        dry_run = _is_dry_run(exchange.request)
        exchange.provider, exchange.dataset = event.update.provider, event.update.dataset
        if dry_run:
            shown = self._deliverer.rehearse(event.update, deadline)
            exchange.dry_run, exchange.outcome = True, "ignored"
            return json_response(200, shown)
        return self._deliver(event, deadline, exchange)

    def _deliver(self, event: Event, deadline: Deadline, exchange: Exchange) -> Response:
        try:
            result = self._deliverer.deliver(event.update, deadline, exchange.progress)
        except Invalid:
            raise
        except RelayError:
            exchange.outcome = "failed"
            raise
        exchange.outcome = "delivered"
        return empty_response(result.status) if result.empty else json_response(result.status, result.body)

    def _body(self, exchange: Exchange) -> bytes:
        request, limit = exchange.request, self._settings.max_body_bytes
        too_large = TooLarge(f"The body may be at most {limit} bytes (RELAY_MAX_BODY_BYTES).")
        if (request.content_length or 0) > limit:
            raise too_large
        # Without a length werkzeug stops reading at this, in silence: one byte more than allowed tells.
        request.max_content_length = limit + 1
        try:
            body = request.get_data()
        except Exception:
            # The connection broke, or chunks are no chunks; each server has errors of its own for that.
            raise NotJSON("The body could not be read to its end.") from None
        if len(body) > limit:
            raise too_large
        exchange.body_is_read, exchange.body_bytes = True, len(body)
        if request.content_length not in (None, len(body)):
            raise NotJSON("The body is shorter than its Content-Length.")
        return body

    def _prove(self, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> str | None:
        """The kind of proof that the sender gave. Raises Unproven, or that a secret can't be had."""
        if self._settings.allow_unauthenticated:
            return None
        if not (self._settings.secrets and senders.has_proof(headers)):
            raise Unproven
        trouble: RelayError | None = None
        for reference, found in self._secrets.each(self._settings.secrets, deadline):
            if isinstance(found, Secret):
                try:
                    if proven := senders.prove(headers, body, found.text, time.time()):
                        return proven
                    continue
                except senders.BadKey as error:
                    found = SecretUnusable(f"{reference.label} is damaged: {error}")
            LOGGER.error("%s", found)
            if trouble is None or found.retryable:
                # The sender is told no names: it has not proven that they are its business.
                trouble = type(found)("A secret of this function can't be had; its log says which.")
        raise trouble or Unproven()

    def _read(self, exchange: Exchange, payload: dict[str, JSON]) -> Event:
        _name_delivery(exchange, payload)
        if exchange.request.mimetype == _CLOUD_EVENT:
            payload = events.from_structured(payload)
        elif attributes := events.binary_attributes(exchange.headers):
            _name_delivery(exchange, attributes)
            payload = events.from_binary(attributes, payload)
        return events.read_event(payload, self._schemas)


def _check_media_type(request: Request) -> None:
    if "Content-Encoding" in request.headers:
        raise WrongMediaType("The body must not be encoded: no Content-Encoding is taken.")
    if not request.is_json or request.mimetype == _CLOUD_EVENTS:
        raise WrongMediaType(
            "The Content-Type must be application/json, or application/cloudevents+json for one event."
        )


def _is_dry_run(request: Request) -> bool:
    # Who misspells it wants nothing to be sent.
    for name in request.args:
        if name != "dry_run" and closest(name, ["dry_run"]):
            raise Invalid("dry_run is misspelt.", errors={name: ["Unknown parameter; did you mean dry_run?"]})
    values = request.args.getlist("dry_run")
    if values not in ([], ["true"], ["false"]):
        raise Invalid("dry_run must be true or false.", errors={"dry_run": ["Must be true or false, once."]})
    return values == ["true"]


def _name_delivery(exchange: Exchange, payload: Mapping[str, JSON]) -> None:
    """The event's own id names the delivery, also where the rest of the event breaks a rule."""
    given = payload.get("id")
    exchange.delivery = events.printable_id(given if isinstance(given, str) else None) or exchange.delivery
