"""Tests of faults of Secret Manager, before the function has cached any secret."""

from collections.abc import Callable

import grpc
import pytest

from deploy.local.cloud import Cloud
from tests.support.relay import Launch, assert_problem

# Each attempt of the function takes at most a second. This is longer, in seconds.
HANGING_DELAY = 5.0


def hang(cloud: Cloud) -> None:
    cloud.secret_manager.delay = HANGING_DELAY


def be_unavailable(cloud: Cloud) -> None:
    cloud.secret_manager.refusals[""] = grpc.StatusCode.UNAVAILABLE


def stop(cloud: Cloud) -> None:
    cloud.secret_manager.stop()


def deny(cloud: Cloud) -> None:
    cloud.secret_manager.refusals[""] = grpc.StatusCode.PERMISSION_DENIED


def lose_secrets(cloud: Cloud) -> None:
    cloud.secret_manager.secrets.clear()


def empty_secrets(cloud: Cloud) -> None:
    for name in cloud.secret_manager.secrets:
        cloud.secret_manager.add_version(name, "\n")


def damage_secrets(cloud: Cloud) -> None:
    cloud.secret_manager.damaged |= set(cloud.secret_manager.secrets)


def be_slow(cloud: Cloud) -> None:
    cloud.secret_manager.delay = 0.4


@pytest.mark.parametrize("secret", ["the secret of the function", "the token"])
@pytest.mark.parametrize(
    ("cause", "deadline", "status", "name"),
    [
        (hang, "2", 503, "secret-unreachable"),
        (be_unavailable, "2", 503, "secret-unreachable"),
        (stop, "2", 503, "secret-unreachable"),
        (deny, "60", 500, "secret-unusable"),
        (lose_secrets, "60", 500, "secret-unusable"),
        (empty_secrets, "60", 500, "secret-unusable"),
        (damage_secrets, "60", 500, "secret-unusable"),
        (be_slow, "60", 200, None),
    ],
)
def test_secret_manager_fault_decides_the_response(
    launch: Launch,
    own_cloud: Cloud,
    cause: Callable[[Cloud], None],
    deadline: str,
    status: int,
    name: str | None,
    secret: str,
) -> None:
    own_secret = {"RELAY_SECRET": "env:SECRET", "SECRET": own_cloud.relay_secret} if secret == "the token" else {}
    relay = launch(on=own_cloud, RELAY_DEADLINE_SECONDS=deadline, **own_secret)
    event = relay.apify_event()
    cause(own_cloud)
    response = relay.post(event)
    if name:
        assert_problem(response, status, name, retryable=status == 503)
    assert response.status_code == status
    assert response.headers.get("Retry-After") == ("5" if status == 503 else None)
    calls = own_cloud.apify.seen(f"/datasets/{event['dataset']}")
    assert len(calls) == (1 if status == 200 else 0)
