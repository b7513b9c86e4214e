"""Tests of handlers.hooks.templates.tree."""

import pytest

from handlers.hooks.templates.limits import Budget
from handlers.hooks.templates.tree import (
    TemplateLeaf,
    Tree,
    compile_tree,
    literal_value,
    notes,
    render_tree,
    template_paths,
)
from schemas.problem import Errors
from schemas.strict_json import JSON

VALUE: JSON = {"z": "{{ event.n }}", "a": ["x", "{{ event.s }}!", {"a.b": "{{ event.n }}"}], "n": None, "i": 1}


def compiled(value: JSON) -> Tree:
    errors: Errors = {}
    tree = compile_tree(value, "update", 1000, errors)
    assert errors == {}
    return tree


def rendered(value: JSON, event: JSON) -> tuple[JSON, Errors]:
    errors: Errors = {}
    result = render_tree(compiled(value), {"event": event, "headers": {}}, Budget(1000), errors)
    return result, errors


def test_compile_tree_template_becomes_leaf() -> None:
    tree = compiled(VALUE)
    assert isinstance(tree, dict)
    assert isinstance(tree["z"], TemplateLeaf)
    assert tree["z"].path == "update.z"


def test_compile_tree_mistakes_have_paths() -> None:
    errors: Errors = {}
    value: JSON = {"a": ["{{ evnt }}", "{{ x ", "fine"], "{{ event.k }}": 1, "b": {"{% x": "{{ event }}"}}
    compile_tree(value, "update", 1000, errors)
    assert sorted(errors) == ["update.a.0", "update.a.1", 'update."{{ event.k }}"', 'update.b."{% x"'] or sorted(
        errors
    ) == ['update."{{ event.k }}"', "update.a.0", "update.a.1", 'update.b."{% x"']
    assert errors['update."{{ event.k }}"'] == ["A key can't be a template."]


def test_render_tree_value_keeps_order_and_types() -> None:
    result, errors = rendered(VALUE, {"n": 7, "s": "y"})
    assert errors == {}
    assert str(result) == str({"z": 7, "a": ["x", "y!", {"a.b": 7}], "n": None, "i": 1})


def test_render_tree_failures_have_paths() -> None:
    result, errors = rendered(VALUE, {"s": 1})
    assert result == {"z": None, "a": ["x", "1!", {"a.b": None}], "n": None, "i": 1}
    assert errors == {"update.z": ["event.n is missing."], 'update.a.2."a.b"': ["event.n is missing."]}


def test_literal_value_template_becomes_empty_text() -> None:
    assert literal_value(compiled(VALUE)) == {"z": "", "a": ["x", "", {"a.b": ""}], "n": None, "i": 1}


def test_template_paths_tree_returns_paths() -> None:
    assert template_paths(compiled(VALUE), "update") == {"update.z", "update.a.1", 'update.a.2."a.b"'}
    assert template_paths(compiled("{{ event }}"), "update") == {"update"}


CREDENTIAL = (
    "update.x has a credential in a URL. Anyone who can read the file can use the credential. "
    "Take the credential from the payload, or restrict the access to the file."
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event.run.id", "update.x is literal text, not a template. Did you mean {{ event.… }}?"),
        ("{event.x}", "update.x is literal text, not a template. Did you mean {{ event.… }}?"),
        ("${{ event.x }}", "update.x has a $ before {{. The $ becomes part of the text."),
        ("{{ headers.authorization }}", "update.x uses the header authorization, which templates can't see."),
        ("{{ headers['x-token'] }}", "update.x uses the header x-token, which templates can't see."),
        ("https://h/?format=csv&token=CANARY", CREDENTIAL),
        ("https://h/{{ event.x }}?token=CANARY", CREDENTIAL),
        ("https://me:CANARY@h/", CREDENTIAL),
    ],
)
def test_notes_probable_mistake_returns_note(text: str, expected: str) -> None:
    assert notes(compiled({"x": text}), "update", {"authorization", "x-token"}) == [expected]


@pytest.mark.parametrize(
    "text",
    ["an event", "The event. It was", "{{ event.x }}", "{{ headers['x-github-event'] }}", "https://h/?format=csv",
     "https://h/?token={{ event.x }}", "https://{{ event.user }}@h/?a={{ event.x }}"],
)  # fmt: skip
def test_notes_plain_value_returns_nothing(text: str) -> None:
    assert notes(compiled({"x": text}), "update", {"authorization"}) == []
