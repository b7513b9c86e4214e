"""The settings of the function: environment variables, which the function reads once, at startup.

No error repeats a value, because the value may be a secret.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema

from schemas.base import closest, flatten, matches, one_of
from schemas.problem import Errors
from schemas.pubsub import ACCOUNT, AUDIENCE, TOPIC, PushIdentity
from schemas.secret_reference import LOCATION, PROJECT, ReferenceParser, SecretReference

#: The certificates that sign Google's ID tokens, as PEM by key ID.
GOOGLE_CERTIFICATES = "https://www.googleapis.com/oauth2/v1/certs"

# In bytes. Pub/Sub accepts requests of up to 10 MB, in which the data is not encoded:
# https://cloud.google.com/pubsub/quotas#resource_limits
_MAX_QUEUED_BODY_BYTES = 7_000_000

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """The settings of one provider. `base_url` has no trailing slash."""

    base_url: str
    token: SecretReference | None


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The settings of the queue. `topics` has the topic of each provider. Times are in seconds."""

    topics: Mapping[str, str]
    dead_letter_topic: str
    #: The identity that a push to POST /deliveries must have.
    identity: PushIdentity
    park_after_seconds: float
    delivery_deadline_seconds: float
    #: The region of the Pub/Sub endpoint, or None for the region of the instance.
    region: str | None
    #: The host and port of a local Pub/Sub server, or None for the real Pub/Sub.
    emulator: str | None


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Times are in seconds, and sizes are in bytes."""

    providers: Mapping[str, ProviderSettings]
    secrets: tuple[SecretReference, ...]
    allow_unauthenticated: bool
    deadline_seconds: float
    max_body_bytes: int
    provider_concurrency: int
    secret_ttl_seconds: float
    log_level: str
    threads: int
    project: str | None
    secret_manager_emulator: str | None
    #: The path of the file with the hooks, or None for the default path.
    config: str | None
    #: The URL of the certificates that sign Google's ID tokens.
    push_certs_url: str = GOOGLE_CERTIFICATES
    #: The settings of the queue, or None if the function has no queue.
    queue: QueueSettings | None = None


class SettingsError(Exception):
    """The settings are invalid. `errors` has the messages by variable."""

    def __init__(self, errors: Errors) -> None:
        self.errors = errors
        lines = [f"  {name}: {' '.join(messages)}" for name, messages in errors.items()]
        super().__init__("dataset-relay can't start. Correct these settings:\n" + "\n".join(lines))


def read_settings(
    environ: Mapping[str, str],
    default_base_urls: Mapping[str, str],
    references: ReferenceParser,
    *,
    default_threads: int,
) -> tuple[Settings, list[str]]:
    """Return the settings in `environ`, and warnings about the settings.

    `default_base_urls` has an entry for each provider. An empty variable counts as unset. `default_threads` is the
    number of the server's threads without THREADS.

    Raises:
        SettingsError: A setting is invalid. The error lists every invalid setting.
    """
    schema = _schema(default_base_urls)(references)
    variables = {name: value.strip() for name, value in environ.items() if value.strip()}
    try:
        loaded: dict[str, Any] = schema.load(variables)
    except ValidationError as error:
        raise SettingsError(flatten(error.messages_dict)) from None
    threads = loaded["THREADS"] or default_threads
    settings = Settings(
        providers={
            name: ProviderSettings(
                base_url=loaded[provider_variable(name, "BASE_URL")], token=loaded[provider_variable(name, "TOKEN")]
            )
            for name in default_base_urls
        },
        secrets=loaded["RELAY_SECRET"],
        allow_unauthenticated=loaded["RELAY_ALLOW_UNAUTHENTICATED"],
        deadline_seconds=loaded["RELAY_DEADLINE_SECONDS"],
        max_body_bytes=loaded["RELAY_MAX_BODY_BYTES"],
        provider_concurrency=loaded["RELAY_PROVIDER_CONCURRENCY"] or max(1, threads * 3 // 4),
        secret_ttl_seconds=loaded["RELAY_SECRET_TTL_SECONDS"],
        log_level=loaded["LOG_LEVEL"],
        threads=threads,
        project=loaded["GOOGLE_CLOUD_PROJECT"],
        secret_manager_emulator=loaded["SECRET_MANAGER_EMULATOR_HOST"],
        config=loaded["RELAY_CONFIG"],
        push_certs_url=loaded["RELAY_PUSH_CERTS_URL"],
        queue=_queue_settings(loaded, default_base_urls),
    )
    return settings, [*_unknown_variables(variables, list(schema.fields)), *_warnings(settings)]


def _queue_settings(loaded: Mapping[str, Any], providers: Iterable[str]) -> QueueSettings | None:
    """Return the settings of the queue, whose variables the schema has checked, or None without a queue."""
    if loaded["RELAY_DEAD_LETTER_TOPIC"] is None:
        return None
    topics = {name: loaded[provider_variable(name, "TOPIC")] for name in providers}
    return QueueSettings(
        topics={name: topic for name, topic in topics.items() if topic},
        dead_letter_topic=loaded["RELAY_DEAD_LETTER_TOPIC"],
        identity=PushIdentity(loaded["RELAY_PUSH_AUDIENCE"], loaded["RELAY_PUSH_ACCOUNT"]),
        park_after_seconds=loaded["RELAY_PARK_AFTER_SECONDS"],
        delivery_deadline_seconds=loaded["RELAY_DELIVERY_DEADLINE_SECONDS"],
        region=loaded["RELAY_REGION"],
        emulator=loaded["PUBSUB_EMULATOR_HOST"],
    )


def provider_variable(provider: str, name: str) -> str:
    """Return the name of a provider's own variable, such as `DATA_WORLD_TOKEN` for `("data.world", "TOKEN")`."""
    return f"{provider.upper().replace('.', '_')}_{name}"


def is_loopback(host: str) -> bool:
    """Return True if `host`, a name or an address without brackets, is a loopback host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _number(
    kind: type[fields.Integer] | type[fields.Float], rule: str, limits: validate.Range, load_default: float | None
) -> fields.Field[Any]:
    """Return a field for a number. `rule` is the message for every mistake."""
    limits.error = rule
    messages: dict[str, Any] = dict.fromkeys(("invalid", "special", "too_large"), rule)
    return kind(validate=limits, error_messages=messages, load_default=load_default)


def _count() -> fields.Field[Any]:
    return _number(fields.Integer, "Must be a whole number, 1 or more.", validate.Range(min=1), load_default=None)


class _Switch(fields.Field[bool]):
    """A field for true or false, in uppercase or lowercase."""

    def _deserialize(self, value: str, *_: object, **__: object) -> bool:
        if value.lower() not in ("true", "false"):
            raise ValidationError("Must be true or false.")
        return value.lower() == "true"


class _LogLevel(fields.Field[str]):
    """A field for one of LOG_LEVELS, in uppercase or lowercase."""

    def _deserialize(self, value: str, *_: object, **__: object) -> str:
        return one_of(LOG_LEVELS)(value.upper())


class _BaseURL(fields.Field[str]):
    """A field for an https URL, or an http URL of a loopback host, without userinfo, query, and fragment.

    The scheme and the host of the loaded URL are lowercase (RFC 3986, 6.2.2.1).
    """

    RULE: ClassVar[str] = "Must be an https URL, or an http URL of a loopback host, without user, query, and fragment."

    def _deserialize(self, value: str, *_: object, **__: object) -> str:
        try:
            parts = urlsplit(value)
            host, _port = parts.hostname, parts.port
        except ValueError:
            raise ValidationError(self.RULE) from None
        is_plain = re.fullmatch(r"[\x21-\x7e]+", value) and not set("@\\?#") & set(value)
        is_secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host or ""))
        if not (is_plain and host and is_secure):
            raise ValidationError(self.RULE)
        return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}".rstrip("/")


class _LoopbackAddress(fields.Field[str]):
    """A field for host:port with a loopback host. The connection to an emulator isn't encrypted."""

    def _deserialize(self, value: str, *_: object, **__: object) -> str:
        try:
            parts = urlsplit(f"//{value}")
            is_address = parts.netloc == value and parts.username is None and parts.port is not None
        except ValueError:
            is_address = False
        if not (is_address and is_loopback(parts.hostname or "")):
            raise ValidationError("Must be host:port with a loopback host, such as 127.0.0.1:9090.")
        return value


class _Reference(fields.Field[SecretReference]):
    """A field for a secret reference, which the parser of the schema parses."""

    def _deserialize(self, value: str, attr: str | None, *_: object, **__: object) -> SecretReference:
        assert isinstance(self.root, SettingsSchema)
        return self.root.references.parse(value, attr or "")


class _References(fields.Field[tuple[SecretReference, ...]]):
    """A field for secret references that are separated by commas."""

    def _deserialize(self, value: str, attr: str | None, *_: object, **__: object) -> tuple[SecretReference, ...]:
        assert isinstance(self.root, SettingsSchema)
        return self.root.references.parse_comma_separated(value, attr or "")


def _topic() -> fields.Field[Any]:
    return fields.String(load_default=None, validate=TOPIC)


class SettingsSchema(Schema):
    """The environment variables. `_schema` adds the variables of each provider."""

    class Meta:
        """Ignore the variables of other programs."""

        unknown = EXCLUDE

    RELAY_SECRET = _References(load_default=())
    RELAY_CONFIG = fields.String(load_default=None)
    RELAY_DEADLINE_SECONDS = _number(
        fields.Float,
        "Must be a number of seconds above 0, up to 3600.",
        validate.Range(0, 3600, min_inclusive=False),
        load_default=9.0,
    )
    RELAY_MAX_BODY_BYTES = _number(
        fields.Integer,
        "Must be a whole number of bytes, from 1 to 104857600.",
        validate.Range(1, 104_857_600),
        load_default=1_048_576,
    )
    RELAY_PROVIDER_CONCURRENCY = _count()
    RELAY_SECRET_TTL_SECONDS = _number(
        fields.Float, "Must be a number of seconds, 0 or more.", validate.Range(min=0), load_default=300.0
    )
    RELAY_ALLOW_UNAUTHENTICATED = _Switch(load_default=False)
    RELAY_DEAD_LETTER_TOPIC = _topic()
    RELAY_PUSH_AUDIENCE = fields.String(load_default=None, validate=AUDIENCE)
    RELAY_PUSH_ACCOUNT = fields.String(load_default=None, validate=ACCOUNT)
    RELAY_PUSH_CERTS_URL = _BaseURL(load_default=GOOGLE_CERTIFICATES)
    #: A subscription keeps a message for seven days: https://cloud.google.com/pubsub/docs/subscription-properties
    RELAY_PARK_AFTER_SECONDS = _number(
        fields.Float,
        "Must be a number of seconds, from 0 to 604800.",
        validate.Range(0, 604_800),
        load_default=86_400.0,
    )
    #: The acknowledgment deadline of the subscription is 20 s longer, and at most 600 s.
    RELAY_DELIVERY_DEADLINE_SECONDS = _number(
        fields.Float,
        "Must be a number of seconds above 0, up to 580.",
        validate.Range(0, 580, min_inclusive=False),
        load_default=100.0,
    )
    RELAY_REGION = fields.String(
        load_default=None, validate=matches(LOCATION, "Must be a region of Google Cloud, such as europe-west1.")
    )
    LOG_LEVEL = _LogLevel(load_default="INFO")
    GOOGLE_CLOUD_PROJECT = fields.String(
        load_default=None, validate=matches(PROJECT, "Must be the ID of a Google Cloud project.")
    )
    SECRET_MANAGER_EMULATOR_HOST = _LoopbackAddress(load_default=None)
    PUBSUB_EMULATOR_HOST = _LoopbackAddress(load_default=None)
    #: The server reads the next two variables itself, and fails on an invalid value with a traceback.
    THREADS = _count()
    WORKERS = _count()
    #: Cloud Run sets this variable: https://docs.cloud.google.com/run/docs/container-contract#services-env-vars
    K_SERVICE = fields.String(load_default=None)

    def __init__(self, references: ReferenceParser) -> None:
        super().__init__()
        self.references = references

    @validates_schema
    def _require_all_settings_of_the_queue(self, loaded: Mapping[str, Any], **_: object) -> None:
        tokens = {name.removesuffix("TOKEN") + "TOPIC": name for name in self.fields if name.endswith("_TOKEN")}
        names = ["RELAY_DEAD_LETTER_TOPIC", "RELAY_PUSH_AUDIENCE", "RELAY_PUSH_ACCOUNT"]
        present = [name for name in (*tokens, *names) if loaded[name] is not None]
        if not present:
            return
        required = [*(topic for topic, token in tokens.items() if loaded[token]), *names]
        errors = {
            name: [f"Must be set, because {present[0]} is set: the queue needs all of its settings."]
            for name in required
            if loaded[name] is None
        }
        if not any(loaded[topic] for topic in tokens):
            message = "Must be set, or the topic of another provider: the queue needs a topic."
            errors.setdefault(next(iter(tokens)), [message])
        if loaded["RELAY_MAX_BODY_BYTES"] > _MAX_QUEUED_BODY_BYTES:
            errors["RELAY_MAX_BODY_BYTES"] = [
                f"Must be at most {_MAX_QUEUED_BODY_BYTES} with the queue, because Pub/Sub limits a message to 10 MB."
            ]
        if errors:
            raise ValidationError(errors)

    @validates_schema(skip_on_field_errors=False)
    def _require_authentication_on_cloud_run(self, loaded: Mapping[str, Any], **_: object) -> None:
        if loaded.get("RELAY_ALLOW_UNAUTHENTICATED") and loaded.get("K_SERVICE"):
            raise ValidationError(
                "Must not be true on Cloud Run (K_SERVICE is set): anyone could update your datasets.",
                "RELAY_ALLOW_UNAUTHENTICATED",
            )


def _schema(default_base_urls: Mapping[str, str]) -> type[SettingsSchema]:
    """Return SettingsSchema with the variables of each provider."""
    declared: dict[str, fields.Field[Any]] = {}
    for provider, base_url in default_base_urls.items():
        declared[provider_variable(provider, "BASE_URL")] = _BaseURL(load_default=base_url)
        declared[provider_variable(provider, "TOKEN")] = _Reference(load_default=None)
        declared[provider_variable(provider, "TOPIC")] = _topic()
    return SettingsSchema.from_dict(declared)  # type: ignore[return-value]


def _unknown_variables(variables: Mapping[str, str], known: list[str]) -> list[str]:
    """Return a warning for each variable that looks like a misspelled setting."""
    warnings = []
    for name in variables:
        if name.startswith("RELAY_") and name not in known:
            hint = closest(name, known, cutoff=0.7)
            warnings.append(f"{name} is not a setting of this function{f'; did you mean {hint}?' if hint else '.'}")
    return warnings


def _warnings(settings: Settings) -> list[str]:
    warnings = []
    if settings.allow_unauthenticated:
        warnings.append(
            "RELAY_ALLOW_UNAUTHENTICATED is true: anyone who can reach this function can update your datasets."
        )
    elif not settings.secrets:
        warnings.append("RELAY_SECRET isn't set: POST / returns 401 for every request.")
    for name in settings.queue.topics if settings.queue else ():
        if not settings.providers[name].token:
            topic, token = provider_variable(name, "TOPIC"), provider_variable(name, "TOKEN")
            warnings.append(f"{topic} is set, but {token} isn't: only hooks with a token of their own use the topic.")
    if settings.provider_concurrency >= settings.threads:
        warnings.append(
            f"RELAY_PROVIDER_CONCURRENCY is {settings.provider_concurrency}, and THREADS is {settings.threads}: "
            "calls to a provider that hangs can occupy every thread, and then the function serves no other request. "
            "Set THREADS to a larger number."
        )
    return warnings
