"""The function: the routes, the order of the checks, and a response to every request."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from flask import Request, Response

from handlers import VERSION, hooks, senders
from handlers.deadline import Deadline
from handlers.delivery.concurrent import Bulkheads, preview_all, run_all
from handlers.delivery.delivery import Delivery, DeliveryContext
from handlers.hooks import Config, Hook, Ignored
from handlers.hooks.templates.limits import Budget
from handlers.inbound.page import accepts_page, page_response
from handlers.inbound.request import CLOUD_EVENT, InboundRequest
from handlers.inbound.request_log import RequestLog, joined_names
from handlers.inbound.response import (
    DEFAULT_RETRY_AFTER,
    empty_response,
    hook_status,
    json_response,
    leave_body_unread,
    preview_body,
    problem_response,
    queued_items,
    redact,
    result_items,
)
from handlers.inbound.timeouts import ConnectionWatchdog
from handlers.logs import LOGGER
from handlers.providers.base import event_schemas, mask_updates
from handlers.queue.identity import GoogleIdentity
from handlers.queue.queue import MAX_PUSH_BYTES, Queue
from handlers.senders.authenticate import authenticate
from handlers.senders.delivery_id import delivery_id, standard_id
from handlers.senders.shared_secrets import SignedRequest
from schemas import cloud_event
from schemas.event import Update, printable_id, read_event, valid_reference
from schemas.problem import (
    BusyError,
    InternalError,
    InvalidEventError,
    MethodNotAllowedError,
    NotAllowedError,
    Problem,
    RelayError,
    SecretUnusableError,
    UnknownHookError,
    UnknownRouteError,
)
from schemas.pubsub import PushIdentity, PushMessage, read_push
from schemas.queued_update import QueuedUpdate, read_queued_update
from schemas.secret_reference import SecretReference
from schemas.strict_json import JSON, parse_object, parse_payload

_READ_METHODS = ("GET", "HEAD")
# A body takes eight times its size in memory while the function processes the event (measured). An instance has enough
# memory for 32 large bodies, but not for one large body per thread.
_MAX_LARGE_BODIES = 32

Endpoint: TypeAlias = Callable[[InboundRequest, RequestLog], Response]


class Relay:
    """The function, which returns a response to every request, and writes a log line about every request."""

    def __init__(
        self,
        config: Config,
        context: DeliveryContext,
        openapi: bytes | None,
        identity: GoogleIdentity,
        queue: Queue | None = None,
    ) -> None:
        """Create the function. `openapi` is the OpenAPI document, or None if the document is unavailable."""
        self._config = config
        self._context = context
        self._identity = identity
        self._queue = queue
        self._settings = context.settings
        self._schemas = event_schemas(context.providers)
        self._watchdog = ConnectionWatchdog(self._settings.deadline_seconds)
        self._large_bodies = threading.BoundedSemaphore(_MAX_LARGE_BODIES)
        self._bulkheads = Bulkheads(context.providers, self._settings.provider_concurrency, self._settings.threads)
        # The endpoint and the allowed methods of each path. The paths have no trailing slash.
        self._routes: dict[str, tuple[Endpoint, tuple[str, ...]]] = {
            "": (self._native_event, ("POST",)),
            "/health": (_health, _READ_METHODS),
            **{f"/hooks/{name}": (partial(self._hook, hook), ("POST",)) for name, hook in config.hooks.items()},
        }
        if queue:
            self._routes["/deliveries"] = (partial(self._delivery, queue), ("POST",))
        if openapi:
            self._routes["/openapi.json"] = (partial(_openapi, openapi), _READ_METHODS)

    def __call__(self, request: Request) -> Response:
        """Return the response to `request`. Every exception becomes a problem response and a log line."""
        if self._watchdog.has_closed(request):
            return empty_response(400)
        inbound = InboundRequest(request)
        log = RequestLog(inbound, self._settings.project)
        problem: Problem | None = None
        try:
            inbound.delivery_id = printable_id(standard_id(inbound.headers))
            endpoint = self._route(inbound)
            inbound.check_query()
            response = endpoint(inbound, log)
        except RelayError as error:
            problem = error.problem
            if isinstance(error, InvalidEventError):
                log.dataset = log.dataset or error.dataset
            log.cause = error.cause
        except Exception as fault:
            log.fault, problem = fault, InternalError().problem
        if problem:
            # An operator can't correct a failure that an unauthenticated caller causes.
            log.outcome = "failed" if problem.status >= 500 and log.is_authenticated else "rejected"
            response = problem_response(problem)
        problem = problem or log.problem
        inbound.delivery_id = inbound.delivery_id or str(uuid.uuid4())
        response.headers["Relay-Delivery"] = inbound.delivery_id
        has_unread_body = not inbound.drain(self._watchdog)
        if has_unread_body:
            leave_body_unread(response)
        self._watchdog.responding(request, response, has_unread_body=has_unread_body)
        log.write(response.status_code, problem)
        return response

    def _route(self, inbound: InboundRequest) -> Endpoint:
        """Return the endpoint of a request. A trailing slash in the path makes no difference.

        Raises:
            UnknownRouteError: The path does not exist.
            MethodNotAllowedError: The path exists, but does not support the method.
        """
        path = inbound.path.removesuffix("/")
        route = self._routes.get(path)
        if route is None:
            raise UnknownRouteError("This path does not exist. Send events to POST / or to POST /hooks/NAME.")
        endpoint, methods = route
        if not path and inbound.request.method in _READ_METHODS and accepts_page(inbound.request):
            return self._page
        if inbound.request.method not in methods:
            allowed = ", ".join(methods)
            remedy = f"Use {'one of: ' if len(methods) > 1 else ''}{allowed}."
            raise MethodNotAllowedError(f"This path doesn't support the method. {remedy}", headers={"Allow": allowed})
        return endpoint

    def _page(self, _inbound: InboundRequest, _log: RequestLog) -> Response:
        """Return the page that a browser shows for the address of the function."""
        return page_response(VERSION, has_openapi="/openapi.json" in self._routes)

    def _native_event(self, inbound: InboundRequest, log: RequestLog) -> Response:
        """Carry out the one update that a native event contains."""
        with self._received(inbound) as (body, deadline):
            inbound.check_content_encoding()
            inbound.check_json_media_type()
            self._authenticate(senders.NATIVE_SENDERS, self._settings.secrets, inbound, log, body, deadline)
            payload = parse_object(body)
            try:
                update = self._read_native_event(inbound, payload)
            except InvalidEventError:
                event = payload if "provider" in payload else payload.get("data")
                log.provider, log.dataset = valid_reference(event, self._schemas)
                raise
            log.add_updates([update])
            parameters = inbound.parameters()
            if not self._config.allows(update):
                raise NotAllowedError(
                    f"relay.yaml does not allow native events to update {update.provider}:{update.dataset}. "
                    "To allow such updates, add the dataset to events.allow."
                )
            if message := self._context.missing_token_message(update):
                raise InvalidEventError(message, errors={"provider": [message]})
            if self._queue and not (parameters.dry_run or parameters.wait):
                return self._enqueue(self._queue, [update], inbound, deadline, log)
            (delivery,) = self._deliver([update], deadline, log, dry_run=parameters.dry_run)
        if delivery.problem:
            return problem_response(delivery.problem)
        if parameters.dry_run:
            return json_response(200, {"dry_run": True, **preview_body(delivery)})
        response = delivery.response
        assert response is not None
        return empty_response(response.status) if response.is_empty else json_response(response.status, response.body)

    def _read_native_event(self, inbound: InboundRequest, payload: dict[str, JSON]) -> Update:
        # The ID of the event names the delivery even if the event breaks a rule.
        _set_delivery_id(inbound, payload)
        if inbound.request.mimetype == CLOUD_EVENT:
            payload = cloud_event.from_structured(payload)
        elif cloud_event.is_envelope(payload):
            raise cloud_event.wrong_media_type_error()
        elif attributes := cloud_event.binary_attributes(inbound.text_headers):
            _set_delivery_id(inbound, attributes)
            payload = cloud_event.from_binary(attributes, payload)
        return read_event(payload, self._schemas)

    def _hook(self, hook: Hook, inbound: InboundRequest, log: RequestLog) -> Response:
        """Carry out the updates that `hook` derives from a sender's own payload."""
        log.hook = hook.name
        sender = hook.sender
        assert isinstance(sender, senders.Sender)
        inbound.delivery_id = delivery_id(sender, inbound.headers) or inbound.delivery_id
        with self._received(inbound) as (body, deadline):
            inbound.check_content_encoding()
            inbound.check_not_form()
            if hook.identity:
                self._authenticate_push(hook.identity, inbound, log, deadline)
            else:
                self._authenticate((sender,), hook.secrets, inbound, log, body, deadline)
            log.provider = joined_names(update.provider for update in hook.updates)
            payload = parse_payload(body)
            inbound.delivery_id = delivery_id(sender, inbound.headers, payload) or inbound.delivery_id
            parameters = inbound.parameters()
            budget = Budget(self._settings.max_body_bytes, expired=deadline.has_passed)
            result = hooks.evaluate(hook, inbound.text_headers, payload, self._schemas, budget, log.warnings.append)
            if isinstance(result, Ignored):
                log.outcome, log.message, log.is_warning = "ignored", result.reason, result.is_warning
                return json_response(200, {"ignored": result.reason})
            log.add_updates(result)
            self._check_tokens(result)
            wait = hook.wait if parameters.wait is None else parameters.wait
            if self._queue and not (parameters.dry_run or wait):
                return self._enqueue(self._queue, result, inbound, deadline, log)
            deliveries = self._deliver(result, deadline, log, dry_run=parameters.dry_run)
        problems = [delivery.problem for delivery in deliveries if delivery.problem]
        status, headers = hook_status(problems)
        content = {"results": result_items(deliveries)}
        return json_response(status, {"dry_run": True, **content} if parameters.dry_run else content, headers=headers)

    def _enqueue(
        self, queue: Queue, updates: Sequence[Update], inbound: InboundRequest, deadline: Deadline, log: RequestLog
    ) -> Response:
        """Publish the updates of an event, and return 202 once the queue has all of them."""
        # Reject an event with too many credentials now, while the sender learns of it.
        mask_updates(updates, self._context.providers)
        inbound.delivery_id = inbound.delivery_id or str(uuid.uuid4())
        message_ids = queue.enqueue(updates, inbound.delivery_id, log.hook, deadline)
        log.outcome = "queued"
        return json_response(202, {"queued": queued_items(updates, message_ids)})

    def _delivery(self, queue: Queue, inbound: InboundRequest, log: RequestLog) -> Response:
        """Carry out an update that comes back from the queue.

        Pub/Sub removes the message from the queue after a 204, and sends the message again after any other status.
        """
        log.sender = "queue"
        inbound.check_length(MAX_PUSH_BYTES)
        inbound.check_json_media_type()
        deadline = Deadline.after(queue.settings.delivery_deadline_seconds)
        # The ID token doesn't depend on the body. An unauthenticated caller can't make the function read a large body.
        self._authenticate_push(queue.settings.identity, inbound, log, deadline)
        with self._received(inbound, MAX_PUSH_BYTES) as (body, _):
            message = read_push(parse_payload(body))
            log.message_id, log.age = message.message_id, message.age(time.time())
            problem, attempts = self._deliver_message(queue, message, inbound, deadline, log)
            if problem is None:
                return empty_response(204)
            log.outcome, log.problem = "failed", problem
            if reason := queue.reason_to_remove(problem, log.age, attempts):
                try:
                    queue.publish_dead_letter(message, reason, problem)
                except RelayError as error:
                    problem, log.cause = error.problem, error.cause
                except Exception as fault:
                    problem, log.fault = InternalError().problem, fault
                else:
                    log.outcome = reason
                    return empty_response(204)
        headers = {"Retry-After": str(DEFAULT_RETRY_AFTER), **problem.headers}
        return problem_response(replace(problem, status=503, headers=headers))

    def _deliver_message(
        self, queue: Queue, message: PushMessage, inbound: InboundRequest, deadline: Deadline, log: RequestLog
    ) -> tuple[Problem | None, int]:
        """Carry out the update in a message. Return its problem, or None after a success, and the number of calls."""
        try:
            queued = read_queued_update(message.data, self._schemas)
            inbound.delivery_id, log.hook = queued.delivery_id, queued.hook
            log.add_updates([queued.update])
            update = self._with_hook_token(queued)
            if missing := self._context.missing_token_message(update):
                raise SecretUnusableError(missing)
            with queue.slot(update.provider):
                (delivery,) = self._deliver([update], deadline, log, is_repeat=True)
        except RelayError as error:
            log.cause = error.cause
            return error.problem, 0
        except Exception as fault:
            # After a while, park an update that causes a fault of the function.
            log.fault = fault
            return InternalError().problem, 0
        if delivery.problem:
            queue.note_wait(update.provider, delivery.problem)
        return delivery.problem, delivery.attempts

    def _with_hook_token(self, queued: QueuedUpdate) -> Update:
        """Return the update of a message, with the token that its hook in relay.yaml has for the update.

        Raises:
            UnknownHookError: relay.yaml no longer has the hook, or the hook no longer has this token.
        """
        update = queued.update
        if queued.hook is None:
            return update
        hook = self._config.hooks.get(queued.hook)
        template = next(iter(hook.updates[update.position :]), None) if hook else None
        if template is None or template.provider != update.provider or template.token is None:
            raise UnknownHookError(
                f"relay.yaml has no token for updates.{update.position} of the hook {queued.hook}. Restore the hook, "
                "or wait until the update is parked."
            )
        return replace(update, token=template.token)

    def _check_tokens(self, updates: Sequence[Update]) -> None:
        """Check that every update has a token, before the function sends the first update.

        Raises:
            InvalidEventError: An update has no token.
        """
        messages = {update.position: self._context.missing_token_message(update) for update in updates}
        errors = {f"updates.{position}.provider": [message] for position, message in messages.items() if message}
        if errors:
            raise InvalidEventError(
                "An update of the hook has no token. See errors for the setting of each missing token.", errors=errors
            )

    def _deliver(
        self,
        updates: Sequence[Update],
        deadline: Deadline,
        log: RequestLog,
        *,
        dry_run: bool = False,
        is_repeat: bool = False,
    ) -> list[Delivery]:
        """Carry out the updates of an event, or preview them in a dry run, and return the redacted deliveries.

        With `is_repeat`, earlier deliveries may have carried out the updates.
        """
        masked = mask_updates(updates, self._context.providers)
        deliveries = [Delivery(update, deadline, self._context, is_repeat=is_repeat) for update in updates]
        if dry_run:
            preview_all(deliveries, self._settings.provider_concurrency)
        else:
            run_all(deliveries, self._bulkheads, deadline)
        redact(deliveries, masked, deadline)
        log.dry_run = dry_run
        if any(delivery.problem for delivery in deliveries):
            log.outcome = "failed"
        else:
            log.outcome = "dry_run" if dry_run else "delivered"
        log.add(deliveries)
        return deliveries

    @contextmanager
    def _received(self, inbound: InboundRequest, max_bytes: int | None = None) -> Iterator[tuple[bytes, Deadline]]:
        """Provide the body of a request, and a deadline relative to the arrival of the body.

        The body has at most `max_bytes` bytes, by default RELAY_MAX_BODY_BYTES. A large body occupies one of the
        instance's slots for large bodies until the end of the `with` statement. A request takes the slot once that much
        of its body has arrived: a caller that sends nothing occupies no slot.

        Raises:
            BusyError: All slots for large bodies are occupied.
            BodyTooLargeError, BodyTimeoutError, InvalidJSONError: The body can't be read.
        """
        with ExitStack() as stack:

            def occupy_slot() -> None:
                if not self._large_bodies.acquire(blocking=False):
                    raise BusyError(
                        f"{_MAX_LARGE_BODIES} large bodies are in progress, which is the limit of this instance. "
                        "Send the event again later."
                    )
                stack.callback(self._large_bodies.release)

            body = inbound.read_body(max_bytes or self._settings.max_body_bytes, self._watchdog, occupy_slot)
            yield body, Deadline.after(self._settings.deadline_seconds)

    def _authenticate(
        self,
        expected: Sequence[senders.Sender],
        references: Sequence[SecretReference],
        inbound: InboundRequest,
        log: RequestLog,
        body: bytes,
        deadline: Deadline,
    ) -> None:
        if self._settings.allow_unauthenticated:
            log.is_authenticated = True
            return
        query = inbound.request.query_string.decode("latin-1")
        signed = SignedRequest(inbound.headers, query, body, time.time())
        secrets = self._context.secrets.iter_secrets(references, deadline)
        log.sender = authenticate(expected, signed, secrets, LOGGER.warning)
        log.is_authenticated = True

    def _authenticate_push(
        self, identity: PushIdentity, inbound: InboundRequest, log: RequestLog, deadline: Deadline
    ) -> None:
        self._identity.authenticate(inbound.headers, identity, deadline)
        log.is_authenticated = True


def _set_delivery_id(inbound: InboundRequest, attributes: dict[str, JSON]) -> None:
    event_id = attributes.get("id")
    inbound.delivery_id = printable_id(event_id if isinstance(event_id, str) else None) or inbound.delivery_id


def _health(_inbound: InboundRequest, _log: RequestLog) -> Response:
    return json_response(200, {"status": "ok"})


def _openapi(document: bytes, _inbound: InboundRequest, _log: RequestLog) -> Response:
    return Response(document, content_type="application/json")
