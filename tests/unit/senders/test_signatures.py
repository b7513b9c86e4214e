"""Credentials that sign the body."""

import base64
import hmac
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from deploy.local.signing import signed_headers
from handlers.senders.shared_secrets import BadSecretError, SignedRequest, Verifier
from handlers.senders.signatures import (
    STANDARD_WEBHOOKS,
    BodySignature,
    PreferredVerifier,
    TimestampedSignature,
    signing_key,
)
from tests.unit.senders.signed_requests import (
    BODY,
    NOW,
    SIGNING_SECRET,
    secret_of,
    signed_request,
    verify,
    with_headers,
)

# The published test vector of https://github.com/standard-webhooks/standard-webhooks.
VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_TIME = 1614265330
VECTOR = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(VECTOR_TIME),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def verify_standard(
    headers: dict[str, str], body: bytes = VECTOR_BODY, secret: str = VECTOR_SECRET, now: float = VECTOR_TIME
) -> bool:
    return STANDARD_WEBHOOKS.verify(SignedRequest(headers, "", body, now), secret)


def as_svix(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("webhook-", "svix-"): value for name, value in headers.items()}


# Standard Webhooks


def test_standard_webhooks_published_vector_returns_true() -> None:
    assert verify_standard(VECTOR)
    assert verify_standard(as_svix(VECTOR))


@given(st.binary(max_size=100), st.binary(min_size=1, max_size=64))
def test_standard_webhooks_independent_signer_returns_true(body: bytes, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    assert verify_standard(signed_headers(secret, "msg_1", body, at=VECTOR_TIME), body, secret)


@given(st.text(st.characters(codec="ascii")), st.binary(min_size=1, max_size=64))
def test_standard_webhooks_official_library_returns_true(body: str, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(VECTOR_TIME, UTC), body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(VECTOR_TIME), "webhook-signature": signature}
    assert verify_standard(headers, body.encode(), secret)


@pytest.mark.parametrize("body", [VECTOR_BODY + b" ", VECTOR_BODY[:-1], b""])
def test_standard_webhooks_changed_body_returns_false(body: bytes) -> None:
    assert not verify_standard(VECTOR, body)


@pytest.mark.parametrize("secret", [f"{VECTOR_SECRET[:-1]}x", VECTOR_SECRET.removeprefix("whsec_")])
def test_standard_webhooks_other_secret_returns_false(secret: str) -> None:
    assert not verify_standard(VECTOR, secret=secret)


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJel"},
        {"webhook-id": ""},
        {"webhook-timestamp": str(VECTOR_TIME + 1)},
        {"webhook-timestamp": f"{VECTOR_TIME}.0"},
        {"webhook-timestamp": f" {VECTOR_TIME}"},
        {"webhook-timestamp": f"+{VECTOR_TIME}"},
        {"webhook-timestamp": "١٦١٤٢٦٥٣٣٠"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": ""},
        {"webhook-signature": VECTOR["webhook-signature"].removeprefix("v1,")},
        {"webhook-signature": VECTOR["webhook-signature"].replace("v1,", "v1a,")},
        {"webhook-signature": VECTOR["webhook-signature"].replace("v1,", "V1,")},
        {"webhook-signature": VECTOR["webhook-signature"].rstrip("=")},
        {"webhook-signature": VECTOR["webhook-signature"].swapcase()},
        {"webhook-signature": "v1,"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,ÿ€ not base64"},
    ],
)
def test_standard_webhooks_changed_header_returns_false(changes: dict[str, str]) -> None:
    assert not verify_standard({**VECTOR, **changes})


@pytest.mark.parametrize("missing", VECTOR)
def test_standard_webhooks_missing_header_returns_false(missing: str) -> None:
    assert not verify_standard({name: value for name, value in VECTOR.items() if name != missing})


def test_standard_webhooks_signed_empty_id_returns_false() -> None:
    assert verify_standard(signed_headers(VECTOR_SECRET, "m", VECTOR_BODY, at=VECTOR_TIME))
    assert not verify_standard(signed_headers(VECTOR_SECRET, "", VECTOR_BODY, at=VECTOR_TIME))


def test_standard_webhooks_headers_of_two_spellings_return_false() -> None:
    assert not verify_standard({**as_svix(VECTOR), "webhook-signature": "v1,AAAA"})


@pytest.mark.parametrize("direction", [-1, 1])
def test_standard_webhooks_time_outside_tolerance_returns_false(direction: int) -> None:
    five_minutes = 5 * 60
    assert verify_standard(VECTOR, now=VECTOR_TIME + direction * five_minutes)
    assert not verify_standard(VECTOR, now=VECTOR_TIME + direction * (five_minutes + 1))


@pytest.mark.parametrize("timestamp", ["", "now", f"{VECTOR_TIME}.0", f"+{VECTOR_TIME}", "9" * 13, "²", "1_6"])
def test_standard_webhooks_signed_timestamp_is_no_number_returns_false(timestamp: str) -> None:
    key = base64.b64decode(VECTOR_SECRET.removeprefix("whsec_"))
    digest = hmac.digest(key, f"m.{timestamp}.{{}}".encode("latin-1"), "sha256")
    signature = f"v1,{base64.b64encode(digest).decode()}"
    headers = {"webhook-id": "m", "webhook-timestamp": timestamp, "webhook-signature": signature}
    assert not verify_standard(headers, b"{}")


def test_standard_webhooks_one_right_signature_of_several_returns_true() -> None:
    signatures = f"v1,AAAA v2,zzzz  {VECTOR['webhook-signature']} junk"
    assert verify_standard({**VECTOR, "webhook-signature": signatures})


def test_standard_webhooks_secret_without_prefix_is_its_own_key() -> None:
    secret = "CANARY gehört, nicht base64!"
    headers = signed_headers("whsec_" + base64.b64encode(secret.encode()).decode(), "m", b"{}", at=VECTOR_TIME)
    assert verify_standard(headers, b"{}", secret)


def test_standard_webhooks_is_present_needs_a_signature() -> None:
    verifier = STANDARD_WEBHOOKS
    assert verifier.is_present(with_headers(VECTOR))
    assert verifier.is_present(with_headers(as_svix(VECTOR)))
    assert not verifier.is_present(with_headers({"webhook-id": "x", "webhook-timestamp": "1"}))


@given(
    st.dictionaries(st.sampled_from([*VECTOR, *as_svix(VECTOR)]), st.text(st.characters(codec="latin-1")), max_size=6)
)
def test_standard_webhooks_any_headers_return_false(headers: dict[str, str]) -> None:
    assert not verify_standard(headers, b"{}")


# Signing keys


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_signing_key_padding_is_optional(padding: str) -> None:
    assert signing_key(f"whsec_MTIzNA{padding}") == b"1234"


@pytest.mark.parametrize("secret", ["whsec_", "whsec_====", "whsec_a", "whsec_ä", "whsec_a b c", "whsec_AAAA-_"])
def test_signing_key_empty_or_malformed_base64_raises(secret: str) -> None:
    with pytest.raises(BadSecretError, match="must be base64"):
        signing_key(secret)
    with pytest.raises(BadSecretError):
        verify_standard(VECTOR, secret=secret)


@pytest.mark.parametrize(
    ("verifier", "headers"),
    [
        (BodySignature("x-signature"), {"x-signature": hmac.digest(b"", BODY, "sha256").hex()}),
        (
            TimestampedSignature("x-signature"),
            {"x-signature": f"timestamp={NOW},signature={hmac.digest(b'', f'{NOW}.'.encode() + BODY, 'sha256').hex()}"},
        ),
        (STANDARD_WEBHOOKS, VECTOR),
    ],
)
def test_signature_empty_secret_raises(verifier: Verifier, headers: dict[str, str]) -> None:
    """Anybody can sign with an empty key."""
    with pytest.raises(BadSecretError, match="must not be empty"):
        verifier.verify(with_headers(headers), "")


# Lists of signatures


def test_body_signature_one_right_signature_of_several_returns_true() -> None:
    request = signed_request("circleci")
    right = request.headers["circleci-signature"].rpartition(",")[2]
    for value in (right, f"v1=00, {right}", f"{right},v2=zz", f"junk,{right},"):
        assert verify("circleci", with_headers({"circleci-signature": value})), value


def test_body_signature_without_separator_list_returns_false() -> None:
    signature = hmac.digest(b"CANARY", BODY, "sha256").hex()
    assert BodySignature("x-signature").verify(with_headers({"x-signature": signature}), "CANARY")
    assert not BodySignature("x-signature").verify(with_headers({"x-signature": f"{signature},{signature}"}), "CANARY")


# A timestamp in the same header


def test_timestamped_signature_malformed_header_returns_false() -> None:
    value = signed_request("buildkite").headers["x-buildkite-signature"]
    assert verify("buildkite", with_headers({"x-buildkite-signature": value.replace(",", ", ")}))
    for malformed in (
        value.replace(",", ";"), value.replace("signature=", "sig="), f"{value},{value}", f"{value}0",
        value.replace("timestamp=", "timestamp=0"), "", ",", "timestamp=,signature=",
    ):  # fmt: skip
        assert not verify("buildkite", with_headers({"x-buildkite-signature": malformed})), malformed


# A signature, or else the plain secret


def test_signature_or_secret_without_signature_plain_secret_returns_true() -> None:
    secret = secret_of("buildkite")
    token = {"x-buildkite-token": secret.encode().decode("latin-1")}
    assert verify("buildkite", with_headers(token))
    assert verify("gitlab", with_headers({"x-gitlab-token": "CANARY-token"}), "CANARY-token")


def test_signature_or_secret_wrong_signature_beside_right_secret_returns_false() -> None:
    token = {"x-buildkite-token": secret_of("buildkite").encode().decode("latin-1")}
    assert not verify("buildkite", with_headers({**token, "x-buildkite-signature": "timestamp=1,signature=00"}))
    request = signed_request("gitlab:signed")
    spoiled = {**request.headers, "webhook-signature": "v1,AAAA", "x-gitlab-token": "CANARY-token"}
    assert not verify("gitlab", replace(request, headers=spoiled), "CANARY-token")


def test_signature_or_secret_right_signature_beside_wrong_secret_returns_true() -> None:
    request = signed_request("gitlab:signed")
    assert verify("gitlab:signed", replace(request, headers={**request.headers, "x-gitlab-token": "wrong"}))


def test_signature_or_secret_by_prefix_separates_both_kinds_of_secrets() -> None:
    assert not verify("gitlab", with_headers({"x-gitlab-token": SIGNING_SECRET}), SIGNING_SECRET)
    key_of_token = "whsec_" + base64.b64encode(b"CANARY-token").decode()
    assert not verify("gitlab", with_headers(signed_headers(key_of_token, "m", BODY, at=NOW)), "CANARY-token")


def test_signature_or_secret_spelling_of_another_sender_returns_false() -> None:
    """GitLab never sends the headers of Svix."""
    request = signed_request("gitlab:signed")
    assert not verify("gitlab:signed", with_headers(as_svix(dict(request.headers))))


def test_signature_or_secret_headers_are_those_of_both_verifiers() -> None:
    verifier = PreferredVerifier(BodySignature("a"), BodySignature("b"))
    assert verifier.headers == {"a", "b"}
    assert verifier.is_present(with_headers({"a": ""}))
    assert verifier.is_present(with_headers({"b": ""}))
    assert not verifier.is_present(with_headers({}))
