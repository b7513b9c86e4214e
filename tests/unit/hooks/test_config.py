"""Tests of handlers.hooks.config."""

from pathlib import Path

import pytest

from handlers.hooks import Config, ConfigError
from schemas.event import Update
from schemas.secret_reference import ReferenceParser
from schemas.settings import Settings, read_settings
from tests.support.configuration import SCHEMAS, load_hooks
from tests.support.hooks import hook, update

APIFY = update("apify", "abc", {"name": None})
ALLOW = Config(allow=("apify:jane~*", "data.world:acme/*"))


@pytest.mark.parametrize(
    ("provider", "dataset", "expected"),
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
def test_allows_dataset_matches_patterns(provider: str, dataset: str, expected: bool) -> None:
    requested = Update(provider, dataset, {})
    assert ALLOW.allows(requested) is expected
    assert Config().allows(requested)
    assert not Config(allow=()).allows(requested)


def test_notes_probable_mistakes_name_hook_and_path(tmp_path: Path) -> None:
    first = update(
        "data.world", "acme/products", {"title": "event.run.id", "summary": "${{ event.x }}", "tags": ["an event"]}
    )
    second = update(
        "data.world", "acme/products", {"title": "{{ headers.authorization }}"}, when="headers['x-gitlab-token'] == ''"
    )
    config = load_hooks(tmp_path, a=hook(first), b=hook(second, when="headers['x-gitlab-token'] == 'x'"))
    file = tmp_path / "relay.yaml"
    dollar = "has a $ before {{. The $ becomes part of the text. The form ${{ … }} is GitHub's."
    assert config.notes({"x-gitlab-token", "authorization"}) == [
        f"{file}:9: hook a: updates.0.update.summary {dollar}",
        f"{file}:12: hook a: updates.0.update.title is literal text, not a template. Did you mean {{{{ event.… }}}}?",
        f"{file}:20: hook b: updates.0.update.title uses the header authorization, which templates can't see.",
        f"{file}:21: hook b: updates.0.when uses the header x-gitlab-token, which templates can't see.",
        f"{file}:22: hook b: when uses the header x-gitlab-token, which templates can't see.",
    ]


def test_warnings_update_without_token_names_variable(tmp_path: Path) -> None:
    settings, _ = read_settings(
        {"APIFY_TOKEN": "env:T", "T": "CANARY-token"},
        dict.fromkeys(SCHEMAS, "https://x.example"),
        ReferenceParser(None),
        default_threads=1,
    )
    body = {"title": "x"}
    hooks = hook(
        update("data.world", "acme/products", body),
        APIFY,
        update("data.world", "acme/products", body, token="own-token"),
    )
    assert load_hooks(tmp_path, a=hooks).warnings(settings) == [
        f"{tmp_path}/relay.yaml:6: hook a: updates.0: DATA_WORLD_TOKEN isn't set. Updates of hooks without a token: 1."
    ]


def test_check_topics_token_of_a_hook_needs_topic(tmp_path: Path) -> None:
    token, queue = {"DATA_WORLD_TOKEN": "env:T", "T": "CANARY-token"}, {
        "DATA_WORLD_TOPIC": "projects/p/topics/data-world", "RELAY_DEAD_LETTER_TOPIC": "projects/p/topics/dead",
        "RELAY_PUSH_AUDIENCE": "https://relay.example", "RELAY_PUSH_ACCOUNT": "push@p.example",
    }  # fmt: skip
    config = load_hooks(tmp_path, a=hook(APIFY), b=hook({**APIFY, "token": "own"}))

    def settings_of(environ: dict[str, str]) -> Settings:
        urls = dict.fromkeys(SCHEMAS, "https://x.example")
        return read_settings(environ, urls, ReferenceParser(environ), default_threads=8)[0]

    config.check_topics(settings_of(token))
    config.check_topics(settings_of({**token, **queue, "APIFY_TOPIC": "projects/p/topics/apify"}))
    with pytest.raises(ConfigError) as caught:
        config.check_topics(settings_of({**token, **queue}))
    (line,) = caught.value.lines
    assert line.endswith("hook b: updates.0.token: The queue has no topic for apify. Set APIFY_TOPIC.")
