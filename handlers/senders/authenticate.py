"""Authenticate a request: determine its sender.

An attacker sends requests without a credential, with an invalid credential, or with a credential of another sender. The
error is the same in each case, so an attacker learns neither the reason nor the name of a secret.

This module does no I/O: `authenticate` receives an iterator that fetches the secrets, and a function that writes to the
log.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from handlers.senders import Sender
from handlers.senders.shared_secrets import BadSecretError, SignedRequest
from schemas.problem import RelayError, SecretUnreachableError, SecretUnusableError, UnauthenticatedError
from schemas.secret_reference import SecretReference

_DETAIL = "A secret of the function is unavailable. The log of the function names the secret."
# The pairs of quotes that a shell, a YAML file, or a text processor puts around a secret.
_QUOTES = frozenset({'""', "''", "``", "\u201c\u201d", "\u2018\u2019"})
# Svix and other services show a secret together with the version of the signature.
_VERSIONED = "v1,whsec_"


class Secret(Protocol):
    """A secret with its text. This module doesn't import the secret store, because the store does I/O."""

    @property
    def text(self) -> str:
        """The secret itself."""


def authenticate(
    senders: Sequence[Sender],
    request: SignedRequest,
    secrets: Iterable[tuple[SecretReference, Secret | RelayError]],
    report: Callable[[str], None],
) -> str:
    """Return the name of the first sender in `senders` for which the request has a valid credential.

    A credential is valid if it matches one of `secrets`.

    An unavailable secret doesn't stop the other secrets. If another secret matches, `report` receives a message about
    each unavailable or unusable secret before it. Otherwise, the `cause` of the error has these messages, or the reason
    for the rejection. Never show a message or a cause to the caller: the caller isn't authenticated.

    Iterating over `secrets` fetches the secrets. The iteration doesn't start for a request without any credential, so
    such a request can't cause a fetch.

    Raises:
        UnauthenticatedError: No credential is valid.
        SecretUnreachableError: No credential matches an available secret, but another attempt can succeed.
        SecretUnusableError: No credential matches an available secret, and another secret is unusable.
    """
    if not any(sender.verifier.is_present(request) for sender in senders):
        raise UnauthenticatedError(senders[0].scheme, " ".join(each.verifier.explain(request) for each in senders))
    errors: list[RelayError] = []
    irregularities: list[str] = []
    for reference, secret in secrets:
        if isinstance(secret, RelayError):
            errors.append(secret)
            continue
        irregularities += _irregularities(secret.text, reference.label)
        try:
            for text in _forms(secret.text):
                for sender in senders:
                    if sender.verifier.verify(request, text):
                        for error in errors:
                            report(str(error))
                        return sender.name
        except BadSecretError as error:
            errors.append(SecretUnusableError(f"{reference.label} is unusable: {error}"))
    if errors:
        kind = SecretUnreachableError if any(error.retryable for error in errors) else SecretUnusableError
        unavailable = kind(_DETAIL)
        unavailable.cause = " ".join(map(str, errors))
        raise unavailable
    reasons = [sender.verifier.explain(request) for sender in senders if sender.verifier.is_present(request)]
    raise UnauthenticatedError(senders[0].scheme, " ".join([*reasons, *irregularities]))


def _forms(secret: str) -> Iterator[str]:
    """Yield the forms in which a sender can use a stored secret."""
    yield secret
    if secret.startswith(_VERSIONED):
        yield secret.removeprefix("v1,")


def _irregularities(secret: str, label: str) -> Iterator[str]:
    """Yield a sentence about each mistake that was probably made when the secret was stored."""
    if len(secret) > 1 and secret[0] + secret[-1] in _QUOTES:
        yield _irregularity(label, "begins and ends with a quote", "quotes")
    if secret != secret.strip():
        yield _irregularity(label, "begins or ends with whitespace", "whitespace")
    if not secret.strip().isprintable():
        yield _irregularity(label, "contains an invisible character", "character")


def _irregularity(label: str, form: str, part: str) -> str:
    """Return the sentences about a secret of the irregular form `form`, and about the `part` to remove."""
    return (
        f"The stored secret of {label} {form}. If the sender's secret doesn't, store the secret again without the "
        f"{part}."
    )
