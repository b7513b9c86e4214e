"""Which secrets a deployment needs: a line each, for deploy.sh.

    python -m deploy.gcp.references NAME=VALUE… < SERVICE

SERVICE is what `gcloud run services describe --format json` says of the service, or nothing; the arguments are the
settings that change. What would stop the function's start with those stops this too, with the same words; no network.
Each line is `token`, `secret` or `basic` (what calls a platform; what a sender proves itself by, and that as
`user:password`), the secret's full name, and where it is named, with tabs between. Before them: `timeout`, and how many
seconds Cloud Run has to give a request.
"""

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO

from handlers.senders import SENDERS
from schemas.config import Config
from schemas.reference import SecretReference
from schemas.settings import Settings


def named(settings: Settings, config: Config) -> Iterator[tuple[str, SecretReference]]:
    """Every reference to Secret Manager with what it is for, as often as it is named."""
    tokens = [provider.token for provider in settings.providers.values()]
    secrets = [("secret", each) for each in settings.secrets]
    for hook in config.hooks.values():
        kind = "basic" if SENDERS[hook.sender].challenge.startswith("Basic") else "secret"
        secrets += [(kind, each) for each in hook.secrets]
        tokens += [update.token for update in hook.updates]
    for kind, reference in (*secrets, *(("token", each) for each in tokens if each)):
        if reference.kind == "manager":
            yield kind, reference


def lines(settings: Settings, config: Config) -> list[str]:
    """One for each secret, without its version, by whatever names it first."""
    found: dict[str, str] = {}
    for kind, reference in named(settings, config):
        secret = re.sub(r"/versions/[^/]*\Z", "", reference.name)
        found.setdefault(secret, f"{kind}\t{secret}\t{reference.label}")
    return list(found.values())


def variables(service: str) -> dict[str, str]:
    """The variables of the service that `service`, as JSON, describes."""
    described = json.loads(service) if service.strip() else None
    containers = described["spec"]["template"]["spec"]["containers"] if described else [{}]
    # Where Cloud Run puts a secret into a variable there is no value to be seen; that there is one is all we need.
    return {each["name"]: each.get("value", "set") for each in containers[0].get("env") or ()}


def main() -> None:
    """Prints the lines. Exits with the mistakes, where there are some."""
    changed = dict(each.split("=", 1) for each in sys.argv[1:])
    # The environment is that of the function on Cloud Run, which is not where this runs.
    os.environ.update({"K_SERVICE": "dataset-relay", **variables(sys.stdin.read()), **changed})
    # Its import is the function's start, whose log is not what is asked for.
    with redirect_stdout(StringIO()):
        from main import read
    settings, config, warnings = read(os.environ)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    # The body may take the deadline to come, the work may, and the answer to be taken.
    print(f"timeout\t{max(30, math.ceil(3 * settings.deadline_seconds) + 3)}")
    for line in lines(settings, config):
        print(line)


if __name__ == "__main__":
    main()
