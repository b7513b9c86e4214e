"""Tests of README.md: its commands and examples, its length, and its statements about the project."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from deploy.local import picture
from deploy.local.cloud import DATA_WORLD_OWNER, ROOT, free_port
from tests.support.canary import RECORDER, secret
from tests.support.gcloud import GCLOUD, lint_error
from tests.support.markdown import blocks_named, code_blocks, count_code_blocks
from tests.support.payloads import github_workflow
from tests.support.project import README
from tests.support.relay import Relay, unique
from tests.support.visible_arguments import SHELLS, record

#: The dataset that the README's events update, for each provider.
DATASETS = {"apify": "WkzbQMuFYuamGv3YF", "data-world": "acme/products"}
_WORDS_PER_MINUTE = 250


def test_readme_every_block_of_code_is_tested() -> None:
    assert count_code_blocks(README) == len(code_blocks(README))


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200
    prose = re.sub(r"```.*?```|<!--.*?-->|\]\([^)]*\)", " ", README, flags=re.DOTALL)
    assert len(re.findall(r"\w[\w.'-]*", prose)) <= 3 * _WORDS_PER_MINUTE


def test_readme_names_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"Version {version}" in README
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_readme_make_commands_exist_and_have_no_comment() -> None:
    commands = blocks_named(README, "make")
    assert commands == ["make demo\n", "make test\n"]
    for command in commands:
        completed = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
        assert completed.returncode == 0, completed.stderr


def test_readme_picture_is_current_and_small() -> None:
    svg = picture.PATH.read_text(encoding="utf-8")
    assert f"({picture.PATH.relative_to(ROOT).as_posix()})" in README
    assert len(svg.encode()) < 40_000
    assert picture.build() == svg, "run `make picture`"


@pytest.mark.parametrize("output", ["", "1  The only scene.\n"])
def test_picture_without_two_scenes_is_an_error(output: str) -> None:
    with pytest.raises(ValueError, match="begins with 2"):
        picture.scene(output)


def test_picture_has_the_colors_and_the_columns_of_the_text() -> None:
    lines = picture.scene(
        "\x1b[1m1  Begin\x1b[0m\r\n  價格 \x1b[36m127.0.0.1:5123\x1b[0m <&\r\n\r\n\x1b[1m2  Next\x1b[0m\r\n"
    )
    assert lines == ["\x1b[1m1  Begin\x1b[0m", "  價格 \x1b[36m127.0.0.1:8080\x1b[0m <&"]
    svg = ElementTree.fromstring(picture.picture(lines))
    texts = [(each.text, each.get("x"), each.get("fill")) for each in svg.iter("{http://www.w3.org/2000/svg}text")][1:]
    # A Chinese character has two columns of 7.8 pixels.
    assert texts == [("1  Begin", "16", None), ("價格", "31.6", None), ("127.0.0.1:8080", "70.6", "#79c0ff"),
                     ("<&", "187.6", None)]  # fmt: skip


def test_readme_commands_have_no_comment() -> None:
    # By default, zsh takes '#' for the beginning of an argument.
    shell_blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert not [line for block in shell_blocks for line in block.splitlines() if re.search(r"(^|\s)#", line)]


def includes(actual: object, expected: object) -> bool:
    """Return True if `actual` has every member of the JSON value `expected`."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(includes(actual.get(key), value) for key, value in expected.items())
    return actual == expected


@pytest.mark.parametrize("provider", DATASETS)
@pytest.mark.parametrize("shell", SHELLS)
def test_readme_first_update_has_the_expected_output(relay: Relay, tmp_path: Path, shell: str, provider: str) -> None:
    if not (shutil.which(shell) and shutil.which("script")):
        pytest.skip(f"{shell} or script isn't installed: the README's first update is NOT tested in {shell}")
    cloud, port, name = relay.cloud, str(free_port()), unique("first")
    if provider == "apify":
        dataset, token = relay.apify_dataset(), cloud.apify_token
        local, public = cloud.apify.base_url, "https://api.apify.com/v2"
    else:
        dataset, token = cloud.data_world.add(f"{DATA_WORLD_OWNER}/{name}"), cloud.data_world_token
        local, public = cloud.data_world.base_url, "https://api.data.world/v0"

    def block(block_name: str) -> str:
        (text,) = blocks_named(README, block_name)
        text = text.replace("8090", port).replace(DATASETS[provider], dataset).replace("my-first-relay", name)
        return text.replace(".venv/bin/", f"{Path(sys.executable).parent}/").replace(public, local)

    start = block("start")
    if provider != "apify":
        start = start.replace("APIFY_TOKEN", "DATA_WORLD_TOKEN")
    wait = f"until curl -s -o {tmp_path}/health http://127.0.0.1:{port}/health; do sleep 0.05; done\n"
    code = tmp_path / "commands"
    code.write_text(
        block("token") + start.replace(" &\n", f" >{tmp_path}/log 2>&1 &\n") + wait + block("relay")
        + block(f"{provider} event") + block("preview") + block("send") + "kill $!\nwait\n"
    )  # fmt: skip
    # `script` runs the commands in a terminal, which `stty` needs.
    process = subprocess.Popen(
        ["script", "-qec", f"{shell} {code}", "/dev/null"],
        env={
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "dumb",
            "APIFY_BASE_URL": cloud.apify.base_url, "DATA_WORLD_BASE_URL": cloud.data_world.base_url,
        },
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    prompt = process.stdout.read(len("Token: "))
    output, _ = process.communicate(f"{token}\n")
    RECORDER.add("the output of the README's commands", prompt + output)
    assert prompt == "Token: "
    lines: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert len(lines) == 2, (tmp_path / "log").read_text()
    preview, response = lines
    assert preview["token"] == "env:MY_TOKEN"
    if provider == "apify":
        assert preview == json.loads(block("apify preview response"))
    assert includes(response, json.loads(block(f"{provider} response")))


@pytest.mark.parametrize("shell", SHELLS)
def test_readme_curl_commands_show_no_secret_to_ps(shell: str) -> None:
    commands = [*blocks_named(README, "relay"), *blocks_named(README, "apify event")]
    commands += [*blocks_named(README, "preview"), *blocks_named(README, "send")]
    my_secret = secret("")
    recording = record(shell, "".join(commands), MY_SECRET=my_secret)
    assert recording.authorizations == [f"Bearer {my_secret}"] * 2
    assert not [output for output in recording.outputs if my_secret in output]


def test_readme_hook_and_its_preview_work(tmp_path: Path) -> None:
    (text,) = blocks_named(README, "hook")
    (command,) = blocks_named(README, "check")
    lines = (ROOT / "deploy/relay.yaml").read_text().splitlines()
    assert lines[-1] == "hooks:"
    (tmp_path / "relay.yaml").write_text("\n".join([*lines[:-1], text]))
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps(github_workflow()))
    for options in ("", f" --payload {payload}"):
        completed = subprocess.run(
            ["bash", "-c", command.strip().replace(".venv/bin/python", sys.executable) + options],
            env={"PATH": os.environ["PATH"], "RELAY_CONFIG": str(tmp_path / "relay.yaml")},
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert (completed.returncode, completed.stderr) == (0, ""), completed.stdout
        assert "updates.0: PATCH https://api.data.world/v0/datasets/acme/products" in completed.stdout
        assert '"summary": "Built by run 214."' in completed.stdout


@pytest.mark.skipif(GCLOUD is None, reason="gcloud isn't installed: the commands of the README are NOT tested")
def test_readme_deploy_commands_are_valid(tmp_path: Path) -> None:
    (code,) = blocks_named(README, "deploy")
    commands = re.findall(r"gcloud .+", code)
    assert not {command: error for command in commands if (error := lint_error(command, tmp_path))}
    script = code.splitlines()[-1]
    completed = subprocess.run(["bash", "-c", f"{script} --dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert "run deploy dataset-relay" in completed.stdout
