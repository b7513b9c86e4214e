"""A moment, in whatever format a sender writes it.

Seen: 3, 7 and 9 digits behind the second (CircleCI, Azure DevOps, dbt), `2016-08-12 15:26:29 UTC` (GitLab), an
offset (Bitbucket), seconds or milliseconds since 1970 (10 or 13 digits: 2001 to 2286), and no offset at all.
"""

import re
from datetime import UTC, datetime, timedelta

_MOMENT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<time>\d\d:\d\d(?::\d\d)?)(?:[.,](?P<fraction>\d+))?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
# Fewer digits are something else, as 20261122.
_EPOCH = re.compile(r"(?P<seconds>[1-9]\d{9})(?P<milliseconds>\d{3})?(?:(?P<fraction>\.\d{1,9})\d*)?", re.ASCII)


def moment(value: object) -> datetime | None:
    """The moment that `value` says, in UTC; None if it says none. Without an offset it is taken for UTC."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    try:
        if epoch := _EPOCH.fullmatch(text):
            part = float(epoch["fraction"] or 0)
            rest = timedelta(milliseconds=int(epoch["milliseconds"]) + part) if epoch["milliseconds"] else None
            return datetime.fromtimestamp(int(epoch["seconds"]), UTC) + (rest or timedelta(seconds=part))
        found = _MOMENT.fullmatch(text)
        return _utc(found) if found else None
    except (ValueError, OverflowError):
        return None


def _utc(found: re.Match[str]) -> datetime:
    time = found["time"] or "00:00"
    # A leap second is a moment too, but not one that datetime knows.
    leap = time[6:] == "60"
    plain = datetime.fromisoformat(f"{found['date']}T{time[:-2]}59" if leap else f"{found['date']}T{time}")
    micros = int((found["fraction"] or "0")[:6].ljust(6, "0"))
    zone = (found["zone"] or "Z").upper()
    offset = timedelta()
    if zone[0] in "+-":
        hours, minutes = int(zone[1:3]), int(zone[3:].removeprefix(":") or 0)
        if hours > 23 or minutes > 59:
            raise ValueError
        offset = timedelta(hours=hours, minutes=minutes) * (1 if zone[0] == "+" else -1)
    return (plain + timedelta(seconds=int(leap), microseconds=micros) - offset).replace(tzinfo=UTC)
