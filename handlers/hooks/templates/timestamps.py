"""Timestamps in the formats of the senders.

Senders write 3, 7, or 9 digits after the second (CircleCI, Azure DevOps, dbt), `2016-08-12 15:26:29 UTC` (GitLab), an
offset (Bitbucket), no offset at all, or the seconds or milliseconds since 1970.
"""

import re
from datetime import UTC, datetime, timedelta

_TIMESTAMP = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<time>\d\d:\d\d(?::\d\d)?)(?:[.,](?P<fraction>\d+))?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?[0-5]\d)?)?)?",
    re.ASCII,
)
# 10 digits of seconds, or 13 digits of milliseconds, cover the years 2001 to 2286. A number of 8 digits may be a date,
# such as 20261122.
_EPOCH = re.compile(r"(?P<seconds>[1-9]\d{9})(?P<milliseconds>\d{3})?(?P<fraction>\.\d+)?", re.ASCII)
_MAX_LENGTH = 100


def parse_timestamp(value: object) -> datetime | None:
    """Return the time of a timestamp, in UTC, or None for any other value. A time without an offset counts as UTC."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        text = str(value).strip()
        if len(text) > _MAX_LENGTH:
            return None
        if match := _EPOCH.fullmatch(text):
            milliseconds, fraction = int(match["milliseconds"] or 0), float(match["fraction"] or 0)
            rest = timedelta(milliseconds=milliseconds + (fraction if match["milliseconds"] else fraction * 1000))
            return datetime.fromtimestamp(int(match["seconds"]), UTC) + rest
        match = _TIMESTAMP.fullmatch(text)
        return _from_calendar(match) if match else None
    except (ValueError, OverflowError):
        return None


def _from_calendar(match: re.Match[str]) -> datetime:
    time, zone = match["time"] or "00:00", (match["zone"] or "Z").upper()
    # RFC 3339, 5.7, allows leap seconds. datetime doesn't.
    leap_seconds = 1 if time[5:] == ":60" else 0
    seconds = f"{time[:5]}:59" if leap_seconds else time
    offset = zone if zone[0] in "+-" else "+00:00"
    local = datetime.fromisoformat(f"{match['date']}T{seconds}{offset}")
    microseconds = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    return local.astimezone(UTC) + timedelta(seconds=leap_seconds, microseconds=microseconds)
