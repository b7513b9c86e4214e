"""Taking secrets out of what is shown by value, wherever they turn up."""

import json
import re
from collections.abc import Collection, Iterable

from schemas.encodings import ENCODED, decoded, forms
from schemas.redaction import MARK
from schemas.strict_json import JSON

# In characters. A shorter value is a part of too many words: it only counts where it stands alone.
_DISTINCTIVE = 4
# A key says what a value is, and mostly is a word: a shorter value is only looked for in keys if it is none.
_DISTINCTIVE_WORD = 8
# What looking may cost, in characters times values: 0.3 s, measured on the worst that came to mind. A short value
# costs as much as fifty.
_MOST_WORK = 200_000_000
_SHORT_COSTS = 50
# What looking into what is encoded may cost, likewise: 0.5 s.
_MOST_DECODED = 3_000_000

_written = json.JSONEncoder(ensure_ascii=False).encode


class Redactor:
    r"""Takes values out of JSON.

    A value that stands there as it is is replaced, and what is around it stays. A text in which one is found only
    when it is decoded, as web formats encode (`%40`, `&#64;`, `\u0040`, in up to three layers), goes as a whole.
    """

    def __init__(self, values: Iterable[str]) -> None:
        self._values = frozenset(values)
        distinct = {form for value in self._values if value for form in forms(value)}
        # The longest first: a value that is part of another must not leave the rest of it standing.
        ordered = sorted(distinct, key=len, reverse=True)
        self._long = [form for form in ordered if len(form) >= _DISTINCTIVE]
        self._short = [form for form in ordered if len(form) < _DISTINCTIVE]
        #: The long ones as JSON writes them.
        self._as_written = [(_written(form)[1:-1], form) for form in self._long]

    def and_also(self, values: Collection[str]) -> "Redactor":
        """One that takes these out, too."""
        return Redactor([*self._values, *values]) if values else self

    def json(self, value: JSON) -> JSON:
        """`value` without the values: in strings, in keys, and as numbers.

        Where looking for them would take too long, nothing of `value` is left.
        """
        whole = _written(value)
        if len(whole) * (len(self._long) + _SHORT_COSTS * len(self._short)) > _MOST_WORK:
            return MARK
        # One look over the whole, at the speed of C, tells which are there: mostly none.
        present = [form for written, form in self._as_written if written in whole]
        if not (present or self._short or ENCODED.search(whole)):
            return value
        alone = "|".join(map(re.escape, self._short))
        look = _Look(self._long, present, re.compile(rf"(?<!\w)(?:{alone})(?!\w)") if alone else None)
        shown = look.walk(value)
        # An escape can have eaten a value's first digit, and give it back where it is written again.
        left = _written(shown) if present else ""
        return MARK if any(form in left for form in filter(_is_no_word, present)) else shown


class _Look:
    """One look through an answer: `values` that are looked for, those `present` as they are, and the `alone` ones."""

    def __init__(self, values: list[str], present: list[str], alone: re.Pattern[str] | None) -> None:
        self._values = values
        self._present = present
        self._alone = alone
        self._present_in_keys = list(filter(_is_no_word, present))
        self._in_keys = list(filter(_is_no_word, values))
        self._left = _MOST_DECODED

    def walk(self, value: JSON) -> JSON:
        """`value` without the values."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.walk(each) for each in value]
        if isinstance(value, dict):
            shown: dict[str, JSON] = {}
            for key, each in value.items():
                name = self._key(key)
                while name in shown:
                    name = f"{name}{len(shown)}"
                shown[name] = self.walk(each)
            return shown
        if isinstance(value, int | float) and not isinstance(value, bool):
            digits = str(value)
            return value if self._text(digits) == digits else MARK
        return value

    def _text(self, text: str) -> str:
        for value in self._present:
            text = text.replace(value, MARK)
        hidden = (self._alone and self._alone.search(text)) or self._holds_encoded(text, self._values)
        return MARK if hidden else text

    def _key(self, key: str) -> str:
        hidden = any(value in key for value in self._present_in_keys) or self._holds_encoded(key, self._in_keys)
        return MARK if hidden else key

    def _holds_encoded(self, text: str, values: list[str]) -> bool:
        """Whether one of `values` is in `text` when that is decoded; also where there is too much to decode."""
        if not ENCODED.search(text):
            return False
        self._left -= len(text) * max(len(values), 1)
        return self._left < 0 or any(value in each for each in decoded(text) for value in values)


def _is_no_word(value: str) -> bool:
    return len(value) >= _DISTINCTIVE_WORD or not value.isalpha()
