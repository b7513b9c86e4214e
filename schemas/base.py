"""Base classes, fields, and validators of the schemas: no unknown field, no coercion, errors with a path and a hint.

A schema declares the credentials of its objects in the metadata of a field, in one of two forms:

    metadata={"secret": True}        every value at or below the field is a credential
    metadata={"secret": predicate}   a value in the object of the field is a credential if `predicate(name)` is true
                                     for the name of its member, at any depth

`handlers.redaction` reads this metadata. The userinfo of a URL is a credential in every string, without a declaration.
"""

import difflib
import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate
from marshmallow.exceptions import SCHEMA

from schemas.problem import Errors
from schemas.strict_json import quoted

#: The maximum number of errors in a response, because a body can have a million errors.
MAX_ERRORS = 100

#: The beginning of the message about an unknown field.
UNKNOWN_FIELD = "Unknown field"

#: The name of a header that reaches the function: a token (RFC 9110, 5.6.2) without an underscore, because gunicorn
#: drops a header whose name contains one.
HEADER_NAME = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")
#: A character that gunicorn rejects in the value of a header: a control character other than the tab.
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

#: The message about a missing field.
REQUIRED = "Required: add this field."

# Give the messages of marshmallow the form of the other messages. A field copies these messages when it is created, so
# every schema must import this module first.
fields.Field.default_error_messages |= {"required": REQUIRED, "null": "Must not be null."}
fields.String.default_error_messages |= {"invalid": "Must be a string."}
fields.List.default_error_messages |= {"invalid": "Must be a list."}
fields.Mapping.default_error_messages |= {"invalid": "Must be an object."}
validate.Length.message_min = "Must have {min} or more characters."
validate.Length.message_max = "Must have at most {max} characters."
validate.Length.message_all = "Must have {min} to {max} characters."

_MAX_HINT_LENGTH = 64
_MIN_PREFIX_LENGTH = 3
# The last step of a path.
_LAST_STEP = re.compile(r'(?:\A|\.)(?:"(?:[^"\\]|\\.)*"|[^."]+)\Z')
_VALUE_IN_KEY = re.compile(r"://|[=:]")
_PLAIN_KEY = re.compile(r"[\w$-]{1,64}|\"_schema\"", re.ASCII)


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that `name` probably stands for, or None.

    `cutoff` is the minimum similarity, from 0 to 1, as in difflib.get_close_matches.
    """
    if len(name) > _MAX_HINT_LENGTH:
        return None
    by_folded_name = {known_name.casefold(): known_name for known_name in known}
    matches = difflib.get_close_matches(name.casefold(), by_folded_name, n=1, cutoff=cutoff)
    if not matches and len(name) >= _MIN_PREFIX_LENGTH:
        matches = [folded for folded in by_folded_name if folded.startswith(name.casefold())]
    return by_folded_name[matches[0]] if len(matches) == 1 else None


class StrictSchema(Schema):
    """A schema that rejects unknown fields, and gives the closest known name as a hint.

    The function only validates an event, and doesn't use the values that marshmallow loads. The provider receives the
    object exactly as the sender sent it: in the same order, with every null, and without defaults.
    """

    class Meta:
        """Leave unknown fields to `load`, which gives hints."""

        unknown = EXCLUDE

    error_messages = {"type": "Must be an object."}  # noqa: RUF012 - marshmallow's own declaration

    def load(self, data: Any, **options: Any) -> Any:
        """Return the loaded object.

        This method does the work of a `validates_schema` hook, at a third of the hook's cost for each object.

        Raises:
            ValidationError: The object breaks a rule, or has an unknown field.
        """
        errors = self._object_errors(data) if isinstance(data, dict) else {}
        try:
            loaded = super().load(data, **options)
        except ValidationError as error:
            raise ValidationError({**_messages(error), **errors}) from None
        if errors:
            raise ValidationError(errors)
        return loaded

    def validate(self, data: Any, **options: Any) -> dict[str, Any]:
        """Return the messages about `data`, nested like `data`, or an empty dictionary for valid data."""
        try:
            self.load(data, **options)
        except ValidationError as error:
            return _messages(error)
        return {}

    def _object_errors(self, value: dict[str, Any]) -> dict[str, list[str]]:
        """Return the errors about the object as a whole, by the name of the field."""
        known = self.fields
        unknown = islice((name for name in value if name not in known), MAX_ERRORS + 1)
        # Quote a key that equals marshmallow's own key for errors of the whole object.
        return {quoted(name) if name == SCHEMA else name: [unknown_field_message(name, known)] for name in unknown}


class UpdateSchema(StrictSchema):
    """Base class for the body of a provider's request: an object with at least one field."""

    def _object_errors(self, value: dict[str, Any]) -> dict[str, list[str]]:
        if not value:
            return {SCHEMA: [f"At least one field is required: {', '.join(self.fields)}."]}
        return super()._object_errors(value)


def _messages(error: ValidationError) -> dict[str, Any]:
    messages: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
    return messages


def unknown_field_message(name: str, known: Collection[str]) -> str:
    """Return the message about a field that isn't one of the `known` fields."""
    hint = closest(name, known)
    remedy = f"did you mean {hint}?" if hint else f"the known fields are: {', '.join(known)}."
    return f"{UNKNOWN_FIELD}; {remedy}"


def flatten(messages: Mapping[Any, Any]) -> Errors:
    """Return marshmallow's nested messages by dotted path, such as `{"update.files.0.name": ["…"]}`.

    The result has at most MAX_ERRORS messages, and one more message that states the limit.
    """
    pairs = list(islice(_iter_messages(messages, ()), MAX_ERRORS + 1))
    errors: Errors = {}
    for path, message in pairs[:MAX_ERRORS]:
        errors.setdefault(path, []).append(message)
    if len(pairs) > MAX_ERRORS:
        errors["…"] = [f"Only the first {MAX_ERRORS} errors are listed."]
    return errors


def _iter_messages(messages: Mapping[Any, Any], parent: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key, value in messages.items():
        path = parent if key == SCHEMA else (*parent, path_step(key))
        # A list can contain both messages about a value and objects with the messages about its parts.
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                yield from _iter_messages(item, path)
            else:
                yield ".".join(path), str(item)


def path_step(key: object) -> str:
    """Return a key or a list index as one step of a path.

    A sender can choose any key, so the step quotes a key with special characters. The step cuts the key after `://`,
    `=`, and a colon: what follows can be a credential, as in a URL or a header.
    """
    text = str(key)
    if _PLAIN_KEY.fullmatch(text):
        return text
    match = _VALUE_IN_KEY.search(text)
    return quoted(f"{text[: match.end()]}…" if match else text)


def join_path(path: str, key: object) -> str:
    """Return the path of a member or an item of the value at `path`. The path of the whole document is ""."""
    return f"{path}.{path_step(key)}" if path else path_step(key)


def line_of(lines: Mapping[str, int], path: str) -> int:
    """Return the line of a path, or of its closest parent in `lines`, which has the lines of a file by path."""
    while path and path not in lines:
        path = _LAST_STEP.sub("", path)
    return lines.get(path, 1)


class StrictList(fields.List[Any]):
    """A list field that stops after MAX_ERRORS errors. With `distinct`, no item may repeat an earlier item."""

    def __init__(self, cls_or_instance: fields.Field[Any], *, distinct: bool = False, **kwargs: Any) -> None:
        super().__init__(cls_or_instance, **kwargs)
        self.distinct = distinct

    def _deserialize(self, value: Any, *_: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        errors: dict[int, Any] = {}
        seen: set[Hashable] = set()
        for position, item in enumerate(value):
            try:
                self.inner.deserialize(item, **kwargs)
                if self.distinct and item in seen:
                    raise ValidationError("Must be distinct: the list already has this item.")
                if self.distinct:
                    seen.add(item)
            except ValidationError as error:
                errors[position] = error.messages
                if len(errors) > MAX_ERRORS:
                    break
        if errors:
            raise ValidationError(errors)
        return value


class StrictBoolean(fields.Field[bool]):
    """A field that accepts only true and false. marshmallow's Boolean also accepts "yes", "0", and 1."""

    def _deserialize(self, value: object, *_: object, **__: object) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value


def string_values(value: Mapping[str, object]) -> None:
    """Check that every value of an object is a string.

    Raises:
        ValidationError: A value is not a string.
    """
    errors = {name: ["Must be a string."] for name, member in value.items() if not isinstance(member, str)}
    if errors:
        raise ValidationError(errors)


class OneOf(validate.OneOf):
    """A validator that accepts only the choices, and gives the closest choice as a hint."""

    def __call__(self, value: str) -> str:
        """Return `value`.

        Raises:
            ValidationError: `value` is none of the choices.
        """
        if value not in self.choices:
            hint = closest(value, self.choices)
            choices = ", ".join(self.choices)
            raise ValidationError(f"Must be one of: {choices}{f'; did you mean {hint}?' if hint else '.'}")
        return value


def one_of(choices: Collection[str]) -> OneOf:
    """Return a validator that accepts only `choices`, and gives the closest choice as a hint."""
    return OneOf(choices)


def matches(pattern: str, message: str) -> validate.Regexp:
    r"""Return a validator that matches `pattern` against the whole string, including a newline at the end.

    The OpenAPI document contains the patterns of an event's fields. Write these patterns so that ECMAScript and Python
    read them alike: without `\s`, `\d`, `\w`, `.`, and inline flags.
    """
    return validate.Regexp(rf"(?:{pattern})\Z", error=message)
