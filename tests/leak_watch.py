"""Watching a run of the tests: secrets are noticed where they come to be, and what is shown where it comes in.

So no test has to say what its secrets are, nor to look for them.
"""

import socket
import subprocess
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from flask import request

from deploy.local.apify import Apify
from deploy.local.cloud import Cloud, Function
from deploy.local.secret_manager import SecretManager
from deploy.local.upstream import Platform
from tests.leak_sources import Labelled, of_event, of_request, of_secret, of_settings
from tests.leaks import Secrets


@dataclass
class Log:
    """What a function says, as far as it was looked through."""

    function: Function
    path: Path
    read: int = 0
    #: The leaks in it that a test has failed for.
    told: set[str] = field(default_factory=set)

    def news(self) -> tuple[bytes, bool]:
        """What has come to it, in whole lines; and whether there can be more."""
        over = self.function.process.poll() is not None
        if not self.path.exists():
            return b"", not over
        with self.path.open("rb") as file:
            file.seek(self.read)
            text = file.read()
        text = text if over else text[: text.rfind(b"\n") + 1]
        self.read += len(text)
        return text, not over


@dataclass
class Detector:
    """The secrets in use, and what nobody has looked through yet."""

    secrets: Secrets = field(default_factory=Secrets)
    functions: dict[int, Function] = field(default_factory=dict)
    platforms: list[Platform] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
    #: Logs of functions that have ended, whole.
    done: list[Log] = field(default_factory=list)
    #: Where it came from, which answer or command, and a piece of it.
    shown: deque[tuple[str, int, bytes]] = field(default_factory=deque)
    seconds: float = 0.0
    #: No test comes after this one.
    last: bool = False

    def know(self, found: Labelled) -> None:
        """These are secrets from now on."""
        for label, value in found:
            self.secrets.add(label, value)

    def sent(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """A test sends this to a function."""
        began = time.perf_counter()
        self.know(of_request(path, headers))
        self.know(of_event(body))
        self.seconds += time.perf_counter() - began

    def leaks(self) -> list[str]:
        """What was shown since the last look: where, whose secret, and how it is written."""
        for platform in self.platforms:
            self.know((f"a token of {type(platform).__name__}", token) for token in list(platform.tokens))
        pieces: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)
        while self.shown:
            where, which, piece = self.shown.popleft()
            pieces[where, which].append(piece)
        found = [line for (where, _), each in pieces.items() for line in self.inside(where, b"".join(each))]
        still: list[Log] = []
        for log in self.logs:
            text, more = log.news()
            leaks = self.inside("the log of a function", text)
            log.told.update(leaks)
            found += leaks
            (still if more else self.done).append(log)
        self.logs = still
        return list(dict.fromkeys(found))

    def late_leaks(self) -> list[str]:
        """What logs hold of secrets that came to be when the lines that show them had been looked through."""
        found: list[str] = []
        for log in (*self.done, *self.logs):
            if log.path.exists():
                leaks = self.inside("the log of a function", log.path.read_bytes())
                found += [each for each in leaks if each not in log.told]
        return list(dict.fromkeys(found))

    def inside(self, where: str, text: bytes) -> list[str]:
        """A line for each secret in `text`."""
        return list(dict.fromkeys(f"in {where}: {each.label} ({each.how})" for each in self.secrets.found(text)))


DETECTOR = Detector()
# Connections to functions, numbered: what comes in on them is an answer.
_connections: WeakKeyDictionary[socket.socket, int] = WeakKeyDictionary()
_numbers = count()


def _around(owner: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    setattr(owner, name, wrap(getattr(owner, name)))


def _first(notice: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Has `notice` called with what a method is called with, before it is."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def noticed(*args: Any, **named: Any) -> Any:
            notice(*args, **named)
            return method(*args, **named)

        return noticed

    return wrap


def _then(notice: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Has `notice` called with what a method returned, and what it was called with."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def noticed(*args: Any, **named: Any) -> Any:
            result = method(*args, **named)
            notice(result, *args, **named)
            return result

        return noticed

    return wrap


def watch() -> None:
    """From now on, secrets are noticed where they come to be, and answers where they come in: at the sockets."""
    _around(Cloud, "start", _first(_of_cloud))
    _around(SecretManager, "add_version", _first(_of_version))
    _around(Platform, "start", _first(lambda self, *_: DETECTOR.platforms.append(self)))
    _around(Platform, "_remember", _first(lambda self: DETECTOR.know(_of_call())))
    _around(Apify, "add", _then(_of_dataset))
    _around(Function, "__init__", _first(_of_function))
    _around(Function, "__init__", _then(_launched))
    _around(socket.socket, "connect", _first(_connected))
    _around(socket.socket, "recv", _then(lambda said, self, *_: _received(self, said)))
    _around(socket.socket, "recv_into", _then(lambda n, self, into, *_: _received(self, bytes(into[:n]))))
    _around(subprocess.Popen, "communicate", _then(_printed))


def _of_cloud(cloud: Cloud) -> None:
    DETECTOR.know(of_secret("the Apify token", cloud.apify_token))
    DETECTOR.know(of_secret("the data.world token", cloud.data_world_token))
    DETECTOR.know(of_secret("RELAY_SECRET", cloud.relay_secret))
    DETECTOR.know(of_secret("GitHub's secret", cloud.github_secret))


def _of_version(_: SecretManager, secret: str, text: str | bytes) -> None:
    label = f"the secret {secret.rpartition('/')[2]}"
    DETECTOR.know(of_secret(label, text) if isinstance(text, str) else iter([(label, text)]))


def _of_call() -> Labelled:
    """What of a platform's call is a credential; a hook may have made it of a payload that says nothing of it."""
    return of_event(request.get_data())


def _of_dataset(dataset: str, apify: Apify, *_: Any, **__: Any) -> None:
    DETECTOR.secrets.add("a dataset's urlSigningSecretKey", apify.datasets[dataset]["urlSigningSecretKey"])


def _of_function(
    _: Function, settings: Mapping[str, str], *, environ: Mapping[str, str] | None = None, **__: Any
) -> None:
    DETECTOR.know(of_settings(settings, environ or {}))


def _launched(_: None, function: Function, *__: Any, log: Any = None, **___: Any) -> None:
    DETECTOR.functions[function.port] = function
    if isinstance(getattr(log, "name", None), str):
        DETECTOR.logs.append(Log(function, Path(log.name)))


def _connected(connection: socket.socket, address: Any) -> None:
    function = DETECTOR.functions.get(address[1]) if isinstance(address, tuple) else None
    # The port of one that has ended may be another server's now.
    if function and function.process.poll() is None:
        _connections[connection] = next(_numbers)


def _received(connection: socket.socket, said: bytes) -> None:
    if (number := _connections.get(connection)) is not None:
        DETECTOR.shown.append(("an answer", number, said))


def _printed(result: tuple[Any, Any], process: "subprocess.Popen[Any]", *_: Any, **__: Any) -> None:
    for said in result:
        if said:
            DETECTOR.shown.append(
                ("what a command printed", process.pid, said if isinstance(said, bytes) else said.encode())
            )
