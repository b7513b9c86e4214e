"""YAML that says what it seems to say: plain JSON values, by the core schema of YAML 1.2.

PyYAML reads YAML 1.1, where `no` is false, `2026-11-22` a date, `0123` is 83 and `1:30` is 90; of two equal keys it
keeps the last in silence. Here only true, false, null and decimal numbers are anything but text.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from schemas.strict import step
from schemas.strict_json import JSON, MAX_DEPTH, shown

_TAG = "tag:yaml.org,2002:"
# An alias stands for a whole part of the file: a few lines of them can stand for millions.
_MOST_NODES = 100_000
_MOST_DIGITS = 300
# What PyYAML says of what people mostly do wrong, and what to do.
_HINTS = {
    "found character '\\t'": "Indent with spaces, not with tabs.",
    "mapping values are not allowed": "Put a value with ': ' in it in quotes.",
    "expected <block end>": "Put a value that begins with a quote or with {{ in quotes, the whole of it.",
    "but found another document": "There is one document in a file.",
}


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as YAML 1.2's core schema does, https://yaml.org/spec/1.2.2/#103-core-schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way to say it


_PLAIN = {
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
    "null": re.compile(r"(?:~|null|Null|NULL|)\Z"),
    # What begins with a 0 that JSON has no number for stays text, as 0123.
    "int": re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z"),
    "float": re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
}
for _name, _pattern in _PLAIN.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", _pattern, None)


@dataclass
class _Reading:
    """A file on its way to a value: the mistakes by path, and how many nodes were seen."""

    errors: dict[str, list[str]] = field(default_factory=dict)
    seen: int = 0

    def wrong(self, path: str, message: str, node: yaml.Node) -> None:
        self.errors.setdefault(path, []).append(f"{message} (line {node.start_mark.line + 1}).")

    def value(self, node: yaml.Node, path: str, depth: int) -> JSON:
        self.seen += 1
        if self.seen > _MOST_NODES:
            self.errors[""] = [f"Holds more than {_MOST_NODES} values; an alias counts as what it stands for."]
            return None
        if depth > MAX_DEPTH:
            self.wrong(path, f"Is nested deeper than {MAX_DEPTH} levels", node)
            return None
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(each, _below(path, position), depth + 1) for position, each in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self.wrong(path, f"Has the tag {shown(node.tag)}, which is not taken", node)
        return None

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> JSON:
        found: dict[str, JSON] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if isinstance(key_node, yaml.MappingNode):
                self.wrong(path, "What begins with {{ has to be put in quotes", key_node)
                continue
            if not isinstance(key, str):
                self.wrong(path, "Has a key that is no text; put it in quotes", key_node)
                continue
            if key in found:
                self.wrong(_below(path, key), "Is given twice", key_node)
            found[key] = self.value(value_node, _below(path, key), depth + 1)
        return found

    def _scalar(self, node: yaml.ScalarNode, path: str) -> JSON:
        text, kind = _paired(str(node.value)), node.tag.removeprefix(_TAG)
        if kind != "str" and not (kind in _PLAIN and _PLAIN[kind].match(text)):
            self.wrong(path, f"Has the tag {shown(node.tag)}, which is not taken", node)
        elif any("\ud800" <= character <= "\udfff" for character in text):
            self.wrong(path, "Holds half of a surrogate pair", node)
        elif kind == "null":
            return None
        elif kind == "bool":
            return text.lower() == "true"
        elif kind in ("int", "float"):
            if len(text) <= _MOST_DIGITS and math.isfinite(float(text)):
                return int(text) if kind == "int" else float(text)
            self.wrong(path, "Is a number that is out of range", node)
        return text


def _paired(text: str) -> str:
    r"""`text` with the pairs that JSON's escapes (`\ud83d\ude00`) are made one character of."""
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def parse(text: str) -> tuple[JSON, dict[str, list[str]]]:
    """The value of the one document in `text`, and what is wrong with it, by path; "" is the file's own."""
    reading = _Reading()
    try:
        node = yaml.compose(text, Loader=_Loader)
        return (None if node is None else reading.value(node, "", 1)), reading.errors
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        hint = next((f" {each}" for begins, each in _HINTS.items() if (error.problem or "").startswith(begins)), "")
        return None, {"": [f"Is not YAML: {error.problem}{where}.{hint}"]}
    except yaml.YAMLError:
        return None, {"": ["Is not YAML: it holds a character that YAML doesn't allow."]}
    except RecursionError:
        return None, {"": [f"Is nested deeper than {MAX_DEPTH} levels."]}


def _below(path: str, key: object) -> str:
    return f"{path}.{step(key)}" if path else step(key)
