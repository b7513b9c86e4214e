"""Output for people: colors, lines that fit on the terminal, JSON, and the function's log."""

import io
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

# Bold, dim, and standard colors, which are readable on a light and on a dark background.
_COLORS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}
_SEVERITIES = {"DEBUG": "dim", "INFO": "cyan", "WARNING": "bold", "ERROR": "red", "CRITICAL": "red"}
# The fields of a log line that the message already contains, or that only Cloud Logging uses.
_OMITTED = ("severity", "message", "httpRequest", "stack_trace")
_CLOUD_PREFIX = "logging.googleapis.com/"
_MIN_WIDTH, _MAX_WIDTH = 40, 110


def accept_all_characters() -> None:
    """Escape the characters that the encoding of the standard output doesn't support, instead of raising an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def paint(color: str, text: str) -> str:
    """Return `text` in color, if the standard output is a terminal that allows color (https://no-color.org)."""
    is_allowed = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{_COLORS[color]}m{text}\x1b[0m" if is_allowed else text


def width() -> int:
    """Return the width of the text in columns: 80 without a terminal, and at most 110, which is still readable."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, _MIN_WIDTH), _MAX_WIDTH)


def printable(text: str) -> str:
    """Return `text` with escapes for the characters that could control the terminal or hide a part of the text."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def columns_of(text: str) -> int:
    """Return the number of columns that a terminal needs for `text`."""
    return sum(_character_columns(each) for each in text)


def _character_columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrap(text: str, columns: int) -> list[str]:
    """Return `text` as lines of at most `columns`, preferably broken at spaces. Further lines have more indentation."""
    own_indent = len(text) - len(text.lstrip())
    indent = " " * min(own_indent + 2, columns // 2)
    lines = []
    while columns_of(text) > columns:
        cut = used = 0
        while used + _character_columns(text[cut]) <= columns:
            used += _character_columns(text[cut])
            cut += 1
        space = text.rfind(" ", 0, cut + 1)
        # A long word, such as a URL, continues on the same line.
        cut = space if space > max(len(indent), cut // 2) else cut
        lines.append(text[:cut].rstrip())
        text = indent + text[cut:].lstrip()
    return [*lines, text]


def format_json(value: Any, columns: int, indent: str = "") -> str:
    """Return `value` as JSON, with a line for each object or list that fits on a line."""
    text = json.dumps(value, ensure_ascii=False)
    if columns_of(indent + text) <= columns or not value or not isinstance(value, dict | list):
        return text
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {format_json(value[key], columns, inner)}" for key in value]
    else:
        parts = [format_json(element, columns, inner) for element in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{closing}"


def readable(line: str, *, clock: str = "") -> str:
    """Return a line of the function's log for people: `clock`, the message, and below it the other fields.

    A line that isn't a log entry stays as it is. No value can control the terminal, because a sender chooses some of
    the values.
    """
    try:
        entry = json.loads(line)
    except ValueError:
        return printable(line)
    if not (isinstance(entry, dict) and {"severity", "message"} <= entry.keys()):
        return printable(line)
    severity = printable(str(entry["severity"]))
    indent = " " * len(f"{clock}{severity:<8} ")
    first, *more = wrap(printable(str(entry["message"])), width() - len(indent))
    label = paint(_SEVERITIES.get(severity, "bold"), severity) + " " * (8 - len(severity))
    lines = [f"{clock}{label} {first}", *(indent + line for line in more)]
    return "\n".join([*lines, *(paint("dim", line) for line in _details(entry, indent))])


def _details(entry: dict[str, Any], indent: str) -> Iterator[str]:
    """Yield the lines with the other fields of a log entry."""
    fields = {
        name: value
        for name, value in entry.items()
        if name not in _OMITTED and not name.startswith(_CLOUD_PREFIX) and value is not None
    }
    simple = {name: value for name, value in fields.items() if not isinstance(value, dict | list)}
    if simple:
        text = "  ".join(f"{name}={printable(str(value))}" for name, value in simple.items())
        yield from wrap(indent + text, width())
    for name, value in fields.items():
        if name not in simple:
            yield from wrap(f"{indent}{name}: {printable(json.dumps(value, ensure_ascii=False))}", width())
    for line in str(entry.get("stack_trace", "")).splitlines():
        yield indent + printable(line)
