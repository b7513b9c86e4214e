"""The OpenAPI document: that it is current, served, and says of an event what the function says."""

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
from schemas.event import from_structured, read_event
from schemas.problem import Invalid, RelayError
from tests.conftest import Relay, assert_problem
from tests.document import DOCUMENT, UNSAYABLE, conforms, judged, patterns, unsayable, validator
from tests.rules import CASES, REFERENCES, Case
from tests.test_rules import SCHEMAS, an_event

SOME = {"apify": {"name": "a"}, "data.world": {"title": "a"}}


def test_the_file_is_current() -> None:
    assert PATH.read_text() == build(), "`make openapi` makes it anew"


def test_the_document_is_openapi() -> None:
    OpenAPIV31SpecValidator(cast(dict[Hashable, Any], DOCUMENT)).validate()
    for name in DOCUMENT["components"]["schemas"]:
        assert not conforms(name, 0)


# Served


@pytest.mark.parametrize("path", ["/openapi.json", "/openapi.json/", "/openapi.json?x=1"])
def test_the_file_is_served_as_it_is(relay: Relay, path: str) -> None:
    answer = relay.send(b"", method="GET", path=path)
    assert (answer.status_code, answer.content) == (200, PATH.read_bytes())
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Relay-Delivery"]
    head = relay.send(b"", method="HEAD", path=path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(PATH.stat().st_size)


def test_without_the_file_the_function_starts(relay: Relay, tmp_path: Path) -> None:
    shutil.copy(ROOT / "main.py", tmp_path)
    for part in ("handlers", "schemas"):
        shutil.copytree(ROOT / part, tmp_path / part)
    with (tmp_path / "log").open("wb") as log:
        function = Function(relay.cloud.settings(), cwd=tmp_path, log=log).wait_until_up()
    try:
        answer = relay.session.get(f"{function.url}/openapi.json", timeout=10)
        assert_problem(answer, 404, "not-found")
    finally:
        function.stop()
    assert "deploy/openapi.json can't be read: GET /openapi.json is 404." in (tmp_path / "log").read_text()


def test_nothing_that_makes_it_is_there_at_run_time() -> None:
    probe = "import sys, main; sys.exit(sum(name.startswith('apispec') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", probe], cwd=ROOT, env={}, capture_output=True).returncode == 0


# What it says of the routes

STATUSES = {
    ("/", "post"): "200 2XX 400 401 402 403 404 405 408 409 410 413 415 422 429 500 502 503 504",
    ("/hooks/{name}", "post"): "200 400 401 404 405 408 413 415 422 500 502 503 504",
    ("/health", "get"): "200 405 500",
    ("/openapi.json", "get"): "200 404 405 500",
}


def test_every_route_has_all_of_its_answers() -> None:
    operations = {(path, method): each for path, item in DOCUMENT["paths"].items() for method, each in item.items()}
    assert {place: " ".join(sorted(each["responses"])) for place, each in operations.items()} == {
        place: " ".join(sorted(statuses.split())) for place, statuses in STATUSES.items()
    }
    needs = {"401": "WWW-Authenticate", "405": "Allow", **dict.fromkeys(("429", "502", "503"), "Retry-After")}
    for operation in operations.values():
        for status, response in operation["responses"].items():
            if (operation["operationId"], status) == ("callHook", "502"):
                assert (list(response["headers"]), list(response["content"])) == (
                    ["Relay-Delivery"],
                    ["application/json"],
                )
                continue
            assert list(response["headers"]) == ["Relay-Delivery", *([needs[status]] if status in needs else [])]
            assert status[0] == "2" or "application/problem+json" in response["content"]


def test_problems_are_told_apart() -> None:
    """Which problems a status may be, and whether another try may help."""
    responses = DOCUMENT["paths"]["/"]["post"]["responses"]
    told = {
        each["properties"]["type"]["const"].removeprefix("urn:dataset-relay:problem:"): (
            status,
            each["properties"]["retryable"]["const"],
        )
        for status, response in responses.items()
        for each in response["content"].get("application/problem+json", {}).get("schema", {}).get("oneOf", [])
        if "upstream-refused" not in str(each)
    }
    assert told["body-too-slow"] == ("408", True)
    assert told["upstream-limited"] == ("429", True)
    assert told["upstream-redirected"] == ("502", False)
    for error in RelayError.__subclasses__():
        if error.name not in ("upstream-refused", "not-found"):
            assert told[error.name] == (str(error.status), error.retryable)


# What it says of events


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rule_is_in_the_document(case: Case) -> None:
    for update in case.inside:
        assert conforms("Event", an_event(case.provider, update)), update
    for update, path in case.outside:
        event = an_event(case.provider, update)
        with pytest.raises(Invalid) as caught:
            read_event(event, SCHEMAS)
        ((where, messages),) = (caught.value.problem.errors or {}).items()
        assert where == path
        assert not conforms("Event", event) or unsayable(where, messages), update


def test_only_these_rules_are_not_in_the_document() -> None:
    missing = {
        case.rule for case in CASES for update, _ in case.outside if conforms("Event", an_event(case.provider, update))
    }
    assert missing == {"source.requestHeaders: 4096 bytes with the URL", "source.requestEntity: needs a Content-Type"}
    assert len(UNSAYABLE) == 6


@pytest.mark.parametrize(("provider", "rule", "inside", "outside"), REFERENCES)
def test_dataset_references(provider: str, rule: str, inside: list[str], outside: list[str]) -> None:
    for dataset in inside:
        assert conforms("Event", an_event(provider, SOME[provider], dataset)), (rule, dataset)
    for dataset in outside:
        assert not conforms("Event", an_event(provider, SOME[provider], dataset)), (rule, dataset)


EVENT = {"provider": "apify", "dataset": "abc", "update": {"name": "a"}}
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "/", "type": "done"}


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
def test_the_fields_of_every_event(more: dict[str, Any]) -> None:
    event = {**EVENT, **more}
    assert conforms("Event", event) == is_taken(event)


def test_a_time_that_is_not_on_the_calendar_is_not_told() -> None:
    for time in ("2026-02-30T08:30:00Z", "2026-11-22T24:30:00Z", "0000-01-01T00:00:00Z", "2026-11-22T08:30:00+24:00"):
        event = {**EVENT, "time": time}
        assert conforms("Event", event)
        assert not is_taken(event)


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
def test_envelopes(more: dict[str, Any]) -> None:
    envelope = {**ENVELOPE, **more}
    if more.get("data") is None and isinstance(more.get("data_base64"), str):
        assert conforms("CloudEvent", envelope), "what is in there is not told"
        return
    try:
        taken = is_taken(from_structured(dict(envelope)))
    except Invalid:
        taken = False
    assert conforms("CloudEvent", judged(envelope)) == taken


def is_taken(event: dict[str, Any]) -> bool:
    try:
        read_event(event, SCHEMAS)
    except Invalid:
        return False
    return True


def test_the_examples_are_right() -> None:
    content = DOCUMENT["paths"]["/"]["post"]["requestBody"]["content"]
    for schema, media_type in (("Event", "application/json"), ("CloudEvent", "application/cloudevents+json")):
        for example in content[media_type]["examples"].values():
            validator(schema).validate(example["value"])
    for example in content["application/json"]["examples"].values():
        assert is_taken(example["value"])


# Its patterns


def test_patterns_are_in_what_all_readers_read_alike() -> None:
    found = patterns(DOCUMENT)
    assert len(found) > 10
    for pattern in found:
        assert pattern.startswith("^")
        assert pattern.endswith("$") or pattern == "^(Bearer|Basic) realm="
        assert not re.search(r"\\[sSdDwWbBAZ]|\(\?[a-zA-Z<]", pattern)
        outside_classes = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "", pattern)
        assert "." not in outside_classes, "any character but line ends, and not all have the same line ends"


@given(st.data())
def test_patterns_mean_what_the_schemas_mean(data: st.DataObject) -> None:
    """Texts that are alike to what a pattern takes, by both languages' rules."""
    pattern = data.draw(st.sampled_from(sorted(set(patterns(DOCUMENT["components"]["schemas"])))))
    own = re.compile(pattern.removesuffix("$") + r"\Z")
    text = data.draw(st.from_regex(own))
    for each in (text, text + data.draw(st.characters()), data.draw(st.characters()) + text, text[:-1], f"{text}\n"):
        try:
            each.encode()
        except UnicodeEncodeError:
            continue  # half a surrogate pair is no text for JSON
        is_there = validator_of(pattern).is_valid(each)
        assert is_there == bool(own.match(each)), (pattern, each)


def validator_of(pattern: str) -> Any:
    return type(validator("Event"))({"pattern": pattern})
