"""The blocks of code in a Markdown document that tests use. A comment such as `<!-- test: event -->` names a block."""

import re
from pathlib import Path
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


def heading_fragments(text: str) -> set[str]:
    """Return the fragment of each heading of the document `text`, as GitHub forms it."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    """Return the links of a document that lead to a missing file, or to a missing heading of a document."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        file, _, fragment = link.partition("#")
        if "://" in file:
            continue
        target = path.parent / file if file else path
        if not target.exists() or (fragment and fragment not in heading_fragments(target.read_text())):
            broken.append(link)
    return broken
