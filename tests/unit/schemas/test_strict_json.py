"""Tests of schemas.strict_json."""

import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.problem import InvalidJSONError
from schemas.strict_json import (
    JSON,
    MAX_DEPTH,
    MAX_RESPONSE_VALUES,
    ExactNumber,
    dump,
    dump_text,
    parse_object,
    parse_payload,
    parse_response,
    parse_text,
    quoted,
    value_at,
)
from tests.support.strategies import JSON_OBJECTS, VALID_EVENTS

# parse_object


@given(JSON_OBJECTS)
def test_parse_object_json_dumps_returns_same_object(value: dict[str, Any]) -> None:
    parsed = parse_object(json.dumps(value, ensure_ascii=False).encode())
    assert parsed == value
    assert list(parsed) == list(value)
    assert json.loads(dump(parsed)) == value


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_parse_object_any_bytes_returns_or_raises(raw: bytes) -> None:
    try:
        value = parse_object(raw)
    except InvalidJSONError as error:
        assert error.problem.status == 400
    else:
        assert value == json.loads(raw)


@given(st.sampled_from(VALID_EVENTS), st.binary(max_size=8), st.integers(0, 10**6), st.integers(0, 20))
def test_parse_object_damaged_event_returns_or_raises(
    event: dict[str, JSON], inserted: bytes, position: int, removed: int
) -> None:
    raw = dump(event)
    position %= len(raw)
    damaged = raw[:position] + inserted + raw[position + removed :]
    try:
        assert parse_object(damaged) == json.loads(damaged)
    except InvalidJSONError as error:
        assert error.problem.detail.isprintable()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "malformed"),
        (b"{", "line 1, column 2"),
        (b"{'a': 1}", "malformed"),
        (b'{"a": 1} x', "Extra data"),
        (b'{"a": 01}', "malformed"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "malformed"),
        (b'\xef\xbb\xbf{"a": "\xff"}', "not UTF-8 (byte 10)"),
        (b'{"a": "\xff"}', "not UTF-8 (byte 7)"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"[]", "must be an object, not a list. Send each event in a request of its own."),
        (b"null", "must be an object."),
        (b'"{\\"a\\": 1}"', "must be an object, not a string with JSON inside. Send the object itself"),
        (b'"[]"', "not a string with JSON inside. Send the object itself"),
        (b'"\\"{}\\""', "not a string with JSON inside. Send the object itself"),
        (b'"\xef\xbb\xbf {}"', "not a string with JSON inside. Send the object itself"),
        (b'"text"', "must be an object, not a string. Send the object itself"),
        (b'{"a": 1, "b": 2, "a": 3}', 'the key "a" twice'),
        (b'{"x": [{"k\\u0065y": 1, "key": 1}]}', 'the key "key" twice'),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e309}', "out of range"),
        (b'{"a": -1e309}', "out of range"),
        (b'{"a": 1e-400}', "out of range"),
        (b'{"a": ' + b"9" * 310 + b"}", "out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "out of range"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": "\\udc00\\ud800"}', "surrogate"),
        (b'{"a": "tab\there"}', "control character"),
    ],
)
def test_parse_object_invalid_body_raises(raw: bytes, message: str) -> None:
    with pytest.raises(InvalidJSONError) as caught:
        parse_object(raw)
    assert message in caught.value.problem.detail


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b' {"a" : 1 }\n', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": ' + b"9" * 300 + b', "b": ' + b"1" * 309 + b"}", {"a": int("9" * 300), "b": int("1" * 309)}),
        (b'{"a": 0.' + b"3" * 10_000 + b"}", {"a": 1 / 3}),
        (b'{"a": 1e308, "b": 0e-999, "c": 0.0}', {"a": 1e308, "b": 0.0, "c": 0.0}),
        (b'{"a": ' + b"9" * 308 + b"}", {"a": int("9" * 308)}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": {"a": 1}, "A": 2}', {"a": {"a": 1}, "A": 2}),
        (b'{"a": "\\u0000"}', {"a": "\0"}),
    ],
)
def test_parse_object_valid_body_returns_value(raw: bytes, value: dict[str, Any]) -> None:
    assert parse_object(raw) == value


NUMBERS = [
    "-0", "-0.0", "0", "0.0", "0e-999", "1.0", "1.50", "1e2", "1E+2", "1e-7", "1E400", "-1e400", "1e-400",
    "12345678901234567890.123", "0.1000000000000000055511151231257827", "9" * 300, "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", [text for text in NUMBERS if ExactNumber(text).is_in_range])
def test_dump_parsed_number_writes_same_text(text: str) -> None:
    raw = f'{{"a":{text},"ü":[{text},{{}},[],{{"b":{text},"c":"x"}}]}}'.encode()
    assert dump(parse_object(raw)) == raw
    assert dump(parse_payload(raw)) == raw
    assert dump(parse_response(raw)) == raw
    assert dump(parse_text(dump_text(parse_payload(raw)))) == raw


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?", fullmatch=True))
def test_dump_any_parsed_number_writes_same_text(text: str) -> None:
    number = parse_payload(text.encode())
    assert number == float(text) or isinstance(number, int)
    try:
        assert parse_object(f'{{"a":{text}}}'.encode()) == {"a": number}
    except InvalidJSONError:
        with pytest.raises(ValueError, match="out of range"):
            dump(number)
    else:
        assert dump(number) == text.encode()


def test_dump_tuple_with_exact_number_writes_list() -> None:
    assert dump((ExactNumber("-0"), (), [])) == b"[-0,[],[]]"


def test_exact_number_is_the_double_with_the_text_of_the_sender() -> None:
    number = ExactNumber("1E2")
    assert (number, str(number), number + 1) == (100.0, "1E2", 101.0)


# parse_payload


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"[1]", [1]),
        (b" null ", None),
        (b'"{}"', "{}"),
        (b"7", 7),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": 1, "b": 2, "a": 3}', {"a": 3, "b": 2}),
        (b"[Infinity, -Infinity, 1e400, -1e400]", [math.inf, -math.inf, math.inf, -math.inf]),
        (b"[1e-400]", [0.0]),
        (b"[" + b"9" * 5000 + b", -" + b"9" * 310 + b"]", [math.inf, -math.inf]),
        (b'{"\\udfff": "\\ud800"}', {"\udfff": "\ud800"}),
    ],
)
def test_parse_payload_any_json_returns_value(raw: bytes, value: JSON) -> None:
    assert parse_payload(raw) == value


def test_parse_payload_nan_returns_nan() -> None:
    number = parse_payload(b"NaN")
    assert isinstance(number, float)
    assert math.isnan(number)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"payload=%7B%7D", "malformed"),
        (b"[nan]", "malformed"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        ("[]".encode("utf-16"), "not UTF-8"),
        (b"[" * 65 + b"]" * 65, "nested deeper than 64"),
    ],
)
def test_parse_payload_no_json_raises(raw: bytes, message: str) -> None:
    with pytest.raises(InvalidJSONError) as caught:
        parse_payload(raw)
    assert message in caught.value.problem.detail


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e400", "1e-400", "9" * 400])
def test_dump_text_number_out_of_range_raises(text: str) -> None:
    with pytest.raises(ValueError, match=r"out of range|Out of range"):
        dump_text({"a": parse_payload(text.encode())})


def test_parse_payload_huge_numbers_take_linear_time() -> None:
    # int() would refuse each number, and quadratic work would exceed any timeout of the tests.
    for raw in (b"9" * 10_000_000, b"0." + b"3" * 10_000_000, b"-1e" + b"9" * 10_000_000):
        assert isinstance(parse_payload(raw), ExactNumber)


# The limit of the depth


def _nested(levels: int) -> bytes:
    """Return an object with nested lists. `levels` counts the object."""
    return b'{"a": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_parse_object_max_depth_returns_value() -> None:
    assert parse_object(_nested(MAX_DEPTH))


@pytest.mark.parametrize(
    "raw",
    [
        _nested(MAX_DEPTH + 1),
        _nested(100_000),
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b"[" * 1_000_000,
        b"[" * 70 + b"}]" * 70,
        b"[" * 40 + b"[]," * 100 + b"[" * 30,
    ],
    ids=["65", "100000", "objects", "unclosed", "crossed", "unclosed-lists"],
)
def test_parse_object_deeper_than_max_depth_raises(raw: bytes) -> None:
    with pytest.raises(InvalidJSONError, match="nested deeper than 64"):
        parse_object(raw)


def _depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


BRACKETS = st.text(alphabet='[]{},"\\ü', max_size=8)


@given(
    st.recursive(BRACKETS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(BRACKETS, inner, max_size=3)),
    st.integers(MAX_DEPTH - 8, MAX_DEPTH + 1),
    st.booleans(),
)
def test_parse_response_depth_ignores_strings(value: Any, wrappers: int, in_lists: bool) -> None:
    for _ in range(wrappers):
        value = [value, "]"] if in_lists else {'"{': value}
    raw = json.dumps(value, ensure_ascii=False).encode()
    if _depth(value) > MAX_DEPTH:
        with pytest.raises(InvalidJSONError, match="nested deeper"):
            parse_response(raw)
    else:
        assert parse_response(raw) == value


def test_parse_object_brackets_in_strings_returns_value() -> None:
    text = "[{" * 200 + '"' + "\\" + "]" * 3
    assert parse_object(json.dumps({"a": text, "b": [text]}).encode()) == {"a": text, "b": [text]}


def test_parse_object_wide_returns_value() -> None:
    assert len(parse_object(json.dumps({str(n): [] for n in range(50_000)}).encode())) == 50_000


@pytest.mark.parametrize(
    "text",
    ['"' + '\\"' * 200_000, '{"a": "' + "\\" * 200_001, '"' * 300_001, '"[' * 200_001],
    ids=["quotes", "backslashes", "empty", "brackets"],
)
def test_parse_object_unclosed_string_raises_in_linear_time(text: str) -> None:
    # Quadratic work would exceed any timeout of the tests.
    with pytest.raises(InvalidJSONError):
        parse_object(("[" * 65 + text).encode())


@pytest.mark.parametrize("raw", [b"]" * 70 + b"[" * 70, b"[" + b"[]," * 70, b"[" * 60 + b"[]," * 70, b"[}" * 70])
def test_parse_response_unbalanced_brackets_raises(raw: bytes) -> None:
    with pytest.raises(InvalidJSONError, match="malformed"):
        parse_response(raw)


# parse_response


@given(st.text(alphabet='[]{}",:\\ab01 ', max_size=120))
def test_parse_response_agrees_with_json_loads(text: str) -> None:
    try:
        value = parse_response(text.encode())
    except InvalidJSONError:
        return
    assert value == json.loads(text)


@pytest.mark.parametrize(
    ("raw", "value"), [(b"[1, null]", [1, None]), (b'{"a": 1, "a": 2}', {"a": 2}), (b"\xef\xbb\xbf[]", []), (b"1", 1)]
)
def test_parse_response_lenient_json_returns_value(raw: bytes, value: JSON) -> None:
    assert parse_response(raw) == value


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[NaN]", b"[" * 65 + b"]" * 65, b"\xff"])
def test_parse_response_invalid_body_raises(raw: bytes) -> None:
    with pytest.raises(InvalidJSONError):
        parse_response(raw)


def test_parse_response_max_values_returns_value() -> None:
    raw = b"[" + b"1," * (MAX_RESPONSE_VALUES - 2) + b"1]"
    assert parse_response(raw) == [1] * (MAX_RESPONSE_VALUES - 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b"1," * MAX_RESPONSE_VALUES + b"1]",
        b"[" * 40 + b"[]," * MAX_RESPONSE_VALUES + b"1" + b"]" * 40,
        b"{" + b'"a":1,' * MAX_RESPONSE_VALUES,
        b"[" + b'",",' * MAX_RESPONSE_VALUES + b"1]",
    ],
    ids=["numbers", "lists", "members", "strings"],
)
def test_parse_response_too_many_values_raises(raw: bytes) -> None:
    with pytest.raises(InvalidJSONError, match="more than 25000 values"):
        parse_response(raw)


def test_parse_response_separators_in_strings_are_no_values() -> None:
    value = ['[{,\\"' * MAX_RESPONSE_VALUES, *["a,b"] * 20_000]
    assert parse_response(json.dumps(value).encode()) == value


@pytest.mark.parametrize("tail", [b'"', b'"ab"', b'"[]"[]', b'"[",', b'<a href="x1">y2</a>', b"[", b"\\"])
def test_parse_response_invalid_body_needs_memory_of_a_few_copies(tail: bytes) -> None:
    raw = b"[]" * 65 + tail * (1_000_000 // len(tail))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidJSONError):
            parse_response(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(raw)


# The other functions


def test_dump_lone_surrogate_writes_escape() -> None:
    assert dump(parse_response(b'{"a": "\\ud800"}')) == b'{"a":"\\ud800"}'


def test_dump_infinity_raises() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        dump({"a": math.inf})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), {"a": {"b": [1]}}),
        (("a", "b"), [1]),
        (("a", "b", "0"), 1),
        (("a", "b", "1"), None),
        (("a", "b", "x"), None),
        (("x",), None),
        (("a", "x", "y"), None),
    ],
)
def test_value_at_path_returns_member_or_none(path: tuple[str, ...], value: JSON) -> None:
    assert value_at({"a": {"b": [1]}}, *path) == value


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("naïve\n\u202e", '"na\\u00efve\\n\\u202e"'),
        ("x" * 61, f'"{"x" * 60}…"'),
        ("x" * 60, f'"{"x" * 60}"'),
    ],
)
def test_quoted_text_is_short_ascii_in_quotes(text: str, result: str) -> None:
    assert quoted(text) == result
