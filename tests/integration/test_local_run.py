"""Tests of `make run`: hooks, secrets, commands, addresses, the port, the log, and the end of the command."""

import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.local.cloud import PROJECT, ROOT, Cloud, free_port
from deploy.local.emulator import INSTALL, find_gcloud
from deploy.local.hook_requests import LocalHooks, generate_variables, load
from deploy.local.run import PortError, choose_port, introduction
from deploy.local.signing import signed_headers
from deploy.local.terminal import printable, readable, wrap
from handlers.hooks import Config
from handlers.senders import SENDERS
from tests.support.canary import find_canary, secret
from tests.support.visible_arguments import SHELLS, record

THREE_HOOKS = """\
hooks:
  build:
    sender: github
    secret: build-secret
    updates:
      - {provider: data.world, dataset: my-org/sales, update: {title: "{{ event.workflow_run.name }}"}}
  job:
    sender: databricks
    secret: [env:JOB_SECRET, projects/other-project/secrets/job/versions/3]
    updates:
      - {provider: apify, dataset: bob~jobs, token: env:BOBS_TOKEN, update: {generalAccess: RESTRICTED}}
  sync:
    sender: airbyte
    secret: sync-secret
    updates:
      - {provider: data.world, dataset: other-org/sync, token: other-token, update: {tags: [daily]}}
"""
UPDATE = "updates: [{provider: data.world, dataset: acme/products, update: {tags: [daily]}}]"
#: The statuses of the commands for native events: two updates, a preview, and a mistake.
NATIVE_STATUSES = ["200", "200", "200", "422"]


@dataclass
class Run:
    """A running `make run`, and the lines that it has printed so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def read_introduction(self) -> None:
        """Read the lines before the log."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError("\n".join(self.lines))

    @property
    def commands(self) -> list[str]:
        """The printed commands, without their indentation."""
        return [line.strip() for line in self.lines if "curl " in line]

    @property
    def hook_commands(self) -> list[str]:
        """The printed commands for hooks."""
        return [command for command in self.commands if "/hooks/" in command]


def variables(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **more}


def command(**more: str) -> dict[str, object]:
    """Return the arguments with which `subprocess` runs `make run` with these variables."""
    return {"args": [sys.executable, "-m", "deploy.local.run"], "cwd": ROOT, "env": variables(**more), "text": True}


@contextmanager
def running_with(**more: str) -> Iterator[Run]:
    """Run `make run` with these variables, up to the log."""
    process = subprocess.Popen(
        **command(**{"PORT": str(free_port()), **more}),  # type: ignore[call-overload]
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        run = Run(process)
        run.read_introduction()
        yield run
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate()
        assert process.returncode == 0
    finally:
        # SIGKILL would leave the function behind.
        process.terminate()
        process.wait()


@contextmanager
def running(config: str, folder: Path, **more: str) -> Iterator[Run]:
    """Run `make run` with the hooks in `config`, up to the log."""
    path = folder / "my.yaml"
    path.write_text(config)
    with running_with(RELAY_CONFIG=str(path), **more) as run:
        yield run


def fail(**more: str) -> str:
    """Return the error with which `make run` ends."""
    completed = subprocess.run(**command(**more), capture_output=True)  # type: ignore[call-overload]
    assert (completed.returncode, completed.stdout) == (1, "")
    error: str = completed.stderr
    return error


def paste(line: str, shell: str, folder: Path) -> str:
    """Return the output of a command in a shell, in a folder other than the folder of the project."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} isn't installed: the commands are NOT tested in {shell}")
    return subprocess.run([shell, "-c", line], cwd=folder, capture_output=True, text=True).stdout


def status(response: str) -> str:
    return response.split()[1]


def test_run_printed_commands_succeed(tmp_path: Path) -> None:
    port = free_port()
    with running_with(PORT=str(port)) as run:
        assert any(f"http://127.0.0.1:{port}" in line for line in run.lines)
        assert len(run.commands) == 7
        responses = [paste(command, "bash", tmp_path) for command in run.commands]
    assert [status(response) for response in responses[:4]] == NATIVE_STATUSES
    assert "did you mean title?" in responses[3]
    assert json.loads(responses[4])["data"]["generalAccess"] == "ANYONE_WITH_ID_CAN_READ"
    assert json.loads(responses[5])["title"] == "Products, daily"
    assert status(responses[6]) == "200"
    assert '"status":200' in responses[6]


@pytest.mark.parametrize("shell", SHELLS)
def test_run_three_hooks_printed_commands_succeed(tmp_path: Path, shell: str) -> None:
    with running(THREE_HOOKS, tmp_path) as run:
        responses = [paste(line, shell, tmp_path) for line in run.commands]
    assert [status(response) for response in responses[:4]] == NATIVE_STATUSES
    assert [status(response) for response in responses[6:]] == ["200"] * 3
    results = [json.loads(response.splitlines()[-1])["results"] for response in responses[6:]]
    assert [(result["dataset"], result["status"]) for (result,) in results] == [
        ("my-org/sales", 200), ("bob~jobs", 200), ("other-org/sync", 200),
    ]  # fmt: skip


def test_run_lists_hooks_with_their_effects_and_secrets(tmp_path: Path) -> None:
    with running(THREE_HOOKS, tmp_path) as run:
        text = "\n".join(run.lines)
    assert f"Hooks of {tmp_path / 'my.yaml'}" in text
    assert "POST /hooks/build, sender: github\n  Updates data.world my-org/sales\n" in text
    assert "POST /hooks/job, sender: databricks\n  Updates apify bob~jobs\n" in text
    assert "Secret: generated, in the variable JOB_SECRET, generated, in Secret Manager" in " ".join(text.split())


def hook_of(sender: str, secret: str) -> str:
    """Return a hook of a sender with the name of the sender, as YAML."""
    credential = f"secret: {secret}"
    if sender == "google":
        credential = "audience: https://relay.example\n    account: push@relay.example"
    return f"  {sender}:\n    sender: {sender}\n    {credential}\n    {UPDATE}\n"


def test_run_every_sender_has_a_command_that_succeeds(tmp_path: Path) -> None:
    # The test messages of the samples are real events, so that each hook updates the record.
    hooks = "".join(hook_of(name, f"{name}-secret") for name in SENDERS)
    custom = {
        "signed": "{hmac: sha512, header: X-My-Signature, prefix: 'v0=', encoding: base64}",
        "hexed": "{hmac: sha1, header: X-My-Signature}",
        "plain": "{header: X-API-Key}",
    }
    hooks += "".join(
        f"  {name}:\n    sender: {declaration}\n    secret: {name}-secret\n    {UPDATE}\n"
        for name, declaration in custom.items()
    )
    with running(f"hooks:\n{hooks}", tmp_path) as run:
        assert len(run.hook_commands) == len(SENDERS) + len(custom)
        for line in run.hook_commands:
            response = paste(line, "bash", tmp_path)
            assert status(response) == "200", line
            assert '"results"' in response, line


@pytest.mark.parametrize("shell", SHELLS)
def test_run_hook_commands_show_no_secret_to_ps(cloud: Cloud, tmp_path: Path, shell: str) -> None:
    hooks = "".join(hook_of(name, f"{name}-ps") for name in SENDERS)
    path = tmp_path / "my.yaml"
    path.write_text(f"hooks:\n{hooks}")
    for name in SENDERS:
        prefix = "relay:" if name in ("databricks", "azure-devops", "jenkins", "basic") else ""
        cloud.secret_manager.add_version(f"projects/{PROJECT}/secrets/{name}-ps", secret(prefix))
    config = load(str(path), {"GOOGLE_CLOUD_PROJECT": PROJECT})
    commands = [each.command for each in LocalHooks(config, {}, {}, cloud).requests("http://127.0.0.1:1")]
    assert len(commands) == len(SENDERS)
    # `ps` must list each client. The URL of a sender that sets only the URL isn't an argument, but a referer is.
    lines = [f"{line} -e http://127.0.0.1:1" if " -K -" in line else line for line in filter(None, commands)]
    recording = record(shell, "\n".join(lines))
    assert len(recording.outputs) == len(SENDERS)
    assert not [output for output in recording.outputs if find_canary(output)]


@pytest.mark.parametrize("shell", SHELLS)
def test_run_printed_commands_of_native_events_show_no_secret_to_ps(cloud: Cloud, shell: str) -> None:
    text = introduction(cloud, "http://127.0.0.1:1", Config(), [])
    commands = [line for line in text.splitlines() if "curl " in line]
    recording = record(shell, "\n".join(commands))
    secrets = [cloud.relay_secret] * 4 + [cloud.apify_token, cloud.data_world_token]
    assert recording.authorizations == [f"Bearer {secret}" for secret in secrets]
    assert len(recording.outputs) == len(commands) == 6
    assert not [output for output in recording.outputs if find_canary(output)]


def test_run_no_hooks_says_so(tmp_path: Path) -> None:
    with running("hooks:\n", tmp_path) as run:
        assert any(line.startswith("Hooks of ") and line.endswith(": none") for line in run.lines)


def test_run_own_secrets_are_used_and_not_shown(tmp_path: Path) -> None:
    mine, filed = secret(""), secret("")
    path = tmp_path / "secret"
    path.write_text(f"{filed}\n")
    config = (
        f"hooks:\n  signed:\n    sender: github\n    secret: env:MINE\n    {UPDATE}\n"
        f"  shown:\n    sender: token\n    secret: env:MINE\n    {UPDATE}\n"
        f"  filed:\n    sender: dbt\n    secret: file:{path}\n    {UPDATE}\n"
        f"  both:\n    sender: token\n    secret: [env:MINE, generated-secret]\n    {UPDATE}\n"
    )
    with running(config, tmp_path, MINE=mine) as run:
        assert [re.findall("/hooks/([a-z]+)", line)[0] for line in run.hook_commands] == ["signed", "filed", "both"]
        assert [status(paste(line, "bash", tmp_path)) for line in run.hook_commands] == ["200"] * 3
        text = " ".join("\n".join(run.lines).split())
    assert not find_canary(text)
    assert "No command: it would show the secret in env:MINE, which is your own, and not generated." in text
    assert "Secret: your variable MINE" in text


def test_run_missing_secret_file_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "missing"
    with running(f"hooks:\n  x:\n    sender: github\n    secret: file:{path}\n    {UPDATE}\n", tmp_path) as run:
        text = " ".join("\n".join(run.lines).split())
        assert run.hook_commands == []
    assert "doesn't exist, is empty, or can't be read (make run doesn't create it)" in text
    assert "No command: there is no secret. Create the file, and start again." in text
    assert not path.exists()


def test_run_hook_that_ignores_or_fails_on_the_sample_says_so(tmp_path: Path) -> None:
    failing = '[{provider: data.world, dataset: acme/products, update: {title: "{{ event.nothing }}"}}]'
    config = (
        f"hooks:\n  deaf:\n    sender: github\n    secret: a\n    when: event.action == 'other'\n    {UPDATE}\n"
        f"  broken:\n    sender: github\n    secret: a\n    updates: {failing}\n"
    )
    with running(config, tmp_path) as run:
        text = " ".join("\n".join(run.lines).split())
        responses = [paste(line, "bash", tmp_path) for line in run.hook_commands]
    assert "The hook ignores the sample. The hook's when condition" in text
    assert "The hook fails on the sample: updates.0.update.title: " in text
    assert [status(response) for response in responses] == ["200", "422"]


def test_run_timestamped_signature_shows_its_end(tmp_path: Path) -> None:
    hook = f"hooks:\n  x:\n    sender: standard-webhooks\n    secret: a\n    {UPDATE}\n"
    with running(hook, tmp_path) as run:
        assert any(
            re.search(r"The signature contains the time, and is valid until \d\d:\d\d\.", each) for each in run.lines
        )


def test_run_events_allow_leaves_out_forbidden_commands(tmp_path: Path) -> None:
    with running('events: {allow: ["data.world:acme/*"]}\n', tmp_path) as run:
        responses = [paste(line, "bash", tmp_path) for line in run.commands]
    assert [status(response) for response in responses[:-2]] == ["200", "200", "422"]
    assert any("No command: events.allow doesn't contain apify:" in line for line in run.lines)


def test_run_mistake_in_the_file_starts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"hooks:\n  x:\n    sender: githbu\n    secret: a\n    {UPDATE}\n")
    error = fail(RELAY_CONFIG=str(path))
    assert error.startswith("Not started: ")
    assert "my.yaml:3: hook x: sender: " in error
    assert "did you mean github?" in error


def test_run_missing_configuration_file_is_an_error(tmp_path: Path) -> None:
    assert "Can't read the file: No such file or directory." in fail(RELAY_CONFIG=str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("port", ["http", "0", "-1", "65536", "80.0", "²", "8080 8081", "99999999"])
def test_run_invalid_port_fails(port: str) -> None:
    assert fail(PORT=port) == "Not started: PORT must be a whole number from 1 to 65535, such as PORT=8081.\n"


@pytest.mark.parametrize("address", ["127.0.0.1", ""])
def test_run_port_in_use_fails(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        error = fail(PORT=str(port))
    assert error.startswith(f"Not started: Another program listens on port {port}. Stop the program, or choose ")


def test_choose_port_of_an_ended_server_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # The closed connection remains in the state TIME_WAIT on the side of the server.
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()
        client.close()
    assert choose_port(f" {port} ") == port


def test_choose_port_not_permitted_names_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.run._listen_error", lambda port: 13)
    with pytest.raises(PortError, match="can't listen on port 80: Permission denied"):
        choose_port("80")


def test_choose_port_default_in_use_takes_another_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.run._listen_error", lambda port: 98)
    assert choose_port("") != 8080


class Terminal:
    """`make run` in a terminal of its own."""

    def __init__(self, *arguments: str, **more: str) -> None:
        self.output = b""
        self.pid, descriptor = pty.fork()
        self._descriptor: int | None = descriptor
        if self.pid == 0:
            os.closerange(3, 1024)
            os.chdir(ROOT)
            os.execve(arguments[0], arguments, variables(**more))

    def read_until(self, text: str) -> str:
        """Read the output up to `text`, and return the whole output so far."""
        while text.encode() not in self.output and self._read():
            pass
        decoded = self.output.decode(errors="replace").replace("\r\n", "\n")
        assert text in decoded, decoded
        return decoded

    def _read(self) -> bool:
        assert self._descriptor is not None
        # Without a limit, a command that hangs would stop all tests.
        assert select.select([self._descriptor], [], [], 120)[0], self.output
        try:
            part = os.read(self._descriptor, 65536)
        except OSError:
            return False  # The last process has closed the terminal.
        self.output += part
        return bool(part)

    def press_ctrl_c(self) -> None:
        assert self._descriptor is not None
        os.write(self._descriptor, b"\x03")

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def wait(self) -> None:
        # Nothing can write to a full terminal.
        while self._descriptor is not None and self._read():
            pass
        os.waitpid(self.pid, 0)
        self.close()


def processes_with(marker: str) -> list[Path]:
    """Return the processes whose variables contain `marker`, which every process inherits that `make run` starts."""

    def has_marker(path: Path) -> bool:
        try:
            return marker.encode() in path.read_bytes()
        except OSError:
            return False  # The process has ended in the meantime.

    return [path for path in Path("/proc").glob("[0-9]*/environ") if has_marker(path)]


RUN = (sys.executable, "-m", "deploy.local.run")


@pytest.mark.parametrize("has_color", [True, False])
def test_run_in_a_terminal_shows_addresses_and_then_a_log_for_people(has_color: bool) -> None:
    port = free_port()
    more = {} if has_color else {"NO_COLOR": "1"}
    terminal = Terminal(*RUN, PORT=str(port), TERM="xterm", **more)
    terminal.read_until("Ctrl-C stops everything")
    introduction, _, log = terminal.read_until("GET /health: done").partition("Ctrl-C stops everything")
    for name in ("the function", "Apify", "data.world", "Secret Manager"):
        color = r"\x1b\[36m" if has_color else ""
        assert re.search(rf"  {name} +{color}(http://)?127\.0\.0\.1:\d+", introduction)
    assert f"http://127.0.0.1:{port}" in introduction
    assert ("\x1b[" in introduction) is has_color
    assert '"severity"' not in introduction + log
    assert re.search(r"\d\d:\d\d:\d\d (\x1b\[36m)?INFO", log)
    terminal.press_ctrl_c()
    terminal.read_until("Everything has stopped.")
    terminal.wait()


def test_run_without_a_terminal_keeps_the_log_in_json(tmp_path: Path) -> None:
    with running(THREE_HOOKS, tmp_path) as run:
        paste(run.commands[0], "bash", tmp_path)
        assert not any("\x1b" in line for line in run.lines)
        run.process.send_signal(signal.SIGTERM)
        output, _ = run.process.communicate()
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    # The first command previews a request.
    assert "POST /: dry run" in [line["message"] for line in lines]


@pytest.mark.parametrize("end", ["Ctrl-C", "SIGTERM", "closed terminal"])
def test_run_ended_leaves_no_process(end: str) -> None:
    marker = f"MARK_{os.getpid()}_{end.replace(' ', '_')}"
    make = shutil.which("make") or "make"
    # With make, and an existing installation.
    arguments = [make, "-o", ".venv/run", "run", f"BIN={Path(sys.executable).parent}"]
    terminal = Terminal(*arguments, PORT=str(free_port()), TERM="xterm", MARKER=marker)
    terminal.read_until("GET /health: done")
    assert len(processes_with(marker)) >= 3
    if end == "Ctrl-C":
        terminal.press_ctrl_c()
        terminal.read_until("Everything has stopped.")
    elif end == "SIGTERM":
        os.kill(terminal.pid, signal.SIGTERM)
        terminal.read_until("Everything has stopped.")
    else:
        terminal.close()
    terminal.wait()
    assert processes_with(marker) == []


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("after", [0.3, 0.5, 0.7, 0.9])
def test_run_interrupted_start_leaves_no_process(signal_number: signal.Signals, after: float) -> None:
    marker = f"MARK_{os.getpid()}_{signal_number}_{after}"
    process = subprocess.Popen(
        **command(PORT=str(free_port()), MARKER=marker),  # type: ignore[call-overload]
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    time.sleep(after)
    process.send_signal(signal_number)
    process.communicate()
    assert processes_with(marker) == []


def test_run_reader_of_the_output_ends_leaves_no_process() -> None:
    marker = f"MARK_{os.getpid()}_head"
    script = f"{sys.executable} -m deploy.local.run | head -n 3"
    subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=variables(PORT=str(free_port()), MARKER=marker), capture_output=True
    )
    assert processes_with(marker) == []


def test_run_function_that_ends_is_an_error() -> None:
    completed = subprocess.run(
        **command(PORT=str(free_port()), RELAY_DEADLINE_SECONDS="soon"),  # type: ignore[call-overload]
        capture_output=True,
    )
    assert completed.returncode == 1
    assert "Stopped: The function ended with exit code 1." in completed.stderr
    assert "RELAY_DEADLINE_SECONDS: Must be a number of seconds" in completed.stdout


def test_generate_variables_keeps_set_variables(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(THREE_HOOKS)
    generated = generate_variables(load(str(path), None), {"JOB_SECRET": secret("relay:"), "BOBS_TOKEN": " "})
    assert list(generated) == ["BOBS_TOKEN"]


def test_readable_hostile_value_cannot_control_the_terminal() -> None:
    line = json.dumps(
        {"severity": "INFO\x1b[0m", "message": "a\x1b]0;title\x07\nb", "dataset": "x\u202ey", "n": {"a\x9b": 1}}
    )
    text = readable(line)
    assert printable(text.replace("\n", "")) == text.replace("\n", "")
    assert r"a\x1b]0;title\x07\nb" in text
    assert r"dataset=x\u202ey" in text


def test_readable_line_that_is_no_entry_stays_as_it_is() -> None:
    assert readable("[2026] [INFO] Booting") == "[2026] [INFO] Booting"
    assert readable('["a"]') == '["a"]'
    assert readable("\x1b[2J") == r"\x1b[2J"


def test_readable_entry_shows_message_fields_and_stack() -> None:
    entry = {
        "severity": "ERROR", "message": "POST /: failed", "status": 500, "httpRequest": {"status": 500},
        "logging.googleapis.com/trace": "t", "errors": {"update.x": ["Bad."]}, "stack_trace": "Traceback:\n  line",
    }  # fmt: skip
    assert readable(json.dumps(entry), clock="08:31:40 ").splitlines() == [
        "08:31:40 ERROR    POST /: failed",
        "                  status=500",
        '                  errors: {"update.x": ["Bad."]}',
        "                  Traceback:",
        "                    line",
    ]


@pytest.mark.parametrize(
    "text", ["", "word", "価格" * 60, "a" * 300, " " * 60 + "b" * 200, "one two " * 40, "💶 " * 99]
)
@pytest.mark.parametrize("columns", [40, 80])
def test_wrap_lines_fit_and_lose_no_character(text: str, columns: int) -> None:
    lines = wrap(text, columns)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(len(line.encode("utf-32-le")) // 4 <= columns for line in lines)


def test_signed_headers_secret_without_prefix_is_the_key() -> None:
    plain = signed_headers(secret("relay:"), "m", b"{}", at=0)
    assert plain["webhook-signature"].startswith("v1,")


# The queue


def test_run_queue_without_the_emulator_names_the_command_that_installs_it(tmp_path: Path) -> None:
    error = fail(QUEUE="1", PATH=str(tmp_path))
    assert error == (
        "Not started: QUEUE=1 needs gcloud with the emulator of Pub/Sub, and Java. To install the emulator, run: "
        "gcloud components install pubsub-emulator beta\n"
    )


@pytest.mark.skipif(find_gcloud() is None, reason=f"LOUD: the emulator of Pub/Sub is missing ({INSTALL}). NOT tested.")
def test_run_queue_delivers_the_update_after_the_response(tmp_path: Path) -> None:
    with running_with(QUEUE="1") as run:
        assert any("(emulator, gRPC)" in line for line in run.lines)
        update, record = run.commands[1], run.commands[4]
        assert status(paste(update, "bash", tmp_path)) == "202"
        end = time.monotonic() + 60
        while "ANYONE_WITH_ID_CAN_READ" not in paste(record, "bash", tmp_path):
            assert time.monotonic() < end
            time.sleep(0.1)
