"""Tests of handlers.hooks.loader: the content of relay.yaml, and every mistake with its hook, path, and reason."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.cloud import ROOT
from handlers.hooks import Config, ConfigError
from handlers.hooks.loader import load
from handlers.hooks.templates.template import Template
from handlers.hooks.templates.tree import TemplateLeaf
from handlers.senders import SENDERS, custom_sender
from schemas.pubsub import PushIdentity
from schemas.secret_reference import ReferenceParser
from tests.support.configuration import SCHEMAS, load_file
from tests.support.provider_rules import CASES, DATASETS, Case

ENVIRON = {"GOOGLE_CLOUD_PROJECT": "p", "SET": "CANARY-a-secret"}

Read = Callable[..., Config]
Mistakes = Callable[..., list[str]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return the content of a text."""

    def call(text: str, environ: Mapping[str, str] | None = ENVIRON, max_template_length: int = 1_048_576) -> Config:
        path = tmp_path / "relay.yaml"
        path.write_text(text)
        return load_file(path, environ, max_template_length)

    return call


@pytest.fixture
def mistakes(read: Read, tmp_path: Path) -> Mistakes:
    """Return the lines about the mistakes in a text, without the folder of the file."""

    def call(text: str, **options: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, **options)
        assert all(line in str(caught.value) for line in caught.value.lines)
        return [line.removeprefix(f"{tmp_path}/") for line in caught.value.lines]

    return call


# The file


def load_default(folder: Path, path_setting: str | None = None) -> Config:
    return load(
        path_setting,
        folder,
        senders=SENDERS,
        custom_sender=custom_sender,
        schemas=SCHEMAS,
        references=ReferenceParser(None),
        max_template_length=1000,
    )


def test_load_absent_default_file_returns_empty_config(tmp_path: Path) -> None:
    assert load_default(tmp_path) == Config()


def test_load_default_file_returns_content(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/relay.yaml").write_bytes(b"\xef\xbb\xbfevents: {allow: []}")
    assert load_default(tmp_path) == Config(allow=())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, ": Can't read the file: No such file or directory."),
        (b"\xff", ": The file is not UTF-8 (byte 0)."),
        (b"a: 1\nb: [", ":2: Not valid YAML"),
    ],
)
def test_load_unreadable_file_raises(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "relay.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_default(tmp_path, str(path))
    assert caught.value.lines[0].startswith(f"{path}{message}")


@pytest.mark.parametrize("text", ["", "# a comment\n", "hooks:\n", "hooks: {}", "---\n", "# a\n\nhooks:\n  # b\n"])
def test_load_file_without_hooks_returns_empty_config(read: Read, text: str) -> None:
    assert read(text) == Config()


def test_load_shipped_file_does_not_import_yaml() -> None:
    program = """
import sys
from pathlib import Path
from handlers.hooks.loader import load
from schemas.secret_reference import ReferenceParser
load(None, Path(), senders={}, custom_sender=print, schemas={}, references=ReferenceParser(None), max_template_length=1)
print("yaml" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# The content

FILE = """
events:
  allow: ["apify:jane~*", "data.world:acme/*"]
hooks:
  publish-scrape:
    sender: apify
    secret: [publish-scrape-secret, "env:SET", "file:/run/secret"]
    when: event.eventType == "ACTOR.RUN.SUCCEEDED"
    updates:
      - provider: apify
        dataset: "{{ event.resource.defaultDatasetId }}"
        update: {name: "products-{{ event.resource.finishedAt[:10] }}", generalAccess: ANYONE_WITH_ID_CAN_READ}
      - provider: data.world
        dataset: acme/products
        token: projects/other/secrets/token/versions/3
        update: {summary: "Scraped {{ event.resource.finishedAt }}", properties: {n: 1, x: null}}
"""


def test_load_file_returns_every_part(read: Read) -> None:
    config = read(FILE)
    assert config.allow == ("apify:jane~*", "data.world:acme/*")
    hook = config.hooks["publish-scrape"]
    assert hook.name == "publish-scrape"
    assert hook.sender is SENDERS["apify"]
    assert [str(reference) for reference in hook.secrets] == [
        "projects/p/secrets/publish-scrape-secret/versions/latest",
        "env:SET",
        "file:/run/secret",
    ]
    assert hook.secrets[1].label == "hook publish-scrape: secret (2 of 3)"
    assert isinstance(hook.when, Template)
    apify, data_world = hook.updates
    assert (apify.provider, apify.token) == ("apify", None)
    assert isinstance(apify.dataset, TemplateLeaf)
    assert data_world.dataset == "acme/products"
    assert str(data_world.token) == "projects/other/secrets/token/versions/3"
    assert data_world.token is not None
    assert data_world.token.label == "hook publish-scrape: updates.1.token"
    assert isinstance(data_world.body, dict)
    assert data_world.body["properties"] == {"n": 1, "x": None}


@pytest.mark.parametrize(("value", "expected"), [("1234567", "1234567"), ("true", "true"), ("1.5", None)])
def test_load_literal_dataset_becomes_text(read: Read, mistakes: Mistakes, value: str, expected: str | None) -> None:
    text = f"hooks: {{a: {{sender: github, secret: x, updates: [{UPDATE.replace('abc', value)}]}}}}"
    if expected is None:
        assert "updates.0.dataset: Must be a dataset" in mistakes(text)[0]
    else:
        assert read(text).hooks["a"].updates[0].dataset == expected


@pytest.mark.parametrize("name", ["a", "0", "a-", "a-b-c", "x" * 63])
def test_load_valid_hook_name_is_accepted(read: Read, name: str) -> None:
    assert name in read(f"hooks: {{'{name}': {{sender: github, secret: x, updates: [{UPDATE}]}}}}").hooks


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a.b", "a/b", "x" * 64, "é", "a\n"])
def test_load_invalid_hook_name_raises(mistakes: Mistakes, name: str) -> None:
    (line,) = mistakes(f"hooks: {{{json.dumps(name)}: {{sender: github, secret: x, updates: [{UPDATE}]}}}}")
    assert line.endswith("The name must have 1 to 63 characters from a-z, 0-9, and '-', and must not begin with '-'.")


# Mistakes

UPDATE = "{provider: apify, dataset: abc, update: {name: null}}"
UPDATE_VALUE = {"provider": "apify", "dataset": "abc", "update": {"name": None}}


def test_load_many_mistakes_reports_each(mistakes: Mistakes) -> None:
    text = """
events: {allow: ["apify:jane~*", "data.wrld:acme/*", "acme/products", "apify:[a-z]", 3]}
hook: {}
hooks:
  Publish:
    sender: githib
    secret: apify_api_abcdef
    when: event.x ==
    update: []
  second:
    sender: github
    sender: gitlab
    secret: [good, "env:UNSET", 3]
    when: evnt.x
    updates:
      - provider: apify
        dataset: a b
        update: {nam: "{{ event.x }}", generalAccess: OPEN, name: "{{ evnt.y }}"}
      - provider: data.wrold
        dataset: "{{ event.x }}"
        update: {}
        tokn: x
      - provider: data.world
        update:
          title: ""
          tags: [a, "{{ event.x }}", ok, ok]
          files: [{source: {url: "{{ event.u }}", reqestEntity: x}}]
      - nothing
      - provider: data.world
        dataset: acme/products
        token: eyJhbGciOi.x.y
        update: "{{ event.update | nofilter }}"
      - provider: data.world
        dataset: acme/products
        update: {titel: "{{ evnt.y }}"}
  third:
"""
    expected = """
        2: events.allow.1: Must be one of: apify, data.world; did you mean data.world?
        2: events.allow.2: Must be provider:dataset. '*' stands for any text.
        2: events.allow.3: Must be provider:dataset. '*' stands for any text.
        2: events.allow.4: Must be a string.
        3: hook: Unknown field; did you mean hooks?
        5: hook Publish: The name must have 1 to 63 characters from a-z, 0-9, and '-', and must not
        5: hook Publish: updates: Required: add this field.
        6: hook Publish: sender: Must be one of: standard-webhooks, github, bitbucket, gitlab, dbt,
        7: hook Publish: secret: Looks like a token or a secret. Give a reference to the secret instead: projects/P
        8: hook Publish: when: Not a valid condition: the expression is incomplete or has an extra character.
        9: hook Publish: update: Unknown field; did you mean updates?
        12: hook second: sender: Duplicate key
        13: hook second: secret: 2 of 3: The environment variable isn't set.
        13: hook second: secret: 3 of 3: Must be a secret reference: projects/P/secrets/NAME
        14: hook second: when: There is no name "evnt". Did you mean event?
        17: hook second: updates.0.dataset: Must be a dataset
        18: hook second: updates.0.update.nam: Unknown field; did you mean name?
        18: hook second: updates.0.update.generalAccess: Must be one of: ANYONE_WITH_ID_CAN_READ
        18: hook second: updates.0.update.name: There is no name "evnt". Did you mean event?
        19: hook second: updates.1.provider: Must be one of: apify, data.world; did you mean data.world?
        22: hook second: updates.1.tokn: Unknown field; did you mean token?
        23: hook second: updates.2.dataset: Required: add this field.
        25: hook second: updates.2.update.title: Must have 1 to 60 characters.
        26: hook second: updates.2.update.tags.0: Must have 2 to 25 characters.
        26: hook second: updates.2.update.tags.3: Must be distinct
        27: hook second: updates.2.update.files.0.name: Required: add this field.
        27: hook second: updates.2.update.files.0.source.reqestEntity: Unknown field; did you mean requestEntity?
        28: hook second: updates.3: Must be an object.
        31: hook second: updates.4.token: Looks like a token or a secret. Give a reference to the secret instead: proje
        32: hook second: updates.4.update: There is no filter "nofilter". The filters are: abs, apify_name, capitalize,
        35: hook second: updates.5.update.titel: There is no name "evnt". Did you mean event?
        35: hook second: updates.5.update.titel: Unknown field; did you mean title?
        36: hook third: Must not be null.
    """
    beginnings = [f"relay.yaml:{line.strip()}" for line in expected.strip().splitlines()]
    lines = [line[:200] for line in mistakes(text)]
    # The order of the mistakes of one line doesn't matter.
    missing = [begin for begin in beginnings if not any(line.startswith(begin) for line in lines)]
    assert missing == []
    assert len(lines) == len(beginnings)
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", "Must be an object with events and hooks."),
        ("hooks: []", "hooks: Must be an object with a hook for each name."),
        ("events:", "events: Must not be null."),
        ("events: {}", "events.allow: Required: add this field."),
        ("events: {allow: apify}", "events.allow: Must be a list."),
        ("events: {allow: ['apify:a'], deny: []}", "events.deny: Unknown field; the known fields are: allow."),
        ("hooks: {_schema: 3}", None),
    ],
)
def test_load_mistake_outside_hooks_names_path(mistakes: Mistakes, text: str, line: str | None) -> None:
    lines = mistakes(text)
    if line is not None:
        assert lines == [f"relay.yaml:1: {line}"]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("{sender: github, secret: x, updates: []}", "updates: Must have at least one update."),
        ("{sender: github, secret: x, updates: {}}", "updates: Must be a list."),
        (f"{{sender: github, secret: [], updates: [{UPDATE}]}}", "secret: Must have at least one secret reference."),
        (f"{{sender: github, secret: , updates: [{UPDATE}]}}", "secret: Must not be null."),
        (f"{{sender: github, secret: x, when: true, updates: [{UPDATE}]}}",
         "when: Must be a string: an expression, without braces."),
        (f"{{sender: github, secret: x, retries: 3, updates: [{UPDATE}]}}",
         "retries: Unknown field; the known fields are: sender, secret, audience, account, wait, when, updates."),
        (f"{{sender: github, secret: x, updates: [{UPDATE.replace('abc', '[a]')}]}}",
         "updates.0.dataset: Must be a string."),
        (f"{{sender: github, secret: x, updates: [{UPDATE.replace('abc', '~')}]}}",
         "updates.0.dataset: Must not be null."),
        (f"{{sender: github, secret: x, when: , updates: [{UPDATE}]}}", "when: Must not be null."),
        (f"{{sender: github, secret: x, updates: [{UPDATE.replace('apify,', 'apify, token: ,')}]}}",
         "updates.0.token: Must not be null."),
        (f"{{sender: github, secret: x, updates: [{UPDATE.replace('apify,', 'apify, token: 3,')}]}}",
         "updates.0.token: Must be a string."),
        (f"{{sender: github, secret: x, updates: [{UPDATE.replace('apify', '{a: b}')}]}}",
         "updates.0.provider: Must be a string."),
        ("{sender: github, secret: x, updates: [{provider: '{{ event.p }}', dataset: abc, update: {name: null}}]}",
         "updates.0.provider: Must be one of: apify, data.world."),
        (f"{{sender: google, account: a@b, updates: [{UPDATE}]}}", "audience: Required: add this field."),
        (f"{{sender: google, audience: x, account: a@b, secret: x, updates: [{UPDATE}]}}",
         "secret: Must be absent. The sender authenticates with an ID token: give its audience and account."),
        (f"{{sender: google, audience: x, account: a, updates: [{UPDATE}]}}",
         "account: Must be the email address of a service account."),
        (f"{{sender: github, secret: x, audience: x, updates: [{UPDATE}]}}",
         "audience: Must be absent. The sender needs a secret."),
        (f"{{sender: github, updates: [{UPDATE}]}}", "secret: Required: add this field."),
        (f"{{sender: github, secret: x, wait: 'yes', updates: [{UPDATE}]}}", "wait: Must be true or false."),
        ("{sender: '{{ event.s }}', secret: x, updates: [{provider: apify, dataset: abc, update: {name: null}}]}",
         f"sender: Must be one of: {', '.join(SENDERS)}."),
    ],
)  # fmt: skip
def test_load_mistake_in_hook_names_path(mistakes: Mistakes, hook: str, message: str) -> None:
    assert mistakes(f"hooks: {{a: {hook}}}") == [f"relay.yaml:1: hook a: {message}"]


def test_load_template_as_key_raises(mistakes: Mistakes) -> None:
    properties = "{'{{ event.k }}': 1, a: [{'{% x': 2}]}"
    text = f"[{{provider: data.world, dataset: acme/products, update: {{properties: {properties}}}}}]"
    assert mistakes(f"hooks: {{a: {{sender: github, secret: x, updates: {text}}}}}") == [
        'relay.yaml:1: hook a: updates.0.update.properties."{{ event.k }}": A key can\'t be a template.',
        'relay.yaml:1: hook a: updates.0.update.properties.a.0."{% x": A key can\'t be a template.',
    ]


def test_load_hook_name_with_dot_is_quoted(mistakes: Mistakes) -> None:
    lines = mistakes(f"hooks: {{my.hook: {{sender: githib, secret: x, updates: [{UPDATE}]}}}}")
    assert lines[0].startswith('relay.yaml:1: hook "my.hook": The name must have ')
    assert lines[1].startswith('relay.yaml:1: hook "my.hook": sender: Must be one of')


def test_load_long_template_raises(mistakes: Mistakes) -> None:
    assert "must have at most 40 characters (RELAY_MAX_BODY_BYTES)." in mistakes(FILE, max_template_length=40)[0]


def test_load_many_wrong_hooks_reports_each(mistakes: Mistakes) -> None:
    hooks = {f"h{number}": {"sender": "x", "secret": "s", "updates": [UPDATE_VALUE]} for number in range(150)}
    assert len(mistakes(yaml.safe_dump({"hooks": hooks}))) == 150


# Secret references


@pytest.mark.parametrize(
    "secret", ["apify_api_x", "whsec_x", "eyJhbGciOi.x.y", "ghp_0123456789", "glpat-x", "0" * 32, "9f" * 20]
)
@pytest.mark.parametrize("environ", [ENVIRON, None])
def test_load_secret_in_place_of_reference_raises(
    mistakes: Mistakes, secret: str, environ: Mapping[str, str] | None
) -> None:
    text = yaml.safe_dump({"hooks": {"a": {"sender": "github", "secret": secret, "updates": [UPDATE_VALUE]}}})
    (line,) = mistakes(text, environ=environ)
    assert "hook a: secret: Looks like a token or a secret." in line


@pytest.mark.parametrize("secret", ["apify_api_abcdef123", "whsec_abcdef123", "eyJabcdef123.x.y", "secret abcdef123"])
def test_load_mistake_hides_secret(mistakes: Mistakes, secret: str) -> None:
    text = yaml.safe_dump({"hooks": {"a": {"sender": "github", "secret": secret, "updates": [{"token": secret}]}}})
    assert "abcdef123" not in "".join(mistakes(text, environ={}))


def test_load_without_environment_checks_only_forms(read: Read, mistakes: Mistakes) -> None:
    text = FILE.replace('"env:SET"', '"env:UNSET"')
    assert read(text, environ=None).hooks
    bare, unset = mistakes(text, environ={})
    assert "hook publish-scrape: secret: 1 of 3: The bare name of a secret needs GOOGLE_CLOUD_PROJECT" in bare
    assert "hook publish-scrape: secret: 2 of 3: The environment variable isn't set." in unset


# The literal parts of an update


@pytest.mark.parametrize("case", CASES, ids=str)
def test_load_literal_update_follows_provider_rules(read: Read, mistakes: Mistakes, case: Case) -> None:
    for update, path in [*((valid, None) for valid in case.valid), *case.invalid]:
        entry = {"provider": case.provider, "dataset": DATASETS[case.provider], "update": update}
        hooks = {"a": {"sender": "github", "secret": "x", "updates": [entry]}}
        text = yaml.safe_dump({"hooks": hooks}, allow_unicode=True)
        if path is None:
            assert read(text).hooks["a"].updates[0].body == update
        else:
            lines = mistakes(text)
            assert all(f": hook a: updates.0.{path}: " in line for line in lines)
            assert case.message in " ".join(lines)


@pytest.mark.parametrize(
    "body",
    [
        "'{{ event.update }}'",
        "{files: [{for: f in event.x, name: '{{ f }}'}, {for: f in event.y, if: f.ok, name: '{{ f.n }}', labels: []}]}",
        "{title: '{{ event.x }}', tags: '{{ event.x }}', files: ['{{ event.x }}', {name: '{{ event.x }}'}]}",
        "{properties: {any: '{{ event.x }}', 'a.b': ['{{ event.x }}']}}",
        "{files: [{name: a, source: {url: '{{ event.x }}', requestHeaders: {A: '{{ event.x }}'}}}]}",
        "{files: [{name: a, source: {url: 'http://x', requestHeaders: '{{ event.x }}', requestEntity: x}}]}",
        "{tags: ['{{ event.x }}', '{{ event.y }}']}",
        "{tags: {add: ['{{ event.x }}'], remove: ['{{ event.y }}']}}",
    ],
)
def test_load_template_in_update_needs_no_value(read: Read, body: str) -> None:
    updates = f"[{{provider: data.world, dataset: '{{{{ event.d }}}}', update: {body}}}]"
    assert read(f"hooks: {{a: {{sender: github, secret: x, updates: {updates}}}}}").hooks


def test_load_loop_checks_literal_parts_of_its_object(mistakes: Mistakes) -> None:
    text = """
hooks:
  a:
    sender: github
    secret: x
    updates:
      - provider: data.world
        dataset: acme/products
        update:
          files:
            - {name: first}
            - for: file in event.files
              if: file.size >
              name: "{{ flie.name }}"
              lables: []
              description: ""
            - for: x in evnt.files
              source: {url: "{{ x.url }}"}
          tags:
            - {for: t in event.tags, tag: "{{ t }}"}
        when: event.a =
"""
    expected = """
        13: hook a: updates.0.update.files.1.if: Not a valid condition: the expression is incomplete
        14: hook a: updates.0.update.files.1.name: There is no name "flie". Did you mean file?
        15: hook a: updates.0.update.files.1.lables: Unknown field; did you mean labels?
        16: hook a: updates.0.update.files.1.description: Must have 1 to 120 characters.
        17: hook a: updates.0.update.files.2.for: There is no name "evnt". Did you mean event?
        17: hook a: updates.0.update.files.2.name: Required: add this field.
        20: hook a: updates.0.update.tags.0: Must be a string.
        21: hook a: updates.0.when: Not a valid condition:
    """
    lines = mistakes(text)
    for line, beginning in zip(lines, expected.strip().splitlines(), strict=True):
        assert line.startswith(f"relay.yaml:{beginning.strip()}"), lines


@pytest.mark.parametrize("value", ["true", "3", "[a]", "null"])
def test_load_when_of_update_that_is_no_string_raises(mistakes: Mistakes, value: str) -> None:
    text = f"hooks: {{a: {{sender: github, secret: x, updates: [{UPDATE.replace('abc,', f'abc, when: {value},')}]}}}}"
    (line,) = mistakes(text)
    assert line.startswith("relay.yaml:1: hook a: updates.0.when: ")


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        ("{titel: '{{ event.x }}'}", "titel", "Unknown field; did you mean title?"),
        ("{files: [{name: a, source: {uri: '{{ event.x }}', url: 'http://x'}}]}", "files.0.source.uri", "Unknown"),
        ("{files: [{for: f in event, name: a, nam: '{{ f }}'}]}", "files.0.nam", "Unknown field; did you mean name?"),
        ("{tags: {ad: '{{ event.x }}'}}", "tags.ad", "Unknown field; did you mean add?"),
    ],
)
def test_load_unknown_field_with_template_raises(mistakes: Mistakes, body: str, path: str, message: str) -> None:
    updates = f"[{{provider: data.world, dataset: acme/products, update: {body}}}]"
    (line,) = mistakes(f"hooks: {{a: {{sender: github, secret: x, updates: {updates}}}}}")
    assert line.startswith(f"relay.yaml:1: hook a: updates.0.update.{path}: {message}")


# Custom senders


def with_sender(sender: Any) -> str:
    update = {"provider": "apify", "dataset": "abc", "update": {"name": "a"}}
    return yaml.safe_dump({"hooks": {"a": {"sender": sender, "secret": "x", "updates": [update]}}})


@pytest.mark.parametrize(
    "sender",
    [
        {"header": "X-API-Key"},
        {"hmac": "sha256", "header": "X-My-Signature"},
        {"hmac": "sha1", "header": "X-My-Signature", "prefix": "v0=", "encoding": "base64"},
    ],
)
def test_load_custom_sender_returns_sender(read: Read, sender: Any) -> None:
    assert read(with_sender(sender)).hooks["a"].sender == custom_sender(sender)


@pytest.mark.parametrize(
    ("sender", "path", "message"),
    [
        ({}, "sender.header", "Required: add this field."),
        ({"header": "X Y"}, "sender.header", "Must be the name of a header, without '_'."),
        ({"header": "X-A", "hmac": "md5"}, "sender.hmac", "Must be one of: sha256, sha1, sha512."),
        ({"header": "X-A", "prefix": "v0="}, "sender.prefix", "Needs hmac."),
        ({"header": "X-A", "encoding": "hex"}, "sender.encoding", "Needs hmac."),
        ({"header": "X-A", "hash": "sha1"}, "sender.hash", "Unknown field"),
        (["github"], "sender", "Must be the name of a sender, or an object"),
        (None, "sender", "Must not be null."),
        ("githbu", "sender", "did you mean github?"),
    ],
)
def test_load_wrong_sender_raises_at_path(mistakes: Mistakes, sender: Any, path: str, message: str) -> None:
    (line,) = [line for line in mistakes(with_sender(sender)) if f"hook a: {path}: " in line]
    assert message in line


def test_load_hook_of_google_has_an_identity(read: Read) -> None:
    google = f"{{sender: google, audience: https://x, account: a@b, updates: [{UPDATE}]}}"
    hooks = read(f"hooks: {{a: {google}, b: {{sender: github, secret: s, wait: true, updates: [{UPDATE}]}}}}").hooks
    first, second = hooks["a"], hooks["b"]
    assert (first.identity, first.secrets, first.wait) == (PushIdentity("https://x", "a@b"), (), False)
    assert (second.identity, len(second.secrets), second.wait) == (None, 1, True)
