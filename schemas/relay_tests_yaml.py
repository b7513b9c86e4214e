"""The format of relay.tests.yaml, which has the tests of the hooks in relay.yaml.

    tests:
      - name: a successful run names the dataset
        hook: publish-scrape
        payload: samples/apify.json                    # a file, relative to this file; or the payload itself
        headers: {X-Apify-Webhook-Dispatch-Id: d-1}    # optional
        expect:
          updates:
            - provider: apify
              dataset: kVxQb3TnWkzbQMuFY
              update: {name: products-2026-11-22}
      - name: a failed run changes nothing
        hook: publish-scrape
        payload: {eventType: ACTOR.RUN.FAILED}
        expect: ignored
      - name: a run without a dataset fails
        hook: publish-scrape
        payload: {eventType: ACTOR.RUN.SUCCEEDED, resource: {}}
        expect: {error: updates.0.dataset}             # the path, or a list of all paths

The schemas declare the shape of the file. `handlers.hooks.tests` checks the rest: hooks, payloads, and credentials.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate

from schemas.base import CONTROL_CHARACTER, HEADER_NAME, StrictSchema, matches, unknown_field_message

#: The expectation of a test whose hook ignores the event.
IGNORED = "ignored"


class ExpectedUpdateSchema(StrictSchema):
    """One update that a hook derives from a payload. The text "[redacted]" stands for a credential."""

    provider = fields.String(required=True)
    dataset = fields.String(required=True)
    update = fields.Dict(required=True, metadata={"description": "The body of the provider's request."})


class ExpectedUpdatesSchema(StrictSchema):
    """The expectation of a test whose hook derives updates."""

    updates = fields.List(
        fields.Nested(ExpectedUpdateSchema),
        required=True,
        validate=validate.Length(min=1, error=f"Must have at least one update. For none, write: expect: {IGNORED}."),
    )


class ErrorPaths(fields.Field[Any]):
    """A field with the path of an error, such as `updates.0.update.name`, or a list of paths."""

    def _deserialize(self, value: object, *_: object, **__: object) -> object:
        paths = value if isinstance(value, list) else [value]
        if not paths or not all(isinstance(path, str) for path in paths):
            raise ValidationError("Must be the path of an error, such as updates.0.update.name, or a list of paths.")
        return value


class ExpectedErrorSchema(StrictSchema):
    """The expectation of a test whose hook fails on the payload."""

    error = ErrorPaths(required=True)


class Expectation(fields.Field[Any]):
    """A field with the expected result of a hook, in one of three forms."""

    def _deserialize(self, value: object, *_: object, **__: object) -> object:
        if value == IGNORED:
            return value
        if isinstance(value, Mapping):
            keys = ["updates", "error"]
            if len(value) == 1 and "error" in value:
                return ExpectedErrorSchema().load(value)
            if len(value) == 1 and "updates" in value:
                return ExpectedUpdatesSchema().load(value)
            for name in value:
                if name not in keys:
                    raise ValidationError({name: [unknown_field_message(name, keys)]})
        raise ValidationError(f"Must be the word `{IGNORED}`, or an object with `updates` or `error`.")


def _check_headers(headers: Mapping[str, object]) -> None:
    """Check the names and the values of the headers of a request.

    Raises:
        ValidationError: The server rejects or ignores a header.
    """
    errors: dict[str, list[str]] = {}
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name):
            errors[name] = ["Must be the name of a header. The server ignores a name that contains an underscore."]
        elif not isinstance(value, str):
            errors[name] = ["Must be a string."]
        elif CONTROL_CHARACTER.search(value):
            errors[name] = ["Must be one line of text."]
    if errors:
        raise ValidationError(errors)


class HookTestSchema(StrictSchema):
    """One test of a hook."""

    name = fields.String(required=True, validate=matches(r"[^\x00-\x1f\x7f]+", "Must be one line of text."))
    hook = fields.String(required=True)
    payload = fields.Raw(
        required=True,
        allow_none=True,
        metadata={"description": "The path of a JSON file, relative to this file, or the payload itself."},
    )
    headers = fields.Dict(validate=_check_headers, metadata={"description": "The headers of the request."})
    expect = Expectation(metadata={"description": f"The expected result: {IGNORED}, updates, or error."})


class RelayTestsYamlSchema(StrictSchema):
    """The whole file."""

    error_messages = {"type": "Must be an object with tests."}  # noqa: RUF012 - marshmallow's own declaration

    tests = fields.List(fields.Nested(HookTestSchema), allow_none=True)
