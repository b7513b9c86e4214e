"""Tests of the running function with requests that schemathesis generates from the OpenAPI document.

FUZZ_EXAMPLES is the number of requests of each kind. With `-s`, pytest prints the number of requests by their result.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, Response
from schemathesis.config import GenerationConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.canary import secret
from tests.support.document import STRICT_JSON_DETAILS, conforms, inexpressible_rule, with_precedence
from tests.support.hooks import hook, update, written
from tests.support.relay import Relay, create_cloud, running, unique

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
#: Path, method, and whether the request has a valid credential.
POST_ROUTES = [(path, "POST", has_secret) for path in ("/", "/hooks/{name}") for has_secret in (True, False)]
ROUTES = [*POST_ROUTES, ("/", "GET", False), ("/health", "GET", False), ("/openapi.json", "GET", False)]
HOOKS = ("stores", "renders", "several", "filters")
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BODIES = {"application/json": "Event", "application/cloudevents+json": "CloudEvent"}
#: The problems of a request that breaks a rule of the document.
REJECTIONS = ("invalid-json", "unsupported-media-type", "invalid")
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
IN_BASE64 = "the content of data_base64"
SECRET = secret("hook-")
#: The default of RELAY_MAX_BODY_BYTES.
MAX_BODY_BYTES = 1_048_576


@pytest.fixture(scope="module")
def own_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function of its own, so that no other test waits for these requests."""
    cloud = create_cloud().start()
    cloud.apify.rate_limit = 10**6
    folder = tmp_path_factory.mktemp("fuzz")
    record = cloud.data_world.add(f"acme/{unique('record')}")
    dataset = cloud.apify.add("jane", unique("dataset"))
    hooks = {
        "stores": hook(update("data.world", record, {"properties": {"event": "{{ event }}"}}), secret="env:S"),
        "renders": hook(
            update("apify", "{{ event.dataset }}", {"name": "{{ event.name }}"}),
            update("data.world", record, {"title": "{{ event.title | default('x') }}"}),
            secret="env:S",
        ),
        # The provider rejects the second update.
        "several": hook(
            update("data.world", record, {"summary": "{{ event | tojson }}"}),
            update("data.world", "acme/missing", {"summary": "x"}),
            secret="env:S",
        ),
        "filters": hook(
            update("apify", dataset, {"generalAccess": "RESTRICTED"}), secret="env:S", when="event | length > 1"
        ),
    }
    relay_settings = {**cloud.settings(), "RELAY_CONFIG": written(folder, hooks), "S": SECRET}
    with running(cloud, relay_settings, folder) as relay:
        yield relay
    cloud.stop()


@pytest.fixture(scope="module")
def document(own_relay: Relay) -> Any:
    """Return the served document."""
    return schemathesis.openapi.from_dict(own_relay.session.get(f"{own_relay.url}/openapi.json", timeout=60).json())


@pytest.mark.parametrize(("path", "method", "has_secret"), POST_ROUTES)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_function_random_requests_get_documented_responses(
    own_relay: Relay, document: Any, path: str, method: str, has_secret: bool, mode: GenerationMode
) -> None:
    operation = document[path][method]
    results: Counter[str] = Counter()
    # None keeps the random name of schemathesis, which is hardly ever the name of a hook.
    hook_names = st.sampled_from([*HOOKS, *HOOKS, None]) if "{name}" in path else st.none()

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(case=operation.as_strategy(generation_mode=mode), name=hook_names, is_existing=st.booleans())
    def send_case(case: Case[Any], name: str | None, is_existing: bool) -> None:
        if name:
            case.path_parameters = {"name": name}
        results[send(own_relay, case, has_secret=has_secret, is_existing=is_existing and has_secret)] += 1

    send_case()
    report(f"{method} {path}, {mode.value}, {'with' if has_secret else 'without'} a secret", results)


@pytest.mark.parametrize(("path", "method", "has_secret"), ROUTES)
def test_function_requests_at_the_limits_get_documented_responses(
    own_relay: Relay, document: Any, path: str, method: str, has_secret: bool
) -> None:
    # schemathesis generates these requests systematically: limits, missing parts, wrong methods, and wrong types.
    operation = document[path][method]
    results: Counter[str] = Counter()
    for case in document.iter_coverage_cases(
        operation, generation_modes=list(GenerationMode), generation_config=GenerationConfig()
    ):
        for name in HOOKS[:2] if "{name}" in path else (None,):
            if name:
                case.path_parameters = {"name": name}
            results[send(own_relay, case, has_secret=has_secret, is_existing=False)] += 1
    assert results
    report(f"{method} {path}, edges, {'with' if has_secret else 'without'} a secret", results)


def report(title: str, results: Counter[str]) -> None:
    print(f"\n{title}: {sum(results.values())} requests, {dict(results.most_common())}")  # noqa: T201 - for `-s`


def send(own_relay: Relay, case: Case[Any], *, has_secret: bool, is_existing: bool) -> str:
    """Send a request, check the response, and return the result in words.

    With `is_existing`, the dataset of a valid event is replaced by an existing dataset.
    """
    is_hook = case.operation.path != "/"
    if is_existing and not is_hook and isinstance(case.body, dict) and conforms("Event", case.body):
        case.body = {**case.body, "dataset": dataset_for(own_relay, case.body)}
    bearer = SECRET if is_hook else own_relay.cloud.relay_secret
    headers = {"Authorization": f"Bearer {bearer}"} if has_secret else None
    response = case.call(base_url=own_relay.url, session=own_relay.session, headers=headers, timeout=120)
    case.validate_response(response, checks=CHECKS)
    body = response.content.decode()
    assert response.status_code != 500, body
    assert "text/html" not in str(response.headers.get("content-type"))
    assert not body.startswith("<")
    assert response.headers.get("relay-delivery")
    assert "CANARY" not in body
    problem = json.loads(body)["type"].rpartition(":")[2] if "problem+json" in content_type(response) else None
    if case.operation.method.upper() != "POST" or response.request.method != "POST":
        return problem or str(response.status_code)
    if problem != "not-found":
        # The function rejects a long body before the authentication.
        assert (problem == "too-large") == (len(request_body(response)) > MAX_BODY_BYTES), body
    if problem == "too-large":
        return str(problem)
    if not has_secret:
        assert problem in ("unauthenticated", "unsupported-media-type", "not-found"), body
        return str(problem)
    rule = check_result(response, is_hook, problem)
    return f"{problem} ({rule})" if rule else problem or str(response.status_code)


def dataset_for(own_relay: Relay, event: dict[str, Any]) -> str:
    if event["provider"] == "apify":
        return own_relay.apify_dataset()
    return own_relay.data_world_dataset()


def content_type(response: Response) -> str:
    (value,) = response.headers.get("content-type", [""])
    return str(value)


def check_result(response: Response, is_hook: bool, problem: str | None) -> str | None:
    """Check that the function rejects a request if and only if the request breaks a rule of the document.

    Return the broken rule if the document can't express the rule.
    """
    is_valid, reason = validity(response, is_hook)
    body = response.content.decode()
    details = f"{reason}: {response.request.url} {response.request.body!r} {body}"
    if response.status_code == 200 and "dry_run=true" in str(response.request.url):
        schemas = ("HookDryRuns", "Ignored") if is_hook else ("DryRun",)
        assert any(conforms(schema, json.loads(body)) for schema in schemas), details
    if not is_valid:
        assert is_valid is None or problem in (*REJECTIONS, "not-found"), details
        return None
    if problem == "invalid-json":
        rule = next((part for part in STRICT_JSON_DETAILS if part in json.loads(body)["detail"]), None)
        assert rule, details
        return rule
    if problem == "invalid" and is_hook:
        return "a template fails, or its result breaks a rule"
    if problem == "invalid" and reason == IN_BASE64:
        return IN_BASE64
    if problem == "invalid":
        rules = {inexpressible_rule(path, messages) for path, messages in json.loads(body)["errors"].items()}
        assert None not in rules, details
        return "; ".join(sorted(filter(None, rules)))
    # The hook or the dataset may not exist, and another dataset may already have the name.
    assert problem in (None, "not-found", "upstream-rejected"), details
    return None


def request_body(response: Response) -> bytes:
    body = response.request.body or b""
    return body.encode() if isinstance(body, str) else bytes(body)


def validity(response: Response, is_hook: bool) -> tuple[bool | None, str]:
    """Return whether the document allows the request, or None if the document has no rule for it; and the reason."""
    query = parse_qs(urlsplit(str(response.request.url)).query, keep_blank_values=True)
    for name in ("dry_run", "wait"):
        if query.get(name, ["true"]) not in (["true"], ["false"]):
            return False, name
    media_type = str(response.request.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    try:
        value = json.loads(request_body(response).decode("utf-8"))
    except ValueError:
        return False, "the body isn't JSON"
    if is_hook:
        # The document has only one media type, but a hook accepts JSON of every media type except for forms.
        return media_type not in FORMS, "a hook"
    if media_type not in BODIES:
        return (None if media_type.endswith("+json") else False), "another media type"
    schema = BODIES[media_type]
    if schema == "CloudEvent" and isinstance(value, dict) and isinstance(value.get("data_base64"), str):
        return conforms(schema, value), IN_BASE64
    return conforms(schema, with_precedence(value) if schema == "CloudEvent" else value), schema
