"""Tests of handlers.hooks.templates.filters."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.hooks.templates import filters, sandbox, timestamps
from handlers.hooks.templates.limits import RenderError, RenderLimitError
from handlers.hooks.templates.sandbox import TemplateMistakeError
from handlers.hooks.templates.template import compile_template
from schemas.apify import ApifyUpdate
from schemas.data_world import DataWorldUpdate
from schemas.problem import InvalidJSONError
from schemas.strict_json import JSON, parse_text
from tests.support.strategies import JSON_OBJECTS, JSON_VALUES
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
        ("{{ 'a, b' | split(',') }}", ["a", " b"]),
        ("{{ ' a  b ' | split }}", ["a", "b"]),
        ("{{ '' | split(',') }}", [""]),
        ("{{ 'a=b=c' | split('=', 1) | last }}", "b=c"),
        ("{{ 'a::b' | split(sep='::', maxsplit=1) }}", ["a", "b"]),
        ("""{{ '{"a": [1, null, "{{ 7 }}"]}' | fromjson }}""", {"a": [1, None, "{{ 7 }}"]}),
        ("""{{ ('{"a": {"b": "x"}}' | fromjson).a.b }}""", "x"),
        ("""{{ '{"a": 1, "a": 2}' | fromjson }}""", {"a": 2}),
        ("{{ ' 12345678901234567890 ' | fromjson }}", 12345678901234567890),
        ("{{ '1.50' | fromjson ~ '' }}", "1.50"),
        ("{{ '\"x\"' | fromjson }}", "x"),
        ("{{ event.object | tojson | fromjson }}", {"b": 1, "a": [2]}),
        ("{{ '[NaN, 1]' | fromjson | last }}", 1),
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
        ("{{ event.list | split(',') }}", "split: the value must be text, but is a list."),
        ("{{ event.text | split('') }}", "split: the separator must be a text of at least one character"),
        ("{{ event.text | split(event.number) }}", "split: the separator must be a text of at least one character"),
        ("{{ event.text | split(',', event.float) }}", "and maxsplit a whole number."),
        ("{{ event.object | fromjson }}", "fromjson: the value must be text, but is an object."),
        ("{{ event.null | fromjson }}", "fromjson: the value must be text, but is null."),
        ("{{ event.text | fromjson }}", "fromjson: the text is not JSON, or has more than 64 nested levels."),
        ("{{ '' | fromjson }}", "fromjson: the text is not JSON"),
        ("{{ '{} {}' | fromjson }}", "fromjson: the text is not JSON"),
        ("{{ ('[' * 65 ~ ']' * 65) | fromjson }}", "or has more than 64 nested levels."),
        ("{{ '[NaN]' | fromjson }}", "a number that JSON doesn't have"),
        ("{{ '1e999' | fromjson }}", "a number that JSON doesn't have"),
        ("{{ event.number | tags }}", "tags: the value must be a list or a text, but is a number."),
        ("{{ event.null | tags }}", "tags: the value must be a list or a text, but is null."),
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ '2026-11-22T23:30:00Z' | date('%Y-%m-%d', tz='Europe/Berlin') }}", "2026-11-23"),
        ("{{ '2026-07-01T12:00:00Z' | date('%H:%M %Z %z', 'Europe/Berlin') }}", "14:00 CEST +0200"),
        ("{{ '2026-12-01T12:00:00Z' | date('%H:%M', tz='Asia/Kathmandu') }}", "17:45"),
        ("{{ '2026-11-22T23:30:00Z' | date(tz='America/New_York') }}", "2026-11-22"),
        ("{{ '2026-11-22T23:30:00Z' | date('%H %Z', tz='UTC') }}", "23 UTC"),
        ("{{ '2026-11-22T23:30:00Z' | date(tz=event.zone) }}", "2026-11-23"),
        ("{{ ['2026-11-22T23:30:00Z'] | map('date', '%d', tz='Europe/Berlin') | first }}", "23"),
        ("{{ '0999-12-31T23:59:00Z' | date(tz='Europe/Berlin') }}", "1000-01-01"),
    ],
)
def test_date_time_zone_returns_local_time(text: str, expected: str) -> None:
    assert render(text, {"zone": "Europe/Berlin"}) == expected


@pytest.mark.parametrize(
    "zone",
    [
        "Europe/Berln", "europe/berlin", "", "../etc/passwd", "/etc/passwd", "Europe", "Europe/", ".", "zone.tab",
        "tzdata.zi", "posixrules", "localtime", "Factory", "right/UTC", "a\0b", "\ud800", "x" * 10_000, 3, None, True,
        [], {},
    ],
)  # fmt: skip
def test_date_unknown_time_zone_raises(zone: Any) -> None:
    with pytest.raises(RenderError) as caught:
        render("{{ '2026-11-22' | date(tz=event) }}", zone)
    message = "date: there is no time zone with this name. A valid name is, for example, Europe/Berlin."
    assert str(caught.value) == message


@pytest.mark.parametrize(("time", "zone"), [("0001-01-01", "America/New_York"), ("9999-12-31T23:59:59Z", "Asia/Tokyo")])
def test_date_year_out_of_range_raises(time: str, zone: str) -> None:
    with pytest.raises(RenderError, match="date: in this time zone, the year is not between 1 and 9999"):
        render("{{ event.time | date(tz=event.zone) }}", {"time": time, "zone": zone})


def test_date_without_time_zone_database_names_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timestamps, "time_zone_names", frozenset)
    monkeypatch.setattr(filters, "time_zone_names", frozenset)
    monkeypatch.setattr(sandbox, "time_zone_names", frozenset)
    assert render("{{ '2026-11-22' | date(tz='UTC') }}") == "2026-11-22"
    with pytest.raises(RenderError) as caught:
        render("{{ '2026-11-22' | date(tz=event) }}", "Europe/Berlin")
    message = "date: this machine has no time zone database. Install the Python package tzdata."
    assert str(caught.value) == message
    with pytest.raises(TemplateMistakeError) as mistake:
        compile_template("{{ event | date(tz='Europe/Berlin') }}", 100)
    assert str(mistake.value) == message


# split and fromjson


@pytest.mark.parametrize(
    "text", ["{{ event | split(',') | length }}", "{{ event | split | length }}", "{{ event | fromjson | length }}"]
)
def test_render_result_beyond_limit_raises(text: str) -> None:
    value = "[" + "0, " * 40 + "0]"
    assert render(text, value, max_text=250) == 41
    # The JSON of the parts has quotes and commas.
    with pytest.raises(RenderLimitError, match="produces a value of more than 80 characters"):
        render(text, value, max_text=80)


@pytest.mark.parametrize("name", ["split", "fromjson", "tags", "date(tz='Europe/Berlin')"])
def test_render_filter_after_deadline_raises(name: str) -> None:
    with pytest.raises(RenderLimitError, match="The deadline for this event has passed"):
        render(f"{{{{ event | {name} }}}}", "1795336200", expired=lambda: True)


def test_render_many_results_exhaust_budget() -> None:
    text = "{% for i in event.list %}{% set x = event.text | split %}{% endfor %}"
    with pytest.raises(RenderLimitError, match="produce too many values"):
        render(text, {"list": [0] * 20, "text": "a " * 20}, max_text=100)


@given(JSON_VALUES)
def test_fromjson_json_text_returns_same_value(value: JSON) -> None:
    assert render("{{ event.text | fromjson }}", {"text": json.dumps(value)}) == value


@given(st.text() | st.text('[]{}",:012.- \\n\n'))
def test_fromjson_any_text_returns_value_or_raises(text: str) -> None:
    try:
        expected = parse_text(text)
    except (ValueError, InvalidJSONError):
        with pytest.raises(RenderError):
            render("{{ event | fromjson }}", text)
    else:
        assert json.loads(str(render("{{ event | fromjson | tojson }}", text))) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(min_size=1, max_size=3))
def test_split_any_text_joins_to_same_text(text: str, separator: str) -> None:
    variables: JSON = {"t": text, "s": separator}
    assert render("{{ event.t | split(event.s) == event.t | split(event.s) }}", variables) is True
    if separator.isprintable():
        assert render("{{ event.t | split(event.s) | join(event.s) }}", variables) == text


# tags


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["open-data", "x", "Open data!", "", None, "open  data"], ["open data", "Open data"]),
        ([2026, 1.5, True, {"name": "bug"}, ["a", "b"]], ["2026", "1 5", "true", "name bug", "a b"]),
        ("open-data, csv; geo\nmaps\r\n,", ["open data", "csv", "geo", "maps"]),
        ("open data", ["open data"]),
        ("", []),
        ([], []),
        ({"env": "prod", "team-a": 1}, ["env", "team a"]),
        (["Crème brûlée", "ｆｕｌｌ width", "日本"], ["Creme brulee", "full width"]),
        (["a very long tag with many words"], ["a very long tag with many"]),
        (["a very long tag with manywords"], ["a very long tag with"]),
        (["x" * 26], ["x" * 25]),
        (["a " + "b" * 30], ["a " + "b" * 23]),
        (["ab " + "c" * 30], ["ab"]),
        (["x" * 24 + " y"], ["x" * 24]),
        (["x" * 30, "x" * 40], ["x" * 25]),
        (["_a_", "(ab)"], ["ab"]),
    ],
)
def test_tags_value_returns_valid_tags(value: JSON, expected: list[str]) -> None:
    assert render("{{ event | tags }}", value) == expected
    assert DataWorldUpdate().validate({"tags": expected}) == {}


@given(st.lists(JSON_VALUES | st.text(alphabet="ab -_é,1", max_size=40)) | st.text() | JSON_OBJECTS)
def test_tags_any_value_satisfies_schema(value: JSON) -> None:
    result = render("{{ event | tags }}", value)
    assert DataWorldUpdate().validate({"tags": result}) == {}


@given(st.lists(st.text(alphabet="abAB 1", max_size=30), max_size=5))
def test_tags_valid_tags_stay_unchanged(value: list[str]) -> None:
    valid: list[JSON] = [tag for tag in value if " ".join(tag.split()) == tag]
    if not DataWorldUpdate().validate({"tags": valid}):
        assert render("{{ event | tags }}", valid) == valid


def test_tags_many_items_count_as_loop_steps() -> None:
    with pytest.raises(RenderLimitError, match="take more than 100000 steps"):
        render("{{ event | tags }}", [0] * 20, steps=10)


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
