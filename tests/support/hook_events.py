"""A function with hooks, and payloads for these hooks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local.cloud import Cloud
from tests.support.hooks import update, written
from tests.support.relay import Relay, running

#: The secret of a hook whose `secret` is `env:HOOK_SECRET`.
HOOK_SECRET = "CANARY-hook-secret"

#: The updates of most hooks: one for each provider.
APIFY_UPDATE = update("apify", "{{ event.dataset }}", {"generalAccess": "{{ event.access | default('RESTRICTED') }}"})
DATA_WORLD_UPDATE = update("data.world", "{{ event.record }}", {"summary": "Built {{ event.at | date }}."})

# In seconds: longer than any event takes that is expected to succeed.
_LONG_DEADLINE = "60"


@contextmanager
def running_with_hooks(cloud: Cloud, folder: Path, hooks: dict[str, Any], **more: Any) -> Iterator[Relay]:
    """Run a function with hooks, and `more` sections of relay.yaml."""
    settings = {
        **cloud.settings(),
        "RELAY_CONFIG": written(folder, hooks, **more),
        "HOOK_SECRET": HOOK_SECRET,
        "RELAY_DEADLINE_SECONDS": _LONG_DEADLINE,
    }
    with running(cloud, settings, folder) as started:
        yield started


def create_payload(relay: Relay, **more: Any) -> dict[str, Any]:
    """Create a dataset at each provider, and return a payload for APIFY_UPDATE and DATA_WORLD_UPDATE."""
    return {
        "dataset": relay.apify_dataset(),
        "record": relay.data_world_dataset(),
        "at": "2026-11-22T08:30:00.123456789Z",
        **more,
    }


def apify_access(relay: Relay, payload: dict[str, Any]) -> Any:
    """Return the access to the payload's dataset on Apify, or None if the function has not called Apify for it."""
    calls = relay.cloud.apify.seen(f"/datasets/{payload['dataset']}")
    return relay.cloud.apify.datasets[payload["dataset"]]["generalAccess"] if calls else None
