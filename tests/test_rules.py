"""Each rule of an update on each side of its limit: by our schema, through the function, and by the platform itself."""

import json
from typing import Any

import pytest
import requests

from deploy.local.upstream import Platform
from handlers.providers import PROVIDERS
from schemas.event import read_event
from schemas.problem import Invalid
from tests.conftest import Relay, assert_problem, unique
from tests.rules import APIFY, CASES, REFERENCES, Case

SCHEMAS = {name: provider.EVENT for name, provider in PROVIDERS.items()}
DATASETS = {APIFY: "jane~products", "data.world": "acme/products"}


def an_event(provider: str, update: object, dataset: str | None = None) -> dict[str, Any]:
    return {"provider": provider, "dataset": DATASETS[provider] if dataset is None else dataset, "update": update}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inside(case: Case) -> None:
    for update in case.inside:
        event = read_event(an_event(case.provider, update), SCHEMAS)
        assert event.update.body is update


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outside(case: Case) -> None:
    for update, path in case.outside:
        with pytest.raises(Invalid) as caught:
            read_event(an_event(case.provider, update), SCHEMAS)
        errors = caught.value.problem.errors or {}
        assert list(errors) == [path]
        assert case.says in " ".join(errors[path])


@pytest.mark.parametrize(("provider", "rule", "inside", "outside"), REFERENCES)
def test_dataset_references(provider: str, rule: str, inside: list[str], outside: list[str]) -> None:
    for dataset in inside:
        assert read_event(an_event(provider, {"name" if provider == APIFY else "title": "a"}, dataset), SCHEMAS)
    for dataset in outside:
        with pytest.raises(Invalid) as caught:
            read_event(an_event(provider, {"name" if provider == APIFY else "title": "a"}, dataset), SCHEMAS)
        assert list(caught.value.problem.errors or {}) == ["dataset"], (rule, dataset)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_through_the_function_and_by_the_platform(case: Case, relay: Relay) -> None:
    """What we take, the platform takes as it was sent; what it refuses, never reaches it."""
    cloud = relay.cloud
    platform: Platform
    if case.provider == APIFY:
        dataset, platform, method, token = relay.apify_dataset(), cloud.apify, "PUT", cloud.apify_token
        name = unique("n")
    else:
        dataset, platform, method, token = relay.data_world_dataset(), cloud.data_world, "PATCH", cloud.data_world_token
        name = "unused"
    path = f"/datasets/{dataset}"
    for original in case.inside[:5]:
        # A name is unique among its owner's: tests that share the account would be in each other's way.
        plain = json.loads(json.dumps(original).replace('"name": "a"', f'"name": "{name}"'))
        answer = relay.post(an_event(case.provider, plain, dataset))
        assert answer.status_code == 200, answer.text
        assert platform.seen(path)[-1].json == plain
    calls = len(platform.seen(path))
    for update, where in case.outside[:5]:
        body = assert_problem(relay.post(an_event(case.provider, update, dataset)), 422, "invalid")
        assert list(body["errors"]) == [where]
        assert len(platform.seen(path)) == calls
        if not case.stricter and update:
            raw = json.dumps(update).encode()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            judged = requests.request(method, platform.base_url + path, data=raw, headers=headers, timeout=10)
            own_license_list = "license" in update and judged.status_code == 200
            assert judged.status_code in (400, 422) or own_license_list, (update, judged.text)
            calls += 1


def test_a_choice_has_a_hint() -> None:
    for update, hint in (
        ({"license": "Beerware"}, None),
        ({"license": "MIT"}, "MIT License"),
        ({"license": "CC BY"}, "CC-BY"),
        ({"visibility": "open"}, "OPEN"),
    ):
        with pytest.raises(Invalid) as caught:
            read_event(an_event("data.world", update), SCHEMAS)
        (messages,) = (caught.value.problem.errors or {}).values()
        assert messages[0].endswith(f"; did you mean {hint}?" if hint else "OSODL.")


def test_every_mistake_is_named_at_once(relay: Relay) -> None:
    update = {"titel": "x", "tags": ["a", "b-c"], "files": [{"source": {"url": "x", "metod": "GET"}}]}
    answer = relay.post({"provider": "data.world", "dataset": "Acme/x", "update": update, "datset": 1, "id": ""})
    errors = assert_problem(answer, 422, "invalid")["errors"]
    assert {path: messages[0].split(";")[-1].strip() for path, messages in errors.items()} == {
        "dataset": "Must be owner/id, each at least three of a-z, 0-9 and single '-', neither first nor last a '-'.",
        "datset": "did you mean dataset?",
        "id": "Must be 1 to 200 printable ASCII characters.",
        "update.titel": "did you mean title?",
        "update.tags.0": "Length must be between 2 and 25.",
        "update.tags.1": "Must hold only the letters a-z and A-Z, digits and spaces.",
        "update.files.0.name": "Missing data for required field.",
        "update.files.0.source.url": "Must be an http, https, ftp or ftps URL, with a host.",
        "update.files.0.source.metod": "did you mean method?",
    }


@pytest.mark.parametrize(
    ("provider", "update"),
    [
        (APIFY, {f"x{number}": 1 for number in range(100_000)}),
        ("data.world", {"tags": [""] * 300_000}),
        ("data.world", {"files": [1] * 300_000}),
        ("data.world", {"files": [{}] * 300_000}),
    ],
)
def test_a_million_mistakes_get_a_short_answer(provider: str, update: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        read_event(an_event(provider, update), SCHEMAS)
    errors = caught.value.problem.errors or {}
    assert len(errors) == 101
    assert errors["…"] == ["Only the first 100 errors are listed."]


def test_a_senders_own_key_is_shown_short_and_plain() -> None:
    with pytest.raises(Invalid) as caught:
        read_event(an_event(APIFY, {"é" * 100: 1, "a.b": 1, "": 1, "n" * 65: 1}), SCHEMAS)
    escaped = "\\u00e9" * 60
    shortened = "n" * 60
    assert list(caught.value.problem.errors or {}) == [
        f'update."{escaped}…"',
        'update."a.b"',
        'update.""',
        f'update."{shortened}…"',
    ]
