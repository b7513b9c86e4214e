"""relay.yaml: read as it looks, and every mistake at once: file, hook, path, reason."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from handlers.providers import PROVIDERS
from handlers.senders import SENDERS
from schemas.config import Config, ConfigError
from schemas.event import Update
from schemas.relay_yaml import Reader
from schemas.settings import read_settings
from schemas.strict_yaml import parse
from schemas.templates import Template
from tests.rules import CASES, Case
from tests.test_rules import DATASETS

ENVIRON = {"GOOGLE_CLOUD_PROJECT": "p", "SET": "a secret"}
SCHEMAS = {name: provider.EVENT for name, provider in PROVIDERS.items()}


def read(text: str, environ: Any = ENVIRON, most: int = 1_048_576) -> Config:
    return Reader(SENDERS, SCHEMAS, environ, most).read(text, "relay.yaml")


def mistakes(text: str, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **more)
    assert all(line in str(caught.value) for line in caught.value.lines)
    return caught.value.lines


# YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2026-11-22", "2026-11-22"),
        ("a: no", "no"),
        ("a: on", "on"),
        ("a: 0123", "0123"),
        ("a: 0x1F", "0x1F"),
        ("a: 1_000", "1_000"),
        ("a: 1:30", "1:30"),
        ("a: .nan", ".nan"),
        ("a: .inf", ".inf"),
        ("a: =", "="),
        ("a: 'true'", "true"),
        ("a: true", True),
        ("a: False", False),
        ("a: null", None),
        ("a: ~", None),
        ("a:", None),
        ("a: 12", 12),
        ("a: -7", -7),
        ("a: 1.5", 1.5),
        ("a: 1e3", 1000.0),
        ("a: 0", 0),
        ("a: [x, {b: 1}]", ["x", {"b": 1}]),
        ("a: |\n  one\n  two\n", "one\ntwo\n"),
        ("a: >-\n  one\n  two\n", "one two"),
        ("a: &x [1]\n", [1]),
        ('a: "\\ud83d\\ude00"', "😀"),
    ],
)
def test_yaml_says_what_it_seems_to_say(text: str, value: Any) -> None:
    found, errors = parse(text)
    assert errors == {}
    assert isinstance(found, dict)
    assert found["a"] == value
    assert type(found["a"]) is type(value)


def test_an_alias_is_what_it_stands_for() -> None:
    assert parse("a: &x {b: [1]}\nc: *x\n") == ({"a": {"b": [1]}, "c": {"b": [1]}}, {})


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("a: 1\nb: 2\na: 3", "a", "Is given twice (line 3)."),
        ("a: {b: 1, b: 2}", "a.b", "Is given twice (line 1)."),
        ("a:\n  - {b: 1}\n  - {c: 1, 'c': 2}", "a.1.c", "Is given twice (line 3)."),
        ("1: x", "", "Has a key that is no text; put it in quotes (line 1)."),
        ("? [a]\n: x", "", "Has a key that is no text; put it in quotes (line 1)."),
        ("a: !!python/object/apply:os.system [x]", "a", "which is not taken (line 1)."),
        ("a: !!binary aGk=", "a", "which is not taken (line 1)."),
        ("a: !!int x", "a", "which is not taken (line 1)."),
        ("a: !mine x", "a", "which is not taken (line 1)."),
        ("a: " + "9" * 400, "a", "Is a number that is out of range (line 1)."),
        ("a: 1e999", "a", "Is a number that is out of range (line 1)."),
        ('a: "\\ud800"', "a", "Holds half of a surrogate pair (line 1)."),
        ("a: [", "", "Is not YAML: expected the node content, but found '<stream end>' (line 1, column 5)."),
        ("a: {{ event.x }}", "a", "What begins with {{ has to be put in quotes (line 1)."),
        ("a: {{ event.x }}-b", "", "Put a value that begins with a quote or with {{ in quotes, the whole of it."),
        ("a:\n\tb: 1", "", "Indent with spaces, not with tabs."),
        ("a: b: c", "", "allowed here (line 1, column 5). Put a value with ': ' in it in quotes."),
        ("a: 1\n---\nb: 2", "", "(line 2, column 1). There is one document in a file."),
        ("a: *x", "", "Is not YAML: found undefined alias 'x' (line 1, column 4)."),
        ("a: \x01", "", "Is not YAML: it holds a character that YAML doesn't allow."),
        ("a: " + "[" * 5000, "", "Is nested deeper than 64 levels."),
    ],
)
def test_what_is_wrong_with_yaml(text: str, path: str, said: str) -> None:
    _, errors = parse(text)
    assert list(errors) == [path]
    assert errors[path][0].endswith(said)


def test_aliases_without_end() -> None:
    _, errors = parse("a: &x [*x]")
    assert "Is nested deeper than 64 levels" in next(iter(errors.values()))[0]
    bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    _, errors = parse(bomb)
    assert errors == {"": ["Holds more than 100000 values; an alias counts as what it stands for."]}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text("abz019-_:.{}#!&*'\" \n~", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abz-", min_size=1), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abz-", min_size=1, max_size=5), JSON_VALUES, max_size=4))
def test_what_is_written_is_what_is_read(value: dict[str, Any]) -> None:
    # JSON is YAML, but for what PyYAML thinks of very long keys.
    assert parse(json.dumps(value)) == (value, {})


@given(st.text("ab:-[]{}#&*!|>'\"%@`,?\n 019.~\t\\", max_size=60))
def test_any_text_is_a_value_or_a_mistake(text: str) -> None:
    value, errors = parse(text)
    json.dumps(value, allow_nan=False)
    assert all(message for messages in errors.values() for message in messages)


# The whole


@pytest.mark.parametrize("text", ["", "# nothing but a note\n", "hooks:\n", "hooks: {}", "---\n"])
def test_nothing_is_configured(text: str) -> None:
    assert read(text) == Config()


WHOLE = """
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


def test_the_whole() -> None:
    config = read(WHOLE)
    assert config.allow == ("apify:jane~*", "data.world:acme/*")
    hook = config.hooks["publish-scrape"]
    assert hook.sender == "apify"
    assert [str(each) for each in hook.secrets] == [
        "projects/p/secrets/publish-scrape-secret/versions/latest",
        "env:SET",
        "file:/run/secret",
    ]
    assert hook.secrets[1].label == "hook publish-scrape: secret (2 of 3)"
    assert isinstance(hook.when, Template)
    apify, data_world = hook.updates
    assert isinstance(apify.dataset, Template)
    assert apify.token is None
    assert data_world.dataset == "acme/products"
    assert str(data_world.token) == "projects/other/secrets/token/versions/3"
    assert data_world.token is not None
    assert data_world.token.label == "hook publish-scrape: updates.1.token"
    assert isinstance(data_world.body, dict)
    assert data_world.body["properties"] == {"n": 1, "x": None}


@pytest.mark.parametrize(
    ("provider", "dataset", "allowed"),
    [
        ("apify", "jane~products", True),
        ("apify", "jane~", True),
        ("apify", "janet~products", False),
        ("apify", "Jane~products", False),
        ("apify", "WkzbQMuFYuamGv3YF", False),
        ("data.world", "acme/products", True),
        ("data.world", "acme-x/products", False),
        ("data.world", "jane~x", False),
    ],
)
def test_allow(provider: str, dataset: str, allowed: bool) -> None:
    assert read(WHOLE).allows(Update(provider, dataset, {})) is allowed
    assert Config().allows(Update(provider, dataset, {}))
    assert not read("events: {allow: []}").allows(Update(provider, dataset, {}))


def test_every_mistake_at_once() -> None:
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
  third:
"""
    expected = """
        hook second: sender: Is given twice (line 12).
        hook: Unknown field; did you mean hooks?
        events.allow.1: Must be one of: apify, data.world; did you mean data.world?
        events.allow.2: Must be provider:dataset, where '*' stands for any characters.
        events.allow.3: Must be provider:dataset, where '*' stands for any characters.
        events.allow.4: Not a valid string.
        hook Publish: The hook's name: Must be 1 to 63 of a-z, 0-9 and '-', not first a '-'.
        hook Publish: sender: Must be one of: standard-webhooks, github, bitbucket, gitlab, dbt,
        hook Publish: secret: Looks like a token or secret itself; give a reference to it: projects/P/secrets/NAME
        hook Publish: when: Not a valid template: unexpected ')' (line 1).
        hook Publish: updates: Missing data for required field.
        hook Publish: update: Unknown field; did you mean updates?
        hook second: secret: 2 of 3: Names an environment variable that isn't set.
        hook second: secret: 3 of 3: Must be a secret reference: projects/P/secrets/NAME
        hook second: when: There is no "evnt" here; did you mean event?
        hook second: updates.0.update.name: There is no "evnt" here; did you mean event?
        hook second: updates.0.dataset: Must be a dataset id (letters and digits) or username~dataset-name.
        hook second: updates.0.update.generalAccess: Must be one of: ANYONE_WITH_ID_CAN_READ
        hook second: updates.0.update.nam: Unknown field; did you mean name?
        hook second: updates.1.provider: Must be one of: apify, data.world; did you mean data.world?
        hook second: updates.1.tokn: Unknown field; did you mean token?
        hook second: updates.2.dataset: Missing data for required field.
        hook second: updates.2.update.title: Length must be between 1 and 60.
        hook second: updates.2.update.tags.0: Length must be between 2 and 25.
        hook second: updates.2.update.tags.3: Is in the list already; items must be distinct.
        hook second: updates.2.update.files.0.name: Missing data for required field.
        hook second: updates.2.update.files.0.source.reqestEntity: Unknown field; did you mean requestEntity?
        hook second: updates.3: Must be a JSON object.
        hook second: updates.4.token: Looks like a token or secret itself; give a reference to it: projects/P/secrets
        hook second: updates.4.update: There is no filter "nofilter" here; there are abs, apify_name, capitalize,
        hook third: Must be a JSON object.
    """
    beginnings = [f"relay.yaml: {line.strip()}" for line in expected.strip().splitlines()]
    assert [line[: len(begins)] for line, begins in zip(mistakes(text), beginnings, strict=True)] == beginnings


def test_no_mistake_repeats_a_secret() -> None:
    for secret in ("apify_api_abcdef123", "whsec_abcdef123", "eyJabcdef123.x.y", "my very secret abcdef123"):
        text = yaml.safe_dump({"hooks": {"a": {"sender": "github", "secret": secret, "updates": [{}]}}})
        assert "abcdef123" not in "".join(mistakes(text, environ={}))


@pytest.mark.parametrize(
    "secret",
    [
        "apify_api_x",
        "whsec_x",
        "eyJhbGciOi.x.y",
        "ghp_0123456789",
        "github_pat_11AB",
        "glpat-x",
        "dbtc_x",
        "dbtu_x",
        "0" * 32,
        "9f" * 20,
    ],
)
def test_what_looks_like_a_secret_is_no_reference(secret: str) -> None:
    text = yaml.safe_dump({"hooks": {"a": {"sender": "github", "secret": secret, "updates": [UPDATE_VALUE]}}})
    for environ in (ENVIRON, None):
        assert "hook a: secret: Looks like a token or secret itself" in mistakes(text, environ=environ)[0]


UPDATE_VALUE = {"provider": "apify", "dataset": "abc", "update": {"name": None}}


def test_what_may_have_been_meant_as_a_template() -> None:
    updates = [
        {
            "provider": "data.world",
            "dataset": "acme/products",
            "update": {
                "title": "event.run.id",
                "description": "{event.x}",
                "summary": "${{ event.x }}",
                "tags": ["an event"],
            },
        }
    ]
    seen = {"provider": "data.world", "dataset": "acme/products", "update": {"title": "{{ headers.authorization }}"}}
    hooks = {
        "a": {"sender": "github", "secret": "x", "updates": updates},
        "b": {"sender": "github", "secret": "x", "when": "headers['x-gitlab-token'] == 'x'", "updates": [seen]},
    }
    config = read(yaml.safe_dump({"hooks": hooks}, sort_keys=False))
    assert config.doubts({"x-gitlab-token", "authorization"}) == [
        "hook a: updates.0.update.title is no template as it stands; is {{ event.… }} meant?",
        "hook a: updates.0.update.description is no template as it stands; is {{ event.… }} meant?",
        "hook a: updates.0.update.summary has a $ before {{, which stays there.",
        "hook b: when reads the header x-gitlab-token, which no template sees.",
        "hook b: updates.0.update.title reads the header authorization, which no template sees.",
    ]


UPDATE = "{provider: apify, dataset: abc, update: {name: null}}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", "relay.yaml: Must be an object, with events and hooks."),
        ("hooks: []", "relay.yaml: hooks: Must be an object: a name and a hook each."),
        ("events:", "relay.yaml: events: Must be a JSON object."),
        ("events: {}", "relay.yaml: events.allow: Missing data for required field."),
    ],
)
def test_single_mistakes(text: str, line: str) -> None:
    assert mistakes(text) == [line]


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("{sender: github, secret: x, updates: []}", "updates: Must hold at least one update."),
        (f"{{sender: github, secret: [], updates: [{UPDATE}]}}", "secret: Must hold at least one secret reference."),
        (f"{{sender: github, secret: x, when: true, updates: [{UPDATE}]}}",
         "when: Must be a string: an expression, without braces."),
        (f"{{sender: github, secret: x, wait: true, updates: [{UPDATE}]}}",
         "wait: Unknown field; known are sender, secret, when, updates."),
        (f"{{sender: github, secret: x, updates: [{UPDATE.replace('abc', '[a]')}]}}",
         "updates.0.dataset: Not a valid string."),
        (f"{{sender: github, secret: x, updates: [{UPDATE.replace('abc', '~')}]}}",
         "updates.0.dataset: Field may not be null."),
        (f"{{sender: github, secret: x, when: , updates: [{UPDATE}]}}", "when: Field may not be null."),
        (f"{{sender: github, secret: x, updates: [{UPDATE.replace('apify,', 'apify, token: ,')}]}}",
         "updates.0.token: Field may not be null."),
        (f"{{sender: github, secret: x, updates: [{UPDATE.replace('apify', '{a: b}')}]}}",
         "updates.0.provider: Not a valid string."),
        ("{sender: github, secret: x, updates: [{provider: '{{ event.p }}', dataset: abc, update: {name: null}}]}",
         "updates.0.provider: Must be one of: apify, data.world."),
        ("{sender: '{{ event.s }}', secret: x, updates: [{provider: apify, dataset: abc, update: {name: null}}]}",
         f"sender: Must be one of: {', '.join(SENDERS)}."),
    ],
)  # fmt: skip
def test_single_mistakes_of_a_hook(hook: str, said: str) -> None:
    assert mistakes(f"hooks: {{a: {hook}}}") == [f"relay.yaml: hook a: {said}"]


def test_a_key_is_never_a_template() -> None:
    properties = "{'{{ event.k }}': 1, a: [{'{% x': 2}]}"
    text = f"[{{provider: data.world, dataset: acme/products, update: {{properties: {properties}}}}}]"
    assert mistakes(f"hooks: {{a: {{sender: github, secret: x, updates: {text}}}}}") == [
        'relay.yaml: hook a: updates.0.update.properties."{{ event.k }}": A key is never a template.',
        'relay.yaml: hook a: updates.0.update.properties.a.0."{% x": A key is never a template.',
    ]


def test_a_dataset_that_is_a_number_is_text() -> None:
    for text in ("1234567", "true"):
        hook = f"{{sender: github, secret: x, updates: [{UPDATE.replace('abc', text)}]}}"
        assert read(f"hooks: {{a: {hook}}}").hooks["a"].updates[0].dataset == text


def test_a_name_with_a_dot_is_shown_whole() -> None:
    hook = f"{{sender: githib, secret: x, updates: [{UPDATE}]}}"
    lines = mistakes(f"hooks: {{my.hook: {hook}}}")
    assert lines[0].startswith('relay.yaml: hook "my.hook": The hook\'s name: Must be')
    assert lines[1].startswith('relay.yaml: hook "my.hook": sender: Must be one of')


def test_names_of_hooks() -> None:
    hook = "{sender: github, secret: x, updates: [{provider: apify, dataset: abc, update: {name: null}}]}"
    for name in ("a", "0", "a-", "a-b-c", "x" * 63):
        assert name in read(f"hooks: {{'{name}': {hook}}}").hooks
    for name in ("", "-a", "A", "a_b", "a.b", "a/b", "x" * 64, "é", "a\n"):
        assert len(mistakes(f"hooks: {{{json.dumps(name)}: {hook}}}")) == 1, name


def test_without_an_environment_only_forms_count() -> None:
    text = WHOLE.replace('"env:SET"', '"env:UNSET"')
    assert read(text, environ=None).hooks
    bare, unset = mistakes(text, environ={})
    assert "hook publish-scrape: secret: 1 of 3: Is the bare name of a secret, which needs GOOGLE_CLOUD_PROJECT" in bare
    assert "hook publish-scrape: secret: 2 of 3: Names an environment variable that isn't set." in unset
    assert len(mistakes(text.replace("env:UNSET", "apify_api_x"), environ=None)) == 1


def test_a_template_is_no_longer_than_a_body() -> None:
    assert "Must be at most 40 characters (RELAY_MAX_BODY_BYTES)." in mistakes(WHOLE, most=40)[0]


# What is literal in an update, against the rules of the platforms


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_literal_is_judged_as_an_event_is(case: Case) -> None:
    """Each case of tests/rules.py: the start refuses what an event's schema refuses, at the same paths."""
    for update, path in [*((each, None) for each in case.inside), *case.outside]:
        given = {"provider": case.provider, "dataset": DATASETS[case.provider], "update": update}
        hooks = {"a": {"sender": "github", "secret": "x", "updates": [given]}}
        text = yaml.safe_dump({"hooks": hooks}, allow_unicode=True)
        if path is None:
            assert read(text).hooks["a"].updates[0].body == update
        else:
            lines = mistakes(text)
            assert all(line.startswith(f"relay.yaml: hook a: updates.0.{path}: ") for line in lines)
            assert case.says in " ".join(lines)


def test_a_warning_where_an_update_has_no_token() -> None:
    settings, _ = read_settings({"APIFY_TOKEN": "env:T", "T": "t"}, dict.fromkeys(SCHEMAS, "https://x.example"),
                                default_threads=1)  # fmt: skip
    updates = "[{provider: data.world, dataset: acme/products, update: {title: x}}, " + UPDATE + "]"
    config = read(f"hooks: {{a: {{sender: github, secret: x, updates: {updates}}}}}")
    expected = "DATA_WORLD_TOKEN isn't set: 1 updates of hooks have no token, as hook a: updates.0."
    assert config.warnings(settings) == [expected]
