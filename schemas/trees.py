"""A JSON value whose strings may be templates: compiled once, judged as far as it is literal, rendered per event."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from schemas import templates
from schemas.bounds import Budget, Failed
from schemas.strict import step
from schemas.strict_json import JSON
from schemas.templates import Template
from schemas.vetting import Mistake

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | Template | str | int | float | bool | None"

#: From a path, as `update.files.0.name`, to what is wrong there.
Wrong: TypeAlias = dict[str, list[str]]

# Stands for a template that is none: what it would make isn't known either.
_BROKEN = templates.template("{{ event }}", most=11)


def compiled(value: JSON, path: str, most: int, mistakes: Wrong) -> Tree:
    """`value`, which stands at `path`, with its templates compiled; what is wrong with them goes into `mistakes`."""
    if isinstance(value, dict):
        return {key: compiled(each, f"{path}.{step(key)}", most, mistakes) for key, each in value.items()}
    if isinstance(value, list):
        return [compiled(each, f"{path}.{position}", most, mistakes) for position, each in enumerate(value)]
    if not (isinstance(value, str) and templates.is_template(value)):
        return value
    try:
        return templates.template(value, most)
    except Mistake as mistake:
        mistakes[path] = [str(mistake)]
        return _BROKEN


def blank(tree: Tree) -> JSON:
    """`tree` with nothing in place of what templates will make: what breaks a rule even so breaks it always."""
    if isinstance(tree, Template):
        return ""
    if isinstance(tree, dict):
        return {key: blank(each) for key, each in tree.items()}
    if isinstance(tree, list):
        return [blank(each) for each in tree]
    return tree


def places(tree: Tree, path: str) -> Iterator[str]:
    """The paths of the templates in `tree`, which stands at `path`."""
    if isinstance(tree, Template):
        yield path
    elif isinstance(tree, dict | list):
        for key, each in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(each, f"{path}.{step(key)}")


def rendered(tree: Tree, path: str, variables: Mapping[str, JSON], budget: Budget, failures: Wrong) -> JSON:
    """What `tree`, which stands at `path`, makes of `variables`; what fails goes into `failures`."""
    if isinstance(tree, dict):
        return {key: rendered(each, f"{path}.{step(key)}", variables, budget, failures) for key, each in tree.items()}
    if isinstance(tree, list):
        return [rendered(each, f"{path}.{position}", variables, budget, failures) for position, each in enumerate(tree)]
    if not isinstance(tree, Template):
        return tree
    try:
        return tree.render(variables, budget)
    except Failed as failure:
        failures[path] = [str(failure)]
        return None
