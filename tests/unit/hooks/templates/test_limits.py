"""Tests of handlers.hooks.templates.limits."""

from typing import Any

import pytest

from handlers.hooks.templates.limits import MAX_STEPS, Budget, RenderError, RenderLimitError, as_text
from handlers.hooks.templates.template import compile_template
from schemas.strict_json import JSON, ExactNumber
from tests.support.templates import LIMIT, render

NO_EVENT: dict[str, JSON] = {"event": {}, "headers": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ 'a' * 1048577 }}", "a value of more than 1048576 characters"),
        ("{{ [event.text * 200000] * 2 }}", "a value of more than 1048576 characters"),
        ("{{ 10 ** 400 }}", "a number that is out of range"),
        ("{{ 10 ** 4000 }}", "a number that is out of range"),
        ("{{ 10 ** 300 * 10 ** 300 }}", "a number that is out of range"),
        ("{{ 1.0 * 10 ** 200 * 10 ** 200 }}", "a number that JSON doesn't have"),
        ("{{ [[event.text], event.missing] }}", "missing is missing."),
    ],
)
def test_render_past_limit_names_limit(text: str, message: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(text)
    assert message in str(caught.value)


def test_render_largest_payload_returns_payload() -> None:
    largest: JSON = "x" * LIMIT
    assert render("{{ event }}", largest) == largest
    with pytest.raises(RenderLimitError):
        render("{{ event }}y", largest)


def test_charge_counts_text_of_numbers() -> None:
    number = ExactNumber("1." + "0" * 1000)
    with pytest.raises(RenderLimitError, match="more than 1048576 characters"):
        render("{{ [event] * 2000 }}", number)
    assert render("{{ [event] * 1000 }}", number) == [1.0] * 1000


def test_render_many_results_raises() -> None:
    budget = Budget(1000)
    template = compile_template("{{ event }}", LIMIT)
    variables: dict[str, JSON] = {"event": "x" * 100, "headers": {}}
    for _ in range(8):
        template.render(variables, Budget(1000))
    for _ in range(10):
        template.render(variables, budget)
    with pytest.raises(RenderLimitError, match="more than 1000 characters"):
        template.render(variables, budget)


def test_render_many_values_raises() -> None:
    template = compile_template("{% for a in 'a' * 90 %}{% set b = 'b' * 90 %}{% endfor %}", LIMIT)
    with pytest.raises(RenderLimitError, match="too many values"):
        template.render(NO_EVENT, Budget(100))


def test_render_loops_of_several_templates_share_steps() -> None:
    budget = Budget(LIMIT)
    thousand = compile_template("{% for a in 'a' * 1000 %}{% endfor %}", LIMIT)
    for _ in range(MAX_STEPS // 1000):
        thousand.render(NO_EVENT, budget)
    with pytest.raises(RenderLimitError, match="100000 steps"):
        thousand.render(NO_EVENT, budget)


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in event.keys %}{% endfor %}",
        "{{ event.number + 1 }}",
        "{{ event | string }}",
        "x{{ event }}",
        "{{ event.number }}",
        "{{ event is string }}",
        "{{ event.keys | map('upper') | list }}",
    ],
)
def test_render_after_deadline_raises(text: str) -> None:
    with pytest.raises(RenderLimitError, match="deadline for this event has passed"):
        render(text, expired=lambda: True)


@pytest.mark.parametrize("value", [object(), [object()], {"a": {1, 2}}])
def test_charge_no_json_raises(value: Any) -> None:
    with pytest.raises(RenderError, match="which JSON doesn't have"):
        as_text(Budget(100).charge(value))


def test_charge_iterator_returns_list() -> None:
    assert Budget(100).charge(iter("ab")) == ["a", "b"]


def test_charge_long_iterator_stops_at_limit() -> None:
    values = iter(["a" * 60] * 1000)
    with pytest.raises(RenderLimitError, match="too many values"):
        Budget(100).charge(values)
    assert len(list(values)) > 900


def test_as_text_value_returns_text_or_json() -> None:
    assert as_text("ü") == "ü"
    assert as_text({"ü": [1.5, None, True]}) == '{"ü":[1.5,null,true]}'
