"""The leak detector: every copy of a secret is found, nothing else is, and the test that leaked fails."""

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.leak_sources import MOST, of_event, of_request, of_settings
from tests.leaks import LONG, PART, Found, Secrets, is_telling

SECRET = "s3cr%t\"wörd'/ <&amp; 💶\\n"


def _secrets(letters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """With something in it that no text has by chance, so that each of them counts."""
    around = st.text(letters, min_size=2, max_size=30)
    return st.builds(lambda before, after: f"{before}~7Kq{after}", around, around)


ASCII = _secrets(st.characters(min_codepoint=32, max_codepoint=126))
ANY = _secrets(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]))


def _utf_16(text: str) -> str:
    return text.encode("utf-16-le").decode("latin-1")


#: How anything may write a text that it repeats.
WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "reversed": lambda text: text[::-1],
    "hex": lambda text: text.encode().hex(),
    "upper-case hex": lambda text: text.encode().hex().upper(),
    **{
        f"base64 behind {before} bytes": lambda text, before=before: base64.b64encode(  # type: ignore[misc]
            b"u" * before + text.encode() + b":p"
        ).decode()
        for before in range(4)
    },
    "URL-safe base64": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded in lower case": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "form-encoded": quote_plus,
    "percent-encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON": json.dumps,
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON with its slashes escaped": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON, every unit escaped": lambda text: "".join(
        f"\\u{unit:04x}" for unit in memoryview(text.encode("utf-16-le")).cast("H")
    ),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "JSON in a URL": lambda text: quote_plus(json.dumps({"a": text})),
    "HTML": html.escape,
    "HTML in JSON": lambda text: json.dumps(html.escape(text)),
    "HTML by numbers": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "HTML by hex numbers": lambda text: "".join(f"&#x{ord(letter):X};" for letter in text),
    "Python": repr,
    "Python's bytes": lambda text: repr(text.encode()),
}


def looking_for(*values: str | bytes) -> Secrets:
    secrets = Secrets()
    for value in values:
        secrets.add("the secret", value)
    return secrets


def found(secrets: Secrets, text: str) -> list[Found]:
    return secrets.found(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("how", WRITTEN)
def test_a_copy_is_found_however_it_is_written(how: str) -> None:
    @given(ANY if "numbers" not in how else ASCII, st.text(), st.text())
    def any_text(secret: str, before: str, after: str) -> None:
        assert found(looking_for(secret), f"{before} {WRITTEN[how](secret)} {after}")

    any_text()
    assert found(looking_for(SECRET), WRITTEN[how](SECRET))


@given(ASCII)
def test_a_copy_in_utf_16_is_found(secret: str) -> None:
    assert found(looking_for(secret), _utf_16(secret))
    assert found(looking_for(secret), json.dumps(_utf_16(secret)))


@given(st.uuids(), st.text(), st.binary())
def test_what_holds_no_copy_is_not_flagged(secret: object, text: str, more: bytes) -> None:
    secrets = looking_for(f"apify_api_{secret}", f"{secret}"[:8])
    assert found(secrets, text) == []
    assert secrets.found(more) == []
    assert found(secrets, text + "apify_api_ [redacted] token") == []


def test_how_it_is_written_is_said() -> None:
    secrets, secret = looking_for("s3cret:word"), "s3cret:word"
    for text, how in (
        (secret, "plain"),
        (quote(secret), "percent-encoded"),
        (quote(f"a{base64.b64encode(b'Basic ' + secret.encode()).decode()}="), "base64"),
        (json.dumps("\u00e4" + secret[::-1]), "reversed"),
        ("".join(f"\\u{ord(letter):04x}" for letter in secret), "JSON-escaped"),
        ("".join(f"%5Cu{ord(letter):04x}" for letter in secret), "percent-encoded, JSON-escaped"),
    ):
        copies = found(secrets, text)
        assert how in {each.how for each in copies}
        assert {each.label for each in copies} == {"the secret"}


# Parts

DISTINCT = "".join(chr(code) for code in range(ord("0"), ord("0") + 40))


@given(st.integers(LONG, 40), st.data())
def test_a_part_that_is_long_enough_is_found(length: int, data: st.DataObject) -> None:
    secret = DISTINCT[:length]
    start = data.draw(st.integers(0, length - PART))
    part = secret[start : start + PART]
    for written in (part, part[::-1], part.encode().hex(), base64.b64encode(part.encode()).decode(), quote(part)):
        assert all("a part" in each.how for each in found(looking_for(secret), f"…{written}…"))
        assert found(looking_for(secret), f"…{written}…")
    shorter = secret[start : start + PART - 1]
    for written in (shorter, shorter.encode().hex(), base64.b64encode(shorter.encode()).decode()):
        assert found(looking_for(secret), f"…{written}…") == []


def test_no_part_of_a_short_one_is_looked_for() -> None:
    secrets = looking_for(DISTINCT[: LONG - 1])
    assert found(secrets, DISTINCT[: LONG - 2]) == []
    assert found(secrets, DISTINCT[:LONG])


@pytest.mark.parametrize("value", ["hunter2", "pw0rd!", "swordfish", "apify_api_1x2y3z", "98765432", "a b2c d"])
def test_what_counts(value: str) -> None:
    assert is_telling(value.encode())
    assert found(looking_for(value + "\n"), f"<{value}>")


@pytest.mark.parametrize(
    "value", ["", "u", "pw", "secret", "old one", "1234", "2026-11", "whsec_", "dw.a", "--------x"]
)
def test_what_is_too_ordinary(value: str) -> None:
    assert not is_telling(value.encode())
    assert found(looking_for(value), f"<{value}>") == []


# Taking out


@given(ANY, st.lists(st.text()), st.sampled_from(sorted(WRITTEN)))
def test_nothing_is_left_of_it(secret: str, texts: list[str], how: str) -> None:
    secrets = looking_for(secret)
    cleaned = secrets.cleaned(WRITTEN[how](secret).join(["", *texts, ""]))
    assert found(secrets, cleaned) == []


def test_what_is_around_it_stays() -> None:
    secrets = looking_for("hunter2!", DISTINCT)
    assert secrets.cleaned(f"a hunter2! b {DISTINCT[5:20]} c hunter2!") == "a [secret] b [secret] c [secret]"
    assert secrets.cleaned("hunter2!hunter2!") == "[secret][secret]"
    assert secrets.cleaned("says %68unter2!") == "[taken out: a secret is in it]"
    assert secrets.cleaned("nothing") == "nothing"
    assert looking_for("abcdefghij", "fghijklmno").cleaned("1 abcdefghijklmno 2") == "1 [secret] 2"


def test_what_looking_costs() -> None:
    """Thousands of secrets, and an answer of the largest size."""
    secrets = looking_for(*(base64.b64encode(number.to_bytes(24, "little") * 2) for number in range(3_000)))
    began = time.perf_counter()
    assert secrets.found(b"x" * 10_000_000) == []
    assert time.perf_counter() - began < 5


# Which secrets are in use


def test_the_credentials_of_an_event() -> None:
    source = {
        "url": "https://me:hunter%32@example.com/a.csv",
        "requestHeaders": {"Authorization": "Bearer tok-98765", "X-Api-Key": "key-1", "Cookie": "a=1; sid=cookie-123",
                           "Proxy-Authorization": "Basic dXNlcjpvcGVuc2VzYW1l", "Accept": "text/csv"},
        "credentials": {"user": "someuser", "password": 1234, "nothing": [None, True]},
        "authorization": {"type": "Custom", "credentials": "cred-1234"},
    }  # fmt: skip
    event = {"data": {"update": {"files": [{"name": "a.csv", "source": source}], "summary": "ftp://reader@h and x@y"}}}
    values = {value for _, value in of_event(json.dumps(event).encode())}
    assert values == {
        "me:hunter%32", "me:hunter2", "hunter%32", "hunter2", "Bearer tok-98765", "tok-98765", "key-1",
        "a=1; sid=cookie-123", "1", "cookie-123", "Basic dXNlcjpvcGVuc2VzYW1l", "dXNlcjpvcGVuc2VzYW1l",
        "user:opensesame", "opensesame", "someuser", "1234", "cred-1234", "reader",
    }  # fmt: skip


def test_what_is_no_event_has_none() -> None:
    for body in (b"", b"\xff", b"{", b"[" * 100_000, b'"https://example.com"'):
        assert list(of_event(body)) == []


def test_some_of_very_many_stand_for_all() -> None:
    body = json.dumps({"password": [f"password-{number}" for number in range(10 * MOST)]}).encode()
    values = [value for _, value in of_event(body)]
    assert MOST / 2 < len(values) <= MOST
    assert values[0] == "password-0"


def test_a_senders_own_proof() -> None:
    headers = {"Authorization": "Bearer s3cret-1", "X-Gitlab-Token": "s3cret-2", "X-Hub-Signature-256": "sha256=00"}
    values = {value for _, value in of_request("/hooks/a?token=s3cret%2D3&page=12", headers)}
    assert values == {"Bearer s3cret-1", "s3cret-1", "s3cret-2", "s3cret-3"}


def test_the_secrets_of_a_function(tmp_path: pytest.TempPathFactory) -> None:
    folder = str(tmp_path)
    with open(f"{folder}/token", "w") as file:
        file.write("in-a-file")
    with open(f"{folder}/relay.yaml", "w") as file:
        file.write(
            "hooks: {a: {secret: [env:B, other-name], updates: [{token: env:C}, {token: apify_api_in-the-file}]}}"
        )
    settings = {
        "APIFY_TOKEN": f"file:{folder}/token",
        "DATA_WORLD_TOKEN": "apify_api_by-mistake",
        "RELAY_SECRET": "env:A, env:D,a-name,env:NOT_SET",
        "RELAY_CONFIG": f"{folder}/relay.yaml",
        "A": "whsec_c2lnbmluZw==",
        "B": "user:passw0rd",
        "C": "to:ken",
    }
    values = {value for _, value in of_settings(settings, {"D": "around"})} - {""}
    assert values == {
        "in-a-file", "apify_api_by-mistake", "whsec_c2lnbmluZw==", b"signing", "around", "user:passw0rd", "passw0rd",
        "to:ken", "ken", "apify_api_in-the-file",
    }  # fmt: skip
    for missing in ({"RELAY_CONFIG": f"{folder}/none"}, {"RELAY_CONFIG": f"{folder}/token"}, {"T": f"file:{folder}/x"}):
        assert list(of_settings(missing, {})) == []
