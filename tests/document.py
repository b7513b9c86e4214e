"""What the tests of the OpenAPI document share: a body held against it, and what JSON Schema can't say."""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs

from deploy.local.openapi import PATH

DOCUMENT: dict[str, Any] = json.loads(PATH.read_text())

#: Rules of an event that JSON Schema can't say: what they are, where the answer names them, and what it says.
UNSAYABLE = (
    ("the URL and the headers of a source are at most 4096 bytes", r"source\.requestHeaders$", "at most 4096 bytes"),
    ("an entity's headers have a Content-Type, in any spelling", r"source\.requestEntity$", "Needs a Content-Type"),
    ("a time is on the calendar", r"^time$", "RFC 3339"),
    ("data_base64 is base64", r"^data_base64$", "base64"),
    ("the dataset's provider has a token", r"^provider$", "no token"),
    ("a parameter like dry_run is dry_run misspelt", "", "did you mean dry_run"),
)
#: What is wrong with a text that most readers of JSON take, by what the answer says.
NOT_JSON = ("twice in one object", "out of range", "surrogate", "nested deeper", "NaN", "Infinity", "In data_base64")


@cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """The judge of what must be as the document's schema of this name says."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": DOCUMENT["components"]["schemas"]}}
    return jsonschema_rs.Draft202012Validator(root)


def conforms(schema: str, value: object) -> bool:
    """Whether `value` is as the document's schema of this name says."""
    return validator(schema).is_valid(value)


def unsayable(path: str, messages: list[str]) -> str | None:
    """The rule of this entry of an answer's `errors`, if it is one that JSON Schema can't say."""
    here = [(rule, says) for rule, where, says in UNSAYABLE if re.search(where, path)]
    rules = [next((rule for rule, says in here if says in each), None) for each in messages]
    return None if None in rules else rules[0]


def judged(envelope: Any) -> Any:
    """A CloudEvent as it is judged: its id, type and time stand in place of its data's, whatever those are."""
    if not (isinstance(envelope, dict) and isinstance(envelope.get("data"), dict)):
        return envelope
    theirs = {name for name in ("id", "type", "time") if envelope.get(name) is not None}
    return {**envelope, "data": {name: each for name, each in envelope["data"].items() if name not in theirs}}


def patterns(schema: Any) -> list[str]:
    """Every pattern in a schema."""
    found = [schema["pattern"]] if isinstance(schema, Mapping) and isinstance(schema.get("pattern"), str) else []
    inner = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    return found + [each for part in inner for each in patterns(part)]
