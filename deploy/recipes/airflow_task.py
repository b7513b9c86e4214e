"""An Airflow task that says what its DAG has made, and fails when the record isn't updated. For Airflow 3.2 or newer.

In Airflow (Admin > Connections > Add): the connection `dataset_relay`, of type HTTP or Generic, with the function's
address as its host (https://YOUR-FUNCTION) and as its password the secret that RELAY_SECRET refers to. As a variable:

    AIRFLOW_CONN_DATASET_RELAY='{"conn_type": "http", "host": "https://YOUR-FUNCTION", "password": "THE-SECRET"}'

Nothing else is set on Airflow's side; the function needs DATA_WORLD_TOKEN or APIFY_TOKEN.

Put this file into the DAGs folder, and `update_dataset` at the end of your own DAG. It posts a native event: no hook
is needed. What asks to try again is left to the task's own retries; what doesn't fails at once.
"""

from datetime import timedelta
from typing import Any

import requests
from airflow.sdk import Connection, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException


@task(retries=5, retry_delay=timedelta(seconds=30), retry_exponential_backoff=2)
def update_dataset(provider: str, dataset: str, update: dict[str, Any]) -> Any:
    """Updates the record of `dataset`; what the platform answers is the task's result."""
    relay = Connection.get("dataset_relay")
    run = get_current_context()["ti"]
    event = {
        # The same for each try, so that the function's log shows them together.
        "id": f"{run.dag_id}/{run.task_id}/{run.run_id}"[:200],
        "provider": provider,
        "dataset": dataset,
        "update": update,
    }
    answer = requests.post(
        f"{relay.host.rstrip('/')}/",
        json=event,
        headers={"Authorization": f"Bearer {relay.password}"},
        timeout=30,
        allow_redirects=False,
    )
    if answer.status_code < 300:
        return answer.json() if answer.content else None
    try:
        problem = answer.json()
    except ValueError:
        # Not the function's own answer, but of something before it.
        problem = {}
    said = f"{answer.status_code}: {problem.get('detail', answer.reason)} {problem.get('errors', '')}".rstrip()
    if problem.get("retryable", answer.status_code == 429 or answer.status_code >= 500):
        raise RuntimeError(said)
    raise AirflowFailException(said)


@dag(schedule=None)
def publish_products() -> None:
    """What a DAG of yours may end with."""
    update_dataset(
        "data.world",
        "acme/products",
        # Not `ts`: a run that an asset has started has no logical date, and so no `ts`.
        {
            "summary": "Built by Airflow's run {{ run_id }} on {{ dag_run.run_after | ts }}.",
            "tags": ["products", "daily"],
        },
    )


publish_products()
