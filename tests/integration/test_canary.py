"""The canary: its forms, and a run of pytest in which tests show secrets."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.canary import Recorder, find_canary, secret

ROOT = Path(__file__).resolve().parents[2]

FORMS: dict[str, tuple[Callable[[str], str], str]] = {
    "plain": (str, "plain"),
    "JSON": (json.dumps, "plain"),
    "JSON units": (lambda text: "".join(f"\\u{ord(character):04x}" for character in text), "plain, escaped"),
    "URL": (lambda text: "".join(f"%{byte:02x}" for byte in text.encode()), "plain, escaped"),
    "URL twice": (lambda text: quote("".join(f"%{byte:02X}" for byte in text.encode())), "plain, escaped"),
    "hex": (lambda text: text.encode().hex(), "hex"),
    "HEX": (lambda text: text.encode().hex().upper(), "hex"),
    "base64 0": (lambda text: base64.b64encode(text.encode()).decode(), "base64"),
    "base64 1": (lambda text: base64.b64encode(f"u{text}".encode()).decode(), "base64"),
    "base64 2": (lambda text: base64.b64encode(f"u:{text}x".encode()).decode(), "base64"),
    "base64 lines": (lambda text: re.sub("(..)", r"\1\n", base64.b64encode(text.encode()).decode()), "base64, escaped"),
    "base64 in JSON": (
        lambda text: json.dumps(re.sub("(..)", "\\1\r\n", base64.b64encode(text.encode()).decode())),
        "base64, escaped",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_find_canary_each_form_is_found(form: str) -> None:
    encode, name = FORMS[form]
    for prefix in ("", "apify_api_", "whsec_", "u:"):
        text = f"<{encode(secret(prefix))}>"
        assert name in find_canary(text)
        assert find_canary(text.encode()) == find_canary(text)


@pytest.mark.parametrize(
    "text", ["", "canary", "tests/support/canary.py", "CANAR", "%43%41", "\ud800", b"\xff", "Q0FO"]
)
def test_find_canary_other_text_has_none(text: str | bytes) -> None:
    assert find_canary(text) == []


def test_secret_is_new_and_contains_canary_in_each_piece() -> None:
    first, second = secret("whsec_"), secret("whsec_")
    assert first != second
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) == 27
    bare = first.removeprefix("whsec_")
    assert all(find_canary(bare[start : start + 17]) for start in range(len(bare) - 16))


def test_recorder_reads_each_line_of_log_once(tmp_path: Path) -> None:
    recorder, log = Recorder(), tmp_path / "log"
    recorder.watch(log)
    assert recorder.take_leaks() == []
    log.write_text("a line\nhalf of CAN")
    assert recorder.take_leaks() == []
    log.write_text("a line\nhalf of CANARY\n")
    assert recorder.take_leaks() == [f"the log {log} (plain)"]
    assert recorder.take_leaks() == []


TESTS = """
import sys
import pytest
from tests.support.canary import RECORDER, secret

SECRET = secret("apify_api_")

def test_harmless():
    print("nothing to hide")

def test_response():
    RECORDER.add("POST /", SECRET.encode().hex())

def test_log(tmp_path):
    RECORDER.watch(tmp_path / "log")
    (tmp_path / "log").write_text(f"a line {SECRET}\\n")

def test_stdout():
    print(SECRET)

def test_stderr():
    print(SECRET, file=sys.stderr)

def test_capsys(capsys):
    print(SECRET)
    assert capsys.readouterr().out

def test_capfdbinary(capfdbinary):
    print(SECRET)
    assert capfdbinary.readouterr().out

@pytest.fixture
def fixture_that_shows():
    yield
    RECORDER.add("the fixture", SECRET)

def test_fixture(fixture_that_shows):
    pass

@pytest.mark.shows_canary
def test_marked():
    RECORDER.add("POST /", SECRET)
    print(SECRET)

def test_assertion():
    assert SECRET == "another"

def test_harmless_again():
    pass
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run TESTS with the fixture, and return the output of pytest."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    (folder / "test_leaks.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.support.canary", "-p", "no:cacheprovider", "-rA",
         "-c", folder / "pytest.ini", folder],
        cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("test", "place"),
    [
        ("test_response", "POST / (hex)"),
        ("test_log", "log (plain)"),
        ("test_stdout", "Captured stdout call (plain)"),
        ("test_stderr", "Captured stderr call (plain)"),
        ("test_capsys", "the captured output (plain)"),
        ("test_capfdbinary", "the captured output (plain)"),
        ("test_fixture", "the fixture (plain)"),
    ],
)
def test_no_canary_leaks_test_that_shows_secret_fails(output: str, test: str, place: str) -> None:
    heading = rf"^_+ ERROR at teardown of {test} _+$\nA secret is shown. The canary is in:\n.*{re.escape(place)}\n"
    assert re.search(heading, output, re.MULTILINE)


def test_no_canary_leaks_other_tests_pass(output: str) -> None:
    errors = re.findall(r"^ERROR .*::(\w+)", output, re.MULTILINE)
    assert errors == [
        "test_response", "test_log", "test_stdout", "test_stderr", "test_capsys", "test_capfdbinary", "test_fixture"
    ]  # fmt: skip
    assert re.findall(r"^FAILED .*::(\w+)", output, re.MULTILINE) == ["test_assertion"]
    assert "nothing to hide" in output


def test_makereport_secret_in_failure_is_replaced(output: str) -> None:
    assert find_canary(output) == []
    assert "[secret]' == 'another'" in output
