"""Templates for tests: render a text with a payload."""

from typing import Any

from handlers.hooks.templates.limits import Budget
from handlers.hooks.templates.template import compile_condition, compile_template
from schemas.strict_json import JSON

#: The maximum size of a value, in characters.
LIMIT = 1_048_576

EVENT: dict[str, JSON] = {
    "text": "Größe",
    "digits": "123",
    "number": 3,
    "float": 1.5,
    "yes": True,
    "null": None,
    "items": "a key, not a method",
    "keys": ["k1", "k2"],
    "list": ["b", "a", {"name": "c"}],
    "empty": [],
    "object": {"b": 1, "a": [2]},
    "time": "2026-11-22T23:30:00.123456789-05:00",
    "template": "{{ 7 * 7 }}{% for x in 'a' %}",
    "filter": "upper",
    "padding": "%9999999999999d",
}
HEADERS: dict[str, JSON] = {"x-github-event": "push"}


def render(text: str, event: JSON = EVENT, **budget: Any) -> JSON:
    """Return the result of a template. `budget` has the arguments of Budget."""
    budget = {"max_text": LIMIT, **budget}
    return compile_template(text, LIMIT).render({"event": event, "headers": HEADERS}, Budget(**budget))


def is_true(text: str, event: JSON = EVENT) -> bool:
    """Return the result of a condition."""
    return compile_condition(text, LIMIT).is_true({"event": event, "headers": HEADERS}, Budget(LIMIT))
