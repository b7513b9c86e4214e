"""What relay.yaml says, as values; `relay_yaml` reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from schemas.event import Update
from schemas.reference import SecretReference
from schemas.settings import Settings, variable
from schemas.templates import Template
from schemas.trees import Tree


@dataclass(frozen=True)
class UpdateTemplate:
    """One update of a hook, before it is known what the event says."""

    provider: str
    dataset: Tree
    body: Tree
    token: SecretReference | None


@dataclass(frozen=True)
class Hook:
    """A configured rule that turns a sender's own payload into updates."""

    name: str
    sender: str
    secrets: tuple[SecretReference, ...]
    when: Template | None
    updates: tuple[UpdateTemplate, ...]


@dataclass(frozen=True)
class Config:
    """What relay.yaml says; `allow` is None where it doesn't limit native events."""

    allow: tuple[str, ...] | None = None
    hooks: Mapping[str, Hook] = field(default_factory=dict)

    def allows(self, update: Update) -> bool:
        """Whether a native event may ask for `update`."""
        reference = f"{update.provider}:{update.dataset}"
        return self.allow is None or any(fnmatchcase(reference, pattern) for pattern in self.allow)

    def warnings(self, settings: Settings) -> list[str]:
        """What is no mistake of the file's, but can't work as the function is set up."""
        return [
            f"hook {hook.name}: updates.{position} has no token: {variable(update.provider, 'TOKEN')} isn't set."
            for hook in self.hooks.values()
            for position, update in enumerate(hook.updates)
            if not (update.token or settings.providers[update.provider].token)
        ]


class ConfigError(Exception):
    """relay.yaml can't be used; `lines` has each mistake: file, hook, path, reason."""

    def __init__(self, file: str, errors: Mapping[str, list[str]]) -> None:
        self.lines = [f"{file}: {_place(path)}{message}" for path, messages in errors.items() for message in messages]
        super().__init__("dataset-relay can't start:\n" + "\n".join(f"  {line}" for line in self.lines))


def _place(path: str) -> str:
    top, _, below = path.partition(".")
    if top == "hooks" and below:
        name, _, rest = below.partition(".")
        return f"hook {name}: {rest}: " if rest else f"hook {name}: "
    return f"{path}: " if path else ""
