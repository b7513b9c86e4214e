"""The fixtures of all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from deploy.local.cloud import Cloud
from tests.support.canary import *  # noqa: F403 - the fixture and the hooks that search for the canary
from tests.support.misbehaving import MisbehavingProvider
from tests.support.relay import Launch, Relay, create_cloud, running, start_relay, stop_relay

# The time of an example depends on the machine. In CI, hypothesis tries the same examples in every run.
settings.register_profile(
    "relay",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")),
)
settings.load_profile("relay")

# `make test` passes its own settings to each `make` that a test starts. A user's `make` gets none of them.
for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """Run the providers and Secret Manager, shared by all tests: each test creates its own datasets."""
    started = create_cloud().start()
    yield started
    started.stop()


@pytest.fixture
def own_cloud() -> Iterator[Cloud]:
    """Run the providers and Secret Manager for one test."""
    started = create_cloud().start()
    yield started
    started.stop()


@pytest.fixture
def provider() -> Iterator[MisbehavingProvider]:
    """Run a provider that does whatever a test needs."""
    started = MisbehavingProvider().start()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def relay(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run the function with the settings of the shared cloud, shared by all tests."""
    with running(cloud, cloud.settings(), tmp_path_factory.mktemp("relay")) as started:
        yield started


@pytest.fixture
def launch(cloud: Cloud, tmp_path: Path) -> Iterator[Launch]:
    """Start functions with other settings: `launch(RELAY_DEADLINE_SECONDS="1")`. None removes a setting."""
    started: list[Relay] = []

    def start(on: Cloud = cloud, **changes: str | None) -> Relay:
        merged = {**on.settings(), **changes}
        relay_settings = {name: value for name, value in merged.items() if value is not None}
        started.append(start_relay(on, relay_settings, tmp_path / f"log-{len(started)}"))
        started[-1].function.wait_until_up()
        return started[-1]

    yield start
    for each in started:
        stop_relay(each)
