"""deploy/recipes/airflow_task.py in a real Airflow, which has a virtual environment of its own."""

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
from tests.conftest import Launch, Relay, unique

PYTHON = ROOT / ".venv/airflow/bin/python"
DATASET = f"{DATA_WORLD_OWNER}/products"

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="LOUD: .venv/airflow isn't there (`make test` makes it); the Airflow recipe is NOT checked",
)

#: Runs in Airflow's environment: it starts once, which is what takes long, then tries a task for each line it reads.
#: `airflow tasks test` tries once; the scheduler, and so any waiting for the next try, is left out.
DRIVER = """
import json, os, sys

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what Airflow prints is no answer

from airflow.cli.cli_parser import get_parser
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

def airflow(*words):
    parsed = get_parser().parse_args(words)
    parsed.func(parsed)

airflow("db", "migrate")
airflow("dags", "reserialize")
print(json.dumps("ready"), file=answers)
for line in sys.stdin:
    asked = json.loads(line)
    os.environ["AIRFLOW_CONN_DATASET_RELAY"] = json.dumps(asked["connection"])
    if asked["new"]:
        airflow("dags", "trigger", "publish_products", "--run-id", asked["run"])
    airflow("tasks", "test", "publish_products", "update_dataset", asked["run"])
    with create_session() as session:
        (task,) = session.scalars(select(TaskInstance).where(TaskInstance.run_id == asked["run"]))
        result = task.xcom_pull("update_dataset", session=session)
        print(json.dumps({"state": task.state, "retries": task.max_tries, "result": result}), file=answers)
"""


@dataclass
class Try:
    """What has become of a task that was tried: its state in Airflow's database, its result, and what was printed."""

    state: str
    retries: int
    result: Any
    said: str


class Airflow:
    """A process with the recipe's DAG; whatever takes too long ends it."""

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
        assert self._answer(seconds=120) == "ready"

    def try_task(self, host: str, secret: str, run: str, *, again: bool = False) -> Try:
        """Tries the task of `run` once, with this connection; `again` if it was tried before."""
        assert self.process.stdin
        before = len(self.output.read_text())
        connection = {"conn_type": "http", "host": host, "password": secret}
        self.process.stdin.write(json.dumps({"connection": connection, "run": run, "new": not again}) + "\n")
        self.process.stdin.flush()
        answer = self._answer(seconds=60)
        tried = Try(**answer, said=self.output.read_text()[before:])
        assert run in tried.said
        # Not by `in` within the assert: pytest would print what it found.
        leaked = [
            path for path in self.output.parent.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()
        ]
        assert not len(leaked), "the secret is in Airflow's output or its folder"
        return tried

    def _answer(self, *, seconds: float) -> Any:
        assert self.process.stdout
        timer = threading.Timer(seconds, self._kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        timer.join()
        if not line:
            self.stop()
            raise RuntimeError(f"Airflow ended, or took over {seconds} s:\n{self.output.read_text()[-5000:]}")
        return json.loads(line)

    def _kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self) -> int:
        """Ends it, gently if it can be; its exit code."""
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            return self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._kill()
            return self.process.wait()
        finally:
            self.process.stdout.close()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    running = Airflow(tmp_path_factory.mktemp("airflow"))
    yield running
    assert running.stop() == 0


def delivery(run: str) -> str:
    return f"publish_products/update_dataset/{run}"


def test_the_record_is_updated(airflow: Airflow, relay: Relay) -> None:
    relay.cloud.data_world.add(DATASET)
    run = unique("run")
    tried = airflow.try_task(relay.url, relay.cloud.relay_secret, run)
    assert tried.state == "success", tried.said
    assert tried.result == {"message": "Dataset successfully updated."}
    record = relay.cloud.data_world.datasets[DATASET]
    assert record["tags"] == ["products", "daily"]
    assert re.fullmatch(rf"Built by Airflow's run {run} on \d{{4}}-\d\d-\d\dT\S+\+00:00\.", record["summary"])
    assert relay.logged(delivery(run))["status"] == 200


def test_what_is_refused_fails_at_once(airflow: Airflow, relay: Relay) -> None:
    relay.cloud.data_world.datasets.pop(DATASET, None)
    run = unique("run")
    tried = airflow.try_task(relay.url, relay.cloud.relay_secret, run)
    assert tried.state == "failed", tried.said
    assert tried.retries == 5
    assert "AirflowFailException: 404: " in tried.said
    assert "Dataset not found" in tried.said
    assert relay.logged(delivery(run))["status"] == 404


def test_a_wrong_secret_fails_at_once(airflow: Airflow, relay: Relay) -> None:
    tried = airflow.try_task(f"{relay.url}/", "not-the-secret", unique("run"))
    assert tried.state == "failed", tried.said
    assert "AirflowFailException: 401: " in tried.said


def test_what_may_pass_is_tried_again_as_the_same_delivery(airflow: Airflow, relay: Relay, launch: Launch) -> None:
    cut_off = launch(DATA_WORLD_BASE_URL=f"http://127.0.0.1:{free_port()}/v0")
    relay.cloud.data_world.add(DATASET)
    run = unique("run")
    tried = airflow.try_task(cut_off.url, relay.cloud.relay_secret, run)
    assert tried.state == "up_for_retry", tried.said
    assert "RuntimeError: 502: " in tried.said
    assert airflow.try_task(relay.url, relay.cloud.relay_secret, run, again=True).state == "success"
    assert cut_off.logged(delivery(run))["status"] == 502
    assert relay.logged(delivery(run))["status"] == 200


def test_a_function_that_is_not_there_is_tried_again(airflow: Airflow, relay: Relay) -> None:
    tried = airflow.try_task(f"http://127.0.0.1:{free_port()}", relay.cloud.relay_secret, unique("run"))
    assert tried.state == "up_for_retry", tried.said
    assert "Connection refused" in tried.said


@pytest.fixture(scope="module")
def front() -> Iterator[str]:
    """The address of what may stand before a function: it answers /503/ with 503 and a page."""
    reasons = {"302": "Found", "403": "Forbidden", "429": "Too Many Requests", "503": "Service Unavailable"}

    def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        status = environ["PATH_INFO"].strip("/")
        start_response(f"{status} {reasons[status]}", [("Content-Type", "text/html"), ("Location", "/403/")])
        return [b"<h1>no JSON</h1>"]

    with make_server("127.0.0.1", 0, answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("302: Found", "failed"),
        ("403: Forbidden", "failed"),
        ("429: Too Many Requests", "up_for_retry"),
        ("503: Service Unavailable", "up_for_retry"),
    ],
)
def test_an_answer_that_is_not_the_functions(airflow: Airflow, front: str, said: str, state: str) -> None:
    tried = airflow.try_task(f"{front}/{said[:3]}", "a-secret-for-the-front", unique("run"))
    assert tried.state == state, tried.said
    assert said in tried.said
