"""The function under its real server, as the integration tests use it."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from flask import Response, request

from deploy.local.cloud import APIFY_USER, DATA_WORLD_OWNER, Cloud, Function
from deploy.local.provider import LocalProvider
from tests.support.canary import RECORDER, secret

JSON_TYPE = "application/json"


def create_cloud() -> Cloud:
    """Return a cloud whose secrets contain the canary. The cloud isn't started."""
    return Cloud(
        apify_token=secret("apify_api_"),
        data_world_token=secret("dw."),
        relay_secret=secret("whsec_"),
        github_secret=secret("github-"),
    )


def lose_responses(provider: LocalProvider, path: str, status: int | None, times: int = 1) -> None:
    """Make `provider` carry out the first updates at `path`, but return `status`, or break the connection for None."""
    remaining = iter(range(times))

    def lose() -> Response | None:
        if request.method not in ("PUT", "PATCH") or next(remaining, None) is None:
            return None
        response = provider.carry_out()
        assert response.status_code == 200
        return provider.break_off() if status is None else Response(b"", status)

    provider.instead[path] = lose


@dataclass
class Relay:
    """A running function, its cloud, and its log."""

    cloud: Cloud
    function: Function
    log_file: Path
    session: requests.Session = field(default_factory=requests.Session)
    #: The delivery of the last response.
    last_delivery: str | None = None

    def __post_init__(self) -> None:
        self.session.trust_env = False
        RECORDER.watch(self.log_file)

    @property
    def url(self) -> str:
        """The URL of the function."""
        return self.function.url

    @property
    def bearer(self) -> dict[str, str]:
        """The header that authenticates a native event."""
        return {"Authorization": f"Bearer {self.cloud.relay_secret}"}

    def send(
        self,
        body: bytes | str,
        *,
        path: str = "/",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request with these headers, and the headers of the client, but no others."""
        data = body.encode() if isinstance(body, str) else body
        response = self.session.request(
            method, self.url + path, data=data, headers=dict(headers or {}), timeout=60, allow_redirects=False
        )
        RECORDER.add(f"{method} {path}", f"{response.headers}\n{response.text}")
        self.last_delivery = response.headers.get("Relay-Delivery")
        return response

    def post(self, event: object, *, path: str = "/", headers: Mapping[str, str] | None = None) -> requests.Response:
        """Send an event as JSON, with the bearer secret."""
        return self.send(
            json.dumps(event, ensure_ascii=False),
            path=path,
            headers={"Content-Type": JSON_TYPE, **self.bearer, **(headers or {})},
        )

    def log_text(self) -> str:
        """Return everything that the function has logged so far.

        The function writes the log in another thread, possibly after the response. So wait for the line of the last
        response, unless LOG_LEVEL omits this line.
        """
        end = time.monotonic() + 5
        while True:
            text = self.log_file.read_text()
            is_written = self.last_delivery is None or json.dumps(self.last_delivery) in text
            if is_written or time.monotonic() > end:
                return text
            time.sleep(0.01)

    def logged(self, delivery_id: str) -> dict[str, Any]:
        """Return the only log line of a delivery. Wait for the line if necessary."""
        matches: list[dict[str, Any]] = []
        end = time.monotonic() + 30
        while not matches and time.monotonic() < end:
            lines = [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]
            matches = [line for line in lines if line.get("delivery") == delivery_id]
        assert len(matches) == 1, f"{len(matches)} lines for {delivery_id}"
        return matches[0]

    def apify_dataset(self, name: str | None = None) -> str:
        """Create a dataset on Apify, and return its ID."""
        return self.cloud.apify.add(APIFY_USER, name)

    def apify_event(self, **more: Any) -> dict[str, Any]:
        """Create a dataset on Apify, and return a valid event for the dataset."""
        update = {"generalAccess": "RESTRICTED"}
        return {"provider": "apify", "dataset": self.apify_dataset(), "update": update, **more}

    def data_world_dataset(self) -> str:
        """Create a dataset on data.world, and return `owner/id`."""
        return self.cloud.data_world.add(f"{DATA_WORLD_OWNER}/{unique('set')}")


Launch = Callable[..., Relay]


def unique(stem: str) -> str:
    """Return a name that no other test uses."""
    return f"{stem}-{uuid.uuid4().hex[:12]}"


def assert_problem(response: requests.Response, status: int, name: str, *, retryable: bool = False) -> dict[str, Any]:
    """Check that `response` is the problem `name`, and return the body."""
    body: dict[str, Any] = response.json()
    assert response.status_code == status, body
    assert response.headers["Content-Type"] == "application/problem+json"
    assert body["type"] == f"urn:dataset-relay:problem:{name}"
    assert body["status"] == status
    assert body["retryable"] is retryable
    assert body["title"]
    assert body["detail"]
    assert response.headers["Relay-Delivery"]
    return body


def start_relay(cloud: Cloud, settings: Mapping[str, str], log_file: Path) -> Relay:
    """Start a function with these settings. The function may not respond yet."""
    with log_file.open("wb") as log:
        function = Function(settings, log=log)
    return Relay(cloud, function, log_file)


def stop_relay(relay: Relay) -> None:
    """Stop the function, and check that it ends in order."""
    relay.session.close()
    code = relay.function.stop()
    assert code == 0, relay.log_text()


@contextmanager
def running(cloud: Cloud, settings: Mapping[str, str], folder: Path) -> Iterator[Relay]:
    """Run a function with these settings, and with its log in `folder`."""
    started = start_relay(cloud, settings, folder / "log")
    started.function.wait_until_up()
    yield started
    stop_relay(started)


def in_variables(cloud: Cloud) -> dict[str, str]:
    """Return settings with which a function of this cloud needs no Secret Manager.

    The import of the Secret Manager client takes a part of a short deadline.
    """
    references = {"APIFY_TOKEN": "env:A", "DATA_WORLD_TOKEN": "env:B", "RELAY_SECRET": "env:C"}
    return {**references, "A": cloud.apify_token, "B": cloud.data_world_token, "C": cloud.relay_secret}
