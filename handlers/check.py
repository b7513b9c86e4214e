"""`python main.py check`: what a start would find in relay.yaml, and what a hook would make of a payload.

Nothing is sent, and nothing is fetched. The function will run elsewhere: whether secrets are there isn't looked at.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from handlers import hooks
from handlers.configuration import DEFAULT
from handlers.deadline import Deadline
from handlers.providers.call import Provider
from handlers.senders import delivery_id, hidden_headers, is_test_message, visible_headers
from schemas.bounds import Budget
from schemas.config import Config, ConfigError, Hook
from schemas.event import Update
from schemas.problem import Invalid, NotJSON
from schemas.redaction import credentials, masked
from schemas.redactor import Redactor
from schemas.settings import Settings, SettingsError
from schemas.strict import closest
from schemas.strict_json import parse_object


class _Stopped(Exception):
    """What there is to say before exit code 1."""


def main(
    arguments: Sequence[str],
    read: Callable[[], tuple[Settings, Config]],
    providers: Mapping[str, Provider],
) -> int:
    """Carries the command out; `read` reads settings and configuration. 0, or 1 if anything is wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A payload may hold what the terminal has no character for.
        sys.stdout.reconfigure(errors="backslashreplace")
    if (given.hook is None) is not (given.payload is None) or (given.header and given.hook is None):
        parser.error("--hook and --payload go together, and --header with them.")
    try:
        settings, config = read()
        if given.hook is None:
            _overview(settings.config or DEFAULT, config)
        else:
            _try_out(_hook(config, given.hook), given.payload, _headers(given.header), settings, providers)
        return 0
    except SettingsError as error:
        print("\n".join(f"{name}: {each}" for name, messages in error.errors.items() for each in messages))
    except ConfigError as error:
        print("\n".join(error.lines))
    except _Stopped as stopped:
        print(stopped)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("main.py", description="Dataset Relay. The function itself runs as a server.")
    commands = parser.add_subparsers(required=True, metavar="check")
    check = commands.add_parser("check", help="what a start would find in relay.yaml", description=__doc__)
    check.add_argument("--hook", metavar="NAME", help="show what this hook makes of a payload")
    check.add_argument("--payload", metavar="FILE", help="the payload, as JSON; - for standard input")
    check.add_argument("--header", metavar="'K: V'", action="append", default=[], help="a header of the request")
    return parser


def _hook(config: Config, name: str) -> Hook:
    if name not in config.hooks:
        hint = closest(name, config.hooks)
        listed = f"there are {', '.join(config.hooks)}." if config.hooks else "there are none."
        raise _Stopped(f"There is no hook {name}; {f'did you mean {hint}?' if hint else listed}")
    return config.hooks[name]


def _overview(file: str, config: Config) -> None:
    print(f"{file}: no mistakes, {len(config.hooks)} hook{'' if len(config.hooks) == 1 else 's'}.")
    for hook in config.hooks.values():
        providers = ", ".join(update.provider for update in hook.updates)
        print(f"  POST /hooks/{hook.name}: {hook.sender}, updates {providers}")
    for doubt in config.doubts(hidden_headers()):
        print(f"  Note: {doubt}")
    if config.allow is not None:
        print(f"  POST /: {', '.join(config.allow) or 'nothing'}")


def _headers(given: Sequence[str]) -> dict[str, str]:
    headers = {}
    for each in given:
        name, colon, value = each.partition(":")
        if not (colon and name.strip()):
            raise _Stopped("--header takes 'Name: value'.")
        headers[name.strip().lower()] = value.strip()
    return headers


def _try_out(
    hook: Hook, payload: str, headers: Mapping[str, str], settings: Settings, providers: Mapping[str, Provider]
) -> None:
    try:
        event = parse_object(sys.stdin.buffer.read() if payload == "-" else Path(payload).read_bytes())
        deadline = Deadline.after(settings.deadline_seconds)
        budget = Budget(settings.max_body_bytes, expired=lambda: not deadline.remaining())
        schemas = {name: each.EVENT for name, each in providers.items()}
        is_test = is_test_message(hook.sender, headers, event)
        found = hooks.read(hook, event, visible_headers(headers), schemas, budget, is_test=is_test)
    except OSError as error:
        raise _Stopped(f"{payload}: can't be read: {error.strerror}.") from None
    except NotJSON as error:
        raise _Stopped(f"{payload}: {error}") from None
    except Invalid as error:
        wrong = error.problem.errors or {}
        lines = [f"  {path}: {each}" for path, messages in wrong.items() for each in messages]
        raise _Stopped("\n".join(["What the hook makes of this payload breaks a rule:", *lines])) from None
    if isinstance(found, hooks.Ignored):
        print(f"Ignored. {found.why}")
        return
    named = delivery_id(hook.sender, headers, event)
    print(f"Delivery: {named or 'none of its own, a new UUID each time'}")
    # What is a credential in one of them is none to be shown in another.
    redactor = Redactor(each for update in found for each in credentials(dict(update.body)))
    for position, update in enumerate(found):
        print(f"\nupdates.{position}: {_shown(update, settings, providers[update.provider], redactor)}")


def _shown(update: Update, settings: Settings, provider: Provider, redactor: Redactor) -> str:
    request = provider.request(settings.providers[update.provider].base_url, update)
    shown = redactor.json(masked(dict(request.body or {})))
    return f"{request.method} {request.url}\n{json.dumps(shown, ensure_ascii=False, indent=2)}"
