"""Proofs: accepted when right, refused when anything is off."""

import base64
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from deploy.local.signing import signed_headers
from handlers.proofs import BadKey, Incoming
from handlers.senders import NATIVE, has_proof, prove, standard_id
from handlers.signatures import TOLERANCE_SECONDS, signing_key

# The vector that https://github.com/standard-webhooks/standard-webhooks publishes.
VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_TIME = 1614265330
VECTOR = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(VECTOR_TIME),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def native(headers: dict[str, str], body: bytes, secret: str, now: float) -> str | None:
    """What proves a native event."""
    return prove(NATIVE, Incoming(headers, "", body, now), secret)


def as_svix(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("webhook-", "svix-"): value for name, value in headers.items()}


def test_the_published_vector() -> None:
    assert native(VECTOR, VECTOR_BODY, VECTOR_SECRET, VECTOR_TIME) == "standard-webhooks"
    assert native(as_svix(VECTOR), VECTOR_BODY, VECTOR_SECRET, VECTOR_TIME) == "standard-webhooks"


@given(st.binary(max_size=100), st.binary(min_size=1, max_size=64))
def test_what_the_official_library_and_the_local_signer_sign(body: bytes, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    headers = signed_headers(secret, "msg_1", body, at=VECTOR_TIME)
    assert native(headers, body, secret, VECTOR_TIME) == "standard-webhooks"
    if re.fullmatch(rb"[\x20-\x7e]*", body):
        from datetime import UTC, datetime

        official = Webhook(secret).sign("msg_1", datetime.fromtimestamp(VECTOR_TIME, UTC), body.decode())
        assert headers["webhook-signature"] == official


@pytest.mark.parametrize(
    ("changes", "body", "secret"),
    [
        ({}, VECTOR_BODY + b" ", VECTOR_SECRET),
        ({}, VECTOR_BODY[:-1], VECTOR_SECRET),
        ({}, b"", VECTOR_SECRET),
        ({}, VECTOR_BODY, VECTOR_SECRET[:-1] + "x"),
        ({}, VECTOR_BODY, VECTOR_SECRET.removeprefix("whsec_")),
        ({"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJel"}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-id": ""}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-timestamp": str(VECTOR_TIME + 1)}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-timestamp": f"{VECTOR_TIME}.0"}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-timestamp": f" {VECTOR_TIME}"}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-timestamp": f"+{VECTOR_TIME}"}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-timestamp": "١٦١٤٢٦٥٣٣٠"}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-timestamp": "9" * 400}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-timestamp": ""}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-signature": VECTOR["webhook-signature"].removeprefix("v1,")}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-signature": VECTOR["webhook-signature"].replace("v1,", "v1a,")}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-signature": VECTOR["webhook-signature"].replace("v1,", "V1,")}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-signature": VECTOR["webhook-signature"].rstrip("=")}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-signature": VECTOR["webhook-signature"].swapcase()}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-signature": "v1,"}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-signature": ""}, VECTOR_BODY, VECTOR_SECRET),
        ({"webhook-signature": "v1,ÿ€ not base64"}, VECTOR_BODY, VECTOR_SECRET),
    ],
)
def test_refused_when_anything_is_off(changes: dict[str, str], body: bytes, secret: str) -> None:
    assert native({**VECTOR, **changes}, body, secret, VECTOR_TIME) is None


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_refused_when_a_header_is_missing(missing: str) -> None:
    headers = {name: value for name, value in VECTOR.items() if name != missing}
    assert native(headers, VECTOR_BODY, VECTOR_SECRET, VECTOR_TIME) is None


def test_headers_of_both_spellings_do_not_mix() -> None:
    mixed = {**as_svix(VECTOR), "webhook-signature": "v1,AAAA"}
    assert native(mixed, VECTOR_BODY, VECTOR_SECRET, VECTOR_TIME) is None


@pytest.mark.parametrize("drift", [-TOLERANCE_SECONDS, TOLERANCE_SECONDS])
def test_tolerance(drift: int) -> None:
    assert native(VECTOR, VECTOR_BODY, VECTOR_SECRET, VECTOR_TIME + drift)
    assert native(VECTOR, VECTOR_BODY, VECTOR_SECRET, VECTOR_TIME + drift + (1 if drift > 0 else -1)) is None


@pytest.mark.parametrize("timestamp", ["", "now", f"{VECTOR_TIME}.0", f"+{VECTOR_TIME}", "9" * 13, "²", "1_6"])
def test_a_signed_timestamp_that_is_no_number_is_stale(timestamp: str) -> None:
    key = base64.b64decode(VECTOR_SECRET.removeprefix("whsec_"))
    signed = hmac.digest(key, f"m.{timestamp}.{{}}".encode("latin-1"), "sha256")
    headers = {
        "webhook-id": "m",
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
    assert native(headers, b"{}", VECTOR_SECRET, VECTOR_TIME) is None


def test_one_right_signature_of_several_is_enough() -> None:
    several = {**VECTOR, "webhook-signature": f"v1,AAAA v2,zzzz  {VECTOR['webhook-signature']} junk"}
    assert native(several, VECTOR_BODY, VECTOR_SECRET, VECTOR_TIME)


def test_a_secret_without_prefix_signs_as_its_text() -> None:
    text = "gehört, nicht base64!"
    headers = signed_headers("whsec_" + base64.b64encode(text.encode()).decode(), "m", b"{}", at=VECTOR_TIME)
    assert native(headers, b"{}", text, VECTOR_TIME)


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_padding_of_a_key_is_optional(padding: str) -> None:
    assert signing_key(f"whsec_MTIzNA{padding}") == b"1234"


@pytest.mark.parametrize("secret", ["whsec_", "whsec_====", "whsec_a", "whsec_ä", "whsec_a b c", "whsec_AAAA-_"])
def test_what_cannot_be_a_key_is_not_an_empty_one(secret: str) -> None:
    with pytest.raises(BadKey):
        signing_key(secret)
    with pytest.raises(BadKey):
        native(VECTOR, VECTOR_BODY, secret, VECTOR_TIME)


@pytest.mark.parametrize("header", ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "])
def test_bearer(header: str) -> None:
    assert native({"authorization": header}, b"", "s3cret", 0) == "token"


@pytest.mark.parametrize("secret", ["pässwörtà", "geheimÅ", " spaced out "])
def test_bearer_as_it_is_on_the_wire(secret: str) -> None:
    header = f"Bearer {secret.strip(' ')}".encode().decode("latin-1")
    assert native({"authorization": header}, b"", secret, 0) == "token"


def test_bearer_of_a_key_that_cannot_sign() -> None:
    assert native({"authorization": "Bearer whsec_"}, b"", "whsec_", 0) == "token"


@pytest.mark.parametrize(
    "header",
    ["", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crett", "Bearer S3cret", "Basic s3cret",
     "Bearers3cret", "Bearer s3cret,Bearer s3cret", "Bearer ÿ", "Token s3cret"],
)  # fmt: skip
def test_not_the_bearer(header: str) -> None:
    assert native({"authorization": header}, b"", "s3cret", 0) is None


@given(
    st.dictionaries(
        st.sampled_from([*VECTOR, *as_svix(VECTOR), "authorization"]), st.text(st.characters(codec="latin-1"))
    )
)
def test_no_headers_are_an_error_and_none_is_a_proof(headers: dict[str, str]) -> None:
    assert native(headers, b"{}", VECTOR_SECRET, VECTOR_TIME) is None


def test_whether_there_is_a_proof_at_all() -> None:
    for headers in (VECTOR, as_svix(VECTOR), {"authorization": ""}):
        assert has_proof(NATIVE, Incoming(headers, "", b"", 0))
    assert not has_proof(NATIVE, Incoming({"webhook-id": "x", "webhook-timestamp": "1"}, "", b"", 0))


def test_the_standard_id() -> None:
    assert standard_id(VECTOR) == VECTOR["webhook-id"]
    assert standard_id(as_svix(VECTOR)) == VECTOR["webhook-id"]
    assert standard_id({}) is None
    # Of two only the one that is signed counts.
    assert standard_id({**as_svix(VECTOR), "webhook-id": "foreign"}) == VECTOR["webhook-id"]
    assert standard_id({**VECTOR, "svix-id": "foreign"}) == VECTOR["webhook-id"]
    assert standard_id({"webhook-id": "", "svix-id": "s"}) == "s"
