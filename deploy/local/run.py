"""`make run`: the function, both providers, and Secret Manager until Ctrl-C, with commands to paste."""

import errno
import json
import os
import select
import shlex
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO

from deploy.local.cloud import (
    APIFY_USER,
    DATA_WORLD_OWNER,
    PROJECT,
    Cloud,
    Function,
    free_port,
    queue_settings,
    stop_event,
)
from deploy.local.emulator import INSTALL, Emulator, find_gcloud
from deploy.local.hook_requests import HookRequest, LocalHooks, generate_variables, load
from deploy.local.terminal import accept_all_characters, paint, readable, width, wrap
from handlers.hooks import Config, ConfigError
from handlers.hooks.loader import DEFAULT_PATH
from handlers.logs import write_all
from schemas.event import Update

#: The hooks if neither RELAY_CONFIG nor deploy/relay.yaml has hooks.
RECIPE = "deploy/recipes/github-workflow.yaml"
_DEFAULT_PORT = 8080


class PortError(Exception):
    """PORT isn't usable. The message names the reason and the remedy."""


class EmulatorError(Exception):
    """There is no emulator for QUEUE=1. The message names the remedy."""


class Log:
    """The function's log on its way from a pipe to the standard output. The lines wait until `show`.

    On a terminal, each line has a form for people. Otherwise, each line stays as it is. The event `stop` is set if
    nothing can read the lines any more.
    """

    def __init__(self, pipe: IO[bytes], stop: threading.Event) -> None:
        self._pipe, self._stop = pipe, stop
        self._is_for_people = sys.stdout.isatty()
        self._held: list[bytes] | None = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def show(self) -> None:
        """Write the lines so far, and each further line at once."""
        with self._lock:
            held, self._held = self._held or [], None
            for line in held:
                self._write(line)

    def finish(self) -> None:
        """Write the remaining lines. The function must have ended."""
        self.show()
        self._thread.join(5)

    def is_unreadable(self) -> bool:
        """Return True if the terminal is closed, or if the program that reads the standard output has ended.

        SIGHUP isn't enough: only the first process of a terminal gets the signal, and make doesn't pass it on.
        """
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        has_ended = any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
        return has_ended or sys.stdout.isatty() is not self._is_for_people

    def _run(self) -> None:
        for line in self._pipe:
            with self._lock:
                if self._held is None:
                    self._write(line)
                else:
                    self._held.append(line)

    def _write(self, line: bytes) -> None:
        if self._is_for_people:
            text = readable(line.decode("utf-8", "replace").rstrip("\r\n"), clock=time.strftime("%H:%M:%S "))
            line = f"{text}\n".encode(sys.stdout.encoding, "backslashreplace")
        try:
            write_all(sys.stdout.fileno(), line)
        except OSError:
            self._stop.set()


def main() -> int:
    """Run until Ctrl-C, SIGTERM, or a closed terminal, or until the function ends."""
    accept_all_characters()
    stop = stop_event()
    try:
        path = _hooks_file()
        port = choose_port(os.environ.get("PORT", ""))
        variables = generate_variables(load(path, None), os.environ)
        environ = {**os.environ, **variables, "GOOGLE_CLOUD_PROJECT": PROJECT}
        config = load(path, environ)
        gcloud = _find_emulator() if os.environ.get("QUEUE") else None
    except (PortError, ConfigError, EmulatorError) as error:
        print(f"{paint('red', 'Not started:')} {error}", file=sys.stderr)
        return 1
    cloud = Cloud().start()
    emulator = Emulator(gcloud) if gcloud else None
    try:
        settings = {**cloud.settings(), "RELAY_CONFIG": path}
        if emulator:
            emulator.wait_until_up().create_queue(cloud.google.push_url)
            cloud.google.target = f"http://127.0.0.1:{port}/deliveries"
            settings |= queue_settings(emulator.address)
        hooks = LocalHooks(config, {**environ, **settings}, variables, cloud)
        hooks.create_datasets()
        function = Function(settings, port=port, log=subprocess.PIPE, environ=environ)
        return _serve(cloud, config, hooks, function, emulator.address if emulator else None, stop)
    finally:
        if emulator:
            emulator.stop()
        cloud.stop()


def _serve(
    cloud: Cloud, config: Config, hooks: LocalHooks, function: Function, pubsub: str | None, stop: threading.Event
) -> int:
    """Print the introduction and the log until `stop` is set, or until the function ends. Return the exit status."""
    assert function.process.stdout is not None
    log = Log(function.process.stdout, stop)
    try:
        function.wait_until_up(stop=stop)
        if not stop.is_set():
            requests = hooks.requests(function.url)
            print(introduction(cloud, function.url, config, requests, pubsub), flush=True)
        log.show()
        while not (stop.wait(0.2) or log.is_unreadable()):
            if function.process.poll() is not None:
                raise RuntimeError(f"The function ended with exit code {function.process.returncode}.")
        return 0
    except RuntimeError as error:
        log.finish()
        print(f"{paint('red', 'Stopped:')} {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    finally:
        function.stop()
        log.finish()
        if sys.stdout.isatty():
            # The terminal may be closed.
            with suppress(OSError):
                os.write(sys.stdout.fileno(), b"\nEverything has stopped.\n")


def _hooks_file() -> str:
    """Return the path of the file with the hooks: RELAY_CONFIG, or the default file if it has a hook, or a recipe.

    Raises:
        ConfigError: The default file has mistakes.
    """
    if path := os.environ.get("RELAY_CONFIG"):
        return path
    return DEFAULT_PATH if load(DEFAULT_PATH, None).hooks else RECIPE


def _find_emulator() -> str:
    """Return the path of a `gcloud` with the emulator of Pub/Sub.

    Raises:
        EmulatorError: There is no such `gcloud`, or no Java.
    """
    if gcloud := find_gcloud():
        return gcloud
    raise EmulatorError(
        f"QUEUE=1 needs gcloud with the emulator of Pub/Sub, and Java. To install the emulator, run: {INSTALL}"
    )


def choose_port(setting: str) -> int:
    """Return the port in `setting`, the value of PORT, or by default 8080 or another free port.

    Raises:
        PortError: The setting isn't the number of a port, or the function can't listen on the port.
    """
    text = setting.strip()
    if not text:
        return _DEFAULT_PORT if _listen_error(_DEFAULT_PORT) is None else free_port()
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535):
        raise PortError("PORT must be a whole number from 1 to 65535, such as PORT=8081.")
    port = int(text)
    match _listen_error(port):
        case None:
            return port
        case errno.EADDRINUSE:
            raise PortError(
                f"Another program listens on port {port}. Stop the program, or choose another port: PORT={free_port()}."
            )
        case error:
            raise PortError(
                f"The function can't listen on port {port}: {os.strerror(error)}. Choose a port above 1023."
            )


def _listen_error(port: int) -> int | None:
    """Return the error number of an attempt to listen on `port` of the loopback interface, or None for a free port."""
    with socket.socket() as probe:
        # On macOS, a second program can listen if the first program listens on all interfaces.
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return errno.EADDRINUSE
    with socket.socket() as probe:
        # The server also sets this option, because the connections of an earlier server remain for a while.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno
    return None


def introduction(cloud: Cloud, url: str, config: Config, requests: list[HookRequest], pubsub: str | None = None) -> str:
    """Return the text that `make run` prints before the log: the addresses, and commands to paste.

    `pubsub` is the address of the emulator of Pub/Sub, or None without a queue.
    """
    addresses = [
        ("the function", url),
        ("Apify", cloud.apify.base_url),
        ("data.world", cloud.data_world.base_url),
        ("Secret Manager", f"{cloud.secret_manager.address} (gRPC)"),
        *([("Pub/Sub", f"{pubsub} (emulator, gRPC)")] if pubsub else []),
    ]
    parts = [
        f"\n{paint('bold', 'Dataset Relay')} on this machine:\n",
        *(f"  {name:<16}{paint('cyan', address)}" for name, address in addresses),
        "",
        "Paste a command into another terminal. The generated secrets are valid only until",
        "you stop the function.",
        "",
        *_native_commands(cloud, url, config),
        paint("bold", f"Hooks of {config.positions.file}") + ("" if requests else ": none") + "\n",
        *(line for request in requests for line in _describe(request)),
        "Ctrl-C stops everything. The log of the function follows.\n",
    ]
    return "\n".join(parts)


def _describe(request: HookRequest) -> list[str]:
    hook = request.hook
    lines = [
        f"  POST {paint('cyan', f'/hooks/{hook.name}')}, sender: {hook.sender.name}",
        *wrap(f"  {request.effect}", width()),
        *wrap(f"  Secret: {request.secrets}", width()),
    ]
    if request.valid_until:
        end = time.strftime("%H:%M", time.localtime(request.valid_until))
        lines.append(f"  The signature contains the time, and is valid until {end}.")
    lines += wrap(f"  {request.obstacle}", width()) if request.obstacle else [f"  {request.command}"]
    return [*lines, ""]


def _native_commands(cloud: Cloud, url: str, config: Config) -> list[str]:
    """Return the commands that send native events and read the records, each with its title."""
    apify_user = cloud.apify.tokens.get(cloud.apify_token, APIFY_USER)
    dataset_id = cloud.apify.add(apify_user, "products-of-make-run")
    reference = f"{DATA_WORLD_OWNER}/products"
    if reference not in cloud.data_world.datasets:
        cloud.data_world.add(reference)
    title = {"title": "Products, daily"}
    events = [
        ("Preview the request, without sending it", "data.world", reference, title, "/?dry_run=true"),
        ("Update a dataset on Apify", "apify", dataset_id, {"generalAccess": "ANYONE_WITH_ID_CAN_READ"}, ""),
        ("Update a dataset on data.world", "data.world", reference, title, ""),
        ("Send an event with a typing error", "data.world", reference, {"titel": "Products, daily"}, ""),
    ]
    lines = []
    for name, provider, dataset, update, path in events:
        if not config.allows(Update(provider, dataset, update)):
            lines += [paint("bold", name), f"  No command: events.allow doesn't contain {provider}:{dataset}.\n"]
            continue
        event = json.dumps({"provider": provider, "dataset": dataset, "update": update})
        options = f"-i -H 'Content-Type: application/json' -d '{event}' {shlex.quote(url + path)}"
        lines += [paint("bold", name), f"  {_curl(options, cloud.relay_secret)}\n"]
    return [
        *lines,
        paint("bold", "Read the records back"),
        f"  {_curl(f'-s {cloud.apify.base_url}/datasets/{dataset_id}', cloud.apify_token)}",
        f"  {_curl(f'-s {cloud.data_world.base_url}/datasets/{reference}', cloud.data_world_token)}\n",
    ]


def _curl(options: str, secret: str) -> str:
    """Return a curl command whose `Authorization` header isn't an argument, since `ps` shows arguments to all users.

    `echo` is a part of every shell, and so isn't a process.
    """
    return f"echo 'Authorization: Bearer {secret}' | curl -w '\\n' -H @- {options}"


if __name__ == "__main__":
    sys.exit(main())
