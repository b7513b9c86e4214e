"""The routes in the OpenAPI document: their parameters, bodies, credentials, and responses."""

from collections.abc import Mapping
from typing import Any

from deploy.local.openapi_responses import (
    JSON_TYPE,
    combine_responses,
    headers,
    json_response,
    problem_kinds,
    problem_responses,
    ref,
    rejections,
)
from handlers.inbound.request import CLOUD_EVENT
from handlers.providers.base import PASSED_THROUGH
from handlers.senders import SENDERS
from schemas import problem
from schemas.problem import MEDIA_TYPE

_STANDARD_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_DRY_RUN = {
    "name": "dry_run",
    "in": "query",
    "description": "If `true`, the function does everything except the call to the provider, and returns the request "
    "that it would send. Any value except `true` and `false`, or a repeated parameter, results in a 422.",
    "schema": {"type": "string", "enum": ["true", "false"]},
}
_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "If `true`, the function makes the updates before its response, without the queue. If `false`, the "
    "function uses the queue, even if the hook has `wait: true`. The parameter has no effect on a function without a "
    "queue.",
    "schema": {"type": "string", "enum": ["true", "false"]},
}
_DATA_WORLD_EVENT = {
    "id": "run-4711",
    "provider": "data.world",
    "dataset": "acme/products",
    "update": {
        "summary": "Built from 12 480 rows.",
        "tags": ["products", "daily"],
        "files": [{"name": "products.csv", "source": {"url": "https://example.com/products.csv"}}],
    },
}
_APIFY_EVENT = {
    "provider": "apify",
    "dataset": "jane~products",
    "update": {"name": "products-2026-11-22", "generalAccess": "ANYONE_WITH_NAME_CAN_READ"},
}
_ENVELOPE = {"specversion": "1.0", "id": "run-4711", "source": "/pipelines/7", "type": "com.example.done"}


def _security_schemes() -> dict[str, dict[str, Any]]:
    """Return the security schemes by name. A scheme for a header of a sender has the name of the header."""
    schemes: dict[str, dict[str, Any]] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "The secret."},
        "google": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An ID token of Google. Hooks of google, and pushes of the queue.",
        },
        "basic": {"type": "http", "scheme": "basic", "description": "The secret as user:password."},
        "token": {
            "type": "apiKey",
            "in": "query",
            "name": "token",
            "description": "The secret, for senders that can set only the URL.",
        },
    }
    for name in _STANDARD_HEADERS:
        schemes[name] = _header_scheme(name, "One of the three headers of a Standard Webhooks signature.")
    senders_by_header: dict[str, list[str]] = {}
    for name, sender in SENDERS.items():
        # The schemes `bearer` and `basic` cover Authorization, and the headers svix-* are aliases of webhook-*.
        for header in sorted(sender.verifier.headers - {*_STANDARD_HEADERS, "authorization"}):
            if not header.startswith("svix-"):
                senders_by_header.setdefault(header, []).append(name)
    for header, names in senders_by_header.items():
        schemes[header] = _header_scheme(header, f"Hooks of {', '.join(names)}.")
    return schemes


def _header_scheme(name: str, description: str) -> dict[str, str]:
    return {"type": "apiKey", "in": "header", "name": name, "description": description}


SECURITY_SCHEMES = _security_schemes()
_SIGNATURE: dict[str, list[str]] = {name: [] for name in _STANDARD_HEADERS}
_EVENT_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, _SIGNATURE]
_HOOK_SECURITY = [_SIGNATURE, *({name: []} for name in SECURITY_SCHEMES if name not in _STANDARD_HEADERS)]

_ALWAYS = (problem.MethodNotAllowedError, problem.QueryTooLongError, problem.InternalError)
_REQUEST = (
    problem.BodyTimeoutError,
    problem.InvalidJSONError,
    problem.UnauthenticatedError,
    problem.BodyTooLargeError,
    problem.UnsupportedMediaTypeError,
    problem.UnsupportedContentEncodingError,
    problem.InvalidEventError,
)
_SECRETS = (problem.SecretUnusableError, problem.SecretUnreachableError, problem.DeadlineExceededError)
_QUEUE = (problem.QueueUnusableError, problem.QueueUnreachableError)
_CALL = (
    problem.NotAllowedError,
    problem.UpstreamDeniedError,
    problem.UpstreamRateLimitedError,
    problem.UpstreamFailedError,
    problem.UpstreamRedirectedError,
    problem.UpstreamUnreachableError,
    problem.UpstreamOutcomeUnknownError,
    problem.BusyError,
)


def _request_body(examples: Mapping[str, Mapping[str, Any]], schemas: Mapping[str, str]) -> dict[str, Any]:
    return {
        "required": True,
        "content": {
            media_type: {"schema": {"$ref": ref(name)}, "examples": examples[media_type]}
            for media_type, name in schemas.items()
        },
    }


def _event_operation() -> dict[str, Any]:
    # A dry run and a success share the status. The provider chooses the body of a success.
    success = {"anyOf": [{"$ref": ref("DryRun")}, {"description": "The provider's own JSON."}]}
    other_success = {
        "description": "The provider's own success, with its JSON, or empty if the provider's response is empty.",
        "headers": headers(200),
        "content": {JSON_TYPE: {"schema": {"description": "The provider's own JSON."}}},
    }
    examples = {
        JSON_TYPE: {"data.world": {"value": _DATA_WORLD_EVENT}, "apify": {"value": _APIFY_EVENT}},
        CLOUD_EVENT: {"structured": {"value": {**_ENVELOPE, "data": _APIFY_EVENT}}},
    }
    return {
        "operationId": "sendEvent",
        "summary": "Update one dataset",
        "description": "Receives a native event, bare or in a CloudEvent. In the binary mode of CloudEvents, the body "
        "is the bare event, and `ce-specversion`, `ce-id`, `ce-source`, `ce-type`, and optionally `ce-time` are "
        "headers. The `id`, `type`, and `time` of a CloudEvent take precedence over the same fields of its data. "
        "Either credential is enough.",
        "security": _EVENT_SECURITY,
        "parameters": [_DRY_RUN, _WAIT],
        "requestBody": _request_body(examples, {JSON_TYPE: "Event", CLOUD_EVENT: "CloudEvent"}),
        "responses": {
            "200": json_response("The provider's success, or the request that a dry run would send.", success),
            "202": json_response("The queue has the update.", {"$ref": ref("Queued")}, 202),
            "2XX": other_success,
            **problem_responses(
                problem_kinds(*_ALWAYS, *_REQUEST, *_SECRETS, *_QUEUE, *_CALL), rejections(PASSED_THROUGH)
            ),
        },
    }


def _hook_operation() -> dict[str, Any]:
    responses = problem_responses(problem_kinds(*_ALWAYS, *_REQUEST, *_SECRETS, *_QUEUE, problem.UnknownRouteError))
    results = {"$ref": ref("HookResults")}
    success = {"oneOf": [results, {"$ref": ref("HookDryRuns")}, {"$ref": ref("Ignored")}]}
    failure = {"anyOf": [results, {"$ref": ref("HookDryRuns")}]}
    retryable = json_response("At least one update failed, and another attempt may succeed.", failure, 503)
    return {
        "operationId": "callHook",
        "summary": "Process a sender's own payload",
        "description": "The hook of this name turns the payload into updates. The credential depends on the sender of "
        "the hook. The signature of dbt is in `Authorization`, and `svix-*` headers can replace `webhook-*` headers. "
        "The body is JSON regardless of the content type, except for a form, which is rejected.",
        "security": _HOOK_SECURITY,
        "parameters": [
            {
                "name": "name",
                "in": "path",
                "required": True,
                "description": "The name of the hook in relay.yaml.",
                "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"},
            },
            _DRY_RUN,
            _WAIT,
        ],
        "requestBody": {
            "required": True,
            "content": {JSON_TYPE: {"schema": {"description": "The sender's own payload: any JSON value."}}},
        },
        "responses": {
            "200": json_response(
                "All updates succeeded, or a dry run would send them, or the hook ignores the event.", success
            ),
            "202": json_response("The queue has all updates.", {"$ref": ref("Queued")}, 202),
            **responses,
            # A 502 has no Retry-After, because the status is 503 if another attempt may succeed.
            "502": json_response("At least one update failed, and another attempt can't succeed.", failure),
            "503": combine_responses(retryable, responses["503"]),
        },
    }


def _delivery_operation() -> dict[str, Any]:
    errors = (
        *_ALWAYS,
        *_REQUEST,
        problem.UnknownRouteError,
    )
    return {
        "operationId": "deliver",
        "summary": "Make an update that comes back from the queue",
        "description": "Receives the pushes of Pub/Sub. The path exists only if the function has a queue. The ID token "
        "of Google must have the audience and the account in the settings of the function.",
        "security": [{"google": []}],
        "requestBody": {
            "required": True,
            "content": {JSON_TYPE: {"schema": {"$ref": ref("Push")}}},
        },
        "responses": {
            "204": {
                "description": "The update is done, or left the queue for the dead-letter topic.",
                "headers": headers(204),
            },
            **problem_responses(problem_kinds(*errors)),
            "503": {
                "description": "Another attempt can succeed. Pub/Sub sends the update again.",
                "headers": headers(503),
                "content": {MEDIA_TYPE: {"schema": {"$ref": ref("Problem")}}},
            },
        },
    }


def _get_operation(
    operation_id: str, summary: str, response: Mapping[str, Any], *errors: type[problem.RelayError]
) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": summary,
        "security": [],
        "responses": {"200": response, **problem_responses(problem_kinds(*_ALWAYS, *errors))},
    }


_PAGE = {
    "description": "A page for a browser. Without HTML in the `Accept` header, the response is a 405.",
    "headers": headers(200),
    "content": {"text/html": {"schema": {"type": "string"}}},
}

ROUTES: Mapping[str, Mapping[str, Any]] = {
    "/": {
        "get": _get_operation("page", "Get a page about the function", _PAGE),
        "post": _event_operation(),
    },
    "/hooks/{name}": {"post": _hook_operation()},
    "/deliveries": {"post": _delivery_operation()},
    "/health": {
        "get": _get_operation(
            "health", "Check the health", json_response("The function is running.", {"$ref": ref("Health")})
        ),
    },
    "/openapi.json": {
        "get": _get_operation(
            "openapi",
            "Get this document",
            json_response("This document.", {"type": "object", "required": ["openapi", "info", "paths"]}),
            problem.UnknownRouteError,
        ),
    },
}
