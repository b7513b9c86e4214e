"""The command `python main.py check`: check relay.yaml as the function does at startup, and run the tests of its hooks.

With --hook, the command instead prints the updates that the hook derives from a payload. The command sends no request
and fetches no secret. The command doesn't check that the secrets exist, because the function will run in another
environment.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from marshmallow import ValidationError

from handlers import hooks
from handlers.deadline import Deadline
from handlers.hooks.config import Config, ConfigError, Hook
from handlers.hooks.loader import DEFAULT_PATH
from handlers.hooks.templates.limits import Budget
from handlers.hooks.tests import HookTest, HookTestsError, Outcome, accept, read_tests, run_test, unknown_hook
from handlers.inbound.request import decode_headers
from handlers.providers.base import Provider, event_schemas, mask_updates
from handlers.redaction import Masked, Redactor
from handlers.senders import Sender, hidden_headers
from handlers.senders.delivery_id import delivery_id
from schemas.base import CONTROL_CHARACTER, HEADER_NAME, closest
from schemas.event import Update
from schemas.problem import InvalidEventError, InvalidJSONError
from schemas.settings import Settings, SettingsError
from schemas.strict_json import JSON, dump_text, exact_numbers, parse_payload
from schemas.yaml_text import EditError, dump_member

_FOLDER = Path(__file__).parent.parent
_SAMPLES = "deploy/samples"
# The headers that the senders send with the samples, by sender.
_SAMPLE_HEADERS = "headers.json"
# The column of the keys of a test in the usual layout of the file.
_TEST_COLUMN = 4

# The headers that a request can have only once.
_SINGLE_HEADERS = ("content-length", "content-type", "host")


class _CommandError(Exception):
    """The command fails with this message and exit status 1."""


def main(
    arguments: Sequence[str], load: Callable[[], tuple[Settings, Config]], providers: Mapping[str, Provider]
) -> int:
    """Run the command, and return its exit status: 0, or 1 for a mistake. `load` reads the settings and relay.yaml."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.hook is None and (options.payload is not None or options.header):
        parser.error("Use --payload and --header only with --hook.")
    if options.hook is not None and options.accept is not None:
        parser.error("Use either --hook or --accept.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A payload can contain characters that the encoding of the terminal doesn't support.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        settings, config = load()
        if options.hook is not None:
            _try_hook(options, settings, config, providers)
        elif options.accept is not None:
            _accept(options.accept, settings, config, providers)
        else:
            _print_overview(settings.config or DEFAULT_PATH, config)
            _run_tests(settings, config, providers)
        return 0
    except SettingsError as error:
        print("\n".join(f"{name}: {message}" for name, messages in error.errors.items() for message in messages))
    except (ConfigError, HookTestsError) as error:
        print("\n".join(error.lines))
    except _CommandError as error:
        print(error)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("main.py", description="Dataset Relay. The function itself runs in a server.")
    commands = parser.add_subparsers(required=True, metavar="check")
    check = commands.add_parser("check", help="check relay.yaml and test its hooks, or try a hook", description=__doc__)
    check.add_argument("--hook", metavar="NAME", help="print the updates that this hook derives from a payload")
    check.add_argument(
        "--payload",
        metavar="FILE",
        help="the file with the JSON payload, or - for the standard input; by default, a sample of the hook's sender",
    )
    check.add_argument("--header", metavar="'Name: value'", action="append", default=[], help="a header of the request")
    check.add_argument(
        "--accept", metavar="NAME", help="write the result of this test as its expectation into the file"
    )
    return parser


def _print_overview(file: str, config: Config) -> None:
    print(f"{file}: no mistakes, {_count(len(config.hooks), 'hook')}.")
    for hook in config.hooks.values():
        providers = " and ".join(dict.fromkeys(update.provider for update in hook.updates))
        print(f"  POST /hooks/{hook.name}: sender {hook.sender.name}, updates on {providers}")
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
    headers, notes = _parse_headers(options.header)
    for note in notes:
        _print_note(note)
    if options.payload is None:
        payload, sample_headers = _read_sample(hook.sender.name)
        headers = {**sample_headers, **headers}
    else:
        payload = _read_payload(options.payload)
    schemas = event_schemas(providers)
    try:
        result = hooks.evaluate(hook, headers, payload, schemas, _budget(settings), _print_note)
        updates = () if isinstance(result, hooks.Ignored) else result
        masked = mask_updates(updates, providers)
    except InvalidEventError as error:
        errors = error.problem.errors or {}
        lines = [f"  {path}: {message}" for path, messages in errors.items() for message in messages]
        raise _CommandError("\n".join(["The hook fails on this payload:", *lines])) from None
    if isinstance(result, hooks.Ignored):
        print(f"Ignored. {result.reason}")
        return
    assert isinstance(hook.sender, Sender)
    delivery = delivery_id(hook.sender, headers, payload)
    print(f"Delivery: {delivery or 'the sender provides no ID, so each delivery gets a new UUID'}")
    _print_requests(updates, masked, settings, providers)


def _print_note(note: str) -> None:
    print(f"Note: {note}")


def _print_requests(
    updates: Sequence[Update], masked: Masked, settings: Settings, providers: Mapping[str, Provider]
) -> None:
    # A credential in one update is also a credential in the other updates.
    redactor = Redactor((), masked.credentials)
    for update, masked_body in zip(updates, masked.bodies, strict=True):
        request = providers[update.provider].update_request(settings.providers[update.provider].base_url, update)
        body = redactor.redact(masked_body)
        # json.dumps would write an ExactNumber as another number.
        has_exact_number = next(exact_numbers(body), None) is not None
        text = dump_text(body) if has_exact_number else json.dumps(body, ensure_ascii=False, indent=2)
        print(f"\nupdates.{update.position}: {request.method} {request.url}\n{text}")


def _find_hook(config: Config, name: str) -> Hook:
    if name in config.hooks:
        return config.hooks[name]
    raise _CommandError(unknown_hook(name, config.hooks))


def _parse_headers(options: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the headers as the function receives them from gunicorn, and notes about the headers that get lost.

    Raises:
        _CommandError: gunicorn would reject a header.
    """
    values: dict[str, list[str]] = {}
    notes = []
    for option in options:
        name, colon, value = option.partition(":")
        # The arguments of the command are bytes, and a server decodes the bytes of a header as Latin-1.
        value = os.fsencode(value).decode("latin-1").strip(" \t")
        is_header = HEADER_NAME.fullmatch(name.replace("_", "-")) and not CONTROL_CHARACTER.search(value)
        if not colon or not is_header:
            raise _CommandError("--header must have the form 'Name: value'.")
        if "_" in name:
            notes.append(f"the server ignores the header {name}, because its name contains an underscore.")
            continue
        values.setdefault(name.lower(), []).append(value)
    for name in _SINGLE_HEADERS:
        if len(values.get(name, [])) > 1:
            raise _CommandError(f"--header can name {name} only once: the server rejects a request that repeats it.")
    # The server joins the values of a repeated header (RFC 9110, 5.3).
    return decode_headers({name: ",".join(texts) for name, texts in values.items()}), notes


def _read_payload(file: str) -> JSON:
    try:
        return parse_payload(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except OSError as error:
        raise _CommandError(f"{file}: can't read the file: {error.strerror}.") from None
    except InvalidJSONError as error:
        raise _CommandError(f"{file}: {error}") from None


def _read_sample(sender: str) -> tuple[JSON, dict[str, str]]:
    """Return the sample payload of a sender, and the headers that the sender sends with the payload.

    Raises:
        _CommandError: There is no sample of the sender.
    """
    file = f"{_SAMPLES}/{sender}.json"
    try:
        payload = parse_payload((_FOLDER / file).read_bytes())
        headers = json.loads((_FOLDER / _SAMPLES / _SAMPLE_HEADERS).read_bytes()).get(sender, {})
    except OSError:
        raise _CommandError(f"There is no sample of the sender {sender} ({file}). Use --payload.") from None
    print(f"Payload: {file}")
    return payload, {name.lower(): value for name, value in headers.items()}


def _budget(settings: Settings) -> Budget:
    return Budget(settings.max_body_bytes, Deadline.after(settings.deadline_seconds).has_passed)


class _TestsFile:
    """relay.tests.yaml: the file with the tests of the hooks, next to relay.yaml."""

    def __init__(self, settings: Settings, config: Config, providers: Mapping[str, Provider]) -> None:
        self._settings, self._config, self._providers = settings, config, providers
        path = Path(settings.config or DEFAULT_PATH)
        path = path.with_name(f"{path.stem}.tests{path.suffix}")
        self.name = str(path)
        self._path = path if settings.config else _FOLDER / path

    def read(self) -> tuple[str, tuple[HookTest, ...]]:
        """Return the text of the file and its tests, or an empty text if there is no such file.

        Raises:
            HookTestsError: The file is unreadable, or has mistakes.
        """
        try:
            text = self._path.read_bytes().decode()
        except FileNotFoundError:
            return "", ()
        except OSError as error:
            raise HookTestsError([f"{self.name}: Can't read the file: {error.strerror}."]) from None
        except UnicodeDecodeError as error:
            raise HookTestsError([f"{self.name}: The file is not UTF-8 (byte {error.start})."]) from None
        return text, read_tests(self.name, text, self._config.hooks, self._providers, self._read_payload)

    def run(self, test: HookTest) -> Outcome:
        return run_test(test, self._providers, _budget(self._settings))

    def write(self, text: str) -> None:
        """Replace the content of the file.

        Raises:
            _CommandError: The file can't be written.
        """
        try:
            self._path.write_bytes(text.encode())
        except OSError as error:
            raise _CommandError(f"{self.name}: can't write the file: {error.strerror}.") from None

    def _read_payload(self, file: str) -> JSON:
        try:
            return parse_payload((self._path.parent / file).read_bytes())
        except OSError as error:
            raise ValidationError(f"Can't read the file {file}: {error.strerror}.") from None
        except InvalidJSONError as error:
            raise ValidationError(f"{file}: {error}") from None


def _run_tests(settings: Settings, config: Config, providers: Mapping[str, Provider]) -> None:
    """Run the tests of the hooks, and print the failed tests.

    Raises:
        HookTestsError: The file has mistakes.
        _CommandError: A test fails.
    """
    file = _TestsFile(settings, config, providers)
    _, tests = file.read()
    failures = [(test, outcome) for test in tests if not (outcome := file.run(test)).passes]
    for test, outcome in failures:
        problem = "has no expectation yet" if test.expected is None else "fails"
        print(f"\n{file.name}:{test.line}: the test '{test.name}' of the hook {test.hook.name} {problem}:")
        _print_difference(outcome)
        print("The test passes with this expectation, which --accept writes into the file:")
        print(f"{' ' * _TEST_COLUMN}{dump_member('expect', outcome.result, _TEST_COLUMN)}")
    if failures:
        raise _CommandError(f"\n{file.name}: {len(failures)} of {_count(len(tests), 'test')} failed.")
    if tests:
        print(f"{file.name}: {_count(len(tests), 'test')} passed.")
    elif config.hooks:
        print(f"{file.name}: there are no tests of the hooks, so none ran.")


def _accept(name: str, settings: Settings, config: Config, providers: Mapping[str, Provider]) -> None:
    """Write the actual result of a test as its expectation into the file.

    Raises:
        HookTestsError: The file has mistakes.
        _CommandError: The test doesn't exist, or the file can't be changed.
    """
    file = _TestsFile(settings, config, providers)
    text, tests = file.read()
    by_name = {test.name: test for test in tests}
    if name not in by_name:
        hint = closest(name, by_name)
        remedy = f"Did you mean '{hint}'?" if hint else f"The tests are: {', '.join(by_name) or 'none'}."
        raise _CommandError(f"{file.name}: there is no test '{name}'. {remedy}")
    test = by_name[name]
    outcome = file.run(test)
    if outcome.passes:
        print(f"{file.name}:{test.line}: the test '{name}' passes already. The file is unchanged.")
        return
    _print_difference(outcome)
    try:
        file.write(accept(text, test, outcome))
    except EditError:
        expectation = dump_member("expect", outcome.result, _TEST_COLUMN)
        raise _CommandError(
            f"{file.name}:{test.line}: the change would also change another part of the file, such as an alias or a "
            f"comment. Write the expectation yourself:\n{' ' * _TEST_COLUMN}{expectation}"
        ) from None
    print(f"{file.name}:{test.line}: the file has this expectation now.")
    if outcome.has_credentials:
        print("Note: the expectation has [redacted] in place of each credential, and any credential there passes.")


def _print_difference(outcome: Outcome) -> None:
    for reason in outcome.reasons:
        print(f"  {reason}")
    print(
        outcome.diff()
        or 'The expectation contains a credential. In place of the credential, write "[redacted]", with the quotes.'
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
