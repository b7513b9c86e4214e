"""The cache of secrets, with a source and a clock that the tests control."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from handlers.deadline import Deadline
from handlers.logs import LOGGER
from handlers.secret_store import store as module
from handlers.secret_store.fetch_error import FetchError
from handlers.secret_store.store import (
    FETCH_WAIT_SECONDS,
    OUTAGE_SECONDS,
    REFRESH_SECONDS,
    STALE_WAIT_SECONDS,
    UNUSABLE_SECONDS,
    Secret,
    SecretStore,
    create_fetchers,
)
from schemas.problem import SecretUnreachableError, SecretUnusableError
from schemas.secret_reference import SecretReference
from tests.unit.secret_store.fakes import (
    LONG,
    REFERENCE,
    TTL,
    Clock,
    Fixture,
    Source,
    WatchedDeadline,
    await_fetches,
    passed,
    soon,
)

OUTAGE = FetchError("is unavailable: Secret Manager is unreachable.", is_transient=True)
DENIED = FetchError("is unavailable: Secret Manager returned PERMISSION_DENIED.")


class RecordingHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def no_fetch_left() -> Iterator[None]:
    """Fail a test that leaves a fetch in progress."""
    yield
    await_fetches()


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


@pytest.fixture
def cached(fixture: Fixture) -> Fixture:
    """Return a store with a secret in its cache."""
    fixture.store.get(REFERENCE, soon())
    fixture.source.await_start()
    return fixture


@pytest.fixture
def expired(cached: Fixture) -> Fixture:
    """Return a store with an expired secret in its cache."""
    cached.clock.now += TTL
    return cached


@pytest.fixture
def log() -> Iterator[list[logging.LogRecord]]:
    """Return the records that the code under test logs."""
    handler = RecordingHandler()
    LOGGER.addHandler(handler)
    yield handler.records
    LOGGER.removeHandler(handler)


def test_secret_repr_hides_the_text() -> None:
    assert "CANARY" not in repr(Secret("CANARY-token", "env:X"))


# The cache


def test_get_cached_secret_fetches_once(fixture: Fixture) -> None:
    for _ in range(5):
        assert fixture.store.get(REFERENCE, soon()) == Secret("CANARY-first", "version 1")
        fixture.clock.now += TTL / 5 - 0.01
    assert fixture.source.fetches == 1


def test_get_expired_secret_fetches_again(expired: Fixture) -> None:
    expired.source.text = "CANARY-second"
    assert expired.store.get(REFERENCE, soon()) == Secret("CANARY-second", "version 2")


def test_get_references_with_different_labels_have_one_secret(fixture: Fixture) -> None:
    fixture.store.get(REFERENCE, soon())
    fixture.store.get(SecretReference("env", REFERENCE.name, "hook a: secret"), soon())
    assert fixture.source.fetches == 1


def test_get_unusable_secret_is_remembered_for_five_seconds(fixture: Fixture) -> None:
    fixture.source.error = DENIED
    for _ in range(3):
        with pytest.raises(SecretUnusableError, match="PERMISSION_DENIED"):
            fixture.store.get(REFERENCE, soon())
    fixture.source.error = None
    fixture.clock.now += UNUSABLE_SECONDS - 0.25
    with pytest.raises(SecretUnusableError):
        fixture.store.get(REFERENCE, soon())
    assert fixture.source.fetches == 1
    fixture.clock.now += 0.25
    assert fixture.store.get(REFERENCE, soon()).text == "CANARY-first"


@pytest.mark.parametrize("error", [OUTAGE, DENIED])
def test_get_unavailable_secret_of_two_settings_names_the_setting_of_the_caller(
    fixture: Fixture, error: FetchError
) -> None:
    fixture.source.error = error
    for label in ("APIFY_TOKEN", "hook a: secret", "APIFY_TOKEN"):
        with pytest.raises((SecretUnreachableError, SecretUnusableError)) as caught:
            fixture.store.get(SecretReference("env", REFERENCE.name, label), soon())
        assert str(caught.value) == f"{label} {error}"


def test_get_secret_that_became_unusable_raises(expired: Fixture) -> None:
    expired.source.error = DENIED
    with pytest.raises(SecretUnusableError):
        expired.store.get(REFERENCE, soon())
    expired.clock.now += UNUSABLE_SECONDS
    with pytest.raises(SecretUnusableError):
        expired.store.get(REFERENCE, soon())
    assert expired.source.fetches == 3


def test_get_outage_after_unusable_secret_does_not_return_the_old_secret(expired: Fixture) -> None:
    """An operator may have disabled the old secret because it leaked."""
    expired.source.error = DENIED
    with pytest.raises(SecretUnusableError):
        expired.store.get(REFERENCE, soon())
    expired.clock.now += UNUSABLE_SECONDS
    expired.source.error = OUTAGE
    with pytest.raises(SecretUnreachableError):
        expired.store.get(REFERENCE, soon())


# Concurrent callers


@pytest.mark.parametrize("error", [None, OUTAGE, DENIED])
def test_get_concurrent_callers_have_one_fetch(fixture: Fixture, error: Exception | None) -> None:
    def get(_: int) -> str:
        try:
            return fixture.store.get(REFERENCE, deadline).text
        except (SecretUnreachableError, SecretUnusableError) as raised:
            return raised.problem.detail

    fixture.source.pause()
    fixture.source.error = error
    deadline = WatchedDeadline()
    with ThreadPoolExecutor(20) as pool:
        results = pool.map(get, range(20))
        deadline.await_callers(20)
        fixture.source.finish_fetch()
        assert set(results) == {f"APIFY_TOKEN {error}" if error else "CANARY-first"}
    assert fixture.source.fetches == 1


def test_get_hanging_fetch_does_not_delay_another_secret() -> None:
    slow, fast = Source(), Source("CANARY-fast")
    slow.pause()
    store = SecretStore({"env": slow.fetch, "file": fast.fetch}, TTL)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.get, REFERENCE, soon())
        slow.await_start()
        assert store.get(SecretReference("file", "/fast"), soon()).text == "CANARY-fast"
        assert not waiting.done()
        slow.finish_fetch()
        assert waiting.result().text == "CANARY-first"


def test_get_deadline_ends_the_wait_for_the_fetch_of_another_caller(fixture: Fixture) -> None:
    fixture.source.pause()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fixture.store.get, REFERENCE, soon())
        fixture.source.await_start()
        with pytest.raises(SecretUnreachableError, match="didn't respond in time"):
            fixture.store.get(REFERENCE, passed())
        fixture.source.finish_fetch()
        assert waiting.result().text == "CANARY-first"


def test_get_fetch_continues_without_its_caller(fixture: Fixture) -> None:
    fixture.source.pause()
    with pytest.raises(SecretUnreachableError):
        fixture.store.get(REFERENCE, passed())
    fixture.source.finish_fetch()
    await_fetches()
    assert fixture.store.get(REFERENCE, passed()).text == "CANARY-first"
    assert fixture.source.fetches == 1


@pytest.mark.parametrize(
    ("is_cached", "remaining", "expected"),
    [
        (False, 2.0, 1.0),
        (False, 60.0, FETCH_WAIT_SECONDS),
        (True, 1.0, 0.5),
        (True, 60.0, STALE_WAIT_SECONDS),
    ],
)
def test_get_waits_for_half_of_the_remaining_time_at_most(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch, is_cached: bool, remaining: float, expected: float
) -> None:
    timeouts = []

    def as_completed(fetches: Any, timeout: float) -> Iterator[Any]:
        timeouts.append(timeout)
        raise TimeoutError

    if is_cached:
        fixture.store.get(REFERENCE, soon())
        fixture.clock.now += TTL
    # A fetch that ends early would put the secret into the cache.
    fixture.source.pause()
    monkeypatch.setattr(module, "as_completed", as_completed)
    monkeypatch.setattr(Deadline, "remaining", lambda _: remaining)
    list(fixture.store.iter_secrets([REFERENCE], soon()))
    fixture.source.finish_fetch()
    assert timeouts == [expected]


def test_get_process_out_of_threads_raises_unreachable(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(SecretUnreachableError, match="no thread is available"):
            fixture.store.get(REFERENCE, soon())
    assert fixture.store.get(REFERENCE, soon()).text == "CANARY-first"


def test_get_unforeseen_error_raises_unusable_and_logs_the_stack(
    fixture: Fixture, log: list[logging.LogRecord]
) -> None:
    fixture.source.error = ZeroDivisionError("CANARY")
    with pytest.raises(SecretUnusableError, match="APIFY_TOKEN is unavailable") as caught:
        fixture.store.get(REFERENCE, soon())
    assert "CANARY" not in str(caught.value)
    (record,) = log
    assert record.levelno == logging.ERROR
    assert "APIFY_TOKEN" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[1] is fixture.source.error


# Outages of the source


def test_get_outage_expired_secret_is_returned_and_logged(expired: Fixture, log: list[logging.LogRecord]) -> None:
    expired.source.error = OUTAGE
    assert expired.store.get(REFERENCE, soon()) == Secret("CANARY-first", "version 1")
    assert [(record.levelno, record.getMessage()) for record in log] == [(logging.WARNING, f"APIFY_TOKEN {OUTAGE}")]


def test_get_outage_without_cached_secret_raises(fixture: Fixture) -> None:
    fixture.source.error = OUTAGE
    with pytest.raises(SecretUnreachableError) as caught:
        fixture.store.get(REFERENCE, soon())
    assert caught.value.problem.retryable
    assert caught.value.problem.headers == {"Retry-After": str(int(OUTAGE_SECONDS))}


def test_get_outage_fetches_now_and_then(expired: Fixture) -> None:
    expired.source.error = OUTAGE
    for _ in range(10):
        assert expired.store.get(REFERENCE, soon()).text == "CANARY-first"
    assert expired.source.fetches == 2
    expired.clock.now += OUTAGE_SECONDS
    assert expired.store.get(REFERENCE, soon()).text == "CANARY-first"
    assert expired.source.fetches == 3


def test_get_after_outage_returns_the_new_secret(expired: Fixture) -> None:
    expired.source.error = OUTAGE
    expired.store.get(REFERENCE, soon())
    expired.source.error, expired.source.text = None, "CANARY-second"
    expired.clock.now += OUTAGE_SECONDS
    assert expired.store.get(REFERENCE, soon()).text == "CANARY-second"


def test_get_hanging_source_expired_secret_is_returned(expired: Fixture) -> None:
    expired.source.pause()
    assert expired.store.get(REFERENCE, passed()).text == "CANARY-first"
    # The fetch is still in progress. No caller waits for the fetch while the cache has a value.
    deadline = WatchedDeadline()
    assert expired.store.get(REFERENCE, deadline).text == "CANARY-first"
    assert not deadline.waiting.acquire(blocking=False)
    expired.source.await_start()
    expired.source.finish_fetch()
    assert expired.source.fetches == 2


# Several secrets


def test_iter_secrets_unavailable_secret_does_not_stop_the_others() -> None:
    hanging, working, denied = Source(error=OUTAGE), Source("CANARY-working"), Source(error=DENIED)
    hanging.pause()
    store = SecretStore({"env": hanging.fetch, "file": working.fetch, "manager": denied.fetch}, TTL)
    references = [SecretReference("env", "X"), SecretReference("file", "/x"), SecretReference("manager", "x")]
    iterator = store.iter_secrets(references, soon())
    arrived = dict([next(iterator), next(iterator)])
    assert arrived[references[1]] == Secret("CANARY-working", "version 1")
    assert isinstance(denied_error := arrived[references[2]], SecretUnusableError)
    assert str(denied_error) == f"a secret {DENIED}"
    hanging.finish_fetch()
    ((reference, error),) = iterator
    assert reference == references[0]
    assert isinstance(error, SecretUnreachableError)


def test_iter_secrets_deadline_yields_the_secrets_that_did_not_arrive() -> None:
    hanging = Source()
    hanging.pause()
    references = [
        SecretReference("env", "X", "RELAY_SECRET (1 of 2)"),
        SecretReference("env", "Y", "RELAY_SECRET (2 of 2)"),
    ]
    secrets = dict(SecretStore({"env": hanging.fetch}, TTL).iter_secrets(references, passed()))
    hanging.finish_fetch()
    hanging.finish_fetch()
    assert {reference: str(error) for reference, error in secrets.items()} == {
        reference: f"{reference.label} is unavailable: the source didn't respond in time." for reference in references
    }


def test_iter_secrets_cached_secret_comes_before_a_fetch(cached: Fixture) -> None:
    cached.source.pause()
    other = SecretReference("env", "OTHER")
    iterator = cached.store.iter_secrets([other, REFERENCE], soon())
    assert next(iterator) == (REFERENCE, Secret("CANARY-first", "version 1"))
    cached.source.finish_fetch()
    assert next(iterator) == (other, Secret("CANARY-first", "version 2"))
    assert list(iterator) == []


def test_iter_secrets_without_iteration_fetches_nothing(fixture: Fixture) -> None:
    fixture.store.iter_secrets([REFERENCE], soon())
    assert fixture.source.fetches == 0


def test_iter_secrets_no_references_yields_nothing(fixture: Fixture) -> None:
    assert list(fixture.store.iter_secrets([], soon())) == []


# Refused secrets


def test_refresh_bypasses_the_cache(cached: Fixture) -> None:
    first = cached.store.get(REFERENCE, soon())
    cached.source.text = "CANARY-second"
    assert cached.store.refresh(REFERENCE, first, soon()) == Secret("CANARY-second", "version 2")
    assert cached.store.get(REFERENCE, soon()) == Secret("CANARY-second", "version 2")
    assert cached.source.fetches == 2


def test_refresh_unchanged_secret_returns_the_refused_text(cached: Fixture) -> None:
    first = cached.store.get(REFERENCE, soon())
    assert cached.store.refresh(REFERENCE, first, soon()).text == first.text
    assert cached.source.fetches == 2


def test_refresh_newer_secret_in_the_cache_is_returned_without_a_fetch(cached: Fixture) -> None:
    first = cached.store.get(REFERENCE, soon())
    cached.source.text = "CANARY-second"
    second = cached.store.refresh(REFERENCE, first, soon())
    assert cached.store.refresh(REFERENCE, first, soon()) == second
    assert cached.source.fetches == 2


def test_refresh_outage_raises_instead_of_returning_the_refused_secret(cached: Fixture) -> None:
    first = cached.store.get(REFERENCE, soon())
    cached.source.error = OUTAGE
    with pytest.raises(SecretUnreachableError):
        cached.store.refresh(REFERENCE, first, soon())
    # For other callers the secret is still the best one.
    assert cached.store.get(REFERENCE, soon()) == first


def test_refresh_deadline_ends_the_wait(cached: Fixture) -> None:
    first = cached.store.get(REFERENCE, soon())
    cached.source.pause()
    with pytest.raises(SecretUnreachableError, match="didn't respond in time"):
        cached.store.refresh(REFERENCE, first, passed())
    cached.source.finish_fetch()


def test_refresh_concurrent_callers_have_one_fetch(cached: Fixture) -> None:
    first = cached.store.get(REFERENCE, soon())
    cached.source.pause()
    cached.source.text = "CANARY-second"
    deadline = WatchedDeadline()
    with ThreadPoolExecutor(20) as pool:
        results = pool.map(lambda _: cached.store.refresh(REFERENCE, first, deadline).text, range(20))
        deadline.await_callers(20)
        cached.source.finish_fetch()
        assert set(results) == {"CANARY-second"}
    assert cached.source.fetches == 2


def test_refresh_fetch_from_before_the_refusal_does_not_count(expired: Fixture) -> None:
    """The earlier fetch may have read the old version just before the rotation."""
    first = Secret("CANARY-first", "version 1")
    expired.source.pause()
    deadline = WatchedDeadline()
    with ThreadPoolExecutor(9) as pool:
        earlier = pool.submit(expired.store.get, REFERENCE, soon())
        expired.source.await_start()
        expired.source.text = "CANARY-second"
        results = pool.map(lambda _: expired.store.refresh(REFERENCE, first, deadline).text, range(8))
        deadline.await_callers(8)
        expired.source.finish_fetch()
        assert earlier.result(LONG).text == "CANARY-first"
        deadline.await_callers(8)
        expired.source.finish_fetch()
        assert set(results) == {"CANARY-second"}
    assert expired.source.fetches == 3


def test_refresh_fetch_from_before_the_refusal_with_another_secret_counts(expired: Fixture) -> None:
    first = Secret("CANARY-first", "version 1")
    expired.source.pause()
    expired.source.text = "CANARY-second"
    deadline = WatchedDeadline()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(expired.store.get, REFERENCE, soon())
        expired.source.await_start()
        expired.source.finish_fetch()
        assert expired.store.refresh(REFERENCE, first, deadline).text == "CANARY-second"
    assert expired.source.fetches == 2


def test_refresh_many_callers_with_an_unchanged_secret_have_one_fetch_a_second(cached: Fixture) -> None:
    """The callers wait for the fetch in progress and for one fetch more, however many callers there are."""
    first = cached.store.get(REFERENCE, soon())
    cached.source.pause()
    deadline = WatchedDeadline()
    with ThreadPoolExecutor(20) as pool:
        earlier = pool.submit(cached.store.refresh, REFERENCE, first, soon())
        cached.source.await_start()
        started = cached.clock.now
        results = pool.map(lambda _: cached.store.refresh(REFERENCE, first, deadline).text, range(19))
        deadline.await_callers(19)
        cached.source.finish_fetch()
        assert earlier.result(LONG).text == "CANARY-first"
        cached.source.await_start()
        assert cached.clock.now == started + REFRESH_SECONDS
        deadline.await_callers(19)
        cached.source.finish_fetch()
        assert set(results) == {"CANARY-first"}
    assert cached.source.fetches == 3


def test_refresh_refused_again_within_a_second_waits_for_the_next_fetch(cached: Fixture) -> None:
    """A secret that is rotated within a second of a refusal must not fail an event."""
    first = cached.store.get(REFERENCE, soon())
    cached.store.refresh(REFERENCE, first, soon())
    refreshed = cached.clock.now
    cached.source.text = "CANARY-second"
    cached.clock.now += REFRESH_SECONDS / 4
    assert cached.store.refresh(REFERENCE, first, soon()).text == "CANARY-second"
    assert cached.clock.now == refreshed + REFRESH_SECONDS
    assert cached.source.fetches == 3


def test_refresh_fetch_that_waits_for_its_time_is_shared(fixture: Fixture) -> None:
    """The fetch has not started, so its secret is current for every caller that joins the fetch."""
    permit = threading.Event()

    def sleep(_seconds: float) -> None:
        assert permit.wait(LONG)

    store = SecretStore({"env": fixture.source.fetch}, TTL, fixture.clock, sleep)
    first = store.get(REFERENCE, soon())
    store.refresh(REFERENCE, first, soon())
    deadline = WatchedDeadline()
    with ThreadPoolExecutor(9) as pool:
        results = pool.map(lambda _: store.refresh(REFERENCE, first, deadline).text, range(9))
        deadline.await_callers(9)
        # Other callers use the cached secret in the meantime.
        assert store.get(REFERENCE, passed()) == Secret("CANARY-first", "version 2")
        permit.set()
        assert set(results) == {"CANARY-first"}
    assert fixture.source.fetches == 3


def test_refresh_outage_raises_for_each_caller(cached: Fixture) -> None:
    """Another attempt can succeed, so the error must not be that of the refused token."""
    first = cached.store.get(REFERENCE, soon())
    cached.source.error = OUTAGE
    for _ in range(2):
        with pytest.raises(SecretUnreachableError):
            cached.store.refresh(REFERENCE, first, soon())
    cached.source.error = None
    assert cached.store.refresh(REFERENCE, first, soon()).text == first.text


def test_refresh_process_out_of_threads_raises_unreachable(cached: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    first = cached.store.get(REFERENCE, soon())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(SecretUnreachableError, match="no thread is available"):
            cached.store.refresh(REFERENCE, first, soon())
    assert cached.store.refresh(REFERENCE, first, soon()).text == first.text


def test_refresh_unusable_secret_is_remembered(cached: Fixture) -> None:
    first = cached.store.get(REFERENCE, soon())
    cached.source.error = DENIED
    for _ in range(2):
        with pytest.raises(SecretUnusableError):
            cached.store.refresh(REFERENCE, first, soon())
        cached.clock.now += REFRESH_SECONDS
    assert cached.source.fetches == 2
    cached.clock.now += UNUSABLE_SECONDS
    cached.source.error = None
    assert cached.store.refresh(REFERENCE, first, soon()).text == "CANARY-first"


# Environment variables and files


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("CANARY\n", "CANARY"),
        ("CANARY\r\n", "CANARY"),
        ("  CANARY key \r\n\n", "  CANARY key "),
        ("CANARY", "CANARY"),
        ("\ufeffCANARY\n", "CANARY"),
    ],
)
def test_get_newline_at_the_end_is_no_part_of_the_secret(value: str, text: str) -> None:
    store = SecretStore(create_fetchers({"X": value}, None), TTL)
    assert store.get(SecretReference("env", "X"), soon()) == Secret(text, "env:X")


@pytest.mark.parametrize("value", ["", "\n", " \t\r\n", None])
def test_get_empty_variable_raises_unusable(value: str | None) -> None:
    store = SecretStore(create_fetchers({} if value is None else {"X": value}, None), TTL)
    with pytest.raises(SecretUnusableError, match="RELAY_SECRET is empty"):
        store.get(SecretReference("env", "X", "RELAY_SECRET"), soon())


def test_get_file_is_read_again_when_the_secret_expires(tmp_path: Path) -> None:
    """A mounted secret is replaced in place."""
    path = tmp_path / "token"
    clock = Clock()
    store = SecretStore(create_fetchers({}, None), ttl=0, clock=clock)
    reference = SecretReference("file", str(path), "APIFY_TOKEN")
    with pytest.raises(SecretUnusableError, match="APIFY_TOKEN is unavailable: No such file"):
        store.get(reference, soon())
    path.write_text("CANARY-one\n")
    clock.now += UNUSABLE_SECONDS
    assert store.get(reference, soon()) == Secret("CANARY-one", f"file:{path}")
    path.write_text("CANARY-two")
    assert store.get(reference, soon()).text == "CANARY-two"
    path.write_text("")
    with pytest.raises(SecretUnusableError, match="empty"):
        store.get(reference, soon())
    clock.now += UNUSABLE_SECONDS
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SecretUnusableError, match="UTF-8"):
        store.get(reference, soon())


def test_get_directory_raises_unusable(tmp_path: Path) -> None:
    with pytest.raises(SecretUnusableError, match="Is a directory"):
        SecretStore(create_fetchers({}, None), TTL).get(SecretReference("file", str(tmp_path)), soon())
