"""Limits on the cost of templates.

The function trusts the author of a template, but not the sender of a payload. A payload can make a harmless template
expensive: `'x' * event.count`, or a loop over a long list inside a loop over a long list. Python can't interrupt a
single operation, so every operation must be small: no value that a template produces can be larger than the largest
request body.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

from jinja2 import Undefined

from schemas.strict_json import JSON, ExactNumber, dump_text, exact_numbers, parse_text

#: The maximum number of steps of all loops for one event.
MAX_STEPS = 100_000

# The maximum size of all values for one event together, as a multiple of the maximum size of one value.
_MAX_VALUES = 8
# A double can't represent an integer with more bits.
_MAX_INTEGER_BITS = 1024


class RenderError(Exception):
    """A template fails on a payload.

    The sender and the log receive the message. Therefore, the message must not contain any part of the payload.
    """


class NotBooleanError(RenderError):
    """A condition, or an operand of a condition, is neither true nor false."""

    def __init__(self, value: object) -> None:
        kind, comparison = _COMPARISONS.get(type(value), _OTHER_COMPARISON)
        super().__init__(f"The result is {kind}, not true or false. Compare the value, as in: {comparison}.")


def json_type(value: object) -> str:
    """Return the name of the JSON type of a value, such as "a list"."""
    return _COMPARISONS.get(type(value), _OTHER_COMPARISON)[0]


# The name of a JSON type, and a comparison that results in true or false.
_COMPARISONS: Mapping[type, tuple[str, str]] = {
    str: ("text", 'event.x == "true"'),
    int: ("a number", "event.x == 1"),
    float: ("a number", "event.x > 0"),
    ExactNumber: ("a number", "event.x > 0"),
    list: ("a list", "event.x | length > 0"),
    tuple: ("a list", "event.x | length > 0"),
    dict: ("an object", 'event.x.status == "done"'),
    type(None): ("null", "event.x is not none"),
    bool: ("true or false", "event.x"),
}
# An intermediate value can have a type that JSON doesn't have.
_OTHER_COMPARISON = ("of another type", "event.x == 1")


class RenderLimitError(RenderError):
    """A template exceeds a limit on its cost."""


def require_defined(*values: object) -> None:
    """Raise UndefinedError if a value is missing. Jinja2 accepts a missing value in expressions such as `x in []`."""
    for value in values:
        if isinstance(value, Undefined):
            str(value)


def _reject(value: object) -> NoReturn:
    require_defined(value)
    raise RenderError(f"The template produces a value of the type {type(value).__name__}, which JSON doesn't have.")


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_reject, allow_nan=False)
# An intermediate value can contain NaN.
_MEASURED = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_reject)


class Budget:
    """The remaining budget of all templates for one event. Each method raises RenderLimitError beyond a limit.

    `max_text` is the maximum size of a value, and of all results together, in characters of text or JSON. `expired`
    returns True after the deadline. `steps` is the remaining number of loop steps.
    """

    def __init__(self, max_text: int, expired: Callable[[], bool] = lambda: False, steps: int = MAX_STEPS) -> None:
        self.max_text = max_text
        self.expired = expired
        self.steps = steps
        self._values = max_text * _MAX_VALUES
        self._results = max_text

    def check_deadline(self) -> None:
        """Check that the deadline has not passed."""
        if self.expired():
            raise RenderLimitError("The deadline for this event has passed.")

    def check_size(self, size: int) -> None:
        """Check the size of a value before the template produces the value."""
        if size > self.max_text:
            raise RenderLimitError(f"The template produces a value of more than {self.max_text} characters.")

    def count_steps(self, values: Iterable[Any]) -> Iterator[Any]:
        """Yield the values of a loop, and count one step for each value."""
        for value in values:
            self.check_deadline()
            self.steps -= 1
            if self.steps < 0:
                raise RenderLimitError(f"The loops for this event take more than {MAX_STEPS} steps.")
            yield value

    def charge(self, value: Any) -> Any:
        """Subtract the size of a value that a template has produced, and return the value.

        The result of a filter such as `map` is an iterator, which becomes a list.
        """
        self.check_deadline()
        if isinstance(value, Iterator):
            values = []
            for item in value:
                require_defined(item)
                values.append(self.charge(item))
            return values
        if isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS:
            raise RenderLimitError("The template produces a number that is out of range.")
        if isinstance(value, str):
            self._charge_value(len(value))
        elif isinstance(value, list | tuple | dict):
            # Measure part by part: the whole text can exceed the memory, as for [event.list] * event.count.
            size = 0
            for part in _MEASURED.iterencode(value):
                size += len(part)
                self.check_size(size)
            # _MEASURED doesn't know the text of these numbers.
            for number in exact_numbers(value):
                size += len(number.text)
                self.check_size(size)
            self._charge_value(size)
        return value

    def charge_result(self, size: int) -> None:
        """Subtract the size of the result of a template."""
        self._results -= size
        if self._results < 0:
            raise RenderLimitError(f"The results for this event have more than {self.max_text} characters.")

    def _charge_value(self, size: int) -> None:
        self.check_size(size)
        self._values -= size
        if self._values < 0:
            raise RenderLimitError("The templates for this event produce too many values.")


def as_text(value: Any) -> str:
    """Return a value as a part of a longer text: a string unchanged, and any other value as JSON.

    Raises:
        RenderError: JSON can't represent the value.
    """
    if isinstance(value, str):
        return value
    try:
        return dump_text(value, _JSON)
    except ValueError:
        raise RenderError(
            "The template produces a number that JSON doesn't have: NaN, an infinity, or a number out of range."
        ) from None


def as_json(value: Any, budget: Budget) -> JSON:
    """Return the result of a template: a JSON value that is independent of the objects of the payload.

    Raises:
        RenderError: JSON can't represent the value, or the results for this event are too large.
    """
    text = as_text(value)
    budget.charge_result(len(text))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RenderError("The template produces text with a lone surrogate, which isn't a character.") from None
    return text if isinstance(value, str) else parse_text(text)
