"""Authentication: the credential, the secrets, and the error."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from handlers.senders import NATIVE_SENDERS, SENDERS, Sender
from handlers.senders.authenticate import authenticate
from handlers.senders.shared_secrets import SignedRequest
from schemas.problem import RelayError, SecretUnreachableError, SecretUnusableError, UnauthenticatedError
from schemas.secret_reference import SecretReference
from tests.unit.senders.signed_requests import (
    NOW,
    SIGNING_SECRET,
    secret_of,
    sender_of,
    signed_request,
    with_headers,
)

UNREACHABLE = SecretUnreachableError("RELAY_SECRET (1 of 2) is unavailable: Secret Manager is unreachable.")
UNUSABLE = SecretUnusableError("RELAY_SECRET (2 of 2) is unavailable: Secret Manager returned NOT_FOUND.")


@dataclass(frozen=True)
class Secret:
    text: str


class Secrets:
    """Yield secrets or errors, and count the secrets that the function under test fetched."""

    def __init__(self, *items: str | RelayError) -> None:
        self.items = items
        self.fetched = 0

    def __iter__(self) -> Iterator[tuple[SecretReference, Secret | RelayError]]:
        for position, item in enumerate(self.items, start=1):
            self.fetched += 1
            label = f"RELAY_SECRET ({position} of {len(self.items)})"
            reference = SecretReference("env", f"V{position}", label)
            yield reference, item if isinstance(item, RelayError) else Secret(item)


RIGHT, WRONG = secret_of("token"), "CANARY-wrong"
REQUEST = signed_request("token")


def run(
    secrets: Secrets, request: SignedRequest = REQUEST, senders: tuple[Sender, ...] = NATIVE_SENDERS
) -> tuple[str, list[str]]:
    reports: list[str] = []
    return authenticate(senders, request, secrets, reports.append), reports


def failure(
    secrets: Secrets, request: SignedRequest = REQUEST, senders: tuple[Sender, ...] = NATIVE_SENDERS
) -> tuple[RelayError, list[str]]:
    reports: list[str] = []
    with pytest.raises(RelayError) as caught:
        authenticate(senders, request, secrets, reports.append)
    return caught.value, reports


def test_authenticate_right_secret_returns_the_sender() -> None:
    assert run(Secrets(RIGHT)) == ("token", [])
    assert run(Secrets(SIGNING_SECRET), signed_request("standard-webhooks")) == ("standard-webhooks", [])


def test_authenticate_second_secret_is_right_returns_the_sender() -> None:
    assert run(Secrets(WRONG, RIGHT)) == ("token", [])


def test_authenticate_right_secret_fetches_no_further_secret() -> None:
    secrets = Secrets(RIGHT, WRONG)
    run(secrets)
    assert secrets.fetched == 1


def test_authenticate_wrong_secret_raises_unauthenticated() -> None:
    error, reports = failure(Secrets(WRONG, WRONG))
    assert isinstance(error, UnauthenticatedError)
    assert error.problem.headers == {"WWW-Authenticate": 'Bearer realm="dataset-relay"'}
    assert reports == []


def test_authenticate_no_secrets_raises_unauthenticated() -> None:
    assert isinstance(failure(Secrets())[0], UnauthenticatedError)


def test_authenticate_no_credential_fetches_no_secret() -> None:
    secrets = Secrets(RIGHT)
    error, _ = failure(secrets, with_headers({}))
    assert isinstance(error, UnauthenticatedError)
    assert secrets.fetched == 0


def test_authenticate_credential_of_another_sender_fetches_no_secret() -> None:
    secrets = Secrets(RIGHT)
    assert isinstance(failure(secrets, signed_request("github"), (SENDERS["bitbucket"],))[0], UnauthenticatedError)
    assert secrets.fetched == 0


def test_authenticate_errors_are_the_same_for_each_cause() -> None:
    """An attacker must not learn the difference between a missing, a malformed, and a wrong credential."""
    requests = [with_headers({}), with_headers({"authorization": "Bearer"}), REQUEST, signed_request("basic")]
    problems = [failure(Secrets(WRONG), request)[0].problem for request in requests]
    assert problems == [problems[0]] * len(problems)


@pytest.mark.parametrize("error", [UNREACHABLE, UNUSABLE])
def test_authenticate_unavailable_secret_does_not_stop_the_others(error: RelayError) -> None:
    assert run(Secrets(error, RIGHT)) == ("token", [str(error)])


@pytest.mark.parametrize("error", [UNREACHABLE, UNUSABLE])
def test_authenticate_unavailable_secret_raises_its_error_without_details(error: RelayError) -> None:
    raised, reports = failure(Secrets(WRONG, error))
    assert type(raised) is type(error)
    assert "RELAY_SECRET" not in str(raised)
    assert "NOT_FOUND" not in str(raised)
    assert raised.problem.headers == error.problem.headers
    assert (raised.cause, reports) == (str(error), [])


@pytest.mark.parametrize("errors", [(UNREACHABLE, UNUSABLE), (UNUSABLE, UNREACHABLE)])
def test_authenticate_unreachable_secret_takes_precedence_over_unusable_secret(errors: tuple[RelayError, ...]) -> None:
    """Another attempt can succeed, so the sender must learn that the problem is retryable."""
    raised, reports = failure(Secrets(*errors))
    assert isinstance(raised, SecretUnreachableError)
    assert (raised.cause, reports) == (" ".join(map(str, errors)), [])


def test_authenticate_secret_in_a_wrong_form_is_reported() -> None:
    senders = (SENDERS["basic"],)
    raised, _ = failure(Secrets("CANARY-no-colon"), signed_request("basic"), senders)
    assert isinstance(raised, SecretUnusableError)
    assert raised.cause == (
        "RELAY_SECRET (1 of 1) is unusable: a secret for Basic authentication must have the form user:password."
    )
    name, reports = run(Secrets("CANARY-no-colon", secret_of("basic")), signed_request("basic"), senders)
    assert (name, len(reports)) == ("basic", 1)


def test_authenticate_bearer_secret_that_cannot_sign_returns_the_sender() -> None:
    """A secret without a signing key is still a right bearer token."""
    assert run(Secrets("whsec_"), with_headers({"authorization": "Bearer whsec_"})) == ("token", [])


def test_authenticate_secret_that_cannot_sign_is_reported_only_for_a_signature() -> None:
    assert isinstance(failure(Secrets("whsec_"))[0], UnauthenticatedError)
    raised, _ = failure(Secrets("whsec_"), signed_request("standard-webhooks"))
    assert isinstance(raised, SecretUnusableError)
    assert "must be base64" in str(raised.cause)


@pytest.mark.parametrize("case", ["standard-webhooks", "gitlab:signed"])
def test_authenticate_secret_behind_a_version_returns_the_sender(case: str) -> None:
    sender = sender_of(case)
    assert run(Secrets(f"v1,{SIGNING_SECRET}"), signed_request(case), (sender,)) == (sender.name, [])


@pytest.mark.parametrize("sent", [SIGNING_SECRET, f"v1,{SIGNING_SECRET}"])
def test_authenticate_bearer_secret_behind_a_version_is_accepted_with_and_without(sent: str) -> None:
    """A sender may use the secret as it is stored."""
    request = with_headers({"authorization": f"Bearer {sent}"})
    assert run(Secrets(f"v1,{SIGNING_SECRET}"), request) == ("token", [])
    assert isinstance(failure(Secrets(f"v1,{SIGNING_SECRET}x"), request)[0], UnauthenticatedError)


def test_authenticate_secret_with_comma_keeps_its_beginning() -> None:
    assert run(Secrets("v1,CANARY-x"), with_headers({"authorization": "Bearer v1,CANARY-x"})) == ("token", [])


def cause_of(secrets: Secrets, request: SignedRequest = REQUEST) -> str:
    error, _ = failure(secrets, request)
    assert isinstance(error, UnauthenticatedError)
    assert error.cause
    assert error.cause not in str(error)
    return error.cause


def test_authenticate_error_has_the_cause_for_the_log() -> None:
    assert cause_of(Secrets(WRONG), with_headers({})) == (
        "The header authorization is missing. The header webhook-signature is missing."
    )
    assert cause_of(Secrets(WRONG)) == "The header authorization doesn't match the secret."
    signed = signed_request("standard-webhooks", at=NOW - 301)
    assert cause_of(Secrets(SIGNING_SECRET), signed) == (
        "The timestamp is 301 s old, and the limit is 300 s. Check the clocks."
    )


@pytest.mark.parametrize("quotes", ['""', "''", "``", "\u201c\u201d", "\u2018\u2019"])
def test_authenticate_error_names_quotes_around_a_secret(quotes: str) -> None:
    cause = cause_of(Secrets(f"{quotes[0]}{RIGHT}{quotes[1]}"))
    assert "The stored secret of RELAY_SECRET (1 of 1) begins and ends with a quote." in cause
    assert "CANARY" not in cause


def test_authenticate_error_names_whitespace_around_a_secret() -> None:
    assert "begins or ends with whitespace" in cause_of(Secrets(f" {WRONG}"))


@pytest.mark.parametrize("invisible", ["\u200b", "\ufeff", "\n", "\x00", "\u00a0"])
def test_authenticate_error_names_invisible_characters_in_a_secret(invisible: str) -> None:
    assert "contains an invisible character" in cause_of(Secrets(f"CANARY{invisible}wrong"))


@pytest.mark.parametrize("secret", ["'", '"CANARY', "CANARY'", "CANARY-wörd with spaces"])
def test_authenticate_error_names_no_irregularity_of_a_regular_secret(secret: str) -> None:
    assert cause_of(Secrets(secret)) == "The header authorization doesn't match the secret."


def test_authenticate_secret_in_quotes_that_is_right_returns_the_sender() -> None:
    request = with_headers({"authorization": "Bearer 'CANARY'"})
    assert run(Secrets("'CANARY'"), request) == ("token", [])
