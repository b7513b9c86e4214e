"""The platforms' own clients as judges: for the same update, they and we send the same."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from apify_client import ApifyClient
from apify_client.errors import ApifyApiError

from deploy.local.upstream import Call
from schemas.data_world import LICENSES
from tests.conftest import Relay, assert_problem, unique


def essence(call: Call) -> tuple[Any, ...]:
    """What of a call is the platform's to judge: not who made it, nor how it was packed."""
    media_type = call.headers["content-type"].partition(";")[0]
    return call.method, call.path, call.query, call.headers["authorization"], media_type, call.json


def apify_client(relay: Relay, token: str | None = None) -> ApifyClient:
    url = relay.cloud.apify.base_url.removesuffix("/v2")
    return ApifyClient(token or relay.cloud.apify_token, api_url=url, api_public_url=url, max_retries=0)


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("fields", [("name",), ("generalAccess",), ("name", "generalAccess")])
def test_apify(relay: Relay, fields: tuple[str, ...], by_name: bool) -> None:
    seen = []
    new = {"name": unique("new"), "generalAccess": "ANYONE_WITH_ID_CAN_READ"}
    update = {name: value for name, value in new.items() if name in fields}
    for sender in ("client", "relay"):
        name = unique("old")
        dataset_id = relay.apify_dataset(name)
        reference = f"jane~{name}" if by_name else dataset_id
        if sender == "client":
            spelled = {"generalAccess": "general_access"}
            arguments: dict[str, Any] = {spelled.get(key, key): value for key, value in update.items()}
            theirs = apify_client(relay).dataset(reference).update(**arguments)
            assert theirs.id == dataset_id
        else:
            answer = relay.post({"provider": "apify", "dataset": reference, "update": update})
            assert answer.json()["data"]["id"] == dataset_id
        (call,) = relay.cloud.apify.seen(f"/datasets/{reference}")
        seen.append(str(essence(call)).replace(reference, "REFERENCE"))
        # So that the next one can take the name.
        relay.cloud.apify.datasets[dataset_id]["name"] = None
    assert seen[0] == seen[1]


def test_apify_reads_what_we_changed(relay: Relay) -> None:
    dataset_id, name = relay.apify_dataset(), unique("read")
    relay.post({"provider": "apify", "dataset": dataset_id, "update": {"name": name, "generalAccess": "RESTRICTED"}})
    found = apify_client(relay).dataset(f"jane~{name}").get()
    assert found is not None
    assert (found.id, found.name) == (dataset_id, name)


def test_apify_refusals_are_what_the_client_expects(relay: Relay) -> None:
    for token, reference in (("apify_api_wrong", relay.apify_dataset()), (None, "NoSuchDatasetAnywh")):
        with pytest.raises(ApifyApiError) as caught:
            apify_client(relay, token).dataset(reference).update(name="x")
        assert caught.value.status_code in (401, 404)
        assert caught.value.type in ("user-or-token-not-found", "record-not-found")


def test_apify_by_a_name_that_only_we_can_take_away(relay: Relay) -> None:
    """The client leaves None out, and so can't take a name away; `null` is for that."""
    name = unique("gone")
    dataset_id = relay.apify_dataset(name)
    apify_client(relay).dataset(dataset_id).update(name=None)
    assert relay.cloud.apify.datasets[dataset_id]["name"] == name
    relay.post({"provider": "apify", "dataset": dataset_id, "update": {"name": None}})
    assert relay.cloud.apify.datasets[dataset_id]["name"] is None


# data.world's client reads its host once, when it is imported: it gets a process of its own.
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
    """Sends `update`, a JSON text, through the official client; the status of its error, if any."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DW_API_HOST": relay.cloud.data_world.base_url.removesuffix("/v0"),
        "DW_AUTH_TOKEN": relay.cloud.data_world_token,
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, dataset, update], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "update",
    [
        '{"title": "Products"}',
        '{"description": "short", "summary": "# Größe 価格 💶\\n", "tags": ["open data", "daily"]}',
        '{"license": "ODC-ODbL", "visibility": "OPEN"}',
    ],
)
def test_data_world(relay: Relay, tmp_path: Path, update: str) -> None:
    ours, theirs = relay.data_world_dataset(), relay.data_world_dataset()
    assert data_world_client(relay, tmp_path, theirs, update) == ""
    answer = relay.post({"provider": "data.world", "dataset": ours, "update": json.loads(update)})
    assert answer.status_code == 200
    (one,), (other,) = (relay.cloud.data_world.seen(f"/datasets/{dataset}") for dataset in (theirs, ours))
    assert str(essence(one)).replace(theirs, "X") == str(essence(other)).replace(ours, "X")
    assert relay.cloud.data_world.datasets[ours]["visibility"] == relay.cloud.data_world.datasets[theirs]["visibility"]


def test_data_worlds_refusals_are_what_the_client_expects(relay: Relay, tmp_path: Path) -> None:
    assert data_world_client(relay, tmp_path, "acme/not-there", '{"title": "x"}') == "404"
    assert data_world_client(relay, tmp_path, relay.data_world_dataset(), f'{{"title": "{"x" * 60}"}}') == ""


def test_data_worlds_client_drops_what_we_refuse(relay: Relay, tmp_path: Path) -> None:
    """Why we are stricter: a field misspelt there is a PATCH of nothing, and the mistake is never named."""
    dataset = relay.data_world_dataset()
    data_world_client(relay, tmp_path, dataset, '{"titel": "x"}')
    (call,) = relay.cloud.data_world.seen(f"/datasets/{dataset}")
    assert call.body in (b"", b"{}", b"null")
    problem = assert_problem(
        relay.post({"provider": "data.world", "dataset": dataset, "update": {"titel": "x"}}), 422, "invalid"
    )
    assert "did you mean title?" in problem["errors"]["update.titel"][0]


def test_every_license_reaches_the_platform(relay: Relay) -> None:
    """Also those that data.world's own client refuses: it knows ten."""
    dataset = relay.data_world_dataset()
    for name in LICENSES:
        assert relay.post({"provider": "data.world", "dataset": dataset, "update": {"license": name}}).ok
    assert [call.json["license"] for call in relay.cloud.data_world.seen(f"/datasets/{dataset}")] == list(LICENSES)
