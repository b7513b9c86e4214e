"""The rows of the table: each sender verifies its own requests, and nothing else."""

import base64
import hmac
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.signing import authentication
from handlers.senders import NATIVE_SENDERS, SENDERS, custom_sender, hidden_headers
from handlers.senders.shared_secrets import QuerySecret, SignedRequest
from handlers.senders.signatures import (
    TOLERANCE_SECONDS,
    AnyVerifier,
    BodySignature,
    PreferredVerifier,
    SignedMessage,
    TimestampedSignature,
)
from schemas.problem import UnauthenticatedError
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
    if isinstance(verifier, PreferredVerifier):
        return type(verifier.fallback if case == "gitlab" else verifier.signature)
    return type(verifier.verifiers[0] if isinstance(verifier, AnyVerifier) else verifier)


TIMESTAMPED = sorted(case for case in CASES if verifier_class(case) in (SignedMessage, TimestampedSignature))
SIGNED = sorted({*TIMESTAMPED, *(case for case in CASES if verifier_class(case) is BodySignature)})


def test_senders_table_covers_every_documented_sender() -> None:
    assert set(SENDERS) == {
        "airbyte", "airflow", "apify", "azure-devops", "basic", "bitbucket", "buildkite", "circleci", "dagster",
        "databricks", "dbt", "fivetran", "gitea", "github", "gitlab", "google", "hookdeck", "huggingface", "jenkins",
        "mlflow", "prefect", "standard-webhooks", "token", "url-token", "wandb",
    }  # fmt: skip
    assert [sender.name for sender in NATIVE_SENDERS] == ["token", "standard-webhooks"]
    assert all(name == sender.name for name, sender in SENDERS.items())


def test_senders_table_kinds_of_signatures() -> None:
    """The parametrized tests below depend on these lists, so an empty list must not pass unnoticed."""
    assert TIMESTAMPED == ["buildkite", "gitlab:signed", "mlflow", "standard-webhooks"]
    assert set(SIGNED) == {
        *TIMESTAMPED, "bitbucket", "circleci", "dbt", "fivetran", "gitea", "github", "hookdeck", "wandb"
    }  # fmt: skip


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


@pytest.mark.parametrize("case", ["github", "bitbucket", "dbt", "fivetran", "circleci", "gitea", "wandb"])
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
        {"apify", "google", "airflow", "prefect", "dagster", "token"},
    ]
    secret = "CANARY-user:password"
    own_secret = f"whsec_{base64.b64encode(secret.encode()).decode()}" if name == "standard-webhooks" else secret
    headers, query = authentication(name, own_secret, BODY, at=NOW)
    request = SignedRequest({key.lower(): value for key, value in headers.items()}, query.removeprefix("?"), BODY, NOW)
    passing = {other for other, sender in SENDERS.items() if sender.verifier.verify(request, secret)}
    # Gitea and Forgejo also send the header of GitHub.
    expected = {"github", "gitea"} if name == "github" else {name}
    assert passing == next((group for group in same_credential if name in group), expected)


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
        headers = UnauthenticatedError(sender.scheme).problem.headers
        assert headers == {"WWW-Authenticate": f'{"Basic" if is_basic else "Bearer"} realm="dataset-relay"'}


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
        ("bitbucket", {"x-event-key": "diagnostics:ping"}, {"test": True}),
        (
            "airbyte",
            {},
            {
                "blocks": [{"type": "section", "text": {"text": "[THIS IS A TEST NOTIFICATION] Sync completed: x"}}],
                "data": {"success": True, "jobId": 10},
            },
        ),
        ("airbyte", {}, {"text": "Hello World! This is a test from Airbyte to try slack notification settings."}),
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
        {"blocks": []},
        {"blocks": [{"text": {"text": "Sync completed: [THIS IS A TEST NOTIFICATION]"}}]},
        {"blocks": [{"text": {"text": ["[THIS IS A TEST NOTIFICATION]"]}}]},
        {"blocks": {"0": {"text": {}}}},
        {"text": "Your connection Hello World! This is a test from Airbyte succeeded"},
        ["ping"],
        "ping",
        None,
    ],
)
def test_is_test_message_event_returns_false(name: str, payload: Any) -> None:
    assert not SENDERS[name].is_test_message({"x-github-event": "push"}, payload)


# Headers that a template can read


def test_visible_headers_credential_of_any_sender_is_hidden() -> None:
    visible = {
        "x-github-event": "push", "webhook-id": "m", "webhook-timestamp": "1", "x-request-id": "r",
        "x-mlflow-delivery-id": "m", "x-mlflow-timestamp": "1",
    }  # fmt: skip
    credentials = {
        "cookie": "CANARY", "proxy-authorization": "CANARY", "authorization": "CANARY", "svix-signature": "v1,CANARY",
        "x-buildkite-token": "CANARY", "x-hookdeck-signature-2": "CANARY",
        "x-serverless-authorization": "Bearer CANARY",
    }  # fmt: skip
    for case in CASES:
        credentials |= {name: value for name, value in signed_request(case).headers.items() if name not in visible}
    for sender in SENDERS.values():
        assert sender.visible_headers({**visible, **credentials}) == visible
    assert hidden_headers() == set(credentials)


def test_hidden_headers_query_secret_adds_no_header() -> None:
    assert QuerySecret("token").headers == frozenset()


# Custom senders


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_custom_sender_signature_verifies_its_own_requests(algorithm: str, encoding: str) -> None:
    sender = custom_sender({"hmac": algorithm, "header": "X-My-Signature", "prefix": "v0=", "encoding": encoding})
    digest = hmac.new(b"CANARY-s", BODY, algorithm).digest()
    value = f"v0={digest.hex() if encoding == 'hex' else base64.b64encode(digest).decode()}"
    request = with_headers({"x-my-signature": value})
    assert sender.verifier.verify(request, "CANARY-s")
    assert not sender.verifier.verify(request, "CANARY-t")
    assert not sender.verifier.verify(replace(request, body=BODY + b" "), "CANARY-s")
    assert sender.visible_headers({"x-my-signature": value, "a": "b"}) == {"a": "b"}


def test_custom_sender_signature_has_defaults() -> None:
    sender = custom_sender({"hmac": "sha256", "header": "X-My-Signature"})
    assert sender.verifier.verify(
        with_headers({"x-my-signature": hmac.new(b"CANARY-s", BODY, "sha256").hexdigest()}), "CANARY-s"
    )


def test_custom_sender_header_holds_the_secret() -> None:
    sender = custom_sender({"header": "X-API-Key"})
    assert sender.verifier.verify(with_headers({"x-api-key": "CANARY-s"}), "CANARY-s")
    assert not sender.verifier.verify(with_headers({"x-api-key": "CANARY-t"}), "CANARY-s")
    assert sender.visible_headers({"x-api-key": "CANARY-s"}) == {}


# Peculiarities of senders


@pytest.mark.parametrize("sent", ["us@er:p:w +", "us%40er:p%3Aw%20%2B", "us%40er:p%3aw%20+"])
@pytest.mark.parametrize("secret", ["us@er:p:w +", "us%40er:p%3Aw%20%2B"])
def test_verify_jenkins_either_side_is_percent_encoded_returns_true(sent: str, secret: str) -> None:
    """Jenkins sends `user:pass@` of its URL unchanged, and a later version can decode it."""
    for padding in ("", "=", "=="):
        value = base64.b64encode(sent.encode()).decode().rstrip("=") + padding
        assert SENDERS["jenkins"].verifier.verify(with_headers({"authorization": f"Basic {value}"}), secret)
    assert SENDERS["basic"].verifier.verify(with_headers({"authorization": f"Basic {value}"}), secret) is (
        sent == secret
    )


@pytest.mark.parametrize(("sent", "secret"), [("u:p%2541", "u:p%41"), ("u:p%41", "u:p%2541"), ("u:%", "u:%")])
def test_verify_jenkins_percent_sign_of_the_password_itself_returns_true(sent: str, secret: str) -> None:
    value = base64.b64encode(sent.encode()).decode()
    assert SENDERS["jenkins"].verifier.verify(with_headers({"authorization": f"Basic {value}"}), secret)


@pytest.mark.parametrize("secret", ["us@er:p:w +", "us%40er:p%3Aw%20%2B"])
def test_verify_jenkins_other_credentials_return_false(secret: str) -> None:
    sent = base64.b64encode(b"us%40er:p%3Aw%20%2B").decode()
    request = with_headers({"authorization": f"Basic {sent}"})
    assert SENDERS["jenkins"].verifier.verify(request, secret)
    assert not SENDERS["basic"].verifier.verify(request, "us@er:p:w +")
    assert not SENDERS["jenkins"].verifier.verify(request, "us@er:p:w")
    assert not SENDERS["jenkins"].verifier.verify(with_headers({"authorization": "Basic \xff%"}), secret)


@pytest.mark.parametrize("position", [0, 1])
def test_verify_hookdeck_either_signature_is_enough(position: int) -> None:
    (right,) = signed_request("hookdeck").headers.values()
    values = [right if index == position else "CANARYwrong" for index in range(2)]
    names = ("x-hookdeck-signature", "x-hookdeck-signature-2")
    assert verify("hookdeck", with_headers(dict(zip(names, values, strict=True))))
    assert verify("hookdeck", with_headers({names[position]: right}))


def test_verify_gitea_own_signature_takes_precedence() -> None:
    digest = hmac.new(secret_of("gitea").encode(), BODY, "sha256").hexdigest()
    fallback = {"x-hub-signature-256": f"sha256={digest}"}
    assert verify("gitea", with_headers(fallback))
    assert not verify("gitea", with_headers({**fallback, "x-gitea-signature": "0" * 64}))


# The reasons for the log


@pytest.mark.parametrize("case", CASES)
def test_explain_missing_credential_names_it(case: str) -> None:
    reason = sender_of(case).verifier.explain(with_headers({}))
    names = sender_of(case).verifier.headers | {"token"}
    assert any(f" {name}" in reason for name in names)
    assert reason.endswith(("is missing.", "has no parameter token."))


@pytest.mark.parametrize("case", CASES)
def test_explain_wrong_credential_has_no_value(case: str) -> None:
    wrong = signed_request(case, secret=f"{secret_of(case)}AAAA")
    reason = sender_of(case).verifier.explain(wrong)
    assert reason.endswith("doesn't match the secret.")
    assert not any(value in reason for value in (*wrong.headers.values(), secret_of(case)))


@pytest.mark.parametrize("case", TIMESTAMPED)
@pytest.mark.parametrize(("offset", "text"), [(-400, "400 s old"), (400, "400 s in the future")])
def test_explain_stale_timestamp_names_its_age(case: str, offset: int, text: str) -> None:
    assert text in sender_of(case).verifier.explain(signed_request(case, at=NOW + offset))


@pytest.mark.parametrize("case", TIMESTAMPED)
def test_explain_malformed_timestamp_names_the_rule(case: str) -> None:
    headers = signed_request(case).headers
    malformed = {name: value.replace(str(NOW), "1e9") for name, value in headers.items()}
    assert "isn't a number of seconds" in sender_of(case).verifier.explain(with_headers(malformed))


def test_explain_signed_message_without_id_names_the_header() -> None:
    headers = {name: value for name, value in signed_request("mlflow").headers.items() if not name.endswith("-id")}
    assert SENDERS["mlflow"].verifier.explain(with_headers(headers)) == "The header x-mlflow-delivery-id is missing."


def test_explain_another_scheme_names_the_scheme() -> None:
    request = with_headers({"authorization": "Bearer CANARY"})
    assert SENDERS["basic"].verifier.explain(request) == "The header authorization doesn't have the scheme Basic."


def test_explain_repeated_parameter_says_so() -> None:
    request = SignedRequest({}, "token=CANARY&token=CANARY", BODY, NOW)
    assert SENDERS["airbyte"].verifier.explain(request) == "The query has the parameter token more than once."
