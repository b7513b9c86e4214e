"""Generate the picture of the demo in README.md: the first scene of `make demo`, as an SVG image of a terminal.

python -m deploy.local.picture
"""

import os
import pty
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from fcntl import ioctl
from html import escape
from termios import TIOCSWINSZ

from deploy.local.cloud import ROOT
from deploy.local.terminal import columns_of

PATH = ROOT / "deploy/local/demo.svg"

_COLUMNS = 100
_FONT_SIZE, _LINE_HEIGHT, _PADDING = 13, 18, 16
# The width of a character in a monospaced font, in pixels. `textLength` makes other fonts have the same width.
_CHARACTER = 7.8
_BACKGROUND, _TEXT = "#161b22", "#e6edf3"
_STYLES = {
    "1": 'font-weight="bold"',
    "2": 'fill="#8b949e"',
    "31": 'fill="#ff7b72"',
    "32": 'fill="#7ee787"',
    "36": 'fill="#79c0ff"',
}
_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")
# The first scene begins with its number, in bold, and ends before the second scene.
_SCENE = re.compile(r"^(?:\x1b\[[0-9;]*m)?1 .*?(?=^(?:\x1b\[[0-9;]*m)?2 )", re.DOTALL | re.MULTILINE)
# The parts of the output that differ from run to run, and their values in the picture.
_VARIABLE = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:8080"),
    (re.compile(r"\b\d+ ms\b"), "12 ms"),
    (re.compile(r"(webhook-timestamp: )\d+"), r"\g<1>1795336300"),
    (re.compile(r"(v1,)[A-Za-z0-9+/=]+"), r"\g<1>K3p0…"),
    (re.compile(r'(- "modifiedAt": )"[^"]*"'), r'\g<1>"2026-11-21T08:30:12.000Z"'),
    (re.compile(r'(\+ "modifiedAt": )"[^"]*"'), r'\g<1>"2026-11-22T08:31:40.000Z"'),
    (re.compile(r'("(?:id|actId|actRunId|userId)": )"[A-Za-z0-9]{17}"'), r'\g<1>"WkzbQMuFYuamGv3YF"'),
    (re.compile(r"(/datasets/)[A-Za-z0-9]{17}\b"), r"\g<1>WkzbQMuFYuamGv3YF"),
)


def main() -> None:
    """Write the picture."""
    PATH.write_text(build(), encoding="utf-8")
    print(f"Wrote {PATH.relative_to(ROOT)}.")


def build() -> str:
    """Run the demo, and return the picture."""
    return picture(scene(_run_demo()))


def scene(output: str) -> list[str]:
    """Return the lines of the demo's first scene, with fixed values in place of those that differ from run to run.

    Raises:
        ValueError: The output has no first and second scene.
    """
    match = _SCENE.search(output.replace("\r\n", "\n"))
    if not match:
        raise ValueError("The output of the demo must have a line that begins with 1, and a line that begins with 2.")
    text = match[0].rstrip()
    for pattern, value in _VARIABLE:
        text = pattern.sub(value, text)
    return text.split("\n")


def picture(lines: list[str]) -> str:
    """Return an SVG image of a terminal with these lines."""
    width = round(_COLUMNS * _CHARACTER + 2 * _PADDING)
    height = (len(lines) + 1) * _LINE_HEIGHT + 2 * _PADDING
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{_FONT_SIZE}" fill="{_TEXT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        "<title>The first scene of make demo</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{_BACKGROUND}"/>',
    ]
    for number, line in enumerate(["\x1b[2m$ make demo\x1b[0m", *lines], start=1):
        parts += _spans(line, _PADDING + number * _LINE_HEIGHT - 5)
    return "\n".join([*parts, "</svg>", ""])


def _spans(line: str, y: int) -> Iterator[str]:
    """Yield an SVG element for each part of a line with a color of its own."""
    column, style = 0, ""
    pieces = _ESCAPE.split(line)
    for position, piece in enumerate(pieces):
        if position % 2:
            style = "".join(f" {_STYLES[code]}" for code in piece.split(";") if code in _STYLES)
            continue
        text = piece.strip()
        start = column + columns_of(piece) - columns_of(piece.lstrip())
        column += columns_of(piece)
        if text:
            x = _PADDING + start * _CHARACTER
            length = columns_of(text) * _CHARACTER
            yield f'<text x="{x:g}" y="{y}" textLength="{length:g}" xml:space="preserve"{style}>{escape(text)}</text>'


def _run_demo() -> str:
    """Return the output of the demo on a terminal with colors."""
    leader, follower = pty.openpty()
    ioctl(follower, TIOCSWINSZ, struct.pack("HHHH", 50, _COLUMNS, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.local.demo"],
        cwd=ROOT,
        env={**environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    chunks = []
    # At the end of the demo, Linux reports an error instead of an empty read.
    try:
        while chunk := os.read(leader, 65_536):
            chunks.append(chunk)
    except OSError:
        pass
    os.close(leader)
    output = b"".join(chunks).decode()
    if process.wait():
        raise RuntimeError(f"The demo failed:\n{output}")
    return output


if __name__ == "__main__":
    main()
