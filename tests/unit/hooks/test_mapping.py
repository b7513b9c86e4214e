"""Tests of handlers.hooks.mapping: a payload in, updates out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.local.cloud import ROOT
from handlers.hooks import Ignored, evaluate
from handlers.hooks.templates.limits import Budget
from schemas.event import Update
from schemas.problem import InvalidEventError
from schemas.strict_json import JSON
from tests.support import payloads
from tests.support.configuration import SCHEMAS, load_file, load_hooks
from tests.support.hooks import hook, update

APIFY = update("apify", "{{ event.id }}", {"name": "{{ event.name }}"})

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Evaluate a hook of relay.yaml on a payload."""

    def call(value: Any, payload: JSON, headers: dict[str, str] | None = None, max_text: int = 1_048_576) -> Any:
        loaded = load_hooks(tmp_path, a=value).hooks["a"]
        return evaluate(loaded, headers or {}, payload, SCHEMAS, Budget(max_text))

    return call


def errors_of(run: Run, *arguments: Any, **options: Any) -> dict[str, list[str]]:
    with pytest.raises(InvalidEventError) as caught:
        run(*arguments, **options)
    return caught.value.problem.errors or {}


def test_evaluate_several_updates_keeps_order(run: Run) -> None:
    second = update("data.world", "acme/products", {"title": "T{{ event.id }}"}, token="own-token")
    first, last = run(hook(APIFY, second), {"id": 17, "name": None})
    assert first == Update("apify", "17", {"name": None})
    assert (last.provider, last.dataset, last.body) == ("data.world", "acme/products", {"title": "T17"})
    assert last.token.label == "hook a: updates.1.token"


def test_evaluate_object_of_payload_keeps_order(run: Run) -> None:
    payload: JSON = {"properties": {"z": 1, "a": {"ü": [1.5, None]}, "m": 10**25}}
    (result,) = run(hook(update("data.world", "acme/products", {"properties": "{{ event.properties }}"})), payload)
    assert str(result.body) == str(payload)


def test_evaluate_whole_body_from_payload_is_validated(run: Run) -> None:
    value = hook(update("data.world", "acme/products", "{{ event.update }}"))
    (result,) = run(value, {"update": {"title": "x"}})
    assert result.body == {"title": "x"}
    assert errors_of(run, value, {"update": {"titel": "x"}}) == {
        "updates.0.update.titel": ["Unknown field; did you mean title?"]
    }


def test_evaluate_several_failures_reports_each(run: Run) -> None:
    body = {"title": "{{ event.title }}", "tags": ["ok", "{{ event.tag }}"]}
    value = hook(APIFY, update("data.world", "{{ event.record }}", body))
    errors = errors_of(run, value, {"id": [1], "record": "x", "title": "", "tag": "!"})
    assert sorted(errors) == [
        "updates.0.dataset",
        "updates.0.update.name",
        "updates.1.dataset",
        "updates.1.update.tags.1",
        "updates.1.update.title",
    ]
    assert errors["updates.0.update.name"] == ["name is missing."]


def test_evaluate_failed_template_hides_broken_rule(run: Run) -> None:
    value = hook(update("data.world", "acme/products", {"title": "{{ event.title }}"}))
    assert errors_of(run, value, {}) == {"updates.0.update.title": ["title is missing."]}


@pytest.mark.parametrize(("value", "text"), [("abc", "abc"), (0, "0"), (10**20, str(10**20)), (True, "true")])
def test_evaluate_dataset_becomes_text(run: Run, value: JSON, text: str) -> None:
    (result,) = run(hook(update("apify", "{{ event.d }}", {"name": None})), {"d": value})
    assert result.dataset == text


def test_evaluate_null_dataset_raises(run: Run) -> None:
    value = hook(update("apify", "{{ event.d }}", {"name": None}))
    assert errors_of(run, value, {"d": None}) == {"updates.0.dataset": ["Field may not be null."]}


def test_evaluate_many_failures_reports_first(run: Run) -> None:
    body = {"files": [{"name": "{{ event.x }}"} for _ in range(70)]}
    assert len(errors_of(run, hook(*[update("data.world", "acme/products", body)] * 2), {})) == 100


# when


def test_evaluate_true_when_returns_updates(run: Run) -> None:
    assert len(run(hook(APIFY, when="event.status == 'done'"), {"status": "done", "id": 1, "name": "a"})) == 1


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"status": "x"}, "The hook's when condition is false for this event."),
        ({}, "The hook's when condition is false for this event: status is missing."),
    ],
)
def test_evaluate_false_when_ignores_event(run: Run, payload: JSON, reason: str) -> None:
    assert run(hook(APIFY, when="event.status == 'done'"), payload) == Ignored(reason)


def test_evaluate_failing_when_ignores_event_with_warning(run: Run) -> None:
    result = run(hook(APIFY, when="event.status > 1"), {"status": "CANARY-status"})
    assert result.is_warning
    assert result.reason.startswith("The hook's when condition fails on this event and so counts as false: ")
    assert "CANARY" not in result.reason


@pytest.mark.parametrize("when", ["event.list | sort | length > 1 and ('a' * 2000) == event.x", "'a' * event.n == ''"])
def test_evaluate_when_past_limit_raises(run: Run, when: str) -> None:
    """With more time, or for a smaller payload, the condition could be true."""
    payload = {"list": [2, 1], "n": 2_000_000, "x": ""}
    assert list(errors_of(run, hook(APIFY, when=when), payload, max_text=1000)) == ["when"]


# The sender


def test_evaluate_test_message_ignores_event_before_when(run: Run) -> None:
    result = run(hook(APIFY, sender="github", when="event.missing"), {}, {"x-github-event": "ping"})
    assert result == Ignored("This is a test message of github.")


def test_evaluate_headers_leave_out_credentials(run: Run) -> None:
    value = hook(update("data.world", "acme/products", {"properties": {"h": "{{ headers }}"}}), sender="gitlab")
    headers = {
        "x-gitlab-token": "CANARY-token",
        "authorization": "CANARY-authorization",
        "x-gitlab-event": "Pipeline Hook",
    }
    (result,) = run(value, {}, headers)
    assert result.body == {"properties": {"h": {"x-gitlab-event": "Pipeline Hook"}}}


# Limits


def test_evaluate_updates_share_budget(run: Run) -> None:
    value = hook(*[update("data.world", "acme/products", {"properties": {"p": "{{ event }}"}})] * 3)
    payload = {"x": "y" * 200}
    assert len(run(value, payload, max_text=1000)) == 3
    assert list(errors_of(run, value, payload, max_text=500)) == ["updates.2.update.properties.p"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["resource", "eventType", "finishedAt", "id", "defaultDatasetId", "x"]),
                inner,
                max_size=4,
            )
        ),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_evaluate_any_payload_returns_updates_or_errors(tmp_path: Path, payload: JSON) -> None:
    name = "p-{{ event.resource.finishedAt | date }}"
    value = hook(
        update("apify", "{{ event.resource.defaultDatasetId }}", {"name": name}),
        update("data.world", "acme/products", {"summary": "{{ event.x }}"}),
        sender="apify",
    )
    loaded = load_hooks(tmp_path, a=value).hooks["a"]
    try:
        result = evaluate(loaded, {}, payload, SCHEMAS, Budget(1_048_576))
        assert isinstance(result, tuple | Ignored)
    except InvalidEventError as error:
        assert all(path.startswith("updates.") for path in error.problem.errors or {})


@pytest.mark.parametrize(
    ("recipe", "payload"),
    [
        ("apify-run", payloads.apify_run("abc")),
        ("dbt-job", payloads.dbt_run()),
        ("gitlab-pipeline", payloads.gitlab_pipeline()),
        ("airbyte-sync", payloads.airbyte_sync()),
    ],
)
def test_evaluate_recipe_returns_updates(recipe: str, payload: JSON) -> None:
    loaded = load_file(ROOT / f"deploy/recipes/{recipe}.yaml").hooks[recipe]
    assert isinstance(evaluate(loaded, {}, payload, SCHEMAS, Budget(1_048_576)), tuple)
