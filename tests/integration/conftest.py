"""The fixtures of the tests of the HTTP client."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers.delivery.http_client import HTTPClient
from tests.support.certificates import create_certificate, server_context
from tests.support.http_calls import CreateClient
from tests.support.misbehaving import MisbehavingProvider


@pytest.fixture
def create_client() -> Iterator[CreateClient]:
    """Create clients for a provider at some URL, and close them at the end."""
    clients: list[HTTPClient] = []

    def create(base_url: str) -> HTTPClient:
        clients.append(HTTPClient({"apify": base_url}))
        return clients[-1]

    yield create
    for client in clients:
        client.close()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the proxies and certificates of this machine from the environment."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    for name in names:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.fixture(params=["plain", "tls"])
def provider_of_each_kind(
    request: pytest.FixtureRequest, environment: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MisbehavingProvider]:
    """Run a provider without TLS, and one with TLS that the client trusts."""
    certificate = create_certificate(tmp_path, "127.0.0.1")
    environment.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    started = MisbehavingProvider(server_context(certificate) if request.param == "tls" else None).start()
    yield started
    started.stop()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[MisbehavingProvider, Path]]:
    """Run a provider with TLS, and provide its certificate."""
    certificate = create_certificate(tmp_path, "127.0.0.1")
    started = MisbehavingProvider(server_context(certificate)).start()
    yield started, certificate
    started.stop()
