"""The text of YAML: the text of a value, and a change of a value that keeps the rest of a text.

`schemas.strict_yaml` reads the texts that this module writes.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from schemas import strict_yaml
from schemas.strict_json import JSON

# In characters. A longer collection is written in block style.
_MAX_FLOW_LENGTH = 100
_COMMENT = re.compile(r"[ \t]*#[^\r\n]*")
# PyYAML takes these characters for line breaks (YAML 1.1), and other readers don't (YAML 1.2).
_OLD_LINE_BREAK = re.compile("[\x85\u2028\u2029]")


class EditError(Exception):
    """The change of a value would also change another part of the text, such as a comment or an alias of the value."""


@dataclass(frozen=True, slots=True)
class _Edit:
    """The replacement of the characters from `start` up to `end` by `text`."""

    start: int
    end: int
    text: str


class _Dumper(yaml.SafeDumper):
    """A dumper that writes no aliases, indents lists, and writes a text of several lines as a block."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None
        if _OLD_LINE_BREAK.search(text):
            style = '"'
        elif "\n" in text.strip("\n"):
            # A blank line after a block that ends with blank lines would become a part of the block.
            style = '"' if text.endswith("\n\n") else "|"
        elif strict_yaml.parse(text)[0] != text:
            style = '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
# A payload contains numbers of a subclass of float.
_Dumper.add_multi_representer(float, _Dumper.represent_float)


def is_equal(first: JSON, second: JSON) -> bool:
    """Return True if both values are the same JSON, regardless of the order of keys. 1, 1.0, and true differ."""
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def dump_member(name: str, value: JSON, column: int = 0) -> str:
    """Return a member of a block mapping whose keys begin at `column`, without a line end after the last line."""
    return _indent(f"{name}:{_dump(value)}", column)


def set_member(text: str, path: Sequence[str | int], name: str, value: JSON) -> str:
    """Return `text` with `value` as the member `name` of the mapping at `path`, and with all comments.

    `strict_yaml` accepts `text`. All other parts of the text stay as they are. Where the old and the new value have
    the same members, only the different parts of the value change.

    Raises:
        EditError: The change would also change another part of the text.
    """
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    wanted = member = strict_yaml.parse(text)[0]
    for step in path:
        node, member = _child(node, step), member[step]  # type: ignore[index]
    assert isinstance(member, dict)
    entry = next(((key, child) for key, child in node.value if key.value == name), None)
    if entry is None:
        edits = [_insertion(text, node, name, value)]
    else:
        edits = _replacements(text, *entry, member[name], value, in_flow=node.flow_style)
    member[name] = value
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        # Without a line end after it, a block at the end of the text would lose its own line end.
        new_text = f"{edit.text}\n" if edit.end == len(text) else edit.text
        new_text = new_text.replace("\n", "\r\n") if "\r\n" in text else new_text
        text = text[: edit.start] + new_text + text[edit.end :]
    changed, errors, _ = strict_yaml.parse(text)
    if errors or not is_equal(changed, wanted):
        raise EditError
    return text


def _child(node: Any, step: str | int) -> yaml.Node:
    if isinstance(step, int):
        child: yaml.Node = node.value[step]
        return child
    member: yaml.Node = next(value for key, value in node.value if key.value == step)
    return member


def _replacements(text: str, key: yaml.Node, node: yaml.Node, old: JSON, new: JSON, *, in_flow: bool) -> list[_Edit]:
    """Return the edits that change the value of a member of a mapping from `old` to `new`."""
    if is_equal(old, new):
        return []
    if in_flow:
        start, end = node.start_mark.index, node.end_mark.index
        if any(_iter_comments(text, start, end, node)):
            raise EditError
        return [_Edit(start, end, _dump_flow(new).lstrip())]
    edits = _nested_replacements(text, node, old, new)
    return [_replacement(text, key, node, new)] if edits is None else edits


def _nested_replacements(text: str, node: yaml.Node, old: JSON, new: JSON) -> list[_Edit] | None:
    """Return the edits inside a block collection, or None if the collection must be replaced as a whole."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return None
    edits: list[_Edit] = []
    if isinstance(old, dict) and isinstance(new, dict) and set(old) == set(new):
        for key, child in node.value:
            edits += _replacements(text, key, child, old[key.value], new[key.value], in_flow=False)
        return edits
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for child, old_item, new_item in zip(node.value, old, new, strict=True):
            if not is_equal(old_item, new_item):
                nested = _nested_replacements(text, child, old_item, new_item)
                if nested is None:
                    return None
                edits += nested
        return edits
    return None


def _replacement(text: str, key: yaml.Node, node: yaml.Node, value: JSON) -> _Edit:
    """Return the edit that replaces the whole value of a member of a block mapping, and keeps its comments."""
    start = text.index(":", key.end_mark.index) + 1
    end = max(start, _content_end(text, node))
    if comment := _COMMENT.match(text, end):
        end = comment.end()
    is_short_flow = isinstance(node, yaml.CollectionNode) and node.flow_style
    first, *rest = _dump(value, prefer_flow=bool(is_short_flow)).split("\n")
    own_lines = []
    for match in _iter_comments(text, start, end, node):
        if "\n" in text[start : match.start()]:
            own_lines.append(match[0].strip())
        else:
            first += match[0]
    column = key.start_mark.column
    if first.lstrip().startswith("|"):
        # A comment with less indentation than the block is not a part of the block.
        lines = [first, *rest, *own_lines]
    else:
        lines = [first, *(f"  {comment}" for comment in own_lines), *rest]
    return _Edit(start, end, _indent("\n".join(lines), column))


def _insertion(text: str, mapping: yaml.MappingNode, name: str, value: JSON) -> _Edit:
    """Return the edit that adds a member at the end of a mapping."""
    end = _content_end(text, mapping.value[-1][1])
    if mapping.flow_style:
        return _Edit(end, end, f", {name}:{_dump_flow(value)}")
    line_end = re.compile(r"\r?\n|\Z").search(text, end)
    assert line_end
    column = mapping.value[0][0].start_mark.column
    return _Edit(line_end.start(), line_end.start(), f"\n{' ' * column}{dump_member(name, value, column)}")


def _content_end(text: str, node: yaml.Node) -> int:
    """Return the position after the last character of a value, without the comments and blank lines after the value."""
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _content_end(text, last[1] if isinstance(node, yaml.MappingNode) else last)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        content = text[start:end]
        if "+" in content.partition("\n")[0].partition("#")[0]:
            return end - len(content) + len(content.removesuffix("\n").removesuffix("\r"))
        return start + len(content.rstrip())
    return int(end)


def _iter_comments(text: str, start: int, end: int, node: yaml.Node) -> Iterator[re.Match[str]]:
    """Yield the comments from `start` up to `end` that are not a part of a scalar below `node`."""
    for scalar_start, scalar_end in [*sorted(_iter_scalars(text, node)), (end, end)]:
        yield from _COMMENT.finditer(text, start, max(start, scalar_start))
        start = max(start, scalar_end)


def _iter_scalars(text: str, node: yaml.Node) -> Iterator[tuple[int, int]]:
    if isinstance(node, yaml.ScalarNode):
        yield node.start_mark.index, _content_end(text, node)
    else:
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                yield from _iter_scalars(text, part)


def _dump(value: JSON, *, prefer_flow: bool = False) -> str:
    """Return the text that follows the colon of a key in column 0."""
    if prefer_flow:
        flow = _dump_flow(value)
        if len(flow) <= _MAX_FLOW_LENGTH and "\n" not in flow:
            return flow
    return _dump_yaml({"x": value}, flow=False)[2:].rstrip("\n")


def _dump_flow(value: JSON) -> str:
    """Return the text that follows the colon of a key in a flow mapping."""
    return _dump_yaml({"x": value}, flow=True)[3:-2]


def _dump_yaml(value: JSON, *, flow: bool) -> str:
    text: str = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=flow, allow_unicode=True, sort_keys=False, width=math.inf
    )
    return text


def _indent(text: str, column: int) -> str:
    """Return `text` with `column` spaces before each line except the first line and blank lines."""
    return re.sub(r"\n(?=[^\n])", "\n" + " " * column, text)
