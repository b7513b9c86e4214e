"""Proving an event as each sender does, from what its documentation says.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, and the pages that
handlers/senders.py names. Not written from the code that checks it: where the two differ, a test fails.
"""

import base64
import hashlib
import hmac
import time
from urllib.parse import quote


def signed_headers(secret: str, message_id: str, body: bytes, *, at: float | None = None) -> dict[str, str]:
    """The three headers that prove `body`; `secret` is `whsec_` and base64, `at` is in seconds since 1970."""
    timestamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(_sha256(key, signed)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def proven(
    sender: str, secret: str, body: bytes, *, at: float | None = None, message_id: str = "msg_local"
) -> tuple[dict[str, str], str]:
    """The headers and the query (with its '?') by which `sender` proves `body`, its own secret being `secret`."""
    digest = _sha256(secret.encode(), body)
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
            timestamp = str(int(time.time() if at is None else at))
            signature = _sha256(secret.encode(), f"{timestamp}.".encode() + body).hex()
            return {"X-Buildkite-Signature": f"timestamp={timestamp},signature={signature}"}, ""
        case "databricks" | "azure-devops" | "jenkins" | "basic":
            return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}, ""
        case "airbyte" | "url-token":
            return {}, f"?token={quote(secret, safe='')}"
        case _:
            return {"Authorization": f"Bearer {secret}"}, ""


def _sha256(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()
