"""Templates: text with `{{ … }}`, and the conditions of `when`."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from jinja2 import TemplateError, UndefinedError, nodes

from handlers.hooks.templates import sandbox
from handlers.hooks.templates.filters import BUDGET, MissingNameError
from handlers.hooks.templates.limits import Budget, NotBooleanError, RenderError, as_json, json_type, require_defined
from handlers.hooks.templates.sandbox import MalformedTemplateError, TemplateMistakeError
from schemas.strict_json import JSON

T = TypeVar("T")

#: The beginnings of the parts of a template.
OPENINGS = ("{{", "{%", "{#")

#: The variable of a loop, such as `file in event.files`.
LOOP_VARIABLE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s+in\s")
_LOOP_FORM = "A loop must have the form NAME in LIST, such as: file in event.files."

# The variable with the value of a template that is one expression.
_RESULT = "result"
# The operators of other languages: &&, ||, a single =, and ! without =.
_OTHER_OPERATORS = re.compile(r"&&|\|\||(?<![=!<>])=(?!=)|!(?!=)")
_OPERATORS = "Compare with ==, and write and, or, and not."
# The exceptions that Jinja2, and Python's operators and methods, raise while a template is rendered.
_FAILURES = (
    TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError,
)  # fmt: skip


class MissingKeyError(RenderError):
    """A template uses a name that the payload doesn't have.

    `has_similar_name` is True if the payload has a nearly identical name, which the message gives.
    """

    def __init__(self, message: str, *, has_similar_name: bool = False) -> None:
        super().__init__(message)
        self.has_similar_name = has_similar_name


class Template:
    """A compiled template. If `is_expression`, the result keeps the type of the expression instead of becoming text.

    If `is_condition`, text is not allowed as an operand of `and`, `or`, `not`, and `if`. `has_comment` is True if
    Jinja2 drops a part of the text, `{# … #}`.
    """

    def __init__(
        self,
        source: str,
        tree: nodes.Template,
        *,
        is_expression: bool,
        is_condition: bool = False,
        has_comment: bool = False,
    ) -> None:
        self.source = source
        self.has_comment = has_comment
        self.is_expression = is_expression
        self._compiled = sandbox.compile_tree(tree, is_condition=is_condition)

    def render(self, variables: Mapping[str, JSON], budget: Budget) -> JSON:
        """Return the result. `variables` has the values of `event`, of `headers`, and of the loop variables.

        Raises:
            MissingKeyError: A name is missing.
            RenderError: The template fails on these values, or exceeds the budget.
        """
        return self._guard(lambda: as_json(self._evaluate(variables, budget), budget))

    def is_true(self, variables: Mapping[str, JSON], budget: Budget) -> bool:
        """Return the result of the condition. `variables` has the same values as in `render`.

        Raises:
            NotBooleanError: The result is neither true nor false, such as the text "false".
            MissingKeyError, RenderError: See `render`.
        """
        result = self._guard(lambda: _defined(self._evaluate(variables, budget)))
        if not isinstance(result, bool):
            raise NotBooleanError(result)
        return result

    def iterate(self, variables: Mapping[str, JSON], budget: Budget) -> Iterator[Any]:
        """Yield the items of the list that is the result, and count one step for each item.

        Raises:
            MissingKeyError: A name is missing.
            RenderError: The result isn't a list, the template fails on these values, or exceeds the budget.
        """
        values = self._guard(lambda: _defined(self._evaluate(variables, budget)))
        if not isinstance(values, list | tuple):
            raise RenderError(f"for needs a list, but the value is {json_type(values)}.{_list_hint(values)}")
        return budget.count_steps(values)

    def _evaluate(self, variables: Mapping[str, JSON], budget: Budget) -> Any:
        context = self._compiled.new_context({**variables, BUDGET: budget})
        parts, size = [], 0
        for part in self._compiled.root_render_func(context):
            size += len(part)
            budget.check_size(size)
            parts.append(part)
        return budget.charge(context.vars[_RESULT]) if self.is_expression else "".join(parts)

    @staticmethod
    def _guard(function: Callable[[], T]) -> T:
        """Return the result of `function`. Replace an error whose message could contain a part of the payload."""
        try:
            return function()
        except UndefinedError as error:
            has_similar_name = isinstance(error, MissingNameError) and error.has_similar_name
            raise MissingKeyError(str(error), has_similar_name=has_similar_name) from None
        except (TypeError, ZeroDivisionError) as error:
            # Python's messages for these errors name types, not values.
            raise RenderError(f"The template fails on this payload: {str(error).rstrip('.')}.") from None
        except _FAILURES as error:
            raise RenderError(f"The template fails on this payload ({type(error).__name__}).") from None


def _defined(value: Any) -> Any:
    require_defined(value)
    return value


def _list_hint(value: Any) -> str:
    return " For pairs of a key and a value, append: | items." if isinstance(value, dict) else ""


def is_template(text: str) -> bool:
    """Return True if `text` is a template, and not a literal."""
    return any(opening in text for opening in OPENINGS) or bool(sandbox.ONE_BRACE.search(text))


@lru_cache(maxsize=1024)
def compile_template(text: str, max_length: int, names: tuple[str, ...] = sandbox.VARIABLES) -> Template:
    """Return a compiled template. `max_length` is the maximum length of the text, in characters.

    `names` contains the names of the variables.

    Raises:
        TemplateMistakeError: The template is invalid.
    """
    tree = _parse(text, max_length, names)
    match tree.body:
        # The text is only `{{ … }}`, without a comment or whitespace around the braces.
        case [nodes.Output(nodes=[expression])] if text.startswith("{{") and text.endswith("}}"):
            return Template(text, _assignment(expression), is_expression=True)
        case _:
            return Template(text, tree, is_expression=False, has_comment=sandbox.has_comment(text))


@lru_cache(maxsize=1024)
def compile_condition(text: str, max_length: int, names: tuple[str, ...] = sandbox.VARIABLES) -> Template:
    """Return a compiled condition: an expression without braces. `max_length` is its maximum length, in characters.

    `names` contains the names of the variables.

    Raises:
        TemplateMistakeError: The condition is invalid.
    """
    if "{{" in text or sandbox.ONE_BRACE.search(text):
        raise TemplateMistakeError("A condition has no braces: event.x == 'y'.")
    try:
        tree = _parse(f"{{{{ ({text}) }}}}", max_length, names)
    except MalformedTemplateError:
        # Jinja2's message describes the template around the condition.
        remedy = _OPERATORS if _OTHER_OPERATORS.search(text) else "Write a comparison, such as event.x == 'y'."
        raise TemplateMistakeError(
            f"Not a valid condition: the expression is incomplete or has an extra character. {remedy}"
        ) from None
    match tree.body:
        case [nodes.Output(nodes=[expression])] if not isinstance(expression, nodes.TemplateData | nodes.Tuple):
            return Template(text, _assignment(expression), is_expression=True, is_condition=True)
        case _:
            raise TemplateMistakeError("A condition must be one expression without braces.")


def compile_loop(text: str, max_length: int, names: tuple[str, ...]) -> tuple[str, Template]:
    """Return the loop variable and the compiled list of a loop such as `file in event.files`.

    `max_length` is the maximum length of the text, in characters. `names` contains the names of the other variables.

    Raises:
        TemplateMistakeError: The text has another form, or the name of the variable is in use.
    """
    if any(opening in text for opening in OPENINGS):
        raise TemplateMistakeError("A loop has no braces: file in event.files.")
    variable = LOOP_VARIABLE.match(text)
    if not variable:
        raise TemplateMistakeError(_LOOP_FORM)
    # Jinja2 itself declares the variable `loop` in a loop.
    if variable[1] in (*names, "loop"):
        raise TemplateMistakeError(f"{variable[1]} is already the name of a variable. Choose another name.")
    try:
        tree = _parse(f"{{% for {text} %}}{{% endfor %}}", max_length, names)
    except MalformedTemplateError:
        # Jinja2's message describes the template around the loop.
        raise TemplateMistakeError(_LOOP_FORM) from None
    match tree.body:
        case [nodes.For(target=nodes.Name(name=name), iter=nodes.Expr() as items, test=None, recursive=False, body=[])]:
            return name, Template(text, _assignment(items), is_expression=True)
        case [nodes.For(test=nodes.Node())]:
            raise TemplateMistakeError("Write the condition of a loop as a key of its own: if.")
        case _:
            raise TemplateMistakeError(_LOOP_FORM)


def _parse(text: str, max_length: int, names: tuple[str, ...]) -> nodes.Template:
    if len(text) > max_length:
        raise TemplateMistakeError(f"A template must have at most {max_length} characters (RELAY_MAX_BODY_BYTES).")
    return sandbox.parse(text, names)


def _assignment(expression: nodes.Expr) -> nodes.Template:
    """Return a template that assigns `expression` to a variable, as Jinja2's Environment.compile_expression does."""
    return nodes.Template([nodes.Assign(nodes.Name(_RESULT, "store"), expression, lineno=1)], lineno=1)
