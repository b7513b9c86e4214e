"""Tests of the query parameter dry_run."""

from pathlib import Path

import pytest

from deploy.local.cloud import secret_name
from tests.support.canary import secret
from tests.support.relay import Launch, Relay, assert_problem, unique


def test_dry_run_shows_the_request_without_credentials(relay: Relay) -> None:
    dataset = relay.data_world_dataset()
    user, password = secret("user-"), secret("password-")
    source = {
        "url": f"https://me:{password}@example.com/a.csv",
        "requestHeaders": {"Authorization": f"Bearer {secret('header-')}", "Accept": "text/csv"},
        "credentials": {"user": user, "password": password},
        "authorization": {"type": "Custom", "credentials": secret("credentials-")},
    }
    event = {"provider": "data.world", "dataset": dataset, "update": {"files": [{"name": "a.csv", "source": source}]}}
    response = relay.post(event, path="/?dry_run=true", headers={"webhook-id": unique("dry")})
    assert response.status_code == 200
    preview = response.json()
    assert preview["dry_run"] is True
    assert preview["token"] == f"{secret_name('data-world-token')}/versions/1"
    assert preview["request"]["method"] == "PATCH"
    assert preview["request"]["url"] == f"{relay.cloud.data_world.base_url}/datasets/{dataset}"
    assert preview["request"]["headers"]["Authorization"] == "Bearer [redacted]"
    assert preview["request"]["body"]["files"][0]["source"] == {
        "url": "https://[redacted]@example.com/a.csv",
        "requestHeaders": {"Authorization": "[redacted]", "Accept": "text/csv"},
        "credentials": {"user": "[redacted]", "password": "[redacted]"},
        "authorization": {"type": "Custom", "credentials": "[redacted]"},
    }
    for credential in (user, password, relay.cloud.data_world_token):
        assert credential not in response.text
    assert relay.cloud.data_world.seen(f"/datasets/{dataset}") == []
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["outcome"], entry["dry_run"], entry["message"]) == ("dry_run", True, "POST /: dry run")


def test_dry_run_false_sends_the_update(relay: Relay) -> None:
    event = relay.apify_event()
    assert relay.post(event, path="/?dry_run=false").status_code == 200
    (call,) = relay.cloud.apify.seen(f"/datasets/{event['dataset']}")
    assert call.json == event["update"]


def test_dry_run_names_the_source_of_the_token(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(secret("dw-"))
    relay = launch(APIFY_TOKEN="env:TOKEN", TOKEN=secret("apify-"), DATA_WORLD_TOKEN=f"file:{path}")
    assert relay.post(relay.apify_event(), path="/?dry_run=true").json()["token"] == "env:TOKEN"
    event = {"provider": "data.world", "dataset": "acme/products", "update": {"title": "x"}}
    assert relay.post(event, path="/?dry_run=true").json()["token"] == f"file:{path}"


@pytest.mark.parametrize("query", ["dry_run=1", "dry_run=", "dry_run=True", "dry_run=true&dry_run=false", "dry_run"])
def test_dry_run_other_value_sends_nothing(relay: Relay, query: str) -> None:
    event = relay.apify_event()
    response = relay.post(event, path=f"/?{query}")
    assert list(assert_problem(response, 422, "invalid")["errors"]) == ["dry_run"]
    assert relay.cloud.apify.seen(f"/datasets/{event['dataset']}") == []


@pytest.mark.parametrize("name", ["dryrun", "dry-run", "Dry_Run", "dry_runs"])
def test_dry_run_misspelled_name_sends_nothing(relay: Relay, name: str) -> None:
    event = relay.apify_event()
    response = relay.post(event, path=f"/?{name}=true")
    assert assert_problem(response, 422, "invalid")["errors"] == {name: ["Unknown parameter; did you mean dry_run?"]}
    assert relay.cloud.apify.seen(f"/datasets/{event['dataset']}") == []
