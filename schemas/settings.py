"""The function's settings, read from environment variables: once, all mistakes at once, no value repeated."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from schemas.reference import PROJECT, Reference, References, SecretReference
from schemas.strict import closest, flatten, matches, one_of

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class ProviderSettings(NamedTuple):
    """A provider's address, without a final slash, and where its token is, if it has one."""

    base_url: str
    token: SecretReference | None


class Settings(NamedTuple):
    """All settings. Times in seconds, sizes in bytes."""

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
    #: The file with the hooks, where it is named.
    config: str | None


class SettingsError(Exception):
    """The settings can't be used; `errors` has each wrong variable with what was expected."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        self.errors = errors
        lines = [f"  {name}: {' '.join(messages)}" for name, messages in errors.items()]
        super().__init__(f"dataset-relay can't start, {len(lines)} wrong:\n" + "\n".join(lines))


def read_settings(
    environ: Mapping[str, str],
    default_base_urls: Mapping[str, str],
    *,
    default_threads: int,
    elsewhere: bool = False,
) -> tuple[Settings, list[str]]:
    """The settings in `environ`, and warnings about it.

    `default_base_urls` is of every provider. An empty variable is one that isn't set. With `elsewhere` the function
    will run in another environment: what references name needn't be set in this one. Raises SettingsError.
    """
    schema = _schema(environ, default_base_urls, default_threads, None if elsewhere else environ)
    given = {name: value for name, value in environ.items() if value.strip()}
    try:
        loaded: dict[str, Any] = schema.load(given)
    except ValidationError as error:
        raise SettingsError(flatten(error.messages_dict)) from None
    threads = loaded["THREADS"]
    share = loaded["RELAY_PROVIDER_CONCURRENCY"] or max(1, threads * 3 // 4)
    warnings = _warnings(loaded, given, list(schema.fields))
    if share >= threads:
        warnings.append(
            f"THREADS is {threads}, and {share} calls to one platform may be under way (RELAY_PROVIDER_CONCURRENCY): "
            "one that hangs takes every thread, and nothing else is served meanwhile. THREADS should be the larger."
        )
    settings = Settings(
        providers={
            name: ProviderSettings(base_url=loaded[variable(name, "BASE_URL")], token=loaded[variable(name, "TOKEN")])
            for name in default_base_urls
        },
        secrets=loaded["RELAY_SECRET"],
        allow_unauthenticated=loaded["RELAY_ALLOW_UNAUTHENTICATED"],
        deadline_seconds=loaded["RELAY_DEADLINE_SECONDS"],
        max_body_bytes=loaded["RELAY_MAX_BODY_BYTES"],
        provider_concurrency=share,
        secret_ttl_seconds=loaded["RELAY_SECRET_TTL_SECONDS"],
        log_level=loaded["LOG_LEVEL"],
        threads=threads,
        project=loaded["GOOGLE_CLOUD_PROJECT"],
        secret_manager_emulator=loaded["SECRET_MANAGER_EMULATOR_HOST"],
        config=loaded["RELAY_CONFIG"] and loaded["RELAY_CONFIG"].strip(),
    )
    return settings, warnings


def variable(provider: str, name: str) -> str:
    """A provider's own variable: `variable("data.world", "TOKEN")` is `DATA_WORLD_TOKEN`."""
    return f"{provider.upper().replace('.', '_')}_{name}"


def _schema(
    environ: Mapping[str, str],
    base_urls: Mapping[str, str],
    default_threads: int,
    referred: Mapping[str, str] | None,
) -> Schema:
    declared: dict[str, fields.Field[Any]] = {
        "RELAY_SECRET": References(referred, load_default=()),
        "RELAY_CONFIG": fields.String(load_default=None),
        "RELAY_DEADLINE_SECONDS": _number(
            fields.Float,
            "a number of seconds above 0, up to 3600",
            validate.Range(0, 3600, min_inclusive=False),
            load_default=9.0,
        ),
        "RELAY_MAX_BODY_BYTES": _number(
            fields.Integer,
            "a whole number of bytes, from 1 to 104857600",
            validate.Range(1, 104_857_600),
            load_default=1_048_576,
        ),
        "RELAY_PROVIDER_CONCURRENCY": _count(default=None),
        "RELAY_SECRET_TTL_SECONDS": _number(
            fields.Float,
            "a number of seconds, 0 or more",
            validate.Range(min=0),
            load_default=300.0,
        ),
        "THREADS": _count(default=default_threads),
        # Not ours, but a traceback of the server's is no answer to a mistake.
        "WORKERS": _count(default=1),
        "RELAY_ALLOW_UNAUTHENTICATED": AllowUnauthenticated(environ, load_default=False),
        "LOG_LEVEL": LogLevel(load_default="INFO"),
        "GOOGLE_CLOUD_PROJECT": fields.String(
            load_default=None,
            validate=matches(PROJECT, "Must be the id of a Google Cloud project."),
        ),
        "SECRET_MANAGER_EMULATOR_HOST": LoopbackAddress(load_default=None),
    }
    for name, default in base_urls.items():
        declared[variable(name, "BASE_URL")] = BaseURL(load_default=default)
        declared[variable(name, "TOKEN")] = Reference(referred, load_default=None)
    return Schema.from_dict(declared, name="SettingsSchema")(unknown=EXCLUDE)


def _count(default: int | None) -> fields.Field[Any]:
    return _number(fields.Integer, "a whole number, 1 or more", validate.Range(min=1), load_default=default)


def _number(
    kind: type[fields.Integer] | type[fields.Float], rule: str, limits: validate.Range, **kwargs: Any
) -> fields.Field[Any]:
    """A number whose every mistake is told as one rule: `Must be …`."""
    message = f"Must be {rule}."
    limits.error = message
    messages: dict[str, Any] = dict.fromkeys(("invalid", "special", "too_large"), message)
    return kind(validate=limits, error_messages=messages, **kwargs)


def _warnings(loaded: Mapping[str, Any], given: Mapping[str, str], known: list[str]) -> list[str]:
    found = []
    for name in given:
        if name.startswith("RELAY_") and name not in known:
            hint = closest(name, known, cutoff=0.7)
            found.append(f"{name} is not a setting of this function{f'; did you mean {hint}?' if hint else '.'}")
    if loaded["RELAY_ALLOW_UNAUTHENTICATED"]:
        found.append("RELAY_ALLOW_UNAUTHENTICATED is true: whoever reaches this function can update your datasets.")
    elif not loaded["RELAY_SECRET"]:
        found.append("RELAY_SECRET isn't set: POST / answers 401 to everybody.")
    return found


class AllowUnauthenticated(fields.Field[bool]):
    """true or false, and never true on Cloud Run, which sets K_SERVICE."""

    def __init__(self, environ: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._environ = environ

    def _deserialize(self, value: str, *_: object, **__: object) -> bool:
        text = value.strip().lower()
        if text not in ("true", "false"):
            raise ValidationError("Must be true or false.")
        if text == "true" and "K_SERVICE" in self._environ:
            raise ValidationError(
                "Must not be true on Cloud Run (K_SERVICE is set): anybody could update your datasets."
            )
        return text == "true"


class LogLevel(fields.Field[str]):
    """One of LOG_LEVELS, in either case."""

    def _deserialize(self, value: str, *_: object, **__: object) -> str:
        text = value.strip().upper()
        one_of(LOG_LEVELS)(text)
        return text


class BaseURL(fields.Field[str]):
    """https, or http on a loopback host; no user, query or fragment."""

    _rule = "Must be an https URL, or http on a loopback host, without user, query or fragment."

    def _deserialize(self, value: str, *_: object, **__: object) -> str:
        text = value.strip()
        try:
            parts = urlsplit(text)
            host, _port = parts.hostname, parts.port
        except ValueError:
            raise ValidationError(self._rule) from None
        plain = re.fullmatch(r"[\x21-\x7e]+", text) and not set("@\\?#") & set(text)
        secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host or ""))
        if not (plain and host and secure):
            raise ValidationError(self._rule)
        return text.rstrip("/")


class LoopbackAddress(fields.Field[str]):
    """host:port on this machine: what is said there isn't encrypted."""

    def _deserialize(self, value: str, *_: object, **__: object) -> str:
        text = value.strip()
        try:
            parts = urlsplit(f"//{text}")
            usable = (
                parts.port is not None
                and parts.netloc == text
                and parts.username is None
                and is_loopback(parts.hostname or "")
            )
        except ValueError:
            usable = False
        if not usable:
            raise ValidationError("Must be host:port with a loopback host, as 127.0.0.1:9090.")
        return text


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without brackets, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
