"""Secret references: where a secret is, in Secret Manager, a variable or a file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from marshmallow import ValidationError, fields

#: A project's id may carry a domain ("example.com:project"); a project number is taken too.
PROJECT = r"[a-z0-9][a-z0-9.:-]*"
# https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/create
_NAME = r"[A-Za-z0-9_-]{1,255}"
_VERSION = r"[A-Za-z0-9_-]{1,63}"
_FULL_NAME = re.compile(rf"projects/{PROJECT}/secrets/{_NAME}(?P<version>/versions/{_VERSION})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What is itself a secret: Apify's tokens, JSON Web Tokens (data.world's tokens are such), Standard Webhooks secrets,
# GitHub's, GitLab's and dbt's tokens, and what `openssl rand -hex` makes.
_SECRETS = re.compile(
    r"apify_api_|whsec_|eyJ[A-Za-z0-9_-]*\.|gh[pousr]_|github_pat_|glpat-|dbt[uc]_|[0-9a-fA-F]{32,}\Z"
)


# Stands for the project that isn't known.
_SOME_PROJECT = "some-project"
_FORMS = "projects/P/secrets/NAME, with /versions/V or without, a bare NAME, env:VARIABLE or file:/path"
_TOKEN = f"Looks like a token or secret itself; give a reference to it: {_FORMS}."
_INVALID = f"Must be a secret reference: {_FORMS}."
_VARIABLE_UNSET = "Names an environment variable that isn't set."
_PATH = "Must name a file by its absolute path: file:/path."
_PROJECT = (
    "Is the bare name of a secret, which needs GOOGLE_CLOUD_PROJECT; is it the secret itself? Then give env:VARIABLE."
)


@dataclass(frozen=True)
class SecretReference:
    """Where a secret is; never the secret. `name` is a version's resource name, a variable or a path.

    `label` says in which setting the reference stands. Problems and logs name a secret by that: what somebody took
    for a reference may have been the secret.
    """

    kind: Literal["manager", "env", "file"]
    name: str
    label: str = field(default="a secret", compare=False)

    def __str__(self) -> str:
        return self.name if self.kind == "manager" else f"{self.kind}:{self.name}"


class Reference(fields.Field[SecretReference]):
    """A secret reference. No message repeats the value: it may be the secret itself, put in the wrong place.

    Without an `environ`, where the function will run isn't known: only the form is looked at.
    """

    def __init__(self, environ: Mapping[str, str] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._environ = {"GOOGLE_CLOUD_PROJECT": _SOME_PROJECT} if environ is None else environ
        self._look = environ is not None

    def _deserialize(self, value: Any, *_: object, **__: object) -> SecretReference:
        return self._read(value, self.name or "")

    def _read(self, value: Any, label: str) -> SecretReference:
        if not isinstance(value, str):
            raise ValidationError(_INVALID)
        text = value.strip()
        kind, colon, name = text.partition(":")
        if colon and kind == "env":
            if not _VARIABLE.fullmatch(name):
                raise ValidationError(_INVALID)
            if self._look and not self._environ.get(name, "").strip():
                raise ValidationError(_VARIABLE_UNSET)
            return SecretReference("env", name, label)
        if colon and kind == "file":
            if not name.startswith("/") or "\0" in name:
                raise ValidationError(_PATH)
            return SecretReference("file", name, label)
        if _SECRETS.match(text):
            raise ValidationError(_TOKEN)
        if found := _FULL_NAME.fullmatch(text):
            return SecretReference("manager", text if found["version"] else f"{text}/versions/latest", label)
        if not re.fullmatch(_NAME, text):
            raise ValidationError(_INVALID)
        project = self._environ.get("GOOGLE_CLOUD_PROJECT", "").strip()
        if not project:
            raise ValidationError(_PROJECT)
        return SecretReference("manager", f"projects/{project}/secrets/{text}/versions/latest", label)


class References(Reference):
    """Secret references, comma-separated, each accepted as a proof."""

    def _deserialize(self, value: Any, *_: object, **__: object) -> Any:
        return self._read_all(value.split(","))

    def _read_all(self, parts: Sequence[object]) -> tuple[SecretReference, ...]:
        found, wrong = [], []
        for position, part in enumerate(parts, start=1):
            which = f"{position} of {len(parts)}"
            try:
                found.append(self._read(part, f"{self.name} ({which})"))
            except ValidationError as error:
                wrong.append(f"{which}: {error.messages[0]}")
        if wrong:
            raise ValidationError(wrong)
        return tuple(dict.fromkeys(found))


class ReferenceList(References):
    """A secret reference, or a list of them."""

    def _deserialize(self, value: Any, *_: object, **__: object) -> Any:
        if not isinstance(value, list):
            return (self._read(value, self.name or ""),)
        if not value:
            raise ValidationError("Must hold at least one secret reference.")
        return self._read_all(value)
