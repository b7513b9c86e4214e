"""Trees: JSON values whose strings can be templates, such as the body of an update in relay.yaml.

The function compiles a tree once, at startup, and renders the tree for each event.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from handlers.hooks.templates.limits import Budget, RenderError
from handlers.hooks.templates.sandbox import TemplateMistakeError
from handlers.hooks.templates.template import Template, compile_template, is_template
from handlers.redaction import has_url_credential
from schemas.base import path_step
from schemas.problem import Errors
from schemas.strict_json import JSON

# The name of a header in a template, such as headers['x-name'] or headers.name.
_HEADER = re.compile(r"headers(?:\.|\[['\"])([\w-]+)")
# The beginning of a string that is probably intended as a template, such as `event.run.id` or `{event.x}`.
_LIKE_A_TEMPLATE = re.compile(r"\A\W*(?:event|headers)[.\[]\w*")

# An expression in a template.
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TemplateLeaf:
    """A template in a tree. `path` is its path, such as `update.files.0.name`."""

    path: str
    template: Template


Tree: TypeAlias = "dict[str, Tree] | list[Tree] | TemplateLeaf | str | int | float | bool | None"


def compile_tree(value: JSON, path: str, max_length: int, errors: Errors) -> Tree:
    """Return the tree of the value at `path`, and add the mistakes of its templates to `errors`.

    `max_length` is the maximum length of a template, in characters. A template with a mistake stays a string.
    """
    if isinstance(value, dict):
        for key in filter(is_template, value):
            errors.setdefault(f"{path}.{path_step(key)}", []).append("A key can't be a template.")
        return {key: compile_tree(item, f"{path}.{path_step(key)}", max_length, errors) for key, item in value.items()}
    if isinstance(value, list):
        return [compile_tree(item, f"{path}.{position}", max_length, errors) for position, item in enumerate(value)]
    if isinstance(value, str) and is_template(value):
        try:
            return TemplateLeaf(path, compile_template(value, max_length))
        except TemplateMistakeError as error:
            errors.setdefault(path, []).append(str(error))
    return value


def render_tree(tree: Tree, variables: Mapping[str, JSON], budget: Budget, errors: Errors) -> JSON:
    """Return the value of a tree for an event, and add the failures of its templates to `errors`.

    A template that fails becomes null.
    """
    if isinstance(tree, dict):
        return {key: render_tree(item, variables, budget, errors) for key, item in tree.items()}
    if isinstance(tree, list):
        return [render_tree(item, variables, budget, errors) for item in tree]
    if isinstance(tree, TemplateLeaf):
        try:
            return tree.template.render(variables, budget)
        except RenderError as error:
            errors[tree.path] = [str(error)]
            return None
    return tree


def literal_value(tree: Tree) -> JSON:
    """Return the value of a tree with "" for each template, to check the rest of the tree at startup."""
    if isinstance(tree, dict):
        return {key: literal_value(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [literal_value(item) for item in tree]
    return "" if isinstance(tree, TemplateLeaf) else tree


def template_paths(tree: Tree, path: str) -> set[str]:
    """Return the paths of the templates in the tree at `path`."""
    return {leaf_path for leaf_path, leaf in _leaves(tree, path) if isinstance(leaf, TemplateLeaf)}


def notes(tree: Tree, path: str, hidden: Collection[str]) -> list[str]:
    """Return notes about the parts of the tree at `path` that are valid, but probably not intended.

    `hidden` contains the names of the headers that templates can't see.
    """
    result: list[str] = []
    for leaf_path, leaf in _leaves(tree, path):
        source = leaf.template.source if isinstance(leaf, TemplateLeaf) else leaf
        if isinstance(source, str) and _has_literal_credential(source):
            result.append(
                f"{leaf_path} has a credential in a URL. Anyone who can read the file can use the credential. "
                "Take the credential from the payload, or restrict the access to the file."
            )
        if isinstance(leaf, TemplateLeaf):
            result += template_notes(leaf.template, leaf_path, hidden)
        elif isinstance(leaf, str) and _LIKE_A_TEMPLATE.search(leaf):
            result.append(f"{leaf_path} is literal text, not a template. Did you mean {{{{ event.… }}}}?")
    return result


def _has_literal_credential(source: str) -> bool:
    return has_url_credential(_EXPRESSION.sub("", source))


def template_notes(template: Template, path: str, hidden: Collection[str]) -> list[str]:
    """Return notes about the parts of the template at `path` that are valid, but probably not intended."""
    result = [f"{path} has a $ before {{{{. The $ becomes part of the text."] if "${{" in template.source else []
    names = sorted({name for name in _HEADER.findall(template.source) if name in hidden})
    return result + [f"{path} uses the header {name}, which templates can't see." for name in names]


def _leaves(tree: Tree, path: str) -> Iterator[tuple[str, Tree]]:
    """Yield the values of a tree that are neither objects nor lists, with their paths."""
    if isinstance(tree, dict | list):
        for key, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(item, f"{path}.{path_step(key)}")
    else:
        yield path, tree
