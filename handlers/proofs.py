"""What a proof is: a caller shows that it knows a secret. Here those that hold the secret itself.

Pure: the time is part of what comes in.

An attacker here sends any headers, any query and any body, and sees how long each answer takes. So every comparison
is constant-time, and a malformed proof is a wrong one, never an error.
"""

import base64
import hmac
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol
from urllib.parse import unquote_plus, unquote_to_bytes


class BadKey(Exception):
    """A secret can't be what a proof needs; the message says why, without it."""


class Incoming(NamedTuple):
    """What a proof is looked for in: `headers` by lower-case names, `query` as it came, `now` in seconds since 1970."""

    headers: Mapping[str, str]
    query: str
    body: bytes
    now: float


class Proof(Protocol):
    """One way to prove who calls."""

    @property
    def headers(self) -> frozenset[str]:
        """The headers that carry it, in lower case."""

    def given(self, incoming: Incoming) -> bool:
        """Whether there is anything to check, right or wrong."""

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether it shows that the caller knows `secret`. Raises BadKey."""


class InHeader:
    """A proof in one header, by its lower-case name."""

    def __init__(self, header: str) -> None:
        self.header = header

    @property
    def headers(self) -> frozenset[str]:
        """The one."""
        return frozenset({self.header})

    def given(self, incoming: Incoming) -> bool:
        """Whether the header is there."""
        return self.header in incoming.headers


class Plain(InHeader):
    """The secret itself in a header of its own."""

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether it is the secret."""
        return _same(incoming.headers.get(self.header, ""), secret)


class Authorization(InHeader):
    """`Authorization: Bearer <secret>`, or `Basic`, where the secret is `user:password`."""

    def __init__(self, header: str, scheme: Literal["Bearer", "Basic"]) -> None:
        super().__init__(header)
        self.scheme = scheme

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether it is of this scheme, and the secret."""
        scheme, _, given = incoming.headers.get(self.header, "").partition(" ")
        if self.scheme == "Basic":
            if ":" not in secret:
                raise BadKey("it must be user:password.")
            given, secret = given.strip(" \t").rstrip("="), base64.b64encode(secret.encode()).decode().rstrip("=")
        # Compared whatever the scheme: the answer's time says nothing of the secret.
        same = _same(given, secret)
        return same and scheme.lower() == self.scheme.lower()


class QueryToken(NamedTuple):
    """The secret itself in the query, `?token=…`: for senders that can set nothing but the URL."""

    name: str

    @property
    def headers(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def given(self, incoming: Incoming) -> bool:
        """Whether there is one."""
        return bool(self._values(incoming))

    def holds(self, incoming: Incoming, secret: str) -> bool:
        """Whether there is just one, and it is the secret; a '+' may stand for itself, or for a space."""
        values = self._values(incoming)
        expected = secret.encode()
        matches = [
            hmac.compare_digest(form, expected)
            for each in values
            for form in (unquote_to_bytes(each), unquote_to_bytes(each.replace("+", " ")))
        ]
        return any(matches) and len(values) == 1

    def _values(self, incoming: Incoming) -> list[str]:
        pairs = [pair.partition("=") for pair in incoming.query.split("&")]
        return [value for name, _, value in pairs if unquote_plus(name) == self.name]


def _same(given: str, secret: str) -> bool:
    """Whether a header is `secret`. White space at a header's ends is no part of it, and so can be none of a secret."""
    return hmac.compare_digest(wire_bytes(given.strip(" \t")), secret.strip(" \t").encode())


def wire_bytes(header: str) -> bytes:
    """A header as it was on the wire (WSGI reads headers as Latin-1)."""
    return header.encode("latin-1", "replace")
