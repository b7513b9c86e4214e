"""Generate deploy/openapi.json, the document that the function serves, from the schemas that validate events.

python -m deploy.local.openapi
"""

import inspect
import json
import tomllib
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import resolve_schema_instance
from apispec.ext.marshmallow.field_converter import DEFAULT_FIELD_MAPPING
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields, validate

from deploy.local import openapi_routes
from deploy.local.cloud import ROOT
from deploy.local.openapi_responses import HEADERS, RESPONSE_SCHEMAS, ref
from handlers.providers import PROVIDERS
from schemas.base import StrictBoolean, StrictList, StrictSchema, UpdateSchema, string_values
from schemas.cloud_event import CloudEventSchema
from schemas.data_world import Source, TagChange, Tags
from schemas.event import EventSchema
from schemas.problem import ProblemSchema
from schemas.pubsub import Base64, PushMessageSchema, PushSchema

PATH = ROOT / "deploy/openapi.json"

_DESCRIPTION = """\
Updates the record of a dataset on Apify or data.world when a data pipeline finishes.

Send native events to `POST /`. A sender with a payload of its own sends the payload to a hook.
A success is the provider's own response. Every other response is a problem (RFC 9457), whose `retryable` is true
if the same request may succeed later. The `errors` of a 422 name the rules that this document can't express.
"""


class _Converter(OpenAPIConverter):
    """A converter that adds the base classes, fields, and validators of schemas.base to apispec's converter."""

    field_mapping = {**DEFAULT_FIELD_MAPPING, StrictBoolean: ("boolean", None), Base64: ("string", "byte")}  # noqa: RUF012 - apispec's declaration

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        """Return the JSON schema of a marshmallow schema. The docstring of the schema becomes the description."""
        instance = resolve_schema_instance(schema)
        converted = super().schema2jsonschema(instance)  # type: ignore[no-untyped-call]
        json_schema: dict[str, Any] = {"description": inspect.getdoc(instance), **converted}
        # Responses can get more members in a later version. Only requests reject unknown members.
        json_schema.pop("additionalProperties", None)
        if isinstance(instance, StrictSchema):
            json_schema["additionalProperties"] = False
        if isinstance(instance, UpdateSchema):
            json_schema["minProperties"] = 1
        if isinstance(instance, Source):
            json_schema["dependentRequired"] = {"requestEntity": ["requestHeaders"]}
        return json_schema

    def field2property(self, field: fields.Field[Any]) -> dict[str, Any]:
        """Return the JSON schema of a field. Tags can also be an object."""
        schema: dict[str, Any] = super().field2property(field)
        if not isinstance(field, Tags):
            return schema
        return {"anyOf": [schema, self.resolve_nested_schema(TagChange)]}  # type: ignore[no-untyped-call]

    def field2pattern(self, field: fields.Field[Any], **_: Any) -> dict[str, str]:
        """Return the pattern of a field with one pattern. A field with several patterns has a pattern as metadata."""
        patterns = [str(rule.regex.pattern) for rule in field.validators if isinstance(rule, validate.Regexp)]
        return {"pattern": _ecmascript(patterns[0])} if len(patterns) == 1 else {}

    def own2properties(self, field: fields.Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
        """Return the properties of the fields and validators in schemas.base."""
        properties: dict[str, Any] = {}
        if isinstance(field, StrictList) and field.distinct:
            properties["uniqueItems"] = True
        if isinstance(field, fields.Dict) and field.key_field and field.key_field.validators:
            properties["propertyNames"] = self.field2property(field.key_field)
        if string_values in field.validators:
            properties["additionalProperties"] = {"type": "string"}
        schema = getattr(field, "parent", None)
        if isinstance(schema, EventSchema) and field.name == "provider":
            properties["const"] = next(name for name, provider in PROVIDERS.items() if provider.event_schema is schema)
        if isinstance(schema, CloudEventSchema) and not field.required:
            properties["type"] = [ret["type"], "null"]
        return properties

    def init_attribute_functions(self) -> None:
        """Add `own2properties` after apispec's own functions."""
        super().init_attribute_functions()  # type: ignore[no-untyped-call]
        self.attribute_functions.append(self.own2properties)


class Plugin(MarshmallowPlugin):
    """apispec's plugin with the converter above."""

    Converter = _Converter


def _ecmascript(pattern: str) -> str:
    r"""Return a pattern of schemas.base.matches in ECMAScript, where `$` without flags has the meaning of `\Z`."""
    inner = pattern.removeprefix("(?:").removesuffix(r")\Z")
    return f"^(?:{inner})$" if "|" in inner else f"^{inner}$"


def build() -> str:
    """Return the content of deploy/openapi.json."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = {"description": _DESCRIPTION, "license": {"name": project["license"], "identifier": project["license"]}}
    spec = APISpec("Dataset Relay", project["version"], "3.1.0", plugins=[Plugin()], info=info)
    for provider in PROVIDERS.values():
        _add_schema(spec, provider.event_schema)
    spec.components.schema("Event", _event_schema())
    _add_schema(spec, CloudEventSchema(exclude=("data", "data_base64")), **_CLOUD_EVENT_DATA)
    _add_schema(spec, PushMessageSchema())
    _add_schema(spec, PushSchema())
    _add_schema(spec, ProblemSchema())
    for schema, rules in RESPONSE_SCHEMAS:
        _add_schema(spec, schema, **rules)
    for name, header in HEADERS.items():
        spec.components.header(name, dict(header))
    for name, scheme in openapi_routes.SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    for path, operations in openapi_routes.ROUTES.items():
        spec.path(path, operations=dict(operations))
    return json.dumps(spec.to_dict(), ensure_ascii=False, indent=2) + "\n"


def _add_schema(spec: APISpec, schema: Schema, **rules: Any) -> None:
    name = type(schema).__name__.removesuffix("Schema")
    if name not in spec.components.schemas:
        spec.components.schema(name, rules, schema=schema)


def _event_schema() -> dict[str, Any]:
    refs = {name: ref(type(provider.event_schema).__name__) for name, provider in PROVIDERS.items()}
    return {
        "description": "One update for one dataset. `provider` selects the schema.",
        "oneOf": [{"$ref": provider_ref} for provider_ref in refs.values()],
        "discriminator": {"propertyName": "provider", "mapping": refs},
    }


# An attribute with the value null is unset (JSON format of CloudEvents, 2.2).
_CLOUD_EVENT_DATA: dict[str, Any] = {
    "oneOf": [
        {
            "required": ["data"],
            "properties": {"data": {"$ref": ref("Event")}, "data_base64": {"type": "null"}},
        },
        {
            "required": ["data_base64"],
            "properties": {
                "data_base64": {
                    "type": "string",
                    "contentEncoding": "base64",
                    "contentMediaType": "application/json",
                    "contentSchema": {"$ref": ref("Event")},
                },
                "data": {"type": "null"},
            },
        },
    ]
}


if __name__ == "__main__":
    PATH.write_text(build(), encoding="utf-8")
    print(f"Wrote {PATH.relative_to(ROOT)}.")
