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

# A name with a dot in it is in quotes.
_HOOK_PATH = re.compile(r'hooks\.(?P<name>"(?:[^"\\]|\\.)*"|[^.]+)(?:\.(?P<rest>.*))?', re.DOTALL)


class Sender(Protocol):
    """The properties of a sender that its hooks need. The names of headers are in lower case."""

    @property
    def name(self) -> str:
        """Return the name of the sender in relay.yaml."""

    def is_test_message(self, headers: Mapping[str, str], payload: JSON) -> bool:
        """Return True for a message that only tests the connection."""

    def visible_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers without credentials."""


@dataclass(frozen=True, slots=True)
class UpdateTemplate:
    """Represent one update of a hook. `token` replaces the provider's own token."""

    provider: str
    dataset: Tree
    body: Tree
    token: SecretReference | None


@dataclass(frozen=True, slots=True)
class Hook:
    """Represent a rule that turns a sender's own payload into updates. Any of `secrets` authenticates a request."""

    name: str
    sender: Sender
    secrets: tuple[SecretReference, ...]
    when: Template | None
    updates: tuple[UpdateTemplate, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """Represent the content of relay.yaml. Without `allow`, a native event can update any dataset."""

    allow: tuple[str, ...] | None = None
    hooks: Mapping[str, Hook] = field(default_factory=dict)

    def allows(self, update: Update) -> bool:
        """Return True if a native event can request an update."""
        reference = f"{update.provider}:{update.dataset}"
        return self.allow is None or any(fnmatchcase(reference, pattern) for pattern in self.allow)

    def notes(self, hidden: Collection[str]) -> list[str]:
        """Return notes about the parts of the file that are valid, but probably not intended.

        `hidden` are the names of the headers that templates don't see.
        """
        notes = []
        for hook in self.hooks.values():
            found = tree.template_notes(hook.when, "when", hidden) if hook.when else []
            for position, update in enumerate(hook.updates):
                found += tree.notes(update.dataset, f"updates.{position}.dataset", hidden)
                found += tree.notes(update.body, f"updates.{position}.update", hidden)
            notes += [f"hook {hook.name}: {note}" for note in found]
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
            f"{variable} isn't set. Number of updates of hooks without a token: {len(places)}, such as {places[0]}."
            for variable, places in without_token.items()
        ]


class ConfigError(Exception):
    """relay.yaml is unusable. `lines` has one line for each mistake: the file, the hook, the path, and the reason."""

    def __init__(self, file: str, errors: Errors) -> None:
        self.lines = [f"{file}: {_place(path)}{message}" for path, messages in errors.items() for message in messages]
        super().__init__(
            "dataset-relay can't start. Correct these mistakes:\n" + "\n".join(f"  {line}" for line in self.lines)
        )


def _place(path: str) -> str:
    if match := _HOOK_PATH.fullmatch(path):
        return f"hook {match['name']}: {match['rest']}: " if match["rest"] else f"hook {match['name']}: "
    return f"{path}: " if path else ""
