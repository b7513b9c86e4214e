"""What relay.yaml says, as values; `relay_yaml` reads it."""

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import NamedTuple

from schemas.event import Update
from schemas.reference import SecretReference
from schemas.settings import Settings, variable
from schemas.templates import Template
from schemas.trees import Tree, doubts

# A name with a dot in it stands in quotes.
_IN_A_HOOK = re.compile(r'hooks\.(?P<name>"(?:[^"\\]|\\.)*"|[^.]+)(?:\.(?P<rest>.*))?', re.DOTALL)


class UpdateTemplate(NamedTuple):
    """One update of a hook, before it is known what the event says."""

    provider: str
    dataset: Tree
    body: Tree
    token: SecretReference | None


class Hook(NamedTuple):
    """A configured rule that turns a sender's own payload into updates."""

    name: str
    sender: str
    secrets: tuple[SecretReference, ...]
    when: Template | None
    updates: tuple[UpdateTemplate, ...]


class Config(NamedTuple):
    """What relay.yaml says; `allow` is None where it doesn't limit native events."""

    allow: tuple[str, ...] | None = None
    hooks: Mapping[str, Hook] = MappingProxyType({})

    def allows(self, update: Update) -> bool:
        """Whether a native event may ask for `update`."""
        reference = f"{update.provider}:{update.dataset}"
        return self.allow is None or any(fnmatchcase(reference, pattern) for pattern in self.allow)

    def doubts(self, hidden: Collection[str]) -> list[str]:
        """What is right, but may not be what was meant; `hidden` are the headers that templates don't see."""
        found = []
        for hook in self.hooks.values():
            parts: list[tuple[str, Tree]] = [("when", hook.when)]
            for position, update in enumerate(hook.updates):
                parts += [(f"updates.{position}.dataset", update.dataset), (f"updates.{position}.update", update.body)]
            found += [f"hook {hook.name}: {doubt}" for path, tree in parts for doubt in doubts(tree, path, hidden)]
        return found

    def warnings(self, settings: Settings) -> list[str]:
        """What is no mistake of the file's, but can't work as the function is set up."""
        without: dict[str, list[str]] = {}
        for hook in self.hooks.values():
            for position, update in enumerate(hook.updates):
                if not (update.token or settings.providers[update.provider].token):
                    name = variable(update.provider, "TOKEN")
                    without.setdefault(name, []).append(f"hook {hook.name}: updates.{position}")
        return [
            f"{name} isn't set: {len(updates)} updates of hooks have no token, as {updates[0]}."
            for name, updates in without.items()
        ]


class ConfigError(Exception):
    """relay.yaml can't be used; `lines` has each mistake: file, hook, path, reason."""

    def __init__(self, file: str, errors: Mapping[str, list[str]]) -> None:
        self.lines = [f"{file}: {_place(path)}{message}" for path, messages in errors.items() for message in messages]
        super().__init__("dataset-relay can't start:\n" + "\n".join(f"  {line}" for line in self.lines))


def _place(path: str) -> str:
    if found := _IN_A_HOOK.fullmatch(path):
        return f"hook {found['name']}: {found['rest']}: " if found["rest"] else f"hook {found['name']}: "
    return f"{path}: " if path else ""
