"""Bodies that every reader reads alike, and nothing else."""

import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.problem import NotJSON
from schemas.strict_json import MAX_ANSWER_VALUES, MAX_DEPTH, dump, parse_answer, parse_object, shown

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(), JSON_VALUES, max_size=5)


@given(OBJECTS)
def test_what_goes_in_comes_out_as_it_was(value: dict[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    parsed = parse_object(text)
    assert parsed == value
    assert list(parsed) == list(value)
    assert json.loads(dump(parsed)) == value


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_an_object_or_refused(raw: bytes) -> None:
    try:
        value = parse_object(raw)
    except NotJSON as error:
        assert error.problem.status == 400
    else:
        assert value == json.loads(raw)


@given(st.text(alphabet='[]{}",:\\ab01 ', max_size=120))
def test_what_it_takes_json_takes_too(text: str) -> None:
    try:
        value = parse_answer(text.encode())
    except NotJSON:
        return
    assert value == json.loads(text)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} x', "Extra data"),
        (b'{"a": 01}', "not JSON"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a": "\xff"}', "not UTF-8 (byte 7)"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"{}"', "must be a JSON object"),
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
def test_refused(raw: bytes, said: str) -> None:
    with pytest.raises(NotJSON) as caught:
        parse_object(raw)
    assert said in caught.value.problem.detail


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b' {"a" : 1 }\n', {"a": 1}),
        (b'{"a": 1e308, "b": 0e-999, "c": 0.0, "d": -0.0}', {"a": 1e308, "b": 0.0, "c": 0.0, "d": -0.0}),
        (b'{"a": ' + b"9" * 308 + b"}", {"a": int("9" * 308)}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": {"a": 1}, "A": 2}', {"a": {"a": 1}, "A": 2}),
        (b'{"a": "\\u0000"}', {"a": "\0"}),
    ],
)
def test_taken(raw: bytes, value: dict[str, Any]) -> None:
    assert parse_object(raw) == value


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    """An object with lists in it, `levels` in all."""
    return ('{"a": ' + opening * (levels - 1) + closing * (levels - 1) + "}").encode()


def test_depth_on_each_side_of_the_limit() -> None:
    assert parse_object(nested(MAX_DEPTH))
    crossed = b"[" * 70 + b"}]" * 70
    unclosed = b"[" * 40 + b"[]," * 100 + b"[" * 30
    for too_deep in (
        nested(MAX_DEPTH + 1), nested(100_000), b'{"a":' * 70 + b"1" + b"}" * 70, b"[" * 1_000_000, crossed, unclosed,
    ):  # fmt: skip
        with pytest.raises(NotJSON, match="nested deeper than 64"):
            parse_object(too_deep)


def levels(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(levels, value.values() if isinstance(value, dict) else value), default=0)
    return 0


BRACKETS = st.text(alphabet='[]{}"\\ü', max_size=8)


@given(
    st.recursive(BRACKETS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(BRACKETS, inner, max_size=3)),
    st.integers(MAX_DEPTH - 8, MAX_DEPTH + 1),
    st.booleans(),
)
def test_levels_are_counted_whatever_stands_in_strings(value: Any, around: int, is_list: bool) -> None:
    for _ in range(around):
        value = [value, "]"] if is_list else {'"{': value}
    raw = json.dumps(value, ensure_ascii=False).encode()
    if levels(value) > MAX_DEPTH:
        with pytest.raises(NotJSON, match="nested deeper"):
            parse_answer(raw)
    else:
        assert parse_answer(raw) == value


def test_brackets_in_strings_are_not_levels() -> None:
    text = "[{" * 200 + '"' + "\\" + "]" * 3
    assert parse_object(json.dumps({"a": text, "b": [text]}).encode()) == {"a": text, "b": [text]}


def test_wide_is_not_deep() -> None:
    assert len(parse_object(json.dumps({str(n): [] for n in range(50_000)}).encode())) == 50_000


@pytest.mark.parametrize("text", ['"' + '\\"' * 200_000, '{"a": "' + "\\" * 200_001, '"' * 300_001, '"[' * 200_001])
def test_strings_that_never_end_are_refused_in_one_pass(text: str) -> None:
    # Quadratic work on these would outlast the whole suite's patience by hours.
    with pytest.raises(NotJSON):
        parse_object(("[" * 65 + text).encode())


def test_a_platforms_answer_may_be_anything_that_is_json() -> None:
    assert parse_answer(b"[1, null]") == [1, None]
    assert parse_answer(b'{"a": 1, "a": 2}') == {"a": 2}
    assert dump(parse_answer(b'{"a": "\\ud800"}')) == b'{"a":"\\ud800"}'
    for nonsense in (b"", b"<html>", b"[NaN]", b"[" * 65 + b"]" * 65):
        with pytest.raises(NotJSON):
            parse_answer(nonsense)


def test_dump_never_writes_what_is_not_json() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        dump({"a": math.inf})


def test_what_is_shown_of_a_text_is_short_plain_and_quoted() -> None:
    assert shown("naïve\n\u202e") == '"na\\u00efve\\n\\u202e"'
    assert shown("x" * 61) == f'"{"x" * 60}…"'
    assert shown("x" * 60) == f'"{"x" * 60}"'


def test_an_answer_has_so_many_values_and_no_more() -> None:
    most = MAX_ANSWER_VALUES
    assert len(parse_answer(b"[" + b"1," * (most - 2) + b"1]")) == most - 1  # type: ignore[arg-type]
    for raw in (b"[" + b"1," * most + b"1]", b"[" * 40 + b"[]," * most + b"1" + b"]" * 40, b"{" + b'"a":1,' * most):
        with pytest.raises(NotJSON, match="more than 25000 values"):
            parse_answer(raw)
    # What stands in text is none.
    text = '[{,\\"' * most
    assert parse_answer(json.dumps([text]).encode()) == [text]


@pytest.mark.parametrize("tail", [b'"', b'"ab"', b'"[]"[]', b'<a href="x1">y2</a>', b"[", b"\\"])
def test_to_count_levels_takes_no_more_room_than_a_few_copies(tail: bytes) -> None:
    raw = b"[]" * 65 + tail * (1_000_000 // len(tail))
    tracemalloc.start()
    try:
        with pytest.raises(NotJSON):
            parse_answer(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(raw)


@pytest.mark.parametrize("raw", [b"]" * 70 + b"[" * 70, b"[" + b"[]," * 70, b"[" * 60 + b"[]," * 70, b"[}" * 70])
def test_what_does_not_close_as_it_opens_is_no_json(raw: bytes) -> None:
    with pytest.raises(NotJSON, match="not JSON"):
        parse_answer(raw)


def test_what_is_closed_before_it_is_opened_takes_no_time() -> None:
    with pytest.raises(NotJSON, match="not JSON"):
        parse_answer(b"[]" * 40 + b"]" * 5_000_000 + b"[" * 70)
