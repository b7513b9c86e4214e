"""Dataset Relay: hears a data pipeline finish, and updates the dataset's record on Apify or data.world.

The only place where the parts are put together, and where the environment is read.
`python main.py check` looks at relay.yaml instead of serving.
"""

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import flask
import functions_framework
from flask import Request, Response
from werkzeug.exceptions import HTTPException

from handlers import configuration, logs
from handlers.deliver import Deliverer
from handlers.providers import PROVIDERS
from handlers.receive import Receiver
from handlers.senders import SENDERS, hidden_headers
from handlers.tokens import Secrets, fetches
from schemas.config import Config, ConfigError
from schemas.settings import Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from schemas.relay_yaml import Reader

_SCHEMAS = {name: provider.EVENT for name, provider in PROVIDERS.items()}


def read(environ: Mapping[str, str], *, elsewhere: bool = False) -> tuple[Settings, Config, list[str]]:
    """What `environ` and relay.yaml say, and warnings about it; no network.

    With `elsewhere` the function will run in another environment. Raises SettingsError, ConfigError.
    """
    settings, warnings = read_settings(
        environ,
        {name: provider.BASE_URL for name, provider in PROVIDERS.items()},
        # What functions-framework itself starts without THREADS.
        default_threads=(os.cpu_count() or 1) * 4,
        elsewhere=elsewhere,
    )

    def reader() -> "Reader":
        # With it comes PyYAML: not before there is something to read.
        from schemas.relay_yaml import Reader

        return Reader(SENDERS, _SCHEMAS, None if elsewhere else environ, settings.max_body_bytes)

    config = configuration.load(settings.config, Path(__file__).parent, reader)
    return settings, config, [*warnings, *config.doubts(hidden_headers()), *config.warnings(settings)]


def build(environ: Mapping[str, str]) -> Receiver:
    """The function as `environ` sets it up; no network. Raises SettingsError, ConfigError."""
    settings, config, warnings = read(environ)
    logs.configure(settings.log_level)
    # Read once, now: 70 kB in some microseconds, and no request has to wait for a disk or another's lock.
    document = configuration.document(Path(__file__).parent)
    if document is None:
        warnings.append(f"{configuration.DOCUMENT} can't be read: GET /openapi.json is 404.")
    for warning in warnings:
        logs.LOGGER.warning("%s", warning)
    secrets = Secrets(fetches(environ, settings.secret_manager_emulator), settings.secret_ttl_seconds)
    deliverer = Deliverer(settings, PROVIDERS, secrets)
    return Receiver(settings, config, _SCHEMAS, secrets, deliverer, document)


if __name__ == "__main__":
    from handlers import check

    sys.exit(check.main(sys.argv[1:], lambda: read(os.environ, elsewhere=True)[:2], PROVIDERS))

try:
    _receive = build(os.environ)
except (SettingsError, ConfigError) as error:
    sys.exit(str(error))
# What is there now stays: the collector, which stops all threads meanwhile, need not look through it again and again.
gc.freeze()


@functions_framework.http
def relay(request: Request) -> Response:
    """The function's entry point: every request to it."""
    return _receive(request)


@functions_framework.errorhandler(HTTPException)  # type: ignore[untyped-decorator]
def refused(_error: HTTPException) -> Response:
    """What the framework itself would answer, with a page: /robots.txt, a path with a line end."""
    return _receive(flask.request)
