"""The format of relay.yaml.

    events:                                    # optional
      allow: ["apify:jane~*"]
    hooks:
      publish-scrape:
        sender: apify
        secret: publish-scrape-secret
        when: event.eventType == "ACTOR.RUN.SUCCEEDED"     # optional
        updates:
          - provider: apify
            dataset: "{{ event.resource.defaultDatasetId }}"
            token: other-apify-token           # optional
            when: event.resource.defaultDatasetId is defined   # optional
            update: {name: "products-{{ event.resource.finishedAt[:10] }}"}

The schemas declare the shape of the file. `handlers.hooks.loader` checks the rest: senders, providers, secret
references, templates, and the literal parts of an update.
"""

from typing import Any

from marshmallow import fields, validate

from schemas.base import HEADER_NAME, REQUIRED, StrictBoolean, StrictSchema, matches, one_of
from schemas.pubsub import ACCOUNT, AUDIENCE

#: The sender that authenticates with an ID token of Google in place of a secret.
GOOGLE = "google"

#: The hash functions and the encodings of a custom sender's signature.
HASHES = ("sha256", "sha1", "sha512")
ENCODINGS = ("hex", "base64")


def _condition(description: str) -> fields.String:
    return fields.String(
        error_messages={"invalid": "Must be a string: an expression, without braces."},
        metadata={"description": f"A Jinja2 expression without braces. {description}"},
    )


class EventsSchema(StrictSchema):
    """The limits on native events, at POST /."""

    allow = fields.List(
        fields.String(
            validate=matches(r"[^:]*:[A-Za-z0-9_.~/*-]+", "Must be provider:dataset. '*' stands for any text.")
        ),
        required=True,
        metadata={"description": "The datasets that native events can update."},
    )


class HookUpdateSchema(StrictSchema):
    """One update of a hook. The strings of `dataset` and `update` can be templates."""

    provider = fields.String(required=True)
    dataset = fields.Raw(required=True)
    update = fields.Raw(required=True, metadata={"description": "The body of the provider's request."})
    token = fields.String(metadata={"description": "The secret reference of a token, instead of the provider's own."})
    when = _condition("The hook leaves out this update for an event for which the expression is false.")


class CustomSenderSchema(StrictSchema):
    """A sender that isn't in the table of senders. With `hmac`, a header has a signature of the body."""

    header = fields.String(
        required=True,
        validate=matches(HEADER_NAME.pattern, "Must be the name of a header, without '_'."),
        metadata={"description": "The name of the header with the signature of the body, or with the secret itself."},
    )
    hmac = fields.String(validate=one_of(HASHES), metadata={"description": "The hash function of the signature."})
    prefix = fields.String(metadata={"description": "The text before the signature in the header, such as v0=."})
    encoding = fields.String(validate=one_of(ENCODINGS), metadata={"description": "The encoding of the signature."})

    def _object_errors(self, value: dict[str, Any]) -> dict[str, list[str]]:
        needs_signature = [name for name in ("prefix", "encoding") if name in value and "hmac" not in value]
        return super()._object_errors(value) | {
            name: ["Needs hmac. Without hmac, the header holds the secret itself."] for name in needs_signature
        }


class HookSchema(StrictSchema):
    """One hook, at POST /hooks/NAME."""

    sender = fields.Raw(
        required=True, metadata={"description": "The name of a sender, or the header of another sender."}
    )
    secret = fields.Raw(metadata={"description": "A secret reference, or a list of them."})
    audience = fields.String(
        validate=AUDIENCE, metadata={"description": "The audience of the ID token, for the sender google."}
    )
    account = fields.String(
        validate=ACCOUNT, metadata={"description": "The service account of the ID token, for the sender google."}
    )
    wait = StrictBoolean(metadata={"description": "True to make the updates before the response, without the queue."})
    when = _condition("The hook ignores an event for which the expression is false.")
    updates = fields.List(
        fields.Nested(HookUpdateSchema),
        required=True,
        validate=validate.Length(min=1, error="Must have at least one update."),
    )

    def _object_errors(self, value: dict[str, Any]) -> dict[str, list[str]]:
        is_google = value.get("sender") == GOOGLE
        identity = ("audience", "account")
        required, other = (identity, ("secret",)) if is_google else (("secret",), identity)
        reason = "authenticates with an ID token: give its audience and account." if is_google else "needs a secret."
        return {
            **super()._object_errors(value),
            **{name: [REQUIRED] for name in required if name not in value},
            **{name: [f"Must be absent. The sender {reason}"] for name in other if name in value},
        }


class RelayYamlSchema(StrictSchema):
    """The whole file. Both parts are optional."""

    error_messages = {"type": "Must be an object with events and hooks."}  # noqa: RUF012 - marshmallow's own declaration

    events = fields.Nested(EventsSchema)
    hooks = fields.Dict(
        keys=fields.String(
            validate=matches(
                r"[a-z0-9][a-z0-9-]{0,62}",
                "The name must have 1 to 63 characters from a-z, 0-9, and '-', and must not begin with '-'.",
            )
        ),
        values=fields.Nested(HookSchema),
        allow_none=True,
        error_messages={"invalid": "Must be an object with a hook for each name."},
    )
