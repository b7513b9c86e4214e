"""The canary: a text in every secret of the tests, and a fixture that fails a test if anything shows the canary."""

import base64
import re
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

# The names that tests/conftest.py imports.
__all__ = ["no_canary_leaks", "pytest_configure", "pytest_runtest_makereport"]

CANARY = "CANARY"


def secret(prefix: str) -> str:
    """Return a new secret: `prefix`, and 36 letters and digits, which are also valid base64, as `whsec_` requires.

    Each piece of 17 characters after the prefix contains the canary.
    """
    return prefix + "".join(CANARY + secrets.token_hex(3) for _ in range(3))


# A part of such a secret. pytest leaves out the middle of a long string.
_SECRET = re.compile(rf"(?:{CANARY}[0-9a-f]{{6}})+")
_HEX = CANARY.encode().hex().encode()
_FORMS = [("plain", CANARY.encode()), ("hex", _HEX), ("hex", _HEX.upper())]
for _offset, _shared in enumerate((0, 2, 3)):
    # The first digits of base64 also encode the bytes before the canary, and the last digits the bytes after it.
    _digits = base64.b64encode(bytes(_offset) + CANARY.encode())[_shared : (_offset + len(CANARY)) * 8 // 6]
    _FORMS.append(("base64", _digits))
_JSON_UNIT = re.compile(rb"\\u00([0-9a-fA-F]{2})")
_LINE_BREAK = re.compile(rb"(?:\\r|\\n|\s)+")


def find_canary(text: str | bytes) -> list[str]:
    """Return the forms in which `text` contains the canary: plain, hex, or base64, also JSON-escaped or URL-encoded."""
    view = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    found = {name: None for name, form in _FORMS if form in view}
    for _ in range(3):
        before = view
        view = unquote_to_bytes(_JSON_UNIT.sub(lambda match: bytes.fromhex(match[1].decode()), view))
        # Base64 can have line breaks, and JSON can escape a slash.
        unbroken = _LINE_BREAK.sub(b"", view.replace(rb"\/", b"/"))
        found |= {f"{name}, escaped": None for name, form in _FORMS if form in unbroken and name not in found}
        if view == before:
            break
    return list(found)


class Recorder:
    """The places where the canary has been found since the end of the last test."""

    def __init__(self) -> None:
        self._leaks: dict[str, None] = {}
        self._logs: dict[Path, int] = {}

    def add(self, where: str, text: str | bytes) -> None:
        """Search for the canary in a response, or in the output of a process. `where` names the place in a message."""
        self._leaks |= {f"{where} ({form})": None for form in find_canary(text)}

    def watch(self, log_file: Path) -> None:
        """Search for the canary in each line that is added to `log_file` from now on."""
        self._logs[log_file] = 0

    def take_leaks(self) -> list[str]:
        """Return the places, and forget them."""
        for log_file, position in self._logs.items():
            if log_file.exists() and log_file.stat().st_size > position:
                with log_file.open("rb") as file:
                    file.seek(position)
                    text = file.read()
                lines = text[: text.rfind(b"\n") + 1]
                self._logs[log_file] = position + len(lines)
                self.add(f"the log {log_file}", lines)
        leaks, self._leaks = list(self._leaks), {}
        return leaks


RECORDER = Recorder()
_SECTIONS = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture(autouse=True)
def no_canary_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test if a response, a log, or the output of the test contains the canary.

    A test with the marker `shows_canary` may show the canary.
    """
    read = pytest.CaptureFixture.readouterr

    def read_and_search(capture: pytest.CaptureFixture[Any]) -> Any:
        output = read(capture)
        for text in output:
            RECORDER.add("the captured output", text)
        return output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytest.CaptureFixture, "readouterr", read_and_search)
        yield
    for name, text in request.node.stash.get(_SECTIONS, []):
        RECORDER.add(name, text)
    leaks = RECORDER.take_leaks()
    if leaks and not request.node.get_closest_marker("shows_canary"):
        pytest.fail("\n  ".join(["A secret is shown. The canary is in:", *leaks]), pytrace=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "shows_canary: the test shows the canary on purpose")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the captured output for the fixture, and remove the secrets from the report of a failed test."""
    report = yield
    # pytest formats the log records itself. The function's own log is in the log files.
    item.stash[_SECTIONS] = [(name, text) for name, text in report.sections if not name.startswith("Captured log")]
    report.sections = [(name, _SECRET.sub("[secret]", text)) for name, text in report.sections]
    if _SECRET.search(report.longreprtext):
        report.longrepr = _SECRET.sub("[secret]", report.longreprtext)
    return report
