"""Tests of deploy/recipes/README.md: its generated tables, its examples, and its lists."""

import hmac
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import yaml
from marshmallow import Schema, fields, validate

from deploy.local.cloud import ROOT, secret_name
from deploy.local.field_tables import PATH, build, rows
from handlers.hooks.templates.filters import FILTERS, TESTS
from handlers.hooks.templates.template import compile_template
from handlers.providers import PROVIDERS
from handlers.senders import SENDERS
from schemas.base import StrictList, UpdateSchema, matches
from schemas.pubsub import PushIdentity
from tests.support.configuration import load_file
from tests.support.hooks import call
from tests.support.markdown import blocks_named, broken_links, code_blocks, count_code_blocks
from tests.support.payloads import github_workflow
from tests.support.relay import Launch, create_cloud

TEXT = PATH.read_text()
SECTIONS = {section.partition("\n")[0]: section for section in re.split(r"^#+ ", TEXT, flags=re.MULTILINE)}


def names_in(section: str) -> set[str]:
    """Return the text of each code span in a section."""
    return set(re.findall(r"`([^`\n]+)`", SECTIONS[section]))


# The generated tables


def test_field_tables_are_current() -> None:
    assert build() == TEXT, "run `make tables`"


def test_field_tables_without_the_marks_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("# A document\n")
    monkeypatch.setattr("deploy.local.field_tables.PATH", tmp_path / "README.md")
    with pytest.raises(ValueError, match=r"must contain the lines '<!-- generated"):
        build()


def test_field_tables_have_every_field() -> None:
    for provider in PROVIDERS.values():
        for name in provider.update_schema.fields:
            assert f"| `{name}` |" in SECTIONS[provider.title]
    assert "| `files[].source.oauthToken.id` | string |  | Required. Must be a UUID. |" in TEXT


def test_field_table_row_states_each_rule() -> None:
    class Part(UpdateSchema):
        """A part of
        an update."""

        size = fields.String(required=True, validate=validate.Length(min=1), metadata={"secret": True})

    class Update(UpdateSchema):
        name = fields.String(
            allow_none=True,
            validate=[validate.Length(max=25_000), matches("[^~]", "Must not contain '~' or '|'.")],
            metadata={"description": "A *name*."},
        )
        parts = StrictList(fields.Nested(Part), distinct=True)
        part = fields.Nested(Part)

    assert list(rows(Update(), "")) == [
        r"| `name` | string | yes | A \*name\*. Up to 25,000 characters. Must not contain '\~' or '\|'. |",
        "| `parts` | list of objects |  | Each item: a part of an update. The items are distinct. |",
        "| `parts[].size` | string |  | Required. At least 1 character. A credential. |",
        "| `part` | object |  | A part of an update. |",
        "| `part.size` | string |  | Required. At least 1 character. A credential. |",
    ]


def test_field_table_unknown_rule_or_type_is_an_error() -> None:
    for field in (fields.String(validate=validate.URL()), fields.Decimal()):
        schema = Schema.from_dict({"x": field})()
        with pytest.raises(TypeError, match="has no "):
            list(rows(schema, ""))


def test_field_effects_have_every_field() -> None:
    names = names_in("Fields that replace, and fields that add")
    for provider in PROVIDERS.values():
        assert set(provider.update_schema.fields) <= names


# The examples


def test_recipes_readme_every_block_of_code_is_tested() -> None:
    assert count_code_blocks(TEXT) == len(code_blocks(TEXT))


def test_recipes_readme_hook_updates_both_datasets(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    # The limits on native events don't apply to the hook.
    path.write_text("\n".join([*blocks_named(TEXT, "allow"), *blocks_named(TEXT, "hook")]).replace("acme/*", "none"))
    cloud = create_cloud().start()
    for name, value in (("github-webhook-secret", "CANARY"), ("janes-apify-token", cloud.apify_token)):
        cloud.secret_manager.add_version(secret_name(name), value)
    cloud.data_world.add("acme/products")
    dataset = cloud.apify.add("jane", "products")
    relay = launch(on=cloud, RELAY_CONFIG=str(path), APIFY_TOKEN=None)
    payload = github_workflow()
    payload["repository"]["name"] = "products"
    response = call(relay, "build-products", payload, sender="github", secret="CANARY")
    assert response.status_code == 200, response.text
    assert cloud.data_world.datasets["acme/products"]["summary"] == "Built by run 214 on 2026-11-22."
    assert cloud.apify.datasets[dataset]["generalAccess"] == "ANYONE_WITH_NAME_CAN_READ"
    event = {"provider": "data.world", "dataset": "acme/products", "update": {"title": "Products"}}
    assert relay.post(event).status_code == 403
    cloud.stop()


def run_in_bash(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", "-c", script.replace(".venv/bin/python", sys.executable)],
        env={"PATH": os.environ["PATH"], **variables}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def test_recipes_readme_check_commands_print_the_update(tmp_path: Path) -> None:
    (script,) = blocks_named(TEXT, "check")
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps(github_workflow()))
    completed = run_in_bash(script.replace("payload.json", str(payload)))
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout.startswith("deploy/relay.yaml: no mistakes, 0 hooks.\n")
    assert "updates.0: PATCH https://api.data.world/v0/datasets/acme/products" in completed.stdout


def test_recipes_readme_check_without_payload_uses_the_sample() -> None:
    (script,) = blocks_named(TEXT, "sample")
    completed = run_in_bash(script)
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout.startswith("Payload: deploy/samples/gitlab.json\n")
    assert "updates.0: PATCH https://api.data.world/v0/datasets/acme/products" in completed.stdout


def test_recipes_readme_tests_of_the_hook_pass_and_accept_writes_the_result(tmp_path: Path) -> None:
    (hook,), (tests,), (accept,) = (blocks_named(TEXT, name) for name in ("hook", "tests", "accept"))
    shutil.copytree(ROOT / "deploy/samples", tmp_path / "samples")
    (tmp_path / "relay.yaml").write_text(hook)
    tests_file = tmp_path / "relay.tests.yaml"
    tests_file.write_text(tests)
    config = {"RELAY_CONFIG": str(tmp_path / "relay.yaml")}
    check = ".venv/bin/python main.py check"
    completed = run_in_bash(check, **config)
    assert (completed.returncode, completed.stderr) == (0, ""), completed.stdout
    assert "2 tests passed" in completed.stdout
    expected = yaml.safe_load(tests)
    tests_file.write_text(tests.replace("run 214", "run 1"))
    assert run_in_bash(check, **config).returncode == 1
    completed = run_in_bash(accept, **config)
    assert completed.returncode == 0, completed.stdout
    assert yaml.safe_load(tests_file.read_text()) == expected


@pytest.mark.parametrize("text", blocks_named(TEXT, "sender"))
def test_recipes_readme_custom_sender_is_accepted(launch: Launch, tmp_path: Path, text: str) -> None:
    cloud = create_cloud().start()
    cloud.secret_manager.add_version(secret_name("custom-secret"), "CANARY")
    cloud.data_world.add("acme/products")
    update = {"provider": "data.world", "dataset": "acme/products", "update": {"title": "Products"}}
    sender = yaml.safe_load(text)["sender"]
    hook = {"sender": sender, "secret": "custom-secret", "updates": [update]}
    (tmp_path / "relay.yaml").write_text(json.dumps({"hooks": {"custom": hook}}))
    relay = launch(on=cloud, RELAY_CONFIG=str(tmp_path / "relay.yaml"))
    credential = "CANARY"
    if "hmac" in sender:
        credential = sender["prefix"] + hmac.new(b"CANARY", b"{}", sender["hmac"]).hexdigest()
    headers = {"Content-Type": "application/json", sender["header"]: credential}
    assert requests.post(f"{relay.url}/hooks/custom", data=b"{}", headers=headers, timeout=30).status_code == 200
    headers[sender["header"]] = "wrong"
    assert requests.post(f"{relay.url}/hooks/custom", data=b"{}", headers=headers, timeout=30).status_code == 401
    cloud.stop()


def test_recipes_readme_hook_of_google_is_accepted(tmp_path: Path) -> None:
    (text,) = blocks_named(TEXT, "google")
    update = {"provider": "data.world", "dataset": "acme/products", "update": {"title": "Products"}}
    hook = {**yaml.safe_load(text), "updates": [update]}
    path = tmp_path / "relay.yaml"
    path.write_text(json.dumps({"hooks": {"google": hook}}))
    loaded = load_file(path).hooks["google"]
    assert loaded.identity == PushIdentity("https://YOUR-FUNCTION", "relay-push@YOUR-PROJECT.iam.gserviceaccount.com")


def test_recipes_readme_list_becomes_one_file_per_item(tmp_path: Path) -> None:
    (text,) = blocks_named(TEXT, "list")
    update = {"provider": "data.world", "dataset": "acme/products", "update": yaml.safe_load(text)}
    hook = {"sender": "token", "secret": "file-list-secret", "updates": [update]}
    (tmp_path / "relay.yaml").write_text(json.dumps({"hooks": {"file-list": hook}}))
    files = [{"name": f"{size}.csv", "size": size, "url": f"https://example.com/{size}"} for size in (0, 1, 2)]
    (tmp_path / "payload.json").write_text(json.dumps({"files": files}))
    completed = run_in_bash(
        f".venv/bin/python main.py check --hook file-list --payload {tmp_path}/payload.json",
        RELAY_CONFIG=str(tmp_path / "relay.yaml"),
    )
    assert completed.returncode == 0, completed.stdout
    body = json.loads(completed.stdout.partition("acme/products\n")[2])
    assert [file["name"] for file in body["files"]] == ["1.csv", "2.csv"]


def test_recipes_readme_templates_are_valid() -> None:
    spans = re.findall(r"`(\{\{ [^`]+ \}\})`", TEXT)
    templates = [span.replace(r"\|", "|") for span in spans if span != "{{ … }}"]
    assert len(templates) >= 6
    for template in templates:
        compile_template(template, 1000)


# The lists


def test_recipes_readme_links_to_every_recipe() -> None:
    files = {path.name for path in PATH.parent.iterdir() if path.suffix in (".yaml", ".py")}
    recipes = {name for name in files if not name.endswith(".tests.yaml")}
    assert recipes == set(re.findall(r"\[(\S+)\]\(\1\)", SECTIONS["Recipes"]))


def test_recipes_readme_names_every_sender() -> None:
    first_cells = re.findall(r"^\| (`.*?) \|", SECTIONS["Senders"], re.MULTILINE)[1:]
    assert set(re.findall(r"`([\w-]+)`", " ".join(first_cells))) == set(SENDERS)


def test_recipes_readme_names_the_senders_with_a_test_message() -> None:
    (sentence,) = re.findall(r"needs no condition for the test messages of (.*?):", SECTIONS["Conditions"], re.DOTALL)
    with_test_message = {
        name for name, sender in SENDERS.items() if sender.test_header or sender.test_field or sender.test_texts
    }
    assert set(re.findall(r"`([\w-]+)`", sentence)) == with_test_message


def test_recipes_readme_names_every_filter_and_test() -> None:
    before, _, after = SECTIONS["Filters"].partition("These [tests]")
    own = set(re.findall(r"^\| `(\w+)` \|", before, re.MULTILINE))
    assert own | set(re.findall(r"`(\w+)`", before.partition("Jinja2 in the following list")[2])) == set(FILTERS)
    assert set(re.findall(r"`(\w+)`", after.partition("\n\n")[2])) == {name for name in TESTS if name.isidentifier()}


def test_recipes_readme_links_lead_to_files_and_headings() -> None:
    assert broken_links(PATH) == []
