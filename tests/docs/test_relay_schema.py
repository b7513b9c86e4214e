"""Tests of deploy/relay.schema.json, with which editors complete and check relay.yaml."""

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from deploy.local.cloud import ROOT
from deploy.local.relay_schema import PATH, build
from handlers.hooks import ConfigError
from handlers.senders import SENDERS
from schemas.strict_yaml import parse
from tests.support.configuration import load_file
from tests.support.markdown import blocks_named
from tests.support.provider_rules import CASES, DATASETS, REFERENCES

SCHEMA: dict[str, Any] = json.loads(PATH.read_text())
VALIDATOR = jsonschema_rs.Draft7Validator(SCHEMA)

RECIPES = sorted(
    path
    for path in (ROOT / "deploy/recipes").glob("*.yaml")
    if not path.name.endswith(".tests.yaml") and "\nhooks:" in path.read_text()
)
FILES = [ROOT / "deploy/relay.yaml", *RECIPES]

# The example of the contract, with a loop and conditions.
EXAMPLE = """
# yaml-language-server: $schema=relay.schema.json
events:                              # limits POST / ; without this section, any dataset is allowed
  allow: ["apify:jane~*", "data.world:acme/*"]
hooks:
  publish-scrape:                    # POST /hooks/publish-scrape
    sender: apify                    # selects the authentication (see the table of senders)
    secret: publish-scrape-secret    # a secret reference, or a list: the function accepts each secret
    when: event.eventType == "ACTOR.RUN.SUCCEEDED"
    updates:
      - provider: apify
        dataset: "{{ event.resource.defaultDatasetId }}"
        update:
          name: "products-{{ event.resource.finishedAt[:10] }}"
          generalAccess: ANYONE_WITH_ID_CAN_READ
      - provider: data.world
        dataset: acme/products
        token: acme-data-world-token # optional: replaces the provider's own token
        update:
          summary: "Scraped {{ event.resource.finishedAt }}"
          files:
            - name: products.csv
              source:
                url: "https://api.apify.com/v2/datasets/{{ event.resource.defaultDatasetId }}/items?format=csv"
"""
LOOP = """
hooks:
  a:
    sender: token
    secret: ["first", "env:SECOND"]
    updates:
      - provider: data.world
        dataset: acme/products
        when: event.done
        update:
          title: "{% if event.x %}a{% endif %}"
          tags: "{{ event.tags }}"
          license: "{{ event.license }}"
          properties: {any: [{for: x in event.y, z: "{{ x }}"}], number: 1, nothing: null}
          files:
            - for: file in event.files
              if: file.size > 0
              name: "{{ file.name }}"
              labels: ["{{ file.label }}"]
              source: {url: "{{ file.url }}", expandArchive: "{{ file.zip }}", requestHeaders: "{{ file.headers }}"}
            - "{{ event.last }}"
            - {name: readme.md, source: "{{ event.source }}"}
      - provider: apify
        dataset: 1234567
        update: "{{ event.update }}"
"""


def is_valid(text: str) -> bool:
    value, errors, _ = parse(text)
    assert errors == {}
    return VALIDATOR.is_valid(value)


def test_relay_schema_file_is_current() -> None:
    assert PATH.read_text() == build(), "run `make schema`"


def test_relay_schema_is_a_json_schema() -> None:
    jsonschema_rs.meta.validate(SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_relay_schema_accepts_shipped_file_whose_first_line_names_the_schema(path: Path) -> None:
    text = path.read_text()
    VALIDATOR.validate(parse(text)[0])
    first = text.partition("\n")[0]
    assert first == f"# yaml-language-server: $schema={os.path.relpath(PATH, path.parent)}"


def test_relay_schema_recipes_are_found() -> None:
    assert len(RECIPES) >= 5


@pytest.mark.parametrize("text", [EXAMPLE, LOOP], ids=["contract", "loop"])
def test_relay_schema_accepts_example(text: str, tmp_path: Path) -> None:
    VALIDATOR.validate(parse(text)[0])
    (tmp_path / "relay.yaml").write_text(text)
    assert load_file(tmp_path / "relay.yaml").hooks


def test_relay_schema_accepts_example_of_recipes_readme() -> None:
    readme = (ROOT / "deploy/recipes/README.md").read_text()
    for name in ("hook", "allow"):
        for text in blocks_named(readme, name):
            VALIDATOR.validate(parse(text)[0])


@pytest.mark.parametrize("text", ["hooks:", "hooks: {}", "{}", "events: {allow: []}"])
def test_relay_schema_accepts_file_without_hooks(text: str) -> None:
    assert is_valid(text)


@pytest.mark.parametrize("name", SENDERS)
def test_relay_schema_accepts_every_sender(name: str) -> None:
    text = EXAMPLE.replace("sender: apify", f"sender: {name}")
    identity = "    audience: https://relay.example\n    account: push@p.example\n"
    with_identity = re.sub(r"^    secret: .*\n", identity, text, flags=re.MULTILINE)
    assert is_valid(text) is (name != "google")
    assert is_valid(with_identity) is (name == "google")


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ('{hmac: sha256, header: X-My-Signature, prefix: "v0=", encoding: hex}', True),
        ("{hmac: sha1, header: X-My-Signature}", True),
        ("{hmac: sha512, header: x, encoding: base64}", True),
        ("{header: X-API-Key}", True),
        ("{}", False),
        ("{hmac: sha256}", False),
        ("{hmac: md5, header: x}", False),
        ("{hmac: sha256, header: x, encoding: base32}", False),
        ("{hmac: sha256, header: 'x y'}", False),
        ("{header: X-API-Key, prefix: v0}", False),
        ("{header: X-API-Key, encoding: hex}", False),
        ("{header: X-API-Key, secret: x}", False),
        ("[apify]", False),
    ],
)
def test_relay_schema_custom_sender(sender: str, expected: bool) -> None:
    assert is_valid(EXAMPLE.replace("sender: apify ", f"sender: {sender} ")) is expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hooks:", "hook:"),
        ("events:", "event:"),
        ("allow:", "deny:"),
        ('"apify:jane~*"', '"apfy:jane~*"'),
        ('"apify:jane~*"', '"jane~*"'),
        ("hooks:\n", ""),  # a hook at the top level
        ("publish-scrape:  ", "Publish_Scrape:"),
        ("sender: apify", "sender: apfy"),
        ("sender: apify", "senders: apify"),
        ("sender: apify", "sender: "),
        ("    secret: publish-scrape-secret", "    # "),
        ("secret: publish-scrape-secret", "secret: []"),
        ("secret: publish-scrape-secret", "secret: [3]"),
        ('when: event.eventType == "ACTOR.RUN.SUCCEEDED"', "when: true"),
        ("    updates:", "    update:"),
        ("- provider: apify", "- provider: apfy"),
        ("- provider: apify", '- provider: "{{ event.provider }}"'),
        ("- provider: apify", "- providr: apify"),
        ("- provider: apify", "- provider: data.world"),  # the update belongs to Apify
        ("dataset: acme/products", "dataset: acme"),
        ("dataset: acme/products", "dataset: 17"),
        ("dataset: acme/products", "dataset: [acme/products]"),
        ("token: acme-data-world-token", "token: 3"),
        ("token: acme-data-world-token", "tokn: acme"),
        ("generalAccess: ANYONE_WITH_ID_CAN_READ", "generalAccess: PUBLIC"),
        ("generalAccess: ANYONE_WITH_ID_CAN_READ", "generalaccess: RESTRICTED"),
        ("generalAccess: ANYONE_WITH_ID_CAN_READ", "title: x"),
        ('name: "products-{{ event.resource.finishedAt[:10] }}"', 'name: "-"'),
        ('summary: "Scraped {{ event.resource.finishedAt }}"', "summary: 3"),
        ("- name: products.csv", "- name: a/b"),
        ("- name: products.csv", "- description: a file"),
        ("- name: products.csv", '- {for: "file in event.files", name: "{{ file }}"}\n            - nam: x'),
        ("- name: products.csv", '- for: "event.files"\n              name: x'),
        ("- name: products.csv", "- for: [a]\n              name: x"),
        ("- name: products.csv", "- if: event.ok\n              name: x"),
        ("- name: products.csv", '- for: "file in event.files"\n              if: true\n              name: x'),
        ("- name: products.csv", '- for: "file in event.files"'),
        ("                url:", "                uri:"),
    ],
)
def test_relay_schema_rejects_what_the_function_rejects(old: str, new: str, tmp_path: Path) -> None:
    assert EXAMPLE.count(old) >= 1, old
    text = EXAMPLE.replace(old, new, 1)
    if new == "":
        head, _, hooks = text.partition("  publish-scrape:")
        text = head + "\n".join(line[2:] for line in f"  publish-scrape:{hooks}".splitlines()) + "\n"
    assert not is_valid(text)
    (tmp_path / "relay.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_file(tmp_path / "relay.yaml")


def file_with(provider: str, dataset: str, update: Any) -> Any:
    entry = {"provider": provider, "dataset": dataset, "update": update}
    return {"hooks": {"a": {"sender": "token", "secret": "x", "updates": [entry]}}}


def test_relay_schema_lacks_only_the_known_rules_for_updates() -> None:
    missing = set()
    for case in CASES:
        for update in case.valid:
            VALIDATOR.validate(file_with(case.provider, DATASETS[case.provider], update))
        for update, _ in case.invalid:
            if VALIDATOR.is_valid(file_with(case.provider, DATASETS[case.provider], update)):
                missing.add(case.rule)
    assert missing == {
        "source.requestHeaders: 4096 bytes with the URL",
        "source.requestEntity: needs a Content-Type",
        "tags: an object with add, remove, or both",
    }


@pytest.mark.parametrize(("provider", "rule", "valid", "invalid"), REFERENCES)
def test_relay_schema_has_the_form_of_datasets(provider: str, rule: str, valid: list[str], invalid: list[str]) -> None:
    update = "{{ event }}"
    for dataset in valid:
        assert VALIDATOR.is_valid(file_with(provider, dataset, update)), (rule, dataset)
    for dataset in invalid:
        assert not VALIDATOR.is_valid(file_with(provider, dataset, update)), (rule, dataset)
