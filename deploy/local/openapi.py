"""`make openapi`: deploy/openapi.json, which the function serves, made from the schemas that it judges by."""

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
from deploy.local.openapi_answers import ANSWERS, HEADERS
from handlers.providers import PROVIDERS
from schemas.data_world import Source
from schemas.event import CloudEventSchema, EventSchema
from schemas.problem import ProblemSchema
from schemas.strict import StrictBoolean, StrictList, StrictSchema, UpdateSchema, string_values

PATH = ROOT / "deploy/openapi.json"

_ABOUT = """\
Hears a data pipeline finish, and updates the dataset's record on Apify or data.world.

Events of your own go to `POST /`; what a sender has a payload of its own for goes to the hook that is set up for it.
A success is the platform's own answer; everything else is a problem (RFC 9457), whose `retryable` says whether the
same request may succeed later. What a rule says beyond this document is in the `errors` of a 422.
"""


class _Converter(OpenAPIConverter):
    """apispec's, which knows our own kinds of schema, field and validator, too."""

    field_mapping = {**DEFAULT_FIELD_MAPPING, StrictBoolean: ("boolean", None)}  # noqa: RUF012 - apispec's own way

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        """A schema: its docstring, its fields, and what it says of them together."""
        instance = resolve_schema_instance(schema)
        found = super().schema2jsonschema(instance)  # type: ignore[no-untyped-call]
        described: dict[str, Any] = {"description": inspect.getdoc(instance), **found}
        # An answer may get more members one day: only what comes in is closed.
        described.pop("additionalProperties", None)
        if isinstance(instance, StrictSchema):
            described["additionalProperties"] = False
        if isinstance(instance, UpdateSchema):
            described["minProperties"] = 1
        if isinstance(instance, Source):
            described["dependentRequired"] = {"requestEntity": ["requestHeaders"]}
        return described

    def field2pattern(self, field: fields.Field[Any], **_: Any) -> dict[str, str]:
        """A field's one pattern, whole; where it has several, its metadata says what they come to."""
        found = [str(each.regex.pattern) for each in field.validators if isinstance(each, validate.Regexp)]
        return {"pattern": _ecmascript(found[0])} if len(found) == 1 else {}

    def own2properties(self, field: fields.Field[Any], ret: dict[str, Any]) -> dict[str, Any]:
        """What our own fields and validators say."""
        said: dict[str, Any] = {}
        if isinstance(field, StrictList) and field.distinct:
            said["uniqueItems"] = True
        if string_values in field.validators:
            said["additionalProperties"] = {"type": "string"}
        schema = getattr(field, "parent", None)
        if isinstance(schema, EventSchema) and field.name == "provider":
            said["const"] = next(name for name, each in PROVIDERS.items() if each.EVENT is schema)
        if isinstance(schema, CloudEventSchema) and not field.required:
            said["type"] = [ret["type"], "null"]
        return said

    def init_attribute_functions(self) -> None:
        """Beside apispec's own, and after them: the above."""
        super().init_attribute_functions()  # type: ignore[no-untyped-call]
        self.attribute_functions.append(self.own2properties)


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


def _ecmascript(pattern: str) -> str:
    """A pattern of schemas.strict.matches, in ECMAScript, where `$` is the very end."""
    inner = pattern.removeprefix("(?:").removesuffix(r")\Z")
    return f"^(?:{inner})$" if "|" in inner else f"^{inner}$"


def build() -> str:
    """The document, as the file has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = {"description": _ABOUT, "license": {"name": project["license"], "identifier": project["license"]}}
    spec = APISpec("Dataset Relay", project["version"], "3.1.0", plugins=[_Plugin()], info=about)
    for provider in PROVIDERS.values():
        _add(spec, provider.EVENT)
    spec.components.schema("Event", _events())
    _add(spec, CloudEventSchema(exclude=("data", "data_base64")), **_CLOUD_EVENT_DATA)
    _add(spec, ProblemSchema())
    for schema, more in ANSWERS:
        _add(spec, schema, **more)
    for name, header in HEADERS.items():
        spec.components.header(name, dict(header))
    for name, scheme in openapi_routes.PROOFS.items():
        spec.components.security_scheme(name, scheme)
    for path, operations in openapi_routes.ROUTES.items():
        spec.path(path, operations=dict(operations))
    return json.dumps(spec.to_dict(), ensure_ascii=False, indent=2) + "\n"


def _add(spec: APISpec, schema: Schema, **more: Any) -> None:
    name = type(schema).__name__.removesuffix("Schema")
    if name not in spec.components.schemas:
        spec.components.schema(name, more, schema=schema)


def _events() -> dict[str, Any]:
    refs = {name: f"#/components/schemas/{type(each.EVENT).__name__}" for name, each in PROVIDERS.items()}
    return {
        "description": "One update for one dataset; `provider` says where.",
        "oneOf": [{"$ref": ref} for ref in refs.values()],
        "discriminator": {"propertyName": "provider", "mapping": refs},
    }


# An attribute that is null is one that isn't set (CloudEvents JSON format, 2.2).
_CLOUD_EVENT_DATA: dict[str, Any] = {
    "oneOf": [
        {
            "required": ["data"],
            "properties": {"data": {"$ref": "#/components/schemas/Event"}, "data_base64": {"type": "null"}},
        },
        {
            "required": ["data_base64"],
            "properties": {
                "data_base64": {
                    "type": "string",
                    "contentEncoding": "base64",
                    "contentMediaType": "application/json",
                    "contentSchema": {"$ref": "#/components/schemas/Event"},
                },
                "data": {"type": "null"},
            },
        },
    ]
}


if __name__ == "__main__":
    PATH.write_text(build(), encoding="utf-8")
    print(f"{PATH.relative_to(ROOT)} is written.")
