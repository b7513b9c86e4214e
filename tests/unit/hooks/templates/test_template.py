"""Tests of templates: the type of a result, the language, missing names, and conditions."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.hooks.templates.limits import NotBooleanError, RenderError
from handlers.hooks.templates.sandbox import TemplateMistakeError
from handlers.hooks.templates.template import MissingKeyError, compile_condition, compile_template, is_template
from schemas.strict_json import JSON, ExactNumber, dump, parse_payload
from tests.support.templates import EVENT, LIMIT, is_true, render

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


@pytest.mark.parametrize("text", ["{{ event }}", "{% if event %}{% endif %}", "{# note #}", "a {{ event.x }} b"])
def test_is_template_template_returns_true(text: str) -> None:
    assert is_template(text)


@pytest.mark.parametrize("text", ["", "plain", "{ }", "}}", "${x}", "{ {", "a{b"])
def test_is_template_literal_returns_false(text: str) -> None:
    assert not is_template(text)


# The type of a result


@pytest.mark.parametrize("key", EVENT)
def test_render_expression_alone_keeps_type(key: str) -> None:
    result = render(f"{{{{ event['{key}'] }}}}")
    assert result == EVENT[key]
    assert type(result) is type(EVENT[key])


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
def test_render_expression_in_text_writes_json(text: str, expected: Any) -> None:
    assert render(text) == expected
    assert type(render(text)) is type(expected)


@given(JSON_VALUES)
def test_render_any_json_returns_same_json(value: JSON) -> None:
    assert json.dumps(render("{{ event }}", value)) == json.dumps(value)
    assert render("{{ event.v }}", {"v": value}) == value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert render("<{{ event.v }}>", {"v": value}) == f"<{text}>"


@pytest.mark.parametrize("text", ["-0", "1e2", "1.0", "12345678901234567890.123"])
def test_render_number_keeps_text_of_the_sender(text: str) -> None:
    payload = parse_payload(f'{{"n":{text},"o":{{"n":[{text}]}}}}'.encode())
    assert dump(render("{{ event.n }}", payload)) == text.encode()
    assert dump(render("{{ event.o }}", payload)) == f'{{"n":[{text}]}}'.encode()
    assert render("n={{ event.n }}", payload) == f"n={text}"
    assert render("{{ event.n + 1 }}", payload) == float(text) + 1


@pytest.mark.parametrize("raw", ["NaN", "Infinity", "-Infinity", "1e400", "1e-400", "9" * 5000, '"\\ud800"'])
@pytest.mark.parametrize(
    "text",
    ["{{ event.x }}", "<{{ event.x }}>", "{{ event }}", "{{ event.x ~ 'a' }}", "{{ [event.x] }}",
     "{{ event.x | string }}", "{{ event.x | tojson }}", "{{ event.x | limit(5) }}", "{{ [event.x] | join }}"],
)  # fmt: skip
def test_render_value_that_json_does_not_have_raises(text: str, raw: str) -> None:
    payload = parse_payload(f'{{"x": {raw}, "y": 1}}'.encode())
    with pytest.raises(RenderError, match=r"number that JSON doesn't have|lone surrogate"):
        render(text, payload)
    assert render("{{ event.y }}", payload) == 1


@pytest.mark.parametrize("raw", ["NaN", "Infinity", "1e400", "9" * 5000])
def test_render_filter_of_infinity_raises(raw: str) -> None:
    with pytest.raises(RenderError):
        render("{{ event | filesizeformat }}", parse_payload(raw.encode()))


def test_render_list_returns_copy_of_payload() -> None:
    payload: dict[str, JSON] = {"list": [[1]]}
    result = render("{{ event.list }}", payload)
    assert isinstance(result, list)
    result.append(2)
    assert payload == {"list": [[1]]}


@given(TEXT)
def test_render_template_in_payload_is_data(text: str) -> None:
    for payload in (text, "{{ " + text + " }}", "{% " + text + " %}", "{# " + text):
        assert render("{{ event.x }}", {"x": payload}) == payload
        assert render("{{ event.x }}!", {"x": payload}) == payload + "!"
        assert render("{{ event.x ~ event.x }}", {"x": payload}) == payload * 2
        assert render("{{ event.o[event.k] }}", {"k": payload, "o": {payload: payload}}) == payload


# The language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.items }}", "a key, not a method"),
        ("{{ event.keys }}", ["k1", "k2"]),
        ("{{ event.list.0 }}", "b"),
        ("{{ event.list[-1].name }}", "c"),
        ("{{ event['object']['a'][0] }}", 2),
        ("{{ event.time[:10] }}", "2026-11-22"),
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
        ("{{ 'abc'[1:] ~ 'x' }}", "bcx"),
        ("{{ ('a' ~ true ~ [1, 'b']) | lower }}", 'atrue[1,"b"]'),
        ("{{ 'yes' if event.yes else 'no' }}", "yes"),
        ("{{ event.number in [1, 3] }}", True),
        ("{{ [event.number, {'a': event.text}] }}", [3, {"a": "Größe"}]),
        ("{{ (1, 2) }}", [1, 2]),
        (
            "{% for k in event.keys %}{{ loop.index }}={{ k }}{{ '' if loop.last else ', ' }}{% endfor %}",
            "1=k1, 2=k2",
        ),
        ("{% for k in event.keys %}{% set l = loop %}{{ l.index }}{{ loop['index0'] }}{% endfor %}", "1021"),
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
def test_render_language_returns_result(text: str, expected: Any) -> None:
    assert render(text) == expected


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
        "{{ 'a' * event.missing }}",
        "{{ -event.missing }}",
        "{{ event.missing[:3] }}",
        "{{ event.text[event.missing :] }}",
        "{{ event.text[1 : event.missing] }}",
        "{{ event[event.missing] }}",
        "{{ event.text | replace('a', event.missing) }}",
        "{% for x in event.missing %}{% endfor %}",
        "{% if event.missing %}{% endif %}",
        "{{ 'a' if event.missing else 'b' }}",
        "{{ event.empty | first }}",
        "{{ event.list | map(attribute='name') | list }}",
        "{{ event.list | map(attribute='name') | length }}",
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
def test_render_missing_name_raises(text: str) -> None:
    with pytest.raises(MissingKeyError):
        render(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.missing | default('d') }}", "d"),
        ("{{ event.missing.below.it | default('d') }}", "d"),
        ("{{ event.missing[0] | default('d') }}", "d"),
        ("{{ event.missing[:10] | default('d') }}", "d"),
        ("{{ event.object[event.text] | default('d') }}", "d"),
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
def test_render_default_for_missing_name_returns_result(text: str, expected: Any) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ event.missing.below }}", "event.missing is missing."),
        ("{{ event.object.missing.below }}", "event.object.missing is missing."),
        ("{{ event.null.below }}", "event.null.below is missing."),
        ("{{ headers['x-other'] }}", 'headers["x-other"] is missing.'),
        ("{{ event['a b'] }}", 'event["a b"] is missing.'),
        ("{{ event.list[9] }}", "event.list[9] is missing."),
        ("{{ event.list.2.size }}", "event.list[2].size is missing."),
        ("{{ event.list | map(attribute='name') | list }}", "name is missing."),
        ("{{ (event.list | last).size }}", "size is missing."),
        ("{% set o = event.object %}{{ o.c }}", "o.c is missing."),
        ("{% for x in [event.object] %}{{ x.c }}{% endfor %}", "x.c is missing."),
        ("{{ event[event.text] }}", "event[…] is missing: the payload has no member with the computed key."),
        ("{{ event.list[event.number - 1].size }}", "event.list[…].size is missing."),
        (
            "{{ event.object[event.text].size }}",
            "event.object[…] is missing: the payload has no member with the computed key.",
        ),
    ],
)
def test_render_missing_name_names_path(text: str, message: str) -> None:
    with pytest.raises(MissingKeyError) as caught:
        render(text)
    assert str(caught.value) == message


def test_render_long_missing_name_has_short_message() -> None:
    with pytest.raises(MissingKeyError) as caught:
        render("{{ event." + "a" * 100_000 + " }}")
    assert len(str(caught.value)) < 100
    with pytest.raises(MissingKeyError) as caught:
        render("{{ event" + ".abcdefgh" * 50 + " }}", deep_payload("abcdefgh", 49))
    assert str(caught.value).startswith("…")
    assert len(str(caught.value)) < 200


def deep_payload(key: str, levels: int) -> JSON:
    """Return nested objects with the same key."""
    payload: JSON = {}
    for _ in range(levels):
        payload = {key: payload}
    return payload


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{{ event.titel }}", "event.title"),
        ("{{ event.Title }}", "event.title"),
        ("{{ event.workflow_run }}", "event.workflowRun"),
        ("{{ event.o['x-nam'] }}", 'event.o["x-name"]'),
        ("{{ event.objects | map(attribute='names') | list }}", "name"),
        ("{{ headers['x-github-evnt'] }}", 'headers["x-github-event"]'),
    ],
)
def test_render_missing_name_with_similar_name_gives_hint(text: str, hint: str) -> None:
    payload: JSON = {"title": 1, "workflowRun": 1, "o": {"x-name": 1}, "objects": [{"name": 1}]}
    with pytest.raises(MissingKeyError) as caught:
        render(text, payload)
    assert str(caught.value).endswith(f" is missing; did you mean {hint}?")
    assert caught.value.has_similar_name


@pytest.mark.parametrize(
    "text", ["{{ event.date }}", "{{ event.run }}", "{{ event.list.x }}", "{{ event." + "a" * 61 + " }}"]
)
def test_render_missing_name_without_similar_name_gives_no_hint(text: str) -> None:
    payload: JSON = {"data": 1, "run_id": 1, "list": ["x"], "a" * 62: 1, "a" * 100_000: 1}
    with pytest.raises(MissingKeyError) as caught:
        render(text, payload)
    assert not caught.value.has_similar_name


def test_render_missing_name_in_wide_object_compares_few_names() -> None:
    payload: dict[str, JSON] = {f"abcdefghij-{number:06}": 1 for number in range(300_000)}
    with pytest.raises(MissingKeyError, match=r"did you mean event\[\"abcdefghij-000"):
        render("{{ event['abcdefghij-00001x'] }}", payload)


# Failures


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ event.text + 1 }}", 'can only concatenate str (not "int") to str'),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ event.number[:3] }}", "'int' object is not subscriptable"),
        ("{% for x in event.number %}{% endfor %}", "'int' object is not iterable"),
        ("{{ 2.0 ** 1024 }}", "(OverflowError)"),
        ("{{ (-1) ** 0.5 }}", "a value of the type complex, which JSON doesn't have"),
        ("{{ 1e308 * 10 }}", "a number that JSON doesn't have"),
        ("{{ '\\ud800' }}", "a lone surrogate"),
        ("{{ event.list | sort(attribute=0) }}", "missing"),
    ],
)
def test_render_failure_names_reason(text: str, message: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
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
        "{{ {event.list: 1} }}",
        "{{ [event.secret, 1] | sort }}",
        "{{ event.secret | list | map('int', event.secret) | sum }}",
    ],
)
def test_render_failure_hides_payload(text: str) -> None:
    payload: JSON = {"secret": "s3cret-s3cret", "number": 47114711, "o": {"s3cret-s3cret": 1}, "list": ["s3cret"]}
    with pytest.raises(RenderError) as caught:
        render(text, payload)
    assert "s3cret" not in str(caught.value)
    assert "47114711" not in str(caught.value)


@given(st.text("{}%#'\"()[]|.,:=+-*/~<>!_ \nabeventfordiflist0123456789", max_size=120))
def test_render_any_template_raises_only_documented_errors(text: str) -> None:
    for template in (text, "{{ " + text + " }}", "{{ event." + text + " }}", "{% " + text + " %}"):
        with suppress(TemplateMistakeError, RenderError):
            json.dumps(render(template), allow_nan=False).encode()


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
        ("event.yes", True),
        ("event.list and event.yes", True),
        ("event.number and event.yes", True),
        ("not event.empty", True),
        ("not ''", True),
        ("event.yes if event.number == 3 else event.null", True),
        ("event.object.b == 1.0", True),
        ("headers['x-github-event'] == 'push'", True),
        ("event.digits | int > 100", True),
    ],
)
def test_is_true_condition_returns_result(text: str, expected: bool) -> None:
    assert is_true(text) is expected


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
def test_is_true_missing_name_raises(text: str) -> None:
    with pytest.raises(MissingKeyError):
        is_true(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("event.text", 'The result is text, not true or false. Compare the value, as in: event.x == "true".'),
        ("'false'", "The result is text"),
        ("''", "The result is text"),
        ("event.yes and event.text", "The result is text"),
        ("event.text and event.yes", "The result is text"),
        ("event.text or event.yes", "The result is text"),
        ("event.null or event.text", "The result is text"),
        ("not event.text", "The result is text"),
        ("event.yes and not (event.text and event.yes)", "The result is text"),
        ("true if event.text else false", "The result is text"),
        ("event.number", "The result is a number, not true or false. Compare the value, as in: event.x == 1."),
        ("1", "The result is a number"),
        ("0", "The result is a number"),
        ("event.float", "The result is a number, not true or false. Compare the value, as in: event.x > 0."),
        ("event.exact", "The result is a number"),
        ("event.list", "The result is a list, not true or false. Compare the value, as in: event.x | length > 0."),
        ("event.empty", "The result is a list"),
        ("[true]", "The result is a list"),
        ("event.object", "The result is an object"),
        ("event.null", "The result is null, not true or false. Compare the value, as in: event.x is not none."),
        ("(-1) ** 0.5", "The result is of another type"),
    ],
)
def test_is_true_result_of_another_type_raises(text: str, message: str) -> None:
    with pytest.raises(NotBooleanError) as caught:
        is_true(text, {**EVENT, "exact": ExactNumber("1e2")})
    assert str(caught.value).startswith(message)
    assert "Größe" not in str(caught.value)


def test_render_text_as_operand_outside_of_conditions_is_allowed() -> None:
    assert render("{{ event.text and event.yes }}") is True
    assert render("{% if event.text %}a{% endif %}{{ 'b' if not event.text else 'c' }}") == "ac"


@pytest.mark.parametrize("text", ["event.text > 3", "1 / 0", "event.text | abs", "event.text | date"])
def test_is_true_failure_raises(text: str) -> None:
    with pytest.raises(RenderError) as caught:
        is_true(text)
    assert not isinstance(caught.value, MissingKeyError)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "event.",
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
        "not " * 2000 + "event.x",
    ],
)
def test_compile_condition_no_expression_raises(text: str) -> None:
    with pytest.raises(TemplateMistakeError):
        compile_condition(text, LIMIT)


MALFORMED = "Not a valid condition: the expression is incomplete or has an extra character."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ event.x }}", "A condition has no braces: event.x == 'y'."),
        ("event.x = 1", "Compare with ==, and write and, or, and not."),
        ("event.x && event.y", f"{MALFORMED} Compare with ==, and write and, or, and not."),
        ("event.x || event.y", "Compare with ==, and write and, or, and not."),
        ("!event.x", "Compare with ==, and write and, or, and not."),
        ("event.x ==", f"{MALFORMED} Write a comparison, such as event.x == 'y'."),
        ("event.x != 1 and", f"{MALFORMED} Write a comparison, such as event.x == 'y'."),
        ("event.x ==\n  'y')", f"{MALFORMED} Write a comparison, such as event.x == 'y'."),
        ("event.x | defalt(value='a') == 'a'", 'There is no filter "defalt". Did you mean default?'),
    ],
)
def test_compile_condition_mistake_names_remedy(text: str, message: str) -> None:
    with pytest.raises(TemplateMistakeError) as caught:
        compile_condition(text, LIMIT)
    assert str(caught.value).endswith(message)


def test_compile_template_long_text_raises() -> None:
    text = "{{ event.text }}"
    assert compile_template(text, len(text))
    with pytest.raises(TemplateMistakeError, match="at most 15 characters"):
        compile_template(text, len(text) - 1)
