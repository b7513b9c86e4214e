"""The command `python main.py check`: check relay.yaml as the function does at startup, or try a hook with a payload.

The command sends no request and fetches no secret. The command doesn't check that the secrets exist, because the
function will run in another environment.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from handlers import hooks
from handlers.deadline import Deadline
from handlers.hooks.config import Config, ConfigError, Hook
from handlers.hooks.loader import DEFAULT_PATH
from handlers.hooks.templates.limits import Budget
from handlers.providers.base import Provider
from handlers.redaction import Redactor, mask
from handlers.senders import SENDERS, hidden_headers
from handlers.senders.delivery_id import delivery_id
from schemas.base import closest
from schemas.event import Update
from schemas.problem import InvalidEventError, InvalidJSONError
from schemas.settings import Settings, SettingsError
from schemas.strict_json import JSON, parse_object


class _CommandError(Exception):
    """The command fails with this message and exit status 1."""


def main(
    arguments: Sequence[str], load: Callable[[], tuple[Settings, Config]], providers: Mapping[str, Provider]
) -> int:
    """Run the command, and return its exit status: 0, or 1 for a mistake. `load` reads the settings and relay.yaml."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.hook is None) is not (options.payload is None) or (options.header and options.hook is None):
        parser.error("Use --hook and --payload together, and use --header only with both.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A payload can contain characters that the encoding of the terminal doesn't support.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        settings, config = load()
        if options.hook is None:
            _print_overview(settings.config or DEFAULT_PATH, config)
        else:
            _try_hook(options, settings, config, providers)
        return 0
    except SettingsError as error:
        print("\n".join(f"{name}: {message}" for name, messages in error.errors.items() for message in messages))
    except ConfigError as error:
        print("\n".join(error.lines))
    except _CommandError as error:
        print(error)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("main.py", description="Dataset Relay. The function itself runs in a server.")
    commands = parser.add_subparsers(required=True, metavar="check")
    check = commands.add_parser("check", help="check relay.yaml, or try a hook with a payload", description=__doc__)
    check.add_argument("--hook", metavar="NAME", help="print the updates that this hook derives from a payload")
    check.add_argument("--payload", metavar="FILE", help="the file with the JSON payload, or - for the standard input")
    check.add_argument("--header", metavar="'K: V'", action="append", default=[], help="a header of the request")
    return parser


def _print_overview(file: str, config: Config) -> None:
    print(f"{file}: no mistakes, {len(config.hooks)} hook{'' if len(config.hooks) == 1 else 's'}.")
    for hook in config.hooks.values():
        providers = ", ".join(update.provider for update in hook.updates)
        print(f"  POST /hooks/{hook.name}: {hook.sender.name}, updates {providers}")
    for note in config.notes(hidden_headers()):
        print(f"  Note: {note}")
    if config.allow is not None:
        print(f"  POST /: {', '.join(config.allow) or 'nothing'}")


def _try_hook(
    options: argparse.Namespace, settings: Settings, config: Config, providers: Mapping[str, Provider]
) -> None:
    """Print the requests for the updates that a hook derives from a payload.

    Raises:
        _CommandError: The options are wrong, or the hook fails on the payload.
    """
    hook = _find_hook(config, options.hook)
    headers = _parse_headers(options.header)
    payload = _read_payload(options.payload)
    deadline = Deadline.after(settings.deadline_seconds)
    schemas = {name: provider.event_schema for name, provider in providers.items()}
    try:
        result = hooks.evaluate(hook, headers, payload, schemas, Budget(settings.max_body_bytes, deadline.has_passed))
    except InvalidEventError as error:
        errors = error.problem.errors or {}
        lines = [f"  {path}: {message}" for path, messages in errors.items() for message in messages]
        raise _CommandError("\n".join(["The hook fails on this payload:", *lines])) from None
    if isinstance(result, hooks.Ignored):
        print(f"Ignored. {result.reason}")
        return
    delivery = delivery_id(SENDERS[hook.sender.name], headers, payload)
    print(f"Delivery: {delivery or 'the sender provides no ID, so each delivery gets a new UUID'}")
    _print_requests(result, settings, providers)


def _print_requests(updates: Sequence[Update], settings: Settings, providers: Mapping[str, Provider]) -> None:
    masked = [mask(providers[update.provider].update_schema, update.body) for update in updates]
    # A credential in one update is also a credential in the other updates.
    redactor = Redactor((), {credential for update in masked for credential in update.credentials})
    for position, (update, masked_update) in enumerate(zip(updates, masked, strict=True)):
        request = providers[update.provider].update_request(settings.providers[update.provider].base_url, update)
        body = json.dumps(redactor.redact(masked_update.body), ensure_ascii=False, indent=2)
        print(f"\nupdates.{position}: {request.method} {request.url}\n{body}")


def _find_hook(config: Config, name: str) -> Hook:
    if name in config.hooks:
        return config.hooks[name]
    hint = closest(name, config.hooks)
    remedy = f"Did you mean {hint}?" if hint else f"The hooks are: {', '.join(config.hooks) or 'none'}."
    raise _CommandError(f"There is no hook {name}. {remedy}")


def _parse_headers(options: Sequence[str]) -> dict[str, str]:
    headers = {}
    for option in options:
        name, colon, value = option.partition(":")
        if not (colon and name.strip()):
            raise _CommandError("--header must have the form 'Name: value'.")
        headers[name.strip().lower()] = value.strip()
    return headers


def _read_payload(file: str) -> JSON:
    try:
        return parse_object(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except OSError as error:
        raise _CommandError(f"{file}: can't read the file: {error.strerror}.") from None
    except InvalidJSONError as error:
        raise _CommandError(f"{file}: {error}") from None
