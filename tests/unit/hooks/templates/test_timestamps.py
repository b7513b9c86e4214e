"""Tests of handlers.hooks.templates.timestamps."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.hooks.templates.timestamps import parse_timestamp


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
