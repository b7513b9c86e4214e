"""Dataset Relay: hears a data pipeline finish, and updates the dataset's record on Apify or data.world.

The only place where the parts are put together, and where the environment is read.
"""

import os
import sys
from collections.abc import Mapping

import functions_framework
from flask import Request, Response

from handlers import logs
from handlers.deliver import Deliverer
from handlers.providers import PROVIDERS
from handlers.receive import Receiver
from handlers.tokens import Secrets, fetches
from schemas.settings import SettingsError, read_settings


def build(environ: Mapping[str, str]) -> Receiver:
    """The function as `environ` sets it up; no network. Raises SettingsError."""
    settings, warnings = read_settings(
        environ,
        {name: provider.BASE_URL for name, provider in PROVIDERS.items()},
        # What functions-framework itself starts without THREADS.
        default_threads=(os.cpu_count() or 1) * 4,
    )
    logs.configure(settings.log_level)
    for warning in warnings:
        logs.LOGGER.warning("%s", warning)
    secrets = Secrets(fetches(environ, settings.secret_manager_emulator), settings.secret_ttl_seconds)
    deliverer = Deliverer(settings, PROVIDERS, secrets)
    return Receiver(settings, {name: each.EVENT for name, each in PROVIDERS.items()}, secrets, deliverer)


try:
    _receive = build(os.environ)
except SettingsError as error:
    sys.exit(str(error))


@functions_framework.http
def relay(request: Request) -> Response:
    """The function's entry point: every request to it."""
    return _receive(request)
