"""From the process's start to the first update that is delivered, beside what can't be avoided."""

import json
import os
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from deploy.local.cloud import Function, free_port, secret_name
from tests.benchmarks.events import HOOKS, native
from tests.benchmarks.ground import OWN, Ground

# What can't be avoided, timed where a bare function's imports are done already: the libraries that any update goes
# through, and for secrets in Secret Manager its client, which brings requests with it, and a fetch.
_LIBRARIES = """
import json, time
import functions_framework._cli
import functions_framework._http.gunicorn
began = time.perf_counter()
import requests, marshmallow
print(json.dumps([time.perf_counter() - began]))
"""
_CLIENT = """
import json, sys, time
import functions_framework._cli
import functions_framework._http.gunicorn
began = time.perf_counter()
from google.cloud.secretmanager import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceGrpcTransport
import grpc
imported = time.perf_counter()
channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_http_proxy", 0)])
client = SecretManagerServiceClient(transport=SecretManagerServiceGrpcTransport(channel=channel))
client.access_secret_version(name=sys.argv[2])
print(json.dumps([imported - began, time.perf_counter() - imported]))
"""


def measure(ground: Ground, rounds: int, threads: int) -> dict[str, Any]:
    """Medians, in milliseconds."""
    cloud = ground.cloud
    settings = ground.settings("http", threads)
    in_variables = {
        **settings, "APIFY_TOKEN": "env:APIFY", "DATA_WORLD_TOKEN": "env:APIFY", "RELAY_SECRET": "env:SECRET",
    }  # fmt: skip
    subjects: dict[str, tuple[Mapping[str, str], str | None]] = {
        "answer": (settings, "answer"),
        "forward": (settings, "forward"),
        "variables": (in_variables, None),
        "with_a_hook": (in_variables | ground.hooked(HOOKS), None),
        "secret_manager": (settings, None),
    }
    times: dict[str, list[float]] = {name: [] for name in (*subjects, "libraries", "client_import", "fetch")}
    for _ in range(rounds):
        for name, (environ, floor) in subjects.items():
            times[name].append(_first_answer(ground, environ, floor))
        times["libraries"] += _timed(ground, _LIBRARIES)
        version = f"{secret_name('apify-token')}/versions/latest"
        imported, fetched = _timed(ground, _CLIENT, cloud.secret_manager.address, version)
        times["client_import"].append(imported)
        times["fetch"].append(fetched)
    return {name: round(statistics.median(each) * 1000, 1) for name, each in times.items()}


def _first_answer(ground: Ground, settings: Mapping[str, str], floor: str | None) -> float:
    event = native(ground.cloud.relay_secret)[0]
    head = [f"POST {event.path} HTTP/1.1", "Host: relay", "Content-Type: application/json", "Connection: close"]
    head += [f"{name}: {value}" for name, value in event.proven().items()]
    request = "\r\n".join([*head, f"Content-Length: {len(event.body)}", "", ""]).encode() + event.body
    began = time.perf_counter()
    function = Function(settings, log=subprocess.DEVNULL, command=ground.command(floor), port=free_port())
    try:
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", function.port))
                break
            except ConnectionRefusedError:
                time.sleep(0.001)
        with connection:
            connection.sendall(request)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        seconds = time.perf_counter() - began
        assert answer.startswith(b"HTTP/1.1 200"), answer
    finally:
        os.killpg(function.process.pid, signal.SIGTERM)
        function.process.wait()
    return seconds


def _timed(ground: Ground, program: str, *arguments: str) -> list[float]:
    """The seconds that `program` says its parts took."""
    command = ["taskset", "-c", ",".join(map(str, OWN)), ground.python, "-c", program, *arguments]
    environ = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
    seconds: list[float] = json.loads(said.stdout)
    return seconds


def lines(found: dict[str, Any]) -> list[str]:
    """The figures, as text."""
    bare, forward, plain, hook = (found[name] for name in ("answer", "forward", "variables", "with_a_hook"))
    managed, libraries, client = (found[name] for name in ("secret_manager", "libraries", "client_import"))
    fetch = found["fetch"]
    with_libraries, with_client = bare + libraries, bare + client + fetch
    return [
        f"start to first answer: bare {bare} ms, bare forward {forward} ms",
        f"start to first update, secrets in variables: {plain} ms; with a hook in relay.yaml {hook} ms",
        f"  {plain / bare:.2f} × bare, {plain / forward:.2f} × bare forward",
        f"  {plain / with_libraries:.2f} × {with_libraries:.1f} ms: bare, and {libraries} ms to import the libraries",
        f"start to first update, secrets in Secret Manager: {managed} ms",
        f"  {managed / with_client:.2f} × {with_client:.1f} ms: bare, client's import {client} ms, a fetch {fetch} ms",
    ]
