"""The routes in the OpenAPI document: what each takes, whose proof, and which answers."""

from collections.abc import Mapping
from typing import Any

from deploy.local.openapi_answers import JSON_TYPE, answer, either, headers, kinds, problems, ref, refused
from handlers.body import CLOUD_EVENT
from handlers.providers.call import PASSED_ON
from handlers.senders import SENDERS
from schemas import problem

_STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")
_DRY_RUN = {
    "name": "dry_run",
    "in": "query",
    "description": "`true`: everything is done but the call to the platform, and the answer is what would be sent. "
    "Given twice or misspelt it is a 422.",
    "schema": {"type": "string", "enum": ["true", "false"]},
}
_EVENT = {
    "id": "run-4711",
    "provider": "data.world",
    "dataset": "acme/products",
    "update": {
        "summary": "Built from 12 480 rows.",
        "tags": ["products", "daily"],
        "files": [{"name": "products.csv", "source": {"url": "https://example.com/products.csv"}}],
    },
}
_RENAMED = {
    "provider": "apify",
    "dataset": "jane~products",
    "update": {"name": "products-2026-11-22", "generalAccess": "ANYONE_WITH_NAME_CAN_READ"},
}
_ENVELOPE = {"specversion": "1.0", "id": "run-4711", "source": "/pipelines/7", "type": "com.example.done"}


def _proofs() -> dict[str, dict[str, Any]]:
    """What proves who calls, by name: of a header that some senders have, the header's own."""
    found: dict[str, dict[str, Any]] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "The secret itself."},
        "basic": {"type": "http", "scheme": "basic", "description": "The secret as user:password."},
        "token": {"type": "apiKey", "in": "query", "name": "token",
                  "description": "The secret itself, from senders that can set nothing but the URL."},
    }  # fmt: skip
    found |= {name: _in_header(name, "Of a Standard Webhooks signature, with the two others.") for name in _STANDARD}
    by_header: dict[str, list[str]] = {}
    for name, sender in SENDERS.items():
        # svix-* stand for webhook-*, and Authorization is said above.
        for header in sorted(sender.proof.headers - {*_STANDARD, "authorization"}):
            if not header.startswith("svix-"):
                by_header.setdefault(header, []).append(name)
    return found | {name: _in_header(name, f"Hooks for {', '.join(senders)}.") for name, senders in by_header.items()}


def _in_header(name: str, about: str) -> dict[str, str]:
    return {"type": "apiKey", "in": "header", "name": name, "description": about}


PROOFS = _proofs()
_SIGNED: dict[str, list[str]] = {name: [] for name in _STANDARD}
_OF_NATIVE: list[dict[str, list[str]]] = [{"bearer": []}, _SIGNED]
_ALONE: list[dict[str, list[str]]] = [{name: []} for name in PROOFS if name not in _STANDARD]
_OF_HOOKS = [_SIGNED, *_ALONE]

_ALWAYS = (problem.WrongMethod, problem.Unexpected)
_BODY = (
    problem.BodyTooSlow, problem.NotJSON, problem.Unproven, problem.TooLarge, problem.WrongMediaType, problem.Invalid,
)  # fmt: skip
_SECRETS = (problem.SecretUnusable, problem.SecretUnreachable, problem.TimeUp)
_CALL = (
    problem.NotAllowed, problem.UpstreamDenied, problem.UpstreamLimited, problem.UpstreamFailed,
    problem.UpstreamRedirected, problem.Unreachable, problem.ShareFull,
)  # fmt: skip


def _body(examples: Mapping[str, Mapping[str, Any]], schemas: Mapping[str, str]) -> dict[str, Any]:
    return {
        "required": True,
        "content": {
            media_type: {"schema": {"$ref": ref(name)}, "examples": examples[media_type]}
            for media_type, name in schemas.items()
        },
    }


def _event() -> dict[str, Any]:
    responses = problems(kinds(*_ALWAYS, *_BODY, *_SECRETS, *_CALL), refused(PASSED_ON))
    # The two bodies of a success have nothing in common: the platform's is whatever the platform says.
    success = {"anyOf": [{"$ref": ref("DryRun")}, {"description": "The platform's own JSON."}]}
    other = {
        "description": "The platform's own success, with its JSON, or empty where that is.",
        "headers": headers(200),
        "content": {JSON_TYPE: {"schema": {"description": "The platform's own JSON."}}},
    }
    examples = {
        JSON_TYPE: {"data.world": {"value": _EVENT}, "apify": {"value": _RENAMED}},
        CLOUD_EVENT: {"structured": {"value": {**_ENVELOPE, "data": _RENAMED}}},
    }
    return {
        "operationId": "sendEvent",
        "summary": "One update for one dataset",
        "description": "A native event, bare or in a CloudEvent. In a CloudEvent's binary mode the body is the bare "
        "event, and `ce-specversion`, `ce-id`, `ce-source`, `ce-type` and, if at hand, `ce-time` are headers. A "
        "CloudEvent's id, type and time stand in place of its data's. Either proof is enough.",
        "security": _OF_NATIVE,
        "parameters": [_DRY_RUN],
        "requestBody": _body(examples, {JSON_TYPE: "Event", CLOUD_EVENT: "CloudEvent"}),
        "responses": {
            "200": answer("The platform's success, or what a dry run would have sent.", success),
            "2XX": other,
            **responses,
        },
    }


def _hook() -> dict[str, Any]:
    responses = problems(kinds(*_ALWAYS, *_BODY, *_SECRETS, problem.UnknownRoute))
    results = {"$ref": ref("HookResults")}
    success = {"oneOf": [results, {"$ref": ref("HookDryRuns")}, {"$ref": ref("Ignored")}]}
    failed = {"anyOf": [results, {"$ref": ref("HookDryRuns")}]}
    repeat = answer("Some update failed, and another try may help.", failed, 503)
    return {
        "operationId": "callHook",
        "summary": "A sender's own payload",
        "description": "The hook of this name makes updates of it. The proof is the one of the hook's sender; dbt's is "
        "in `Authorization`, and `svix-*` may stand for `webhook-*`. The body is JSON whatever the content type says, "
        "but no form.",
        "security": _OF_HOOKS,
        "parameters": [
            {
                "name": "name",
                "in": "path",
                "required": True,
                "description": "The hook's name in relay.yaml.",
                "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"},
            },
            _DRY_RUN,
        ],
        "requestBody": {
            "required": True,
            "content": {JSON_TYPE: {"schema": {"type": "object", "description": "Whatever the sender sends."}}},
        },
        "responses": {
            "200": answer("All updates succeeded, or would be sent by a dry run, or the event is ignored.", success),
            **responses,
            # Where another try may help it is a 503: no time to wait is told here.
            "502": answer("Some update failed, and another try won't help.", failed),
            "503": either(repeat, responses["503"]),
        },
    }


def _get(operation: str, about: str, answered: dict[str, Any], *errors: type[problem.RelayError]) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": about,
        "security": [],
        "responses": {"200": answered, **problems(kinds(*_ALWAYS, *errors))},
    }


ROUTES: Mapping[str, Mapping[str, Any]] = {
    "/": {"post": _event()},
    "/hooks/{name}": {"post": _hook()},
    "/health": {
        "get": _get("health", "Whether the function is up", answer("It is up.", {"$ref": ref("Health")})),
    },
    "/openapi.json": {
        "get": _get(
            "openapi",
            "This document",
            answer("This document.", {"type": "object", "required": ["openapi", "info", "paths"]}),
            problem.UnknownRoute,
        ),
    },
}
