"""Who calls, shown by a secret of ours: fetches what `senders` needs to decide."""

from collections.abc import Sequence

from handlers import senders
from handlers.deadline import Deadline
from handlers.logs import LOGGER
from handlers.proofs import BadKey, Incoming
from handlers.tokens import Secret, Secrets
from schemas.problem import RelayError, SecretUnusable, Unproven
from schemas.reference import SecretReference


def authenticate(
    names: Sequence[str],
    references: Sequence[SecretReference],
    secrets: Secrets,
    incoming: Incoming,
    deadline: Deadline,
) -> str:
    """Which of the senders `names` it is that calls, by one of the secrets at `references`.

    Raises Unproven, or that a secret can't be had.
    """
    challenge = senders.SENDERS[names[0]].challenge
    if not (references and senders.has_proof(names, incoming)):
        raise Unproven(challenge)
    trouble: RelayError | None = None
    for reference, found in secrets.each(references, deadline):
        if isinstance(found, Secret):
            try:
                if proven := senders.prove(names, incoming, found.text):
                    return proven
                continue
            except BadKey as error:
                found = SecretUnusable(f"{reference.label} is damaged: {error}")
        LOGGER.error("%s", found)
        if trouble is None or found.retryable:
            # The sender is told no names: it has not proven that they are its business.
            trouble = type(found)("A secret of this function can't be had; its log says which.")
    raise trouble or Unproven(challenge)
