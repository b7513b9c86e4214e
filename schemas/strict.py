"""What all of our schemas share: no unknown field, no coercion, errors that name the field and the rule."""

import difflib
import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema
from marshmallow.exceptions import SCHEMA

from schemas.redaction import masked
from schemas.strict_json import shown

#: Enough to mend an event by; a body of a million wrong fields gets no answer of a million lines.
MAX_ERRORS = 100
_LONGEST_HINTED_NAME = 64
_SHORTEST_HINTED_START = 3
#: How the message for a field that there is none of begins.
UNKNOWN = "Unknown field"


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that `name` was probably meant to be, if one is alike by at least `cutoff` of 1."""
    if len(name) > _LONGEST_HINTED_NAME:
        return None
    folded = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=cutoff)
    if not found and len(name) >= _SHORTEST_HINTED_START:
        found = [each for each in folded if each.startswith(name.casefold())]
    return folded[found[0]] if len(found) == 1 else None


class StrictSchema(Schema):
    """Refuses unknown fields, with the closest known name as a hint.

    Used to judge, not to convert: `validate()` says what is wrong, and what is sent on is what came in, with
    its own order, its own nulls and nothing filled in.
    """

    class Meta:
        """The check below names unknown fields itself."""

        unknown = EXCLUDE

    error_messages = {"type": "Must be a JSON object."}  # noqa: RUF012 - marshmallow's own way to say it

    #: Whether its fields' own rules are all that an object can break; what a class says holds for no subclass of it.
    is_plain: ClassVar[bool] = False

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.is_plain = cls.__dict__.get("is_plain", False)

    def validate(self, data: Any, **more: Any) -> dict[str, list[str]]:
        """What is wrong with `data`, as marshmallow says it; nothing at once, where that is plain to see."""
        return {} if self.is_right(data) else super().validate(data, **more)

    def is_right(self, value: object) -> bool:
        """Whether `value` surely breaks no rule, found in a quarter of the time that it takes to say which it breaks.

        What it isn't sure of, it says no to. The rules are those of the fields: there are no others here.
        """
        if not (self.is_plain and isinstance(value, dict)):
            return False
        for name, each in value.items():
            field = self.fields.get(name)
            if field is None or not _fits(field, each):
                return False
        return self._required <= value.keys()

    @cached_property
    def _required(self) -> frozenset[str]:
        return frozenset(name for name, field in self.fields.items() if field.required)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _no_unknown_field(self, _loaded: object, original: object, **_: object) -> None:
        if not isinstance(original, dict):
            return  # said already: it must be an object
        known = list(self.fields)
        unknown = (name for name in original if name not in self.fields)
        # A key like marshmallow's own name for an object as a whole is quoted, as any strange key is.
        wrong = {
            shown(name) if name == SCHEMA else name: [_unknown_message(name, known)]
            for name in islice(unknown, MAX_ERRORS + 1)
        }
        if wrong:
            raise ValidationError(wrong)


class UpdateSchema(StrictSchema):
    """A platform's request body: at least one field."""

    def is_right(self, value: object) -> bool:
        """As of any object; but it isn't empty."""
        return bool(value) and super().is_right(value)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _something_to_update(self, _loaded: object, original: object, **_: object) -> None:
        if original == {}:
            raise ValidationError(f"At least one field is required, of {', '.join(self.fields)}.")


def _fits(field: fields.Field[Any], value: object) -> bool:
    """Whether `value` surely breaks none of the rules of `field`."""
    if value is None:
        return field.allow_none
    if type(field) is fields.String:
        fits = isinstance(value, str)
    elif isinstance(field, StrictList):
        fits = isinstance(value, list) and field.is_right(value)
    elif isinstance(field, fields.Dict):
        fits = isinstance(value, dict) and field.key_field is None and field.value_field is None
    else:
        fits = (
            isinstance(field, fields.Nested) and isinstance(field.schema, StrictSchema) and field.schema.is_right(value)
        )
    if fits:
        try:
            for rule in field.validators:
                rule(value)
        except ValidationError:
            return False
    return fits


def _unknown_message(name: str, known: list[str]) -> str:
    hint = closest(name, known)
    return f"{UNKNOWN}; did you mean {hint}?" if hint else f"{UNKNOWN}; known are {', '.join(known)}."


def flatten(messages: Mapping[Any, Any]) -> dict[str, list[str]]:
    """Nested messages of marshmallow with dotted paths: `{"update.files.0.name": ["…"]}`."""
    pairs = list(islice(_paths(messages, ()), MAX_ERRORS + 1))
    found: dict[str, list[str]] = {}
    for path, text in pairs[:MAX_ERRORS]:
        found.setdefault(path, []).append(text)
    if len(pairs) > MAX_ERRORS:
        found["…"] = [f"Only the first {MAX_ERRORS} errors are listed."]
    return found


def _paths(messages: Mapping[Any, Any], above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key, value in messages.items():
        # marshmallow puts what is wrong with an object as a whole under this name.
        path = above if key == SCHEMA else (*above, step(key))
        # A validator's messages for parts of its value stand in a list, beside those for the whole.
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                yield from _paths(each, path)
            else:
                yield ".".join(path), str(each)


def step(key: object) -> str:
    """A key or a position, as it stands in a path."""
    text = str(key)
    # A sender's own key may be anything: only a plain one is shown as it is.
    return text if re.fullmatch(r"[\w$-]{1,64}|\"_schema\"", text, re.ASCII) else shown(str(masked(text)))


class StrictList(fields.List[Any]):
    """A list that is judged no further than a sender will read of its mistakes; of `distinct` items, if it is so."""

    def __init__(self, cls_or_instance: fields.Field[Any], *, distinct: bool = False, **kwargs: Any) -> None:
        super().__init__(cls_or_instance, **kwargs)
        self.distinct = distinct

    def is_right(self, value: list[Any]) -> bool:
        """Whether the items of `value` surely break no rule."""
        return all(_fits(self.inner, each) for each in value) and (not self.distinct or len(set(value)) == len(value))

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        wrong: dict[int, Any] = {}
        seen: set[Hashable] = set()
        for position, each in enumerate(value):
            try:
                self.inner.deserialize(each, **kwargs)
                if self.distinct and each in seen:
                    raise ValidationError("Is in the list already; items must be distinct.")
                if self.distinct:
                    seen.add(each)
            except ValidationError as error:
                wrong[position] = error.messages
                if len(wrong) > MAX_ERRORS:
                    break
        if wrong:
            raise ValidationError(wrong)
        return value


class StrictBoolean(fields.Field[bool]):
    """true or false; marshmallow's own Boolean takes "yes", "0" and 1 as well."""

    def _deserialize(self, value: object, *_: object, **__: object) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value


def string_values(value: Mapping[str, object]) -> None:
    """A validator: the values of an object are all strings."""
    wrong = {name: ["Not a valid string."] for name, each in value.items() if not isinstance(each, str)}
    if wrong:
        raise ValidationError(wrong)


class OneOf(validate.OneOf):
    """A validator: one of the choices, with the closest as a hint."""

    def __call__(self, value: str) -> str:
        """`value`. Raises ValidationError."""
        if value not in self.choices:
            hint = closest(value, self.choices)
            listed = ", ".join(self.choices)
            raise ValidationError(f"Must be one of: {listed}{f'; did you mean {hint}?' if hint else '.'}")
        return value


def one_of(choices: Collection[str]) -> OneOf:
    """A validator: one of `choices`, with the closest as a hint."""
    return OneOf(choices)


def matches(pattern: str, rule: str) -> validate.Regexp:
    r"""A validator: the whole string matches `pattern`, a final line end included (unlike with `$`).

    The OpenAPI document has the patterns of an event's fields: those are written so that ECMAScript reads them as
    Python does, without `\s`, `\d`, `\w`, `.` and inline flags.
    """
    return validate.Regexp(rf"(?:{pattern})\Z", error=rule)
