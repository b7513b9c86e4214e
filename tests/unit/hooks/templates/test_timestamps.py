"""Tests of handlers.hooks.templates.timestamps."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.hooks.templates.timestamps import parse_timestamp
from schemas.strict_json import ExactNumber


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-22T08:30:00Z", "2026-11-22T08:30:00"),
        ("2026-11-22t08:30:00z", "2026-11-22T08:30:00"),
        ("2026-11-22T08:30:00.123Z", "2026-11-22T08:30:00.123000"),
        ("2026-11-22T08:30:00.1234567Z", "2026-11-22T08:30:00.123456"),
        ("2026-11-22T08:30:00.123456789Z", "2026-11-22T08:30:00.123456"),
        ("2026-11-22T08:30:00,5Z", "2026-11-22T08:30:00.500000"),
        ("2026-11-22T08:30:00.547563+00:00", "2026-11-22T08:30:00.547563"),
        ("2026-11-22 08:30:00 UTC", "2026-11-22T08:30:00"),
        ("2026-11-22 08:30:00 GMT", "2026-11-22T08:30:00"),
        ("2026-11-22 08:30:00", "2026-11-22T08:30:00"),
        ("2026-11-22T08:30", "2026-11-22T08:30:00"),
        (" 2026-11-22\n", "2026-11-22T00:00:00"),
        ("2026-11-22T23:30:00-05:00", "2026-11-23T04:30:00"),
        ("2026-11-22T00:30:00+0100", "2026-11-21T23:30:00"),
        ("2026-11-22T00:30:00+01", "2026-11-21T23:30:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00"),
        (1795336200, "2026-11-22T08:30:00"),
        (1795336200.5, "2026-11-22T08:30:00.500000"),
        (1795336200123, "2026-11-22T08:30:00.123000"),
        ("1795336200", "2026-11-22T08:30:00"),
        ("1795336200123", "2026-11-22T08:30:00.123000"),
        ("1769615977123456789", "2026-01-28T15:59:37.123456"),
        (1769615977123456789, "2026-01-28T15:59:37.123456"),
        (1769615977123456, "2026-01-28T15:59:37.123456"),
        ("1769615977123456", "2026-01-28T15:59:37.123456"),
        ("1769615977123.4567", "2026-01-28T15:59:37.123456"),
        (1.769615977e18, "2026-01-28T15:59:37"),
        (ExactNumber("1.769615977E+18"), "2026-01-28T15:59:37"),
        ("Wed, 28 Jan 2026 15:59:37 +0000", "2026-01-28T15:59:37"),
        ("Wed, 28 Jan 2026 15:59:37 -0500", "2026-01-28T20:59:37"),
        ("Wed, 28 Jan 2026 15:59:37 -0000 (UTC)", "2026-01-28T15:59:37"),
        ("Wed, 28 Jan 2026 15:59:37 GMT", "2026-01-28T15:59:37"),
        ("Wed, 28 Jan 2026 15:59:37 EST", "2026-01-28T20:59:37"),
        ("wed,  8 JAN 2026 15:59:37", "2026-01-08T15:59:37"),
        ("8 Jan 2026 15:59 UT", "2026-01-08T15:59:00"),
        ("Sat, 31 Dec 2016 23:59:60 +0000", "2017-01-01T00:00:00"),
        ("20260128T155937Z", "2026-01-28T15:59:37"),
        ("20260128T155937.25+0100", "2026-01-28T14:59:37.250000"),
        ("20260128T1559Z", "2026-01-28T15:59:00"),
        ("20161231T235960Z", "2017-01-01T00:00:00"),
        ("2026/01/28 15:59:37", "2026-01-28T15:59:37"),
        ("2026/01/28 15:59:37.5 +0100", "2026-01-28T14:59:37.500000"),
        ("2026/01/28", "2026-01-28T00:00:00"),
    ],
)
def test_parse_timestamp_known_format_returns_utc(value: object, expected: str) -> None:
    time = parse_timestamp(value)
    assert time is not None
    assert time.tzinfo is UTC
    assert time.replace(tzinfo=None).isoformat() == expected


@pytest.mark.parametrize(
    "value",
    [
        "timestamp",
        "",
        "2026",
        "20261122",
        "2026/11-22",
        "28/01/2026",
        "2026-11-22T08",
        "Wed, 31 Feb 2026 15:59:37 GMT",
        "Wed, 28 Foo 2026 15:59:37 GMT",
        "Wed, 28 Jan 2026 25:59:37 GMT",
        "Wed, 28 Jan 2026 15:59:37 XYZ",
        "28 Jan 2026",
        "99999999999999999999",
        ExactNumber("-0"),
        float("inf"),
        "2026-13-01",
        "2026-11-22T25:00:00Z",
        "2026-11-22T08:30:00+99:00",
        "2026-11-22T08:30:00+01:60",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:60Z",
        123,
        -1,
        True,
        None,
        [],
        {},
        "²026-11-22",
        "2026-11-22T08:30:00Z\n{{ x }}",
        "9" * 5000,
        10**400,
        1e300,
        float("nan"),
    ],
)
def test_parse_timestamp_other_value_returns_none(value: object) -> None:
    assert parse_timestamp(value) is None


@given(st.datetimes(min_value=datetime(2002, 1, 1), max_value=datetime(2200, 1, 1)))
def test_parse_timestamp_any_time_returns_same_time(time: datetime) -> None:
    assert parse_timestamp(time.isoformat() + "Z") == time.replace(tzinfo=UTC)
    whole = time.replace(microsecond=0, tzinfo=UTC)
    assert parse_timestamp(int(whole.timestamp())) == whole


@given(
    st.datetimes(min_value=datetime(2002, 1, 1), max_value=datetime(2200, 1, 1)),
    st.integers(0, 999),
    st.integers(-14 * 60, 14 * 60),
)
def test_parse_timestamp_any_format_returns_same_time(time: datetime, nanoseconds: int, offset: int) -> None:
    utc = time.replace(tzinfo=UTC)
    microseconds = (utc - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    for since_1970 in (microseconds, microseconds * 1000 + nanoseconds):
        assert parse_timestamp(since_1970) == utc
        assert parse_timestamp(str(since_1970)) == utc
    local = utc.astimezone(timezone(timedelta(minutes=offset)))
    assert parse_timestamp(f"{local:%Y%m%dT%H%M%S.%f%z}") == utc
    assert parse_timestamp(f"{local:%Y/%m/%d %H:%M:%S.%f %z}") == utc
    assert parse_timestamp(format_datetime(local)) == utc.replace(microsecond=0)


@given(
    st.text("0123456789/-:.,+TZ UTCGMJanFebWed()", max_size=40)
    | st.integers(0, 10**21)
    | st.floats()
    | st.from_regex(r"(Wed, )?[0-9]{1,2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}(:[0-9]{2})?( [-+][0-9]{4})?")
)
def test_parse_timestamp_any_value_returns_utc_or_none(value: object) -> None:
    time = parse_timestamp(value)
    assert time is None or time.tzinfo is UTC
