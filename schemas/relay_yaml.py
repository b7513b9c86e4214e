"""relay.yaml: which events may do what, and the hooks. Read whole, every mistake at once, no secret repeated."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from marshmallow import ValidationError, fields, validate
from marshmallow.exceptions import SCHEMA

from schemas import templates, trees
from schemas.bounds import as_text
from schemas.config import Config, ConfigError, Hook, UpdateTemplate
from schemas.event import EventSchema
from schemas.reference import Reference, ReferenceList
from schemas.strict import UNKNOWN, StrictSchema, flatten, matches, one_of, step
from schemas.strict_json import JSON
from schemas.strict_yaml import parse
from schemas.templates import Template
from schemas.trees import Tree, Wrong
from schemas.vetting import Mistake

_NAME = matches(r"[a-z0-9][a-z0-9-]{0,62}", "Must be 1 to 63 of a-z, 0-9 and '-', not first a '-'.")
_PATTERN = matches(r"[A-Za-z0-9_.~/*-]+", "Must be provider:dataset, where '*' stands for any characters.")
_NO_UPDATES = "Must hold at least one update."
_NO_OBJECT = "Must be an object, with events and hooks."


class _Condition(fields.Field[Template]):
    """A `when`, compiled."""

    def __init__(self, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._most = most

    def _deserialize(self, value: object, *_: object, **__: object) -> Template:
        if not isinstance(value, str):
            raise ValidationError("Must be a string: an expression, without braces.")
        try:
            return templates.condition(value, self._most)
        except Mistake as mistake:
            raise ValidationError(str(mistake)) from None


class _FileSchema(StrictSchema):
    events = fields.Raw(allow_none=True)
    hooks = fields.Dict(allow_none=True, error_messages={"invalid": "Must be an object: a name and a hook each."})


class Reader:
    """Reads relay.yaml: knows what senders and providers there are, and what is set where the function runs."""

    def __init__(
        self,
        senders: Collection[str],
        schemas: Mapping[str, EventSchema],
        environ: Mapping[str, str] | None,
        most: int,
    ) -> None:
        """`schemas` is of each provider's events; without `environ`, what references name needn't be set here.

        `most` is the length that a template may have, in characters.
        """
        self._schemas = schemas
        self._most = most
        self._events = StrictSchema.from_dict(
            {"allow": fields.List(fields.String(validate=self._pattern), required=True)}
        )()
        self._update = StrictSchema.from_dict(
            {
                "provider": fields.String(required=True, validate=one_of(schemas)),
                "dataset": fields.Raw(allow_none=True),
                "update": fields.Raw(allow_none=True),
                "token": Reference(environ, load_default=None, allow_none=False),
            }
        )()
        self._hook = StrictSchema.from_dict(
            {
                "sender": fields.String(required=True, validate=one_of(senders)),
                "secret": ReferenceList(environ, required=True),
                "when": _Condition(most, load_default=None, allow_none=False),
                "updates": fields.List(
                    fields.Raw(allow_none=True), required=True, validate=validate.Length(min=1, error=_NO_UPDATES)
                ),
            }
        )()

    def read(self, text: str, file: str) -> Config:
        """The configuration in `text`; `file` is what mistakes call it. Raises ConfigError with all of them."""
        raw, errors = parse(text)
        if raw is None:
            raw = {}
        _add(errors, "", flatten(_FileSchema().validate(raw) if isinstance(raw, dict) else {SCHEMA: [_NO_OBJECT]}))
        config = Config()
        if isinstance(raw, dict):
            given = raw.get("hooks")
            hooks = given if isinstance(given, dict) else {}
            config = Config(
                allow=self._allow(raw["events"], errors) if "events" in raw else None,
                hooks={name: hook for name, each in hooks.items() if (hook := self._read_hook(name, each, errors))},
            )
        if errors:
            raise ConfigError(file, errors)
        return config

    def _allow(self, raw: JSON, errors: Wrong) -> tuple[str, ...]:
        loaded, wrong = _load(self._events, raw)
        _add(errors, "events", wrong)
        return tuple(loaded.get("allow", ()))

    def _pattern(self, text: str) -> None:
        provider, colon, pattern = text.partition(":")
        _PATTERN(pattern if colon else "")
        one_of(self._schemas)(provider)

    def _read_hook(self, name: str, raw: JSON, errors: Wrong) -> Hook | None:
        place = f"hooks.{step(name)}"
        try:
            _NAME(name)
        except ValidationError as error:
            _add(errors, place, {"": [f"The hook's name: {error.messages[0]}"]})
        loaded, wrong = _load(self._hook, raw)
        _add(errors, place, wrong)
        given = raw.get("updates") if isinstance(raw, dict) else None
        updates = [
            self._read_update(each, f"{place}.updates.{position}", f"hook {name}: updates.{position}.", errors)
            for position, each in enumerate(given if isinstance(given, list) else [])
        ]
        if wrong:
            return None
        return Hook(
            name=name,
            sender=loaded["sender"],
            secrets=tuple(replace(each, label=f"hook {name}: {each.label}") for each in loaded["secret"]),
            when=loaded["when"],
            updates=tuple(each for each in updates if each),
        )

    def _read_update(self, raw: JSON, place: str, label: str, errors: Wrong) -> UpdateTemplate | None:
        loaded, wrong = _load(self._update, raw)
        _add(errors, place, wrong)
        if not isinstance(raw, dict):
            return None
        mistakes: Wrong = {}
        given = {name: raw[name] for name in ("dataset", "update") if name in raw}
        if isinstance(given.get("dataset"), int | float):
            given["dataset"] = as_text(given["dataset"])
        compiled: dict[str, Tree] = {
            name: trees.compiled(each, name, self._most, mistakes) for name, each in given.items()
        }
        _add(errors, place, mistakes)
        provider = raw.get("provider")
        schema = self._schemas.get(provider) if isinstance(provider, str) else None
        if schema:
            _add(errors, place, _literal_errors(schema, compiled))
        if wrong:
            return None
        token = loaded["token"]
        return UpdateTemplate(
            provider=loaded["provider"],
            dataset=compiled.get("dataset"),
            body=compiled.get("update"),
            token=token and replace(token, label=f"{label}{token.label}"),
        )


def _load(schema: Any, raw: JSON) -> tuple[dict[str, Any], Wrong]:
    """What `raw` is by `schema`, as far as it is right, and what is wrong."""
    try:
        return schema.load(raw), {}
    except ValidationError as error:
        valid = error.valid_data
        # What isn't even an object has a list of messages.
        messages = error.messages if isinstance(error.messages, dict) else {SCHEMA: error.messages}
        return valid if isinstance(valid, dict) else {}, flatten(messages)


def _add(errors: Wrong, place: str, more: Mapping[str, list[str]]) -> None:
    for path, messages in more.items():
        errors.setdefault(".".join(filter(None, (place, path))), []).extend(messages)


def _literal_errors(schema: EventSchema, compiled: Mapping[str, Tree]) -> Wrong:
    """What is wrong with what an update says itself, whatever its templates will make."""
    unknown = {path for name, tree in compiled.items() for path in trees.places(tree, name)}
    # Its provider is looked at elsewhere: by that this schema was found.
    judged = {"provider": "", **{name: trees.blank(tree) for name, tree in compiled.items()}}
    found = {}
    for path, messages in flatten(schema.validate(judged)).items():
        kept = [each for each in messages if path not in unknown or each.startswith(UNKNOWN)]
        if kept:
            found[path] = kept
    return found
