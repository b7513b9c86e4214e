"""The content of relay.yaml as values. `handlers.hooks.loader` reads the file."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from handlers.hooks.templates import tree
from handlers.hooks.templates.template import Template
from handlers.hooks.templates.tree import Tree
from schemas.base import line_of
from schemas.event import Update
from schemas.problem import Errors
from schemas.pubsub import PushIdentity
from schemas.secret_reference import SecretReference
from schemas.settings import Settings, provider_variable
from schemas.strict_json import JSON

# `join_path` quotes a name that contains a dot.
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
    """One update of a hook, as templates. `token` replaces the provider's own token, and `when` limits the update."""

    provider: str
    dataset: Tree
    body: Tree
    token: SecretReference | None
    when: Template | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """A rule that derives updates from a sender's own payload.

    Any of `secrets` authenticates a request, or an ID token of Google with `identity`. With `wait`, the function makes
    the updates before its response, even if there is a queue.
    """

    name: str
    sender: Sender
    secrets: tuple[SecretReference, ...]
    when: Template | None
    updates: tuple[UpdateTemplate, ...]
    identity: PushIdentity | None = None
    wait: bool = False


@dataclass(frozen=True, slots=True)
class Positions:
    """The name of relay.yaml, and the line of each part of the file by path. The first line is 1."""

    file: str
    lines: Mapping[str, int] = field(default_factory=dict)

    def locate(self, path: str) -> str:
        """Return the file, the line, the hook, and the rest of a path, such as `relay.yaml:12: hook x: updates.0`."""
        parts = [f"{self.file}:{line_of(self.lines, path)}" if self.lines else self.file]
        if match := _HOOK_PATH.fullmatch(path):
            parts += [f"hook {match['name']}", match["rest"]]
        else:
            parts.append(path)
        return ": ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Config:
    """The content of relay.yaml. Without `allow`, a native event can update any dataset."""

    allow: tuple[str, ...] | None = None
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    positions: Positions = field(default=Positions("relay.yaml"), compare=False)

    def allows(self, update: Update) -> bool:
        """Return True if a native event can request `update`."""
        reference = f"{update.provider}:{update.dataset}"
        return self.allow is None or any(fnmatchcase(reference, pattern) for pattern in self.allow)

    def notes(self, hidden: Collection[str]) -> list[str]:
        """Return notes about the parts of the file that are valid, but probably not intended, in the order of the file.

        `hidden` contains the names of the headers that templates can't see.
        """
        notes: list[tree.Note] = []
        for hook in self.hooks.values():
            path = f"hooks.{hook.name}"
            notes += tree.template_notes(hook.when, f"{path}.when", hidden) if hook.when else []
            for position, update in enumerate(hook.updates):
                update_path = f"{path}.updates.{position}"
                notes += tree.template_notes(update.when, f"{update_path}.when", hidden) if update.when else []
                notes += tree.notes(update.dataset, f"{update_path}.dataset", hidden)
                notes += tree.notes(update.body, f"{update_path}.update", hidden)
                notes += _rename_notes(update, update_path)
        notes.sort(key=lambda note: line_of(self.positions.lines, note[0]))
        return [f"{self.positions.locate(path)} {text}" for path, text in notes]

    def check_topics(self, settings: Settings) -> None:
        """Check that, with a queue, each update with a token has a topic.

        Raises:
            ConfigError: An update has a token of its own, and its provider has no topic.
        """
        if settings.queue is None:
            return
        errors = {
            f"hooks.{hook.name}.updates.{position}.token": [
                f"The queue has no topic for {update.provider}. Set {provider_variable(update.provider, 'TOPIC')}."
            ]
            for hook in self.hooks.values()
            for position, update in enumerate(hook.updates)
            if update.token and update.provider not in settings.queue.topics
        }
        if errors:
            raise ConfigError(self.positions, errors)

    def warnings(self, settings: Settings) -> list[str]:
        """Return warnings about updates that have no token with these settings."""
        without_token: dict[str, list[str]] = {}
        for hook in self.hooks.values():
            for position, update in enumerate(hook.updates):
                if not (update.token or settings.providers[update.provider].token):
                    variable = provider_variable(update.provider, "TOKEN")
                    without_token.setdefault(variable, []).append(f"hooks.{hook.name}.updates.{position}")
        return [
            f"{self.positions.locate(paths[0])}: {variable} isn't set. Updates of hooks without a token: {len(paths)}."
            for variable, paths in without_token.items()
        ]


def _rename_notes(update: UpdateTemplate, path: str) -> list[tree.Note]:
    """Return a note about an update that changes the name by which it refers to its dataset, as in `jane~products`."""
    if not (isinstance(update.dataset, str) and "~" in update.dataset and isinstance(update.body, dict)):
        return []
    if update.body.get("name", own_name := update.dataset.partition("~")[2]) == own_name:
        return []
    message = (
        f"can work only once: after a change of the name, there is no dataset {update.dataset}. Refer to the dataset "
        "by its ID."
    )
    return [(f"{path}.update.name", message)]


class ConfigError(Exception):
    """relay.yaml is invalid.

    `lines` has one line for each mistake, in the order of the file: the file, the line, the hook, the path, and the
    reason.
    """

    def __init__(self, positions: Positions, errors: Errors) -> None:
        self.lines = [
            f"{positions.locate(path)}: {message}"
            for path, messages in sorted(errors.items(), key=lambda item: line_of(positions.lines, item[0]))
            for message in messages
        ]
        super().__init__(
            "dataset-relay can't start. Correct these mistakes:\n" + "\n".join(f"  {line}" for line in self.lines)
        )
