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

    def call(
        value: Any,
        payload: JSON,
        headers: dict[str, str] | None = None,
        max_text: int = 1_048_576,
        warnings: list[str] | None = None,
    ) -> Any:
        loaded = load_hooks(tmp_path, a=value).hooks["a"]
        warn = (warnings if warnings is not None else []).append
        return evaluate(loaded, headers or {}, payload, SCHEMAS, Budget(max_text), warn)

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
    assert errors["updates.0.update.name"] == ["event.name is missing."]


def test_evaluate_failed_template_hides_broken_rule(run: Run) -> None:
    value = hook(update("data.world", "acme/products", {"title": "{{ event.title }}"}))
    assert errors_of(run, value, {}) == {"updates.0.update.title": ["event.title is missing."]}


@pytest.mark.parametrize(("value", "text"), [("abc", "abc"), (0, "0"), (10**20, str(10**20)), (True, "true")])
def test_evaluate_dataset_becomes_text(run: Run, value: JSON, text: str) -> None:
    (result,) = run(hook(update("apify", "{{ event.d }}", {"name": None})), {"d": value})
    assert result.dataset == text


def test_evaluate_null_dataset_raises(run: Run) -> None:
    value = hook(update("apify", "{{ event.d }}", {"name": None}))
    assert errors_of(run, value, {"d": None}) == {"updates.0.dataset": ["Must not be null."]}


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
        ({}, "The hook's when condition is false for this event: event.status is missing."),
    ],
)
def test_evaluate_false_when_ignores_event(run: Run, payload: JSON, reason: str) -> None:
    assert run(hook(APIFY, when="event.status == 'done'"), payload) == Ignored(reason)


def test_evaluate_failing_when_ignores_event_with_warning(run: Run) -> None:
    result = run(hook(APIFY, when="event.status > 1"), {"status": "CANARY-status"})
    assert result.is_warning
    assert result.reason.startswith("The hook's when condition fails on this event and so counts as false: ")
    assert "CANARY" not in result.reason


def test_evaluate_when_with_similar_name_ignores_event_with_warning(run: Run) -> None:
    result = run(hook(APIFY, when="event.run.status == 'done'"), {"run": {"Status": "done"}})
    reason = (
        "The hook's when condition is false for this event: event.run.status is missing; did you mean event.run.Status?"
    )
    assert result == Ignored(reason, is_warning=True)


@pytest.mark.parametrize("value", ["false", "true", "", 1, 0, 1.5, None, [], [1], {}, {"a": 1}])
@pytest.mark.parametrize("when", ["event.inputs.publish", "true and event.inputs.publish"])
def test_evaluate_when_neither_true_nor_false_ignores_event_with_warning(run: Run, when: str, value: JSON) -> None:
    result = run(hook(APIFY, when=when), {"inputs": {"publish": value}, "id": 1, "name": "a"})
    assert isinstance(result, Ignored)
    assert result.is_warning
    assert "counts as false: The result is " in result.reason
    assert "Compare the value, as in: event.x" in result.reason


@pytest.mark.parametrize("when", ["event.publish and event.id == 1", "event.publish or false", "not event.publish"])
def test_evaluate_when_with_text_as_operand_ignores_event_with_warning(run: Run, when: str) -> None:
    result = run(hook(APIFY, when=when), {"publish": "false", "id": 1, "name": "a"})
    assert isinstance(result, Ignored)
    assert result.is_warning
    assert 'The result is text, not true or false. Compare the value, as in: event.x == "true".' in result.reason


@pytest.mark.parametrize("when", ["event.list | sort | length > 1 and ('a' * 2000) == event.x", "'a' * event.n == ''"])
def test_evaluate_when_past_limit_raises(run: Run, when: str) -> None:
    """With more time, or for a smaller payload, the condition could be true."""
    payload = {"list": [2, 1], "n": 2_000_000, "x": ""}
    assert list(errors_of(run, hook(APIFY, when=when), payload, max_text=1000)) == ["when"]


# when of an update

FINAL = update("data.world", "acme/products", {"title": "final"}, when="event.branch == 'main'")
ALWAYS = update("data.world", "acme/other", {"title": "{{ event.title | default('x') }}"})


def test_evaluate_update_with_false_when_is_left_out(run: Run) -> None:
    first, last = run(hook(FINAL, ALWAYS), {"branch": "main"})
    assert (first.dataset, last.dataset) == ("acme/products", "acme/other")
    (only,) = run(hook(FINAL, ALWAYS), {"branch": "feature"})
    assert (only.dataset, only.position) == ("acme/other", 1)


def test_evaluate_left_out_update_is_not_rendered(run: Run) -> None:
    broken = update("apify", "{{ event.missing }}", {"name": "x"}, when="event.branch == 'main'")
    assert len(run(hook(broken, ALWAYS), {"branch": "x"})) == 1
    assert set(errors_of(run, hook(ALWAYS, broken), {"branch": "main"})) == {"updates.1.dataset"}


def test_evaluate_no_update_remains_ignores_event_with_each_reason(run: Run) -> None:
    other = {**FINAL, "when": "event.tag == 'x'"}
    assert run(hook(FINAL, other), {"branch": "x"}) == Ignored(
        "The when condition of updates.0 is false for this event. "
        "The when condition of updates.1 is false for this event: event.tag is missing."
    )
    result = run(hook(other), {"tags": "x"})
    assert result.is_warning
    assert result.reason.endswith("event.tag is missing; did you mean event.tags?")


def test_evaluate_update_when_without_boolean_leaves_out_update_with_warning(run: Run) -> None:
    warnings: list[str] = []
    value = hook(ALWAYS, {**FINAL, "when": "event.publish"}, {**FINAL, "when": "event.publish == true"})
    assert len(run(value, {"publish": "CANARY"}, warnings=warnings)) == 1
    (warning,) = warnings
    assert warning == (
        "The when condition of updates.1 fails on this event and so counts as false: The result is text, not true or "
        'false. Compare the value, as in: event.x == "true".'
    )


def test_evaluate_update_when_past_limit_raises(run: Run) -> None:
    value = hook(ALWAYS, {**FINAL, "when": "'a' * event.n == ''"})
    assert list(errors_of(run, value, {"n": 2000}, max_text=1000)) == ["updates.1.when"]


def test_evaluate_hook_when_is_checked_before_when_of_update(run: Run) -> None:
    reason = "The hook's when condition is false for this event."
    assert run(hook(FINAL, when="false"), {"branch": "main"}) == Ignored(reason)


# Loops

FILE = {"for": "file in event.files", "if": "file.size > 0", "name": "{{ file.name }}"}


def files(*items: Any) -> Any:
    return hook(update("data.world", "acme/products", {"files": list(items)}))


def test_evaluate_loop_expands_to_items(run: Run) -> None:
    payload: JSON = {"files": [{"name": "a", "size": 1}, {"name": "b", "size": 0}, {"name": "c", "size": 1}]}
    (result,) = run(files({"name": "first"}, FILE), payload)
    assert result.body == {"files": [{"name": "first"}, {"name": "a"}, {"name": "c"}]}


def test_evaluate_loop_error_has_index_in_source_list(run: Run) -> None:
    payload: JSON = {"files": [{"size": 0}, {"name": "a/b", "size": 1}, {"size": 2}, {"name": 3, "size": 1}]}
    assert errors_of(run, files(FILE), payload) == {
        "updates.0.update.files.1.name": ["Must not contain '/'."],
        "updates.0.update.files.2.name": ["file.name is missing."],
        "updates.0.update.files.3.name": ["Must be a string."],
    }


def test_evaluate_loop_error_below_object_has_index_in_source_list(run: Run) -> None:
    payload: JSON = {"files": [{"size": 0}, {"size": 1, "name": "a", "label": "row data"}]}
    errors = errors_of(run, files({**FILE, "labels": ["report", "{{ file.label }}"]}), payload)
    assert list(errors) == ["updates.0.update.files.1.labels.1"]


def test_evaluate_errors_of_literal_and_loop_at_same_path_keeps_both(run: Run) -> None:
    payload: JSON = {"files": [{"name": "a/b", "size": 1}], "x": ""}
    assert errors_of(run, files({"name": "{{ event.x }}"}, FILE), payload) == {
        "updates.0.update.files.0.name": ["Must have 1 to 128 characters.", "Must not contain '/'."],
    }


@pytest.mark.parametrize(
    ("count", "max_text"), [(100_001, 10_000_000), (1000, 10_000)], ids=["too many steps", "too much text"]
)
def test_evaluate_loop_past_limit_raises(run: Run, count: int, max_text: int) -> None:
    value = hook(
        update("data.world", "acme/products", {"properties": {"x": [{"for": "n in event", "number": "{{ n }}"}]}})
    )
    errors = errors_of(run, value, [0] * count, max_text=max_text)
    assert len(errors) == 1
    ((path, (message,)),) = errors.items()
    assert path.startswith("updates.0.update.properties.x.")
    assert "steps" in message if count > 100_000 else "The results for this event have more than" in message


def test_evaluate_loop_if_without_boolean_warns_once(run: Run) -> None:
    warnings: list[str] = []
    payload: JSON = {"files": [{"size": 0}, {"size": 1}, {"size": 1}]}
    (result,) = run(files({**FILE, "if": "file.size"}, {"name": "a"}), payload, warnings=warnings)
    assert result.body == {"files": [{"name": "a"}]}
    (warning,) = warnings
    assert warning == (
        "updates.0.update.files.0.if fails on this event and so counts as false: The result is a number, not true or "
        "false. Compare the value, as in: event.x == 1."
    )


def test_evaluate_payload_that_is_a_list_works(run: Run) -> None:
    value = update("data.world", "acme/products", {"files": [{"for": "f in event[1:]", "name": "{{ f }}"}]})
    (result,) = run(hook(value, when="event[0] == 'go'"), ["go", "a", "b"])
    assert result.body == {"files": [{"name": "a"}, {"name": "b"}]}


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
        ("github-workflow", payloads.github_workflow()),
        ("github-workflow", payloads.github_workflow(event="repository_dispatch", name="")),
        ("apify-run", payloads.apify_run("abc")),
        ("dbt-job", payloads.dbt_run()),
        ("gitlab-pipeline", payloads.gitlab_pipeline()),
        ("airbyte-sync", payloads.airbyte_sync()),
    ],
)
def test_evaluate_recipe_returns_updates(recipe: str, payload: JSON) -> None:
    loaded = load_file(ROOT / f"deploy/recipes/{recipe}.yaml").hooks[recipe]
    headers = {"x-github-event": "workflow_run"}
    assert isinstance(evaluate(loaded, headers, payload, SCHEMAS, Budget(1_048_576)), tuple)


def summary_of(recipe: str, payload: JSON) -> Any:
    """Return the summary that a recipe writes for a payload."""
    loaded = load_file(ROOT / f"deploy/recipes/{recipe}.yaml").hooks[recipe]
    result = evaluate(loaded, {"x-github-event": "workflow_run"}, payload, SCHEMAS, Budget(1_048_576))
    assert isinstance(result, tuple), result
    return result[0].body["summary"]


@pytest.mark.parametrize(
    ("workflow", "name"), [({"name": "test"}, "test"), ({"name": ""}, "Run"), ({}, "Run"), (None, "Run")]
)
def test_evaluate_github_recipe_run_without_name_uses_workflow(workflow: JSON, name: str) -> None:
    payload = {**payloads.github_workflow(event="repository_dispatch", name=""), "workflow": workflow}
    assert summary_of("github-workflow", payload).startswith(f"Built by [{name} #214](https://")


@pytest.mark.parametrize(
    ("commit", "title"),
    [
        ({"title": "A title", "message": "A title\n\nMore"}, "A title"),
        ({"message": "A message\n"}, "A message"),
        ({"title": None, "message": "A message"}, "A message"),
        ({"title": "", "message": ""}, "no commit title"),
        ({}, "no commit title"),
        (None, "no commit title"),
    ],
)
def test_evaluate_gitlab_recipe_commit_without_title_uses_message(commit: JSON, title: str) -> None:
    payload = {**payloads.gitlab_pipeline(), "commit": commit}
    assert summary_of("gitlab-pipeline", payload).endswith(f": {title}\n")


@pytest.mark.parametrize("change", [{"url": None}, {"finished_at": None}])
def test_evaluate_gitlab_recipe_pipeline_without_url_or_end_uses_other_fields(change: dict[str, Any]) -> None:
    assert summary_of("gitlab-pipeline", payloads.gitlab_pipeline(**change)) == summary_of(
        "gitlab-pipeline", payloads.gitlab_pipeline()
    )


@pytest.mark.parametrize(
    ("payload", "dataset"),
    [
        ({"id": "abc", "name": "-"}, "abc"),
        ({"id": "abc"}, "abc"),
        ({"id": "a b", "name": "x"}, None),
        ({"name": "x"}, None),
    ],
)
def test_evaluate_invalid_single_update_keeps_its_valid_dataset(
    run: Run, payload: dict[str, JSON], dataset: str | None
) -> None:
    with pytest.raises(InvalidEventError) as caught:
        run(hook(APIFY), payload)
    assert caught.value.dataset == dataset
    # Several updates have no dataset in common.
    with pytest.raises(InvalidEventError) as caught:
        run(hook(APIFY, APIFY), payload)
    assert caught.value.dataset is None


# The sender google

GOOGLE = {"sender": "google", "audience": "https://relay.example", "account": "push@p.example"}


def test_evaluate_push_of_google_uses_data_and_attributes(run: Run) -> None:
    title = update("data.world", "acme/products", {"title": "{{ event.title }}, {{ headers.state }}"})
    push: JSON = {"message": {"data": "eyJ0aXRsZSI6ICJBIn0=", "attributes": {"State": "done"}}, "subscription": "s"}
    (result,) = run({**GOOGLE, "updates": [title]}, push, {"content-type": "application/json"})
    assert result.body == {"title": "A, done"}


def test_evaluate_event_of_eventarc_is_its_own_payload(run: Run) -> None:
    title = update("data.world", "acme/products", {"title": "{{ event.name }}, {{ headers['ce-type'] }}"})
    (result,) = run({**GOOGLE, "updates": [title]}, {"bucket": "b", "name": "a.csv"}, {"ce-type": "finalized"})
    assert result.body == {"title": "a.csv, finalized"}


def test_evaluate_push_of_another_sender_is_its_own_payload(run: Run) -> None:
    title = update("data.world", "acme/products", {"title": "{{ event.subscription }}"})
    (result,) = run(hook(title), {"message": {"data": "e30="}, "subscription": "s"})
    assert result.body == {"title": "s"}


def test_evaluate_push_with_other_data_names_the_data(run: Run) -> None:
    push: JSON = {"message": {"data": "bm8="}, "subscription": "s"}
    assert list(errors_of(run, {**GOOGLE, "updates": [APIFY]}, push)) == ["message.data"]
