"""Timestamps in the formats of the senders.

Senders write 3, 7, or 9 digits after the second (CircleCI, Azure DevOps, dbt), `2016-08-12 15:26:29 UTC` (GitLab),
`20260128T155937Z`, `2026/01/28 15:59:37`, RFC 2822, an offset (Bitbucket), no offset at all, or the time since 1970 in
seconds, milliseconds, microseconds, or nanoseconds (Bitbucket's spans).
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from functools import cache

_TIMESTAMP = re.compile(
    r"(?P<year>\d{4})(?P<separator>[-/]?)(?P<month>\d\d)(?P=separator)(?P<day>\d\d)"
    r"(?:[Tt ](?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?[0-5]\d)?)?)?",
    re.ASCII,
)
# 10 digits of seconds cover the years 2001 to 2286. The further digits are a fraction of the last second. A number of 8
# digits may be a date, such as 20261122.
_EPOCH = re.compile(r"(?P<seconds>[1-9]\d{9})(?P<fraction>(?:\d{3}){0,3})(?:\.(?P<rest>\d+))?", re.ASCII)
_ONLY_DIGITS = re.compile(r"\d{8}", re.ASCII)
# RFC 2822, 3.3, and the zones of 4.3. The parser of the standard library also accepts text that is no timestamp.
_RFC_2822 = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? {0,2})?\d{1,2} [a-z]{3} \d{4} \d\d:\d\d(?::\d\d)?"
    r"(?: (?:[+-]\d{4}|UT|UTC|GMT|Z|[ECMP][SD]T)(?: \([a-z ]+\))?)?",
    re.ASCII | re.IGNORECASE,
)
_MAX_LENGTH = 100


def parse_timestamp(value: object) -> datetime | None:
    """Return the time of a timestamp, in UTC, or None for any other value. A time without an offset counts as UTC."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        # Python would write a large float with an exponent.
        text = f"{value:f}" if isinstance(value, float) else str(value).strip()
        if len(text) > _MAX_LENGTH or _ONLY_DIGITS.fullmatch(text):
            return None
        if match := _EPOCH.fullmatch(text):
            microseconds = _microseconds(match["fraction"] + (match["rest"] or ""))
            return datetime.fromtimestamp(int(match["seconds"]), UTC) + microseconds
        if match := _TIMESTAMP.fullmatch(text):
            return _from_calendar(match)
        return _from_rfc_2822(text) if _RFC_2822.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


def time_zone(name: object) -> tzinfo | None:
    """Return the time zone with an IANA name, such as Europe/Berlin, or None if there is none."""
    if name == "UTC":
        return UTC
    if not isinstance(name, str) or name not in time_zone_names():
        return None
    # Most files use no time zone, and the import reads files.
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


@cache
def time_zone_names() -> frozenset[str]:
    """Return the names of the time zones of this machine, which can be none.

    `zoneinfo` reads the database of the operating system, or else the Python package tzdata. A name from another source
    could lead `zoneinfo` to any file in the folders of the database.
    """
    from zoneinfo import available_timezones

    # The meaning of these two names depends on the machine.
    return frozenset(available_timezones() - {"Factory", "localtime"})


def _from_calendar(match: re.Match[str]) -> datetime:
    second, leap = _without_leap_second(match["second"] or "00")
    zone = (match["zone"] or "Z").upper()
    offset = zone if zone[0] in "+-" else "+00:00"
    date, time = (
        f"{match['year']}-{match['month']}-{match['day']}",
        f"{match['hour'] or '00'}:{match['minute'] or '00'}",
    )
    local = datetime.fromisoformat(f"{date}T{time}:{second}{offset}")
    return local.astimezone(UTC) + leap + _microseconds(match["fraction"] or "")


def _from_rfc_2822(text: str) -> datetime:
    text, leap = _without_leap_second(text)
    time = parsedate_to_datetime(text)
    # The parser returns a time without an offset for the offset -0000, too.
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC) + leap


def _without_leap_second(text: str) -> tuple[str, timedelta]:
    """Return `text` with the second 59 instead of 60, and the difference.

    RFC 3339, 5.7, and RFC 2822, 3.3, allow leap seconds. datetime doesn't.
    """
    changed = re.sub(r"(?:\A|(?<=\d\d:\d\d:))60(?!\d)", "59", text)
    return changed, timedelta(seconds=0 if changed == text else 1)


def _microseconds(fraction: str) -> timedelta:
    """Return the time of the digits after the second."""
    return timedelta(microseconds=int(fraction[:6].ljust(6, "0")))
