"""What the tests of hooks share: a relay.yaml as a value, and a sender that proves what it sends."""

import json
from pathlib import Path
from typing import Any

import requests
import yaml

from deploy.local.cloud import secret_name
from deploy.local.signing import proven
from tests.conftest import Relay, unique


def written(folder: Path, hooks: dict[str, Any], **more: Any) -> str:
    """The path of a relay.yaml with these hooks."""
    path = folder / f"{unique('relay')}.yaml"
    path.write_text(yaml.safe_dump({**more, "hooks": hooks}, sort_keys=False, allow_unicode=True))
    return str(path)


def kept(relay_or_cloud: Any, secret: str) -> str:
    """The name of a new secret in Secret Manager."""
    cloud = getattr(relay_or_cloud, "cloud", relay_or_cloud)
    name = unique("hook-secret")
    cloud.secret_manager.add_version(secret_name(name), secret)
    return name


def call(
    relay: Relay,
    hook: str,
    payload: Any,
    *,
    sender: str = "token",
    secret: str = "hook-s3cret",
    headers: dict[str, str] | None = None,
    query: str = "",
) -> requests.Response:
    """Sends `payload` as the sender does, proven by `secret`."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    proof, question = proven(sender, secret, body, message_id=unique("msg"))
    path = f"/hooks/{hook}{question}"
    if query:
        path += f"{'&' if question else '?'}{query}"
    return relay.send(body, path=path, headers={"Content-Type": "application/json", **proof, **(headers or {})})


def hook(*updates: dict[str, Any], sender: str = "token", secret: Any = "env:HOOK_SECRET", **more: Any) -> Any:
    """A hook of relay.yaml."""
    return {"sender": sender, "secret": secret, **more, "updates": list(updates)}


def update(provider: str, dataset: str, body: Any, **more: Any) -> dict[str, Any]:
    """An update of a hook."""
    return {"provider": provider, "dataset": dataset, **more, "update": body}
