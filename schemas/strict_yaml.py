"""YAML as plain JSON values, according to the core schema of YAML 1.2.

PyYAML reads YAML 1.1: `no` is false, `2026-11-22` is a date, `0123` is 83, `1:30` is 90, and the last of two equal keys
wins. Here, every scalar except true, false, null, and decimal numbers is a string, and a duplicate key is a mistake.
"""

import math
import re
from typing import Any

import yaml

from schemas.base import join_path
from schemas.problem import Errors
from schemas.strict_json import JSON, MAX_DEPTH, quoted
from schemas.yaml_hints import hint_for

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
# The key of the object that YAML reads in `name: {event.x}`.
_ONE_BRACE = re.compile(r"(?:event|headers)[.\[]")
# PyYAML counts these line breaks.
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


class _Loader(yaml.SafeLoader):
    """A loader that resolves plain scalars with the patterns above."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own declaration


for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", _pattern, None)


def parse(text: str) -> tuple[JSON, Errors, dict[str, int]]:
    """Return the value of the only document in `text`, the mistakes by path, and the lines by path.

    The path of the document is "". The first line is 1. The line of a member of an object is the line of its key.
    """
    converter = _Converter()
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = None if node is None else converter.convert(node, "", 1)
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, error.problem or ""
        location = f" (column {mark.column + 1})" if mark else ""
        hint = hint_for(problem, _LINE_BREAK.split(text), mark.line) if mark else ""
        message = f"Not valid YAML: {problem}{location}. {hint}".rstrip()
        return None, {"": [message]}, {"": mark.line + 1} if mark else {}
    except yaml.reader.ReaderError as error:
        message = "Not valid YAML: the file contains a character that YAML doesn't allow."
        return None, {"": [message]}, {"": text.count("\n", 0, error.position) + 1}
    except RecursionError:
        return None, {"": [f"Nested deeper than {MAX_DEPTH} levels."]}, {}
    return value, converter.errors, converter.lines


class _Converter:
    """A converter of the nodes of a document to JSON values.

    The converter collects the mistakes in `errors`, by path, and the lines in `lines`, by path.
    """

    def __init__(self) -> None:
        self.errors: Errors = {}
        self.lines: dict[str, int] = {}
        self._count = 0

    def convert(self, node: yaml.Node, path: str, depth: int) -> JSON:
        self._count += 1
        # The value of a member can begin on the line after its key.
        self.lines.setdefault(path, node.start_mark.line + 1)
        if self._count > _MAX_VALUES:
            self.errors[""] = [f"More than {_MAX_VALUES} values. An alias counts as all values for which it stands."]
        elif depth > MAX_DEPTH:
            self._add_error(path, f"Nested deeper than {MAX_DEPTH} levels", node)
        elif isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        elif isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path, depth)
        elif isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.convert(item, join_path(path, index), depth + 1) for index, item in enumerate(node.value)]
        else:
            self._add_error(path, f"Unsupported tag {quoted(node.tag)}; remove the tag", node)
        return None

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, JSON]:
        value: dict[str, JSON] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if isinstance(key, str):
                self.lines[join_path(path, key)] = key_node.start_mark.line + 1
                if key in value:
                    self._add_error(join_path(path, key), "Duplicate key", key_node)
                value[key] = self.convert(value_node, join_path(path, key), depth + 1)
                if _ONE_BRACE.match(key) and value_node.value == "":
                    self._add_error(path, "A template begins with {{, and must be in quotes", key_node)
            elif isinstance(key_node, yaml.MappingNode):
                self._add_error(path, "A value that begins with {{ must be in quotes", key_node)
            else:
                # The key of a list or an object has no path.
                key_path = join_path(path, key_node.value) if isinstance(key_node, yaml.ScalarNode) else path
                self._add_error(key_path, "A key is not a string; put the key in quotes", key_node)
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
        self.errors.setdefault(path, []).append(f"{message}.")
        self.lines[path] = node.start_mark.line + 1


def _join_surrogates(text: str) -> str:
    r"""Return `text` with each escaped surrogate pair, such as `\ud83d\ude00` in JSON, as one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
