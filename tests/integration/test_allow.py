"""Tests of `events.allow` in relay.yaml: the datasets that native events can update."""

from collections.abc import Iterator

import pytest

from deploy.local.cloud import Cloud
from tests.support.hook_events import APIFY_UPDATE, apify_access, create_payload, running_with_hooks
from tests.support.hooks import call, hook
from tests.support.relay import Relay, assert_problem


@pytest.fixture(scope="module")
def relay(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a function where native events can update only datasets of acme on data.world."""
    folder = tmp_path_factory.mktemp("hooks")
    hooks = {"a": hook(APIFY_UPDATE)}
    with running_with_hooks(cloud, folder, hooks, events={"allow": ["data.world:acme/*"]}) as started:
        yield started


def test_allow_another_dataset_is_rejected(relay: Relay) -> None:
    payload = create_payload(relay)
    event = {"provider": "apify", "dataset": payload["dataset"], "update": {"name": None}}
    problem = assert_problem(relay.post(event), 403, "not-allowed")
    assert payload["dataset"] in problem["detail"]
    assert_problem(relay.post(event, path="/?dry_run=true"), 403, "not-allowed")
    assert_problem(relay.post({**event, "update": {}}), 422, "invalid")
    assert apify_access(relay, payload) is None


def test_allow_matching_dataset_is_updated(relay: Relay) -> None:
    event = {"provider": "data.world", "dataset": relay.data_world_dataset(), "update": {"title": "x"}}
    assert relay.post(event).status_code == 200


def test_allow_does_not_limit_hooks(relay: Relay) -> None:
    assert call(relay, "a", create_payload(relay)).status_code == 200
