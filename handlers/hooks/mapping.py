"""Evaluation of a hook: a payload in, updates out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

from handlers.hooks.config import Hook, UpdateTemplate
from handlers.hooks.templates.limits import Budget, RenderError, RenderLimitError, as_text
from handlers.hooks.templates.template import MissingKeyError, Template
from handlers.hooks.templates.tree import render_tree
from schemas.base import MAX_ERRORS
from schemas.event import EventSchema, Update, read_event
from schemas.problem import Errors, InvalidEventError
from schemas.strict_json import JSON

_INVALID = "The updates that the hook makes of this event break a rule. See errors for each field and its rule."


@dataclass(frozen=True, slots=True)
class Ignored:
    """Represent an event that a hook ignores. `is_warning`: the reason is probably a mistake in the hook."""

    reason: str
    is_warning: bool = False


def evaluate(
    hook: Hook, headers: Mapping[str, str], payload: JSON, schemas: Mapping[str, EventSchema], budget: Budget
) -> tuple[Update, ...] | Ignored:
    """Return the updates that a hook makes of a payload. Each update is valid.

    The names of `headers` are in lower case. `schemas` has the schema of each provider's events.

    Raises:
        InvalidEventError: A template fails on the payload, or an update breaks a rule. The error lists every failure.
    """
    if hook.sender.is_test_message(headers, payload):
        return Ignored(f"This is a test message of {hook.sender.name}.")
    variables: dict[str, JSON] = {"event": payload, "headers": {**hook.sender.visible_headers(headers)}}
    if hook.when and (ignored := _check_condition(hook.when, variables, budget)):
        return ignored
    updates: list[Update] = []
    errors: Errors = {}
    for position, template in enumerate(hook.updates):
        try:
            updates.append(_render(template, variables, schemas, budget))
        except InvalidEventError as error:
            for path, messages in (error.problem.errors or {}).items():
                errors[f"updates.{position}.{path}"] = messages
    if errors:
        raise InvalidEventError(_INVALID, errors=dict(islice(errors.items(), MAX_ERRORS)))
    return tuple(updates)


def _check_condition(when: Template, variables: Mapping[str, JSON], budget: Budget) -> Ignored | None:
    """Return the reason to ignore an event, or None if the condition is true.

    Raises:
        InvalidEventError: The condition exceeds the budget. It could be true with more time or for a smaller payload.
    """
    try:
        if when.is_true(variables, budget):
            return None
        return Ignored("The hook's when is false for this event.")
    except MissingKeyError as error:
        return Ignored(f"The hook's when is false for this event: {error}")
    except RenderLimitError as error:
        raise InvalidEventError(_INVALID, errors={"when": [str(error)]}) from None
    except RenderError as error:
        return Ignored(f"The hook's when fails on this event, which counts as false: {error}", is_warning=True)


def _render(
    template: UpdateTemplate, variables: Mapping[str, JSON], schemas: Mapping[str, EventSchema], budget: Budget
) -> Update:
    """Return one update.

    Raises:
        InvalidEventError: A template fails on the payload, or the update breaks a rule.
    """
    failures: Errors = {}
    dataset = render_tree(template.dataset, variables, budget, failures)
    event: dict[str, JSON] = {
        "provider": template.provider,
        # A dataset always becomes text. null stands for a missing dataset, and not for a dataset with the name null.
        "dataset": None if dataset is None else as_text(dataset),
        "update": render_tree(template.body, variables, budget, failures),
    }
    try:
        update = read_event(event, schemas)
    except InvalidEventError as error:
        # A template that failed became null, which can break another rule at the same path.
        raise InvalidEventError(_INVALID, errors={**(error.problem.errors or {}), **failures}) from None
    if failures:
        raise InvalidEventError(_INVALID, errors=failures)
    return replace(update, token=template.token)
