"""The content of relay.yaml as values. `handlers.hooks.loader` reads the file."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from handlers.hooks.templates import tree
from handlers.hooks.templates.template import Template
from handlers.hooks.templates.tree import Tree
from schemas.event import Update
from schemas.problem import Errors
from schemas.secret_reference import SecretReference
from schemas.settings import Settings, provider_variable
from schemas.strict_json import JSON

# `path_step` quotes a name that contains a dot.
_HOOK_PATH = re.compile(r'hooks\.(?P<name>"(?:[^"\\]|\\.)*"|[^.]+)(?:\.(?P<rest>.*))?', re.DOTALL)


class Sender(Protocol):
    """The properties of a sender that its hooks need. The names of headers are lowercase."""

    @property
    def name(self) -> str:
        """The name of the sender in relay.yaml."""

    def is_test_message(self, headers: Mapping[str, str], payload: JSON) -> bool:
        """Return True if the message only tests the webhook."""

    def visible_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return `headers` without the headers that carry a credential."""


@dataclass(frozen=True, slots=True)
class UpdateTemplate:
    """One update of a hook, as templates. `token` replaces the provider's own token."""

    provider: str
    dataset: Tree
    body: Tree
    token: SecretReference | None


@dataclass(frozen=True, slots=True)
class Hook:
    """A rule that derives updates from a sender's own payload. Any of `secrets` authenticates a request."""

    name: str
    sender: Sender
    secrets: tuple[SecretReference, ...]
    when: Template | None
    updates: tuple[UpdateTemplate, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """The content of relay.yaml. Without `allow`, a native event can update any dataset."""

    allow: tuple[str, ...] | None = None
    hooks: Mapping[str, Hook] = field(default_factory=dict)

    def allows(self, update: Update) -> bool:
        """Return True if a native event can request `update`."""
        reference = f"{update.provider}:{update.dataset}"
        return self.allow is None or any(fnmatchcase(reference, pattern) for pattern in self.allow)

    def notes(self, hidden: Collection[str]) -> list[str]:
        """Return notes about the parts of the file that are valid, but probably not intended.

        `hidden` contains the names of the headers that templates can't see.
        """
        notes = []
        for hook in self.hooks.values():
            hook_notes = tree.template_notes(hook.when, "when", hidden) if hook.when else []
            for position, update in enumerate(hook.updates):
                hook_notes += tree.notes(update.dataset, f"updates.{position}.dataset", hidden)
                hook_notes += tree.notes(update.body, f"updates.{position}.update", hidden)
            notes += [f"hook {hook.name}: {note}" for note in hook_notes]
        return notes

    def warnings(self, settings: Settings) -> list[str]:
        """Return warnings about updates that have no token with these settings."""
        without_token: dict[str, list[str]] = {}
        for hook in self.hooks.values():
            for position, update in enumerate(hook.updates):
                if not (update.token or settings.providers[update.provider].token):
                    variable = provider_variable(update.provider, "TOKEN")
                    without_token.setdefault(variable, []).append(f"hook {hook.name}: updates.{position}")
        return [
            f"{variable} isn't set. Updates of hooks without a token: {len(locations)}, such as {locations[0]}."
            for variable, locations in without_token.items()
        ]


class ConfigError(Exception):
    """relay.yaml is invalid. `lines` has one line for each mistake: the file, the hook, the path, and the reason."""

    def __init__(self, file: str, errors: Errors) -> None:
        self.lines = [
            f"{file}: {_location(path)}{message}" for path, messages in errors.items() for message in messages
        ]
        super().__init__(
            "dataset-relay can't start. Correct these mistakes:\n" + "\n".join(f"  {line}" for line in self.lines)
        )


def _location(path: str) -> str:
    if match := _HOOK_PATH.fullmatch(path):
        return f"hook {match['name']}: {match['rest']}: " if match["rest"] else f"hook {match['name']}: "
    return f"{path}: " if path else ""
