"""Secret references: the location of a secret in Secret Manager, in an environment variable, or in a file."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from marshmallow import ValidationError

#: The pattern of a project ID, which may include a domain ("example.com:project"), or of a project number.
PROJECT = r"[a-z0-9][a-z0-9.:-]*"
# https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/create
_NAME = r"[A-Za-z0-9_-]{1,255}"
_VERSION = r"[A-Za-z0-9_-]{1,63}"
#: The pattern of a location: https://cloud.google.com/secret-manager/regional-secrets/config-regional-secrets
LOCATION = r"[a-z]+-[a-z]+[0-9]+"
_FULL_NAME = re.compile(
    rf"projects/{PROJECT}/(?:locations/(?P<location>{LOCATION})/)?secrets/{_NAME}(?P<version>/versions/{_VERSION})?"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The formats of well-known secrets: Standard Webhooks, JSON Web Tokens, GitHub, GitLab, dbt, and `openssl rand -hex`.
_SECRETS = r"whsec_|eyJ[A-Za-z0-9_-]*\.|gh[pousr]_|github_pat_|glpat-|dbt[uc]_|[0-9a-fA-F]{32,}\Z"

_FORMS = (
    "projects/P/secrets/NAME or projects/P/locations/L/secrets/NAME (with or without /versions/V), a bare NAME, "
    "env:VARIABLE, or file:/path"
)
_LOOKS_LIKE_A_SECRET = f"Looks like a token or a secret. Give a reference to the secret instead: {_FORMS}."
_INVALID = f"Must be a secret reference: {_FORMS}."
_UNSET_VARIABLE = "The environment variable isn't set."
_RELATIVE_PATH = "Must be an absolute path: file:/path."
_NO_PROJECT = (
    "The bare name of a secret needs GOOGLE_CLOUD_PROJECT. If the value is the secret itself, "
    "put the secret into a variable, and refer to the variable: env:VARIABLE."
)


@dataclass(frozen=True, slots=True)
class SecretReference:
    """The location of a secret, and never the secret itself.

    `name` is the resource name of a version, the name of a variable, a path, or the URL of certificates. `label` names
    the setting with the reference. Problems and logs show the label, because a user can put the secret itself into the
    setting by mistake.
    """

    kind: Literal["manager", "env", "file", "certificates"]
    name: str
    label: str = field(default="a secret", compare=False)

    @property
    def location(self) -> str | None:
        """The location of a regional secret, or None for any other secret."""
        match = _FULL_NAME.fullmatch(self.name) if self.kind == "manager" else None
        return match["location"] if match else None

    def __str__(self) -> str:
        return self.name if self.kind == "manager" else f"{self.kind}:{self.name}"


class ReferenceParser:
    """A parser of secret references. No error message repeats a value, because the value may be the secret itself.

    `environ` is the environment of the function, or None if the function will run in another environment. In that case,
    the parser checks only the form of a reference. `token_patterns` are regular expressions of the beginnings of the
    providers' tokens.
    """

    def __init__(self, environ: Mapping[str, str] | None, token_patterns: Collection[str] = ()) -> None:
        self._environ = environ
        self._secrets = re.compile("|".join([*token_patterns, _SECRETS]))

    def parse(self, value: object, label: str) -> SecretReference:
        """Return the reference in `value`.

        Raises:
            ValidationError: `value` isn't a valid reference.
        """
        if not isinstance(value, str):
            raise ValidationError(_INVALID)
        text = value.strip()
        if text.startswith("env:"):
            return self._parse_variable(text.removeprefix("env:"), label)
        if text.startswith("file:"):
            return self._parse_path(text.removeprefix("file:"), label)
        if self._secrets.match(text):
            raise ValidationError(_LOOKS_LIKE_A_SECRET)
        return SecretReference("manager", self._version_name(text), label)

    def parse_list(self, value: object, label: str) -> tuple[SecretReference, ...]:
        """Return the references in `value`, which is a reference or a list of references, without duplicates.

        Raises:
            ValidationError: `value` is empty, or an item isn't a valid reference.
        """
        if not isinstance(value, list):
            return (self.parse(value, label),)
        if not value:
            raise ValidationError("Must have at least one secret reference.")
        return self._parse_all(value, label)

    def parse_comma_separated(self, value: str, label: str) -> tuple[SecretReference, ...]:
        """Return the references in `value`, which are separated by commas, without duplicates.

        Raises:
            ValidationError: A part isn't a valid reference.
        """
        return self._parse_all(value.split(","), label)

    def _parse_all(self, values: Sequence[object], label: str) -> tuple[SecretReference, ...]:
        references, errors = [], []
        for position, value in enumerate(values, start=1):
            part = f"{position} of {len(values)}"
            try:
                references.append(self.parse(value, f"{label} ({part})"))
            except ValidationError as error:
                errors.append(f"{part}: {error.messages[0]}")
        if errors:
            raise ValidationError(errors)
        return tuple(dict.fromkeys(references))

    def _parse_variable(self, name: str, label: str) -> SecretReference:
        if not _VARIABLE.fullmatch(name):
            raise ValidationError(_INVALID)
        if self._environ is not None and not self._environ.get(name, "").strip():
            raise ValidationError(_UNSET_VARIABLE)
        return SecretReference("env", name, label)

    def _parse_path(self, path: str, label: str) -> SecretReference:
        if not path.startswith("/") or "\0" in path:
            raise ValidationError(_RELATIVE_PATH)
        return SecretReference("file", path, label)

    def _version_name(self, text: str) -> str:
        """Return the resource name of the version to which `text`, a full or a bare name, refers."""
        if match := _FULL_NAME.fullmatch(text):
            return text if match["version"] else f"{text}/versions/latest"
        if not re.fullmatch(_NAME, text):
            raise ValidationError(_INVALID)
        # The project is unknown if the function will run in another environment.
        project = "some-project" if self._environ is None else self._environ.get("GOOGLE_CLOUD_PROJECT", "").strip()
        if not project:
            raise ValidationError(_NO_PROJECT)
        return f"projects/{project}/secrets/{text}/versions/latest"
