"""The cloud on this machine: both providers, Secret Manager, and the function under its real server."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from deploy.local.apify import Apify
from deploy.local.data_world import DataWorld
from deploy.local.google_identity import ACCOUNT, AUDIENCE, GoogleIdentity
from deploy.local.secret_manager import SecretManager

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "local-project"
APIFY_USER, DATA_WORLD_OWNER = "jane", "acme"


@dataclass
class Cloud:
    """Both local providers, a Secret Manager with the tokens and the secrets of the senders, and Google's ID tokens."""

    apify_token: str = field(default_factory=lambda: f"apify_api_{secrets.token_hex(18)}", repr=False)
    data_world_token: str = field(default_factory=lambda: f"dw.{secrets.token_urlsafe(30)}", repr=False)
    relay_secret: str = field(default_factory=lambda: f"whsec_{secrets.token_hex(16)}", repr=False)
    github_secret: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    apify: Apify = field(init=False)
    data_world: DataWorld = field(init=False)
    secret_manager: SecretManager = field(init=False)
    google: GoogleIdentity = field(init=False)

    def start(self) -> "Cloud":
        """Start all servers on free ports. Return the cloud itself."""
        self.apify = Apify(tokens={self.apify_token: APIFY_USER})
        self.data_world = DataWorld(tokens={self.data_world_token: DATA_WORLD_OWNER})
        self.secret_manager = SecretManager()
        self.google = GoogleIdentity()
        # `echo TOKEN | gcloud secrets versions add …` stores a newline after the token.
        self.secret_manager.add_version(secret_name("apify-token"), f"{self.apify_token}\n")
        self.secret_manager.add_version(secret_name("data-world-token"), self.data_world_token)
        self.secret_manager.add_version(secret_name("relay-secret"), self.relay_secret)
        self.secret_manager.add_version(secret_name("github-webhook-secret"), self.github_secret)
        self.apify.start()
        self.data_world.start()
        self.secret_manager.start()
        self.google.start()
        return self

    def stop(self) -> None:
        """Stop all servers."""
        self.apify.stop()
        self.data_world.stop()
        self.secret_manager.stop()
        self.google.stop()

    def settings(self) -> dict[str, str]:
        """Return the environment variables of a function that uses this cloud."""
        return {
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "SECRET_MANAGER_EMULATOR_HOST": self.secret_manager.address,
            "APIFY_BASE_URL": self.apify.base_url,
            "APIFY_TOKEN": "apify-token",
            "DATA_WORLD_BASE_URL": self.data_world.base_url,
            "DATA_WORLD_TOKEN": "data-world-token",
            "RELAY_SECRET": "relay-secret",
            "RELAY_PUSH_CERTS_URL": self.google.certs_url,
        }


def queue_settings(pubsub: str) -> dict[str, str]:
    """Return the settings of a queue in the Pub/Sub at the address `pubsub`."""
    return {
        "PUBSUB_EMULATOR_HOST": pubsub,
        "APIFY_TOPIC": topic_name("apify-updates"),
        "DATA_WORLD_TOPIC": topic_name("data-world-updates"),
        "RELAY_DEAD_LETTER_TOPIC": topic_name("dead-letters"),
        "RELAY_PUSH_AUDIENCE": AUDIENCE,
        "RELAY_PUSH_ACCOUNT": ACCOUNT,
    }


def topic_name(name: str) -> str:
    """Return the full name of a topic in the project of this cloud."""
    return f"projects/{PROJECT}/topics/{name}"


def secret_name(name: str) -> str:
    """Return the full name of a secret in the project of this cloud."""
    return f"projects/{PROJECT}/secrets/{name}"


class Function:
    """The function as in a deployment: `functions-framework` in a separate process."""

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        port: int | None = None,
        log: IO[Any] | int | None = None,
        cwd: Path = ROOT,
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "functions_framework", "--target", "relay"),
    ) -> None:
        """Start the function. Its variables are `settings`, `environ`, and the variables that every process needs."""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        needed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self.process = subprocess.Popen(
            [*command, "--host", "127.0.0.1"],
            cwd=cwd,
            env={**needed, **(environ or {}), "PORT": str(self.port), "PYTHONUNBUFFERED": "1", **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal must reach only the parent process, which then stops the function.
            start_new_session=True,
        )

    def wait_until_up(self, seconds: float = 300.0, *, stop: threading.Event | None = None) -> "Function":
        """Wait until GET /health has a response, or until the event `stop` is set. Return the function itself.

        Raises:
            RuntimeError: The function has ended, or doesn't respond within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if stop and stop.is_set():
                return self
            if self.process.poll() is not None:
                raise RuntimeError(f"The function ended with exit code {self.process.returncode}.")
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=1):
                    return self
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"The function did not respond within {seconds} seconds.")

    def stop(self) -> int:
        """Stop the function with SIGTERM, as Cloud Run does, and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            # End the process group, because gunicorn's workers are child processes.
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()


def stop_event() -> threading.Event:
    """Return an event that Ctrl-C, SIGTERM, and a closed terminal set, instead of raising an exception.

    An exception during the start of a process would leave the process behind.
    """
    stop = threading.Event()

    def handle(*_: object) -> None:
        # The signal can interrupt `stop.wait()` in this thread while it holds the lock that `stop.set()` needs.
        threading.Thread(target=stop.set, daemon=True).start()

    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # `nohup` starts a process that ignores the end of its terminal.
        if signal_number != signal.SIGHUP or signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal_number, handle)
    return stop


def free_port() -> int:
    """Return a port of the loopback interface that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
