"""What schemathesis makes of the served document, sent to the running function: what it says is what is so.

FUZZ_EXAMPLES is how many inputs of each kind are tried; with `-s` it is printed how many were.
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

from deploy.local.cloud import Cloud
from tests.conftest import Relay, running, unique
from tests.document import NOT_JSON, conforms, judged, unsayable
from tests.hooks import hook, update, written

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
#: What takes something, from one who proves who calls and from one who doesn't; and what takes nothing.
TAKING = [(path, "POST", proven) for path in ("/", "/hooks/{name}") for proven in (True, False)]
PLACES = [*TAKING, ("/health", "GET", False), ("/openapi.json", "GET", False)]
HOOKS = ("keeps", "reads", "several", "some")
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BODIES = {"application/json": "Event", "application/cloudevents+json": "CloudEvent"}
#: What the function says of a request that breaks a rule of the document.
REFUSED = {"not-json": 400, "unsupported-media-type": 415, "invalid": 422}
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
IN_BASE64 = "what is in data_base64"
SECRET = "hook-s3cret-of-the-fuzz"
#: RELAY_MAX_BODY_BYTES, where it isn't set.
MOST_BYTES = 1_048_576


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A cloud and a function of their own: no other test has to wait for what is sent here."""
    cloud = Cloud().start()
    cloud.apify.rate_limit = 10**6
    folder = tmp_path_factory.mktemp("fuzz")
    kept = cloud.data_world.add(f"acme/{unique('kept')}")
    named = cloud.apify.add("jane", unique("named"))
    hooks = {
        # Takes whatever it is sent; makes what it can of it; has several updates, one of which is refused upstream.
        "keeps": hook(update("data.world", kept, {"properties": {"event": "{{ event }}"}}), secret="env:S"),
        "reads": hook(
            update("apify", "{{ event.dataset }}", {"name": "{{ event.name }}"}),
            update("data.world", kept, {"title": "{{ event.title | default('x') }}"}),
            secret="env:S",
        ),
        "several": hook(
            update("data.world", kept, {"summary": "{{ event | tojson }}"}),
            update("data.world", "acme/missing", {"summary": "x"}),
            secret="env:S",
        ),
        "some": hook(
            update("apify", named, {"generalAccess": "RESTRICTED"}), secret="env:S", when="event | length > 1"
        ),
    }
    settings_ = {**cloud.settings(), "RELAY_CONFIG": written(folder, hooks), "S": SECRET}
    with running(cloud, settings_, folder) as started:
        yield started
    cloud.stop()


@pytest.fixture(scope="module")
def document(world: Relay) -> Any:
    """The document that is served, as schemathesis reads it."""
    return schemathesis.openapi.from_dict(world.session.get(f"{world.url}/openapi.json", timeout=10).json())


@pytest.mark.parametrize(("path", "method", "proven"), TAKING)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_what_is_documented_is_so(
    world: Relay, document: Any, path: str, method: str, proven: bool, mode: GenerationMode
) -> None:
    operation = document[path][method]
    tried: Counter[str] = Counter()
    # None: whatever schemathesis makes of a name, of which there is hardly a hook.
    hook_names = st.sampled_from([*HOOKS, *HOOKS, None]) if "{name}" in path else st.none()

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(case=operation.as_strategy(generation_mode=mode), name=hook_names, real=st.booleans())
    def try_out(case: Case[Any], name: str | None, real: bool) -> None:
        if name:
            case.path_parameters = {"name": name}
        tried[answered(world, case, proven=proven, real=real and proven)] += 1

    try_out()
    report(f"{method} {path}, {mode.value}, {'proven' if proven else 'without a proof'}", tried)


@pytest.mark.parametrize(("path", "method", "proven"), PLACES)
def test_each_edge_of_the_schemas(world: Relay, document: Any, path: str, method: str, proven: bool) -> None:
    """What schemathesis makes without chance: each limit, each missing part, wrong methods and types."""
    operation = document[path][method]
    tried: Counter[str] = Counter()
    for case in document.iter_coverage_cases(
        operation, generation_modes=list(GenerationMode), generation_config=GenerationConfig()
    ):
        for name in HOOKS[:2] if "{name}" in path else (None,):
            if name:
                case.path_parameters = {"name": name}
            tried[answered(world, case, proven=proven, real=False)] += 1
    assert tried
    report(f"{method} {path}, edges, {'proven' if proven else 'without a proof'}", tried)


def report(what: str, tried: Counter[str]) -> None:
    print(f"\n{what}: {sum(tried.values())} tried; {dict(tried.most_common())}")  # noqa: T201 - it is asked for


def answered(world: Relay, case: Case[Any], *, proven: bool, real: bool) -> str:
    """Sends `case`; what came of it. With `real`, an event that may be is for a dataset that is there."""
    hooked = case.operation.path != "/"
    if real and not hooked and isinstance(case.body, dict) and conforms("Event", case.body):
        case.body = {**case.body, "dataset": dataset_for(world, case.body)}
    secret = SECRET if hooked else world.cloud.relay_secret
    headers = {"Authorization": f"Bearer {secret}"} if proven else None
    response = case.call(base_url=world.url, session=world.session, headers=headers, timeout=30)
    case.validate_response(response, checks=CHECKS)
    body = response.content.decode()
    assert response.status_code != 500, body
    assert "text/html" not in str(response.headers.get("content-type"))
    assert not body.startswith("<")
    assert response.headers.get("relay-delivery")
    for each in (world.cloud.apify_token, world.cloud.data_world_token, world.cloud.relay_secret):
        assert each not in body
    problem = json.loads(body)["type"].rpartition(":")[2] if "problem+json" in content_type(response) else None
    if case.operation.method.upper() != "POST" or response.request.method != "POST":
        return problem or str(response.status_code)
    if problem != "not-found":
        # Nothing else of what is too long is looked at, not even who sends it.
        assert (problem == "too-large") == (len(raw(response)) > MOST_BYTES), body
    if problem == "too-large":
        return str(problem)
    if not proven:
        assert problem in ("unproven", "unsupported-media-type", "not-found"), body
        return str(problem)
    rule = check_verdict(response, hooked, problem)
    return f"{problem} ({rule})" if rule else problem or str(response.status_code)


def dataset_for(world: Relay, event: dict[str, Any]) -> str:
    if event["provider"] == "apify":
        return world.apify_dataset()
    return world.data_world_dataset()


def content_type(response: Response) -> str:
    (found,) = response.headers.get("content-type", [""])
    return str(found)


def check_verdict(response: Response, hooked: bool, problem: str | None) -> str | None:
    """What breaks a rule of the document is refused, and what keeps them all isn't, but for what it can't say.

    Returns the rule that it can't say, if it is for such a one that the request is refused.
    """
    verdict, why = expected(response, hooked)
    body = response.content.decode()
    said = f"{why}: {response.request.url} {response.request.body!r} {body}"
    if response.status_code == 200 and "dry_run=true" in str(response.request.url):
        shapes = ("HookDryRuns", "Ignored") if hooked else ("DryRun",)
        assert any(conforms(shape, json.loads(body)) for shape in shapes), said
    if not verdict:
        assert verdict is None or problem in REFUSED or problem == "not-found", said
        return None
    if problem == "not-json":
        rule = next((each for each in NOT_JSON if each in json.loads(body)["detail"]), None)
        assert rule, said
        return rule
    if problem == "invalid" and hooked:
        return "a template fails, or its result breaks a rule"
    if problem == "invalid" and why == IN_BASE64:
        return IN_BASE64
    if problem == "invalid":
        rules = {unsayable(path, messages) for path, messages in json.loads(body)["errors"].items()}
        assert None not in rules, said
        return "; ".join(sorted(filter(None, rules)))
    # A dataset or a hook can be none, and a name can be another's.
    assert problem in (None, "not-found", "upstream-refused"), said
    return None


def raw(response: Response) -> bytes:
    body = response.request.body or b""
    return body.encode() if isinstance(body, str) else bytes(body)


def expected(response: Response, hooked: bool) -> tuple[bool | None, str]:
    """Whether the request is as the document says; None: the document says nothing of it."""
    query = parse_qs(urlsplit(str(response.request.url)).query, keep_blank_values=True)
    if query.get("dry_run", ["true"]) not in (["true"], ["false"]):
        return False, "dry_run"
    media_type = str(response.request.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    try:
        value = json.loads(raw(response).decode("utf-8"))
    except ValueError:
        return False, "no JSON"
    if hooked:
        # JSON of any name is taken, though one is documented; a form never.
        return isinstance(value, dict) and media_type not in FORMS, "a hook"
    if media_type not in BODIES:
        return (None if media_type.endswith("+json") else False), "another media type"
    schema = BODIES[media_type]
    if schema == "CloudEvent" and isinstance(value, dict) and isinstance(value.get("data_base64"), str):
        return conforms(schema, value), IN_BASE64
    return conforms(schema, judged(value) if schema == "CloudEvent" else value), schema
