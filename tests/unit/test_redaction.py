"""Redaction: the masks of an update, and the search for secrets in responses."""

import base64
import json
import re
import string
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus, unquote_to_bytes

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from marshmallow import Schema, fields

from handlers import redaction
from handlers.providers import PROVIDERS
from handlers.redaction import MARK, MAX_CREDENTIALS, PIECE_LENGTH, Redactor, has_url_credential
from schemas.problem import InvalidEventError
from schemas.strict_json import dump
from tests.support.strategies import JSON_OBJECTS, JSON_VALUES

TOKEN = "apify_api_CANARYk3yA9xQ0vLmZ27TbRs4WdPf"
KEY = "urlSigningSecretKey"


class Login(Schema):
    user = fields.String()
    password = fields.String()


class Source(Schema):
    url = fields.String()
    headers = fields.Dict(metadata={"secret": lambda name: name.startswith("X-")})
    login = fields.Nested(Login, metadata={"secret": True})
    logins = fields.List(fields.Nested(Login, metadata={"secret": True}))
    key = fields.String(metadata={"secret": True})
    by_name = fields.Dict(values=fields.String(metadata={"secret": True}))


class Body(Schema):
    text = fields.String()
    sources = fields.List(fields.Nested(Source))
    properties = fields.Dict(metadata={"secret": lambda name: name.lower() == "password"})


def mask(schema: Schema, body: Any) -> tuple[Any, set[str]]:
    """Return the masked body of the only update of an event, and the credentials of the event."""
    masked = redaction.mask([(schema, body)])
    return masked.bodies[0], set(masked.credentials)


def credentials_of(body: dict[str, Any]) -> set[str]:
    return mask(Body(), body)[1]


def header_credentials(value: str) -> set[str]:
    return credentials_of({"sources": [{"headers": {"X-Header": value}}]})


class TestMask:
    def test_mask_declared_field_becomes_mark(self) -> None:
        body: dict[str, Any] = {
            "sources": [{"login": {"user": "CANARY-user", "password": "CANARY-pw"}, "key": "CANARY-key"}]
        }
        body_shown, credentials = mask(Body(), body)
        assert body_shown == {"sources": [{"login": {"user": MARK, "password": MARK}, "key": MARK}]}
        assert credentials == {"CANARY-user:CANARY-pw", "CANARY-user", "CANARY-pw", "CANARY-key"}

    def test_mask_fields_in_lists_and_dicts_become_marks(self) -> None:
        body: dict[str, Any] = {
            "sources": [{"logins": [{"user": "CANARY-1"}, {"user": "CANARY-2"}], "by_name": {"a": "CANARY-3"}}]
        }
        body_shown, credentials = mask(Body(), body)
        assert body_shown == {"sources": [{"logins": [{"user": MARK}, {"user": MARK}], "by_name": {"a": MARK}}]}
        assert credentials == {"CANARY-1", "CANARY-2", "CANARY-3"}

    def test_mask_predicate_selects_members_at_any_depth(self) -> None:
        properties: dict[str, Any] = {
            "PassWord": [1234, None, {"deep": "CANARY-deep"}, True],
            "a": [{"password": 1.5}],
            "plain": 1.5,
        }
        body_shown, credentials = mask(Body(), {"properties": properties})
        assert body_shown == {
            "properties": {"PassWord": [MARK, None, {"deep": MARK}, MARK], "a": [{"password": MARK}], "plain": 1.5}
        }
        assert credentials == {"1234", "CANARY-deep", "1.5"}

    def test_mask_predicate_applies_to_its_field_only(self) -> None:
        body: dict[str, Any] = {"sources": [{"headers": {"Accept": "text/csv"}, "password": "x"}], "password": "shown"}
        assert mask(Body(), body)[0] == body

    def test_mask_userinfo_of_url_becomes_mark(self) -> None:
        body_shown, credentials = mask(
            Body(), {"text": "https://me:CANARY%40pw@example.com/x?y=@ and ftp://CANARY@h and mailto:a@b"}
        )
        assert body_shown == {"text": f"https://{MARK}@example.com/x?y=@ and ftp://{MARK}@h and mailto:a@b"}
        assert credentials == {
            "me:CANARY%40pw", "me:CANARY@pw", "CANARY%40pw", "CANARY@pw", "CANARY"
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("value", "parts"),
        [
            ("Bearer CANARY-t", {"Bearer CANARY-t", "CANARY-t"}),
            ("Basic Q0FOQVJZLXU6Q0FOQVJZLXA=", {"Q0FOQVJZLXU6Q0FOQVJZLXA=", "CANARY-p"}),
            ("Q0FOQVJZLXU6Q0FOQVJZLXA=", {"CANARY-p"}),
            ("sid=CANARY-1; theme=dark", {"CANARY-1", "dark"}),
            ('Digest username="bob", response="CANARY-r"', {"bob", "CANARY-r"}),
            ("user:CANARY-p", {"CANARY-p"}),
            ("a=CANARY-1,CANARY-2; b=CANARY-3", {"CANARY-1,CANARY-2", "CANARY-3"}),
            ("Basic CANARY not base64", {"CANARY not base64"}),
        ],
    )
    def test_mask_header_adds_parts_of_value(self, value: str, parts: set[str]) -> None:
        assert {value, *parts} <= header_credentials(value)

    def test_mask_base64_without_user_and_password_adds_no_decoded_text(self) -> None:
        encoded = "bm8gY29sb24gaW4gaXQ="
        assert header_credentials(f"Bearer {encoded}") == {f"Bearer {encoded}", encoded}

    @given(JSON_OBJECTS)
    def test_mask_any_object_keeps_shape(self, body: dict[str, Any]) -> None:
        def shape(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: shape(member) for key, member in value.items()}
            return [shape(item) for item in value] if isinstance(value, list) else None

        body_shown, _ = mask(Body(), {**body, "properties": body, "sources": [body]})
        assert shape(body_shown) == shape({**body, "properties": body, "sources": [body]})

    def test_mask_schema_of_each_provider_hides_its_credentials(self) -> None:
        source = {
            "url": "https://me:CANARY-1@example.com/a.csv?x=@",
            "method": "GET",
            "requestHeaders": {
                "Authorization": "Bearer CANARY-2",
                "Cookie": "session=CANARY-3; theme=dark",
                "X-Api-Key": "CANARY-4",
                "Accept": "text/csv",
                "If-Match": "https://bob:CANARY-5@example.com/",
            },
            "authorization": {"type": "Custom", "credentials": "Bearer CANARY-6"},
            "credentials": {"user": "CANARY-7", "password": "CANARY-8"},
        }
        update: dict[str, Any] = {
            "files": [{"name": "a.csv", "source": source}],
            "properties": {"PassWord": "CANARY-9", "plain": 1},
        }
        update_field = PROVIDERS["data.world"].event_schema.fields["update"]
        assert isinstance(update_field, fields.Nested)
        body_shown, credentials = mask(update_field.schema, update)
        assert body_shown == {
            "files": [
                {
                    "name": "a.csv",
                    "source": {
                        "url": f"https://{MARK}@example.com/a.csv?x=@",
                        "method": "GET",
                        "requestHeaders": {
                            "Authorization": MARK,
                            "Cookie": MARK,
                            "X-Api-Key": MARK,
                            "Accept": "text/csv",
                            "If-Match": f"https://{MARK}@example.com/",
                        },
                        "authorization": {"type": "Custom", "credentials": MARK},
                        "credentials": {"user": MARK, "password": MARK},
                    },
                }
            ],
            "properties": {"PassWord": MARK, "plain": 1},
        }
        assert {f"CANARY-{number}" for number in range(1, 10)} <= credentials
        assert not {"a.csv", "text/csv", "GET", "Custom"} & credentials

        update_field = PROVIDERS["apify"].event_schema.fields["update"]
        assert isinstance(update_field, fields.Nested)
        assert mask(update_field.schema, {"name": "products"})[1] == set()

    @pytest.mark.parametrize(
        "name",
        ["token", "access_token", "accessToken", "api_key", "apikey", "API-Key", "key", "sig", "signature", "secret",
         "client_secret", "password", "Password", "X-Amz-Signature", "X-Amz-Credential", "x-amz-security-token",
         "X-Goog-Signature", "AWSAccessKeyId", "GoogleAccessId", "Key-Pair-Id-Signature", "subscription-key", "code",
         "private_token", "auth", "sessionId", "privateKey", "credentials[password]", "to%6ben", "t%256fken",
         "token[]", "token[0]", "secretkey", "authkey", "tokens", "token1", "oauth", "sas", "PHPSESSID", "api+token",
         "$token", "a" * 100 + "-token"],
    )  # fmt: skip
    def test_mask_query_parameter_with_the_name_of_a_credential_becomes_mark(self, name: str) -> None:
        before, after = f"See https://h/items?format=csv&{name}=", "&clean=true#part, and more"
        shown, credentials = mask(Body(), {"text": f"{before}CANARY-1{after}"})
        assert shown == {"text": f"{before}{MARK}{after}"}
        assert credentials == {"CANARY-1"}

    @pytest.mark.parametrize(
        "name", ["format", "keys", "monkey", "sort", "tokens_used", "codec", "page", "author", "keyword"]
    )
    def test_mask_other_query_parameter_is_shown(self, name: str) -> None:
        body = {"text": f"https://h/items?{name}=csv&clean=true"}
        assert mask(Body(), body) == (body, set())

    @pytest.mark.parametrize(
        "text",
        ["/relative?token=CANARY-1", "https://h/#access_token=CANARY-1", "https://h/?a=1;token=CANARY-1",
         "https://h/?next=https%3A%2F%2Fi%3Fb%3D2%26token%3DCANARY-1%26c%3D3",
         "https://h/?next=https%253A%252F%252Fi%253Ftoken%253DCANARY-1",
         "<a href='https://h/?token=CANARY-1'>", "https://me:CANARY-2@h/?token=CANARY-1",
         "https://h/?next=https%3A%2F%2Fjane%3ACANARY-2%40h%2F%3Ftoken%3DCANARY-1"],
    )  # fmt: skip
    def test_mask_credential_parameter_in_any_place_becomes_mark(self, text: str) -> None:
        shown, credentials = mask(Body(), {"text": text})
        assert "CANARY" not in shown["text"]
        assert "CANARY-1" in credentials
        assert has_url_credential(text)

    @pytest.mark.parametrize("value", ["abc CANARY", "abc'CANARY", "abc;CANARY", 'abc"CANARY', "abc<CANARY"])
    def test_mask_value_in_a_string_that_is_a_url_ends_at_an_ampersand(self, value: str) -> None:
        shown, credentials = mask(Body(), {"text": f"https://h/?token={value}&a=b"})
        assert shown == {"text": f"https://h/?token={MARK}&a=b"}
        assert value in credentials

    def test_mask_key_with_a_url_becomes_mark(self) -> None:
        shown, credentials = mask(Body(), {"properties": {"https://h/?token=CANARY-1": {"ftp://CANARY-2@h": 1}}})
        assert shown == {"properties": {f"https://h/?token={MARK}": {f"ftp://{MARK}@h": 1}}}
        assert {"CANARY-1", "CANARY-2"} <= credentials

    def test_mask_plain_parameter_of_a_signed_url_is_no_credential(self) -> None:
        url = "https://h/?X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=CANARY-1"
        shown, credentials = mask(Body(), {"text": url})
        assert shown["text"].count(MARK) == 3
        assert credentials == {"CANARY-1"}

    @pytest.mark.parametrize("unit", ["?a=", "?key=", "%3Fa%3D", "://a@", "%3A%2F%2Fa", "?key=%2541", "://"])
    def test_mask_long_text_takes_linear_time(self, unit: str) -> None:
        """A quadratic search would take minutes."""
        mask(Body(), {"text": unit * (900_000 // len(unit))})

    def test_mask_encoded_value_of_parameter_adds_decoded_forms(self) -> None:
        _, credentials = mask(Body(), {"text": "https://h/?token=CANARY%2B1+2"})
        assert credentials == {"CANARY%2B1+2", "CANARY+1+2", "CANARY+1 2"}

    def test_mask_parameter_without_value_adds_nothing(self) -> None:
        body = {"text": "https://h/?token=&key=#"}
        assert mask(Body(), body) == (body, set())
        assert not has_url_credential(body["text"])

    @given(st.text("?&=#;:/@%token 3DF26", max_size=40))
    def test_mask_any_text_hides_its_credentials(self, text: str) -> None:
        text = f"https://h/{text}&token=CANARY-1"
        shown, credentials = mask(Body(), {"text": text})
        assert "CANARY" not in shown["text"]
        assert any("CANARY-1" in credential for credential in credentials)
        assert has_url_credential(text)

    def test_mask_500_credentials_are_allowed(self) -> None:
        keys = {"sources": [{"key": f"CANARY-{number}"} for number in range(MAX_CREDENTIALS)] * 2}
        assert len(mask(Body(), keys)[1]) == MAX_CREDENTIALS

    @pytest.mark.parametrize(
        "body",
        [
            {"sources": [{"key": f"CANARY-{number}"} for number in range(MAX_CREDENTIALS + 1)]},
            {"sources": [{"headers": {"X-Cookie": ";".join(f"={number:05}" for number in range(100_000))}}]},
            {"text": "".join(f" ?token=CANARY-{number}" for number in range(MAX_CREDENTIALS + 1))},
            {"text": "".join(f" ftp://CANARY-{number}@h" for number in range(MAX_CREDENTIALS + 1))},
            {"sources": [{"login": {"user": "u", "password": number}} for number in range(MAX_CREDENTIALS)]},
        ],
    )
    def test_mask_more_credentials_raise(self, body: dict[str, Any]) -> None:
        with pytest.raises(InvalidEventError) as raised:
            mask(Body(), body)
        assert raised.value.problem.errors == {"update": [raised.value.problem.detail]}
        assert "CANARY" not in raised.value.problem.detail

    def test_mask_credentials_of_all_updates_count_together(self) -> None:
        bodies: list[dict[str, Any]] = [
            {"sources": [{"key": f"CANARY-{first + number}"} for number in range(300)]} for first in (0, 200, 300)
        ]
        schema = Body()
        assert len(redaction.mask([(schema, body) for body in bodies[:2]]).credentials) == MAX_CREDENTIALS
        with pytest.raises(InvalidEventError):
            redaction.mask([(schema, body) for body in bodies])


class TestSecretKeys:
    def test_redact_secret_key_removed_at_any_depth(self) -> None:
        response: Any = {"data": {"id": "x", KEY: "CANARY", "items": [{KEY: {"k": "CANARY"}, "n": 1}]}, "fields": [KEY]}
        redacted = Redactor([], secret_keys={KEY}).redact(response)
        assert redacted == {"data": {"id": "x", "items": [{"n": 1}]}, "fields": [KEY]}

    @pytest.mark.parametrize(
        "hidden",
        [
            {f"data.{KEY}": "CANARY"},
            {KEY.upper(): "CANARY"},
            [{"name": KEY, "value": "CANARY"}],
            f'{{"{KEY}": "CANARY", "n": 2}}',
            r'{"url\u0053igningSecretKey": "CANARY"}',
            "url%53igningSecretKey=CANARY",
            {"a": json.dumps(json.dumps({KEY: "CANARY"}))},
        ],
    )
    def test_redact_text_that_mentions_secret_key_hides_text(self, hidden: Any) -> None:
        shown = dump(Redactor([TOKEN], secret_keys={KEY}).redact(["before", hidden, "after"])).decode()
        assert "CANARY" not in shown
        assert "before" in shown
        assert "after" in shown

    def test_redact_without_secret_keys_keeps_key(self) -> None:
        assert Redactor([TOKEN]).redact({KEY: 1}) == {KEY: 1}


def json_escape(text: str) -> str:
    return json.dumps(text)[1:-1]


def in_base64(text: str, *, prefix: str = "", suffix: str = "") -> str:
    return base64.b64encode(f"{prefix}{text}{suffix}".encode()).decode()


def json_units(text: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(text.encode("utf-16-le")).cast("H").tolist())


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": json_escape,
    "JSON in JSON": lambda text: json_escape(json_escape(text)),
    "JSON three times": lambda text: json_escape(json_escape(json_units(text))),
    "JSON units": lambda text: json_units(text),
    "JSON slashes": lambda text: json_escape(text).replace("/", "\\/"),
    "URL": lambda text: quote(text, safe=""),
    "URL path": quote,
    "URL lower": lambda text: re.sub("%..", lambda match: match[0].lower(), quote(text, safe="")),
    "URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "URL all": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "form": quote_plus,
    "JSON in form": lambda text: quote_plus(json.dumps({"a": text})),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "hex in words": lambda text: f"token-{text.encode().hex()}z",
    "base64 0": in_base64,
    "base64 1": lambda text: in_base64(text, prefix="u", suffix=":p"),
    "base64 2": lambda text: in_base64(text, prefix="éé:"[:2]),
    "base64 url": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 lines": lambda text: base64.encodebytes(f"{'x' * 50}{text}".encode()).decode(),
    "base64 lines CRLF": lambda text: base64.encodebytes(f"{'x' * 51}{text}".encode()).decode().replace("\n", "\r\n  "),
    "base64 in word": lambda text: f"Basic/{in_base64(text)}",
    "base64 slashes": lambda text: in_base64(text).replace("/", "\\/").replace("+", "%2B"),
    "hex lines": lambda text: re.sub("(.{16})", "\\1\n", text.encode().hex()),
}


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("secret", [TOKEN, "????>>>>~~~~CANARY", "eyJhbGciOi.CANARY_x-y/z+\\\"'%41"])
    def test_redact_token_in_each_form_hides_it(self, form: str, secret: str) -> None:
        encoded = FORMS[form](secret)
        assert Redactor([secret]).redact(["before", f"<{encoded}>"]) != ["before", f"<{encoded}>"]
        assert Redactor([secret]).redact({"a": {encoded: 1}}) == {"a": {MARK: 1}}

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("secret", ["p\"ä/s s&<CANARY>'x", "hunter22x", "pässword", "a\nb-CANARY", "pass w3"])
    def test_redact_credential_in_each_form_hides_it(self, form: str, secret: str) -> None:
        text = f"before {FORMS[form](secret)} after"
        shown = str(Redactor([], [secret]).redact(text))
        # A value is replaced in its place if it stands there as it is, such as in a form.
        expected = {MARK, text.replace(secret, MARK), text.replace(secret.replace(" ", "+"), MARK)} - {text}
        assert shown in expected

    def test_redact_credential_that_looks_encoded_hides_it(self) -> None:
        secret = '%2B%41"CANARY'
        forms = [json_escape(secret), json_units(secret), quote(secret), quote(json_units(secret)), in_base64(secret)]
        assert [Redactor([], [secret]).redact(form) for form in (secret, *forms)] == [MARK] * 6

    def test_redact_credential_with_control_character_hides_it(self) -> None:
        secret = "a\x01b-CANARY"
        forms = [json_escape(secret), quote(secret), in_base64(secret)]
        assert Redactor([], [secret]).redact([secret, *forms]) == [MARK] * 4

    @pytest.mark.parametrize("form", FORMS)
    def test_redact_piece_in_each_form_hides_text(self, form: str) -> None:
        for start in range(len(TOKEN) - PIECE_LENGTH + 1):
            piece = TOKEN[start : start + PIECE_LENGTH]
            assert Redactor([TOKEN]).redact({"a": ["x", f"a{FORMS[form](piece)}!"]}) == {"a": ["x", MARK]}

    @pytest.mark.parametrize("form", FORMS)
    def test_redact_shorter_piece_stays(self, form: str) -> None:
        text = f"it was {FORMS[form](TOKEN[-PIECE_LENGTH + 1 :])} here"
        assert Redactor([TOKEN]).redact(text) == text

    def test_redact_short_token_hides_whole_only(self) -> None:
        assert Redactor(["CANARY-tok"]).redact(["<CANARY-tok>", "CANARY-to"]) == [f"<{MARK}>", "CANARY-to"]

    def test_redact_escapes_deeper_than_limit_stay(self) -> None:
        layers = ["p@ssword"]
        for _ in range(6):
            layers.append(quote(layers[-1], safe=""))
        assert [Redactor([], ["p@ssword"]).redact(layer) != layer for layer in layers] == [True] * 4 + [False] * 3

    def test_redact_text_that_only_looks_encoded_stays(self) -> None:
        texts = ["aHVudGVyMTE=", "%", "%zz", "\\", "\\u12", "&#99999999999;", "&#x110000;", "&nosuch;", "0" * 41]
        texts += ["&#" + "9" * 5000, "&" * 100, "\ud800", "a\0b", "+" * 50, "-" * 50, "A" * 99]
        assert Redactor([TOKEN], ["hunter22x"], {KEY}).redact(list(texts)) == texts


class TestRedact:
    def test_redact_values_in_keys_lists_and_numbers(self) -> None:
        redactor = Redactor([], ["tok-12345", "tok-12345-long", "98765432", "1.5"])
        response: Any = {"tok-12345": ["x tok-12345-long y", {"a": "tok-12345"}, 98765432, 1.5, 1, True, None]}
        assert redactor.redact(response) == {MARK: [f"x {MARK} y", {"a": MARK}, MARK, MARK, 1, True, None]}

    def test_redact_keys_that_are_words_stay_and_no_member_is_lost(self) -> None:
        redactor = Redactor([], ["data", "message", "secret-1", "secret-2", "s3crt"])
        response: Any = {"data": 1, "message": "message", "secret-1": 2, "secret-2": 3, "s3crt": 4}
        assert redactor.redact(response) == {"data": 1, "message": MARK, MARK: 2, f"{MARK}3": 3, f"{MARK}4": 4}

    def test_redact_encoded_word_in_key_hides_key(self) -> None:
        assert Redactor([], ["data"]).redact({b"data".hex(): 1, "data": 2}) == {MARK: 1, "data": 2}

    def test_redact_short_values_count_only_alone(self) -> None:
        redactor = Redactor([], ["pw", "é", "7"])
        response: Any = {"pw": ["pw is wrong", "'é'", "pwd or spw", "née", "line\npw", 7, 77, "7%"]}
        assert redactor.redact(response) == {"pw": [MARK, MARK, "pwd or spw", "née", MARK, MARK, 77, MARK]}

    def test_redact_short_value_in_base64_hides_text(self) -> None:
        assert Redactor([], ["ab1"]).redact(["Basic YWIx", "YWIy"]) == [MARK, "YWIy"]

    def test_redact_nothing_to_find_returns_value(self) -> None:
        response: Any = {"a": ["b", 1, None, True, 1.5, {}]}
        for redactor in (Redactor([]), Redactor([""], [""]), Redactor([TOKEN], ["swordfish"], {KEY})):
            assert redactor.redact(response) == response
            assert redactor.redact(None) is None
            assert redactor.redact("") == ""

    def test_redact_longer_value_leaves_nothing_of_it(self) -> None:
        assert Redactor([], ["user", "user-1", "user-1-x"]).redact("a user-1-x, a user") == f"a {MARK}, a {MARK}"

    def test_redact_mark_as_credential_ends(self) -> None:
        for credential in (MARK, "redacted", "acte", "[red"):
            assert credential not in str(Redactor([], [credential]).redact(["a", credential])).replace(MARK, "")


class TestBudget:
    def test_redact_more_credentials_than_budget_hides_large_response(self) -> None:
        redactor = Redactor([], [f"CANARY-{number:06}" for number in range(60_000)])
        assert redactor.redact({"message": "Dataset successfully updated."}) == {
            "message": "Dataset successfully updated."
        }
        assert redactor.redact({"a": "x" * 100_000}) == MARK

    def test_redact_more_short_credentials_than_budget_hides_response(self) -> None:
        short = [f"{number:03x}" for number in range(4096)]
        assert Redactor([], short).redact([" ".join(f"_{value}" for value in short)]) == MARK

    @pytest.mark.parametrize("unit", ["\\", "%41", "\n", "%2541", '"', "\\u0041", TOKEN[:6]])
    def test_redact_large_response_with_many_escapes_hides_response(self, unit: str) -> None:
        assert Redactor([TOKEN]).redact(unit * (9_000_000 // len(unit))) == MARK

    @pytest.mark.parametrize("text", ["x" * 1_400_000, "a plain sentence, and more. " * 50_000])
    def test_redact_large_plain_response_is_shown(self, text: str) -> None:
        assert Redactor([TOKEN], secret_keys={KEY}).redact(text) == text

    def test_redact_after_deadline_shows_short_response_only(self) -> None:
        redactor = Redactor([TOKEN], ["swordfish"], {KEY}, expired=lambda: True)
        assert redactor.redact({"a": ["x" * 1000, "swordfish"]}) == {"a": ["x" * 1000, MARK]}
        assert redactor.redact(["x" * 60_000]) == ["x" * 60_000]
        assert redactor.redact(["x" * 1_000_000]) == MARK

    def test_redact_each_response_has_own_budget(self) -> None:
        redactor = Redactor([TOKEN])
        text = "a plain sentence, and more. " * 50_000
        assert all(redactor.redact(text) == text for _ in range(4))


# The strategies for tokens, and for texts that contain a piece of a token in nested forms.

TOKEN_CHARACTERS = st.characters(min_codepoint=33, max_codepoint=126)
TOKENS = st.text(TOKEN_CHARACTERS, min_size=PIECE_LENGTH, max_size=60)
SURROUNDINGS = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=8)


@st.composite
def encoded(draw: st.DrawFn, text: str) -> str:
    """Return `text` in base64 or hex or as it is, in the middle of other text, under up to two layers of escapes."""
    text = draw(SURROUNDINGS) + text + draw(SURROUNDINGS)
    form = draw(st.sampled_from(["plain", "hex", "HEX", "base64 0", "base64 url", "base64 lines", "hex lines"]))
    text = FORMS[form](text)
    for form in draw(st.lists(st.sampled_from(["JSON", "JSON units", "URL", "URL all"]), max_size=2)):
        text = FORMS[form](text)
    return text


def shows_piece(token: str, shown: bytes) -> bool:
    """Return True if `shown` contains a piece of `token` in any one form. The search is independent of the product."""
    forms = set()
    for start in range(len(token) - PIECE_LENGTH + 1):
        piece = token[start : start + PIECE_LENGTH].encode()
        forms |= {piece, piece.hex().encode(), piece.hex().upper().encode()}
        for offset, shared in enumerate((0, 2, 3)):
            digits = base64.b64encode(bytes(offset) + piece)[shared : (offset + PIECE_LENGTH) * 8 // 6]
            forms |= {digits, digits.replace(b"+", b"-").replace(b"/", b"_")}
    text = shown.replace(MARK.encode(), b"\0")
    views = [text, unquote_to_bytes(text)]
    views += [json.dumps(json.loads(text.replace(b"\0", b"")), ensure_ascii=False).encode()]
    views += [view.replace(b"\\n", b"").replace(b"\\/", b"/") for view in views]
    return any(form in view for form in forms for view in views)


class TestProperties:
    @given(st.data(), TOKENS, SURROUNDINGS, SURROUNDINGS, JSON_VALUES)
    def test_redact_encoded_piece_never_shown(
        self, data: st.DataObject, token: str, before: str, after: str, other: Any
    ) -> None:
        start = data.draw(st.integers(0, len(token) - PIECE_LENGTH))
        end = data.draw(st.integers(start + PIECE_LENGTH, len(token)))
        hidden = data.draw(encoded(token[start:end]))
        text = f"{before} {hidden} {after}"
        response: Any = {"a": other, "b": [text, {text: text}]}
        shown = Redactor([token]).redact(response)
        assert shown == MARK or hidden not in dump(shown).decode()
        assert not shows_piece(token, dump(shown))
        if isinstance(shown, dict):
            assert hidden not in str(shown["b"])

    @given(st.text(min_size=4), JSON_VALUES)
    @example("redacted", None)
    def test_redact_credential_never_shown(self, credential: str, value: Any) -> None:
        assume(credential not in MARK)
        shown = Redactor([], [credential]).redact({"a": value, "echo": [f"<{credential}>", {credential: credential}]})
        assert all(credential not in text.replace(MARK, "") or credential in MARK for text in texts_of(shown))

    @given(st.text(string.ascii_letters + string.digits, min_size=PIECE_LENGTH, max_size=60), JSON_VALUES)
    def test_redact_value_without_token_is_unchanged(self, token: str, value: Any) -> None:
        token = f"CANARY-7Kq-{token}"
        assume(not shows_piece(token, dump(value)))
        assert Redactor([token]).redact(value) == value


def texts_of(value: Any) -> list[str]:
    """Return every string in `value` that is not a key."""
    if isinstance(value, dict):
        return [text for member in value.values() for text in texts_of(member)]
    if isinstance(value, list):
        return [text for item in value for text in texts_of(item)]
    return [value] if isinstance(value, str) else []
