"""Tests of schemas.settings."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.pubsub import PushIdentity
from schemas.secret_reference import ReferenceParser, SecretReference
from schemas.settings import Settings, SettingsError, is_loopback, provider_variable, read_settings

BASE_URLS = {"apify": "https://api.apify.com/v2", "data.world": "https://api.data.world/v0"}


def read(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    return read_settings(environ, BASE_URLS, ReferenceParser(environ, ["apify_api_"]), default_threads=8)


def settings_of(**environ: str) -> Settings:
    return read(environ)[0]


def warnings_of(**environ: str) -> list[str]:
    return read(environ)[1]


def errors_of(**environ: str) -> dict[str, list[str]]:
    with pytest.raises(SettingsError) as caught:
        read(environ)
    for name, messages in caught.value.errors.items():
        assert f"  {name}: {messages[0]}" in str(caught.value)
    return caught.value.errors


def test_read_settings_empty_environ_returns_defaults() -> None:
    settings = settings_of()
    assert settings.deadline_seconds == 9
    assert settings.max_body_bytes == 1_048_576
    assert settings.secret_ttl_seconds == 300
    assert settings.threads == 8
    assert settings.provider_concurrency == 6
    assert settings.log_level == "INFO"
    assert settings.secrets == ()
    assert settings.allow_unauthenticated is False
    assert settings.config is None
    assert settings.project is None
    assert settings.secret_manager_emulator is None
    assert {name: (provider.base_url, provider.token) for name, provider in settings.providers.items()} == {
        name: (url, None) for name, url in BASE_URLS.items()
    }


def test_read_settings_empty_variable_counts_as_unset() -> None:
    empty = {"RELAY_DEADLINE_SECONDS": "", "APIFY_TOKEN": " ", "RELAY_SECRET": "", "GOOGLE_CLOUD_PROJECT": ""}
    assert settings_of(**empty) == settings_of()


@pytest.mark.parametrize(("threads", "concurrency"), [("1", 1), ("2", 1), ("4", 3), ("8", 6), ("40", 30), ("200", 150)])
def test_read_settings_provider_concurrency_defaults_to_three_quarters_of_threads(
    threads: str, concurrency: int
) -> None:
    assert settings_of(THREADS=threads).provider_concurrency == concurrency
    assert settings_of(THREADS=threads, RELAY_PROVIDER_CONCURRENCY="5").provider_concurrency == 5


@pytest.mark.parametrize(
    ("variable", "attribute", "valid", "invalid"),
    [
        ("RELAY_DEADLINE_SECONDS", "deadline_seconds", {"0.5": 0.5, "3600": 3600.0, " 9 ": 9.0},
         ["0", "-1", "3600.1", "nan", "inf", "9s", "1e9"]),
        ("RELAY_MAX_BODY_BYTES", "max_body_bytes", {"1": 1, "104857600": 104_857_600},
         ["0", "-1", "104857601", "1.5", "1MB", "nan", "9" * 5000]),
        ("RELAY_PROVIDER_CONCURRENCY", "provider_concurrency", {"1": 1, "1000": 1000}, ["0", "-1", "x", "2.5"]),
        ("RELAY_SECRET_TTL_SECONDS", "secret_ttl_seconds", {"0": 0.0, "86400": 86400.0}, ["-1", "x", "nan", "inf"]),
        ("RELAY_CONFIG", "config", {" my/relay.yaml ": "my/relay.yaml"}, []),
        ("THREADS", "threads", {"1": 1, "200": 200}, ["0", "x"]),
        ("WORKERS", None, {"1": None}, ["0", "x"]),
        ("LOG_LEVEL", "log_level", {"debug": "DEBUG", "CRITICAL": "CRITICAL"}, ["TRACE", "10"]),
        ("GOOGLE_CLOUD_PROJECT", "project", {"my-project-1": "my-project-1", "example.com:p": "example.com:p"},
         ["My Project", "a/b", "-a"]),
        ("SECRET_MANAGER_EMULATOR_HOST", "secret_manager_emulator",
         {"127.0.0.1:1": "127.0.0.1:1", "localhost:9": "localhost:9", "[::1]:9": "[::1]:9",
          "127.9.9.9:9": "127.9.9.9:9"},
         ["example.com:9", "127.0.0.2:", "0.0.0.0:9", "http://localhost:9", "localhost:x", "localhost:99999",
          "localhost:9/x", "10.0.0.1:9", "user@localhost:9", "[::1:9"]),
        ("RELAY_ALLOW_UNAUTHENTICATED", "allow_unauthenticated", {"true": True, "FALSE": False}, ["1", "yes", "on"]),
    ],
)  # fmt: skip
def test_read_settings_variable_returns_value_or_raises(
    variable: str, attribute: str | None, valid: dict[str, Any], invalid: list[str]
) -> None:
    for text, value in valid.items():
        assert attribute is None or getattr(settings_of(**{variable: text}), attribute) == value
    for text in invalid:
        errors = errors_of(**{variable: text})
        assert list(errors) == [variable]
        assert errors[variable][0].startswith("Must be")
        if len(text) > 5:
            assert text not in errors[variable][0]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com:8443/api/v2/", "https://example.com:8443/api/v2"),
        ("http://127.0.0.1:8080/v2", "http://127.0.0.1:8080/v2"),
        ("http://localhost", "http://localhost"),
        ("HTTPS://API.Example.COM:8443/Api/V2/", "https://api.example.com:8443/Api/V2"),
        ("HTTP://LOCALHOST:8080/v2", "http://localhost:8080/v2"),
        ("Http://127.0.0.1", "http://127.0.0.1"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_read_settings_valid_base_url_returns_url_without_trailing_slash(text: str, url: str) -> None:
    assert settings_of(APIFY_BASE_URL=text).providers["apify"].base_url == url
    assert settings_of(DATA_WORLD_BASE_URL=text).providers["data.world"].base_url == url


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com",
        "http://127.0.0.1.example.com",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "ftp://localhost",
        "https://",
        "https://user:CANARY-password@example.com",
        "https://example.com?x=1",
        "https://example.com/#x",
        "example.com",
        "https://example.com:port",
        "https://exa mple.com",
        "https://[::1",
        "https:\\\\example.com",
        "http://localhost@evil.example",
    ],
)
def test_read_settings_invalid_base_url_raises(text: str) -> None:
    assert errors_of(APIFY_BASE_URL=text) == {
        "APIFY_BASE_URL": [
            "Must be an https URL, or an http URL of a loopback host, without user, query, and fragment."
        ]
    }


def test_read_settings_references_have_labels() -> None:
    settings = settings_of(RELAY_SECRET="env:A,env:B,env:A", APIFY_TOKEN="env:A", A="CANARY-1", B="CANARY-2")
    assert [secret.label for secret in settings.secrets] == ["RELAY_SECRET (1 of 3)", "RELAY_SECRET (2 of 3)"]
    token = settings.providers["apify"].token
    assert token == SecretReference("env", "A")
    assert token.label == "APIFY_TOKEN"


@pytest.mark.parametrize("variable", ["APIFY_TOKEN", "DATA_WORLD_TOKEN", "RELAY_SECRET"])
@pytest.mark.parametrize("text", ["apify_api_CANARY", "a secret with spaces", "env:NOT_SET", "file:x", "bare-name"])
def test_read_settings_invalid_reference_raises_without_value(variable: str, text: str) -> None:
    errors = errors_of(**{variable: text})
    assert list(errors) == [variable]
    assert text not in errors[variable][0]


def test_read_settings_several_mistakes_raises_with_all_errors() -> None:
    errors = errors_of(
        RELAY_DEADLINE_SECONDS="soon",
        APIFY_TOKEN="apify_api_CANARY",
        DATA_WORLD_BASE_URL="http://example.com",
        RELAY_ALLOW_UNAUTHENTICATED="true",
        K_SERVICE="relay",
    )
    assert set(errors) == {
        "RELAY_DEADLINE_SECONDS",
        "APIFY_TOKEN",
        "DATA_WORLD_BASE_URL",
        "RELAY_ALLOW_UNAUTHENTICATED",
    }


def test_read_settings_allow_unauthenticated_on_cloud_run_raises() -> None:
    assert settings_of(K_SERVICE="relay", RELAY_ALLOW_UNAUTHENTICATED="false") == settings_of()
    errors = errors_of(K_SERVICE="relay", RELAY_ALLOW_UNAUTHENTICATED="true")
    assert "Cloud Run" in errors["RELAY_ALLOW_UNAUTHENTICATED"][0]


@pytest.mark.parametrize(
    ("environ", "warning"),
    [
        ({}, "RELAY_SECRET isn't set: POST / returns 401 for every request."),
        (
            {"RELAY_ALLOW_UNAUTHENTICATED": "true"},
            "RELAY_ALLOW_UNAUTHENTICATED is true: anyone who can reach this function can update your datasets.",
        ),
    ],
)
def test_read_settings_without_authentication_warns(environ: dict[str, str], warning: str) -> None:
    assert warnings_of(**environ) == [warning]


@pytest.mark.parametrize(
    ("threads", "concurrency", "warns"), [("8", "8", True), ("8", "9", True), ("8", "7", False), ("1", "", True)]
)
def test_read_settings_concurrency_of_all_threads_warns(threads: str, concurrency: str, warns: bool) -> None:
    environ = {"THREADS": threads, "RELAY_PROVIDER_CONCURRENCY": concurrency}
    warnings = warnings_of(RELAY_SECRET="env:A", A="CANARY", **environ)
    beginning = f"RELAY_PROVIDER_CONCURRENCY is {concurrency or 1}, and THREADS is {threads}: "
    assert [warning.startswith(beginning) for warning in warnings] == [True] * warns


def test_read_settings_unknown_variable_warns_with_hint() -> None:
    assert warnings_of(RELAY_SECRET="env:A", A="CANARY", RELAY_DEADLINE="5", RELAY_ZZZ="1", RELAY_TIMEOUT="1") == [
        "RELAY_DEADLINE is not a setting of this function; did you mean RELAY_DEADLINE_SECONDS?",
        "RELAY_ZZZ is not a setting of this function.",
        "RELAY_TIMEOUT is not a setting of this function.",
    ]


def test_read_settings_new_provider_has_variables() -> None:
    environ = {"SOME_HUB_TOKEN": "env:A", "A": "CANARY", "SOME_HUB_BASE_URL": "https://example.com"}
    base_urls = {**BASE_URLS, "some.hub": "https://hub.example"}
    settings, _ = read_settings(environ, base_urls, ReferenceParser(environ), default_threads=1)
    assert settings.providers["some.hub"].token == SecretReference("env", "A")
    assert settings.providers["some.hub"].base_url == "https://example.com"


def test_provider_variable_replaces_dots() -> None:
    assert provider_variable("some.hub", "BASE_URL") == "SOME_HUB_BASE_URL"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.0.1", "::1"])
def test_is_loopback_loopback_host_returns_true(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "localhost.example", "0.0.0.0", "::", "10.0.0.1", "127.1", "::ffff:8.8.8.8"])
def test_is_loopback_other_host_returns_false(host: str) -> None:
    assert not is_loopback(host)


VARIABLES = [
    "RELAY_SECRET",
    "APIFY_TOKEN",
    "APIFY_BASE_URL",
    "RELAY_DEADLINE_SECONDS",
    "RELAY_MAX_BODY_BYTES",
    "THREADS",
    "SECRET_MANAGER_EMULATOR_HOST",
    "LOG_LEVEL",
    "RELAY_ALLOW_UNAUTHENTICATED",
    "GOOGLE_CLOUD_PROJECT",
]
BEGINNINGS = ["", "env:", "file:/", "projects/p/secrets/", "https://", "http://localhost", "apify_api_", "1", "a,b,"]
VALUES = st.tuples(st.sampled_from(BEGINNINGS), st.text(max_size=40), st.just("CANARY")).map("".join)


@given(st.dictionaries(st.sampled_from(VARIABLES), VALUES))
def test_read_settings_any_environ_returns_or_raises_without_value(environ: dict[str, str]) -> None:
    try:
        read(environ)
    except SettingsError as error:
        assert "CANARY" not in str(error)


# The queue

QUEUE = {
    "APIFY_TOKEN": "env:T",
    "T": "CANARY-token",
    "APIFY_TOPIC": "projects/p/topics/apify",
    "RELAY_DEAD_LETTER_TOPIC": "projects/p/topics/dead",
    "RELAY_PUSH_AUDIENCE": "https://relay.example",
    "RELAY_PUSH_ACCOUNT": "push@p.iam.gserviceaccount.com",
}


def test_read_settings_of_the_queue() -> None:
    queue = settings_of(**QUEUE).queue
    assert queue is not None
    assert queue.topics == {"apify": "projects/p/topics/apify"}
    assert queue.dead_letter_topic == "projects/p/topics/dead"
    assert queue.identity == PushIdentity("https://relay.example", "push@p.iam.gserviceaccount.com")
    assert (queue.park_after_seconds, queue.delivery_deadline_seconds) == (86_400, 100)
    assert (queue.region, queue.emulator) == (None, None)
    assert settings_of().queue is None
    assert settings_of().push_certs_url == "https://www.googleapis.com/oauth2/v1/certs"


@pytest.mark.parametrize("missing", [name for name in QUEUE if name not in ("T", "APIFY_TOKEN")])
def test_read_settings_queue_without_one_setting_names_it(missing: str) -> None:
    errors = errors_of(**{name: value for name, value in QUEUE.items() if name != missing})
    first = "RELAY_DEAD_LETTER_TOPIC" if missing == "APIFY_TOPIC" else "APIFY_TOPIC"
    assert errors == {missing: [f"Must be set, because {first} is set: the queue needs all of its settings."]}


def test_read_settings_queue_provider_with_token_needs_topic() -> None:
    assert list(errors_of(**QUEUE, DATA_WORLD_TOKEN="env:T")) == ["DATA_WORLD_TOPIC"]


def test_read_settings_queue_topic_without_token_is_a_warning() -> None:
    warnings = warnings_of(**QUEUE, DATA_WORLD_TOPIC="projects/p/topics/data-world")
    assert warnings[-1] == (
        "DATA_WORLD_TOPIC is set, but DATA_WORLD_TOKEN isn't: only hooks with a token of their own use the topic."
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("APIFY_TOPIC", "apify", "Must be projects/P/topics/T."),
        ("RELAY_PUSH_AUDIENCE", "two words", "Must be printable ASCII"),
        ("RELAY_PUSH_ACCOUNT", "push", "Must be the email address"),
        ("RELAY_PARK_AFTER_SECONDS", "-1", "Must be a number of seconds, from 0 to 604800."),
        ("RELAY_DELIVERY_DEADLINE_SECONDS", "581", "Must be a number of seconds above 0, up to 580."),
        ("RELAY_DELIVERY_DEADLINE_SECONDS", "0", "Must be a number of seconds above 0, up to 580."),
        ("RELAY_REGION", "Europe", "Must be a region of Google Cloud"),
        ("RELAY_PUSH_CERTS_URL", "http://certs.example", "Must be an https URL"),
        ("RELAY_MAX_BODY_BYTES", "7000001", "Must be at most 7000000 with the queue"),
        ("PUBSUB_EMULATOR_HOST", "pubsub.example:1", "Must be host:port with a loopback host"),
    ],
)
def test_read_settings_invalid_setting_of_the_queue_names_the_rule(variable: str, value: str, message: str) -> None:
    errors = errors_of(**{**QUEUE, variable: value})
    assert list(errors) == [variable]
    assert errors[variable][0].startswith(message)


def test_read_settings_queue_without_any_topic_names_a_topic() -> None:
    names = ("RELAY_DEAD_LETTER_TOPIC", "RELAY_PUSH_AUDIENCE", "RELAY_PUSH_ACCOUNT")
    assert list(errors_of(**{name: QUEUE[name] for name in names})) == ["APIFY_TOPIC"]
