"""What the tests share: this machine as the cloud, and the function under its real server."""

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import settings

from deploy.local.cloud import APIFY_USER, DATA_WORLD_OWNER, Cloud, Function
from tests.leak_plugin import (  # noqa: F401 - pytest calls them: no test may be shown a secret
    pytest_configure,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from tests.leak_watch import DETECTOR
from tests.misbehaving import Misbehaving

JSON_TYPE = "application/json"

# How long an example takes says more of the machine than of the code; in CI the same examples are tried each time.
settings.register_profile(
    "house",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")),
)
settings.load_profile("house")


@dataclass
class Relay:
    """A running function, its cloud and its log."""

    cloud: Cloud
    function: Function
    log_file: Path
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False

    @property
    def url(self) -> str:
        return self.function.url

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.cloud.relay_secret}"}

    def send(
        self,
        body: bytes | str,
        *,
        path: str = "/",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Sends just this; no header is added but those of the client."""
        raw = body.encode() if isinstance(body, str) else body
        DETECTOR.sent(path, headers or {}, raw)
        return self.session.request(
            method, self.url + path, data=raw, headers=dict(headers or {}), timeout=30, allow_redirects=False
        )

    def post(self, event: object, *, path: str = "/", headers: Mapping[str, str] | None = None) -> requests.Response:
        """Sends an event as JSON, with the bearer secret."""
        return self.send(
            json.dumps(event, ensure_ascii=False),
            path=path,
            headers={"Content-Type": JSON_TYPE, **self.bearer, **(headers or {})},
        )

    def log_text(self) -> str:
        return self.log_file.read_text()

    def logged(self, delivery: str) -> dict[str, Any]:
        """The one log line of a delivery."""
        lines = [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]
        found: list[dict[str, Any]] = [line for line in lines if line.get("delivery") == delivery]
        assert len(found) == 1, f"{len(found)} lines for {delivery}"
        return found[0]

    def apify_dataset(self, name: str | None = None) -> str:
        """A new dataset on Apify; its id."""
        return self.cloud.apify.add(APIFY_USER, name)

    def data_world_dataset(self) -> str:
        """A new dataset on data.world; owner/id."""
        return self.cloud.data_world.add(f"{DATA_WORLD_OWNER}/{unique('set')}")


def unique(stem: str) -> str:
    """A name that no other test has."""
    return f"{stem}-{uuid.uuid4().hex[:12]}"


def assert_problem(answer: requests.Response, status: int, name: str, *, retryable: bool = False) -> dict[str, Any]:
    """Checks that `answer` is the problem it should be; its body."""
    body: dict[str, Any] = answer.json()
    assert answer.status_code == status, body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert body["type"] == f"urn:dataset-relay:problem:{name}"
    assert body["status"] == status
    assert body["retryable"] is retryable
    assert body["title"]
    assert body["detail"]
    assert answer.headers["Relay-Delivery"]
    return body


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """Platforms and Secret Manager, shared: each test makes datasets of its own."""
    started = Cloud().start()
    yield started
    started.stop()


@pytest.fixture
def platform() -> Iterator[Misbehaving]:
    """A platform that does whatever a test wants."""
    started = Misbehaving().start()
    yield started
    started.stop()


Launch = Callable[..., Relay]


def launched(cloud: Cloud, settings: Mapping[str, str], log_file: Path) -> Relay:
    with log_file.open("wb") as log:
        function = Function(settings, log=log)
    return Relay(cloud, function, log_file)


def ended(relay: Relay) -> None:
    relay.session.close()
    code = relay.function.stop()
    assert code == 0, relay.log_text()


@contextmanager
def running(cloud: Cloud, settings: Mapping[str, str], folder: Path) -> Iterator[Relay]:
    """A function with these settings, up and answering; its log is in `folder`."""
    started = launched(cloud, settings, folder / "log")
    started.function.wait_until_up()
    yield started
    ended(started)


def in_variables(cloud: Cloud) -> dict[str, str]:
    """Settings by which a function of this cloud needs no Secret Manager.

    The import of its client takes a part of a deadline that is short.
    """
    references = {"APIFY_TOKEN": "env:A", "DATA_WORLD_TOKEN": "env:B", "RELAY_SECRET": "env:C"}
    return {**references, "A": cloud.apify_token, "B": cloud.data_world_token, "C": cloud.relay_secret}


@pytest.fixture(scope="session")
def relay(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """The function as this cloud sets it up, shared."""
    with running(cloud, cloud.settings(), tmp_path_factory.mktemp("relay")) as started:
        yield started


@pytest.fixture
def launch(cloud: Cloud, tmp_path: Path) -> Iterator[Launch]:
    """Starts functions with settings of their own: `launch(RELAY_DEADLINE_SECONDS="1")`; None takes one away."""
    started: list[Relay] = []

    def start(on: Cloud = cloud, **changes: str | None) -> Relay:
        merged = {**on.settings(), **changes}
        settings = {name: value for name, value in merged.items() if value is not None}
        started.append(launched(on, settings, tmp_path / f"log-{len(started)}"))
        started[-1].function.wait_until_up()
        return started[-1]

    yield start
    for each in started:
        ended(each)
