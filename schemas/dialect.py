"""The language of templates: Jinja2, made small enough to vouch for.

A template's tree is vetted against a list of what there is, then rewritten, so that whatever makes a value is a call
of `schemas.bounds`: loops, `~`, and the lists and objects that a template writes itself. Nothing is computed while a
template is compiled.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Any

from jinja2 import ChainableUndefined, StrictUndefined, Undefined, meta, nodes, pass_context
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from schemas import filters
from schemas.bounds import Budget, Failed, TooMuch, as_json, as_text
from schemas.strict import closest
from schemas.strict_json import shown

#: What a template can name; anything else is a mistake when it is compiled.
VARIABLES = ("event", "headers")

# Nodes of a template's tree: what a person writes has dozens.
_MOST_NODES = 10_000
# Python's own parser takes seconds to refuse what is nested a few hundred levels deep.
_MAX_DEPTH = 64
TOO_DEEP = f"Is nested too deeply; there may be {_MAX_DEPTH} levels."
_LOOP = {"index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem"}
_STATEMENTS = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign)
_EXPRESSIONS = (
    nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.Getattr,
    nodes.Getitem, nodes.Slice, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And,
    nodes.Or, nodes.Not, nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod,
    nodes.Pow, nodes.Concat,
)  # fmt: skip
_AVAILABLE = frozenset((*_STATEMENTS, *_EXPRESSIONS))


class Mistake(Exception):
    """A template can't be used, whatever the payload."""


class _Missing(ChainableUndefined, StrictUndefined):
    """A name that is missing, and so is all that is below it: `event.a.b | default('x')` works without an `a`."""

    __slots__ = ()


class _Environment(SandboxedEnvironment):
    """Looks up keys of the payload, never attributes of Python's, and measures what operators make."""

    intercepted_binops = frozenset(["+", "-", "*", "**", "/", "//", "%"])

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`event.key`: the payload's key, or missing."""
        if isinstance(obj, LoopContext) and attribute in _LOOP:
            return getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`event['key']`, `event.list[0]`, or missing."""
        if isinstance(argument, Undefined):
            str(argument)  # which says what is missing
        if isinstance(obj, Undefined):
            return obj
        is_key = isinstance(obj, dict) and isinstance(argument, str)
        is_position = isinstance(obj, list | tuple | str) and isinstance(argument, int)
        try:
            if is_key or is_position:
                return obj[argument]
        except LookupError:
            pass
        return self.undefined(f"{argument if _is_plain(argument) else shown(str(argument))} is missing.")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operator's value, refused before it is made where it would be too large."""
        budget: Budget = context[filters.BUDGET]
        budget.check()
        for each in (left, right):
            if isinstance(each, Undefined):
                str(each)
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, str | list | tuple) and isinstance(times, int):
                    budget.room(len(value) * times)
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_power(left, right)
        if operator == "%" and not isinstance(left, int | float):
            raise Failed("% is for numbers; texts are put together with ~.")
        return budget.measured(super().call_binop(context, operator, left, right))


def _is_plain(argument: object) -> bool:
    return isinstance(argument, int) or (isinstance(argument, str) and argument.replace("-", "_").isidentifier())


def _check_power(base: int, exponent: int) -> None:
    if abs(base) > 1 and base.bit_length() * exponent > 2048:
        raise TooMuch("It makes a number that is out of range.")


def _internal(function: Callable[[Budget, Any], Any]) -> Callable[..., Any]:
    @pass_context
    def call(context: Context, value: Any) -> Any:
        budget: Budget = context[filters.BUDGET]
        return budget.measured(function(budget, value))

    return call


@pass_context
def _counted(context: Context, value: Any) -> Any:
    """What a loop goes through, a step counted for each."""
    budget: Budget = context[filters.BUDGET]
    for each in value:
        budget.step()
        yield each


def _present(value: Any) -> Any:
    if isinstance(value, Undefined):
        str(value)  # which says what is missing
    return value


@pass_context
def _finalized(context: Context, value: Any) -> str:
    budget: Budget = context[filters.BUDGET]
    return as_text(budget.measured(value))


ENVIRONMENT = _Environment(
    undefined=_Missing,
    optimized=False,
    autoescape=False,
    keep_trailing_newline=True,
    finalize=_finalized,
    cache_size=0,
)
ENVIRONMENT.globals = {}
ENVIRONMENT.tests = dict(filters.TESTS)
ENVIRONMENT.filters = {
    **filters.FILTERS,
    **filters.ORIGINALS,
    "=concatenated": _internal(filters.concatenated),
    "=counted": _counted,
    "=made": _internal(lambda _, value: value),
    "=present": _present,
}


class Bounded(NodeTransformer):
    """Puts a call around whatever makes a value, and around what is compared, where a missing name must not pass."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _called("=counted", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _called("=concatenated", nodes.List(node.nodes, lineno=node.lineno))

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return node if node.ctx == "store" else _called("=made", node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _called("=present", node.expr)
        for operand in node.ops:
            operand.expr = _called("=present", operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _called("=made", node) if isinstance(node.arg, nodes.Slice) else node

    def _made(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _called("=made", node)

    visit_List = visit_Dict = _made


def _called(name: str, value: nodes.Node) -> nodes.Expr:
    assert isinstance(value, nodes.Expr)
    if isinstance(value, nodes.Const):
        return value
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)


def vet(tree: nodes.Template) -> None:
    """Raises Mistake for what isn't there: names, filters, tests, statements."""
    for count, (node, depth) in enumerate(_walk(tree), start=1):
        if count > _MOST_NODES:
            raise Mistake(f"Is too large: it has more than {_MOST_NODES} parts.")
        if depth > _MAX_DEPTH:
            raise Mistake(TOO_DEEP)
        if type(node) not in _AVAILABLE or (isinstance(node, nodes.For) and node.recursive):
            raise Mistake(_unavailable(node))
        if isinstance(node, nodes.Filter):
            _known("filter", node.name, filters.FILTERS)
        elif isinstance(node, nodes.Test):
            _known("test", node.name, filters.TESTS)
        elif isinstance(node, nodes.Const):
            _number(node.value)
    # `self` is a template's own blocks, which there are none of, and so is never undeclared.
    undeclared = meta.find_undeclared_variables(tree) | {each.name for each in tree.find_all(nodes.Name)} & {"self"}
    for name in sorted(undeclared - set(VARIABLES)):
        hint = closest(name, VARIABLES)
        known = f"did you mean {hint}?" if hint else "there are event and headers."
        raise Mistake(f"There is no {shown(name)} here; {known}")


def _walk(tree: nodes.Node) -> Iterator[tuple[nodes.Node, int]]:
    """Every node with its level, the upper ones first."""
    waiting = deque([(tree, 1)])
    while waiting:
        node, depth = waiting.popleft()
        yield node, depth
        waiting.extend((child, depth + 1) for child in node.iter_child_nodes())


def _unavailable(node: nodes.Node) -> str:
    if isinstance(node, nodes.Call):
        return "There are no calls here, as x(); there are filters, as event.x | date, and | default('y')."
    return f"There is no {type(node).__name__} here (line {node.lineno})."


def _number(value: object) -> None:
    try:
        as_json(Budget(text=1).measured(value) if isinstance(value, int | float) else None)
    except Failed:
        raise Mistake("It holds a number that is out of range.") from None


def _known(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        hint = closest(name, known)
        listed = f"did you mean {hint}?" if hint else f"there are {', '.join(sorted(known))}."
        raise Mistake(f"There is no {kind} {shown(name)} here; {listed}")
