"""Tests of handlers.hooks.templates.tree."""

import pytest

from handlers.hooks.templates.limits import Budget
from handlers.hooks.templates.tree import (
    Loop,
    Renderer,
    TemplateLeaf,
    Tree,
    compile_tree,
    literal_value,
    notes,
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


def rendered(value: JSON, event: JSON, max_text: int = 1000, steps: int = 1000) -> tuple[JSON, Renderer]:
    renderer = Renderer({"event": event, "headers": {}}, Budget(max_text, steps=steps))
    return renderer.render(compiled(value)), renderer


def mistakes(value: JSON) -> Errors:
    errors: Errors = {}
    compile_tree(value, "update", 1000, errors)
    return errors


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
    result, renderer = rendered(VALUE, {"n": 7, "s": "y"})
    assert renderer.errors == {}
    assert str(result) == str({"z": 7, "a": ["x", "y!", {"a.b": 7}], "n": None, "i": 1})


def test_render_tree_failures_have_paths() -> None:
    result, renderer = rendered(VALUE, {"s": 1})
    assert result == {"z": None, "a": ["x", "1!", {"a.b": None}], "n": None, "i": 1}
    assert renderer.errors == {"update.z": ["event.n is missing."], 'update.a.2."a.b"': ["event.n is missing."]}


def test_literal_value_template_becomes_empty_text() -> None:
    assert literal_value(compiled(VALUE)) == {"z": "", "a": ["x", "", {"a.b": ""}], "n": None, "i": 1}


def test_literal_value_templates_differ() -> None:
    assert literal_value(compiled("{{ event.a }}")) != literal_value(compiled("{{ event.b }}"))


def test_template_paths_tree_returns_paths() -> None:
    assert template_paths(compiled(VALUE), "update") == {"update.z", "update.a.1", 'update.a.2."a.b"'}
    assert template_paths(compiled("{{ event }}"), "update") == {"update"}


# Loops

FILES: JSON = {
    "files": [
        {"name": "first"},
        {"for": "file in event.files", "if": "file.size > 0", "name": "{{ file.name }}", "labels": ["raw"]},
        {"name": "{{ event.last }}"},
    ]
}
FILES_EVENT: JSON = {
    "files": [{"name": "a", "size": 1}, {"name": "b", "size": 0}, {"name": "c", "size": 2}],
    "last": "z",
}


def test_compile_tree_object_with_for_in_list_becomes_loop() -> None:
    tree = compiled(FILES)
    assert isinstance(tree, dict)
    assert isinstance(tree["files"], list)
    loop = tree["files"][1]
    assert isinstance(loop, Loop)
    assert (loop.path, loop.variable) == ("update.files.1", "file")


def test_compile_tree_object_with_for_outside_list_is_plain() -> None:
    value: JSON = {"properties": {"for": "x in y", "if": "z", "list": [{"if": "z"}]}}
    assert compiled(value) == value


def test_render_loop_expands_to_objects_for_which_if_is_true() -> None:
    result, renderer = rendered(FILES, FILES_EVENT)
    assert renderer.errors == {}
    labels = {"labels": ["raw"]}
    assert result == {
        "files": [{"name": "first"}, {"name": "a", **labels}, {"name": "c", **labels}, {"name": "z"}],
    }


@pytest.mark.parametrize("value", [[], "{{ [] }}"])
def test_render_loop_over_nothing_returns_no_object(value: JSON) -> None:
    event: JSON = {"files": value if isinstance(value, list) else []}
    result, renderer = rendered([{"for": "x in event.files", "a": 1}], event)
    assert (result, renderer.errors) == ([], {})


def test_render_loop_result_of_filter_is_a_list() -> None:
    value: JSON = [{"for": "pair in event | items", "k": "{{ pair[0] }}", "v": "{{ pair[1] }}"}]
    assert rendered(value, {"a": 1, "b": [2]})[0] == [{"k": "a", "v": 1}, {"k": "b", "v": [2]}]
    value = [{"for": "x in event | map('upper') | select('eq', 'A')", "x": "{{ x }}"}]
    assert rendered(value, ["a", "b"])[0] == [{"x": "A"}]


@pytest.mark.parametrize("variable", ["result", "file", "x1", "_x", "item", "context", "environment", "Undefined"])
def test_render_loop_any_variable_name_works(variable: str) -> None:
    value: JSON = [{"for": f"{variable} in event", "if": f"{variable} > 1", "x": f"{{{{ {variable} }}}}"}]
    assert rendered(value, [1, 2])[0] == [{"x": 2}]


NESTED: JSON = {
    "a": [
        {"x": 0},
        {
            "for": "outer in event",
            "if": "outer.ok",
            "b": [{"for": "inner in outer.items", "if": "inner != 2", "c": ["{{ inner / outer.n }}"]}],
        },
    ]
}


def test_render_nested_loops_can_use_outer_variables() -> None:
    event: JSON = [{"ok": False}, {"ok": True, "n": 2, "items": [2, 4, 6]}]
    result, renderer = rendered(NESTED, event)
    assert renderer.errors == {}
    assert result == {"a": [{"x": 0}, {"b": [{"c": [2.0]}, {"c": [3.0]}]}]}
    assert renderer.source_path("update.a.0.x") == "update.a.0.x"
    assert renderer.source_path("update.a.1.b.0.c.0") == "update.a.1.b.1.c.0"
    assert renderer.source_path("update.a.1.b.1.c") == "update.a.1.b.2.c"
    assert renderer.source_path('update."a.b".1') == 'update."a.b".1'
    assert renderer.source_path("update.a") == "update.a"


def test_render_loop_failures_have_index_in_source_list() -> None:
    event: JSON = [{"ok": False}, {"ok": True, "n": 0, "items": [2, 4]}, {"ok": True}]
    _, renderer = rendered(NESTED, event)
    assert renderer.errors == {
        "update.a.1.b.1.c.0": ["The template fails on this payload: division by zero."],
        "update.a.2.b.0.for": ["outer.items is missing."],
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "for needs a list, but the value is text."),
        (3, "for needs a list, but the value is a number."),
        (True, "for needs a list, but the value is true or false."),
        (None, "for needs a list, but the value is null."),
        ({"a": 1}, "for needs a list, but the value is an object. For pairs of a key and a value, append: | items."),
    ],
)
def test_render_loop_over_no_list_is_an_error(value: JSON, message: str) -> None:
    _, renderer = rendered({"x": [{"for": "a in event.list"}]}, {"list": value})
    assert renderer.errors == {"update.x.0.for": [message]}


def test_render_loop_missing_list_is_an_error() -> None:
    _, renderer = rendered({"x": [{"for": "a in event.list"}]}, {})
    assert renderer.errors == {"update.x.0.for": ["event.list is missing."]}


def test_render_loop_if_without_boolean_leaves_out_object_with_one_warning() -> None:
    value: JSON = {"x": [{"for": "a in event", "y": [{"for": "b in a", "if": "b.ok", "z": 1}]}]}
    result, renderer = rendered(value, [[{}], [{}, {"ok": "true"}, {"ok": "CANARY"}, {"ok": True}]])
    assert result == {"x": [{"y": []}, {"y": [{"z": 1}]}]}
    assert renderer.errors == {}
    (warning,) = renderer.warnings.values()
    assert warning == (
        "update.x.1.y.1.if fails on this event and so counts as false: The result is text, not true or false. "
        'Compare the value, as in: event.x == "true".'
    )


def test_render_loop_if_with_similar_name_leaves_out_object_with_warning() -> None:
    result, renderer = rendered([{"for": "a in event", "if": "a.titel == ''"}], [{"title": ""}])
    assert result == []
    assert list(renderer.warnings.values()) == [
        "update.0.if is false for this event: a.titel is missing; did you mean a.title?"
    ]


def test_render_loop_past_number_of_steps_is_one_error() -> None:
    value: JSON = [{"for": "a in event", "x": [{"for": "b in event", "y": "{{ b }}"}]}]
    assert rendered(value, [1] * 9, steps=90)[1].errors == {}
    _, renderer = rendered(value, [1] * 9, steps=25)
    assert renderer.errors == {"update.2.x.0.for": ["The loops for this event take more than 100000 steps."]}


def test_render_loop_steps_count_with_those_of_templates() -> None:
    value: JSON = [{"for": "a in event", "x": "{% for b in event %}{% endfor %}"}]
    assert rendered(value, [1] * 9, steps=90)[1].errors == {}
    assert list(rendered(value, [1] * 9, steps=89)[1].errors) == ["update.8.x"]


def test_render_loop_past_size_of_results_is_one_error() -> None:
    value: JSON = {"a": [{"for": "a in event", "x": "{{ a * 10 }}"}]}
    _, renderer = rendered(value, ["x" * 10] * 50)
    assert renderer.errors == {"update.a.9.x": ["The results for this event have more than 1000 characters."]}


def test_render_loop_literal_parts_count_as_results() -> None:
    value: JSON = {"a": [{"for": "a in event", "x": "y" * 92}]}
    assert rendered(value, [0] * 10)[1].errors == {}
    _, renderer = rendered(value, [0] * 11)
    assert renderer.errors == {"update.a.0.for": ["The results for this event have more than 1000 characters."]}


def test_render_loop_if_past_limit_is_an_error() -> None:
    value: JSON = {"a": [{"for": "a in event", "if": "'x' * a == ''"}]}
    _, renderer = rendered(value, [1, 2000, 3000])
    assert renderer.errors == {"update.a.1.if": ["The template produces a value of more than 1000 characters."]}


def test_render_loop_many_failures_stops_at_maximum() -> None:
    _, renderer = rendered({"a": [{"for": "a in event", "x": "{{ a.x }}"}]}, [{} for _ in range(500)], 10_000)
    assert len(renderer.errors) == 100


def test_render_loop_error_at_same_path_as_literal_keeps_both() -> None:
    _, renderer = rendered({"a": [{"x": "{{ event.x }}"}, {"for": "a in event.l", "x": "{{ a.y }}"}]}, {"l": [{}]})
    assert renderer.errors == {"update.a.0.x": ["event.x is missing.", "a.y is missing."]}


FORM = "A loop must have the form NAME in LIST, such as: file in event.files."


@pytest.mark.parametrize(
    ("loop", "path", "message"),
    [
        ({"for": "event.files"}, "for", FORM),
        ({"for": ""}, "for", FORM),
        ({"for": "a in "}, "for", FORM),
        ({"for": "a, b in event.x"}, "for", FORM),
        ({"for": "a.b in event.x"}, "for", FORM),
        ({"for": "a in event.x recursive"}, "for", FORM),
        ({"for": "a in event.x if a"}, "for", "Write the condition of a loop as a key of its own: if."),
        ({"for": "a in {{ event.x }}"}, "for", "A loop has no braces: file in event.files."),
        ({"for": "a in event.x %}{% endfor %}{% for b in event.x"}, "for", "A loop has no braces: "),
        ({"for": "event in event.x"}, "for", "event is already the name of a variable. Choose another name."),
        ({"for": "headers in event.x"}, "for", "headers is already the name of a variable. Choose another name."),
        ({"for": "loop in event.x"}, "for", "loop is already the name of a variable. Choose another name."),
        ({"for": "self in event.x"}, "for", '"self" isn'),
        ({"for": "true in event.x"}, "for", FORM),
        ({"for": "a in evnt.x", "b": "{{ a.b }}"}, "for", 'There is no name "evnt". Did you mean event?'),
        ({"for": "a in a.x"}, "for", '"a" isn'),
        ({"for": ["a", "event.x"]}, "for", "Must be a string of the form NAME in LIST"),
        ({"for": None}, "for", "Must be a string of the form NAME in LIST"),
        ({"for": "a in event.x", "if": True}, "if", "Must be a string: an expression, without braces."),
        ({"for": "a in event.x", "if": "{{ a.ok }}"}, "if", "A condition has no braces"),
        ({"for": "file in event.x", "if": "flie.size"}, "if", 'There is no name "flie". Did you mean file?'),
        ({"for": "file in event.x", "b": "{{ flie.size }}"}, "b", 'There is no name "flie". Did you mean file?'),
        ({"for": "a in event.x", "b": [{"for": "a in event.x"}]}, "b.0.for", "a is already the name of a variable."),
        ({"for": "a in event.x", "b": [{"for": "b in a.y"}], "c": "{{ b }}"}, "c", 'There is no name "b". The names'),
        ({"for": "a in event.x", "{{ a }}": 1}, '"{{ a }}"', "A key can't be a template."),
    ],
)
def test_compile_tree_mistake_in_loop_has_path(loop: JSON, path: str, message: str) -> None:
    errors = mistakes({"x": [loop]})
    assert list(errors) == [f"update.x.0.{path}"]
    ((found,),) = errors.values()
    assert found.startswith(message)


def test_compile_tree_loop_variable_outside_loop_is_unknown() -> None:
    errors = mistakes({"a": [{"for": "file in event.files"}, "{{ file }}"], "b": "{{ file }}"})
    assert list(errors) == ["update.a.1", "update.b"]


def test_literal_value_loop_becomes_one_object() -> None:
    assert literal_value(compiled(FILES)) == {
        "files": [{"name": "first"}, {"name": "", "labels": ["raw"]}, {"name": ""}]
    }


def test_template_paths_loop_returns_paths_of_its_object() -> None:
    assert {"update.files.1.name", "update.files.2.name"} <= template_paths(compiled(FILES), "update")


def test_notes_loop_returns_notes_about_each_part() -> None:
    value: JSON = [
        {"for": "a in headers['x-token']", "if": "headers.authorization == a", "x": [{"y": "${{ a }}"}], "z": "event.a"}
    ]
    assert notes(compiled(value), "updates.0.update", {"authorization", "x-token"}) == [
        ("updates.0.update.0.for", "uses the header x-token, which templates can't see."),
        ("updates.0.update.0.if", "uses the header authorization, which templates can't see."),
        (
            "updates.0.update.0.x.0.y",
            "has a $ before {{. The $ becomes part of the text. The form ${{ … }} is GitHub's.",
        ),
        ("updates.0.update.0.z", "is literal text, not a template. Did you mean {{ event.… }}?"),
    ]


# Notes

CREDENTIAL = (
    "update.x has a credential in a URL. Anyone who can read the file can use the credential. "
    "Take the credential from the payload, or restrict the access to the file."
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event.run.id", "update.x is literal text, not a template. Did you mean {{ event.… }}?"),
        ("{event.x}", "update.x is literal text, not a template. Did you mean {{ event.… }}?"),
        (
            "${{ event.x }}",
            "update.x has a $ before {{. The $ becomes part of the text. The form ${{ … }} is GitHub's.",
        ),
        (
            "a {# b #} c",
            "update.x has a comment, {# … #}, which is not part of the result. For the text {#, write {{ '{#' }}.",
        ),
        ("Run {event.x}", "update.x is literal text, not a template. Did you mean {{ event.… }}?"),
        ("{{ headers.authorization }}", "update.x uses the header authorization, which templates can't see."),
        ("{{ headers['x-token'] }}", "update.x uses the header x-token, which templates can't see."),
        ("https://h/?format=csv&token=CANARY", CREDENTIAL),
        ("https://h/{{ event.x }}?token=CANARY", CREDENTIAL),
        ("https://me:CANARY@h/", CREDENTIAL),
    ],
)
def test_notes_probable_mistake_returns_note(text: str, expected: str) -> None:
    assert notes(compiled({"x": text}), "update", {"authorization", "x-token"}) == [tuple(expected.split(" ", 1))]


@pytest.mark.parametrize(
    "text",
    ["an event", "The event. It was", "{{ event.x }}", "{{ headers['x-github-event'] }}", "https://h/?format=csv",
     "https://h/?token={{ event.x }}", "https://{{ event.user }}@h/?a={{ event.x }}"],
)  # fmt: skip
def test_notes_plain_value_returns_nothing(text: str) -> None:
    assert notes(compiled({"x": text}), "update", {"authorization"}) == []
