"""The language of templates: Jinja2, made small enough to vouch for.

A template's tree, which `schemas.vetting` has held against a list of what there is, is rewritten, so that whatever
makes a value is a call of `schemas.bounds`: loops, `~`, slices, and the lists and objects that a template writes
itself. Nothing is computed while a template is compiled.
"""

from collections.abc import Callable
from typing import Any

from jinja2 import ChainableUndefined, StrictUndefined, Undefined, nodes, pass_context
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from schemas import filters, own_filters
from schemas.bounds import Budget, Failed, TooMuch, as_text, present
from schemas.strict_json import shown

#: What a template can name; anything else is a mistake when it is compiled.
VARIABLES = ("event", "headers")

# Of a name in a message. In characters.
_LONGEST_SHOWN = 60
_LOOP = {"index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem"}


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
        present(argument)
        if isinstance(obj, Undefined):
            return obj
        is_key = isinstance(obj, dict) and isinstance(argument, str)
        is_position = isinstance(obj, list | tuple | str) and isinstance(argument, int)
        try:
            if is_key or is_position:
                return obj[argument]
        except LookupError:
            pass
        return self.undefined(_missing(argument))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operator's value, refused before it is made where it would be too large."""
        budget: Budget = context[filters.BUDGET]
        budget.check()
        present(left, right)
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, str | list | tuple) and isinstance(times, int):
                    budget.room(len(value) * times)
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_power(left, right)
        if operator == "%" and isinstance(left, str):
            raise Failed("% is for numbers; texts are put together with ~.")
        return budget.measured(super().call_binop(context, operator, left, right))


class _ComputedText(str):
    """A key that the template computes: it may be the payload's text, and is shown to nobody."""

    __slots__ = ()


class _ComputedNumber(int):
    """A position that the template computes, likewise."""


def _missing(key: object) -> str:
    if isinstance(key, _ComputedText | _ComputedNumber) or not isinstance(key, str | int):
        return "What its key is computed to be is missing."
    if isinstance(key, int) or (key.replace("-", "_").isidentifier() and len(key) <= _LONGEST_SHOWN):
        return f"{key} is missing."
    return f"{shown(key)} is missing."


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


@pass_context
def _present(context: Context, value: Any) -> Any:
    """What is compared, or cut by: it is there."""
    budget: Budget = context[filters.BUDGET]
    budget.check()
    present(value)
    return value


@pass_context
def _key(context: Context, value: Any) -> Any:
    """A key that the template computes."""
    budget: Budget = context[filters.BUDGET]
    budget.check()
    if isinstance(value, str):
        return _ComputedText(value)
    return _ComputedNumber(value) if isinstance(value, int) else value


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
    "=concatenated": _internal(own_filters.join),
    "=counted": _counted,
    "=made": _internal(lambda _, value: value),
    "=present": _present,
    "=key": _key,
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
        if isinstance(node.arg, nodes.Slice):
            return _called("=made", node)
        node.arg = _called("=key", node.arg)
        return node

    def visit_Slice(self, node: nodes.Slice) -> nodes.Node:
        self.generic_visit(node)
        for part in ("start", "stop", "step"):
            if getattr(node, part) is not None:
                setattr(node, part, _called("=present", getattr(node, part)))
        return node

    def _made(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _called("=made", node)

    visit_List = visit_Dict = _made


def _called(name: str, value: nodes.Node) -> nodes.Expr:
    assert isinstance(value, nodes.Expr)
    if isinstance(value, nodes.Const):
        return value
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)
