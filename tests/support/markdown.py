"""The blocks of code in a Markdown document that tests use. A comment such as `<!-- test: event -->` names a block."""

import re
from textwrap import dedent

_TESTED = re.compile(r"<!-- test: ([a-z -]+) -->\n+ *```\w+\n(.*?)```", re.DOTALL)
_FENCE = re.compile(r"^ *```(?!mermaid)\w+$", re.MULTILINE)


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Return the name and the code of each tested block of the document `text`."""
    return [(name, dedent(code)) for name, code in _TESTED.findall(text)]


def blocks_named(text: str, name: str) -> list[str]:
    """Return the code of the tested blocks with this name, of which there must be at least one."""
    found = [code for own_name, code in code_blocks(text) if own_name == name]
    assert found, name
    return found


def count_code_blocks(text: str) -> int:
    """Return the number of fenced blocks that have a language, except for pictures."""
    return len(_FENCE.findall(text))
