"""Hints for mistakes in the syntax of YAML: the probable cause, from the lines around the mistake.

PyYAML describes the token that it can't use. In relay.yaml, the cause is mostly a template without quotes, quotes
inside quotes, or the indentation of a key.
"""

import re
from collections.abc import Sequence

_QUOTES_INSIDE = (
    "The value has {kind} quotes inside {kind} quotes, and so ends too early. Put the whole value in {other} quotes, "
    "or use {other} quotes inside."
)
_IN_QUOTES = "Put the whole value in quotes."
# A value in quotes that contains the beginning of a template, but not its end, and more text behind the value.
_DOUBLE_INSIDE = re.compile(r'"(?:[^"\\]|\\.)*\{[{%](?:(?![}%]\})(?:[^"\\]|\\.))*"\s*[^\s,}\]:]')
_SINGLE_INSIDE = re.compile(r"'(?:[^']|'')*\{[{%](?:(?![}%]\})(?:[^']|''))*'\s*[^\s,}\]:]")
# The beginning of a line up to a value without quotes.
_BEFORE_VALUE = r"^(?:[^'\"#]*(?:[:,\[{-]\s+|\[))?"
_ONE_BRACE = re.compile(_BEFORE_VALUE + r"\{\s*(?:event|headers)\b.*\}\}")
_DOLLAR = re.compile(r"\$\{\{")
_COMMENT = re.compile(_BEFORE_VALUE + r"\{#")
_TEMPLATE = re.compile(_BEFORE_VALUE + r"\{[{%]")
_KEY = re.compile(r"(\s*)(?:- +)?[\w.-]+:(?:\s|$)")
# The beginning of the next block in a place where PyYAML expects the end of a block.
_BLOCK = re.compile(
    r"expected (?:<block end>|'<document start>'), but found '(?:\?|-|<block (?:mapping|sequence) start>)'"
)

_SPECIAL_CHARACTER = "Put a value with a special character in quotes."
# The hints for the other mistakes, by a part of PyYAML's description.
_HINTS = {
    "found character '\\t'": "Indent with spaces, not with tabs.",
    "found '<scalar>'": (
        "Text follows the closing quote of a value. If the value contains quotes, use other quotes around it."
    ),
    "expected <block end>": _SPECIAL_CHARACTER,
    "found '}'": _SPECIAL_CHARACTER,
    "found ']'": _SPECIAL_CHARACTER,
    "cannot start any token": _SPECIAL_CHARACTER,
    "got '{'": _SPECIAL_CHARACTER,
    "expected ','": "Close each { and each [, and put a value with a special character in quotes.",
    "unexpected end of stream": "A value has no closing quote.",
    "found another document": "Put everything into one document.",
}


def hint_for(problem: str, lines: Sequence[str], index: int) -> str:
    """Return a hint, or "" if the cause is unknown.

    `problem` is PyYAML's description of the mistake. `lines` has the lines of the text, and `index` is the index of the
    line with the mistake.
    """
    line = lines[index]
    if _DOUBLE_INSIDE.search(line):
        return _QUOTES_INSIDE.format(kind="double", other="single")
    if _SINGLE_INSIDE.search(line):
        return _QUOTES_INSIDE.format(kind="single", other="double")
    if _ONE_BRACE.search(line):
        return 'A template begins with {{, and the whole value must be in quotes: "{{ event.x }}".'
    if "got '{'" in problem and _DOLLAR.search(line):
        return 'Remove the $, and put the whole value in quotes: "{{ event.x }}".'
    if _TEMPLATE.search(line):
        return f"{_IN_QUOTES} In YAML, {{ begins an object."
    # YAML reads the rest of the line as a comment, and detects the mistake in a later line.
    for number, earlier in enumerate(lines[: index + 1], 1):
        if problem.startswith(("expected the node content", "expected ','")) and _COMMENT.search(earlier):
            return f"In line {number}, {{# begins an object and a comment. {_IN_QUOTES}"
    return _general_hint(problem, lines, index)


def _general_hint(problem: str, lines: Sequence[str], index: int) -> str:
    if _BLOCK.match(problem):
        return "The line has the wrong indentation. Begin all keys of an object in the same column."
    if problem.startswith("mapping values are not allowed"):
        number = _line_with_less_indentation(lines, index)
        if not number:
            return "Put a value that contains ': ' in quotes."
        return (
            f"The line has more indentation than line {number}, whose key already has a value. Correct the indentation "
            "of one of these lines."
        )
    return next((hint for part, hint in _HINTS.items() if part in problem), "")


def _line_with_less_indentation(lines: Sequence[str], index: int) -> int:
    """Return the number of the line before the line `index`, if the key of that line is further left.

    Empty lines don't count. Return 0 if the key isn't further left, or if one of the two lines has no key.
    """
    previous = next((number for number in range(index, 0, -1) if lines[number - 1].strip()), 0)
    key, previous_key = _KEY.match(lines[index]), _KEY.match(lines[previous - 1]) if previous else None
    return previous if key and previous_key and len(previous_key[1]) < len(key[1]) else 0
