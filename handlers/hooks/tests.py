"""Tests of hooks: relay.tests.yaml in, the actual result of each test out.

`schemas.relay_tests_yaml` declares the shape of the file. A result has the form of an expectation in the file. The text
"[redacted]" stands for each credential in a result, so that neither the file nor an output contains a credential.
"""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from marshmallow import ValidationError

from handlers.hooks.config import Hook
from handlers.hooks.mapping import Ignored, evaluate
from handlers.hooks.templates.limits import Budget
from handlers.providers.base import Provider, event_schemas, mask_updates
from handlers.redaction import MARK, Redactor, mask
from schemas import strict_yaml, yaml_text
from schemas.base import closest, flatten, line_of
from schemas.problem import Errors, InvalidEventError
from schemas.relay_tests_yaml import IGNORED, RelayTestsYamlSchema
from schemas.strict_json import JSON

_CREDENTIAL = f'Contains a credential. In place of each credential, write "{MARK}", with the quotes.'


@dataclass(frozen=True, slots=True)
class HookTest:
    """One test of a hook: a payload with the headers of its request, and the expected result.

    The names in `headers` are lowercase. `expected` is None if the file has no expectation yet. `position` is the index
    in the file, and `line` is the line of the test.
    """

    name: str
    hook: Hook
    payload: JSON
    headers: Mapping[str, str]
    expected: JSON
    position: int
    line: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The actual result of a test, in the form of an expectation.

    `expected` is the expectation of the file without the credentials of the updates. `reasons` explains a result that
    has no updates. `has_credentials` is True if the result has MARK in place of a credential.
    """

    result: JSON
    expected: JSON
    passes: bool
    reasons: tuple[str, ...] = ()
    has_credentials: bool = False

    def diff(self) -> str:
        """Return a unified diff between the expectation and the result, as the file states them."""
        expected = _ordered_like(self.result, self.expected)
        before = "" if expected is None else yaml_text.dump_member("expect", expected)
        after = yaml_text.dump_member("expect", self.result).split("\n")
        before_lines = before.split("\n") if before else []
        return "\n".join(difflib.unified_diff(before_lines, after, "expected", "actual", lineterm=""))


class HookTestsError(Exception):
    """relay.tests.yaml is invalid. `lines` has a line for each mistake, with its location."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


def read_tests(
    file: str,
    text: str,
    hooks: Mapping[str, Hook],
    providers: Mapping[str, Provider],
    read_payload: Callable[[str], JSON],
) -> tuple[HookTest, ...]:
    """Return the tests in `text`, the content of `file`.

    `read_payload` returns the payload in a file, and raises ValidationError if the file is unusable.

    Raises:
        HookTestsError: The file has mistakes. The error lists every mistake.
    """
    value, errors, lines = strict_yaml.parse(text)
    value = {} if value is None else value
    for path, message in _pairs(flatten(RelayTestsYamlSchema().validate(value))):
        _add(errors, path, message)
    raw_tests = value.get("tests") if isinstance(value, dict) else None
    tests: list[HookTest] = []
    names: dict[str, int] = {}
    for position, raw in enumerate(raw_tests if isinstance(raw_tests, list) else ()):
        if not isinstance(raw, dict):
            continue
        path = f"tests.{position}"
        name, hook_name, payload = raw.get("name"), raw.get("hook"), raw.get("payload")
        headers, expected = raw.get("headers"), raw.get("expect")
        if isinstance(name, str) and names.setdefault(name, position) != position:
            _add(errors, f"{path}.name", f"Must be distinct: tests.{names[name]} has this name.")
        if isinstance(hook_name, str) and hook_name not in hooks:
            _add(errors, f"{path}.hook", unknown_hook(hook_name, hooks))
        if isinstance(payload, str):
            try:
                payload = read_payload(payload)
            except ValidationError as error:
                _add(errors, f"{path}.payload", str(error.messages[0]))
        lowercase = {key.lower(): str(value) for key, value in headers.items()} if isinstance(headers, dict) else {}
        if isinstance(headers, dict) and len(lowercase) < len(headers):
            message = "Two headers have the same name in different case. Remove one of them."
            _add(errors, f"{path}.headers", message)
        for update_path, message in _credential_mistakes(expected, providers):
            _add(errors, f"{path}.expect.{update_path}", message)
        if not errors:
            assert isinstance(name, str)
            assert isinstance(hook_name, str)
            tests.append(HookTest(name, hooks[hook_name], payload, lowercase, expected, position, lines[path]))
    if errors:
        mistakes = sorted(_pairs(errors), key=lambda mistake: line_of(lines, mistake[0]))
        raise HookTestsError(
            [f"{file}:{line_of(lines, path)}: {f'{path}: ' if path else ''}{message}" for path, message in mistakes]
        )
    return tuple(tests)


def run_test(test: HookTest, providers: Mapping[str, Provider], budget: Budget) -> Outcome:
    """Return the actual result of a test, without credentials."""
    schemas = event_schemas(providers)
    try:
        updates = evaluate(test.hook, test.headers, test.payload, schemas, budget)
        if isinstance(updates, Ignored):
            return _outcome(IGNORED, test.expected, (updates.reason,))
        masked = mask_updates(updates, providers)
    except InvalidEventError as error:
        errors = error.problem.errors or {}
        paths: list[JSON] = [*errors]
        reasons = tuple(f"{path}: {message}" for path, message in _pairs(errors))
        return _outcome({"error": paths[0] if len(paths) == 1 else paths}, test.expected, reasons)
    # A credential in one update is also a credential in the other updates.
    redactor = Redactor((), masked.credentials)
    results: list[JSON] = [
        {"provider": update.provider, "dataset": update.dataset, "update": redactor.redact(body)}
        for update, body in zip(updates, masked.bodies, strict=True)
    ]
    result: JSON = {"updates": results}
    passes = yaml_text.is_equal(test.expected, result)
    return Outcome(result, redactor.redact(test.expected), passes, (), bool(masked.credentials))


def accept(text: str, test: HookTest, outcome: Outcome) -> str:
    """Return `text`, the content of the file, with the result of a test as its expectation.

    All comments and all other parts of the file stay as they are.

    Raises:
        EditError: The change would also change another part of the file.
    """
    return yaml_text.set_member(text, ("tests", test.position), "expect", outcome.result)


def unknown_hook(name: str, hooks: Collection[str]) -> str:
    """Return the message about a hook that doesn't exist."""
    hint = closest(name, hooks)
    remedy = f"Did you mean {hint}?" if hint else f"The hooks are: {', '.join(hooks) or 'none'}."
    return f"There is no hook {name}. {remedy}"


def _outcome(result: JSON, expected: JSON, reasons: tuple[str, ...]) -> Outcome:
    return Outcome(result, expected, yaml_text.is_equal(_sorted(expected), _sorted(result)), reasons)


def _sorted(expectation: JSON) -> JSON:
    """Return an expectation with the paths of errors as a sorted list. The order of the paths has no meaning."""
    if isinstance(expectation, dict) and "error" in expectation:
        paths = expectation["error"]
        return {"error": sorted(map(str, paths if isinstance(paths, list) else [paths]))}  # type: ignore[dict-item]
    return expectation


def _credential_mistakes(expected: JSON, providers: Mapping[str, Provider]) -> list[tuple[str, str]]:
    """Return the paths of the expected updates that contain a credential, with the message."""
    updates = expected.get("updates") if isinstance(expected, dict) else None
    mistakes = []
    for position, update in enumerate(updates if isinstance(updates, list) else ()):
        body = update.get("update") if isinstance(update, dict) else None
        provider = providers.get(str(update.get("provider"))) if isinstance(update, dict) else None
        if provider is None or not isinstance(body, dict):
            continue
        try:
            has_credential = not yaml_text.is_equal(mask([(provider.update_schema, body)]).bodies[0], body)
        except InvalidEventError:
            has_credential = True
        if has_credential:
            mistakes.append((f"updates.{position}.update", _CREDENTIAL))
    return mistakes


def _ordered_like(model: JSON, value: JSON) -> JSON:
    """Return `value` with the keys of each object in the order of `model`, so that a diff shows only differences."""
    if isinstance(model, dict) and isinstance(value, dict):
        order = [*(key for key in model if key in value), *(key for key in value if key not in model)]
        return {key: _ordered_like(model.get(key), value[key]) for key in order}
    if isinstance(model, list) and isinstance(value, list):
        models = [*model, *[None] * len(value)]
        return [_ordered_like(item_model, item) for item_model, item in zip(models, value, strict=False)]
    return value


def _add(errors: Errors, path: str, message: str) -> None:
    errors.setdefault(path, []).append(message)


def _pairs(errors: Errors) -> list[tuple[str, str]]:
    return [(path, message) for path, messages in errors.items() for message in messages]
