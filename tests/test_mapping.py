"""What a hook makes of a payload, and what several results make of an answer: as values, without a server."""

import itertools
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from handlers import hooks, results
from handlers.hooks import Ignored
from handlers.providers import PROVIDERS
from handlers.providers.call import Result
from handlers.senders import SENDERS, is_test_message, visible_headers
from handlers.together import Outcome, together
from handlers.tries import Progress
from schemas.bounds import Budget
from schemas.config import Config
from schemas.event import Update
from schemas.problem import Invalid, RelayError, ShareFull, UpstreamDenied, UpstreamLimited
from schemas.relay_yaml import Reader
from schemas.strict_json import JSON
from tests import payloads
from tests.hooks import hook, update

LIMIT = 1_048_576
SCHEMAS = {name: provider.EVENT for name, provider in PROVIDERS.items()}


def configured(**more: Any) -> Config:
    return Reader(SENDERS, SCHEMAS, None, LIMIT).read(yaml.safe_dump({"hooks": more}), "relay.yaml")


def read(configuration: dict[str, Any], payload: Any, headers: dict[str, str] | None = None, limit: int = LIMIT) -> Any:
    """As receive and check do it."""
    configured_hook, headers = configured(a=configuration).hooks["a"], headers or {}
    is_test = is_test_message(configured_hook.sender, headers, payload)
    return hooks.read(configured_hook, payload, visible_headers(headers), SCHEMAS, Budget(limit), is_test=is_test)


APIFY = update("apify", "{{ event.id }}", {"name": "{{ event.name }}"})


def test_updates_in_their_order() -> None:
    made = read(hook(APIFY, update("data.world", "acme/products", {"title": "T{{ event.id }}"}, token="t")),
                {"id": 17, "name": None})  # fmt: skip
    assert made[0] == Update("apify", "17", {"name": None})
    assert (made[1].provider, made[1].dataset, made[1].body) == ("data.world", "acme/products", {"title": "T17"})
    assert made[1].token.label == "hook a: updates.1.token"


def test_a_payloads_keys_keep_their_order() -> None:
    payload: JSON = {"properties": {"z": 1, "a": {"ü": [1.5, None]}, "m": 10**25}}
    (made,) = read(hook(update("data.world", "acme/products", {"properties": "{{ event.properties }}"})), payload)
    assert str(made.body) == str(payload)


def test_a_whole_update_from_the_payload() -> None:
    (made,) = read(hook(update("data.world", "acme/products", "{{ event.update }}")), {"update": {"title": "x"}})
    assert made.body == {"title": "x"}
    with pytest.raises(Invalid) as caught:
        read(hook(update("data.world", "acme/products", "{{ event.update }}")), {"update": {"titel": "x"}})
    assert caught.value.problem.errors == {"updates.0.update.titel": ["Unknown field; did you mean title?"]}


def test_all_that_is_wrong_with_all_of_them() -> None:
    second = update(
        "data.world", "{{ event.record }}", {"title": "{{ event.title }}", "tags": ["ok", "{{ event.tag }}"]}
    )
    with pytest.raises(Invalid) as caught:
        read(hook(APIFY, second), {"id": [1], "record": "x", "title": "", "tag": "!"})
    errors = caught.value.problem.errors or {}
    assert list(errors) == [
        "updates.0.dataset",
        "updates.0.update.name",
        "updates.1.dataset",
        "updates.1.update.title",
        "updates.1.update.tags.1",
    ]
    assert errors["updates.0.update.name"] == ["name is missing."]


@pytest.mark.parametrize(("value", "text"), [("abc", "abc"), (0, "0"), (10**20, str(10**20)), (True, "true")])
def test_a_dataset_becomes_text(value: JSON, text: str) -> None:
    (made,) = read(hook(update("apify", "{{ event.d }}", {"name": None})), {"d": value})
    assert made.dataset == text


def test_when() -> None:
    conditional = hook(APIFY, when="event.status == 'done'")
    assert len(read(conditional, {"status": "done", "id": 1, "name": "a"})) == 1
    assert read(conditional, {"status": "x"}) == Ignored("The hook's when is false for this event.")
    assert read(conditional, {}) == Ignored("The hook's when is false for this event: status is missing.")
    failing = read(hook(APIFY, when="event.status > 1"), {"status": "s3cret"})
    assert failing.is_odd
    assert "s3cret" not in failing.why


def test_a_when_that_costs_too_much_is_told_rather_than_false() -> None:
    """Else an event would be lost to what has nothing to do with it: the time that there was."""
    for when in ("event.list | sort | length > 1 and ('a' * 2000) == event.x", "'a' * event.n == ''"):
        with pytest.raises(Invalid) as caught:
            read(hook(APIFY, when=when), {"list": [2, 1], "n": 2_000_000, "x": ""}, limit=1000)
        assert list(caught.value.problem.errors or {}) == ["when"]


def test_no_more_errors_than_are_read() -> None:
    files = [{"name": "{{ event.x }}"} for _ in range(70)]
    many = [
        update("data.world", "acme/products", {"files": files}),
        update("data.world", "acme/products", {"files": files}),
    ]
    with pytest.raises(Invalid) as caught:
        read(hook(*many), {})
    assert len(caught.value.problem.errors or {}) == 100


def test_test_messages_come_before_when() -> None:
    assert read(hook(APIFY, sender="github", when="false"), {}, {"x-github-event": "ping"}) == Ignored(
        "This is a test message of github."
    )


def test_no_proof_is_to_be_had_in_a_template() -> None:
    shown = hook(update("data.world", "acme/products", {"properties": {"h": "{{ headers }}"}}), sender="gitlab")
    (made,) = read(
        shown, {}, {"x-gitlab-token": "s3cret", "authorization": "s3cret", "x-gitlab-event": "Pipeline Hook"}
    )
    assert made.body == {"properties": {"h": {"x-gitlab-event": "Pipeline Hook"}}}


def test_a_budget_for_the_whole_event() -> None:
    big = hook(*[update("data.world", "acme/products", {"properties": {"p": "{{ event }}"}})] * 3)
    payload = {"x": "y" * 200}
    assert len(read(big, payload, limit=1000)) == 3
    with pytest.raises(Invalid) as caught:
        read(big, payload, limit=500)
    assert list(caught.value.problem.errors or {}) == ["updates.2.update.properties.p"]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
       | st.dictionaries(st.sampled_from(["resource", "eventType", "finishedAt", "id", "defaultDatasetId", "x"]), inner,
                         max_size=4)))  # fmt: skip
def test_any_payload_is_updates_or_ignored_or_told(payload: JSON) -> None:
    recipe = {
        "sender": "apify",
        "secret": "s",
        "updates": [
            update(
                "apify", "{{ event.resource.defaultDatasetId }}", {"name": "p-{{ event.resource.finishedAt | date }}"}
            ),
            update("data.world", "acme/products", {"summary": "{{ event.x }}"}),
        ],
    }
    whole: JSON = payload if isinstance(payload, dict) else {"resource": payload}
    try:
        assert isinstance(read(recipe, whole), tuple)
    except Invalid as error:
        assert all(path.startswith("updates.") for path in error.problem.errors or {})


def test_every_recipe_payload_is_read_without_its_server() -> None:
    import pathlib

    for name, payload in (
        ("apify-run", payloads.apify_run("abc")),
        ("dbt-job", payloads.dbt_run()),
        ("gitlab-pipeline", payloads.gitlab_pipeline()),
        ("airbyte-sync", payloads.airbyte_sync()),
    ):
        text = pathlib.Path(f"deploy/recipes/{name}.yaml").read_text()
        recipe = Reader(SENDERS, SCHEMAS, None, LIMIT).read(text, name).hooks[name]
        assert isinstance(hooks.read(recipe, payload, {}, SCHEMAS, Budget(LIMIT)), tuple)


# Several results


NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
LATER = format_datetime(NOW.replace(minute=31), usegmt=True)
EARLIER = format_datetime(NOW.replace(minute=29), usegmt=True)


def outcome(error: RelayError | None = None, *, given: Any = None) -> Outcome[Any]:
    made = Outcome[Any](Update("apify", "abc", {}))
    made.progress.attempts, made.progress.upstream_status = 1, 200
    made.problem, made.given = error.problem if error else None, given
    return made


def limited(retry_after: str) -> RelayError:
    return UpstreamLimited("Slow down.", headers={"Retry-After": retry_after})


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([], (200, {})),
        ([UpstreamDenied("No.")], (502, {})),
        ([limited("7")], (503, {"Retry-After": "7"})),
        ([limited("7"), UpstreamDenied("No."), limited("30")], (503, {"Retry-After": "30"})),
        ([limited(LATER)], (503, {"Retry-After": "60"})),
        ([limited(LATER.replace("GMT", "-0000"))], (503, {"Retry-After": "60"})),
        ([limited(EARLIER)], (503, {"Retry-After": "0"})),
        ([ShareFull("Full.", headers={"Retry-After": "1"})], (503, {"Retry-After": "1"})),
        ([UpstreamLimited("Slow down.")], (503, {"Retry-After": "5"})),
    ],
)
def test_the_status_of_an_answer(errors: list[RelayError], expected: Any) -> None:
    outcomes = [outcome(given=Result(200, {})), *map(outcome, errors)]
    assert results.status(outcomes, NOW.timestamp()) == expected


def test_what_is_listed_and_logged() -> None:
    done, failed = outcome(given=Result(204, None, empty=True)), outcome(UpstreamDenied("No."))
    assert results.listed([done, failed])[0] == {"provider": "apify", "dataset": "abc", "status": 204, "body": None}
    assert results.listed([failed])[0]["problem"]["detail"] == "No."
    assert results.rehearsed([outcome(given={"request": {}, "token": "t"})])[0]["token"] == "t"
    logged = results.logged([done, failed])
    assert [each["status"] for each in logged] == [204, 502]
    assert logged[1] == {
        "provider": "apify",
        "dataset": "abc",
        "status": 502,
        "upstream_status": 200,
        "attempts": 1,
        "problem": "upstream-denied",
        "detail": "No.",
    }


def test_together_keeps_the_order_and_each_ones_fault() -> None:
    updates = [Update("apify" if number % 2 else "data.world", str(number), {}) for number in range(9)]

    def carry_out(each: Update, progress: Progress) -> str:
        progress.attempts = int(each.dataset)
        if each.dataset == "3":
            raise ShareFull("Full.")
        if each.dataset == "4":
            raise ZeroDivisionError
        return each.dataset

    made = together(updates, 2, carry_out)
    assert [each.given for each in made] == ["0", "1", "2", None, None, "5", "6", "7", "8"]
    assert [each.progress.attempts for each in made] == list(range(9))
    assert made[3].problem is not None
    assert made[3].problem.status == 503
    assert isinstance(made[4].fault, ZeroDivisionError)


@pytest.mark.parametrize("spare", range(5))
def test_threads_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    """Each update is carried out once all the same, by whoever there is. No input can make that fault."""
    started = itertools.count()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if next(started) >= spare:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    updates = [Update(provider, str(n), {}) for provider in ("apify", "data.world") for n in range(4)]
    done: list[str] = []
    made = together(updates, 3, lambda each, _: done.append(f"{each.provider}:{each.dataset}"))
    assert sorted(done) == sorted(f"{each.provider}:{each.dataset}" for each in updates)
    assert not any(each.problem for each in made)


def test_no_more_than_its_share_of_a_provider_is_under_way() -> None:
    lock, now, most = threading.Lock(), Counter[str](), Counter[str]()

    def carry_out(each: Update, _: Progress) -> None:
        with lock:
            now[each.provider] += 1
            most[each.provider] = max(most[each.provider], now[each.provider])
        time.sleep(0.05 if each.provider == "apify" else 0.01)
        with lock:
            now[each.provider] -= 1

    together([Update(provider, "x", {}) for provider in ("data.world", "apify") for _ in range(9)], 3, carry_out)
    assert most["apify"] == 3
    assert most["data.world"] <= 3


@pytest.mark.parametrize("sender", SENDERS)
def test_what_is_asked_for(sender: str) -> None:
    scheme = "Basic" if sender in ("databricks", "azure-devops", "jenkins", "basic") else "Bearer"
    assert SENDERS[sender].challenge == f'{scheme} realm="dataset-relay"'
