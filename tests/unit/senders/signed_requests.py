"""Requests of every sender, signed by code that is independent of the verifiers."""

from deploy.local.signing import authentication
from handlers.senders import SENDERS, Sender
from handlers.senders.shared_secrets import SignedRequest

NOW = 1_790_000_000
BODY = '{"event": "done", "größe": 1}'.encode()
SIGNING_SECRET = "whsec_CANARYsigningkeyofasenderAA="

#: Every sender, and GitLab twice: with its plain token, and with its signing token.
CASES = (*SENDERS, "gitlab:signed")

_BASIC_SENDERS = ("databricks", "azure-devops", "jenkins", "basic")


def sender_of(case: str) -> Sender:
    return SENDERS[case.partition(":")[0]]


def secret_of(case: str) -> str:
    """Return a secret with non-ASCII characters, spaces, and characters that a URL must escape, where possible."""
    if case in ("standard-webhooks", "gitlab:signed"):
        return SIGNING_SECRET
    return "CANARY:pass:wörd with spaces" if case in _BASIC_SENDERS else "CANARY-secret/ü+ %41"


def signed_request(case: str, *, body: bytes = BODY, secret: str | None = None, at: float = NOW) -> SignedRequest:
    """Return the request of a sender, with the headers as WSGI decodes headers."""
    headers, query = authentication(sender_of(case).name, secret or secret_of(case), body, at=at)
    received = {name.lower(): value.encode().decode("latin-1") for name, value in headers.items()}
    return SignedRequest(received, query.removeprefix("?"), body, NOW)


def with_headers(headers: dict[str, str], *, body: bytes = BODY, now: float = NOW) -> SignedRequest:
    return SignedRequest(headers, "", body, now)


def with_query(query: str) -> SignedRequest:
    return SignedRequest({}, query, BODY, NOW)


def verify(case: str, request: SignedRequest, secret: str | None = None) -> bool:
    """Return the result of the sender's verifier, by default with the sender's right secret."""
    return sender_of(case).verifier.verify(request, secret or secret_of(case))
