"""Settings: what is read, what is refused, and that a refused value is never repeated."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reference import SecretReference
from schemas.settings import Settings, SettingsError, is_loopback, read_settings, variable

URLS = {"apify": "https://api.apify.com/v2", "data.world": "https://api.data.world/v0"}


def read(**environ: str) -> Settings:
    return read_settings(environ, URLS, default_threads=8)[0]


def warnings(**environ: str) -> list[str]:
    return read_settings(environ, URLS, default_threads=8)[1]


def errors(**environ: str) -> dict[str, list[str]]:
    with pytest.raises(SettingsError) as caught:
        read(**environ)
    text = str(caught.value)
    for name, messages in caught.value.errors.items():
        assert f"  {name}: {messages[0]}" in text
    return dict(caught.value.errors)


def test_defaults() -> None:
    settings = read()
    assert settings.deadline_seconds == 9
    assert settings.max_body_bytes == 1_048_576
    assert settings.secret_ttl_seconds == 300
    assert settings.provider_concurrency == 6
    assert settings.log_level == "INFO"
    assert settings.secrets == ()
    assert settings.allow_unauthenticated is False
    assert settings.secret_manager_emulator is None
    assert {name: (each.base_url, each.token) for name, each in settings.providers.items()} == {
        name: (url, None) for name, url in URLS.items()
    }


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert read(RELAY_DEADLINE_SECONDS="", APIFY_TOKEN=" ", RELAY_SECRET="", GOOGLE_CLOUD_PROJECT="") == read()


@pytest.mark.parametrize(("threads", "share"), [("1", 1), ("2", 1), ("4", 3), ("8", 6), ("40", 30), ("200", 150)])
def test_a_providers_share_is_three_quarters_of_the_threads(threads: str, share: int) -> None:
    assert read(THREADS=threads).provider_concurrency == share
    assert read(THREADS=threads, RELAY_PROVIDER_CONCURRENCY="5").provider_concurrency == 5


@pytest.mark.parametrize(
    ("name", "attribute", "good", "bad"),
    [
        ("RELAY_DEADLINE_SECONDS", "deadline_seconds", {"0.5": 0.5, "3600": 3600.0, " 9 ": 9.0},
         ["0", "-1", "3600.1", "nan", "inf", "9s", "1e9"]),
        ("RELAY_MAX_BODY_BYTES", "max_body_bytes", {"1": 1, "104857600": 104_857_600},
         ["0", "-1", "104857601", "1.5", "1MB", "nan", "9" * 5000]),
        ("RELAY_PROVIDER_CONCURRENCY", "provider_concurrency", {"1": 1, "1000": 1000}, ["0", "-1", "x", "2.5"]),
        ("RELAY_SECRET_TTL_SECONDS", "secret_ttl_seconds", {"0": 0.0, "86400": 86400.0}, ["-1", "x", "nan", "inf"]),
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
def test_each_setting(name: str, attribute: str | None, good: dict[str, Any], bad: list[str]) -> None:
    for text, value in good.items():
        assert attribute is None or getattr(read(**{name: text}), attribute) == value
    for text in bad:
        found = errors(**{name: text})
        assert list(found) == [name]
        assert found[name][0].startswith("Must be")
        if len(text) > 5:
            assert text not in found[name][0]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com:8443/api/v2/", "https://example.com:8443/api/v2"),
        ("http://127.0.0.1:8080/v2", "http://127.0.0.1:8080/v2"),
        ("http://localhost", "http://localhost"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_base_urls(text: str, url: str) -> None:
    assert read(APIFY_BASE_URL=text).providers["apify"].base_url == url
    assert read(DATA_WORLD_BASE_URL=text).providers["data.world"].base_url == url


@pytest.mark.parametrize(
    "text",
    ["http://example.com", "http://127.0.0.1.example.com", "http://10.0.0.1", "http://0.0.0.0", "ftp://localhost",
     "https://", "https://user:pass@example.com", "https://example.com?x=1", "https://example.com/#x", "example.com",
     "https://example.com:port", "https://exa mple.com", "https://[::1", "https:\\\\example.com", "http://localhost@evil.example"],
)  # fmt: skip
def test_no_base_urls(text: str) -> None:
    found = errors(APIFY_BASE_URL=text)
    assert found == {
        "APIFY_BASE_URL": ["Must be an https URL, or http on a loopback host, without user, query or fragment."]
    }


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("projects/p-1/secrets/tok", "manager", "projects/p-1/secrets/tok/versions/latest"),
        ("projects/123/secrets/tok/versions/7", "manager", "projects/123/secrets/tok/versions/7"),
        (" projects/p-1/secrets/tok/versions/latest ", "manager", "projects/p-1/secrets/tok/versions/latest"),
        ("tok_en-1", "manager", "projects/here/secrets/tok_en-1/versions/latest"),
        ("env:MY_TOKEN", "env", "MY_TOKEN"),
        ("file:/run/secrets/apify token", "file", "/run/secrets/apify token"),
        ("projects/p-1/secrets/apify_api_key", "manager", "projects/p-1/secrets/apify_api_key/versions/latest"),
    ],
)
def test_references(text: str, kind: Any, name: str) -> None:
    settings = read(GOOGLE_CLOUD_PROJECT="here", MY_TOKEN="s3cret", APIFY_TOKEN=text, RELAY_SECRET=text)
    assert settings.providers["apify"].token == SecretReference(kind, name)
    assert settings.secrets == (SecretReference(kind, name),)


def test_references_know_where_they_stand() -> None:
    settings = read(RELAY_SECRET="env:A,env:B,env:A", APIFY_TOKEN="env:A", A="1", B="2")
    assert [each.label for each in settings.secrets] == ["RELAY_SECRET (1 of 3)", "RELAY_SECRET (2 of 3)"]
    assert settings.providers["apify"].token == settings.secrets[0]
    token = settings.providers["apify"].token
    assert token is not None
    assert token.label == "APIFY_TOKEN"


def test_a_reference_shows_as_it_is_written() -> None:
    assert str(SecretReference("env", "X")) == "env:X"
    assert str(SecretReference("file", "/x")) == "file:/x"
    assert str(SecretReference("manager", "projects/p/secrets/n/versions/1")) == "projects/p/secrets/n/versions/1"


SECRETS_THEMSELVES = [
    "apify_api_abcdefghijklmnopqrstuvwxyz0123456789",
    "apify_api_x",
    "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
]


@pytest.mark.parametrize("name", ["APIFY_TOKEN", "DATA_WORLD_TOKEN", "RELAY_SECRET"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        *[(text, "Looks like a token") for text in SECRETS_THEMSELVES],
        ("projects/p/secrets/", "Must be a secret reference"),
        ("projects/p/secrets/a/versions/", "Must be a secret reference"),
        ("projects/p/secrets/a/b", "Must be a secret reference"),
        ("a secret with spaces", "Must be a secret reference"),
        ("vault:thing", "Must be a secret reference"),
        ("env:1X", "Must be a secret reference"),
        ("env:", "Must be a secret reference"),
        ("env:NOT_SET_ANYWHERE", "isn't set"),
        ("env:EMPTY", "isn't set"),
        ("env:apify_api_abcdefghijklmnop", "isn't set"),
        ("file:relative/path", "absolute path"),
        ("file:", "absolute path"),
        ("bare-name", "GOOGLE_CLOUD_PROJECT"),
    ],
)
def test_no_references(name: str, text: str, said: str) -> None:
    found = errors(**{name: text, "EMPTY": ""})
    assert list(found) == [name]
    assert said in found[name][0]
    assert len(text) < 6 or text not in found[name][0]


def test_several_references() -> None:
    settings = read(RELAY_SECRET="env:A, projects/p/secrets/b", A="1")
    assert [each.name for each in settings.secrets] == ["A", "projects/p/secrets/b/versions/latest"]
    found = errors(RELAY_SECRET="env:A,,whsec_x", A="1")["RELAY_SECRET"]
    assert [each.split(":")[0] for each in found] == ["2 of 3", "3 of 3"]


def test_all_mistakes_at_once() -> None:
    found = errors(
        RELAY_DEADLINE_SECONDS="soon",
        APIFY_TOKEN="apify_api_x",
        DATA_WORLD_BASE_URL="http://example.com",
        RELAY_ALLOW_UNAUTHENTICATED="true",
        K_SERVICE="relay",
    )
    assert set(found) == {
        "RELAY_DEADLINE_SECONDS", "APIFY_TOKEN", "DATA_WORLD_BASE_URL", "RELAY_ALLOW_UNAUTHENTICATED",
    }  # fmt: skip
    assert "Cloud Run" in found["RELAY_ALLOW_UNAUTHENTICATED"][0]


def test_warnings() -> None:
    assert warnings(RELAY_SECRET="env:A", A="1") == []
    assert warnings() == ["RELAY_SECRET isn't set: POST / answers 401 to everybody."]
    assert "whoever reaches" in warnings(RELAY_ALLOW_UNAUTHENTICATED="true")[0]
    for threads, share, warned in (("8", "8", True), ("8", "9", True), ("8", "7", False), ("1", None, True)):
        given = {"RELAY_PROVIDER_CONCURRENCY": share} if share else {}
        found = warnings(RELAY_SECRET="env:A", A="1", THREADS=threads, **given)
        assert [f"THREADS is {threads}, and {share or 1} calls" in each for each in found] == [True] * warned
    assert warnings(RELAY_SECRET="env:A", A="1", RELAY_DEADLINE="5", RELAY_ZZZ="1", RELAY_TIMEOUT="1") == [
        "RELAY_DEADLINE is not a setting of this function; did you mean RELAY_DEADLINE_SECONDS?",
        "RELAY_ZZZ is not a setting of this function.",
        "RELAY_TIMEOUT is not a setting of this function.",
    ]


def test_a_new_provider_has_its_variables() -> None:
    settings, _ = read_settings(
        {"SOME_HUB_TOKEN": "env:A", "A": "1"}, {**URLS, "some.hub": "https://hub.example"}, default_threads=1
    )
    assert settings.providers["some.hub"].token == SecretReference("env", "A")
    assert variable("some.hub", "BASE_URL") == "SOME_HUB_BASE_URL"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.0.1", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "localhost.example", "0.0.0.0", "::", "10.0.0.1", "127.1", "::ffff:8.8.8.8"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


NAMES = ["RELAY_SECRET", "APIFY_TOKEN", "APIFY_BASE_URL", "RELAY_DEADLINE_SECONDS", "RELAY_MAX_BODY_BYTES",
         "THREADS", "SECRET_MANAGER_EMULATOR_HOST", "LOG_LEVEL", "RELAY_ALLOW_UNAUTHENTICATED",
         "GOOGLE_CLOUD_PROJECT"]  # fmt: skip


STARTS = ["", "env:", "file:/", "projects/p/secrets/", "https://", "http://localhost", "apify_api_", "1", "a,b,"]


@given(st.dictionaries(st.sampled_from(NAMES), st.tuples(st.sampled_from(STARTS), st.text(max_size=40)).map("".join)))
def test_any_environment_is_read_or_refused_without_repeating_it(environ: dict[str, str]) -> None:
    marked = {name: f"{value}q7Xw" for name, value in environ.items()}
    try:
        read(**marked)
    except SettingsError as error:
        assert "q7Xw" not in str(error)
