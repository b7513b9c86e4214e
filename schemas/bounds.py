"""What a template may cost: every value that it makes is measured, every step of its loops is counted.

Whoever writes a template, or the payload for one, can ask for `'a' * 10 ** 9`, for a list that holds itself twice and
forty times over, or for loops in loops. No single operation is interruptible, so each is kept small: whatever it
takes in and gives out is no larger than the largest body that a sender may send.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from jinja2 import Undefined

from schemas.strict_json import JSON

#: Steps of all loops for one event.
MAX_STEPS = 100_000
#: Levels of lists and objects in a value.
_MAX_DEPTH = 128
#: What all values that are made for one event come to, in texts of the largest size.
_MAX_TEXTS = 8
#: Bits of a whole number: a double holds no larger one.
_MAX_BITS = 1024


class Failed(Exception):
    """A template fails on a payload. The message is for the sender and the log: it holds nothing of the payload."""


class TooMuch(Failed):
    """A template asks for more than it may cost."""


class Budget:
    """What is left for the templates of one event, and whether its time is up."""

    def __init__(self, text: int, expired: Callable[[], bool] = lambda: False, steps: int = MAX_STEPS) -> None:
        """`text` is the size of the largest value, in characters of JSON, more or less."""
        self.text = text
        self.expired = expired
        self.steps = steps
        self._made = text * _MAX_TEXTS
        self._written = text + 1

    def check(self) -> None:
        """Raises TooMuch when the time is up."""
        if self.expired():
            raise TooMuch("The time is up.")

    def step(self) -> None:
        """Counts one step of a loop. Raises TooMuch."""
        self.check()
        self.steps -= 1
        if self.steps < 0:
            raise TooMuch(f"Its loops take more than {MAX_STEPS} steps.")

    def room(self, size: int) -> None:
        """Raises TooMuch for a value of more than the largest size; to ask before it is made."""
        if size > self.text:
            raise TooMuch(f"It makes a value of more than {self.text} characters.")

    def measured(self, value: Any) -> Any:
        """`value`, counted; what is made on the way to others is made a list of. Raises TooMuch, Failed.

        A missing name is no value yet: on its own it passes, for `default` and `is defined`.
        """
        self.check()
        if isinstance(value, Undefined):
            return value
        if not isinstance(value, str | int | float | list | tuple | dict | None):
            # What a filter yields one by one, measured as it comes: never made whole when it is too large.
            made = []
            size = 1
            for each in _iterated(value):
                size += _size(each, self.text - size, 1)
                made.append(each)
            value = made
        else:
            size = _size(value, self.text, 0)
        self._made -= size
        if self._made < 0:
            raise TooMuch("It makes too many values on its way.")
        return value

    def written(self, value: JSON) -> JSON:
        """`value`, counted as part of what goes out for this event. Raises TooMuch."""
        self._written -= _size(value, self.text, 0)
        if self._written < 0:
            raise TooMuch(f"What it makes, with the rest for this event, is more than {self.text} characters.")
        return value


def present(*values: object) -> None:
    """Raises UndefinedError where something is missing: Jinja2 itself lets some of it pass."""
    for each in values:
        if isinstance(each, Undefined):
            str(each)


def _iterated(value: Any) -> Iterable[Any]:
    if not hasattr(value, "__next__"):
        _no_json(value)
    found: Iterable[Any] = value
    return found


def _no_json(value: object) -> NoReturn:
    present(value)
    raise Failed(f"It makes a {type(value).__name__}, which JSON has no value for.")


def _size(value: Any, most: int, depth: int) -> int:
    """The size of `value`, counted only as far as it is at most `most`. Raises TooMuch, Failed."""
    if isinstance(value, str):
        size = len(value) + 1
    elif isinstance(value, bool | None):
        size = 5
    elif isinstance(value, float):
        size = len(repr(value))
    elif isinstance(value, int):
        bits = value.bit_length()
        if bits > _MAX_BITS:
            raise TooMuch("It makes a number that is out of range.")
        size = bits * 3 // 10 + 1
    elif isinstance(value, dict | list | tuple):
        if depth >= _MAX_DEPTH:
            raise TooMuch(f"It makes a value of more than {_MAX_DEPTH} levels.")
        size = 1
        for key, each in value.items() if isinstance(value, dict) else (("", each) for each in value):
            if not isinstance(key, str):
                raise Failed("It makes an object with a key that is no string.")
            size += len(key)
            size += _size(each, most - size, depth + 1)
    else:
        _no_json(value)
    if size > most + 1:
        raise TooMuch("It makes a value that is too large.")
    return size


def as_text(value: Any) -> str:
    """A value inside a longer text: a string as it is, anything else as JSON. Raises Failed.

    `value` is one that was measured.
    """
    if isinstance(value, str):
        return value
    present(value)
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise Failed("It makes a number that JSON has none for.") from None
    except TypeError:
        _no_json(value)


def as_json(value: Any) -> JSON:
    """A value that stands alone, as JSON of its own: nothing of it is shared with the payload. Raises Failed.

    `value` is one that was measured.
    """
    text = as_text(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Failed("It makes text that is not Unicode: half of a surrogate pair.") from None
    result: JSON = text if isinstance(value, str) else json.loads(text)
    return result
