"""The sandbox of templates: a part of Jinja2 that can read only the payload and the headers, with limits on its cost.

A template can use the statements and expressions in _SUPPORTED, the filters and tests of this package, and the names in
VARIABLES. A template can't call anything. A dotted name is a key of the payload, and never an attribute of a Python
object. A payload can't choose a filter or an attribute, because these names must be literals in the template.

Every operation that produces a value charges the budget of the event. Jinja2 lets an environment intercept operators,
filters, and tests. For the other operations, such as loops and lists, `_Limiter` adds a filter to the template.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import jinja2
from jinja2 import TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2.meta import TrackingCodeGenerator
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from handlers.hooks.templates import filter_names, filters
from handlers.hooks.templates.filters import FILTERS, TESTS, Missing, budget_of, look_up, path_step
from handlers.hooks.templates.limits import NotBooleanError, RenderError, RenderLimitError, as_text, require_defined
from handlers.hooks.templates.timestamps import time_zone, time_zone_names
from schemas.base import closest
from schemas.strict_json import quoted

#: The variables of a template.
VARIABLES = ("event", "headers")

_SUPPORTED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign,
    nodes.Name, nodes.Literal, nodes.Pair, nodes.Keyword, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.CondExpr,
    nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.BinExpr, nodes.UnaryExpr, nodes.Concat,
)  # fmt: skip
_LOOP_MEMBERS = {"index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem"}
# The number of arguments that must be literals, because they name attributes, filters, or tests.
_LITERAL_ARGUMENTS = {
    "map": 1, "select": 1, "reject": 1, "selectattr": 2, "rejectattr": 2, "sort": 3, "min": 2, "max": 2, "sum": 1,
}  # fmt: skip
_OTHER_LANGUAGES = {"null": "none", "nil": "none", "undefined": "is defined"}
_MAX_POWER_BITS = 2048
# The remedies for mistakes in the syntax, by the beginning of Jinja2's message.
_SYNTAX_HINTS = {
    "Missing end of comment tag": " {# begins a comment, up to #}. For the text {#, write {{ '{#' }}.",
    "Encountered unknown tag": (
        " {% begins a statement. To insert a value, write {{ … }}. For the text {%, write {{ '{%' }}."
    ),
    "unexpected '}'": " A template ends with }}.",
}
_CALL_REMEDY = "Use a filter: x | upper, x | length, x.y | default('z')."
#: A template with only one brace at its beginning, such as { event.x }}.
ONE_BRACE = re.compile(r"(?<!\{)\{\s*(?:event|headers)\b[^{}]*\}\}")


class TemplateMistakeError(Exception):
    """A template is invalid, regardless of the payload."""


class MalformedTemplateError(TemplateMistakeError):
    """The syntax of a template is invalid."""


class _Environment(ImmutableSandboxedEnvironment):
    """An environment that reads keys of the payload instead of Python attributes, and limits operators."""

    intercepted_binops = frozenset(["+", "-", "*", "**", "/", "//", "%"])

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return a member, or Missing. `_Limiter` replaces the lookups in templates: the path is unknown here."""
        return look_up(obj, argument)

    getattr = getitem  # type: ignore[assignment] # The key of getattr is always a string.

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return the result of an operator. Check the size of the result before Python computes the result."""
        budget = budget_of(context)
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, str | list | tuple) and isinstance(times, int):
                    budget.check_size(len(value) * times)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            if abs(left) > 1 and left.bit_length() * right > _MAX_POWER_BITS:
                raise RenderLimitError("The template produces a number that is out of range.")
        elif operator == "%" and isinstance(left, str):
            # Python formats a string with %, and a format such as %1000000000d pads the result.
            raise RenderError("The operator % is for numbers. Use ~ to join strings.")
        return budget.charge(super().call_binop(context, operator, left, right))


@pass_context
def _charge(context: Context, value: Any) -> Any:
    return budget_of(context).charge(value)


@pass_context
def _concatenate(context: Context, values: tuple[Any, ...]) -> Any:
    return budget_of(context).charge(filters.join(context, values))


@pass_context
def _count_steps(context: Context, values: Any) -> Any:
    return budget_of(context).count_steps(values)


def _require_defined(value: Any) -> Any:
    require_defined(value)
    return value


def _look_up(value: Any, key: Any, path: str) -> Any:
    """Return a member of the payload or of the variable `loop`, or Missing."""
    if isinstance(value, LoopContext) and key in _LOOP_MEMBERS:
        return getattr(value, key)
    return look_up(value, key, path)


def _look_up_computed(value: Any, key: Any, path: str) -> Any:
    """Return a member, or Missing with a message that doesn't repeat the key: the key may come from a payload."""
    require_defined(key)
    member = look_up(value, key)
    is_new = isinstance(member, Undefined) and not isinstance(value, Undefined)
    return Missing(f"{path}[…] is missing: the payload has no member with the computed key.") if is_new else member


def _require_no_text(value: Any) -> Any:
    """Return an operand of a condition. Text is neither true nor false: Jinja2 takes "false" for true."""
    if isinstance(value, str) and value:
        raise NotBooleanError(value)
    return value


@pass_context
def _finalize(context: Context, value: Any) -> str:
    """Return the value of `{{ … }}` as a part of a longer text."""
    return as_text(budget_of(context).charge(value))


# The optimizer would compute constant expressions, such as `9 ** 9 ** 9`, at startup and without a limit.
_ENVIRONMENT = _Environment(undefined=Missing, optimized=False, keep_trailing_newline=True, finalize=_finalize)
_ENVIRONMENT.globals = {}
_ENVIRONMENT.tests = dict(TESTS)
# A template can't contain a name with "=".
_ENVIRONMENT.filters = {
    **FILTERS,
    "=charge": _charge,
    "=concatenate": _concatenate,
    "=count_steps": _count_steps,
    "=require_defined": _require_defined,
    "=look_up": _look_up,
    "=look_up_computed": _look_up_computed,
    "=require_no_text": _require_no_text,
}


class _Limiter(NodeTransformer):
    """A transformer that adds filters to the parts of a template that an environment can't intercept."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """Return the node that replaces `node`."""
        path = _path(node.node) if isinstance(node, nodes.Getattr | nodes.Getitem) else ""
        node = self.generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For(iter=values):
                node.iter = _filtered("=count_steps", values)
            case nodes.Concat(nodes=parts):
                # Jinja2's own concatenation would convert true to "True", which isn't JSON.
                return _filtered("=concatenate", nodes.Tuple(parts, "load", lineno=node.lineno))
            case nodes.Compare() | nodes.Operand():
                # Without the filter, `event.missing in []` would be false instead of an error.
                node.expr = _filtered("=require_defined", node.expr)
            case nodes.Slice(start=start, stop=stop, step=step):
                bounds = (bound and _filtered("=require_defined", bound) for bound in (start, stop, step))
                node.start, node.stop, node.step = bounds
            case nodes.Getattr(node=value, attr=key):
                return _filtered("=look_up", value, nodes.Const(key), nodes.Const(path))
            case nodes.Getitem(node=value, arg=nodes.Const() as key):
                # An error message can repeat a literal key, but not a computed key, which may come from a payload.
                return _filtered("=look_up", value, key, nodes.Const(path))
            case nodes.Getitem(node=value, arg=key) if not isinstance(key, nodes.Slice):
                return _filtered("=look_up_computed", value, key, nodes.Const(path))
            case nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load"):
                return _filtered("=charge", node)
        return node


class _OperandChecker(NodeTransformer):
    """A transformer that rejects text as an operand of `and`, `or`, `not`, and `if`."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """Return the node that replaces `node`."""
        node = self.generic_visit(node, *args, **kwargs)
        match node:
            case nodes.And() | nodes.Or():
                node.left, node.right = (_filtered("=require_no_text", side) for side in (node.left, node.right))
            case nodes.Not():
                node.node = _filtered("=require_no_text", node.node)
            case nodes.CondExpr():
                node.test = _filtered("=require_no_text", node.test)
        return node


def _filtered(name: str, value: Any, *arguments: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(value, name, list(arguments), [], None, None, lineno=value.lineno)


def parse(text: str, names: Collection[str] = VARIABLES) -> nodes.Template:
    """Return the tree of a template. `names` contains the names of its variables.

    Raises:
        MalformedTemplateError: The syntax of the text is invalid.
        TemplateMistakeError: The template uses an unavailable name or feature, or exceeds a limit of Python.
    """
    try:
        tree = _ENVIRONMENT.parse(text)
        parts = list(tree.find_all(nodes.Node))
        for part in parts:
            _check_part(part)
        _check_names(tree, parts, names)
        return tree
    except TemplateSyntaxError as error:
        message = (error.message or "")[:200].rstrip(".")
        hint = next((hint for beginning, hint in _SYNTAX_HINTS.items() if message.startswith(beginning)), "")
        location = f" (line {error.lineno})" if "\n" in text.strip() else ""
        raise MalformedTemplateError(f"Not a valid template: {message}{location}.{hint}") from None
    except (RecursionError, ValueError, OverflowError) as error:
        raise TemplateMistakeError(f"Not a valid template ({type(error).__name__}).") from None


def has_comment(text: str) -> bool:
    """Return True if a template contains a comment of Jinja2."""
    return any(kind == "comment" for _, kind, _ in _ENVIRONMENT.lex(text))


def compile_tree(tree: nodes.Template, *, is_condition: bool) -> jinja2.Template:
    """Return the compiled form of a tree from `parse`, with the limits, and with the checks of a condition.

    Raises:
        TemplateMistakeError: The template has too many nested parts for Python's compiler.
    """
    try:
        checked = _OperandChecker().visit(tree) if is_condition else tree
        return _ENVIRONMENT.from_string(_Limiter().visit(checked))
    except (RecursionError, MemoryError, SyntaxError):
        raise TemplateMistakeError("Not a valid template: too many nested parts.") from None


def _check_part(node: nodes.Node) -> None:
    match node:
        case nodes.Call(node=nodes.Name(name=name) | nodes.Getattr(attr=name)):
            raise TemplateMistakeError(f"A template can't call anything, as in {name[:60]}(). {_call_remedy(name)}")
        case nodes.Call():
            raise TemplateMistakeError(f"A template can't call anything. {_CALL_REMEDY}")
        case nodes.TemplateData(data=text) if ONE_BRACE.search(text):
            raise TemplateMistakeError("A template begins with {{, not with {: {{ event.x }}.")
        case nodes.CondExpr(expr2=None):
            raise TemplateMistakeError("An inline if needs an else: 'a' if event.x else ''.")
        case nodes.Getitem(node=nodes.Name(name="headers"), arg=nodes.Const(value=str() as name)):
            if name != name.lower():
                raise TemplateMistakeError(f"Write the names of headers in lowercase: headers[{quoted(name.lower())}].")
        case nodes.Const(value=float() as number) if math.isinf(number):
            raise TemplateMistakeError("A number in the template is out of range.")
        case nodes.Filter():
            _check_arguments("filter", node)
            _check_filter(node)
        case nodes.Test():
            _check_arguments("test", node)
        case _ if not isinstance(node, _SUPPORTED):
            raise TemplateMistakeError(f"{type(node).__name__} isn't available in templates.")


def _call_remedy(name: str) -> str:
    return f"Use a filter: x | {name}." if name in FILTERS else filter_names.remedy_for(name, FILTERS) or _CALL_REMEDY


def _check_arguments(kind: Literal["filter", "test"], node: nodes.Filter | nodes.Test) -> None:
    _check_known(kind, node.name, FILTERS if kind == "filter" else TESTS)
    keywords: list[Any] = node.kwargs  # Jinja2's parser returns keywords, but declares pairs.
    names = [keyword.key for keyword in keywords]
    if node.dyn_args or node.dyn_kwargs or not filters.accepts_arguments(kind, node.name, len(node.args), names):
        raise TemplateMistakeError(f"The {kind} {node.name} doesn't accept these arguments.")
    literals = node.args[: _LITERAL_ARGUMENTS.get(node.name, 0)]
    literals += [keyword.value for keyword in keywords if keyword.key == "attribute"]
    if not all(isinstance(literal, nodes.Const) for literal in literals):
        raise TemplateMistakeError(
            f"The attributes, filters, and tests of {node.name} must be literals in the template."
        )


def _check_filter(node: nodes.Filter) -> None:
    keywords: list[Any] = node.kwargs
    named = {keyword.key: keyword.value for keyword in keywords}
    match node.name, node.args:
        case "map", [nodes.Const(value=name), *arguments]:
            _check_known("filter", str(name), FILTERS.keys() - _LITERAL_ARGUMENTS.keys())
            if name == "date":
                _check_date(arguments, named)
        case ("select" | "reject", [nodes.Const(value=name), *_]) | (
            "selectattr" | "rejectattr",
            [_, nodes.Const(value=name), *_],
        ):
            _check_known("test", str(name), TESTS)
        case "date", arguments:
            _check_date(arguments, named)


def _check_date(arguments: Sequence[nodes.Expr], named: Mapping[str, nodes.Expr]) -> None:
    """Check the literal arguments of the filter date."""
    values = {**dict(zip(("format", "tz"), arguments, strict=False)), **named}
    try:
        match values.get("format"):
            case nodes.Const(value=date_format):
                filters.check_date_format(date_format)
        match values.get("tz"):
            case nodes.Const(value=zone):
                # A hint takes too long for a time zone from a payload.
                if isinstance(zone, str) and not time_zone(zone) and (hint := closest(zone, time_zone_names())):
                    raise RenderError(f"date: there is no time zone {quoted(zone)}. Did you mean {hint}?")
                filters.check_time_zone(zone)
    except RenderError as error:
        raise TemplateMistakeError(str(error)) from None


def _check_known(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        remedy = filter_names.remedy_for(name, known) if kind == "filter" else None
        if remedy is None:
            hint = closest(name, known)
            remedy = f"Did you mean {hint}?" if hint else f"The {kind}s are: {', '.join(sorted(known))}."
        raise TemplateMistakeError(f"There is no {kind} {quoted(name)}. {remedy}")


def _check_names(tree: nodes.Template, parts: Sequence[nodes.Node], variables: Collection[str]) -> None:
    names = [part for part in parts if isinstance(part, nodes.Name)]
    # Find the names as meta.find_undeclared_variables does, but without the optimizer (see _ENVIRONMENT).
    generator = TrackingCodeGenerator(_ENVIRONMENT)
    generator.optimizer = None
    generator.visit(tree)
    # Jinja2 itself declares the name `self`, which stands for the blocks of a template.
    unknown = generator.undeclared_identifiers | ({"self"} & {name.name for name in names})
    unknown -= set(variables)
    for part in parts:
        match part:
            case nodes.Sub(left=left, right=nodes.Name(name=name)) if name in unknown or _root(left) == "headers":
                raise TemplateMistakeError("Put a name with a '-' in brackets: headers['x-name'].")
    for name in sorted(unknown):
        if any(node.name == name and node.ctx == "store" for node in names):
            raise TemplateMistakeError(f"{quoted(name)} isn't always set. Set the name before the if, too.")
        hint = _OTHER_LANGUAGES.get(name) or closest(name, variables)
        remedy = (
            f"Did you mean {hint}?"
            if hint
            else f"The names are: {', '.join(variables)}. Write a key of the payload as event{path_step(name)}, and "
            "text in quotes."
        )
        raise TemplateMistakeError(f"There is no name {quoted(name)}. {remedy}")


def _path(node: nodes.Expr) -> str:
    """Return the text of a dotted name, such as `event.list[0].name`, or "" for another expression."""
    steps: list[str] = []
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        match node:
            case nodes.Getattr(attr=key) | nodes.Getitem(arg=nodes.Const(value=key)):
                steps.append(path_step(key))
            case _:
                steps.append("[…]")
        node = node.node
    return node.name + "".join(reversed(steps)) if isinstance(node, nodes.Name) else ""


def _root(node: nodes.Expr) -> str | None:
    """Return the name at the beginning of a dotted name, or None for another expression."""
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        node = node.node
    return node.name if isinstance(node, nodes.Name) else None
