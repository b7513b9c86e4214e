"""Which secrets a deployment needs: a line each, for deploy.sh.

    python -m deploy.gcp.references

With the deployed function's variables as its environment. What would stop the function's start stops this too, with the
same words; no network. Each line is `token` or `secret` (what calls a platform; what a sender proves itself by), the
secret's full name, and where it is named, with tabs between.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO

from schemas.config import Config
from schemas.reference import SecretReference
from schemas.settings import Settings


def named(settings: Settings, config: Config) -> Iterator[tuple[str, SecretReference]]:
    """Every reference to Secret Manager with what it is for, as often as it is named."""
    tokens = [provider.token for provider in settings.providers.values()]
    secrets = [*settings.secrets]
    for hook in config.hooks.values():
        secrets += hook.secrets
        tokens += [update.token for update in hook.updates]
    for kind, references in (("secret", secrets), ("token", tokens)):
        yield from ((kind, each) for each in references if each and each.kind == "manager")


def lines(settings: Settings, config: Config) -> list[str]:
    """One for each secret, without its version, by whatever names it first."""
    found: dict[str, str] = {}
    for kind, reference in named(settings, config):
        secret = re.sub(r"/versions/[^/]*\Z", "", reference.name)
        found.setdefault(secret, f"{kind}\t{secret}\t{reference.label}")
    return list(found.values())


def main() -> None:
    """Prints the lines. Exits with the mistakes, where there are some."""
    # The environment is that of the function on Cloud Run, which is not where this runs.
    os.environ.setdefault("K_SERVICE", "dataset-relay")
    # Its import is the function's start, whose log is not what is asked for.
    with redirect_stdout(StringIO()):
        from main import read
    settings, config, warnings = read(os.environ)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for line in lines(settings, config):
        print(line)


if __name__ == "__main__":
    main()
