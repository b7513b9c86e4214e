"""Who calls: the proofs that a sender can give. Pure: the time is an argument.

An attacker here sends any headers and any body, and sees how long each answer takes. So every comparison is
constant-time, and a malformed proof is a wrong one.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

#: How far a signed timestamp may be from now, in seconds, either way;
#: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
TOLERANCE_SECONDS = 300

_SIGNING_PREFIX = "whsec_"


class BadKey(Exception):
    """A secret can't be a signing key: behind `whsec_` there is nothing, or no base64."""


def signing_key(secret: str) -> bytes:
    """The bytes that `secret` signs with: what is base64 behind `whsec_`, else its UTF-8.

    Raises BadKey. An empty key must not pass: anybody can sign with that.
    """
    if not secret.startswith(_SIGNING_PREFIX):
        return secret.encode()
    text = secret.removeprefix(_SIGNING_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise BadKey("behind whsec_ there must be base64, and something.")
    return key


def has_proof(headers: Mapping[str, str]) -> bool:
    """Whether there is anything to check, right or wrong. `headers` have lower-case names."""
    return "authorization" in headers or _standard_prefix(headers) is not None


def prove(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> str | None:
    """The kind of proof by which the caller has shown that it knows `secret`, or None.

    `headers` have lower-case names, `now` is in seconds since 1970. Raises BadKey if `secret` can't check the
    signature that there is.
    """
    if _bearer(headers, secret):
        return "token"
    if (prefix := _standard_prefix(headers)) and _standard_webhooks(headers, prefix, body, secret, now):
        return "standard-webhooks"
    return None


def _bearer(headers: Mapping[str, str], secret: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    # Both sides are compared whatever the scheme: the answer's time says nothing of the secret.
    # White space at a header's ends is not part of it, and so can be none of the secret.
    same = hmac.compare_digest(_bytes(given.strip(" \t")), secret.strip(" \t").encode())
    return same and scheme.lower() == "bearer"


def _standard_prefix(headers: Mapping[str, str]) -> str | None:
    return next((prefix for prefix in ("webhook", "svix") if f"{prefix}-signature" in headers), None)


def _standard_webhooks(headers: Mapping[str, str], prefix: str, body: bytes, secret: str, now: float) -> bool:
    message_id = headers.get(f"{prefix}-id", "")
    timestamp = headers.get(f"{prefix}-timestamp", "")
    # The literal text is what was signed: it is looked at as a number, but never written anew.
    signed = b".".join((_bytes(message_id), _bytes(timestamp), body))
    expected = b"v1," + base64.b64encode(hmac.digest(signing_key(secret), signed, hashlib.sha256))
    given = headers[f"{prefix}-signature"].split(" ")
    matches = [hmac.compare_digest(_bytes(each), expected) for each in given]
    return any(matches) and bool(message_id) and _is_fresh(timestamp, now)


def _is_fresh(timestamp: str, now: float) -> bool:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    return abs(now - int(timestamp)) <= TOLERANCE_SECONDS


def _bytes(header: str) -> bytes:
    """A header as it was on the wire (WSGI reads headers as Latin-1)."""
    return header.encode("latin-1", "replace")


def delivery_id(headers: Mapping[str, str]) -> str | None:
    """The id that the sender's headers give to a delivery, if any."""
    return headers.get("webhook-id", headers.get("svix-id"))
