"""Credentials that are the secret itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.senders.shared_secrets import Authorization, BadSecretError, HeaderSecret, QuerySecret, SignedRequest
from tests.unit.senders.signed_requests import signed_request, verify, with_headers, with_query

SECRET = "CANARY-s3cret"
BEARER = Authorization("Bearer")
BASIC = Authorization("Basic")


def bearer(header: str) -> SignedRequest:
    return with_headers({"authorization": header})


def test_signed_request_repr_hides_credentials() -> None:
    request = SignedRequest({"authorization": f"Bearer {SECRET}"}, f"token={SECRET}", SECRET.encode(), 0)
    assert "CANARY" not in repr(request)


# Authorization: Bearer


@pytest.mark.parametrize("header", [f"Bearer {SECRET}", f"bearer {SECRET}", f"BEARER  {SECRET} "])
def test_bearer_scheme_and_whitespace_in_any_form_returns_true(header: str) -> None:
    assert BEARER.verify(bearer(header), SECRET)


@pytest.mark.parametrize("secret", ["CANARY-pässwörtà", "CANARY-geheimÅ", " CANARY spaced out "])
def test_bearer_header_decoded_by_wsgi_returns_true(secret: str) -> None:
    received = f"Bearer {secret.strip(' ')}".encode().decode("latin-1")
    assert BEARER.verify(bearer(received), secret)


@pytest.mark.parametrize(
    "header",
    ["", SECRET, "Bearer", "Bearer ", f"Bearer {SECRET[:-1]}", f"Bearer {SECRET}t", f"Bearer {SECRET.lower()}",
     f"Basic {SECRET}", f"Bearer{SECRET}", f"Bearer {SECRET},Bearer {SECRET}", "Bearer ÿ", f"Token {SECRET}",
     f"Bearer\t{SECRET}"],
)  # fmt: skip
def test_bearer_other_header_returns_false(header: str) -> None:
    assert not BEARER.verify(bearer(header), SECRET)


def test_bearer_empty_header_is_present() -> None:
    assert BEARER.is_present(bearer(""))
    assert not BEARER.is_present(with_headers({}))


# Authorization: Basic


def test_basic_forms_of_clients_return_true() -> None:
    value = signed_request("basic").headers["authorization"]
    for form in (value, value.replace("Basic", "basic"), value.replace("Basic ", "BASIC  "), value.rstrip("=")):
        assert verify("basic", bearer(form)), form


def test_basic_secret_without_colon_raises() -> None:
    with pytest.raises(BadSecretError, match="user:password") as caught:
        BASIC.verify(signed_request("basic"), "CANARY-no-colon")
    assert "CANARY" not in str(caught.value)


# A header of its own


def test_header_secret_whitespace_around_the_value_returns_true() -> None:
    verifier = HeaderSecret("x-token")
    assert verifier.verify(with_headers({"x-token": f" {SECRET}\t"}), SECRET)
    assert not verifier.verify(with_headers({"x-token": f"{SECRET[:3]} {SECRET[3:]}"}), SECRET)
    assert not verifier.verify(with_headers({"x-other": SECRET}), SECRET)


# The query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("token=CANARY-secret/%C3%BC%2B%20%2541", True),
        ("token=CANARY-secret/%C3%BC%2B+%2541", True),
        ("a=b&token=CANARY-secret%2F%C3%BC%2B%20%2541&dry_run=true", True),
        ("%74oken=CANARY-secret/%C3%BC%2B%20%2541", True),
        ("token=CANARY-secret/%C3%BC%2B%20%2541&token=CANARY-secret/%C3%BC%2B%20%2541", False),
        ("token=CANARY-secret/%C3%BC%2B%20%2541&token=", False),
        ("token=CANARY-secret/%C3%BC%2B%20%41", False),
        ("Token=CANARY-secret/%C3%BC%2B%20%2541", False),
        ("token=", False),
        ("token", False),
        ("", False),
    ],
)
def test_query_secret_query_returns_expected(query: str, expected: bool) -> None:
    assert QuerySecret("token").verify(with_query(query), "CANARY-secret/ü+ %41") is expected


def test_query_secret_plus_stands_for_itself_or_a_space() -> None:
    verifier = QuerySecret("token")
    assert verifier.verify(with_query("token=CANARY+b/c="), "CANARY+b/c=")
    assert verifier.verify(with_query("token=CANARY+b"), "CANARY b")


@pytest.mark.parametrize("verifier", [BEARER, HeaderSecret("authorization"), QuerySecret("token")])
def test_shared_secret_empty_secret_raises(verifier: Authorization | HeaderSecret | QuerySecret) -> None:
    """A request without a credential equals an empty secret."""
    for request in (bearer(""), bearer("Bearer "), with_query("token=")):
        with pytest.raises(BadSecretError, match="must not be empty"):
            verifier.verify(request, "")


@given(st.text(st.characters(codec="latin-1")))
def test_bearer_any_header_returns_false(header: str) -> None:
    assert not BEARER.verify(bearer(header), SECRET)
