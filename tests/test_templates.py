"""Templates: what they can do, what they keep of a value, what is refused, and what they may cost."""

import json
import resource
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.cloud import ROOT
from schemas.bounds import MAX_STEPS, Budget, Failed, TooMuch, as_text
from schemas.strict_json import JSON
from schemas.templates import Missing, condition, is_template, template
from schemas.vetting import Mistake

LIMIT = 1_048_576
EVENT: dict[str, JSON] = {
    "text": "Größe",
    "digits": "123",
    "number": 3,
    "float": 1.5,
    "yes": True,
    "null": None,
    "items": "a key, no method",
    "keys": ["k1", "k2"],
    "list": ["b", "a", {"name": "c"}],
    "empty": [],
    "object": {"b": 1, "a": [2]},
    "at": "2026-11-22T23:30:00.123456789-05:00",
    "evil": "{{ 7 * 7 }}{% for x in 'a' %}",
    "filter": "upper",
    "padding": "%9999999999999d",
}
HOSTILE: dict[str, JSON] = {
    **EVENT,
    "long": "a" * 900_000,
    "marks": "a" + "\u0301" * 130_000 + "\u0323" * 130_000,
    "zeros": [0] * 500_000,
    "alike": [each * (2**61 - 1) for each in range(1, 40_000)],
}
HEADERS: dict[str, JSON] = {"x-github-event": "push"}


def render(text: str, event: JSON = EVENT, **budget: Any) -> JSON:
    return template(text, LIMIT).render({"event": event, "headers": HEADERS}, Budget(LIMIT, **budget))


def holds(text: str, event: JSON = EVENT) -> bool:
    return condition(text, LIMIT).holds({"event": event, "headers": HEADERS}, Budget(LIMIT))


# What a value becomes


@pytest.mark.parametrize("key", EVENT)
def test_an_expression_alone_keeps_its_value_and_type(key: str) -> None:
    made = render(f"{{{{ event['{key}'] }}}}")
    assert made == EVENT[key]
    assert type(made) is type(EVENT[key])
    assert json.dumps(render("{{ event }}")) == json.dumps(EVENT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x{{ event.text }}", "xGröße"),
        ("x{{ event.number }}", "x3"),
        ("x{{ event.float }}", "x1.5"),
        ("x{{ event.yes }}", "xtrue"),
        ("x{{ event.null }}", "xnull"),
        ("x{{ event.object }}", 'x{"b":1,"a":[2]}'),
        ("x{{ event.list }}", 'x["b","a",{"name":"c"}]'),
        ("{{ event.number }}{{ event.digits }}", "3123"),
        ("{{ event.text }}\n", "Größe\n"),
        (" {{ event.number }}", " 3"),
        ("  {{- event.number -}}  ", "3"),
        ("{{ event.number }}{# a note #}", "3"),
        ("{# a note #}{{ event.number }}", "3"),
        ("{{ event.number }} ", "3 "),
        ("{% if event.yes %}{{ event.number }}{% endif %}", "3"),
        ("{{- event.number -}}", 3),
        ("a\n\n{{ event.number }}\n\n", "a\n\n3\n\n"),
    ],
)
def test_inside_a_longer_text_values_are_written_as_json(text: str, expected: Any) -> None:
    assert render(text) == expected
    assert type(render(text)) is type(expected)


@given(st.recursive(st.none() | st.booleans() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False,
       allow_infinity=False) | st.text(st.characters(exclude_categories=["Cs"])),
       lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])),
       inner, max_size=4)))  # fmt: skip
def test_any_json_comes_out_as_it_went_in(value: JSON) -> None:
    assert json.dumps(render("{{ event }}", value)) == json.dumps(value)
    assert render("{{ event.v }}", {"v": value}) == value
    text = render("<{{ event.v }}>", {"v": value})
    assert isinstance(text, str)
    assert text[1:-1] == (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    )


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_payloads_text_is_only_data(text: str) -> None:
    for payload in (text, "{{ " + text + " }}", "{% " + text + " %}", "{# " + text):
        assert render("{{ event.x }}", {"x": payload}) == payload
        assert render("{{ event.x }}!", {"x": payload}) == payload + "!"
        assert render("{{ event.x ~ event.x }}", {"x": payload}) == payload * 2
        assert render("{{ event.o[event.k] }}", {"k": payload, "o": {payload: payload}}) == payload


def test_what_is_made_shares_nothing_with_the_payload() -> None:
    payload: dict[str, JSON] = {"list": [[1]]}
    made = render("{{ event.list }}", payload)
    assert made == payload["list"]
    assert isinstance(made, list)
    made.append(2)
    assert payload == {"list": [[1]]}


def test_what_is_a_template() -> None:
    assert all(is_template(text) for text in ("{{ event }}", "{% if event %}{% endif %}", "{# note #}"))
    assert not any(is_template(text) for text in ("", "plain", "{ }", "}}", "${x}", "{ {", "a{b"))


# The language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.items }}", "a key, no method"),
        ("{{ event.keys }}", ["k1", "k2"]),
        ("{{ event.list.0 }}", "b"),
        ("{{ event.list[-1].name }}", "c"),
        ("{{ event['object']['a'][0] }}", 2),
        ("{{ event.at[:10] }}", "2026-11-22"),
        ("{{ event.list[:2] }}", ["b", "a"]),
        ("{{ headers['x-github-event'] }}", "push"),
        ("{{ event.number + 1 }}", 4),
        ("{{ event.number * 2 - 1 }}", 5),
        ("{% set a = 1 %}{{ event.number - a }}", "2"),
        ("{{ 7 // 2 }}", 3),
        ("{{ 7 % 4 }}", 3),
        ("{{ 2 ** 10 }}", 1024),
        ("{{ -event.number }}", -3),
        ("{{ 'a' * 3 }}", "aaa"),
        ("{{ event.text ~ '-' ~ event.number ~ event.empty }}", "Größe-3[]"),
        ("{{ 'yes' if event.yes else 'no' }}", "yes"),
        ("{{ event.number in [1, 3] }}", True),
        ("{{ [event.number, {'a': event.text}] }}", [3, {"a": "Größe"}]),
        ("{{ (1, 2) }}", [1, 2]),
        ("{{ event.object | items | list }}", [["b", 1], ["a", [2]]]),
        ("{{ event.object | dictsort }}", [["a", [2]], ["b", 1]]),
        ("{{ event.keys | map('upper') | join(', ') }}", "K1, K2"),
        ("{{ event.keys | map('replace', 'k', '') | map('int') | sum }}", 3),
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
        ("{{ [{'s': 1}, {'s': 2}] | selectattr('s', 'equalto', 2) | list | length }}", 1),
        ("{{ [{'s': 1}, {'s': 2}] | selectattr('s', '==', 2) | map(attribute='s') | list }}", [2]),
        ("{{ [1, true, 'A', 'a', 1, [1], [1]] | unique }}", [1, True, "A", [1]]),
        ("{{ event.null | upper }}", "NULL"),
        ("{{ event.object | trim }}", '{"b":1,"a":[2]}'),
        ("{{ ('a' ~ true ~ [1, 'b']) | lower }}", 'atrue[1,"b"]'),
        ("{{ 'abc'[1:] ~ 'x' }}", "bcx"),
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
        ("{{ 'a-b-c' | replace('-', '+', 1) }}", "a+b-c"),
        (
            "{% for k in event.keys %}{{ loop.index }}={{ k }}{{ '' if loop.last else ', ' }}{% endfor %}",
            "1=k1, 2=k2",
        ),
        ("{% for key, value in event.object | items %}{{ key }}={{ value }};{% endfor %}", "b=1;a=[2];"),
        ("{% for x in event.empty %}{{ x }}{% else %}none{% endfor %}", "none"),
        ("{% for x in [1, 2, 3] if x is odd %}{{ x }}{% endfor %}", "13"),
        ("{% for c in 'ab' %}{{ c }}.{% endfor %}", "a.b."),
        ("{% set name = event.text | lower %}{{ name }}!", "größe!"),
        ("{% if event.number > 3 %}a{% elif event.number == 3 %}b{% else %}c{% endif %}", "b"),
        ("{% raw %}{{ event }}{% endraw %}", "{{ event }}"),
        ("{# a note #}x", "x"),
    ],
)
def test_what_templates_can_do(text: str, expected: Any) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [
        ("2026-11-22T08:30:00Z", "2026-11-22"),
        ("2026-11-22T08:30:00.123Z", "2026-11-22"),
        ("2026-11-22T08:30:00.1234567Z", "2026-11-22"),
        ("2026-11-22T08:30:00.123456789Z", "2026-11-22"),
        ("2026-11-22T08:30:00.547563+00:00", "2026-11-22"),
        ("2026-11-22 08:30:00 UTC", "2026-11-22"),
        ("2026-11-22 08:30:00", "2026-11-22"),
        ("2026-11-22T08:30", "2026-11-22"),
        ("2026-11-22", "2026-11-22"),
        ("2026-11-22T23:30:00-05:00", "2026-11-23"),
        ("2026-11-22T00:30:00+0100", "2026-11-21"),
        ("2016-12-31T23:59:60Z", "2017-01-01"),
        (1795336200, "2026-11-22"),
        (1795336200.5, "2026-11-22"),
        (1795336200123, "2026-11-22"),
        ("1795336200", "2026-11-22"),
        ("1795336200123", "2026-11-22"),
    ],
)
def test_a_date_from_what_senders_write(given_time: JSON, expected: str) -> None:
    assert render("{{ event | date }}", given_time) == expected


@pytest.mark.parametrize(
    "no_time",
    [
        "timestamp",
        "",
        "2026",
        "20261122",
        "2026-13-01",
        "2026-11-22T25:00:00Z",
        "2026-11-22T08:30:00+99:00",
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
    ],
)
def test_no_date_from_what_is_none(no_time: JSON) -> None:
    with pytest.raises(Failed, match="is no time in any known format"):
        render("{{ event | date }}", no_time)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.at | date('%Y-%m') }}", "2026-11"),
        ("{{ event.at | date('%d.%m.%Y %H:%M:%S') }}", "23.11.2026 04:30:00"),
        ("{{ '0999-01-01' | date }}", "0999-01-01"),
        ("{{ 'Größe (2026)!' | apify_name }}", "Gro-e-2026"),
        ("{{ 'Crème brûlée' | apify_name }}", "Creme-brulee"),
        ("{{ 'a' * 100 | int }}", None),
        ("{{ ('a' * 62 ~ '-b') | apify_name }}", "a" * 62),
        ("{{ event.number | apify_name }}", "3"),
        ("{{ 'abcdef' | limit(4) }}", "abcd"),
        ("{{ 'abcdef' | limit(6) }}", "abcdef"),
        ("{{ 'abcdef' | limit(4, '…') }}", "abc…"),
        ("{{ '💶💶💶' | limit(2) }}", "💶💶"),
        ("{{ '' | limit(0) }}", ""),
    ],
)
def test_filters_of_our_own(text: str, expected: Any) -> None:
    if expected is not None:
        assert render(text) == expected


@given(st.text())
def test_apify_name_makes_what_apify_takes(text: str) -> None:
    from schemas.apify import ApifyUpdate

    try:
        name = render("{{ event | apify_name }}", text)
    except Failed:
        return
    assert ApifyUpdate().validate({"name": name}) == {}


@given(st.text(), st.integers(0, 50))
def test_limit_cuts_to_length(text: str, length: int) -> None:
    made = render("{{ event.t | limit(event.n) }}", {"t": text.encode("utf-8", "ignore").decode(), "n": length})
    assert isinstance(made, str)
    assert len(made) <= length


# Missing names


@pytest.mark.parametrize(
    "text",
    [
        "{{ event.missing }}",
        "x{{ event.missing }}",
        "{{ event.missing.below }}",
        "{{ event.list[9] }}",
        "{{ event.object.keys.x }}",
        "{{ event.text.upper }}",
        "{{ event.missing | upper }}",
        "{{ event.missing | length }}",
        "{{ event.missing | items | list }}",
        "{{ event.missing ~ 'x' }}",
        "{{ 'x' ~ event.missing }}",
        "{{ [event.missing] }}",
        "{{ {'a': event.missing} }}",
        "{{ event.missing + 1 }}",
        "{{ 1 + event.missing }}",
        "{{ -event.missing }}",
        "{{ event.missing[:3] }}",
        "{{ event[event.missing] }}",
        "{{ event.text | replace('a', event.missing) }}",
        "{% for x in event.missing %}{% endfor %}",
        "{% if event.missing %}{% endif %}",
        "{{ 'a' if event.missing else 'b' }}",
        "{{ event.empty | first }}",
        "{{ event.list | map(attribute='name') | list }}",
        "{{ [{'a': 1}] | sort(attribute='b') }}",
        "{{ [{'a': 1}] | min(attribute='b') }}",
        "{{ [{'a': 1}] | max(attribute='b') }}",
        "{{ [{'a': 1}] | sum(attribute='b') }}",
        "{{ [] | min }}",
        "{{ event.missing is none }}",
        "{{ event.missing in [] }}",
        "{{ [] == event.missing }}",
        "{{ event.number['x'] }}",
        "{{ event.missing | default(event.nothing) }}",
        "{{ headers['x-other'] }}",
        "{{ event.list | join(event.missing) }}",
        "{% for x in event.keys %}{{ loop.nextitem }}{% endfor %}",
    ],
)
def test_a_missing_name_is_an_error(text: str) -> None:
    with pytest.raises(Missing):
        render(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.missing | default('d') }}", "d"),
        ("{{ event.missing.below.it | default('d') }}", "d"),
        ("{{ event.missing[0] | default('d') }}", "d"),
        ("{{ event.missing[:10] | default('d') }}", "d"),
        ("{{ event.null | default('d') }}", None),
        ("{{ event.null | default('d', true) }}", "d"),
        ("{{ event.missing is defined }}", False),
        ("{{ event.missing.below is undefined }}", True),
        ("{{ 'a' if event.missing is defined else 'b' }}", "b"),
        ("{{ event.empty | first | default('none') }}", "none"),
        ("{{ event.list | map(attribute='name', default='-') | list }}", ["-", "-", "c"]),
        ("{% for x in event.missing | default([]) %}{{ x }}{% endfor %}.", "."),
    ],
)
def test_what_may_be_missing(text: str, expected: Any) -> None:
    assert render(text) == expected


def test_what_is_missing_is_named() -> None:
    with pytest.raises(Missing, match=r"^missing is missing\.$"):
        render("{{ event.missing.below }}")
    with pytest.raises(Missing) as caught:
        render("{{ event." + "a" * 100_000 + " }}")
    assert len(str(caught.value)) < 100
    with pytest.raises(Missing, match=r'^"a b" is missing\.$'):
        render("{{ event['a b'] }}")


# Conditions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event.number == 3", True),
        ("event.number == 3 and event.text == 'Größe'", True),
        ("event.number == 4 or event.yes", True),
        ("event.number == 4 and event.missing", False),
        ("event.yes or event.missing", True),
        ("not event.null", True),
        ("event.text in ['a', 'Größe']", True),
        ("'a' in event.list", True),
        ("event.missing is defined", False),
        ("event.missing is not defined", True),
        ("event.missing | default(false)", False),
        ("event.number > 2\n  and event.yes", True),
        ("event.list", True),
        ("event.empty", False),
        ("headers['x-github-event'] == 'push'", True),
        ("event.digits | int > 100", True),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    assert holds(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "event.missing",
        "event.missing == 1",
        "event.missing != 1",
        "not event.missing",
        "event.missing is none",
        "event.missing is not none",
        "event.missing is string",
        "event.missing not in []",
        "event.missing not in event.empty",
        "event.yes and event.missing",
        "event.missing or true",
        "event.missing.below == 'x'",
        "event.number < event.missing",
        "event.missing | length == 0",
        "(event.missing | string) == ''",
        "event.missing ~ '' == ''",
        "event.list | selectattr('name') | list",
        "1 if event.missing else 2",
        "event['missing'] != 'x'",
    ],
)
def test_a_missing_name_in_what_is_evaluated_is_told(text: str) -> None:
    with pytest.raises(Missing):
        holds(text)


@pytest.mark.parametrize("text", ["event.text > 3", "1 / 0", "event.text | abs", "event.text | date"])
def test_a_condition_that_fails(text: str) -> None:
    with pytest.raises(Failed) as caught:
        holds(text)
    assert not isinstance(caught.value, Missing)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "event.",
        "event.x ==",
        "{{ event.x }}",
        "event.x }}",
        "a }} {{ b",
        "event.x; 1",
        "event.x, 1",
        "# x",
        "()",
        "{% if event %}1{% endif %}",
        "evnt.x",
        "event.x | nofilter",
        "event.x is notest",
        "event.x()",
        "x = 1",
    ],
)
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(Mistake):
        condition(text, LIMIT)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ event.x }}", "A condition has no braces, as event.x == 'y'."),
        ("event.x = 1", "Compare with ==; write and, or, not."),
        ("event.x && event.y", "Compare with ==; write and, or, not."),
        ("event.x || event.y", "Compare with ==; write and, or, not."),
        ("!event.x", "Compare with ==; write and, or, not."),
        ("event.x ==", "Not a valid template: unexpected ')' (line 1)."),
        ("event.x != 1 and", "Not a valid template: unexpected ')' (line 1)."),
    ],
)
def test_mistakes_in_conditions_say_what_to_do(text: str, said: str) -> None:
    with pytest.raises(Mistake) as caught:
        condition(text, LIMIT)
    assert str(caught.value).endswith(said)


# Mistakes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ evnt.x }}", 'There is no "evnt" here; did you mean event?'),
        ("{{ x }}", 'There is no "x" here; there are event and headers.'),
        ("{{ self }}", 'There is no "self" here'),
        ("{{ loop.index }}", 'There is no "loop" here'),
        ("{{ range }}", 'There is no "range" here'),
        ("{{ event.get('x') }}", "There are no calls here"),
        ("{{ event.x | dat }}", 'There is no filter "dat" here; did you mean date?'),
        ("{{ event.x is defind }}", 'There is no test "defind" here; did you mean defined?'),
        ("{{ event.x ", "Not a valid template: unexpected end of template"),
        ("{% if event.x %}", "Not a valid template: Unexpected end of template"),
        ("{% include 'x' %}", "There is no Include here."),
        ("{{ 1e999 }}", "out of range"),
        ("{{ 'a' if event.x }}", "An inline if needs an else"),
        ("{{ headers.x-github-event }}", "written in brackets, as headers['x-name']"),
        ("{{ headers.x-event }}", "written in brackets"),
        ("{{ event.full-name }}", "written in brackets"),
        ("{% set a = 1 %}{{ headers.x-a }}", "written in brackets"),
        ("{{ headers['X-GitHub-Event'] }}", 'headers["x-github-event"]'),
        ("{{ null }}", "did you mean none?"),
        ("{% if event.x %}{% set y = 1 %}{% endif %}{{ y }}", '"y" isn\'t always set'),
        ("{{ event.x | date('%05d') }}", "date: its format is as '%Y-%m-%d'"),
        ("{{ event.x | date('YYYY-MM-DD') }}", "date: its format is as '%Y-%m-%d'"),
        ("{{ [{}] | map('sum', event.x) | list }}", 'There is no filter "sum" here'),
        ("{{ event.x | sum(event.y) }}", "named by a text in the template"),
        ("{{ event.x | map(\uff41ttribute=event.y) | list }}", "doesn't take these arguments"),
        ("{% for \uff4coop in event.x %}{{ loop.index }}{% endfor %}", "must be of the letters a to z"),
        ("{% set \ufb01 = 1 %}{{ fi }}", "must be of the letters a to z"),
        ("{{ event[1:2, 3] }}", "There is one slice in a pair of brackets"),
        ("{{ event.x is eq }}", "The test eq doesn't take these arguments."),
        ("{{ event.x is divisibleby(num=3) }}", "The test divisibleby doesn't take these arguments."),
        ("{{ event.x | limit }}", "The filter limit doesn't take these arguments."),
        ("{{ event.x | join(', ', attribute='name') }}", "The filter join doesn't take these arguments."),
        ("{{ event.x | tojson(indent=2) }}", "The filter tojson doesn't take these arguments."),
        ("{{ event.x | map('uppr') | list }}", 'There is no filter "uppr" here; did you mean upper?'),
        ("{{ event.x | selectattr('a', 'equals', 1) | list }}", 'There is no test "equals" here'),
        ("{{ event.x | map(event.y) | list }}", "named by a text in the template"),
        ("{{ event.x | map(attribute=event.y) | list }}", "named by a text in the template"),
        ("{{ event.x | default(*event.y) }}", "takes its arguments one by one"),
        ("{{ event.x | sort(attribute='a.a.a.a.a.a.a.a.a') }}", "up to 8 parts"),
        ("{% for a in event.x %}{{ loop }}{% endfor %}", "but as loop.index"),
        ("{% " + "x" * 1000 + " %}", "Not a valid template: Encountered unknown tag"),
    ],
)
def test_mistakes_say_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(Mistake) as caught:
        template(text, LIMIT)
    assert said in str(caught.value)


def test_a_template_is_no_longer_than_a_body() -> None:
    text = "{{ event.text }}"
    assert template(text, len(text))
    with pytest.raises(Mistake, match="at most 15 characters"):
        template(text, len(text) - 1)


# Attacks: what they get, and that they get it in a process of 1 GB and within seconds

BIG = "'a' * 1000000"
ATTACKS = {
    # while compiling
    "repetition, folded": ("{{ 'a' * 400000000 }}", TooMuch),
    "repetition of a list": ("{{ [1] * 400000000 }}", TooMuch),
    "repetition, the other way": ("{{ 400000000 * 'a' }}", TooMuch),
    "power, folded": ("{{ 9 ** (9 ** 9) }}", TooMuch),
    "power of powers": ("{{ 2 ** (2 ** (2 ** (2 ** (2 ** 2)))) }}", TooMuch),
    "negative power": ("{{ 2 ** -999999999 }}", None),
    "padding by a filter": ("{{ 'a' | center(1000000000) }}", Mistake),
    "padding by format": ("{{ '%1000000000d' | format(1) }}", Mistake),
    "padding by %": ("{{ '%1000000000d' % 1 }}", Failed),
    "padding by strftime": ("{{ event.at | date('%01000000000d') }}", Mistake),
    "a long number": ("{{ " + "9" * 5000 + " }}", Mistake),
    "nesting of brackets": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", Mistake),
    "nesting of lists": ("{{ " + "[" * 300 + "]" * 300 + " }}", Mistake),
    "a long chain of names": ("{{ event" + ".a" * 5000 + " }}", Mistake),
    "a chain that Python parses slowly": ("{{ event" + ".a" * 300 + " }}", Mistake),
    "a long sum": ("{{ 1" + " + 1" * 5000 + " }}", Mistake),
    "many conditions": ("{% if event %}" * 500 + "{% endif %}" * 500, Mistake),
    "many loops": ("{% for a in event %}" * 60 + "{% endfor %}" * 60, Mistake),
    "many parts": ("{{ event.a }}" * 80000, Mistake),
    "padding by a test, folded": ("{{ '%999999999d' is even }}", Failed),
    "padding by a test": ("{{ event.padding is odd }}", Failed),
    "padding by a test of each": ("{{ [event.padding] | select('even') | list }}", Failed),
    "many words": ("{{ [" + "1," * 500000 + "] }}", Mistake),
    # while rendering
    "rounding text": ("{{ event.long | round(15, 'floor') }}", Failed),
    "marks on one letter": ("{{ event.marks | apify_name }}", None),
    "one character that is eighteen": ("{{ ('\ufdfa' * 1048575) | apify_name }}", Failed),
    "numbers of the same hash": ("{{ event.alike | unique | length }}", None),
    "trimming much": ("{{ event.long | trim(event.long) }}", Failed),
    "an attribute of many parts": ("{{ event.list | map(attribute='" + "0." * 3000 + "0') | list }}", Mistake),
    "long numbers": ("{{ [10 ** 300] * 1000000 }}", TooMuch),
    "doubling text": ("{% set a = 'a' %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}", TooMuch),
    "doubling text by +": ("{% set a = 'a' %}" + "{% set a = a + a %}" * 60 + "{{ a }}", TooMuch),
    "doubling lists": ("{% set a = ['a'] %}" + "{% set a = a + a %}" * 60 + "{{ a }}", TooMuch),
    "lists in lists": ("{% set a = ['a'] %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}", TooMuch),
    "objects in objects": ("{% set a = {} %}" + "{% set a = {'a': a, 'b': a} %}" * 60 + "{{ a }}", TooMuch),
    "comparing lists in lists": ("{% set a = ['a'] %}" + "{% set a = [a, a] %}" * 25 + "{% set b = ['a'] %}"
                                 + "{% set b = [b, b] %}" * 25 + "{{ a == b }}", TooMuch),
    "replacing with more": ("{{ (" + BIG + ") | replace('a', " + BIG + ") }}", TooMuch),
    "replacing nothing": ("{{ (" + BIG + ") | replace('', " + BIG + ") }}", TooMuch),
    "putting much together": ("{{ " + "~".join(["event.zeros"] * 1900) + " }}", TooMuch),
    "sorting by what is missing": ("{{ event.zeros | sort(attribute='z,z,z,z,z,z,z,z') }}", Failed),
    "an attribute of the payload's": ("{{ [event.zeros] | map('sort', false, false, event.long) | list }}", Mistake),
    "joining": ("{{ [" + BIG + "] * 3 | join('') }}", Failed),
    "joining with more": ("{{ ((" + BIG + ") | list) | join(" + BIG + ") }}", Failed),
    "mapping to more": ("{{ event.keys * 1000 | map('default') | map('replace', 'k', " + BIG + ") | list }}", Failed),
    "summing lists": ("{{ [[1], [2]] | sum(start=[]) }}", Failed),
    "rounding": ("{{ 1 | round(100000000) }}", Failed),
    "a number of another base": ("{{ (" + BIG + ") | int(0, 36) }}", None),
    "a number of base 16": ("{{ (" + BIG + ") | int(0, 16) }}", Failed),
    "writing the payload a hundred times": ("{% for x in " + BIG + " %}{{ event }}{% endfor %}", TooMuch),
    "loops in loops": ("{% for a in " + BIG + " %}{% for b in " + BIG + " %}{% endfor %}{% endfor %}", TooMuch),
    "many values": ("{% for a in ('a' * 99999) %}{% set b = " + BIG + " %}{% endfor %}", TooMuch),
    "a deep value": ("{% set a = [] %}" + "{% set a = [a] %}" * 200 + "{{ a }}", TooMuch),
    "recursion": ("{% for a in event.list recursive %}{{ loop(event.list) }}{% endfor %}", Mistake),
    "a macro that calls itself": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", Mistake),
    # reaching out
    "a class": ("{{ ''.__class__ }}", Missing),
    "a class by index": ("{{ event['__class__'] }}", Missing),
    "a class by filter": ("{{ event | attr('__class__') }}", Mistake),
    "a class by map": ("{{ event.list | map(attribute='__class__') | list }}", Missing),
    "a class by sort": ("{{ event.keys | sort(attribute='__class__.__mro__') }}", Missing),
    "the environment": ("{{ self._TemplateReference__context }}", Mistake),
    "the loop's own": ("{% for a in event.list %}{{ loop._iterator }}{% endfor %}", Missing),
    "the loop as a value": ("{% for a in event.list %}{{ loop }}{% endfor %}", Mistake),
    "globals": ("{{ cycler.__init__.__globals__ }}", Mistake),
    "lipsum": ("{{ lipsum.__globals__ }}", Mistake),
    "a call": ("{{ event.text.format(event) }}", Mistake),
    "format's way to attributes": ("{{ '{0.__class__}' | format(event) }}", Mistake),
    "an unknown filter by name": ("{{ event.list | map('attr', '__class__') | list }}", Mistake),
    "a filter that the payload names": ("{{ event.keys | map(event.filter) | list }}", Mistake),
    "importing": ("{% from 'os' import system %}", Mistake),
    "including": ("{% include '/etc/passwd' %}", Mistake),
    "extending": ("{% extends event.text %}", Mistake),
    "half a character": ("{{ '\\ud800' }}", Failed),
    "what is no number": ("{{ 1e308 * 10 }}", Failed),
    "what is no real number": ("{{ (-1) ** 0.5 }}", Failed),
    "what is no text as a key": ("{{ {1: 2} }}", Failed),
}  # fmt: skip

ATTACK = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from tests.test_templates import ATTACKS, EVENT, HEADERS, LIMIT, attacked
for name in json.load(sys.stdin):
    print(json.dumps([name, *attacked(ATTACKS[name][0])]), flush=True)
"""


def attacked(text: str) -> tuple[str | None, float]:
    """What an attack gets, as a class's name, and after how many seconds."""
    began = time.monotonic()
    try:
        budget = Budget(LIMIT, expired=lambda: time.monotonic() > began + 9)
        template(text, LIMIT).render({"event": HOSTILE, "headers": HEADERS}, budget)
        found = None
    except (Mistake, Failed) as error:
        assert len(str(error)) < 1000
        found = type(error).__name__
    return found, time.monotonic() - began


def test_attacks() -> None:
    """In a process that may take 1 GB; a process that hangs is ended."""
    done = subprocess.run(
        [sys.executable, "-c", ATTACK], input=json.dumps(list(ATTACKS)), cwd=ROOT, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-3000:]
    got: dict[str, str | None] = {name: found for name, found, _ in map(json.loads, done.stdout.splitlines())}
    kinds: dict[Any, set[str | None]] = {Mistake: {"Mistake"}, Missing: {"Missing"}, TooMuch: {"TooMuch"},
             Failed: {"Failed", "TooMuch"}, None: {None}}  # fmt: skip
    wrong = {name: (got.get(name), expected) for name, (_, expected) in ATTACKS.items()
             if got.get(name) not in kinds[expected]}  # fmt: skip
    assert wrong == {}
    assert len(ATTACKS) >= 30


def test_the_process_of_the_attacks_is_limited() -> None:
    """What shows that the limit above would be felt."""
    program = ATTACK.partition("from tests")[0] + "bytearray(2 << 30)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "MemoryError" in done.stderr
    assert resource.RLIMIT_AS


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("{{ 'a' * 1048577 }}", TooMuch, "a value of more than 1048576 characters"),
        ("{{ 10 ** 400 }}", TooMuch, "a number that is out of range"),
        ("{{ 10 ** 4000 }}", TooMuch, "a number that is out of range"),
        ("{{ 10 ** 300 * 10 ** 300 }}", TooMuch, "a number that is out of range"),
        ("{{ 1.0 * 10 ** 200 * 10 ** 200 }}", Failed, "a number that JSON has none for"),
        ("{{ 2.0 ** 1024 }}", Failed, "It fails on this payload (OverflowError)."),
        ("{{ (-1) ** 0.5 }}", Failed, "a complex, which JSON has no value for"),
        ("{{ {1: 2} }}", Failed, "a key that is no string"),
        ("{{ '\\ud800' }}", Failed, "half of a surrogate pair"),
        ("{{ '%s' % event.text }}", Failed, "% is for numbers"),
        ("{{ event.padding is even }}", Failed, "even: is for whole numbers."),
        ("{% set a = [] %}" + "{% set a = [a] %}" * 130 + "{{ a }}", TooMuch, "more than 128 levels"),
        ("{{ [event.text * 200000] * 2 }}", TooMuch, "a value that is too large"),
        ("{{ [[event.text], event.missing] }}", Missing, "missing is missing."),
        ("{{ event.at | date('%05d' ~ '') }}", Failed, "date: its format"),
        ("{{ event.at | date('x' * 101) }}", Failed, "date: its format"),
        ("{{ event.at | date(event.number) }}", Failed, "date: its format"),
        ("{{ event.null | apify_name }}", Failed, "apify_name: takes text or a number."),
        ("{{ '()' | apify_name }}", Failed, "apify_name: nothing is left"),
        ("{{ event.text | limit(-1) }}", Failed, "limit: takes a length"),
        ("{{ event.text | limit(true) }}", Failed, "limit: takes a length"),
        ("{{ event.text | limit(1, '...') }}", Failed, "limit: takes a length"),
        ("{{ event.text | replace('a', 'b', 'c') }}", Failed, "replace: its count"),
        ("{{ event.number | join }}", Failed, "join: takes a list."),
        ("{{ event.number | list }}", Failed, "list: takes a list."),
        ("{{ event.number | unique }}", Failed, "unique: takes a list."),
        ("{{ event.text | round }}", Failed, "round: takes a number."),
        ("{{ event.float | round(16) }}", Failed, "round: takes a precision"),
        ("{{ event.text | trim('a' * 101) }}", Failed, "trim: takes up to 100"),
        ("{{ event.keys | sum(start='') }}", Failed, "sum: sums numbers."),
        ("{{ event.keys | map('int') | sum(start=1.5) }}", None, ""),
        ("{{ event.text | trim('G') }}", None, ""),
        ("{{ event.keys | select('string') | list }}", None, ""),
        ("{{ event.list | sort(attribute=0) }}", Failed, ""),
    ],
)
def test_what_is_refused_while_rendering(text: str, kind: type[Failed] | None, said: str) -> None:
    if kind is None:
        assert render(text, HOSTILE) is not None
        return
    with pytest.raises(Failed) as caught:
        render(text, HOSTILE)
    assert isinstance(caught.value, kind)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ [" + "1," * 10_001 + "] }}", "more than 20000 words and signs"),
        ("{{ event.a }}" * 2500, "more than 4000 parts"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "nested too deeply"),
        ("{{ " + "[" * 65 + "]" * 65 + " }}", "nested too deeply"),
        ("{% for a in event %}" * 21 + "{% endfor %}" * 21, "nested too deeply"),
        ("{{ " + "9" * 5000 + " }}", "Not a valid template (ValueError)."),
        ("{% for loop in event %}{% endfor %}", "Not a valid template: Can't assign to special loop variable"),
        ("{{ event.a - event.b - nothing }}", "written in brackets"),
        ("{{ 1 - nothing }}", "written in brackets"),
        ("{{ event.x | sum(event.y) }}", "named by a text in the template"),
        ("{{ event.x | select('strng') | list }}", "did you mean string?"),
        ("{{ event.x | sort(attribute='" + "a" * 101 + "') }}", "up to 8 parts"),
    ],
)
def test_what_is_refused_while_compiling(text: str, said: str) -> None:
    with pytest.raises(Mistake) as caught:
        template(text, LIMIT)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_is_no_value_of_jsons() -> None:
    budget = Budget(100)
    for value in (object(), [object()], {"a": {1, 2}}):
        with pytest.raises(Failed, match="which JSON has no value for"):
            budget.measured(value)
    with pytest.raises(Failed, match="which JSON has no value for"):
        as_text(object())
    assert budget.measured(iter("ab")) == ["a", "b"]
    with pytest.raises(TooMuch, match="too large"):
        budget.measured(each for each in ["a" * 60] * 3)


def test_what_is_made_on_the_way_counts_together() -> None:
    with pytest.raises(TooMuch, match="too many values on its way"):
        template("{% for a in 'a' * 90 %}{% set b = 'b' * 90 %}{% endfor %}", LIMIT).render(
            {"event": {}, "headers": {}}, Budget(100)
        )


# Bounds


def test_the_steps_of_all_loops_count_together() -> None:
    budget = Budget(LIMIT)
    thousand = template("{% for a in 'a' * 1000 %}{% endfor %}", LIMIT)
    for _ in range(MAX_STEPS // 1000):
        thousand.render({"event": {}, "headers": {}}, budget)
    with pytest.raises(TooMuch, match="100000 steps"):
        thousand.render({"event": {}, "headers": {}}, budget)


def test_what_goes_out_counts_together() -> None:
    budget = Budget(1000)
    part = template("{{ event }}", LIMIT)
    for _ in range(9):
        part.render({"event": "x" * 100, "headers": {}}, budget)
    with pytest.raises(TooMuch, match="more than 1000 characters"):
        part.render({"event": "x" * 100, "headers": {}}, budget)


def test_the_largest_payload_fits() -> None:
    largest: JSON = "x" * LIMIT
    assert render("{{ event }}", largest) == largest
    with pytest.raises(TooMuch):
        render("{{ event }}y", largest)


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in event.keys %}{% endfor %}",
        "{{ event.number + 1 }}",
        "{{ event | string }}",
        "x{{ event }}",
        "{{ 1 == 2 }}",
        "{{ event is string }}",
    ],
)
def test_the_time_is_looked_at(text: str) -> None:
    with pytest.raises(TooMuch, match="time is up"):
        render(text, expired=lambda: True)


@given(st.text("{}%#'\"()[]|.,:=+-*/~<>!_ \nabeventfordiflist0123456789", max_size=120))
def test_whatever_the_template_nothing_else_is_raised(text: str) -> None:
    for form in (text, "{{ " + text + " }}", "{{ event." + text + " }}", "{% " + text + " %}"):
        try:
            made = render(form)
            json.dumps(made, allow_nan=False).encode()
        except (Mistake, Failed):
            pass


def test_no_message_holds_the_payload() -> None:
    payload: JSON = {"secret": "s3cret-s3cret", "number": 47114711, "o": {"s3cret-s3cret": 1}}
    for text in (
        "{{ event.secret | date }}",
        "{{ event.secret + 1 }}",
        "{{ event.o | sum }}",
        "{{ event[event.secret] }}",
        "{{ event[event.o] }}",
        "{{ {'a': 1}[event.secret] }}",
        "{{ event.secret > 1 }}",
        "{{ event.o | date }}",
        "{{ 1 | round(event.secret) }}",
        "{{ event.secret | abs }}",
        "{{ [1][event.number] }}",
        "{{ [1][-event.number] }}",
        "{{ event.o | int(event.secret) + 1 }}",
    ):
        with pytest.raises(Failed) as caught:
            render(text, payload)
        assert "s3cret" not in str(caught.value), text
        assert "47114711" not in str(caught.value), text
