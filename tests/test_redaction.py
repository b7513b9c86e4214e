"""What is shown of an update and of an answer: never a credential."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.redaction import MARK, Redactor, credentials, masked, without_signing_keys
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
                    "Accept": "text/csv",
                    "Referer": "https://bob:builder@example.com/",
                },
                "authorization": {"type": "Custom", "credentials": "cred-1234"},
                "credentials": {"user": "someuser", "password": "swordfish"},
            },
        }
    ],
    "properties": {"password": [1234, None, {"deep": "down-there"}, True], "plain": 1.5},
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
                        "Accept": "text/csv",
                        "Referer": f"https://{MARK}@example.com/",
                    },
                    "authorization": {"type": "Custom", "credentials": MARK},
                    "credentials": {"user": MARK, "password": MARK},
                },
            }
        ],
        "properties": {"password": [MARK, None, {"deep": MARK}, MARK], "plain": 1.5},
    }


def test_credentials_are_all_that_is_masked() -> None:
    found = set(credentials(UPDATE))
    assert {
        "reader:hunter2", "hunter2", "me:p%40ss", "p%40ss", "p@ss", "Bearer tok-123456", "tok-123456", "opensesame",
        "session=abcdef; theme=dark", "abcdef", "key-abcdef", "cred-1234", "swordfish", "someuser", "1234",
        "down-there", "bob:builder", "builder",
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
        "echo": '{"urlSigningSecretKey": "a1b2", "n": 2}',
        "twice": '{\\"urlSigningSecretKey\\":\\"a1b2\\"}',
    }
    shown: Any = without_signing_keys(answer)
    assert shown["data"] == {"id": "x", "items": [{"n": 1}]}
    assert "a1b2" not in json.dumps(shown)
    assert '"n": 2' in shown["echo"]
    assert without_signing_keys([1, None, "urlSigningSecretKey"]) == [1, None, "urlSigningSecretKey"]


SECRET = 'p"ä/ss&<word>'


@pytest.mark.parametrize(
    "form",
    [SECRET, json.dumps(SECRET), json.dumps(SECRET, ensure_ascii=False), quote(SECRET), quote(SECRET, safe=""),
     "p&quot;ä/ss&amp;&lt;word&gt;"],
)  # fmt: skip
def test_values_are_found_escaped_too(form: str) -> None:
    shown = Redactor([SECRET]).text(f"before {form} after")
    assert MARK in shown
    assert "ss" not in shown.replace("before", "").replace("after", "")


def test_values_are_found_in_keys_and_lists() -> None:
    redactor = Redactor(["tok-123", "tok-123-long"])
    assert redactor.json({"tok-123": ["x tok-123-long y", {"a": "tok-123"}, 1, None]}) == {
        MARK: [f"x {MARK} y", {"a": MARK}, 1, None]
    }


def test_short_values_go_where_they_stand_alone() -> None:
    redactor = Redactor(["pw", "é"])
    assert redactor.text("pw is wrong: 'pw', not pwd or spw; é but not née") == (
        f"{MARK} is wrong: '{MARK}', not pwd or spw; {MARK} but not née"
    )


def test_without_values_nothing_changes() -> None:
    assert Redactor([]).text("a") == "a"
    assert Redactor(["", ""]).json({"a": ["b"]}) == {"a": ["b"]}


@given(st.text(min_size=4), JSON_VALUES)
def test_no_value_survives(secret: str, value: Any) -> None:
    shown = json.dumps(Redactor([secret]).json({"a": value, "echo": f"<{secret}>"}), ensure_ascii=False)
    assert secret not in shown.replace(MARK, "") or secret in '{"a": , "echo": "<>"}[]nulltruefalse'
