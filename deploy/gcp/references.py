"""Print the secrets that a deployment needs, one line per secret, for deploy.sh.

    python -m deploy.gcp.references NAME=VALUE… < SERVICE

SERVICE is the output of `gcloud run services describe --format json`, or empty. The arguments are the settings that
change. If the settings are invalid, the program exits with the error of the function's startup. The program doesn't use
the network.

The first line is `timeout` and the number of seconds for Cloud Run's request timeout. With a queue, the second line is
`ack` and the number of seconds for the acknowledgment deadline of the subscriptions. Each further line has a kind, the
full name of a secret, and the setting that names the secret, separated by tabs. The kinds are `token` (of a provider),
`secret` (of a sender), and `basic` (of a sender, in the form `user:password`).
"""

import json
import math
import os
import re
import sys
from collections.abc import Iterator

from handlers.hooks import Config
from handlers.senders import Sender
from schemas.secret_reference import SecretReference
from schemas.settings import Settings, SettingsError


def iter_references(settings: Settings, config: Config) -> Iterator[tuple[str, SecretReference]]:
    """Yield each reference to Secret Manager with its kind. A reference can occur several times."""
    tokens = [provider.token for provider in settings.providers.values()]
    secrets = [("secret", reference) for reference in settings.secrets]
    for hook in config.hooks.values():
        assert isinstance(hook.sender, Sender)
        kind = "basic" if hook.sender.scheme == "Basic" else "secret"
        secrets += [(kind, reference) for reference in hook.secrets]
        tokens += [update.token for update in hook.updates]
    for kind, reference in (*secrets, *(("token", token) for token in tokens if token)):
        if reference.kind == "manager":
            yield kind, reference


def secret_lines(settings: Settings, config: Config) -> list[str]:
    """Return the output line of each secret, without a version. The first reference to a secret determines the line."""
    by_secret: dict[str, str] = {}
    for kind, reference in iter_references(settings, config):
        secret = re.sub(r"/versions/[^/]*\Z", "", reference.name)
        by_secret.setdefault(secret, f"{kind}\t{secret}\t{reference.label}")
    return list(by_secret.values())


def service_variables(service: str) -> dict[str, str]:
    """Return the environment variables in `service`, the JSON description of a service or an empty string."""
    containers = json.loads(service)["spec"]["template"]["spec"]["containers"] if service.strip() else [{}]
    # The description has no value for a variable that Cloud Run fills from a secret. Any value counts as set.
    return {variable["name"]: variable.get("value", "set") for variable in containers[0].get("env") or ()}


def main() -> None:
    """Print the lines, or exit with the mistakes in the settings."""
    changes = dict(argument.split("=", 1) for argument in sys.argv[1:])
    # Check the settings as in the function's own environment on Cloud Run.
    variables = {"K_SERVICE": "dataset-relay", **service_variables(sys.stdin.read()), **changes}
    # The import starts the function, which must not write its log to the output of this program.
    os.environ.update({**variables, "LOG_LEVEL": "CRITICAL"})
    from main import load_configuration

    try:
        settings, config, warnings = load_configuration({**os.environ, "LOG_LEVEL": "INFO", **variables})
    except SettingsError as error:
        sys.exit(str(error))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    # Receiving the body, processing the event, and sending the response can each take RELAY_DEADLINE_SECONDS.
    timeout = max(30, math.ceil(3 * settings.deadline_seconds) + 3)
    if settings.queue:
        # The function needs some time after the deadline of a delivery, to publish a dead letter.
        ack_deadline = max(10, math.ceil(settings.queue.delivery_deadline_seconds) + 20)
        timeout = max(timeout, ack_deadline)
    print(f"timeout\t{timeout}")
    if settings.queue:
        print(f"ack\t{ack_deadline}")
    for line in secret_lines(settings, config):
        print(line)


if __name__ == "__main__":
    main()
