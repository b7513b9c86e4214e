"""The OpenAPI document, and the rules of an event that its JSON schemas can't express."""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs

from deploy.local.openapi import PATH

DOCUMENT: dict[str, Any] = json.loads(PATH.read_text())

#: Rules that JSON Schema can't express: the rule, a pattern of the path in `errors`, and a part of the message.
INEXPRESSIBLE_RULES = (
    ("the URL and the headers of a source are at most 4096 bytes", r"source\.requestHeaders$", "at most 4096 bytes"),
    ("the headers of an entity have a Content-Type in any spelling", r"source\.requestEntity$", "Needs a Content-Type"),
    ("no tag is both added and removed", r"tags\.remove$", "Must not have a tag of add"),
    ("the date of a time exists", r"^time$", "RFC 3339"),
    ("data_base64 is base64", r"^data_base64$", "base64"),
    ("the provider has a token", r"^provider$", "no token"),
    ("a parameter similar to dry_run is a typing error", "", "did you mean dry_run"),
    ("a parameter similar to wait is a typing error", "", "did you mean wait"),
)
#: Parts of the detail of an `invalid-json` problem about a body that most JSON parsers accept.
STRICT_JSON_DETAILS = (
    "twice in one object", "out of range", "surrogate", "nested deeper", "NaN", "Infinity", "In data_base64",
)  # fmt: skip


@cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """Return the validator for the schema with this name in the document."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": DOCUMENT["components"]["schemas"]}}
    return jsonschema_rs.Draft202012Validator(root)


def conforms(schema: str, value: object) -> bool:
    """Return whether `value` is valid by the schema with this name in the document."""
    return validator(schema).is_valid(value)


def inexpressible_rule(path: str, messages: list[str]) -> str | None:
    """Return the rule behind an entry of `errors`, or None if JSON Schema can express the rule of a message."""
    candidates = [(rule, part) for rule, pattern, part in INEXPRESSIBLE_RULES if re.search(pattern, path)]
    rules = [next((rule for rule, part in candidates if part in message), None) for message in messages]
    return None if None in rules else rules[0]


def with_precedence(envelope: Any) -> Any:
    """Return a CloudEvent without the fields of its data that the attributes of the CloudEvent override."""
    if not (isinstance(envelope, dict) and isinstance(envelope.get("data"), dict)):
        return envelope
    overridden = {name for name in ("id", "type", "time") if envelope.get(name) is not None}
    return {**envelope, "data": {name: value for name, value in envelope["data"].items() if name not in overridden}}


def patterns(schema: Any) -> list[str]:
    """Return all patterns in a schema."""
    if isinstance(schema, Mapping):
        own = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
        return own + [pattern for part in schema.values() for pattern in patterns(part)]
    if isinstance(schema, list):
        return [pattern for part in schema for pattern in patterns(part)]
    return []
