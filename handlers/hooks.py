"""What an event of a sender's own means: a payload and a hook in, updates out. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from schemas.bounds import Budget, Failed, TooMuch, as_text
from schemas.config import Hook
from schemas.event import EventSchema, Update, read_event
from schemas.problem import Invalid
from schemas.strict import MAX_ERRORS
from schemas.strict_json import JSON
from schemas.templates import Missing
from schemas.trees import Wrong, rendered

_BROKEN = "What the hook makes of this event breaks a rule; errors names each field and its rule."


@dataclass(frozen=True)
class Ignored:
    """An event that the hook has nothing to do with; `is_odd` where that may be a mistake in the hook."""

    why: str
    is_odd: bool = False


def read(
    hook: Hook,
    payload: dict[str, JSON],
    headers: Mapping[str, str],
    schemas: Mapping[str, EventSchema],
    budget: Budget,
    *,
    is_test: bool = False,
) -> tuple[Update, ...] | Ignored:
    """The updates that `hook` makes of `payload`: all are right by the schema of their provider, one of `schemas`.

    `headers` are those that templates may see, by lower-case names. Raises Invalid with what is wrong with each.
    """
    if is_test:
        return Ignored(f"This is a test message of {hook.sender}.")
    variables: dict[str, JSON] = {"event": payload, "headers": {**headers}}
    if ignored := _ignored(hook, variables, budget):
        return ignored
    updates = []
    errors: Wrong = {}
    for position, template in enumerate(hook.updates):
        failures: Wrong = {}
        dataset = rendered(template.dataset, "dataset", variables, budget, failures)
        event: dict[str, JSON] = {
            "provider": template.provider,
            # Whatever it is, it becomes text; but null says that there is no dataset, not that it is called so.
            "dataset": None if dataset is None else as_text(dataset),
            "update": rendered(template.body, "update", variables, budget, failures),
        }
        try:
            updates.append(read_event(event, schemas).update._replace(token=template.token))
        except Invalid as error:
            # Where a template failed there is nothing to judge.
            failures = {**(error.problem.errors or {}), **failures}
        errors |= {f"updates.{position}.{path}": messages for path, messages in failures.items()}
    if errors:
        raise Invalid(_BROKEN, errors=dict(islice(errors.items(), MAX_ERRORS)))
    return tuple(updates)


def _ignored(hook: Hook, variables: Mapping[str, JSON], budget: Budget) -> Ignored | None:
    """Why the hook's `when` has nothing to do with this event; None if it has."""
    try:
        if hook.when is None or hook.when.holds(variables, budget):
            return None
        return Ignored("The hook's when is false for this event.")
    except Missing as missing:
        return Ignored(f"The hook's when is false for this event: {missing}")
    except TooMuch as failure:
        # Not what the payload says: with more time, or a smaller one, it may be true.
        raise Invalid(_BROKEN, errors={"when": [str(failure)]}) from None
    except Failed as failure:
        return Ignored(f"The hook's when fails on this event, which counts as false: {failure}", is_odd=True)
