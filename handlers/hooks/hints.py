"""Hints about the keys of relay.yaml that are valid in another place: probably, their indentation is wrong."""

from collections.abc import Iterator, Mapping

from marshmallow import Schema, fields

from schemas.base import join_path
from schemas.event import EventSchema
from schemas.relay_yaml import HookSchema, HookUpdateSchema, RelayYamlSchema
from schemas.strict_json import JSON

_MORE_INDENTATION = "Give the line more indentation."
_HOOK_OUTSIDE = (
    "A hook must be a key of hooks. Write the line hooks: above the hooks, and give each line of a hook more "
    "indentation."
)


def misplaced_keys(content: JSON, schemas: Mapping[str, EventSchema]) -> dict[str, str]:
    """Return a hint for each key of relay.yaml that belongs to another key of its object, by the path of the key.

    `schemas` has the schema of each provider's events.
    """
    return dict(_iter_hints(RelayYamlSchema(), content, "", schemas))


def _iter_hints(
    schema: Schema, value: JSON, path: str, schemas: Mapping[str, EventSchema]
) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        return
    parts = _parts(schema, value, schemas)
    for name, member in value.items():
        member_path = join_path(path, name)
        if name not in schema.fields:
            owner = next((owner for owner, (part, _) in parts.items() if owner in value and name in part.fields), None)
            if isinstance(schema, RelayYamlSchema) and _is_hook(member):
                yield member_path, _HOOK_OUTSIDE
            elif owner:
                yield member_path, f"This is a key of {parts[owner][1]}. {_MORE_INDENTATION}"
        elif name in parts:
            part, _ = parts[name]
            if isinstance(schema, RelayYamlSchema) and name == "hooks" and isinstance(member, dict):
                yield from _iter_hook_hints(part, member, member_path, schemas)
            elif isinstance(member, list):
                for position, item in enumerate(member):
                    yield from _iter_hints(part, item, f"{member_path}.{position}", schemas)
            else:
                yield from _iter_hints(part, member, member_path, schemas)


def _iter_hook_hints(
    schema: Schema, hooks: dict[str, JSON], path: str, schemas: Mapping[str, EventSchema]
) -> Iterator[tuple[str, str]]:
    for name, hook in hooks.items():
        hook_path = join_path(path, name)
        if name in (*HookSchema().fields, *HookUpdateSchema().fields) and not isinstance(hook, dict | None):
            yield hook_path, f"This is not a hook, but a key of a hook. {_MORE_INDENTATION}"
        yield from _iter_hints(schema, hook, hook_path, schemas)


def _parts(
    schema: Schema, value: Mapping[str, JSON], schemas: Mapping[str, EventSchema]
) -> dict[str, tuple[Schema, str]]:
    """Return the schema and the description of each part of an object that has a schema of its own, by name."""
    parts = {}
    for name, field in schema.fields.items():
        if isinstance(schema, HookUpdateSchema) and name == "update":
            provider = schemas.get(str(value.get("provider")))
            field = provider.fields["update"] if provider else field
        if isinstance(field, fields.Dict) and isinstance(field.value_field, fields.Nested):
            parts[name] = (field.value_field.schema, "a hook")
        elif isinstance(field, fields.List) and isinstance(field.inner, fields.Nested):
            parts[name] = (field.inner.schema, f"an item of {name}")
        elif isinstance(field, fields.Nested):
            parts[name] = (field.schema, name)
    return parts


def _is_hook(value: JSON) -> bool:
    return isinstance(value, dict) and not value.keys().isdisjoint(("sender", "secret", "updates"))
