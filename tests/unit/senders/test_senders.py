"""The rows of the table: each sender verifies its own requests, and nothing else."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.signing import authentication
from handlers.senders import NATIVE_SENDERS, SENDERS, hidden_headers
from handlers.senders.shared_secrets import QuerySecret, SignedRequest
from handlers.senders.signatures import (
    TOLERANCE_SECONDS,
    BodySignature,
    SignatureOrSecret,
    StandardWebhooks,
    TimestampedSignature,
)
from tests.unit.senders.signed_requests import (
    BODY,
    CASES,
    NOW,
    secret_of,
    sender_of,
    signed_request,
    verify,
    with_headers,
)


def verifier_class(case: str) -> type:
    """Return the class of the verifier that a case is about."""
    verifier = sender_of(case).verifier
    if isinstance(verifier, SignatureOrSecret):
        return type(verifier.secret if case == "gitlab" else verifier.signature)
    return type(verifier)


TIMESTAMPED = sorted(case for case in CASES if verifier_class(case) in (StandardWebhooks, TimestampedSignature))
SIGNED = sorted({*TIMESTAMPED, *(case for case in CASES if verifier_class(case) is BodySignature)})


def test_senders_table_covers_every_documented_sender() -> None:
    assert set(SENDERS) == {
        "airbyte", "airflow", "apify", "azure-devops", "basic", "bitbucket", "buildkite", "circleci", "dagster",
        "databricks", "dbt", "fivetran", "github", "gitlab", "hookdeck", "jenkins", "prefect", "standard-webhooks",
        "token", "url-token",
    }  # fmt: skip
    assert [sender.name for sender in NATIVE_SENDERS] == ["token", "standard-webhooks"]
    assert all(name == sender.name for name, sender in SENDERS.items())


def test_senders_table_kinds_of_signatures() -> None:
    """The parametrized tests below depend on these lists, so an empty list must not pass unnoticed."""
    assert TIMESTAMPED == ["buildkite", "gitlab:signed", "standard-webhooks"]
    assert set(SIGNED) == {*TIMESTAMPED, "bitbucket", "circleci", "dbt", "fivetran", "github", "hookdeck"}


@pytest.mark.parametrize("case", CASES)
def test_verify_right_credential_returns_true(case: str) -> None:
    request = signed_request(case)
    assert verify(case, request)
    assert sender_of(case).verifier.is_present(request)


@pytest.mark.parametrize("case", CASES)
def test_verify_no_credential_returns_false(case: str) -> None:
    request = with_headers({})
    assert not verify(case, request)
    assert not sender_of(case).verifier.is_present(request)


@pytest.mark.parametrize("case", SIGNED)
@pytest.mark.parametrize("body", [BODY[:-1], BODY + b" ", BODY.replace(b"1", b"2"), BODY.replace(b" ", b""), b""])
def test_verify_changed_body_returns_false(case: str, body: bytes) -> None:
    assert not verify(case, replace(signed_request(case), body=body))


@pytest.mark.parametrize("case", CASES)
def test_verify_other_secret_returns_false(case: str) -> None:
    secret = secret_of(case)
    if secret.startswith("whsec_"):
        others = [secret.replace("key", "kez"), secret.replace("CANARY", "CANARYCANARYAA"), secret[:-8]]
    else:
        others = [secret[:-1], f"{secret}x", secret.replace("s", "S"), f"x{secret}"]
    for other in others:
        assert not verify(case, signed_request(case, secret=other)), other
        assert not verify(case, signed_request(case), other), other


@pytest.mark.parametrize("case", TIMESTAMPED)
@pytest.mark.parametrize("direction", [-1, 1])
def test_verify_timestamp_outside_tolerance_returns_false(case: str, direction: int) -> None:
    assert verify(case, signed_request(case, at=NOW + direction * TOLERANCE_SECONDS))
    assert not verify(case, signed_request(case, at=NOW + direction * (TOLERANCE_SECONDS + 1)))


@pytest.mark.parametrize(
    ("case", "header", "prefix", "others"),
    [
        ("github", "x-hub-signature-256", "sha256=", ["sha1=", "SHA256=", "sha256:", "", "sha256= x"]),
        ("bitbucket", "x-hub-signature", "sha256=", ["sha1=", "SHA256=", ""]),
        ("circleci", "circleci-signature", "v1=", ["v0=", "V1=", ""]),
        ("standard-webhooks", "webhook-signature", "v1,", ["v1a,", "v2,", "V1,", ""]),
        ("azure-devops", "authorization", "Basic ", ["Bearer ", "Basic", ""]),
        ("apify", "authorization", "Bearer ", ["Basic ", "Bearer", ""]),
    ],
)
def test_verify_other_prefix_returns_false(case: str, header: str, prefix: str, others: list[str]) -> None:
    request = signed_request(case)
    value = request.headers[header]
    assert prefix in value
    for other in others:
        assert not verify(case, replace(request, headers={**request.headers, header: value.replace(prefix, other)}))


@pytest.mark.parametrize("case", ["github", "bitbucket", "dbt", "fivetran", "circleci"])
@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_verify_hexadecimal_digits_in_either_case_returns_true(case: str, change: Any) -> None:
    request = signed_request(case)
    ((name, value),) = request.headers.items()
    *prefix, digits = value.split("=")
    assert verify(case, replace(request, headers={name: "=".join([*prefix, change(digits)])}))


@settings(max_examples=2 * settings().max_examples)
@given(st.sampled_from(CASES), st.data())
def test_verify_malformed_credential_returns_false(case: str, data: st.DataObject) -> None:
    names = sender_of(case).verifier.headers | {"webhook-id", "webhook-timestamp"}
    text = st.text(st.characters(codec="latin-1"), max_size=60)
    prefix = st.sampled_from(
        ["sha256=", "v1=", "v1,", "timestamp=1,signature=", "Basic ", "Bearer ", "timestamp=", ","]
    )
    value = st.one_of(text, st.builds(str.__add__, prefix, text))
    headers = data.draw(st.dictionaries(st.sampled_from(sorted(names)), value))
    query = data.draw(st.one_of(text, st.builds("token={}".format, text)))
    assert not verify(case, SignedRequest(headers, query, BODY, NOW))


@pytest.mark.parametrize("name", SENDERS)
def test_verify_credential_of_another_sender_returns_false(name: str) -> None:
    """Only senders that send the very same credential pass for each other, even with the same secret."""
    same_credential = [
        {"databricks", "azure-devops", "jenkins", "basic"},
        {"airbyte", "url-token"},
        {"apify", "airflow", "prefect", "dagster", "token"},
    ]
    secret = "CANARY-user:password"
    own_secret = f"whsec_{base64.b64encode(secret.encode()).decode()}" if name == "standard-webhooks" else secret
    headers, query = authentication(name, own_secret, BODY, at=NOW)
    request = SignedRequest({key.lower(): value for key, value in headers.items()}, query.removeprefix("?"), BODY, NOW)
    passing = {other for other, sender in SENDERS.items() if sender.verifier.verify(request, secret)}
    assert passing == next((group for group in same_credential if name in group), {name})


def test_verify_vector_of_github_returns_true() -> None:
    """https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries"""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = with_headers({"x-hub-signature-256": signature}, body=b"Hello, World!")
    assert verify("github", request, "It's a Secret to Everybody")


def test_verify_vector_of_circleci_returns_true() -> None:
    """https://circleci.com/docs/guides/integration/outbound-webhooks/"""
    signature = "v1=773ba44693c7553d6ee20f61ea5d2757a9a4f4a44d2841ae4e95b52e4cd62db4"
    assert verify("circleci", with_headers({"circleci-signature": signature}, body=b"foo"), "secret")


def test_challenge_names_the_scheme_of_the_sender() -> None:
    for name, sender in SENDERS.items():
        is_basic = name in ("databricks", "azure-devops", "jenkins", "basic")
        assert sender.challenge == f'{"Basic" if is_basic else "Bearer"} realm="dataset-relay"'


# Test messages


@pytest.mark.parametrize(
    ("name", "headers", "payload"),
    [
        ("github", {"x-github-event": "ping"}, {"zen": "Keep it simple.", "hook_id": 1}),
        ("fivetran", {}, {"event": "test_event", "created": "timestamp"}),
        ("buildkite", {}, {"event": "ping", "service": {}}),
        ("apify", {}, {"eventType": "TEST", "resource": {}}),
        ("circleci", {"circleci-event-type": "ping"}, {}),
        ("circleci", {}, {"type": "ping", "webhook": {}}),
    ],
)
def test_is_test_message_test_message_returns_true(name: str, headers: dict[str, str], payload: Any) -> None:
    assert SENDERS[name].is_test_message(headers, payload)
    assert not SENDERS["token"].is_test_message(headers, payload)


@pytest.mark.parametrize("name", SENDERS)
@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"event": "done", "type": "done", "eventType": "DONE"},
        {"event": {"ping": 1}, "type": ["ping"], "eventType": None},
        ["ping"],
        "ping",
        None,
    ],
)
def test_is_test_message_event_returns_false(name: str, payload: Any) -> None:
    assert not SENDERS[name].is_test_message({"x-github-event": "push"}, payload)


# Headers that a template can read


def test_visible_headers_credential_of_any_sender_is_hidden() -> None:
    visible = {"x-github-event": "push", "webhook-id": "m", "webhook-timestamp": "1", "x-request-id": "r"}
    credentials = {
        "cookie": "CANARY", "proxy-authorization": "CANARY", "authorization": "CANARY", "svix-signature": "v1,CANARY",
        "x-buildkite-token": "CANARY", "x-serverless-authorization": "Bearer CANARY",
    }  # fmt: skip
    for case in CASES:
        credentials |= {name: value for name, value in signed_request(case).headers.items() if name not in visible}
    for sender in SENDERS.values():
        assert sender.visible_headers({**visible, **credentials}) == visible
    assert hidden_headers() == set(credentials)


def test_hidden_headers_query_secret_adds_no_header() -> None:
    assert QuerySecret("token").headers == frozenset()
