"""The leak detector end to end: a run of pytest with the plugin, and a function that leaks when it is told to."""

import os
import re
import secrets
import subprocess
import sys

import pytest

from deploy.local.cloud import ROOT
from tests.leak_watch import DETECTOR

TESTS = """
import os, subprocess
import pytest
from deploy.local.cloud import ROOT, Cloud
from tests.conftest import running
from tests.raw import exchange

EVENT = {"provider": "apify", "dataset": "jane~a", "update": {"name": "b"}}

@pytest.fixture(scope="session")
def leaky(tmp_path_factory):
    cloud = Cloud(apify_token=os.environ["TOKEN"]).start()
    settings = {**cloud.settings(), "FUNCTION_SOURCE": str(ROOT / "tests/leaky.py"),
                "APIFY_TOKEN": "env:LEAKY_TOKEN", "LEAKY_TOKEN": cloud.apify_token}
    with running(cloud, settings, tmp_path_factory.mktemp("leaky")) as relay:
        yield relay
    cloud.stop()

def leak(relay, said, **event):
    return relay.post({**EVENT, **event}, headers={"X-Leak": said})

def test_harmless(leaky):
    assert leaky.post(EVENT).status_code == 404

@pytest.mark.parametrize("how", ["plain", "base64", "percent", "first", "last"])
def test_answer(leaky, how):
    leak(leaky, f"answer {how} token")

def test_head(leaky):
    leak(leaky, "head plain token")

@pytest.mark.parametrize("where", ["stdout", "stderr"])
@pytest.mark.parametrize("how", ["plain", "last"])
def test_log(leaky, where, how):
    leak(leaky, f"{where} {how} token")

def test_socket(leaky):
    head = b"GET /health HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n"
    exchange(leaky, head + b"X-Leak: answer plain token\\r\\n\\r\\n")

def test_command(leaky):
    subprocess.run(["curl", "-s", "-H", "X-Leak: answer plain token", leaky.url + "/health"], capture_output=True)

def test_credential(leaky):
    leak(leaky, "stdout plain body", password="swordfish-" + "x1" * 3)

def test_signing_key(leaky):
    key = leaky.cloud.apify.datasets[leaky.apify_dataset()]["urlSigningSecretKey"]
    leak(leaky, "answer plain body", note=key)

def test_assert(leaky):
    assert leaky.cloud.apify_token == "another"

def test_print(leaky):
    print("the token:", leaky.cloud.apify_token)

def test_both(leaky):
    leak(leaky, "answer plain token")
    assert 1 == 2, "its own reason"

def test_early(leaky):
    leak(leaky, "stdout plain body", note="not a s3cret yet")

def test_harmless_again(leaky):
    assert leaky.post(EVENT).status_code == 404
    leaky.cloud.secret_manager.add_version("projects/p/secrets/late", "not a s3cret yet")
    print("nothing to hide")
"""

APIFY = "the Apify token"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The token, and what pytest printed of a run of TESTS."""
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    (folder / "test_leaking.py").write_text(TESTS)
    token = f"apify_api_{secrets.token_hex(18)}"
    DETECTOR.secrets.add("the token of the run in the run", token)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(folder),
         "-c", str(folder / "pytest.ini"), "-n", "1", "-rA", str(folder)],
        cwd=ROOT, env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "TOKEN": token},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    return token, said


def part_about(said: str, test: str) -> str:
    """What was printed of one test, up to the next one's heading."""
    found = re.search(rf"^_+ {re.escape(test)} _+$(.*?)(?=^[_=]{{3,}} .* [_=]{{3,}}$)", said, re.MULTILINE | re.DOTALL)
    assert found, f"nothing of {test}"
    return found[1]


def outcomes(said: str, outcome: str) -> list[str]:
    """The tests that ended so, as pytest's summary lists them."""
    return re.findall(rf"^{outcome} .*test_leaking\.py::([^\s]+)", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("test", "leak"),
    [
        ("test_answer[plain]", f"in an answer: {APIFY} (plain)"),
        ("test_answer[base64]", f"in an answer: {APIFY} (base64)"),
        ("test_answer[percent]", f"in an answer: {APIFY} (percent-encoded)"),
        ("test_answer[first]", f"in an answer: {APIFY} (a part, plain)"),
        ("test_answer[last]", f"in an answer: {APIFY} (a part, plain)"),
        ("test_head", f"in an answer: {APIFY} (plain)"),
        ("test_log[plain-stdout]", f"in the log of a function: {APIFY} (plain)"),
        ("test_log[plain-stderr]", f"in the log of a function: {APIFY} (plain)"),
        ("test_log[last-stdout]", f"in the log of a function: {APIFY} (a part, plain)"),
        ("test_log[last-stderr]", f"in the log of a function: {APIFY} (a part, plain)"),
        ("test_socket", f"in an answer: {APIFY} (plain)"),
        ("test_command", f"in what a command printed: {APIFY} (plain)"),
        ("test_credential", "in the log of a function: an event's password (plain)"),
        ("test_signing_key", "in an answer: a dataset's urlSigningSecretKey (plain)"),
        ("test_assert", f"in the traceback: {APIFY} (plain)"),
        ("test_print", f"in Captured stdout call: {APIFY} (plain)"),
        ("test_both", f"in an answer: {APIFY} (plain)"),
    ],
)
def test_the_test_that_leaks_fails_and_says_how(run: tuple[str, str], test: str, leak: str) -> None:
    said = part_about(run[1], test)
    assert "A secret is shown" in said
    assert f"  {leak}\n" in said
    assert test in outcomes(run[1], "FAILED")


def test_what_fails_anyway_says_both(run: tuple[str, str]) -> None:
    assert "its own reason" in part_about(run[1], "test_both")
    assert "[secret]" in part_about(run[1], "test_assert")
    assert "the token: [secret]" in part_about(run[1], "test_print")


def test_the_others_pass(run: tuple[str, str]) -> None:
    assert outcomes(run[1], "PASSED") == ["test_harmless", "test_early", "test_harmless_again"]
    assert "17 failed, 3 passed, 1 error in" in run[1]
    assert "nothing to hide" in run[1]


def test_what_becomes_a_secret_late_is_found_at_the_end(run: tuple[str, str]) -> None:
    said = part_about(run[1], "ERROR at teardown of test_harmless_again")
    assert "A secret is shown:\n  in the log of a function: the secret late (plain)\n-" in said


def test_nothing_of_the_secret_is_printed(run: tuple[str, str]) -> None:
    token, said = run
    # Not by `in` within the assert: pytest would print what it found.
    shown = [start for start in range(len(token) - 11) if token[start : start + 12] in said]
    assert not len(shown), "a part of the token is printed"
    assert "swordfish-x1x1x1" not in said


def test_how_much_was_looked_through_is_said(run: tuple[str, str]) -> None:
    found = re.search(r"^(\d+) secrets looked for in [\d.]+ MB, in [\d.]+ s$", run[1], re.MULTILINE)
    assert found
    assert int(found[1]) >= 6
