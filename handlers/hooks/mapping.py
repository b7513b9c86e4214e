"""Evaluation of a hook: a payload in, updates out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

from handlers.hooks.config import Hook, UpdateTemplate
from handlers.hooks.templates.limits import Budget, RenderError, RenderLimitError, as_text
from handlers.hooks.templates.template import MissingKeyError, Template
from handlers.hooks.templates.tree import render_tree
from schemas.base import MAX_ERRORS
from schemas.event import EventSchema, Update, read_event, valid_reference
from schemas.problem import Errors, InvalidEventError
from schemas.strict_json import JSON

_INVALID = "The hook can't derive valid updates from this event. See errors for each field and its rule."


@dataclass(frozen=True, slots=True)
class Ignored:
    """The result for an event that a hook ignores. If `is_warning`, the hook probably has a mistake."""

    reason: str
    is_warning: bool = False


def evaluate(
    hook: Hook, headers: Mapping[str, str], payload: JSON, schemas: Mapping[str, EventSchema], budget: Budget
) -> tuple[Update, ...] | Ignored:
    """Return the updates that a hook derives from a payload, or the reason to ignore the event. Each update is valid.

    The names in `headers` are lowercase. `schemas` has the schema of each provider's events.

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
    dataset: str | None = None
    for position, template in enumerate(hook.updates):
        try:
            updates.append(_render(template, variables, schemas, budget))
        except InvalidEventError as error:
            for path, messages in (error.problem.errors or {}).items():
                errors[f"updates.{position}.{path}"] = messages
            dataset = error.dataset if len(hook.updates) == 1 else None
    if errors:
        raise InvalidEventError(_INVALID, errors=dict(islice(errors.items(), MAX_ERRORS)), dataset=dataset)
    return tuple(updates)


def _check_condition(when: Template, variables: Mapping[str, JSON], budget: Budget) -> Ignored | None:
    """Return the reason to ignore an event, or None if the condition is true.

    Raises:
        InvalidEventError: The condition exceeds the budget. The condition may be true, so the event isn't ignored.
    """
    try:
        if when.is_true(variables, budget):
            return None
        return Ignored("The hook's when condition is false for this event.")
    except MissingKeyError as error:
        reason = f"The hook's when condition is false for this event: {error}"
        return Ignored(reason, is_warning=error.has_similar_name)
    except RenderLimitError as error:
        raise InvalidEventError(_INVALID, errors={"when": [str(error)]}) from None
    except RenderError as error:
        reason = f"The hook's when condition fails on this event and so counts as false: {error}"
        return Ignored(reason, is_warning=True)


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
        # Convert a number to text. Keep null: it stands for a missing dataset, not for a dataset with the name "null".
        "dataset": None if dataset is None else as_text(dataset),
        "update": render_tree(template.body, variables, budget, failures),
    }
    try:
        update = read_event(event, schemas)
    except InvalidEventError as error:
        # The failure of a template replaces other errors at its path: the template became null, which can break a rule.
        errors = {**(error.problem.errors or {}), **failures}
        raise InvalidEventError(_INVALID, errors=errors, dataset=valid_reference(event, schemas)[1]) from None
    if failures:
        raise InvalidEventError(_INVALID, errors=failures, dataset=update.dataset)
    return replace(update, token=template.token)
