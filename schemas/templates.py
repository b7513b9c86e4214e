"""Templates: text with `{{ … }}` in it, and conditions. A payload's text in them is only ever data."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Template as CompiledTemplate
from jinja2 import TemplateError, UndefinedError, nodes

from schemas import filters
from schemas.bounds import Budget, Failed, as_json
from schemas.dialect import ENVIRONMENT, Bounded
from schemas.strict_json import JSON
from schemas.vetting import TOO_DEEP, Mistake, parsed

_OPENINGS = ("{{", "{%", "{#")
_RESULT = "result"
# How conditions are written elsewhere.
_OTHER_LANGUAGES = re.compile(r"&&|\|\||(?<![=!<>])=(?!=)|!(?!=)")
# What goes wrong while a template is computed: what Jinja2 says, and what Python says of values that don't fit.
_FAILURES = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class Missing(Failed):
    """A template names what the payload doesn't have."""


class Template:
    """A compiled template. `native`: it is one `{{ … }}` and nothing else, and keeps its value's own type."""

    def __init__(self, source: str, native: bool, compiled: CompiledTemplate) -> None:
        self.source = source
        self.native = native
        self._compiled = compiled

    def render(self, variables: Mapping[str, JSON], budget: Budget) -> JSON:
        """What it makes of `variables`, the VARIABLES. Raises Missing, Failed."""
        try:
            value = as_json(self._value(variables, budget)) if self.native else self._text(variables, budget)
            return budget.written(value)
        except Failed:
            raise
        except _FAILURES as error:
            raise _failed(error) from None

    def holds(self, variables: Mapping[str, JSON], budget: Budget) -> bool:
        """Whether what it makes is true, as a condition. Raises Missing, Failed."""
        try:
            return bool(self._value(variables, budget))
        except Failed:
            raise
        except _FAILURES as error:
            raise _failed(error) from None

    def _value(self, variables: Mapping[str, JSON], budget: Budget) -> Any:
        module = self._compiled.make_module({**variables, filters.BUDGET: budget})
        return budget.measured(getattr(module, _RESULT))

    def _text(self, variables: Mapping[str, JSON], budget: Budget) -> JSON:
        parts, size = [], 0
        for part in self._compiled.generate({**variables, filters.BUDGET: budget}):
            size += len(part)
            budget.room(size)
            parts.append(part)
        return as_json("".join(parts))


def _failed(error: Exception) -> Failed:
    """`error` as one that says nothing of the payload."""
    if isinstance(error, UndefinedError):
        return Missing(str(error))
    if isinstance(error, TypeError | ZeroDivisionError):
        return Failed(f"It fails on this payload: {str(error).rstrip('.')}.")
    return Failed(f"It fails on this payload ({type(error).__name__}).")


def is_template(text: str) -> bool:
    """Whether `text` is one to be computed, rather than the literal that it is."""
    return any(opening in text for opening in _OPENINGS)


@lru_cache(maxsize=1024)
def template(text: str, most: int) -> Template:
    """`text`, compiled; it may have at most `most` characters. Raises Mistake."""
    tree = _parsed(text, most)
    match tree.body:
        # Nothing before it and nothing behind it, not even a comment or white space that it takes away.
        case [nodes.Output(nodes=[expression])] if text.startswith("{{") and text.endswith("}}"):
            return _compiled(text, _assignment(expression), native=True)
        case _:
            return _compiled(text, tree, native=False)


@lru_cache(maxsize=1024)
def condition(text: str, most: int) -> Template:
    """An expression, without braces, compiled; as `template` does. Raises Mistake."""
    if "{{" in text:
        raise Mistake("A condition has no braces, as event.x == 'y'.")
    try:
        tree = _parsed(f"{{{{ ({text}) }}}}", most)
    except Mistake as mistake:
        hint = " Compare with ==; write and, or, not." if _OTHER_LANGUAGES.search(text) else ""
        raise Mistake(f"{mistake}{hint}") from None
    match tree.body:
        case [nodes.Output(nodes=[expression])] if not isinstance(expression, nodes.TemplateData | nodes.Tuple):
            return _compiled(text, _assignment(expression), native=True)
        case _:
            raise Mistake("Must be one expression, without braces.")


def _assignment(expression: nodes.Expr) -> nodes.Template:
    """A template whose only work is to name a value, for the module that it makes to give it out."""
    name = nodes.Name(_RESULT, "store", lineno=1)
    tree = nodes.Template([nodes.Assign(name, expression, lineno=1)], lineno=1)
    tree.set_environment(ENVIRONMENT)
    return tree


def _parsed(text: str, most: int) -> nodes.Template:
    if len(text) > most:
        raise Mistake(f"Must be at most {most} characters (RELAY_MAX_BODY_BYTES).")
    return parsed(text)


def _compiled(text: str, tree: nodes.Template, *, native: bool) -> Template:
    try:
        rewritten = Bounded().visit(tree)
        code = ENVIRONMENT.compile(rewritten)
        return Template(text, native, CompiledTemplate.from_code(ENVIRONMENT, code, {}))
    except (RecursionError, MemoryError, SyntaxError):
        # Of loops Python takes 20 in each other.
        raise Mistake(TOO_DEEP) from None
