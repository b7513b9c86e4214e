"""A JSON value whose strings may be templates: compiled once, judged as far as it is literal, rendered per event."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any, TypeAlias

from schemas import templates
from schemas.bounds import Budget, Failed
from schemas.strict import step
from schemas.strict_json import JSON
from schemas.templates import Template
from schemas.vetting import Mistake

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | Template | str | int | float | bool | None"

# The path of a tree, and the keys and positions that lead on from there: written out only where something is wrong.
_Trail: TypeAlias = tuple[str | int, ...]

#: From a path, as `update.files.0.name`, to what is wrong there.
Wrong: TypeAlias = dict[str, list[str]]

_HEADER = re.compile(r"headers(?:\.|\[['\"])([\w-]+)")
# The beginning of a text that names the payload.
_LIKE_A_TEMPLATE = re.compile(r"\A\W*(?:event|headers)[.\[]\w*")


def compiled(value: JSON, path: str, most: int, mistakes: Wrong) -> Tree:
    """`value`, which stands at `path`, with its templates compiled; what is wrong with them goes into `mistakes`."""

    def leaf(each: Any, trail: _Trail) -> Tree:
        if not (isinstance(each, str) and templates.is_template(each)):
            literal: Tree = each
            return literal
        try:
            return templates.template(each, most)
        except Mistake as mistake:
            mistakes.setdefault(_place(trail), []).append(str(mistake))
            return _broken()

    for place in _keys_like_templates(value, path):
        mistakes.setdefault(place, []).append("A key is never a template.")
    made: Tree = _mapped(value, (path,), leaf)
    return made


@cache
def _broken() -> Template:
    """Stands for a template that is none: what it would make isn't known either."""
    return templates.template("{{ event }}", most=11)


def _keys_like_templates(value: JSON, path: str) -> Iterator[str]:
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        place = f"{path}.{step(key)}"
        if isinstance(key, str) and templates.is_template(key):
            yield place
        yield from _keys_like_templates(each, place)


def blank(tree: Tree) -> JSON:
    """`tree` with nothing in place of what templates will make: what breaks a rule even so breaks it always."""
    made: JSON = _mapped(tree, (), lambda each, _: "" if isinstance(each, Template) else each)
    return made


def places(tree: Tree, path: str) -> list[str]:
    """The paths of the templates in `tree`, which stands at `path`."""
    found: list[str] = []

    def leaf(each: Tree, trail: _Trail) -> None:
        if isinstance(each, Template):
            found.append(_place(trail))

    _mapped(tree, (path,), leaf)
    return found


def doubts(tree: Tree, path: str, hidden: Collection[str]) -> list[str]:
    """What in `tree`, which stands at `path`, is right but may not be what was meant.

    `hidden` are the headers that templates don't see.
    """
    found: list[str] = []

    def leaf(each: Any, trail: _Trail) -> None:
        place = _place(trail)
        if isinstance(each, str) and _LIKE_A_TEMPLATE.search(each):
            found.append(f"{place} is no template as it stands; is {{{{ event.… }}}} meant?")
        if isinstance(each, Template):
            if "${{" in each.source:
                found.append(f"{place} has a $ before {{{{, which stays there.")
            named = {name for name in _HEADER.findall(each.source) if name in hidden}
            found.extend(f"{place} reads the header {name}, which no template sees." for name in sorted(named))

    _mapped(tree, (path,), leaf)
    return found


def rendered(tree: Tree, path: str, variables: Mapping[str, JSON], budget: Budget, failures: Wrong) -> JSON:
    """What `tree`, which stands at `path`, makes of `variables`; what fails goes into `failures`."""

    def leaf(each: Any, trail: _Trail) -> JSON:
        if not isinstance(each, Template):
            literal: JSON = each
            return literal
        try:
            return each.render(variables, budget)
        except Failed as failure:
            failures[_place(trail)] = [str(failure)]
            return None

    made: JSON = _mapped(tree, (path,), leaf)
    return made


def _mapped(tree: Any, trail: _Trail, leaf: Callable[[Any, _Trail], Any]) -> Any:
    """`tree`, to which `trail` leads, with what `leaf` makes of each value that is no object and no list."""
    if isinstance(tree, dict):
        return {key: _mapped(each, (*trail, key), leaf) for key, each in tree.items()}
    if isinstance(tree, list):
        return [_mapped(each, (*trail, position), leaf) for position, each in enumerate(tree)]
    return leaf(tree, trail)


def _place(trail: _Trail) -> str:
    return ".".join((str(trail[0]), *map(step, trail[1:])))
