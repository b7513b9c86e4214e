"""The loader of relay.yaml, which reads the whole file at startup and reports every mistake at once.

`schemas.relay_yaml` declares the shape of the file. This module checks the values against the rest of the function:
the senders, the providers, the secret references, the templates, and the rules for the literal parts of an update.
No message repeats a secret reference, because the value may be the secret itself by mistake.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from marshmallow import ValidationError
from marshmallow.exceptions import SCHEMA

from handlers.hooks.config import Config, ConfigError, Hook, Positions, Sender, UpdateTemplate
from handlers.hooks.hints import misplaced_keys
from handlers.hooks.templates.limits import as_text
from handlers.hooks.templates.sandbox import TemplateMistakeError
from handlers.hooks.templates.template import Template, compile_condition
from handlers.hooks.templates.tree import Tree, compile_tree, literal_value, template_paths
from schemas.base import UNKNOWN_FIELD, flatten, join_path, one_of
from schemas.event import EventSchema
from schemas.problem import Errors
from schemas.pubsub import PushIdentity
from schemas.relay_yaml import GOOGLE, CustomSenderSchema, RelayYamlSchema
from schemas.secret_reference import ReferenceParser, SecretReference
from schemas.strict_json import JSON

#: The path of relay.yaml without RELAY_CONFIG, in the folder of main.py.
DEFAULT_PATH = "deploy/relay.yaml"

T = TypeVar("T")


def load(
    path_setting: str | None,
    folder: Path,
    *,
    senders: Mapping[str, Sender],
    custom_sender: Callable[[Mapping[str, JSON]], Sender],
    schemas: Mapping[str, EventSchema],
    references: ReferenceParser,
    max_template_length: int,
) -> Config:
    """Return the content of the file at `path_setting`, or of DEFAULT_PATH in `folder` if `path_setting` is None.

    The default file is optional. `senders` has the senders by name. `custom_sender` returns the sender that an object
    in the form of CustomSenderSchema declares. `schemas` has the schema of each provider's events.
    `max_template_length` is in characters.

    Raises:
        ConfigError: The file is unreadable, or has mistakes. The error lists every mistake.
    """
    path = Path(path_setting) if path_setting else folder / DEFAULT_PATH
    file = path_setting or DEFAULT_PATH
    if path_setting is None and not path.exists():
        return Config()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(Positions(file), {"": [f"Can't read the file: {error.strerror}."]}) from None
    except UnicodeDecodeError as error:
        raise ConfigError(Positions(file), {"": [f"The file is not UTF-8 (byte {error.start})."]}) from None
    if _is_empty(text):
        return Config()
    reader = _Reader(senders, custom_sender, schemas, references, max_template_length)
    config = reader.read(file, text)
    if reader.errors:
        raise ConfigError(config.positions, reader.errors)
    return config


def _is_empty(text: str) -> bool:
    """Return True if the file has only comments, or only comments and an empty `hooks:`, like the default file."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    return lines in ([], ["hooks:"])


class _Reader:
    """A reader of the text of relay.yaml, which collects the mistakes in `errors`, by path."""

    def __init__(
        self,
        senders: Mapping[str, Sender],
        custom_sender: Callable[[Mapping[str, JSON]], Sender],
        schemas: Mapping[str, EventSchema],
        references: ReferenceParser,
        max_template_length: int,
    ) -> None:
        self.errors: Errors = {}
        self._senders = senders
        self._custom_sender = custom_sender
        self._schemas = schemas
        self._references = references
        self._max_template_length = max_template_length

    def read(self, file: str, text: str) -> Config:
        """Return the content of a file. With mistakes in `errors`, only the positions in the result are usable."""
        # PyYAML is slow to import, and the default file doesn't need PyYAML.
        from schemas import strict_yaml

        value, errors, lines = strict_yaml.parse(text)
        self._add("", errors)
        content: Any = {} if value is None else value
        messages: dict[str, Any] = RelayYamlSchema().validate(content)
        # Report the messages about a hook together with the mistakes that the checks below detect in the same hook.
        hook_messages = messages.pop("hooks") if isinstance(messages.get("hooks"), dict) else {}
        self._add("", flatten(messages))
        parts = _object(content)
        allow = self._read_allow(parts["events"]) if "events" in parts else None
        hooks = {}
        for name, raw in _object(parts.get("hooks")).items():
            if hook := self._read_hook(name, raw, hook_messages.get(name, {})):
                hooks[name] = hook
        # These hints are more accurate than the messages of the schema about the same keys.
        self.errors.update({path: [hint] for path, hint in misplaced_keys(content, self._schemas).items()})
        return Config(allow, hooks, Positions(file, lines))

    def _read_allow(self, raw: JSON) -> tuple[str, ...]:
        patterns = _list(_object(raw).get("allow"))
        for position, pattern in enumerate(patterns):
            if isinstance(pattern, str) and ":" in pattern:
                self._look_up(f"events.allow.{position}", pattern.partition(":")[0], self._schemas)
        return tuple(map(str, patterns))

    def _read_hook(self, name: str, raw: JSON, messages: Mapping[str, Any]) -> Hook | None:
        """Return a hook, or None if its sender or its secret is invalid.

        `messages` has the messages of RelayYamlSchema about the key and about the value of the hook.
        """
        path = join_path("hooks", name)
        self._add(path, {"": messages.get("key", [])})
        self._add(path, flatten({SCHEMA: messages.get("value", {})}))
        hook = _object(raw)
        sender = self._read_sender(f"{path}.sender", hook["sender"]) if "sender" in hook else None
        secrets: tuple[SecretReference, ...] | None = None
        identity = None
        if hook.get("sender") == GOOGLE:
            secrets, identity = (), PushIdentity(str(hook.get("audience")), str(hook.get("account")))
        elif (secret := hook.get("secret")) is not None:
            secrets = self._parse(f"{path}.secret", lambda: self._references.parse_list(secret, f"hook {name}: secret"))
        when = self._read_when(hook.get("when"), path)
        updates = [
            self._read_update(update, f"{path}.updates.{position}", f"hook {name}: updates.{position}")
            for position, update in enumerate(_list(hook.get("updates")))
        ]
        if sender is None or secrets is None:
            return None
        valid_updates = tuple(update for update in updates if update)
        return Hook(name, sender, secrets, when, valid_updates, identity, wait=hook.get("wait") is True)

    def _read_sender(self, path: str, raw: JSON) -> Sender | None:
        """Return the sender with a name, or the sender that an object declares. Return None for a mistake."""
        if isinstance(raw, str):
            return self._look_up(path, raw, self._senders)
        if raw is None:
            return None  # The schema reports this mistake.
        if not isinstance(raw, dict):
            self._add(path, {"": ["Must be the name of a sender, or an object with the header of another sender."]})
            return None
        errors = flatten(CustomSenderSchema().validate(raw))
        self._add(path, errors)
        return None if errors else self._custom_sender(raw)

    def _read_update(self, raw: JSON, path: str, label: str) -> UpdateTemplate | None:
        """Return an update of a hook, or None if its provider is unknown.

        `label` names the update in the label of its secret reference.
        """
        update = _object(raw)
        provider, token = update.get("provider"), None
        when = self._read_when(update.get("when"), path)
        schema = self._look_up(f"{path}.provider", provider, self._schemas)
        if isinstance(reference := update.get("token"), str):
            token = self._parse(f"{path}.token", lambda: self._references.parse(reference, f"{label}.token"))
        values: dict[str, JSON] = {name: update[name] for name in ("dataset", "update") if name in update}
        if isinstance(dataset := values.get("dataset"), int | float):
            values["dataset"] = as_text(dataset)
        mistakes: Errors = {}
        trees: dict[str, Tree] = {
            name: compile_tree(value, name, self._max_template_length, mistakes) for name, value in values.items()
        }
        self._add(path, mistakes)
        if schema is None:
            return None
        self._add(path, _literal_errors(schema, trees, mistakes))
        return UpdateTemplate(str(provider), trees.get("dataset"), trees.get("update"), token, when)

    def _read_when(self, raw: JSON, path: str) -> Template | None:
        """Return the condition of the hook or update at `path`, or None if there is no valid condition."""
        if not isinstance(raw, str):
            return None  # The schema reports a value that isn't a string.
        return self._parse(f"{path}.when", lambda: compile_condition(raw, self._max_template_length))

    def _look_up(self, path: str, name: object, table: Mapping[str, T]) -> T | None:
        """Return the value of `name` in `table`. For an unknown name, add the mistake, and return None."""
        if not isinstance(name, str):
            return None  # The schema reports this mistake.
        return self._parse(path, lambda: table[one_of(table)(name)])

    def _parse(self, path: str, parse: Callable[[], T]) -> T | None:
        """Return the result of `parse`. If `parse` raises a mistake, add the mistake, and return None."""
        try:
            return parse()
        except ValidationError as error:
            self._add(path, {"": [str(message) for message in error.messages]})
        except TemplateMistakeError as error:
            self._add(path, {"": [str(error)]})
        return None

    def _add(self, path: str, errors: Errors) -> None:
        """Add the errors of the part of the file at `path`. Two checks can report the same mistake."""
        for rest, messages in errors.items():
            full_path = ".".join(filter(None, (path, rest)))
            for message in messages:
                if message not in self.errors.setdefault(full_path, []):
                    self.errors[full_path].append(message)


def _literal_errors(schema: EventSchema, trees: Mapping[str, Tree], mistakes: Errors) -> Errors:
    """Return the errors of an update that don't depend on the values of its templates.

    `mistakes` contains the errors of the templates themselves. No template has a value yet.
    """
    without_value = set(mistakes).union(*(template_paths(tree, name) for name, tree in trees.items()))
    event = {"provider": "", **{name: literal_value(tree) for name, tree in trees.items()}}
    errors = flatten(schema.validate(event))
    return {
        path: messages
        for path, messages in errors.items()
        # An unknown field is a mistake regardless of its value.
        if path not in without_value or messages[0].startswith(UNKNOWN_FIELD)
    }


def _object(value: JSON) -> dict[str, JSON]:
    """Return `value` if it is an object. Otherwise, return an empty object: the schema reports the mistake."""
    return value if isinstance(value, dict) else {}


def _list(value: JSON) -> list[JSON]:
    """Return `value` if it is a list. Otherwise, return an empty list: the schema reports the mistake."""
    return value if isinstance(value, list) else []
