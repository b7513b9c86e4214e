"""Evaluation of a hook: a payload in, updates out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from handlers.hooks.config import Hook, UpdateTemplate
from handlers.hooks.templates.limits import Budget, RenderLimitError, as_text
from handlers.hooks.templates.template import Template
from handlers.hooks.templates.tree import Falsity, Renderer, check_condition
from schemas.base import MAX_ERRORS
from schemas.event import EventSchema, Update, read_event, valid_reference
from schemas.problem import Errors, InvalidEventError
from schemas.pubsub import open_push
from schemas.strict_json import JSON

_INVALID = "The hook can't derive valid updates from this event. See errors for each field and its rule."


@dataclass(frozen=True, slots=True)
class Ignored:
    """The result for an event that a hook ignores. If `is_warning`, the hook probably has a mistake."""

    reason: str
    is_warning: bool = False


def evaluate(
    hook: Hook,
    headers: Mapping[str, str],
    payload: JSON,
    schemas: Mapping[str, EventSchema],
    budget: Budget,
    warn: Callable[[str], object] = lambda warning: None,
) -> tuple[Update, ...] | Ignored:
    """Return the updates that a hook derives from a payload, or the reason to ignore the event. Each update is valid.

    The names in `headers` are lowercase. `schemas` has the schema of each provider's events. `warn` gets each warning
    about a condition inside the hook that probably has a mistake, unless the reason to ignore the event contains the
    warning.

    Raises:
        InvalidEventError: A template fails on the payload, or an update breaks a rule. The error lists every failure.
    """
    if hook.identity:
        headers, payload = open_push(headers, payload)
    if hook.sender.is_test_message(headers, payload):
        return Ignored(f"This is a test message of {hook.sender.name}.")
    variables: dict[str, JSON] = {"event": payload, "headers": {**hook.sender.visible_headers(headers)}}
    if hook.when and (falsity := _check_when(hook.when, variables, budget)):
        return Ignored(f"The hook's when condition {falsity.reason}", falsity.is_warning)
    updates: list[Update] = []
    skipped: list[Falsity] = []
    errors: Errors = {}
    dataset: str | None = None
    for position, template in enumerate(hook.updates):
        try:
            if template.when and (falsity := _check_when(template.when, variables, budget)):
                skipped.append(replace(falsity, reason=f"The when condition of updates.{position} {falsity.reason}"))
            else:
                update, warnings = _render(template, variables, schemas, budget)
                updates.append(replace(update, token=template.token, position=position))
                for warning in warnings:
                    warn(f"updates.{position}.{warning}")
        except InvalidEventError as error:
            for path, messages in (error.problem.errors or {}).items():
                errors[f"updates.{position}.{path}"] = messages
            dataset = error.dataset if len(hook.updates) == 1 else None
    if errors:
        raise InvalidEventError(_INVALID, errors=dict(islice(errors.items(), MAX_ERRORS)), dataset=dataset)
    if not updates:
        return Ignored(" ".join(falsity.reason for falsity in skipped), any(falsity.is_warning for falsity in skipped))
    for falsity in skipped:
        if falsity.is_warning:
            warn(falsity.reason)
    return tuple(updates)


def _check_when(when: Template, variables: Mapping[str, JSON], budget: Budget) -> Falsity | None:
    """Return the reason for a condition that isn't true, or None for a true condition.

    Raises:
        InvalidEventError: The condition exceeds the budget. The condition may be true, so the event isn't ignored.
    """
    try:
        return check_condition(when, variables, budget)
    except RenderLimitError as error:
        raise InvalidEventError(_INVALID, errors={"when": [str(error)]}) from None


def _render(
    template: UpdateTemplate, variables: Mapping[str, JSON], schemas: Mapping[str, EventSchema], budget: Budget
) -> tuple[Update, Iterable[str]]:
    """Return one update, without its token, and the warnings about its conditions.

    Raises:
        InvalidEventError: A template fails on the payload, or the update breaks a rule.
    """
    renderer = Renderer(variables, budget)
    dataset = renderer.render(template.dataset)
    event: dict[str, JSON] = {
        "provider": template.provider,
        # Convert a number to text. Keep null: it stands for a missing dataset, not for a dataset with the name "null".
        "dataset": None if dataset is None else as_text(dataset),
        "update": renderer.render(template.body),
    }
    failures = renderer.errors
    try:
        update = read_event(event, schemas)
    except InvalidEventError as error:
        # The failure of a template replaces other errors at its path: the template became null, which can break a rule.
        errors: Errors = {}
        for path, messages in (error.problem.errors or {}).items():
            errors.setdefault(renderer.source_path(path), []).extend(messages)
        errors |= failures
        raise InvalidEventError(_INVALID, errors=errors, dataset=valid_reference(event, schemas)[1]) from None
    if failures:
        raise InvalidEventError(_INVALID, errors=failures, dataset=update.dataset)
    return update, renderer.warnings.values()
