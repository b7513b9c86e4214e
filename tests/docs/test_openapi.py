"""Tests of the OpenAPI document: its generation, its route, and its agreement with the schemas of the function."""

import re
import shutil
import subprocess
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from deploy.local.cloud import ROOT, Function
from deploy.local.openapi import PATH, build
from schemas.cloud_event import from_structured
from schemas.event import read_event
from schemas.problem import InvalidEventError, RelayError
from tests.support.document import (
    DOCUMENT,
    INEXPRESSIBLE_RULES,
    conforms,
    inexpressible_rule,
    patterns,
    validator,
    with_precedence,
)
from tests.support.provider_rules import CASES, REFERENCES, SCHEMAS, Case, make_event
from tests.support.relay import Relay, assert_problem

UPDATES = {"apify": {"name": "a"}, "data.world": {"title": "a"}}


def test_openapi_file_is_current() -> None:
    assert PATH.read_text() == build(), "run `make openapi`"


def test_openapi_document_is_valid() -> None:
    OpenAPIV31SpecValidator(cast(dict[Hashable, Any], DOCUMENT)).validate()
    for name in DOCUMENT["components"]["schemas"]:
        assert not conforms(name, 0)


# The route


@pytest.mark.parametrize("path", ["/openapi.json", "/openapi.json/", "/openapi.json?x=1"])
def test_openapi_route_returns_the_file(relay: Relay, path: str) -> None:
    response = relay.send(b"", method="GET", path=path)
    assert (response.status_code, response.content) == (200, PATH.read_bytes())
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Relay-Delivery"]
    head = relay.send(b"", method="HEAD", path=path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(PATH.stat().st_size)


def test_openapi_route_without_the_file_responds_404(relay: Relay, tmp_path: Path) -> None:
    shutil.copy(ROOT / "main.py", tmp_path)
    for part in ("handlers", "schemas"):
        shutil.copytree(ROOT / part, tmp_path / part)
    with (tmp_path / "log").open("wb") as log:
        function = Function(relay.cloud.settings(), cwd=tmp_path, log=log).wait_until_up()
    try:
        response = relay.session.get(f"{function.url}/openapi.json", timeout=60)
        assert_problem(response, 404, "not-found")
    finally:
        function.stop()
    assert "deploy/openapi.json can't be read, so GET /openapi.json returns 404." in (tmp_path / "log").read_text()


def test_function_does_not_import_the_generator() -> None:
    probe = "import sys, main; sys.exit(sum(name.startswith('apispec') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", probe], cwd=ROOT, env={}, capture_output=True).returncode == 0


# The routes in the document

STATUSES = {
    ("/", "get"): "200 405 414 500",
    ("/", "post"): "200 202 2XX 400 401 402 403 404 405 408 409 410 413 414 415 422 429 500 502 503 504",
    ("/hooks/{name}", "post"): "200 202 400 401 404 405 408 413 414 415 422 500 502 503 504",
    ("/deliveries", "post"): "204 400 401 404 405 408 413 414 415 422 500 503",
    ("/health", "get"): "200 405 414 500",
    ("/openapi.json", "get"): "200 404 405 414 500",
}


def test_openapi_routes_have_all_statuses_and_headers() -> None:
    operations = {
        (path, method): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
    }
    assert {route: " ".join(sorted(operation["responses"])) for route, operation in operations.items()} == {
        route: " ".join(sorted(statuses.split())) for route, statuses in STATUSES.items()
    }
    required_headers = {
        "401": "WWW-Authenticate",
        "405": "Allow",
        **dict.fromkeys(("429", "502", "503"), "Retry-After"),
    }
    for operation in operations.values():
        for status, response in operation["responses"].items():
            if (operation["operationId"], status) == ("callHook", "502"):
                # The 502 of a hook lists the results, and has no Retry-After.
                assert list(response["headers"]) == ["Relay-Delivery"]
                assert list(response["content"]) == ["application/json"]
                continue
            more_headers = [required_headers[status]] if status in required_headers else []
            assert list(response["headers"]) == ["Relay-Delivery", *more_headers]
            assert status[0] == "2" or "application/problem+json" in response["content"]


def test_openapi_problems_have_the_status_and_retryable_of_the_function() -> None:
    responses = DOCUMENT["paths"]["/"]["post"]["responses"]
    documented = {
        schema["properties"]["type"]["const"].removeprefix("urn:dataset-relay:problem:"): (
            status,
            schema["properties"]["retryable"]["const"],
        )
        for status, response in responses.items()
        for schema in response["content"].get("application/problem+json", {}).get("schema", {}).get("oneOf", [])
        if "upstream-rejected" not in str(schema)
    }
    assert documented["body-timeout"] == ("408", True)
    assert documented["upstream-rate-limited"] == ("429", True)
    assert documented["upstream-redirected"] == ("502", False)
    for error in RelayError.__subclasses__():
        if error.name not in ("upstream-rejected", "not-found", "unknown-hook"):
            assert documented[error.name] == (str(error.status), error.retryable)


# The schemas of events


@pytest.mark.parametrize("case", CASES, ids=str)
def test_openapi_schema_has_the_rule(case: Case) -> None:
    for update in case.valid:
        assert conforms("Event", make_event(case.provider, update)), update
    for update, path in case.invalid:
        event = make_event(case.provider, update)
        with pytest.raises(InvalidEventError) as caught:
            read_event(event, SCHEMAS)
        ((error_path, messages),) = (caught.value.problem.errors or {}).items()
        assert error_path == path
        assert not conforms("Event", event) or inexpressible_rule(error_path, messages), update


def test_openapi_schema_lacks_only_the_known_rules() -> None:
    missing = {
        case.rule
        for case in CASES
        for update, _ in case.invalid
        if conforms("Event", make_event(case.provider, update))
    }
    assert missing == {
        "source.requestHeaders: 4096 bytes with the URL",
        "source.requestEntity: needs a Content-Type",
        "tags: an object with add, remove, or both",
    }
    assert len(INEXPRESSIBLE_RULES) == 8


@pytest.mark.parametrize(("provider", "rule", "valid", "invalid"), REFERENCES)
def test_openapi_schema_has_the_form_of_datasets(
    provider: str, rule: str, valid: list[str], invalid: list[str]
) -> None:
    for dataset in valid:
        assert conforms("Event", make_event(provider, UPDATES[provider], dataset)), (rule, dataset)
    for dataset in invalid:
        assert not conforms("Event", make_event(provider, UPDATES[provider], dataset)), (rule, dataset)


EVENT = {"provider": "apify", "dataset": "abc", "update": {"name": "a"}}
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "/", "type": "completed"}


@pytest.mark.parametrize(
    "more",
    [
        {}, {"id": "x" * 200}, {"id": ""}, {"id": "x" * 201}, {"id": "é"}, {"id": "a\n"}, {"id": None}, {"id": 1},
        {"type": ""}, {"type": "x"}, {"type": None}, {"time": "2026-11-22T08:30:00Z"}, {"time": "2026-11-22"},
        {"time": "2026-11-22t08:30:60.5z"}, {"time": "2026-11-22T08:30:00+01:00\n"}, {"time": "２026-11-22T08:30:00Z"},
        {"time": None}, {"time": 5}, {"x": 1}, {"provider": "apifi"}, {"provider": None}, {"provider": "data.world"},
        {"provider": []}, {"dataset": None}, {"dataset": ["abc"]}, {"update": None}, {"update": []}, {"update": {}},
    ],
)  # fmt: skip
def test_openapi_event_schema_accepts_the_same_fields_as_the_function(more: dict[str, Any]) -> None:
    event = {**EVENT, **more}
    assert conforms("Event", event) == is_accepted(event)


def test_openapi_event_schema_cannot_express_that_a_date_exists() -> None:
    for time in ("2026-02-30T08:30:00Z", "2026-11-22T24:30:00Z", "0000-01-01T00:00:00Z", "2026-11-22T08:30:00+24:00"):
        event = {**EVENT, "time": time}
        assert conforms("Event", event)
        assert not is_accepted(event)


@pytest.mark.parametrize(
    "more",
    [
        {"data": EVENT}, {}, {"data": None}, {"data": EVENT, "data_base64": None},
        {"data": EVENT, "data_base64": "e30="},
        {"data": None, "data_base64": "eyJhIjoxfQ=="}, {"data": EVENT, "id": None}, {"data": EVENT, "time": None},
        {"data": EVENT, "time": "x"}, {"data": EVENT, "specversion": "0.3"}, {"data": EVENT, "source": ""},
        {"data": EVENT, "type": 1}, {"data": EVENT, "anything": [None]}, {"data": [EVENT]}, {"data": "x"},
        {"data": EVENT, "data_base64": 1}, {"data_base64": 1},
        {"data": {**EVENT, "id": 1, "type": None}}, {"data": {**EVENT, "time": 1}},
        {"data": {**EVENT, "time": 1}, "time": "2026-11-22T08:30:00Z"}, {"data": {**EVENT, "x": 1}}, {"data": {}},
    ],
)  # fmt: skip
def test_openapi_cloud_event_schema_accepts_the_same_envelopes_as_the_function(more: dict[str, Any]) -> None:
    envelope = {**ENVELOPE, **more}
    if more.get("data") is None and isinstance(more.get("data_base64"), str):
        assert conforms("CloudEvent", envelope), "the schema doesn't apply to encoded data"
        return
    try:
        accepted = is_accepted(from_structured(dict(envelope)))
    except InvalidEventError:
        accepted = False
    assert conforms("CloudEvent", with_precedence(envelope)) == accepted


def is_accepted(event: dict[str, Any]) -> bool:
    try:
        read_event(event, SCHEMAS)
    except InvalidEventError:
        return False
    return True


def test_openapi_examples_are_valid() -> None:
    content = DOCUMENT["paths"]["/"]["post"]["requestBody"]["content"]
    for schema, media_type in (("Event", "application/json"), ("CloudEvent", "application/cloudevents+json")):
        for example in content[media_type]["examples"].values():
            validator(schema).validate(example["value"])
    for example in content["application/json"]["examples"].values():
        assert is_accepted(example["value"])


# The patterns


def test_openapi_patterns_use_only_portable_syntax() -> None:
    document_patterns = patterns(DOCUMENT)
    assert len(document_patterns) > 10
    for pattern in document_patterns:
        assert pattern.startswith("^")
        assert pattern.endswith("$") or pattern == "^(Bearer|Basic) realm="
        assert not re.search(r"\\[sSdDwWbBAZ]|\(\?[a-zA-Z<]", pattern)
        outside_classes = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "", pattern)
        assert "." not in outside_classes, "`.` excludes other line ends in ECMAScript than in Python"


@given(st.data())
def test_openapi_patterns_match_the_same_text_in_python_and_ecmascript(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(sorted(set(patterns(DOCUMENT["components"]["schemas"])))))
    compiled = re.compile(pattern.removesuffix("$") + r"\Z")
    match = data.draw(st.from_regex(compiled))
    before, behind = data.draw(st.characters()), data.draw(st.characters())
    for text in (match, match + behind, before + match, match[:-1], f"{match}\n"):
        try:
            text.encode()
        except UnicodeEncodeError:
            continue  # a lone surrogate isn't valid in JSON
        assert pattern_validator(pattern).is_valid(text) == bool(compiled.match(text)), (pattern, text)


def pattern_validator(pattern: str) -> Any:
    return type(validator("Event"))({"pattern": pattern})
