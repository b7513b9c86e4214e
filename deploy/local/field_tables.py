"""Generate the tables of fields in deploy/recipes/README.md from the schemas that validate updates.

python -m deploy.local.field_tables
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from marshmallow import Schema, fields, validate

from deploy.local.cloud import ROOT
from deploy.local.generated import replace_generated_part
from handlers.providers import PROVIDERS
from handlers.providers.base import Provider
from schemas.base import StrictBoolean, StrictList, string_values

PATH = ROOT / "deploy/recipes/README.md"

_TYPES = {fields.String: "string", fields.Dict: "object", fields.Nested: "object", StrictBoolean: "boolean"}


def build() -> str:
    """Return the content of deploy/recipes/README.md with current tables."""
    tables = "\n".join(_table(name, provider) for name, provider in PROVIDERS.items())
    return replace_generated_part(PATH.read_text(encoding="utf-8"), "make tables", tables)


def _table(name: str, provider: Provider) -> str:
    """Return the section of a provider: the form of `dataset`, and a table with one row per field of `update`."""
    dataset = " ".join(_rules(provider.event_schema.fields["dataset"]))
    lines = [
        f"### {provider.title}\n",
        f"`provider` is `{name}`. `dataset`: {dataset}\n",
        _description(provider.update_schema) + "\n",
        "| field of `update` | type | null | rules |",
        "|---|---|---|---|",
        *rows(provider.update_schema, ""),
    ]
    return "\n".join(lines) + "\n"


def rows(schema: Schema, parent: str) -> Iterator[str]:
    """Yield the row of each field. The fields of an object follow the row of the object.

    Raises:
        TypeError: This module has no name for the type of a field, or no sentence for a validator.
    """
    for name, field in schema.fields.items():
        is_list = isinstance(field, fields.List)
        value = field.inner if isinstance(field, fields.List) else field
        if type(value) not in _TYPES:
            raise TypeError(f"{__name__} has no name for the type {type(value).__name__}: add the type to _TYPES.")
        kind = f"list of {_TYPES[type(value)]}s" if is_list else _TYPES[type(value)]
        rules = " ".join([*(["Required."] if field.required else []), *_rules(field)])
        yield f"| `{parent}{name}` | {kind} | {'yes' if field.allow_none else ''} | {rules} |"
        if isinstance(value, fields.Nested):
            yield from rows(value.schema, f"{parent}{name}[]." if is_list else f"{parent}{name}.")


def _rules(field: fields.Field[Any]) -> Iterator[str]:
    """Yield a sentence for each rule of a field."""
    if isinstance(field, fields.Nested):
        yield _description(field.schema)
    if description := field.metadata.get("description"):
        yield _escape(description)
    yield from map(_rule, field.validators)
    if isinstance(field, fields.List) and (rules := list(_rules(field.inner))):
        text = " ".join(rules)
        yield f"Each item: {text[0].lower()}{text[1:]}"
    if isinstance(field, StrictList) and field.distinct:
        yield "The items are distinct."
    if secret := field.metadata.get("secret"):
        yield f"{'A credential' if secret is True else 'Can contain credentials'}."


def _rule(rule: object) -> str:
    """Return the sentence for a validator.

    Raises:
        TypeError: This module has no sentence for the validator.
    """
    match rule:
        case validate.Length(min=None, max=int(high)):
            return f"Up to {high:,} characters."
        case validate.Length(min=int(low), max=None):
            return f"At least {low:,} character{'' if low == 1 else 's'}."
        case validate.Length(min=int(low), max=int(high)):
            return f"{low:,} to {high:,} characters."
        case validate.OneOf(choices=choices):
            return f"One of {', '.join(f'`{choice}`' for choice in choices)}."
        case validate.Regexp(error=str(message)):
            return _escape(message)
    if rule is string_values:
        return "Each value is a string."
    raise TypeError(f"{__name__} has no sentence for the validator {rule!r}: add a case to _rule.")


def _description(schema: Schema) -> str:
    return _escape(" ".join((inspect.getdoc(schema) or "").split()))


def _escape(text: str) -> str:
    """Return plain text as Markdown. GitHub would strike out the text between two `~`."""
    return re.sub(r"[\\`*_~<\[|]", r"\\\g<0>", text)


if __name__ == "__main__":
    PATH.write_text(build(), encoding="utf-8")
    print(f"Wrote {PATH.relative_to(ROOT)}.")
