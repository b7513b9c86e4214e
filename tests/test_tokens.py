"""Secrets: the official client against a real gRPC server, files, variables, and the cache over them."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from deploy.local.cloud import free_port
from deploy.local.secret_manager import SecretManager
from handlers.deadline import Deadline
from handlers.tokens import Secret, Secrets, fetches
from schemas.problem import SecretUnreachable, SecretUnusable
from schemas.reference import SecretReference

NAME = "projects/p/secrets/token"
LATEST = SecretReference("manager", f"{NAME}/versions/latest", "APIFY_TOKEN")


def soon() -> Deadline:
    return Deadline.after(9)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A fetch that nobody waits for goes on, and draws its pauses by chance: beside a test that may not bear it."""
    yield
    for thread in threading.enumerate():
        if "_fetch" in thread.name:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def manager() -> Iterator[SecretManager]:
    started = SecretManager().start()
    started.add_version(NAME, "first\n")
    yield started
    started.stop()


def secrets_of(manager: SecretManager, ttl: float = 300.0) -> Secrets:
    return Secrets(fetches({}, manager.address), ttl)


def known(secret: Secret) -> tuple[str, str]:
    return secret.text, secret.source


def test_the_latest_version_without_its_line_end(manager: SecretManager) -> None:
    secrets = secrets_of(manager)
    assert known(secrets.get(LATEST, soon())) == ("first", f"{NAME}/versions/1")
    manager.add_version(NAME, b"second\r\n")
    assert known(secrets_of(manager).get(LATEST, soon())) == ("second", f"{NAME}/versions/2")
    first = SecretReference("manager", f"{NAME}/versions/1")
    assert secrets.get(first, soon()).text == "first"


def test_only_the_line_end_goes() -> None:
    secrets = Secrets(fetches({"X": "  padded key \r\n\n"}, None), 1)
    assert known(secrets.get(SecretReference("env", "X"), soon())) == ("  padded key ", "env:X")


def test_a_secret_does_not_show_itself() -> None:
    assert "swordfish" not in repr(Secret("swordfish", "env:X"))


def test_kept_for_its_time(manager: SecretManager) -> None:
    secrets = secrets_of(manager, ttl=0.3)
    for _ in range(5):
        assert secrets.get(LATEST, soon()).text == "first"
    assert len(manager.accesses) == 1
    manager.add_version(NAME, "second")
    time.sleep(0.35)
    assert secrets.get(LATEST, soon()).text == "second"
    assert len(manager.accesses) == 2


def test_threads_share_one_fetch(manager: SecretManager) -> None:
    secrets = secrets_of(manager)
    manager.delay = 0.2
    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda _: secrets.get(LATEST, soon()).text, range(40)))
    assert found == ["first"] * 40
    assert len(manager.accesses) == 1


def test_threads_share_one_failure(manager: SecretManager) -> None:
    secrets = secrets_of(manager)
    manager.delay = 0.2
    manager.refusals[NAME] = grpc.StatusCode.PERMISSION_DENIED

    def get(_: int) -> str:
        try:
            return secrets.get(LATEST, soon()).text
        except SecretUnusable as error:
            return error.problem.detail

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(get, range(20))) == {"APIFY_TOKEN can't be had: PERMISSION_DENIED."}
    assert len(manager.accesses) == 1
    manager.refusals.clear()
    assert secrets.get(LATEST, soon()).text == "first"


def test_different_secrets_do_not_wait_for_each_other(manager: SecretManager) -> None:
    hold = threading.Event()

    def slow(reference: SecretReference, _seconds: float) -> tuple[bytes, str]:
        if reference.name == "slow":
            hold.wait(5)
        return reference.name.encode(), "here"

    secrets = Secrets({"env": slow}, 300)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(secrets.get, SecretReference("env", "slow"), soon())
        assert secrets.get(SecretReference("env", "fast"), soon()).text == "fast"
        assert not waiting.done()
        hold.set()
        assert waiting.result().text == "slow"


def test_who_waits_for_anothers_fetch_waits_no_longer_than_its_own_deadline() -> None:
    hold = threading.Event()

    def slow(_reference: SecretReference, _seconds: float) -> tuple[bytes, str]:
        hold.wait(5)
        return b"x", "here"

    secrets, reference = Secrets({"env": slow}, 300), SecretReference("env", "x")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(secrets.get, reference, soon())
        while not secrets._under_way:
            time.sleep(0.001)
        with pytest.raises(SecretUnreachable):
            secrets.get(reference, Deadline.after(0.05))
        hold.set()
        assert first.result().text == "x"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.NOT_FOUND, SecretUnusable),
        (grpc.StatusCode.PERMISSION_DENIED, SecretUnusable),
        (grpc.StatusCode.UNAUTHENTICATED, SecretUnusable),
        (grpc.StatusCode.FAILED_PRECONDITION, SecretUnusable),
        (grpc.StatusCode.INVALID_ARGUMENT, SecretUnusable),
        (grpc.StatusCode.UNAVAILABLE, SecretUnreachable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, SecretUnreachable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, SecretUnreachable),
        (grpc.StatusCode.INTERNAL, SecretUnreachable),
        (grpc.StatusCode.UNKNOWN, SecretUnreachable),
        (grpc.StatusCode.ABORTED, SecretUnreachable),
    ],
)
def test_refusals(manager: SecretManager, code: grpc.StatusCode, error: type[Exception]) -> None:
    manager.refusals[""] = code
    with pytest.raises(error, match="APIFY_TOKEN"):
        secrets_of(manager).get(LATEST, Deadline.after(0.5))


def test_a_passing_failure_is_tried_again(manager: SecretManager) -> None:
    manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
    threading.Timer(0.4, manager.refusals.clear).start()
    assert secrets_of(manager).get(LATEST, soon()).text == "first"
    assert len(manager.accesses) > 1


def test_missing_destroyed_empty_damaged(manager: SecretManager) -> None:
    manager.secrets["projects/p/secrets/destroyed"] = [None]
    manager.add_version("projects/p/secrets/empty", "\n")
    manager.add_version("projects/p/secrets/binary", b"\xff\xfe")
    manager.add_version("projects/p/secrets/changed", "abc")
    manager.damaged.add("projects/p/secrets/changed")
    secrets = secrets_of(manager)
    for name, said in (
        ("missing", "NOT_FOUND"),
        ("destroyed", "FAILED_PRECONDITION"),
        ("empty", "is empty"),
        ("binary", "isn't UTF-8"),
        ("changed", "checksum"),
    ):
        with pytest.raises(SecretUnusable, match=said):
            secrets.get(SecretReference("manager", f"projects/p/secrets/{name}/versions/latest"), soon())


def test_a_dead_service_is_given_up_in_time() -> None:
    secrets = Secrets(fetches({}, f"127.0.0.1:{free_port()}"), 300)
    began = time.monotonic()
    with pytest.raises(SecretUnreachable) as caught:
        secrets.get(LATEST, soon())
    assert time.monotonic() - began < 4
    assert caught.value.problem.headers == {"Retry-After": "5"}
    assert caught.value.problem.retryable


def test_a_hanging_service_is_given_up_in_time(manager: SecretManager) -> None:
    manager.delay = 30
    began = time.monotonic()
    with pytest.raises(SecretUnreachable):
        secrets_of(manager).get(LATEST, Deadline.after(0.7))
    assert time.monotonic() - began < 1.7
    manager.delay = 0


def test_an_outage_is_bridged_with_what_is_kept(manager: SecretManager) -> None:
    secrets = secrets_of(manager, ttl=0.05)
    assert secrets.get(LATEST, soon()).text == "first"
    manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
    time.sleep(0.1)
    began = time.monotonic()
    assert secrets.get(LATEST, Deadline.after(0.4)).text == "first"
    assert time.monotonic() - began < 0.9
    # The fetch goes on; whoever comes meanwhile is not kept waiting for it.
    began = time.monotonic()
    assert secrets.get(LATEST, soon()).text == "first"
    assert time.monotonic() - began < 1
    manager.refusals[""] = grpc.StatusCode.PERMISSION_DENIED
    while secrets._under_way:
        time.sleep(0.01)
    with pytest.raises(SecretUnusable):
        secrets.get(LATEST, soon())


def test_an_outage_is_asked_after_now_and_then(manager: SecretManager) -> None:
    secrets = secrets_of(manager, ttl=0.5)
    assert secrets.get(LATEST, soon()).text == "first"
    manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
    time.sleep(0.55)
    assert secrets.get(LATEST, soon()).text == "first"
    asked = len(manager.accesses)
    for _ in range(10):
        assert secrets.get(LATEST, soon()).text == "first"
    assert len(manager.accesses) == asked


def test_one_that_hangs_does_not_hold_up_those_beside_it(manager: SecretManager) -> None:
    def hang(_reference: SecretReference, _seconds: float) -> tuple[bytes, str]:
        time.sleep(1.5)
        raise SecretUnreachable("Not there.")

    secrets = Secrets({**fetches({"X": "x"}, manager.address), "file": hang}, 300)
    hanging = [SecretReference("file", f"/{number}") for number in range(3)]
    references = [*hanging, LATEST, SecretReference("env", "X")]
    began = time.monotonic()
    found = dict(secrets.each(references, Deadline.after(1)))
    assert time.monotonic() - began < 0.8
    assert [isinstance(found[each], SecretUnreachable) for each in references] == [True, True, True, False, False]


def test_a_fault_in_a_fetch_is_a_secret_that_cannot_be_had() -> None:
    def fail(_reference: SecretReference, _seconds: float) -> tuple[bytes, str]:
        raise ZeroDivisionError

    with pytest.raises(SecretUnusable, match="APIFY_TOKEN can't be had; the function's log says why"):
        Secrets({"manager": fail}, 300).get(LATEST, soon())


def test_without_credentials_there_is_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(SecretUnusable, match="no usable Google credentials"):
        Secrets(fetches({}, None), 300).get(LATEST, soon())


def test_without_a_thread_to_spare_the_next_one_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that no input can make."""
    secrets, reference = Secrets(fetches({"X": "x"}, None), 300), SecretReference("env", "X")

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(SecretUnreachable, match="no thread to spare"):
            secrets.get(reference, soon())
    assert secrets.get(reference, soon()).text == "x"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "token"
    secrets = Secrets(fetches({}, None), 0.0)
    reference = SecretReference("file", str(path))
    with pytest.raises(SecretUnusable, match="No such file"):
        secrets.get(reference, soon())
    path.write_text("one\n")
    assert known(secrets.get(reference, soon())) == ("one", f"file:{path}")
    path.write_text("two")
    assert secrets.get(reference, soon()).text == "two"
    path.write_text("")
    with pytest.raises(SecretUnusable, match="empty"):
        secrets.get(reference, soon())
    with pytest.raises(SecretUnusable, match="Is a directory"):
        secrets.get(SecretReference("file", str(tmp_path)), soon())


def test_a_refused_value_is_fetched_past_the_cache(manager: SecretManager) -> None:
    secrets = secrets_of(manager)
    first = secrets.get(LATEST, soon())
    assert known(secrets.renewed(LATEST, first, soon())) == known(first)
    assert len(manager.accesses) == 2
    manager.add_version(NAME, "second")
    second = secrets.renewed(LATEST, first, soon())
    assert known(second) == ("second", f"{NAME}/versions/2")
    # Somebody has fetched it meanwhile: it is at hand.
    assert known(secrets.renewed(LATEST, first, soon())) == known(second)
    assert len(manager.accesses) == 3


def test_a_refused_value_is_no_stand_in(manager: SecretManager) -> None:
    secrets = secrets_of(manager)
    first = secrets.get(LATEST, soon())
    manager.refusals[""] = grpc.StatusCode.UNAVAILABLE
    began = time.monotonic()
    with pytest.raises(SecretUnreachable):
        secrets.renewed(LATEST, first, Deadline.after(0.6))
    assert time.monotonic() - began < 2
    # For who hasn't been refused, it still is one.
    assert known(secrets.get(LATEST, soon())) == known(first)


def test_forced_fetches_are_one_too(manager: SecretManager) -> None:
    secrets = secrets_of(manager)
    first = secrets.get(LATEST, soon())
    manager.add_version(NAME, "second")
    manager.delay = 0.3
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: secrets.renewed(LATEST, first, soon()).text, range(20)))
    assert found == ["second"] * 20
    assert len(manager.accesses) == 2


def test_a_fetch_that_is_older_than_the_refusal_proves_nothing(manager: SecretManager) -> None:
    """It may have read the old version before there was a new one."""
    secrets = secrets_of(manager, ttl=0.1)
    first = secrets.get(LATEST, soon())
    time.sleep(0.15)
    manager.delay = 0.5
    with ThreadPoolExecutor(9) as pool:
        older = pool.submit(secrets.get, LATEST, soon())
        while len(manager.accesses) < 2:
            time.sleep(0.01)
        manager.add_version(NAME, "second")
        forced = [pool.submit(secrets.renewed, LATEST, first, soon()) for _ in range(8)]
        assert older.result().text == "first"
        assert {each.result().text for each in forced} == {"second"}
    assert len(manager.accesses) == 3


def test_many_that_are_refused_for_good_do_not_queue(manager: SecretManager) -> None:
    """Whatever is under way when they come, two fetches tell them all."""
    secrets = secrets_of(manager)
    first = secrets.get(LATEST, soon())
    manager.delay = 0.2
    with ThreadPoolExecutor(40) as pool:
        older = pool.submit(secrets.renewed, LATEST, first, soon())
        while len(manager.accesses) < 2:
            time.sleep(0.01)
        began = time.monotonic()
        assert {each.text for each in pool.map(lambda _: secrets.renewed(LATEST, first, soon()), range(39))} == {
            "first"
        }
        assert time.monotonic() - began < 3
        assert known(older.result()) == known(first)
    assert len(manager.accesses) == 3
