"""Trees: JSON values whose strings can be templates, such as the body of an update in relay.yaml.

The function compiles a tree once, at startup, and renders the tree for each event.

In a list, an object with the key `for` is a loop, which becomes one object for each item of a list of the payload:

    files:
      - for: file in event.files
        if: file.size > 0                     # optional
        name: "{{ file.name }}"
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from handlers.hooks.templates.limits import Budget, RenderError, RenderLimitError
from handlers.hooks.templates.sandbox import VARIABLES, TemplateMistakeError
from handlers.hooks.templates.template import (
    LOOP_VARIABLE,
    MissingKeyError,
    Template,
    compile_condition,
    compile_loop,
    compile_template,
    is_template,
)
from handlers.redaction import has_url_credential
from schemas.base import MAX_ERRORS, join_path
from schemas.problem import Errors
from schemas.strict_json import JSON, dump_text

# The name of a header in a template, such as headers['x-name'] or headers.name.
_HEADER = re.compile(r"headers(?:\.|\[['\"])([\w-]+)")
# A string that is probably intended as a template, such as `event.run.id` or `Run {event.run.id}`.
_LIKE_A_TEMPLATE = re.compile(r"(?:\A\W*|\{\s*)(?:event|headers)[.\[]\w*")
# An expression in a template.
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
# A step of a path. `join_path` quotes a key with special characters.
_STEP = re.compile(r'"(?:[^"\\]|\\.)*"|[^.]+')


#: A note about a part of relay.yaml: the path of the part, and the rest of a sentence that begins with the path.
Note: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class TemplateLeaf:
    """A template in a tree. `path` is its path, such as `update.files.0.name`."""

    path: str
    template: Template


@dataclass(frozen=True, slots=True)
class Loop:
    """An object in a list that becomes one object for each item of `items` for which `condition` is true.

    `path` is the path of the object in the tree, such as `update.files.1`. `size` is the size of the literal parts of
    one object, in characters of JSON.
    """

    path: str
    variable: str
    items: TemplateLeaf
    condition: TemplateLeaf | None
    body: "dict[str, Tree]"
    size: int


Tree: TypeAlias = "dict[str, Tree] | list[Tree] | TemplateLeaf | Loop | str | int | float | bool | None"


def compile_tree(value: JSON, path: str, max_length: int, errors: Errors, names: tuple[str, ...] = VARIABLES) -> Tree:
    """Return the tree of the value at `path`, and add the mistakes of its templates to `errors`.

    `max_length` is the maximum length of a template, in characters. `names` contains the names of the variables. A
    template with a mistake stays a string, and a loop with a mistake stays an object.
    """
    if isinstance(value, dict):
        for key in filter(is_template, value):
            errors.setdefault(join_path(path, key), []).append("A key can't be a template.")
        return {key: compile_tree(item, join_path(path, key), max_length, errors, names) for key, item in value.items()}
    if isinstance(value, list):
        return [
            _compile_loop(item, f"{path}.{position}", max_length, errors, names)
            if isinstance(item, dict) and "for" in item
            else compile_tree(item, f"{path}.{position}", max_length, errors, names)
            for position, item in enumerate(value)
        ]
    if isinstance(value, str) and is_template(value):
        try:
            return TemplateLeaf(path, compile_template(value, max_length, names))
        except TemplateMistakeError as error:
            errors.setdefault(path, []).append(str(error))
    return value


def _compile_loop(value: dict[str, JSON], path: str, max_length: int, errors: Errors, names: tuple[str, ...]) -> Tree:
    items = condition = None
    variable = ""
    if isinstance(text := value["for"], str):
        # After another mistake, the templates in the object can still use the variable.
        match = LOOP_VARIABLE.match(text)
        variable = match[1] if match else ""
        try:
            variable, template = compile_loop(text, max_length, names)
            items = TemplateLeaf(f"{path}.for", template)
        except TemplateMistakeError as error:
            errors.setdefault(f"{path}.for", []).append(str(error))
    else:
        errors[f"{path}.for"] = ["Must be a string of the form NAME in LIST, such as: file in event.files."]
    inner_names = (*names, variable) if variable and variable not in names else names
    if isinstance(text := value.get("if"), str):
        try:
            condition = TemplateLeaf(f"{path}.if", compile_condition(text, max_length, inner_names))
        except TemplateMistakeError as error:
            errors.setdefault(f"{path}.if", []).append(str(error))
    elif "if" in value:
        errors[f"{path}.if"] = ["Must be a string: an expression, without braces."]
    rest = {key: item for key, item in value.items() if key not in ("for", "if")}
    body = compile_tree(rest, path, max_length, errors, inner_names)
    assert isinstance(body, dict)
    return Loop(path, variable, items, condition, body, len(dump_text(literal_value(body)))) if items else body


@dataclass(frozen=True, slots=True)
class Falsity:
    """The reason for a condition that isn't true, as the end of a sentence about the condition.

    If `is_warning`, the condition probably has a mistake.
    """

    reason: str
    is_warning: bool = False


def check_condition(condition: Template, variables: Mapping[str, JSON], budget: Budget) -> Falsity | None:
    """Return the reason for a condition that isn't true, or None for a true condition.

    Raises:
        RenderLimitError: The condition exceeds the budget, so that its result is unknown.
    """
    try:
        return None if condition.is_true(variables, budget) else Falsity("is false for this event.")
    except MissingKeyError as error:
        return Falsity(f"is false for this event: {error}", error.has_similar_name)
    except RenderLimitError:
        raise
    except RenderError as error:
        return Falsity(f"fails on this event and so counts as false: {error}", is_warning=True)


class Renderer:
    """A renderer of trees for the values of the variables. A template that fails becomes null.

    `errors` has the failures of templates by path. `warnings` has the first warning about each `if`, by its path in
    the tree. In the paths of errors, the index of an object that a loop produces is the index in the list of the loop.
    """

    def __init__(self, variables: Mapping[str, JSON], budget: Budget) -> None:
        self.errors: Errors = {}
        self.warnings: dict[str, str] = {}
        self._variables = variables
        self._budget = budget
        self._is_past_limit = False
        # For each list with loops, by its path in the result: the index in the paths of errors for each item.
        self._indexes: dict[str, list[int]] = {}

    def render(self, tree: Tree) -> JSON:
        """Return the value of a tree, and add the failures of its templates to `errors`."""
        if isinstance(tree, dict):
            return {key: self.render(item) for key, item in tree.items()}
        if isinstance(tree, list):
            return self._render_list(tree)
        if isinstance(tree, TemplateLeaf):
            try:
                return tree.template.render(self._variables, self._budget)
            except RenderError as error:
                self._add_error(tree.path, error)
                return None
        assert not isinstance(tree, Loop)
        return tree

    def source_path(self, path: str) -> str:
        """Return the path in errors for a path in the result, such as `update.files.0.name`."""
        if not self._indexes:
            return path
        result: list[str] = []
        source: list[str] = []
        for step in _STEP.findall(path):
            indexes = self._indexes.get(".".join(result))
            source.append(str(indexes[int(step)]) if indexes else step)
            result.append(step)
        return ".".join(source)

    def _render_list(self, items: "list[Tree]") -> list[JSON]:
        result: list[JSON] = []
        indexes: list[int] = []
        path = ""
        for position, item in enumerate(items):
            if isinstance(item, Loop):
                path = item.path.rpartition(".")[0]
                self._render_loop(item, path, result, indexes)
            else:
                result.append(self.render(item))
                indexes.append(position)
        if path:
            self._indexes[path] = indexes
        return result

    def _render_loop(self, loop: Loop, list_path: str, result: list[JSON], indexes: list[int]) -> None:
        """Add the objects of a loop to `result`, and their indexes in the list of the loop to `indexes`."""
        try:
            for index, item in enumerate(loop.items.template.iterate(self._variables, self._budget)):
                renderer = Renderer({**self._variables, loop.variable: item}, self._budget)
                if loop.condition is None or renderer._is_true(loop.condition):
                    self._budget.charge_result(loop.size)
                    result.append(renderer.render(loop.body))
                    indexes.append(index)
                self._add_part(renderer, loop.path, f"{list_path}.{index}", f"{list_path}.{len(result) - 1}")
                # After a failure of the budget, every further item would fail, too.
                if self._is_past_limit or len(self.errors) >= MAX_ERRORS:
                    return
        except RenderError as error:
            self._add_error(loop.items.path, error)

    def _is_true(self, condition: TemplateLeaf) -> bool:
        try:
            falsity = check_condition(condition.template, self._variables, self._budget)
        except RenderLimitError as error:
            self._add_error(condition.path, error)
            return False
        if falsity and falsity.is_warning:
            self.warnings[condition.path] = f"{condition.path} {falsity.reason}"
        return falsity is None

    def _add_part(self, part: "Renderer", path: str, source_path: str, result_path: str) -> None:
        """Add the errors, warnings, and indexes of the renderer of the object at `path` in the tree."""
        for error_path, messages in part.errors.items():
            self.errors.setdefault(source_path + error_path[len(path) :], []).extend(messages)
        for warning_path, warning in part.warnings.items():
            self.warnings.setdefault(warning_path, source_path + warning[len(path) :])
        for list_path, indexes in part._indexes.items():
            self._indexes[result_path + list_path[len(path) :]] = indexes
        self._is_past_limit |= part._is_past_limit

    def _add_error(self, path: str, error: RenderError) -> None:
        self.errors.setdefault(path, []).append(str(error))
        self._is_past_limit |= isinstance(error, RenderLimitError)


class _NoValue(str):
    """An empty text in place of a template. No two instances are equal, because the values of templates can differ."""

    __slots__ = ()
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__


def literal_value(tree: Tree) -> JSON:
    """Return the value of a tree with an empty text for each template, and one object for each loop.

    The function checks this value at startup.
    """
    if isinstance(tree, dict):
        return {key: literal_value(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [literal_value(item) for item in tree]
    if isinstance(tree, Loop):
        return literal_value(tree.body)
    return _NoValue() if isinstance(tree, TemplateLeaf) else tree


def template_paths(tree: Tree, path: str) -> set[str]:
    """Return the paths of the templates in the tree at `path`."""
    return {leaf_path for leaf_path, leaf in _leaves(tree, path) if isinstance(leaf, TemplateLeaf)}


def notes(tree: Tree, path: str, hidden: Collection[str]) -> list[Note]:
    """Return notes about the parts of the tree at `path` that are valid, but probably not intended.

    `hidden` contains the names of the headers that templates can't see.
    """
    result: list[Note] = []
    for leaf_path, leaf in _leaves(tree, path):
        source = leaf.template.source if isinstance(leaf, TemplateLeaf) else leaf
        if isinstance(source, str) and _has_literal_credential(source):
            message = (
                "has a credential in a URL. Anyone who can read the file can use the credential. "
                "Take the credential from the payload, or restrict the access to the file."
            )
            result.append((leaf_path, message))
        if isinstance(leaf, TemplateLeaf):
            result += template_notes(leaf.template, leaf_path, hidden)
        elif isinstance(leaf, str) and _LIKE_A_TEMPLATE.search(leaf):
            result.append((leaf_path, "is literal text, not a template. Did you mean {{ event.… }}?"))
    return result


def _has_literal_credential(source: str) -> bool:
    return has_url_credential(_EXPRESSION.sub("", source))


def template_notes(template: Template, path: str, hidden: Collection[str]) -> list[Note]:
    """Return notes about the parts of the template at `path` that are valid, but probably not intended."""
    result: list[Note] = []
    if "${{" in template.source:
        result.append((path, "has a $ before {{. The $ becomes part of the text. The form ${{ … }} is GitHub's."))
    if template.has_comment:
        message = "has a comment, {# … #}, which is not part of the result. For the text {#, write {{ '{#' }}."
        result.append((path, message))
    names = sorted({name for name in _HEADER.findall(template.source) if name in hidden})
    return result + [(path, f"uses the header {name}, which templates can't see.") for name in names]


def _leaves(tree: Tree, path: str) -> Iterator[tuple[str, Tree]]:
    """Yield the values of a tree that are neither objects nor lists, with their paths."""
    if isinstance(tree, dict | list):
        for key, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(item, join_path(path, key))
    elif isinstance(tree, Loop):
        for leaf in filter(None, (tree.items, tree.condition)):
            yield f"{path}{leaf.path.removeprefix(tree.path)}", leaf
        yield from _leaves(tree.body, path)
    else:
        yield path, tree
