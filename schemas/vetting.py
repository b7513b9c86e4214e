"""What a template may hold: its tree is held against a list of what there is, before anything is made of it."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

from jinja2 import TemplateSyntaxError, nodes
from jinja2.meta import TrackingCodeGenerator

from schemas import filters, own_filters
from schemas.bounds import Budget, Failed, as_json
from schemas.dialect import ENVIRONMENT, VARIABLES
from schemas.looking_filters import ATTRIBUTE_AT
from schemas.strict import closest
from schemas.strict_json import shown

# What a person writes has dozens.
_MOST_NODES = 4_000
_MOST_TOKENS = 20_000
# Python's own parser takes seconds to refuse what is nested a few hundred levels deep.
_MAX_DEPTH = 64
TOO_DEEP = f"Is nested too deeply; there may be {_MAX_DEPTH} levels."

# Each part of an attribute's path is looked up for each item.
_LONGEST_ATTRIBUTE = 100
_MOST_PARTS = 8
_STATEMENTS = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign)
_EXPRESSIONS = (
    nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.Getattr,
    nodes.Getitem, nodes.Slice, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And,
    nodes.Or, nodes.Not, nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod,
    nodes.Pow, nodes.Concat,
)  # fmt: skip
_AVAILABLE = frozenset((*_STATEMENTS, *_EXPRESSIONS))
_HINTS = {"null": "none", "nil": "none", "undefined": "is defined"}


class Mistake(Exception):
    """A template can't be used, whatever the payload."""


def parsed(text: str) -> nodes.Template:
    """The tree of `text`, vetted. Raises Mistake."""
    try:
        for count, _ in enumerate(ENVIRONMENT.lex(text), start=1):
            if count > _MOST_TOKENS:
                raise Mistake(f"Is too large: it has more than {_MOST_TOKENS} words and signs.")
        tree = ENVIRONMENT.parse(text)
        _vet(tree)
        return tree
    except TemplateSyntaxError as error:
        said = (error.message or "")[:200].rstrip(".")
        raise Mistake(f"Not a valid template: {said} (line {error.lineno}).") from None
    except RecursionError:
        raise Mistake(TOO_DEEP) from None
    except (ValueError, OverflowError) as error:
        raise Mistake(f"Not a valid template ({type(error).__name__}).") from None


def _vet(tree: nodes.Template) -> None:
    loops, slices = set(), set()
    for count, (node, depth) in enumerate(_walk(tree), start=1):
        if count > _MOST_NODES:
            raise Mistake(f"Is too large: it has more than {_MOST_NODES} parts.")
        if depth > _MAX_DEPTH:
            raise Mistake(TOO_DEEP)
        if type(node) not in _AVAILABLE or (isinstance(node, nodes.For) and node.recursive):
            raise Mistake(_unavailable(node))
        match node:
            case nodes.Filter():
                _vet_filter(node)
            case nodes.Test():
                _known("test", node.name, filters.TESTS)
                _vet_arguments("test", node)
            case nodes.Name() if not node.name.isascii():
                # Python takes some letters for others, and so would a name be one that was vetted as another.
                raise Mistake(f"The name {shown(node.name)} must be of the letters a to z, digits and _.")
            case nodes.Getitem(arg=nodes.Slice()):
                slices.add(id(node.arg))
            case nodes.Slice() if id(node) not in slices:
                raise Mistake("There is one slice in a pair of brackets, as event.x[:10].")
            case nodes.Const():
                _vet_number(node.value)
            case nodes.CondExpr() if node.expr2 is None:
                raise Mistake("An inline if needs an else, as 'a' if event.x else ''.")
            case nodes.Getattr(node=nodes.Name(name="loop")):
                loops.add(id(node.node))
            case nodes.Getitem(node=nodes.Name(name="headers"), arg=nodes.Const(value=str() as name)):
                if name != name.lower():
                    raise Mistake(f"Headers are in lower case here: headers[{shown(name.lower())}].")
            case nodes.Name(name="loop", ctx="load") if id(node) not in loops:
                raise Mistake('There is no "loop" here but as loop.index and the like, in a loop.')
    _vet_names(tree)


def _walk(tree: nodes.Node) -> Iterator[tuple[nodes.Node, int]]:
    """Every node with its level, the upper ones first."""
    waiting = deque([(tree, 1)])
    while waiting:
        node, depth = waiting.popleft()
        yield node, depth
        waiting.extend((child, depth + 1) for child in node.iter_child_nodes())


def _unavailable(node: nodes.Node) -> str:
    if isinstance(node, nodes.Call):
        return "There are no calls here, as x.upper(); there are filters, as x | upper, x | length, x.y | default('z')."
    return f"There is no {type(node).__name__} here."


def _known(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        hint = closest(name, known)
        listed = f"did you mean {hint}?" if hint else f"there are {', '.join(sorted(known))}."
        raise Mistake(f"There is no {kind} {shown(name)} here; {listed}")


def _vet_filter(node: nodes.Filter) -> None:
    _known("filter", node.name, filters.FILTERS)
    _vet_arguments("filter", node)
    # What is looked up, or applied, by name stands in the template: a payload's text is only ever data.
    for each in _keywords(node):
        if each.key == "attribute":
            _vet_attribute(each.value)
    if node.name == "date" and node.args and isinstance(node.args[0], nodes.Const):
        _vet_date(node.args[0].value)
    elif node.name in ATTRIBUTE_AT:
        for each in node.args[ATTRIBUTE_AT[node.name] :][:1]:
            _vet_attribute(each)
    elif node.name in ("selectattr", "rejectattr"):
        for each in node.args[:1]:
            _vet_attribute(each)
        _applied("test", node.args[1:2], filters.TESTS)
    elif node.name in ("select", "reject"):
        _applied("test", node.args[:1], filters.TESTS)
    elif node.name == "map":
        alone = [each for each in filters.FILTERS if each not in (*filters.APPLYING, *ATTRIBUTE_AT)]
        _applied("filter", node.args[:1], alone)


def _keywords(node: nodes.Filter | nodes.Test) -> list[Any]:
    """The arguments that have a name; Jinja2 declares them as something else."""
    return list(node.kwargs)


def _vet_arguments(kind: Literal["filter", "test"], node: nodes.Filter | nodes.Test) -> None:
    names: list[str] = [each.key for each in _keywords(node)]
    if node.dyn_args is not None or node.dyn_kwargs is not None or len(set(names)) < len(names):
        raise Mistake(f"The {kind} {node.name} takes its arguments one by one, each once.")
    if not all(map(str.isascii, names)) or filters.misused(kind, node.name, len(node.args), names):
        raise Mistake(f"The {kind} {node.name} doesn't take these arguments.")


def _applied(kind: str, name: Sequence[nodes.Expr], known: Collection[str]) -> None:
    for each in name:
        if not (isinstance(each, nodes.Const) and isinstance(each.value, str)):
            raise Mistake(f"A {kind} that is applied to each is named by a text in the template.")
        _known(kind, each.value, known)


def _vet_date(wanted: object) -> None:
    try:
        own_filters.check_date_format(wanted)
    except Failed as failure:
        raise Mistake(str(failure)) from None


def _vet_attribute(node: nodes.Expr) -> None:
    value = node.value if isinstance(node, nodes.Const) else []
    if isinstance(value, str):
        parts = value.count(".") + value.count(",") + 1
        if len(value) <= _LONGEST_ATTRIBUTE and parts <= _MOST_PARTS:
            return
    elif isinstance(value, int | None):
        return
    raise Mistake(f"An attribute is named by a text in the template, of up to {_MOST_PARTS} parts.")


def _vet_number(value: object) -> None:
    try:
        as_json(Budget(text=400).measured(value) if isinstance(value, int | float) else None)
    except Failed:
        raise Mistake("It holds a number that is out of range.") from None


def _vet_names(tree: nodes.Template) -> None:
    generator = TrackingCodeGenerator(ENVIRONMENT)
    # Nothing is computed before there is a payload.
    generator.optimizer = None
    generator.visit(tree)
    names = list(tree.find_all(nodes.Name))
    # `self` is a template's own blocks, which there are none of, and so is never undeclared.
    unknown = (generator.undeclared_identifiers | {each.name for each in names} & {"self"}) - set(VARIABLES)
    for each in tree.find_all(nodes.Sub):
        if isinstance(each.right, nodes.Name) and (each.right.name in unknown or _root(each.left) == "headers"):
            raise Mistake("A name with a '-' in it is written in brackets, as headers['x-name'].")
    for name in sorted(unknown):
        if any(each.name == name and each.ctx == "store" for each in names):
            raise Mistake(f"{shown(name)} isn't always set: set it before the if, too.")
        hint = _HINTS.get(name) or closest(name, VARIABLES)
        known = f"did you mean {hint}?" if hint else "there are event and headers."
        raise Mistake(f"There is no {shown(name)} here; {known}")


def _root(node: nodes.Expr) -> str | None:
    """The name that a dotted name begins with."""
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        node = node.node
    return node.name if isinstance(node, nodes.Name) else None
