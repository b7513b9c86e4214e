"""Authenticate requests as each sender does.

This module follows the documentation of the senders, whose URLs are in handlers/senders/__init__.py, and has no code in
common with the verification in handlers/senders. A test fails if this module and the verification differ.
"""

import base64
import hashlib
import hmac
import time
from urllib.parse import quote


def signed_headers(secret: str, message_id: str, body: bytes, *, at: float | None = None) -> dict[str, str]:
    """Return the three headers of Standard Webhooks for `body`.

    `secret` is `whsec_` followed by base64, or any other text, whose bytes are the key. `at` is the time of the
    signature in seconds since 1970, by default now.
    """
    timestamp = _timestamp(at)
    encoded = secret.removeprefix("whsec_").rstrip("=")
    key = secret.encode() if encoded == secret else base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    signature = base64.b64encode(_sign(key, f"{message_id}.{timestamp}.".encode() + body)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def authentication(
    sender: str, secret: str, body: bytes, *, at: float | None = None, message_id: str = "msg_local"
) -> tuple[dict[str, str], str]:
    """Return the headers and the query (with its '?') that authenticate `body` as a request of `sender`.

    `at` is the time of the signature in seconds since 1970, by default now.
    """
    digest = _sign(secret.encode(), body)
    match sender:
        case "standard-webhooks":
            return signed_headers(secret, message_id, body, at=at), ""
        case "gitlab" if secret.startswith("whsec_"):
            return signed_headers(secret, message_id, body, at=at), ""
        case "gitlab":
            return {"X-Gitlab-Token": secret}, ""
        case "github":
            return {"X-Hub-Signature-256": f"sha256={digest.hex()}"}, ""
        case "bitbucket":
            return {"X-Hub-Signature": f"sha256={digest.hex()}"}, ""
        case "dbt":
            return {"Authorization": digest.hex()}, ""
        case "fivetran":
            return {"X-Fivetran-Signature-256": digest.hex().upper()}, ""
        case "circleci":
            return {"circleci-signature": f"v0=abcd,v1={digest.hex()}"}, ""
        case "hookdeck":
            return {"x-hookdeck-signature": base64.b64encode(digest).decode()}, ""
        case "buildkite":
            timestamp = _timestamp(at)
            signature = _sign(secret.encode(), f"{timestamp}.".encode() + body).hex()
            return {"X-Buildkite-Signature": f"timestamp={timestamp},signature={signature}"}, ""
        case "gitea":
            return {"X-Gitea-Signature": digest.hex()}, ""
        case "huggingface":
            return {"X-Webhook-Secret": secret}, ""
        case "mlflow":
            timestamp = _timestamp(at)
            signature = base64.b64encode(_sign(secret.encode(), f"{message_id}.{timestamp}.".encode() + body)).decode()
            return {
                "X-MLflow-Delivery-Id": message_id,
                "X-MLflow-Timestamp": timestamp,
                "X-MLflow-Signature": f"v1,{signature}",
            }, ""
        case "wandb":
            return {"X-Wandb-Signature": digest.hex()}, ""
        case "databricks" | "azure-devops" | "jenkins" | "basic":
            return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}, ""
        case "airbyte" | "url-token":
            return {}, f"?token={quote(secret, safe='')}"
        case _:
            return {"Authorization": f"Bearer {secret}"}, ""


def _timestamp(at: float | None) -> str:
    return str(int(time.time() if at is None else at))


def _sign(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
