"""Dataset Relay: a webhook function that updates a dataset's record when a data pipeline finishes.

This module assembles the parts, and is the only module that reads the settings from the environment. The command
`python main.py check` checks relay.yaml instead of serving requests.
"""

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import flask
import functions_framework
from flask import Request, Response
from werkzeug.exceptions import HTTPException

from handlers import VERSION, logs
from handlers.app import Relay
from handlers.delivery.delivery import DeliveryContext
from handlers.hooks import Config, ConfigError, loader
from handlers.providers import PROVIDERS
from handlers.providers.base import event_schemas, token_patterns
from handlers.queue.identity import GoogleIdentity, fetch_certificates
from handlers.queue.publisher import Publisher
from handlers.queue.queue import Queue
from handlers.secret_store.store import SecretStore, create_fetchers
from handlers.senders import SENDERS, custom_sender, hidden_headers
from schemas.secret_reference import ReferenceParser, SecretReference
from schemas.settings import Settings, SettingsError, read_settings

_FOLDER = Path(__file__).parent
_OPENAPI_FILE = "deploy/openapi.json"


def load_configuration(environ: Mapping[str, str], *, check_only: bool = False) -> tuple[Settings, Config, list[str]]:
    """Return the settings, the content of relay.yaml, and warnings about both, without using the network.

    With `check_only`, the variables of secret references don't have to be set in `environ`, because the function will
    run in another environment.

    Raises:
        SettingsError: A setting is invalid.
        ConfigError: relay.yaml is invalid.
    """
    references = ReferenceParser(None if check_only else environ, token_patterns(PROVIDERS))
    settings, warnings = read_settings(
        environ,
        {name: provider.base_url for name, provider in PROVIDERS.items()},
        references,
        # The default of THREADS in functions_framework/_http/gunicorn.py.
        default_threads=(os.cpu_count() or 1) * 4,
    )
    config = loader.load(
        settings.config,
        _FOLDER,
        senders=SENDERS,
        custom_sender=custom_sender,
        schemas=event_schemas(PROVIDERS),
        references=references,
        max_template_length=settings.max_body_bytes,
    )
    config.check_topics(settings)
    return settings, config, [*warnings, *config.notes(hidden_headers()), *config.warnings(settings)]


def build(environ: Mapping[str, str]) -> Relay:
    """Return the function with the settings in `environ`, without using the network.

    Raises:
        SettingsError: A setting is invalid.
        ConfigError: relay.yaml is invalid.
    """
    settings, config, warnings = load_configuration(environ)
    logs.configure(settings.log_level)
    openapi = _read_openapi()
    if openapi is None:
        warnings.append(f"{_OPENAPI_FILE} can't be read, so GET /openapi.json returns 404.")
    for warning in warnings:
        logs.LOGGER.warning("%s", warning)
    fetchers = {
        **create_fetchers(environ, settings.secret_manager_emulator),
        "certificates": fetch_certificates,
    }
    secrets = SecretStore(fetchers, settings.secret_ttl_seconds)
    certificates = SecretReference("certificates", settings.push_certs_url, "RELAY_PUSH_CERTS_URL")
    queue = None
    if settings.queue:
        publisher = Publisher(settings.queue.region, settings.queue.emulator)
        queue = Queue(settings.queue, publisher, settings.threads)
    context = DeliveryContext.create(settings, PROVIDERS, secrets)
    function = Relay(config, context, openapi, GoogleIdentity(certificates, secrets), queue)
    # The framework opens the socket a moment later, and has no event for it.
    logs.LOGGER.info("%s", startup_message(settings, config))
    return function


def startup_message(settings: Settings, config: Config) -> str:
    """Return the version, the hooks, and the providers of the function, and the providers without a token."""
    providers = [
        name if provider.token else f"{name} (without a token)" for name, provider in settings.providers.items()
    ]
    hooks = ", ".join(config.hooks) or "none"
    queue = " The queue is on." if settings.queue else ""
    return f"Dataset Relay {VERSION} is ready. Hooks: {hooks}. Providers: {', '.join(providers)}.{queue}"


def _read_openapi() -> bytes | None:
    """Return the OpenAPI document, or None if the file can't be read. A missing document must not stop updates."""
    try:
        return (_FOLDER / _OPENAPI_FILE).read_bytes()
    except OSError:
        return None


# The command must end before the module builds the function below: the command needs no secrets.
if __name__ == "__main__":
    from handlers import cli

    sys.exit(cli.main(sys.argv[1:], lambda: load_configuration(os.environ, check_only=True)[:2], PROVIDERS))

try:
    _relay = build(os.environ)
except (SettingsError, ConfigError) as error:
    sys.exit(str(error))
# Exclude the objects of the startup from garbage collection, which pauses every thread.
gc.freeze()


@functions_framework.http
def relay(request: Request) -> Response:
    """Return the response to a request. This is the entry point of the function."""
    return _relay(request)


@functions_framework.errorhandler(HTTPException)  # type: ignore[untyped-decorator]
def handle_framework_error(_error: HTTPException) -> Response:
    """Return the function's response where the framework would return an HTML page, such as for /robots.txt."""
    return _relay(flask.request)
