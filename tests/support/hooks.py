"""Hooks for tests: the values and files of relay.yaml, and authenticated requests to a hook."""

import json
from pathlib import Path
from typing import Any

import requests
import yaml

from deploy.local.cloud import Cloud, secret_name
from deploy.local.signing import authentication
from tests.support.relay import Relay, unique


def hook(*updates: dict[str, Any], sender: Any = "token", secret: Any = "env:HOOK_SECRET", **more: Any) -> Any:
    """Return a hook of relay.yaml."""
    return {"sender": sender, "secret": secret, **more, "updates": list(updates)}


def update(provider: str, dataset: str, body: Any, **more: Any) -> dict[str, Any]:
    """Return an update of a hook."""
    return {"provider": provider, "dataset": dataset, **more, "update": body}


def written(folder: Path, hooks: dict[str, Any], **more: Any) -> str:
    """Write a relay.yaml with hooks, and return its path."""
    path = folder / f"{unique('relay')}.yaml"
    path.write_text(yaml.safe_dump({**more, "hooks": hooks}, sort_keys=False, allow_unicode=True))
    return str(path)


def store_secret(cloud: Cloud, secret: str) -> str:
    """Store a secret in Secret Manager, and return its name."""
    name = unique("hook-secret")
    cloud.secret_manager.add_version(secret_name(name), secret)
    return name


def call(
    relay: Relay,
    hook_name: str,
    payload: Any,
    *,
    sender: str = "token",
    secret: str = "CANARY-hook-secret",
    headers: dict[str, str] | None = None,
    query: str = "",
) -> requests.Response:
    """Send a payload to a hook as its sender does, authenticated by `secret`. Bytes are sent unchanged."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    credential, credential_query = authentication(sender, secret, body, message_id=unique("msg"))
    path = f"/hooks/{hook_name}{credential_query}"
    if query:
        path += f"{'&' if credential_query else '?'}{query}"
    return relay.send(body, path=path, headers={"Content-Type": "application/json", **credential, **(headers or {})})
