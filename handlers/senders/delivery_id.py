"""Find the ID that a sender assigns to a delivery.

The ID names the delivery in responses and logs. An attacker with a valid credential chooses the ID, so the ID must
consist of printable ASCII characters and have a bounded length.
"""

from collections.abc import Iterator, Mapping

from handlers.senders import Sender
from handlers.senders.signatures import STANDARD_WEBHOOKS
from schemas.event import MAX_ID_LENGTH
from schemas.strict_json import JSON, value_at


def delivery_id(sender: Sender, headers: Mapping[str, str], payload: JSON = None) -> str | None:
    """Return the ID of a delivery: the sender's own ID, or else the ID of Standard Webhooks, or else None.

    The names in `headers` are lowercase.
    """
    for candidate in _candidates(sender, headers, payload):
        if candidate and (printable := _printable(candidate)):
            return printable
    return None


def standard_id(headers: Mapping[str, str]) -> str | None:
    """Return the ID in the headers of Standard Webhooks, or None.

    If the headers have IDs in several spellings, the ID in the spelling with a signature takes precedence: no
    signature covers the other IDs.
    """
    spellings = [names for names in STANDARD_WEBHOOKS.names if headers.get(names[0])]
    signed = [names for names in spellings if names[2] in headers]
    names = next(iter(signed or spellings), None)
    return headers[names[0]] if names else None


def _candidates(sender: Sender, headers: Mapping[str, str], payload: JSON) -> Iterator[str | None]:
    for header in sender.id_headers:
        yield headers.get(header)
    yield _composite_id(payload, sender.id_fields)
    yield standard_id(headers)


def _composite_id(payload: JSON, paths: tuple[str, ...]) -> str | None:
    """Return the values at the paths, joined by colons, or None if the payload has no value at the first path."""
    parts = [_text(value_at(payload, *path.split("."))) for path in paths]
    return ":".join(part for part in parts if part) if parts and parts[0] else None


def _text(value: JSON) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None


def _printable(text: str) -> str:
    printable = "".join(character for character in text if " " <= character <= "~")
    return printable.strip()[:MAX_ID_LENGTH].rstrip()
