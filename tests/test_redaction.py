"""What is shown of an update and of an answer: never a credential."""

import base64
import json
import re
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.redaction import MARK, credentials, masked, without_signing_keys
from schemas.redactor import Redactor
from tests.test_strict_json import JSON_VALUES

UPDATE: dict[str, Any] = {
    "summary": "from https://reader:hunter2@example.com/x and ftp://u@h",
    "files": [
        {
            "name": "a.csv",
            "source": {
                "url": "https://me:p%40ss@example.com/a.csv?x=@",
                "method": "GET",
                "requestHeaders": {
                    "Authorization": "Bearer tok-123456",
                    "Proxy-Authorization": "Basic dXNlcjpvcGVuc2VzYW1l",
                    "Cookie": "session=abcdef; theme=dark",
                    "X-Api-Key": "key-abcdef",
                    "X-Signature": "Basic not-base64",
                    "X-Anything": 'Digest username="bob", response="6629fae4"',
                    "Accept": "text/csv",
                    "If-Match": "https://bob:builder@example.com/",
                },
                "authorization": {"type": "Custom", "credentials": "Bearer cred-1234"},
                "credentials": {"user": "someuser", "password": "swordfish"},
            },
        }
    ],
    "properties": {"PassWord": [1234, None, {"deep": "down-there"}, True], "plain": 1.5},
}


def test_masked() -> None:
    assert masked(UPDATE) == {
        "summary": f"from https://{MARK}@example.com/x and ftp://{MARK}@h",
        "files": [
            {
                "name": "a.csv",
                "source": {
                    "url": f"https://{MARK}@example.com/a.csv?x=@",
                    "method": "GET",
                    "requestHeaders": {
                        "Authorization": MARK,
                        "Proxy-Authorization": MARK,
                        "Cookie": MARK,
                        "X-Api-Key": MARK,
                        "X-Signature": MARK,
                        "X-Anything": MARK,
                        "Accept": "text/csv",
                        "If-Match": f"https://{MARK}@example.com/",
                    },
                    "authorization": {"type": "Custom", "credentials": MARK},
                    "credentials": {"user": MARK, "password": MARK},
                },
            }
        ],
        "properties": {"PassWord": [MARK, None, {"deep": MARK}, MARK], "plain": 1.5},
    }


def test_credentials_are_all_that_is_masked() -> None:
    found = set(credentials(UPDATE))
    assert {
        "reader:hunter2", "hunter2", "me:p%40ss", "p%40ss", "p@ss", "Bearer tok-123456", "tok-123456", "opensesame",
        "session=abcdef; theme=dark", "abcdef", "key-abcdef", "cred-1234", "swordfish", "someuser", "1234",
        "down-there", "bob:builder", "builder", "6629fae4", "c29tZXVzZXI6c3dvcmRmaXNo", "bWU6cEBzcw==",
    } <= found  # fmt: skip
    assert not {"a.csv", "text/csv", "GET", "Custom", "example.com"} & found


@given(JSON_VALUES)
def test_masking_keeps_the_shape(value: Any) -> None:
    def shape(each: Any) -> Any:
        if isinstance(each, dict):
            return {key: shape(inner) for key, inner in each.items()}
        return [shape(inner) for inner in each] if isinstance(each, list) else None

    assert shape(masked(value)) == shape(value)
    list(credentials(value))


def test_signing_keys_go_at_any_depth() -> None:
    answer: Any = {
        "data": {"id": "x", "urlSigningSecretKey": "a1b2", "items": [{"urlSigningSecretKey": {"k": "v"}, "n": 1}]},
        "fields": ["urlSigningSecretKey"],
        "echo": '{"urlSigningSecretKey": "a1b2", "n": 2}',
    }
    assert without_signing_keys(answer) == {
        "data": {"id": "x", "items": [{"n": 1}]},
        "fields": ["urlSigningSecretKey"],
        "echo": MARK,
    }


@pytest.mark.parametrize(
    "hidden",
    [
        {"data.urlSigningSecretKey": "a1b2"},
        {"UrlSigningSecretKey": "a1b2"},
        [{"name": "urlSigningSecretKey", "value": "a1b2"}],
        r'{"url\u0053igningSecretKey": "a1b2"}',
        "url%53igningSecretKey=a1b2",
        "urlSigningSecretKey&#58; a1b2",
    ],
)
def test_signing_keys_go_however_they_are_named(hidden: Any) -> None:
    assert "a1b2" not in str(without_signing_keys(hidden))


SECRET = "p\"ä/s s&<word>'x"
JSON_ONCE = json.dumps(SECRET)


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        JSON_ONCE,
        json.dumps(SECRET, ensure_ascii=False),
        json.dumps(JSON_ONCE),
        JSON_ONCE.replace("/", "\\/"),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        re.sub("%..", lambda found: found[0].lower(), quote_plus(SECRET)),
        "p&quot;ä/s s&amp;&lt;word&gt;&#x27;x",
        "p&quot;ä/s s&amp;&lt;word&gt;&#39;x",
        "p&#34;&auml;&#x2F;s s&#38;&lt;word&gt;&apos;x",
        "".join(f"%{byte:02X}" for byte in SECRET.encode()),
        quote(quote(SECRET, safe="")),
        json.dumps(json.dumps(JSON_ONCE)),
        "".join(f"\\u{ord(letter):04x}" for letter in SECRET),
        quote_plus(json.dumps({"a": SECRET})),
        base64.b64encode(SECRET.encode()).decode(),
        SECRET.encode().hex(),
    ],
)
def test_values_are_found_escaped_too(form: str) -> None:
    shown = str(Redactor([SECRET]).json(f"before {form} after"))
    assert MARK in shown
    assert "word" not in shown


def test_layers_are_decoded_while_there_is_something_to_decode() -> None:
    redactor = Redactor(["p@ssword"])
    layers = ["p@ssword"]
    for _ in range(5):
        layers.append(quote(layers[-1], safe=""))
    assert [MARK in str(redactor.json(layer)) for layer in layers] == [True, True, True, True, False, False]


def test_base64_without_user_and_password_is_a_value_as_it_is() -> None:
    header: Any = {"requestHeaders": {"Authorization": "Bearer bm8gY29sb24gaW4gaXQ="}}
    assert set(credentials({"files": [{"source": header}]})) - {""} == {
        "Bearer bm8gY29sb24gaW4gaXQ=",
        "bm8gY29sb24gaW4gaXQ=",
    }


def test_values_are_found_in_keys_lists_and_numbers() -> None:
    redactor = Redactor(["tok-12345", "tok-12345-long", "98765432", "1.5"])
    assert redactor.json({"tok-12345": ["x tok-12345-long y", {"a": "tok-12345"}, 98765432, 1.5, 1, True, None]}) == {
        MARK: [f"x {MARK} y", {"a": MARK}, MARK, MARK, 1, True, None]
    }


def test_keys_that_are_words_stay_and_none_is_lost() -> None:
    shown = Redactor(["data", "message", "secret-1", "secret-2", "s3crt"]).json(
        {"data": 1, "message": "message", "secret-1": 2, "secret-2": 3, "s3crt": 4}
    )
    assert shown == {"data": 1, "message": MARK, MARK: 2, f"{MARK}3": 3, f"{MARK}4": 4}


def test_more_than_can_be_looked_for_shows_nothing() -> None:
    many = [f"value-{number}" for number in range(60)]
    assert Redactor(many).json({"a": "value-7"}) == {"a": MARK}
    assert Redactor(many).json(["x" * 2_000_000]) == MARK
    assert Redactor(["pw"]).json(["x" * 5_000_000]) == MARK
    # What is encoded and too much to decode goes, what is plain stays.
    assert Redactor(many).json({"a": "%20" * 100_000, "b": "plain"}) == {"a": MARK, "b": "plain"}


def test_short_values_count_where_they_stand_alone() -> None:
    redactor = Redactor(["pw", "é"])
    assert redactor.json(["pw is wrong", "'é'", "pwd or spw", "née"]) == [MARK, MARK, "pwd or spw", "née"]


def test_without_values_nothing_changes() -> None:
    assert Redactor([]).json("a") == "a"
    assert Redactor(["", ""]).json({"a": ["b"]}) == {"a": ["b"]}


def texts(value: Any) -> list[str]:
    """Every string in `value` that isn't a key."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


@given(st.text(min_size=4), JSON_VALUES)
def test_no_value_survives(secret: str, value: Any) -> None:
    shown = Redactor([secret]).json({"a": value, "echo": [f"<{secret}>", {secret: secret}, value]})
    assert all(secret not in text.replace(MARK, "\0") or secret == "\0" for text in texts(shown))


@pytest.mark.parametrize("secret", ["hunter22x", "apify_api_k3yk3yk3y0", "pässword", "????>>>>~~~~"])
def test_a_value_in_other_digits(secret: str) -> None:
    raw = secret.encode()
    redactor = Redactor([secret])
    for before in range(4):
        for after in range(4):
            within = b"user:"[:before] + raw + b":more"[:after]
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                assert MARK in str(redactor.json(f"it was {encode(within).decode()}"))
    for digits in (raw.hex(), raw.hex().upper()):
        assert redactor.json(f"0x{digits}") == f"0x{MARK}"
    assert redactor.json("aHVudGluZw==") == "aHVudGluZw=="


def test_a_value_whose_first_digit_an_escape_has_eaten() -> None:
    digits = b"hunter22x".hex()
    answer = json.loads(f'{{"a": "\\u000{digits}"}}')
    assert digits not in answer["a"]
    assert Redactor(["hunter22x"]).json(answer) == MARK


def test_one_that_takes_more_out() -> None:
    """The one that a token has serves where nothing else is to be hidden; of it nothing is changed."""
    redactor = Redactor(["tok-12345"])
    assert redactor.and_also([]) is redactor
    assert redactor.and_also(["pass-6789"]).json(["tok-12345", "pass-6789"]) == [MARK, MARK]
    assert redactor.json(["tok-12345", "pass-6789"]) == [MARK, "pass-6789"]
