"""Tests of deploy/recipes/airflow_task.py in a real Airflow, which has a virtual environment of its own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

import pytest

from deploy.local.cloud import DATA_WORLD_OWNER, ROOT, free_port
from tests.support.relay import Launch, Relay, unique

PYTHON = ROOT / ".venv/airflow/bin/python"
DATASET = f"{DATA_WORLD_OWNER}/products"

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(),
    reason=".venv/airflow is missing (`make test` makes it): the Airflow recipe is NOT tested",
)

#: A program for Airflow's environment. The program starts Airflow once, which takes long, and then runs a task for each
#: line of its input. `airflow tasks test` runs one attempt of a task; the scheduler, which waits for the next attempt,
#: isn't part of the test.
DRIVER = """
import json, os, sys

results = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # Airflow prints to the standard error

from airflow.cli.cli_parser import get_parser
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

def airflow(*words):
    parsed = get_parser().parse_args(words)
    parsed.func(parsed)

airflow("db", "migrate")
airflow("dags", "reserialize")
print(json.dumps("ready"), file=results)
for line in sys.stdin:
    request = json.loads(line)
    os.environ["AIRFLOW_CONN_DATASET_RELAY"] = json.dumps(request["connection"])
    if request["new"]:
        airflow("dags", "trigger", "publish_products", "--run-id", request["run"])
    airflow("tasks", "test", "publish_products", "update_dataset", request["run"])
    with create_session() as session:
        (task,) = session.scalars(select(TaskInstance).where(TaskInstance.run_id == request["run"]))
        result = task.xcom_pull("update_dataset", session=session)
        print(json.dumps({"state": task.state, "retries": task.max_tries, "result": result}), file=results)
"""


@dataclass
class Attempt:
    """An attempt of a task: the state of the task in Airflow's database, its result, and the output of Airflow."""

    state: str
    retries: int
    result: Any
    output: str


class Airflow:
    """A process that runs tasks of the recipe's DAG."""

    def __init__(self, folder: Path) -> None:
        self.home, self.output = folder / "airflow", folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [PYTHON, "-c", DRIVER],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(folder),
                    "AIRFLOW_HOME": str(self.home),
                    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "deploy/recipes"),
                    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                },
                cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True,
                start_new_session=True,
            )  # fmt: skip
        assert self._read_line() == "ready"

    def run_task(self, host: str, secret: str, run: str, *, is_new: bool = True) -> Attempt:
        """Run an attempt of the task of `run` with this connection; the first one, if `is_new`."""
        assert self.process.stdin
        before = len(self.output.read_text())
        connection = {"conn_type": "http", "host": host, "password": secret}
        self.process.stdin.write(json.dumps({"connection": connection, "run": run, "new": is_new}) + "\n")
        self.process.stdin.flush()
        attempt = Attempt(**self._read_line(), output=self.output.read_text()[before:])
        assert run in attempt.output
        # pytest would print the operands of an `in` inside the assert.
        has_leak = any(secret.encode() in path.read_bytes() for path in self.output.parent.rglob("*") if path.is_file())
        assert not has_leak, "the secret is in Airflow's output or in its folder"
        return attempt

    def _read_line(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError(f"Airflow ended:\n{self.output.read_text()[-5000:]}")
        return json.loads(line)

    def stop(self) -> int:
        """End the process, and return its exit status."""
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()
        finally:
            self.process.stdout.close()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    running = Airflow(tmp_path_factory.mktemp("airflow"))
    yield running
    assert running.stop() == 0


def delivery_id(run: str) -> str:
    return f"publish_products/update_dataset/{run}"


def test_airflow_task_updates_the_record(airflow: Airflow, relay: Relay) -> None:
    relay.cloud.data_world.add(DATASET)
    run = unique("run")
    attempt = airflow.run_task(relay.url, relay.cloud.relay_secret, run)
    assert attempt.state == "success", attempt.output
    assert attempt.result == {"message": "Dataset successfully updated."}
    record = relay.cloud.data_world.datasets[DATASET]
    assert record["tags"] == ["products", "daily"]
    assert re.fullmatch(rf"Built by Airflow's run {run} on \d{{4}}-\d\d-\d\dT\S+\+00:00\.", record["summary"])
    assert relay.logged(delivery_id(run))["status"] == 200


def test_airflow_task_unknown_dataset_fails_without_a_retry(airflow: Airflow, relay: Relay) -> None:
    relay.cloud.data_world.datasets.pop(DATASET, None)
    run = unique("run")
    attempt = airflow.run_task(relay.url, relay.cloud.relay_secret, run)
    assert attempt.state == "failed", attempt.output
    assert attempt.retries == 5
    assert "AirflowFailException: 404: " in attempt.output
    assert "Dataset not found" in attempt.output
    assert relay.logged(delivery_id(run))["status"] == 404


def test_airflow_task_wrong_secret_fails_without_a_retry(airflow: Airflow, relay: Relay) -> None:
    attempt = airflow.run_task(f"{relay.url}/", "not-the-secret-CANARY", unique("run"))
    assert attempt.state == "failed", attempt.output
    assert "AirflowFailException: 401: " in attempt.output


def test_airflow_task_unreachable_provider_is_retried_as_the_same_delivery(
    airflow: Airflow, relay: Relay, launch: Launch
) -> None:
    cut_off = launch(DATA_WORLD_BASE_URL=f"http://127.0.0.1:{free_port()}/v0")
    relay.cloud.data_world.add(DATASET)
    run = unique("run")
    attempt = airflow.run_task(cut_off.url, relay.cloud.relay_secret, run)
    assert attempt.state == "up_for_retry", attempt.output
    assert "RuntimeError: 502: " in attempt.output
    assert airflow.run_task(relay.url, relay.cloud.relay_secret, run, is_new=False).state == "success"
    assert cut_off.logged(delivery_id(run))["status"] == 502
    assert relay.logged(delivery_id(run))["status"] == 200


def test_airflow_task_unreachable_function_is_retried(airflow: Airflow, relay: Relay) -> None:
    attempt = airflow.run_task(f"http://127.0.0.1:{free_port()}", relay.cloud.relay_secret, unique("run"))
    assert attempt.state == "up_for_retry", attempt.output
    assert "Connection refused" in attempt.output


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    """Run a server in place of a proxy of the function. Its response to /503/ is an HTML page with the status 503."""
    reasons = {"302": "Found", "403": "Forbidden", "429": "Too Many Requests", "503": "Service Unavailable"}

    def respond(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        status = environ["PATH_INFO"].strip("/")
        start_response(f"{status} {reasons[status]}", [("Content-Type", "text/html"), ("Location", "/403/")])
        return [b"<h1>no JSON</h1>"]

    with make_server("127.0.0.1", 0, respond) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("302: Found", "failed"),
        ("403: Forbidden", "failed"),
        ("429: Too Many Requests", "up_for_retry"),
        ("503: Service Unavailable", "up_for_retry"),
    ],
)
def test_airflow_task_response_of_a_proxy_is_retried_by_its_status(
    airflow: Airflow, proxy: str, status: str, state: str
) -> None:
    attempt = airflow.run_task(f"{proxy}/{status[:3]}", "a-secret-for-the-proxy-CANARY", unique("run"))
    assert attempt.state == state, attempt.output
    assert status in attempt.output
