"""An Airflow task that updates the record of a dataset. The task needs Airflow 3.2 or newer.

Create the connection `dataset_relay` in Airflow (Admin > Connections > Add), of type HTTP or Generic. The host is the
address of the function (https://YOUR-FUNCTION), and the password is the secret to which RELAY_SECRET refers. The same
connection as a variable:

    AIRFLOW_CONN_DATASET_RELAY='{"conn_type": "http", "host": "https://YOUR-FUNCTION", "password": "THE-SECRET"}'

The function needs DATA_WORLD_TOKEN or APIFY_TOKEN.

Copy this file to the DAGs folder, and call `update_dataset` at the end of your own DAG. The task sends a native event,
and so needs no hook. Airflow retries the task if the problem is retryable. Otherwise, the task fails at once.
"""

from datetime import timedelta
from typing import Any

import requests
from airflow.sdk import Connection, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException


@task(retries=5, retry_delay=timedelta(seconds=30), retry_exponential_backoff=2)
def update_dataset(provider: str, dataset: str, update: dict[str, Any]) -> Any:
    """Update the record of `dataset`, and return the response of the provider."""
    relay = Connection.get("dataset_relay")
    run = get_current_context()["ti"]
    event = {
        # All attempts have the same ID, by which the log of the function can be searched.
        "id": f"{run.dag_id}/{run.task_id}/{run.run_id}"[:200],
        "provider": provider,
        "dataset": dataset,
        "update": update,
    }
    response = requests.post(
        f"{relay.host.rstrip('/')}/",
        json=event,
        headers={"Authorization": f"Bearer {relay.password}"},
        timeout=30,
        allow_redirects=False,
    )
    if response.status_code < 300:
        return response.json() if response.content else None
    try:
        problem = response.json()
    except ValueError:
        # A proxy in front of the function has sent the response.
        problem = {}
    message = f"{response.status_code}: {problem.get('detail', response.reason)} {problem.get('errors', '')}".rstrip()
    if problem.get("retryable", response.status_code == 429 or response.status_code >= 500):
        raise RuntimeError(message)
    raise AirflowFailException(message)


@dag(schedule=None)
def publish_products() -> None:
    """Update a dataset, as an example."""
    update_dataset(
        "data.world",
        "acme/products",
        # A run that an asset has started has no logical date, and so no variable `ts`. The filter `ts` below formats
        # `run_after`, which always exists.
        {
            "summary": "Built by Airflow's run {{ run_id }} on {{ dag_run.run_after | ts }}.",
            "tags": ["products", "daily"],
        },
    )


publish_products()
