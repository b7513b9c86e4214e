"""The official client of Secret Manager against a gRPC server on this machine."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from deploy.local.cloud import free_port
from deploy.local.secret_manager import SecretManager as Server
from handlers.deadline import Deadline
from handlers.secret_store import google
from handlers.secret_store.fetch_error import FetchError
from handlers.secret_store.google import SecretManager
from handlers.secret_store.store import Secret, SecretStore, create_fetchers
from schemas.problem import SecretUnusableError
from schemas.secret_reference import SecretReference

NAME = "projects/p/secrets/token"
LATEST = SecretReference("manager", f"{NAME}/versions/latest", "APIFY_TOKEN")
#: Long enough for every fetch here, in seconds.
LONG = 30.0


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server().start()
    started.add_version(NAME, "CANARY-first\n")
    yield started
    started.stop()


def fetch(server: Server, reference: SecretReference = LATEST, seconds: float = LONG) -> tuple[bytes, str]:
    return SecretManager(server.address).fetch(reference, seconds)


def reference_of(name: str) -> SecretReference:
    return SecretReference("manager", f"projects/p/secrets/{name}/versions/latest", "RELAY_SECRET")


def test_fetch_latest_version_returns_bytes_and_version(server: Server) -> None:
    assert fetch(server) == (b"CANARY-first\n", f"{NAME}/versions/1")
    server.add_version(NAME, b"CANARY-second\r\n")
    assert fetch(server) == (b"CANARY-second\r\n", f"{NAME}/versions/2")
    assert fetch(server, SecretReference("manager", f"{NAME}/versions/1")) == (b"CANARY-first\n", f"{NAME}/versions/1")


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
    ],
)
def test_fetch_permanent_error_raises_unusable_without_retries(server: Server, status: grpc.StatusCode) -> None:
    server.refusals[""] = status
    with pytest.raises(FetchError, match=f"is unavailable: Secret Manager returned {status.name}"):
        fetch(server)
    assert len(server.accesses) == 1


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.ABORTED,
    ],
)
def test_fetch_transient_error_raises_unreachable(server: Server, status: grpc.StatusCode) -> None:
    server.refusals[""] = status
    with pytest.raises(FetchError, match="is unavailable: Secret Manager is unreachable"):
        fetch(server, seconds=0.2)


def test_fetch_transient_error_is_retried(server: Server) -> None:
    server.refusals[""] = grpc.StatusCode.UNAVAILABLE

    def recover() -> None:
        while len(server.accesses) < 2:
            over.wait(0.001)
        server.refusals.clear()

    over = threading.Event()
    recovery = threading.Thread(target=recover, daemon=True)
    recovery.start()
    assert fetch(server)[0] == b"CANARY-first\n"
    recovery.join(LONG)
    assert len(server.accesses) > 2


def test_fetch_no_server_raises_unreachable() -> None:
    with pytest.raises(FetchError, match="Secret Manager is unreachable"):
        SecretManager(f"127.0.0.1:{free_port()}").fetch(LATEST, 0.5)


def test_fetch_hanging_server_raises_unreachable(server: Server) -> None:
    server.delay = 2.0
    with pytest.raises(FetchError, match="Secret Manager is unreachable"):
        fetch(server, seconds=0.2)


def test_fetch_changed_bytes_raise_unusable(server: Server) -> None:
    server.damaged.add(NAME)
    with pytest.raises(FetchError, match="checksum") as caught:
        fetch(server)
    assert "CANARY" not in str(caught.value)


def test_fetch_without_credentials_raises_unusable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(FetchError, match="no usable Google credentials"):
        SecretManager(None).fetch(LATEST, LONG)


def test_fetch_concurrent_callers_share_one_client(server: Server) -> None:
    manager = SecretManager(server.address)
    threads = [threading.Thread(target=manager.fetch, args=(LATEST, LONG)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert len(server.accesses) == 8


# The store with the real client


@pytest.fixture
def store(server: Server) -> SecretStore:
    return SecretStore(create_fetchers({}, server.address), 300)


def test_store_caches_the_version(server: Server, store: SecretStore) -> None:
    for _ in range(5):
        assert store.get(LATEST, Deadline.after(LONG)) == Secret("CANARY-first", f"{NAME}/versions/1")
    assert len(server.accesses) == 1


def test_store_refresh_fetches_the_new_version(server: Server, store: SecretStore) -> None:
    first = store.get(LATEST, Deadline.after(LONG))
    server.add_version(NAME, "CANARY-second")
    assert store.refresh(LATEST, first, Deadline.after(LONG)) == Secret("CANARY-second", f"{NAME}/versions/2")
    assert store.get(LATEST, Deadline.after(LONG)).text == "CANARY-second"
    assert len(server.accesses) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "missing",
            (
                "is unavailable: Secret Manager returned NOT_FOUND. Create the secret and add a version, "
                "or correct the secret reference."
            ),
        ),
        (
            "destroyed",
            (
                "is unavailable: Secret Manager returned FAILED_PRECONDITION. The version is disabled or "
                "destroyed. Enable it, or add a new version."
            ),
        ),
        ("empty", "is empty. Store the secret again."),
        ("binary", "is damaged: a secret must be UTF-8 text. Store the secret again as UTF-8."),
    ],
)
def test_store_unusable_version_raises(server: Server, store: SecretStore, name: str, message: str) -> None:
    server.secrets["projects/p/secrets/destroyed"] = [None]
    server.add_version("projects/p/secrets/empty", "\n")
    server.add_version("projects/p/secrets/binary", b"\xff\xfe")
    with pytest.raises(SecretUnusableError) as caught:
        store.get(reference_of(name), Deadline.after(LONG))
    assert str(caught.value) == f"RELAY_SECRET {message}"


def test_fetch_regional_secret_has_its_own_connection(server: Server) -> None:
    regional = "projects/p/locations/europe-west3/secrets/tok"
    server.add_version(regional, "CANARY-regional")
    manager = SecretManager(server.address)
    for _ in range(2):
        reference = SecretReference("manager", f"{regional}/versions/latest", "RELAY_SECRET")
        assert manager.fetch(reference, LONG) == (b"CANARY-regional", f"{regional}/versions/1")
    assert manager.fetch(LATEST, LONG)[0] == b"CANARY-first\n"


@pytest.mark.parametrize(
    ("location", "endpoint"),
    [
        (None, "secretmanager.googleapis.com"),
        ("europe-west3", "secretmanager.europe-west3.rep.googleapis.com"),
    ],
)
def test_create_client_uses_the_endpoint_of_the_location(
    location: str | None, endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials.json"
    user = {"type": "authorized_user", "client_id": "CANARY", "client_secret": "CANARY", "refresh_token": "CANARY"}
    credentials.write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
    client = google._create_client(None, location)
    assert client.api_endpoint == endpoint
    client.transport.close()  # type: ignore[no-untyped-call]
