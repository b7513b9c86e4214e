"""Generate deploy/relay.schema.json, with which editors complete and check relay.yaml, from the function's schemas.

python -m deploy.local.relay_schema

The document is a JSON Schema of draft 7, the newest draft that the YAML language server supports as a whole.
"""

import json
import re
from typing import Any, TypeAlias

from apispec import APISpec

from deploy.local.cloud import ROOT
from deploy.local.openapi import Plugin
from handlers.hooks.templates.template import LOOP_VARIABLE, OPENINGS
from handlers.providers import PROVIDERS
from handlers.senders import SENDERS
from schemas.relay_yaml import GOOGLE, CustomSenderSchema, RelayYamlSchema

PATH = ROOT / "deploy/relay.schema.json"

JSONSchema: TypeAlias = dict[str, Any]

_REFERENCE = "A secret reference: projects/P/secrets/NAME, a bare NAME, env:VARIABLE, or file:/path."
_TEMPLATE: JSONSchema = {
    "description": "A Jinja2 template. The variables are event, headers, and the variables of the loops around it.",
    "type": "string",
    "pattern": "|".join(opening.replace("{", r"\{") for opening in OPENINGS),
}
# The keys that make an object in a list a loop.
_LOOP: dict[str, JSONSchema] = {
    "for": {
        "description": "Makes one object for each item of a list of the payload, such as: file in event.files.",
        "type": "string",
        "pattern": f"^{LOOP_VARIABLE.pattern}",
    },
    "if": {
        "description": "A Jinja2 expression without braces. The loop leaves out an item for which it is not true.",
        "type": "string",
    },
}


def build() -> str:
    """Return the content of deploy/relay.schema.json."""
    spec = APISpec("", "", "3.1.0", plugins=[Plugin()])
    for schema in (RelayYamlSchema, CustomSenderSchema, *(provider.event_schema for provider in PROVIDERS.values())):
        spec.components.schema(_name(schema), schema=schema)
    text = json.dumps(spec.to_dict()["components"]["schemas"])
    definitions: dict[str, JSONSchema] = json.loads(text.replace("#/components/schemas/", "#/definitions/"))
    root = definitions.pop("RelayYaml")
    events = {name: definitions.pop(_name(provider.event_schema)) for name, provider in PROVIDERS.items()}
    _complete(definitions, events)
    root = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "relay.yaml of Dataset Relay", **root}
    return (
        json.dumps({**root, "definitions": {**definitions, "Template": _TEMPLATE}}, ensure_ascii=False, indent=2) + "\n"
    )


def _name(schema: Any) -> str:
    name: str = schema.__name__ if isinstance(schema, type) else type(schema).__name__
    return name.removesuffix("Schema")


def _ref(name: str) -> JSONSchema:
    return {"$ref": f"#/definitions/{name}"}


def _complete(definitions: dict[str, JSONSchema], events: dict[str, JSONSchema]) -> None:
    """Add the rules that the loader checks to the definitions. `events` has the schema of each provider's events."""
    items: set[str] = set()
    for name in definitions.keys() - {"Events", "Hook", "HookUpdate", "CustomSender"}:
        definitions[name] = _with_templates(definitions[name], items)
    for name in items:
        definitions[name]["properties"] |= _LOOP
        definitions[name]["dependencies"] = {**definitions[name].get("dependencies", {}), "if": ["for"]}
    providers = "|".join(name.replace(".", r"\.") for name in events)
    definitions["Events"]["properties"]["allow"]["items"]["pattern"] = f"^(?:{providers}):[A-Za-z0-9_.~/*-]+$"
    definitions["CustomSender"]["dependencies"] = {"prefix": ["hmac"], "encoding": ["hmac"]}
    hook = definitions["Hook"]["properties"]
    hook["sender"] = {
        "description": "The sender, which selects the authentication: a name, or the header of another sender.",
        "anyOf": [{"enum": list(SENDERS)}, _ref("CustomSender")],
    }
    hook["secret"] = {
        "description": f"{_REFERENCE} Or a list of them: the function accepts each secret.",
        "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}],
    }
    identity = ["audience", "account"]
    definitions["Hook"]["if"] = {"properties": {"sender": {"const": GOOGLE}}, "required": ["sender"]}
    definitions["Hook"]["then"] = {"required": identity, "properties": {"secret": False}}
    definitions["Hook"]["else"] = {"required": ["secret"], "properties": dict.fromkeys(identity, False)}
    update = definitions["HookUpdate"]
    update["properties"]["provider"] = {"enum": list(events)}
    update["properties"]["token"]["description"] = f"{_REFERENCE} This token replaces the provider's own."
    update["allOf"] = [
        {
            "if": {"properties": {"provider": {"const": provider}}, "required": ["provider"]},
            "then": {"properties": {name: _fields(event)[name] for name in ("dataset", "update")}},
        }
        for provider, event in events.items()
    ]


def _fields(event: JSONSchema) -> dict[str, JSONSchema]:
    """Return the schemas of the fields of an event in relay.yaml."""
    dataset, update = event["properties"]["dataset"], event["properties"]["update"]
    # YAML takes a dataset ID that consists of digits for a number.
    types = ["string", "integer"] if re.search(dataset["pattern"], "1") else "string"
    return {"dataset": _value({**dataset, "type": types}), "update": _value(update)}


def _with_templates(schema: JSONSchema, items: set[str]) -> JSONSchema:
    """Return the schema of a part of an update that allows a template for each value.

    Add the names of the definitions of objects in lists to `items`.
    """
    schema = dict(schema)
    if "properties" in schema:
        schema["properties"] = {
            name: _value(_with_templates(part, items)) for name, part in schema["properties"].items()
        }
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            schema[part] = _value(_with_templates(schema[part], items))
    if "$ref" in schema.get("items", {}).get("anyOf", [{}])[0]:
        items.add(schema["items"]["anyOf"][0]["$ref"].rpartition("/")[2])
    for combination in ("anyOf", "oneOf"):
        if combination in schema:
            schema[combination] = [_with_templates(part, items) for part in schema[combination]]
    if "dependentRequired" in schema:
        # Draft 7 has another name for this rule.
        schema["dependencies"] = {**schema.get("dependencies", {}), **schema.pop("dependentRequired")}
    return schema


def _value(schema: JSONSchema) -> JSONSchema:
    """Return the schema of a value that can also be a template."""
    rules = {name: rule for name, rule in schema.items() if name != "description"}
    if rules in ({}, {"type": "string"}):
        return schema
    description = {"description": schema["description"]} if "description" in schema else {}
    choices = rules["anyOf"] if rules.keys() == {"anyOf"} else [rules]
    return {**description, "anyOf": [*choices, _ref("Template")]}


if __name__ == "__main__":
    PATH.write_text(build(), encoding="utf-8")
    print(f"Wrote {PATH.relative_to(ROOT)}.")
