"""Tests with the official clients of the providers: for the same update, the function sends the same request."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from apify_client import ApifyClient
from apify_client.errors import ApifyApiError

from deploy.local.provider import Call
from schemas.data_world import LICENSES
from tests.support.relay import Relay, assert_problem, unique


def essence(call: Call) -> tuple[Any, ...]:
    """Return the parts of a call that determine its effect, without the user agent and the compression."""
    media_type = call.headers["content-type"].partition(";")[0]
    return call.method, call.path, call.query, call.headers["authorization"], media_type, call.json


def apify_client(relay: Relay, token: str | None = None) -> ApifyClient:
    url = relay.cloud.apify.base_url.removesuffix("/v2")
    return ApifyClient(token or relay.cloud.apify_token, api_url=url, api_public_url=url, max_retries=0)


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("fields", [("name",), ("generalAccess",), ("name", "generalAccess")])
def test_apify_update_equals_that_of_the_client(relay: Relay, fields: tuple[str, ...], by_name: bool) -> None:
    calls = []
    new = {"name": unique("new"), "generalAccess": "ANYONE_WITH_ID_CAN_READ"}
    update = {name: value for name, value in new.items() if name in fields}
    for sender in ("client", "relay"):
        name = unique("old")
        dataset_id = relay.apify_dataset(name)
        reference = f"jane~{name}" if by_name else dataset_id
        if sender == "client":
            python_names = {"generalAccess": "general_access"}
            arguments: dict[str, Any] = {python_names.get(key, key): value for key, value in update.items()}
            updated = apify_client(relay).dataset(reference).update(**arguments)
            assert updated.id == dataset_id
        else:
            response = relay.post({"provider": "apify", "dataset": reference, "update": update})
            assert response.json()["data"]["id"] == dataset_id
        (call,) = relay.cloud.apify.seen(f"/datasets/{reference}")
        calls.append(str(essence(call)).replace(reference, "REFERENCE"))
        # The next sender uses the same new name.
        relay.cloud.apify.datasets[dataset_id]["name"] = None
    assert calls[0] == calls[1]


def test_apify_client_reads_the_changed_record(relay: Relay) -> None:
    dataset_id, name = relay.apify_dataset(), unique("read")
    relay.post({"provider": "apify", "dataset": dataset_id, "update": {"name": name, "generalAccess": "RESTRICTED"}})
    dataset = apify_client(relay).dataset(f"jane~{name}").get()
    assert dataset is not None
    assert (dataset.id, dataset.name) == (dataset_id, name)


def test_apify_client_error_has_the_status_and_the_type(relay: Relay) -> None:
    for token, reference in (("apify_api_wrong_CANARY", relay.apify_dataset()), (None, "NoSuchDatasetAnywh")):
        with pytest.raises(ApifyApiError) as caught:
            apify_client(relay, token).dataset(reference).update(name="x")
        assert caught.value.status_code in (401, 404)
        assert caught.value.type in ("user-or-token-not-found", "record-or-token-not-found")


def test_apify_null_removes_the_name_unlike_the_client(relay: Relay) -> None:
    name = unique("gone")
    dataset_id = relay.apify_dataset(name)
    # The client omits arguments that are None.
    apify_client(relay).dataset(dataset_id).update(name=None)
    assert relay.cloud.apify.datasets[dataset_id]["name"] == name
    relay.post({"provider": "apify", "dataset": dataset_id, "update": {"name": None}})
    assert relay.cloud.apify.datasets[dataset_id]["name"] is None


# The client of data.world reads the host during its import, and so needs a process of its own.
SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import datadotworld
from datadotworld.client.api import RestApiError
client = datadotworld.api_client()
try:
    client.update_dataset(sys.argv[1], **json.loads(sys.argv[2]))
except RestApiError as error:
    print(error.status)
"""


def data_world_client(relay: Relay, home: Path, dataset: str, update: str) -> str:
    """Send `update`, a JSON text, with the official client, and return the status of the error, or an empty string."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DW_API_HOST": relay.cloud.data_world.base_url.removesuffix("/v0"),
        "DW_AUTH_TOKEN": relay.cloud.data_world_token,
    }
    completed = subprocess.run(
        [sys.executable, "-c", SCRIPT, dataset, update], env=environ, capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


@pytest.mark.parametrize(
    "update",
    [
        '{"title": "Products"}',
        '{"description": "short", "summary": "# Größe 価格 💶\\n", "tags": ["open data", "daily"]}',
        '{"license": "ODC-ODbL", "visibility": "OPEN"}',
    ],
)
def test_data_world_update_equals_that_of_the_client(relay: Relay, tmp_path: Path, update: str) -> None:
    by_function, by_client = relay.data_world_dataset(), relay.data_world_dataset()
    assert data_world_client(relay, tmp_path, by_client, update) == ""
    response = relay.post({"provider": "data.world", "dataset": by_function, "update": json.loads(update)})
    assert response.status_code == 200
    provider = relay.cloud.data_world
    (one,), (other,) = (provider.seen(f"/datasets/{dataset}") for dataset in (by_client, by_function))
    assert str(essence(one)).replace(by_client, "X") == str(essence(other)).replace(by_function, "X")
    assert provider.datasets[by_function]["visibility"] == provider.datasets[by_client]["visibility"]


def test_data_world_client_error_has_the_status(relay: Relay, tmp_path: Path) -> None:
    assert data_world_client(relay, tmp_path, "acme/not-there", '{"title": "x"}') == "404"
    assert data_world_client(relay, tmp_path, relay.data_world_dataset(), f'{{"title": "{"x" * 60}"}}') == ""


def test_data_world_unknown_field_is_rejected_unlike_the_client(relay: Relay, tmp_path: Path) -> None:
    dataset = relay.data_world_dataset()
    data_world_client(relay, tmp_path, dataset, '{"titel": "x"}')
    (call,) = relay.cloud.data_world.seen(f"/datasets/{dataset}")
    assert call.body in (b"", b"{}", b"null")
    problem = assert_problem(
        relay.post({"provider": "data.world", "dataset": dataset, "update": {"titel": "x"}}), 422, "invalid"
    )
    assert "did you mean title?" in problem["errors"]["update.titel"][0]


def test_data_world_every_license_reaches_the_provider(relay: Relay) -> None:
    # The client knows only ten licenses.
    dataset = relay.data_world_dataset()
    for name in LICENSES:
        assert relay.post({"provider": "data.world", "dataset": dataset, "update": {"license": name}}).ok
    assert [call.json["license"] for call in relay.cloud.data_world.seen(f"/datasets/{dataset}")] == list(LICENSES)
