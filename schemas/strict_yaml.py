"""YAML as plain JSON values, according to the core schema of YAML 1.2.

PyYAML reads YAML 1.1: `no` is false, `2026-11-22` is a date, `0123` is 83, `1:30` is 90, and the last of two equal keys
wins. Here, every scalar except true, false, null, and decimal numbers is a string, and a duplicate key is a mistake.
"""

import math
import re
from typing import Any

import yaml

from schemas.base import path_step
from schemas.problem import Errors
from schemas.strict_json import JSON, MAX_DEPTH, quoted

# A few lines of aliases to aliases can stand for millions of values.
_MAX_VALUES = 100_000
_MAX_DIGITS = 300
_TAG = "tag:yaml.org,2002:"
# https://yaml.org/spec/1.2.2/#103-core-schema, without the numbers that JSON doesn't have, such as 0123 and 0x1F.
_SCALARS = {
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
    "null": re.compile(r"(?:~|null|Null|NULL|)\Z"),
    "int": re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z"),
    "float": re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
}
# The remedies for common mistakes, by the beginning of PyYAML's description.
_HINTS = {
    "found character '\\t'": " Indent with spaces, not with tabs.",
    "mapping values are not allowed": " Put a value that contains ': ' in quotes.",
    "expected <block end>": " Put the whole value in quotes if the value begins with a quote or with {{.",
    "but found another document": " Put everything into one document.",
}


class _Loader(yaml.SafeLoader):
    """A loader that resolves plain scalars with the patterns above."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own declaration


for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", _pattern, None)


def parse(text: str) -> tuple[JSON, Errors]:
    """Return the value of the only document in `text`, and the mistakes by path. The path of the document is ""."""
    converter = _Converter()
    try:
        node = yaml.compose(text, Loader=_Loader)
        return (None if node is None else converter.convert(node, "", 1)), converter.errors
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, error.problem or ""
        location = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        hint = next((hint for beginning, hint in _HINTS.items() if problem.startswith(beginning)), "")
        return None, {"": [f"Not valid YAML: {problem}{location}.{hint}"]}
    except yaml.YAMLError:
        return None, {"": ["Not valid YAML: the file contains a character that YAML doesn't allow."]}
    except RecursionError:
        return None, {"": [f"Nested deeper than {MAX_DEPTH} levels."]}


class _Converter:
    """A converter of the nodes of a document to JSON values, which collects the mistakes in `errors`, by path."""

    def __init__(self) -> None:
        self.errors: Errors = {}
        self._count = 0

    def convert(self, node: yaml.Node, path: str, depth: int) -> JSON:
        self._count += 1
        if self._count > _MAX_VALUES:
            self.errors[""] = [f"More than {_MAX_VALUES} values. An alias counts as all values for which it stands."]
        elif depth > MAX_DEPTH:
            self._add_error(path, f"Nested deeper than {MAX_DEPTH} levels", node)
        elif isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        elif isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path, depth)
        elif isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.convert(item, _join(path, index), depth + 1) for index, item in enumerate(node.value)]
        else:
            self._add_error(path, f"Unsupported tag {quoted(node.tag)}; remove the tag", node)
        return None

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, JSON]:
        value: dict[str, JSON] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if isinstance(key, str):
                if key in value:
                    self._add_error(_join(path, key), "Duplicate key", key_node)
                value[key] = self.convert(value_node, _join(path, key), depth + 1)
            elif isinstance(key_node, yaml.MappingNode):
                self._add_error(path, "A value that begins with {{ must be in quotes", key_node)
            else:
                self._add_error(path, "A key is not a string; put the key in quotes", key_node)
        return value

    def _scalar(self, node: yaml.ScalarNode, path: str) -> JSON:
        kind, text = node.tag.removeprefix(_TAG), _join_surrogates(node.value)
        if kind != "str" and not (kind in _SCALARS and _SCALARS[kind].match(text)):
            self._add_error(path, f"Unsupported tag {quoted(node.tag)}; remove the tag", node)
        elif re.search("[\ud800-\udfff]", text):
            self._add_error(path, "Contains a lone surrogate, which isn't a character", node)
        elif kind == "null":
            return None
        elif kind == "bool":
            return text.lower() == "true"
        elif kind in ("int", "float"):
            if len(text) <= _MAX_DIGITS and math.isfinite(float(text)):
                return int(text) if kind == "int" else float(text)
            self._add_error(path, "The number is out of range", node)
        return text

    def _add_error(self, path: str, message: str, node: yaml.Node) -> None:
        self.errors.setdefault(path, []).append(f"{message} (line {node.start_mark.line + 1}).")


def _join(path: str, key: object) -> str:
    return f"{path}.{path_step(key)}" if path else path_step(key)


def _join_surrogates(text: str) -> str:
    r"""Return `text` with each escaped surrogate pair, such as `\ud83d\ude00` in JSON, as one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
