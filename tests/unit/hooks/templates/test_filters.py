"""Tests of handlers.hooks.templates.filters."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.hooks.templates.limits import RenderError
from schemas.apify import ApifyUpdate
from tests.support.templates import render


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.object | items | list }}", [["b", 1], ["a", [2]]]),
        ("{{ event.object | items | first }}", ["b", 1]),
        ("{{ event.object | dictsort }}", [["a", [2]], ["b", 1]]),
        ("{{ event.keys | map('upper') | join(', ') }}", "K1, K2"),
        ("{{ event.keys | map('replace', 'k', '') | map('int') | sum }}", 3),
        ("{{ event.keys | map('int') | sum(start=1.5) }}", 1.5),
        ("{{ [{'a': 1}, {'a': 2.5}] | sum('a', 1) }}", 4.5),
        ("{{ [{'a': 2}, {'a': 1}] | sort(attribute='a') | map(attribute='a') | list }}", [1, 2]),
        ("{{ ['b', 'A', 'c'] | sort }}", ["A", "b", "c"]),
        ("{{ ['b', 'A', 'c'] | sort(true, true) }}", ["c", "b", "A"]),
        ("{{ [{'a': 2, 'b': 1}, {'a': 1, 'b': 1}] | sort(attribute='b,a') | map(attribute='a') | list }}", [1, 2]),
        ("{{ [{'a': 2}, {'a': 1}] | min(attribute='a') }}", {"a": 1}),
        ("{{ ['b', 'A'] | max }}", "b"),
        ("{{ ['b', 'A'] | min(true) }}", "A"),
        ("{{ [] | max | default('none') }}", "none"),
        ("{{ event.list | selectattr('name', 'defined') | map(attribute='name') | first }}", "c"),
        ("{{ event.list | first | upper }}", "B"),
        ("{{ event.keys | last }}", "k2"),
        ("{{ [{'s': 1}, {'s': 2}] | selectattr('s', 'equalto', 2) | list | length }}", 1),
        ("{{ [{'s': 1}, {'s': 2}] | selectattr('s', '==', 2) | map(attribute='s') | list }}", [2]),
        ("{{ event.keys | select('string') | list }}", ["k1", "k2"]),
        ("{{ event.keys | select('eq', 'k1') }}", ["k1"]),
        ("{{ event.keys | reject('in', ['k1']) | length }}", 1),
        ("{{ [1, true, 'A', 'a', 1, [1], [1]] | unique }}", [1, True, "A", [1]]),
        ("{{ ['A', 'a'] | unique(true) }}", ["A", "a"]),
        ("{{ event.null | upper }}", "NULL"),
        ("{{ event.object | trim }}", '{"b":1,"a":[2]}'),
        ("{{ event.text | trim('G') }}", "röße"),
        ("{{ event.keys | length }}", 2),
        ("{{ event.keys | reverse | list }}", ["k2", "k1"]),
        ("{{ [3, 1, 2] | sort }}", [1, 2, 3]),
        ("{{ [3, 1, 2] | max }}", 3),
        ("{{ 'a b' | urlencode }}", "a%20b"),
        ("{{ 1536 | filesizeformat(true) }}", "1.5 KiB"),
        ("{{ 2.6 | round | int }}", 3),
        ("{{ 2.345 | round(1) }}", 2.3),
        ("{{ event.object | tojson }}", '{"b":1,"a":[2]}'),
        ("{{ event.digits | tojson }}", '"123"'),
        ("{{ event.object | string }}", '{"b":1,"a":[2]}'),
        ("{{ event.object | list }}", ["b", "a"]),
        ("{{ 'ab' | list }}", ["a", "b"]),
        ("{{ event.number is divisibleby(num=3) }}", True),
        ("{{ 'a-b-c' | replace('-', '+', 1) }}", "a+b-c"),
    ],
)
def test_render_filter_returns_result(text: str, expected: Any) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ event.null | apify_name }}", "apify_name: the value must be a string or a number."),
        ("{{ event.yes | apify_name }}", "apify_name: the value must be a string or a number."),
        ("{{ '()' | apify_name }}", "apify_name: the value must contain a letter (a-z, A-Z) or a digit."),
        ("{{ event.text | limit(-1) }}", "limit: the length must be"),
        ("{{ event.text | limit(true) }}", "limit: the length must be"),
        ("{{ event.text | limit(1, '...') }}", "limit: the length must be"),
        ("{{ event.text | limit(event.text) }}", "limit: the length must be"),
        ("{{ event.text | replace('a', 'b', 'c') }}", "replace: the count must be a whole number."),
        ("{{ event.number | join }}", "join: the value must be a list."),
        ("{{ event.number | list }}", "list: the value must be a list."),
        ("{{ event.number | unique }}", "unique: the value must be a list."),
        ("{{ event.null | map('upper') | list }}", "map: the value must be a list."),
        ("{{ 3 is divisibleby(num='a') }}", "divisibleby: the value must be a whole number."),
        ("{{ event.text | round }}", "round: the value must be a number"),
        ("{{ event.float | round(16) }}", "the precision must be 0 to 15"),
        ("{{ event.float | round(-1) }}", "the precision must be 0 to 15"),
        ("{{ event.text | trim('a' * 101) }}", "trim: chars must be a string of at most 100"),
        ("{{ event.keys | sum }}", "unsupported operand"),
        ("{{ event.keys | sum(start='') }}", "sum: the start must be a number."),
        ("{{ event.text is even }}", "even: the value must be a whole number."),
        ("{{ 3 is divisibleby('a') }}", "divisibleby: the value must be a whole number."),
        ("{{ '%s' % event.text }}", "The operator % is for numbers."),
    ],
)
def test_render_filter_wrong_value_names_reason(text: str, message: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(text)
    assert message in str(caught.value)


# date


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.time | date }}", "2026-11-23"),
        ("{{ 1795336200 | date }}", "2026-11-22"),
        ("{{ event.time | date('%Y-%m') }}", "2026-11"),
        ("{{ event.time | date('%d.%m.%Y %H:%M:%S') }}", "23.11.2026 04:30:00"),
        ("{{ event.time | date('%j 100%%') }}", "327 100%"),
        ("{{ '0999-01-01' | date }}", "0999-01-01"),
    ],
)
def test_date_timestamp_returns_day_in_utc(text: str, expected: str) -> None:
    assert render(text) == expected


@pytest.mark.parametrize("value", ["timestamp", "", None, True, [], {}, 123])
def test_date_other_value_raises(value: Any) -> None:
    with pytest.raises(RenderError, match="date: the value is not a timestamp in a known format"):
        render("{{ event | date }}", value)


@pytest.mark.parametrize("date_format", ["%05d", "%", "YYYY-MM-DD", "", "%Y" * 51, "%1000000000d", 3, None])
def test_date_wrong_format_raises(date_format: Any) -> None:
    with pytest.raises(RenderError, match="date: the format must be like '%Y-%m-%d'"):
        render("{{ '2026-11-22' | date(event) }}", date_format)


# apify_name and limit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ 'Größe (2026)!' | apify_name }}", "Gro-e-2026"),
        ("{{ 'Crème brûlée' | apify_name }}", "Creme-brulee"),
        ("{{ ('a' * 62 ~ '-b') | apify_name }}", "a" * 62),
        ("{{ event.number | apify_name }}", "3"),
        ("{{ 'abcdef' | limit(4) }}", "abcd"),
        ("{{ 'abcdef' | limit(6) }}", "abcdef"),
        ("{{ 'abcdef' | limit(4, '…') }}", "abc…"),
        ("{{ '💶💶💶' | limit(2) }}", "💶💶"),
        ("{{ '' | limit(0) }}", ""),
    ],
)
def test_render_own_filter_returns_result(text: str, expected: str) -> None:
    assert render(text) == expected


@given(st.text())
def test_apify_name_any_text_returns_valid_name(text: str) -> None:
    try:
        name = render("{{ event | apify_name }}", text)
    except RenderError:
        return
    assert ApifyUpdate().validate({"name": name}) == {}


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 50))
def test_limit_any_text_cuts_to_length(text: str, length: int) -> None:
    assert render("{{ event.t | limit(event.n) }}", {"t": text, "n": length}) == text[:length]
