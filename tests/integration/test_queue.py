"""Tests of the queue: events that are published, and updates that come back from the queue."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from flask import Response

from deploy.local.cloud import Cloud, queue_settings
from deploy.local.pubsub import PubSub
from tests.support.hooks import hook, update, written
from tests.support.queue import DEAD_LETTERS, TOPICS, dead_letters, message_of, push
from tests.support.relay import Launch, Relay, assert_problem, in_variables, lose_responses, running, unique

OWN_TOKEN = "CANARY-own-token"


@pytest.fixture(scope="module")
def shared_pubsub() -> Iterator[PubSub]:
    """Run a Pub/Sub server for the tests of this module."""
    started = PubSub().start()
    yield started
    started.stop()


@pytest.fixture
def pubsub(shared_pubsub: PubSub) -> PubSub:
    """Return the Pub/Sub server without messages and without faults."""
    for state in (shared_pubsub.messages, shared_pubsub.refusals, shared_pubsub.lossy, shared_pubsub.requests):
        state.clear()
    shared_pubsub.delay = 0
    return shared_pubsub


@pytest.fixture(scope="module")
def queued(cloud: Cloud, shared_pubsub: PubSub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run the function with a queue, and with two hooks."""
    folder = tmp_path_factory.mktemp("queued")
    title = update("data.world", "acme/{{ event.dataset }}", {"title": "{{ event.title }}"})
    own = update("apify", "{{ event.apify }}", {"name": "{{ event.name }}"}, token="env:OWN")
    hooks = {
        "build": hook(title, own, sender="token", secret="relay-secret"),
        "slow": hook(title, sender="token", secret="relay-secret", wait=True),
    }
    settings = {
        **cloud.settings(),
        **in_variables(cloud),
        **queue_settings(shared_pubsub.address),
        "RELAY_CONFIG": written(folder, hooks),
        "RELAY_PARK_AFTER_SECONDS": "3600",
        "RELAY_DELIVERY_DEADLINE_SECONDS": "4",
        "OWN": OWN_TOKEN,
    }
    with running(cloud, settings, folder) as started:
        yield started


def apify_event(relay: Relay, **body: Any) -> dict[str, Any]:
    return {"provider": "apify", "dataset": relay.apify_dataset(), "update": {"name": unique("name"), **body}}


def delivery_lines(relay: Relay, delivery: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the log lines of the deliveries from the queue with this ID. Wait for `count` lines."""
    end = time.monotonic() + 30
    while True:
        lines = [json.loads(line) for line in relay.log_text().splitlines()]
        found = [line for line in lines if line.get("delivery") == delivery and "message_id" in line]
        if len(found) >= count or time.monotonic() > end:
            assert len(found) == count
            return found


# Publishing


def test_event_is_queued_once_pubsub_has_the_update(queued: Relay, pubsub: PubSub) -> None:
    event = apify_event(queued)
    response = queued.post({**event, "id": unique("run")})
    (message,) = pubsub.messages[TOPICS["apify"]]
    assert response.status_code == 202
    (item,) = response.json()["queued"]
    assert (item["provider"], item["dataset"]) == ("apify", event["dataset"])
    assert item["message"].isdigit()
    assert message.ordering_key == f"apify:{event['dataset']}"
    assert json.loads(message.data) == {**event, "id": response.headers["Relay-Delivery"]}
    line = queued.logged(response.headers["Relay-Delivery"])
    assert (line["outcome"], line["severity"], line["status"]) == ("queued", "INFO", 202)
    assert queued.cloud.apify.datasets[event["dataset"]]["name"] != event["update"]["name"]


def test_hook_with_two_providers_is_queued(queued: Relay, pubsub: PubSub) -> None:
    owner, _, dataset = queued.data_world_dataset().partition("/")
    apify = queued.apify_dataset()
    payload = {"dataset": dataset, "title": "A", "apify": apify, "name": unique("name")}
    response = queued.post(payload, path="/hooks/build")
    assert response.status_code == 202
    assert [(each["provider"], each["dataset"]) for each in response.json()["queued"]] == [
        ("data.world", f"{owner}/{dataset}"),
        ("apify", apify),
    ]
    (own,) = pubsub.messages[TOPICS["apify"]]
    assert (json.loads(own.data)["hook"], json.loads(own.data)["position"]) == ("build", 1)
    assert OWN_TOKEN.encode() not in own.data
    line = queued.logged(response.headers["Relay-Delivery"])
    assert [each["provider"] for each in line["updates"]] == ["data.world", "apify"]
    (title,) = pubsub.messages[TOPICS["data.world"]]
    assert "hook" not in json.loads(title.data)


@pytest.mark.parametrize(
    ("change", "status"),
    [({"update": {"nam": "x"}}, 422), ({"dataset": "?"}, 422), ({"provider": "other"}, 422)],
)
def test_invalid_event_is_rejected_at_once(queued: Relay, pubsub: PubSub, change: dict[str, Any], status: int) -> None:
    assert queued.post({**apify_event(queued), **change}).status_code == status
    assert pubsub.messages == {}


def test_wait_in_the_query_skips_the_queue(queued: Relay, pubsub: PubSub) -> None:
    event = apify_event(queued)
    response = queued.post(event, path="/?wait=true")
    assert response.status_code == 200
    assert response.json()["data"]["name"] == event["update"]["name"]
    assert pubsub.messages == {}


@pytest.mark.parametrize(("path", "status"), [("/hooks/slow", 200), ("/hooks/slow?wait=false", 202)])
def test_wait_of_a_hook_skips_the_queue_unless_the_query_says_otherwise(
    queued: Relay, pubsub: PubSub, path: str, status: int
) -> None:
    dataset = queued.data_world_dataset().partition("/")[2]
    assert queued.post({"dataset": dataset, "title": "A"}, path=path).status_code == status
    assert bool(pubsub.messages) is (status == 202)


@pytest.mark.parametrize("path", ["/?wait=maybe", "/?wait=", "/?wait=true&wait=true", "/?waits=true"])
def test_wait_with_another_value_is_invalid(queued: Relay, pubsub: PubSub, path: str) -> None:
    assert_problem(queued.post(apify_event(queued), path=path), 422, "invalid")
    assert pubsub.messages == {}


def test_wait_without_a_queue_has_no_effect(relay: Relay) -> None:
    assert relay.post(relay.apify_event(), path="/?wait=false").status_code == 200
    assert_problem(relay.send(b"{}", path="/deliveries"), 404, "not-found")


def test_dry_run_skips_the_queue(queued: Relay, pubsub: PubSub) -> None:
    assert queued.post(apify_event(queued), path="/?dry_run=true").json()["dry_run"] is True
    assert pubsub.messages == {}


def test_pubsub_is_unavailable_is_503_and_publishes_nothing_later(launch: Launch, pubsub: PubSub, cloud: Cloud) -> None:
    relay = launch(**in_variables(cloud), **queue_settings(pubsub.address), RELAY_DEADLINE_SECONDS="1")
    pubsub.refusals[""] = grpc.StatusCode.UNAVAILABLE
    response = relay.post(apify_event(relay))
    assert_problem(response, 503, "queue-unreachable", retryable=True)
    assert response.headers["Retry-After"] == "5"
    line = relay.logged(response.headers["Relay-Delivery"])
    assert line["cause"] == f"{TOPICS['apify']} is unreachable: UNAVAILABLE."
    pubsub.refusals.clear()
    time.sleep(2)
    assert pubsub.messages == {}


def test_pubsub_denies_the_publish_is_500_and_the_log_names_the_topic(queued: Relay, pubsub: PubSub) -> None:
    pubsub.refusals[TOPICS["apify"]] = grpc.StatusCode.NOT_FOUND
    response = queued.post(apify_event(queued))
    problem = assert_problem(response, 500, "queue-unusable")
    assert TOPICS["apify"] not in json.dumps(problem)
    line = queued.logged(response.headers["Relay-Delivery"])
    assert line["cause"] == (
        f"Pub/Sub returned NOT_FOUND for {TOPICS['apify']}. Create the topic, or correct the setting."
    )
    # The other provider is not affected.
    dataset = queued.data_world_dataset()
    assert queued.post({"provider": "data.world", "dataset": dataset, "update": {"title": "A"}}).status_code == 202


# Deliveries


def test_delivery_makes_the_update(queued: Relay, pubsub: PubSub) -> None:
    event = apify_event(queued)
    message = message_of(queued, {**event, "id": unique("run")}, pubsub)
    response = push(queued, message, age=7)
    assert (response.status_code, response.content) == (204, b"")
    assert queued.cloud.apify.datasets[event["dataset"]]["name"] == event["update"]["name"]
    line = delivery_lines(queued, json.loads(message.data)["id"])[0]
    assert (line["outcome"], line["status"], line["attempts"]) == ("delivered", 204, 1)
    assert 7 <= line["queued_seconds"] < 60
    assert pubsub.messages.get(DEAD_LETTERS) is None


def test_delivery_repeated_changes_nothing(queued: Relay, pubsub: PubSub) -> None:
    """A second delivery of a rename by name finds the dataset with its new name."""
    old, new = unique("old"), unique("new")
    dataset = queued.apify_dataset(old)
    message = message_of(queued, {"provider": "apify", "dataset": f"jane~{old}", "update": {"name": new}}, pubsub)
    assert [push(queued, message).status_code for _ in range(3)] == [204, 204, 204]
    assert queued.cloud.apify.datasets[dataset]["name"] == new
    assert dead_letters(pubsub) == []


def test_delivery_that_can_never_succeed_becomes_a_dead_letter(queued: Relay, pubsub: PubSub) -> None:
    run = unique("run")
    event = {"provider": "apify", "dataset": "jane~no-such-dataset", "update": {"name": "x"}, "id": run}
    message = message_of(queued, event, pubsub)
    response = push(queued, message)
    assert response.status_code == 204
    ((data, attributes),) = dead_letters(pubsub)
    assert data == message.data.decode()
    assert (attributes["relay-reason"], attributes["relay-problem"]) == ("lost", "upstream-rejected")
    assert attributes["relay-subscription"] == "projects/local-project/subscriptions/apify-updates"
    (line,) = delivery_lines(queued, run)
    assert (line["outcome"], line["severity"], line["status"], line["upstream_status"]) == ("lost", "ERROR", 204, 404)
    assert "An earlier attempt had an unknown outcome: it may have succeeded." in line["message"]


@pytest.mark.parametrize("data", [b"not JSON", b"{}", b'{"provider": "apify"}'])
def test_delivery_of_a_message_without_an_update_becomes_a_dead_letter(
    queued: Relay, pubsub: PubSub, data: bytes
) -> None:
    assert push(queued, data).status_code == 204
    ((text, attributes),) = dead_letters(pubsub)
    assert (text, attributes["relay-reason"]) == (data.decode(), "lost")


def test_delivery_uses_the_token_of_the_hook(queued: Relay, pubsub: PubSub) -> None:
    dataset = queued.apify_dataset()
    run = unique("run")
    event = {"provider": "apify", "dataset": dataset, "update": {"name": unique("name")}, "id": run}
    queued.cloud.apify.tokens[OWN_TOKEN] = "jane"
    for hook_name, position, status in (("build", 1, 204), ("build", 0, 503), ("build", 7, 503), ("gone", 0, 503)):
        data = json.dumps({**event, "hook": hook_name, "position": position}).encode()
        assert push(queued, data).status_code == status
    lines = delivery_lines(queued, run, 4)
    assert [(each["hook"], each["dataset"], each.get("problem")) for each in lines] == [
        ("build", dataset, None),
        *[(name, dataset, "unknown-hook") for name in ("build", "build", "gone")],
    ]
    (call,) = queued.cloud.apify.seen(f"/datasets/{dataset}")
    assert call.headers["authorization"] == f"Bearer {OWN_TOKEN}"


def test_delivery_during_an_outage_stays_in_the_queue_until_it_is_parked(
    launch: Launch, pubsub: PubSub, cloud: Cloud
) -> None:
    relay = launch(
        **in_variables(cloud), **queue_settings(pubsub.address), RELAY_PARK_AFTER_SECONDS="3600",
        RELAY_DELIVERY_DEADLINE_SECONDS="1",
    )  # fmt: skip
    event = {**apify_event(relay), "id": unique("run")}
    message = message_of(relay, event, pubsub)
    path = f"/datasets/{event['dataset']}"
    cloud.apify.instead[path] = lambda: Response("", 503)
    assert_problem(push(relay, message, age=3000), 503, "upstream-failed", retryable=True)
    assert dead_letters(pubsub) == []
    assert push(relay, message, age=4000).status_code == 204
    del cloud.apify.instead[path]
    ((data, attributes),) = dead_letters(pubsub)
    assert (json.loads(data)["id"], attributes["relay-reason"]) == (event["id"], "parked")
    assert attributes["relay-published"].endswith("Z")
    lines = delivery_lines(relay, event["id"], 2)
    assert [(each["outcome"], each["severity"]) for each in lines] == [("failed", "ERROR"), ("parked", "ERROR")]


def test_delivery_is_not_removed_before_the_dead_letter_is_published(queued: Relay, pubsub: PubSub) -> None:
    pubsub.refusals[DEAD_LETTERS] = grpc.StatusCode.PERMISSION_DENIED
    response = push(queued, b"not JSON")
    assert_problem(response, 503, "queue-unusable")
    line = queued.logged(response.headers["Relay-Delivery"])
    assert "Grant the function's service account the role Pub/Sub Publisher" in line["cause"]


def test_delivery_waits_for_a_retry_after_that_fits(queued: Relay, pubsub: PubSub) -> None:
    event = apify_event(queued)
    message = message_of(queued, event, pubsub)
    path = f"/datasets/{event['dataset']}"
    responses: Iterator[Response | None] = iter([Response("", 429, {"Retry-After": "1"}), None])
    queued.cloud.apify.instead[path] = lambda: next(responses)
    start = time.monotonic()
    assert push(queued, message).status_code == 204
    assert time.monotonic() - start >= 1
    del queued.cloud.apify.instead[path]


def test_delivery_remembers_a_retry_after_that_does_not_fit(launch: Launch, pubsub: PubSub, cloud: Cloud) -> None:
    relay = launch(**in_variables(cloud), **queue_settings(pubsub.address), RELAY_DELIVERY_DEADLINE_SECONDS="1")
    message = message_of(relay, apify_event(relay), pubsub)
    path = f"/datasets/{json.loads(message.data)['dataset']}"
    cloud.apify.instead[path] = lambda: Response("", 429, {"Retry-After": "3000"})
    for _ in range(3):
        response = push(relay, message)
        assert_problem(response, 503, "upstream-rate-limited", retryable=True)
    del cloud.apify.instead[path]
    assert len(cloud.apify.seen(path)) == 1
    dataset = relay.data_world_dataset()
    title = {"provider": "data.world", "dataset": dataset, "update": {"title": "A"}}
    assert push(relay, message_of(relay, title, pubsub)).status_code == 204


def test_delivery_with_an_unknown_outcome_of_a_post_is_parked_at_once(queued: Relay, pubsub: PubSub) -> None:
    dataset = queued.data_world_dataset()
    source = {"url": "https://files.example/a.csv", "method": "POST"}
    event = {"provider": "data.world", "dataset": dataset, "update": {"files": [{"name": "a.csv", "source": source}]}}
    message = message_of(queued, event, pubsub)
    lose_responses(queued.cloud.data_world, f"/datasets/{dataset}", None)
    assert push(queued, message).status_code == 204
    ((_, attributes),) = dead_letters(pubsub)
    assert (attributes["relay-reason"], attributes["relay-problem"]) == ("parked", "upstream-outcome-unknown")


def test_delivery_of_a_refused_token_stays_in_the_queue(launch: Launch, pubsub: PubSub, cloud: Cloud) -> None:
    relay = launch(**{**in_variables(cloud), "A": "CANARY-refused-token"}, **queue_settings(pubsub.address))
    message = message_of(relay, apify_event(relay), pubsub)
    assert_problem(push(relay, message), 503, "upstream-denied")
    assert dead_letters(pubsub) == []


def test_deliveries_use_at_most_half_of_the_threads(launch: Launch, pubsub: PubSub, cloud: Cloud) -> None:
    relay = launch(**in_variables(cloud), **queue_settings(pubsub.address), THREADS="8")
    events = [apify_event(relay) for _ in range(3)]
    messages = [message_of(relay, event, pubsub) for event in events]
    entered, leave = threading.Semaphore(0), threading.Event()

    def hang() -> None:
        entered.release()
        leave.wait(60)

    for event in events:
        cloud.apify.instead[f"/datasets/{event['dataset']}"] = hang
    with ThreadPoolExecutor(3) as executor:
        first = [executor.submit(push, relay, message) for message in messages[:2]]
        for _ in first:
            assert entered.acquire(timeout=60)
        assert_problem(push(relay, messages[2]), 503, "busy", retryable=True)
        title = {"provider": "data.world", "dataset": relay.data_world_dataset(), "update": {"title": "A"}}
        assert push(relay, message_of(relay, title, pubsub)).status_code == 204
        leave.set()
        assert [each.result().status_code for each in first] == [204, 204]


# The identity of a push


@pytest.mark.parametrize(
    ("claims", "cause"),
    [
        ({"aud": "https://other.example"}, "The token has another audience."),
        ({"aud": None}, "The token has another audience."),
        ({"email": "other@local-project.iam.gserviceaccount.com"}, "The token belongs to another account."),
        ({"email": None}, "The token belongs to another account."),
        ({"email_verified": False}, "The token belongs to another account."),
        ({"email_verified": "true"}, "The token belongs to another account."),
        ({"iss": "https://issuer.example"}, "The issuer of the token isn't Google."),
        ({"iss": None}, "The issuer of the token isn't Google."),
        ({"exp": int(time.time()) - 60, "iat": int(time.time()) - 120}, "The token has expired."),
        ({"iat": int(time.time()) + 7200}, "The token isn't valid yet."),
        ({"exp": None}, "The signature or the form of the token is invalid."),
    ],
    ids=[
        "audience",
        "no audience",
        "email",
        "no email",
        "unverified",
        "verified as text",
        "issuer",
        "no issuer",
        "expired",
        "from the future",
        "no expiry",
    ],
)
def test_push_with_other_claims_is_401(queued: Relay, pubsub: PubSub, claims: dict[str, Any], cause: str) -> None:
    response = push(queued, b"{}", token=queued.cloud.google.token(**claims))
    assert_problem(response, 401, "unauthenticated")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="dataset-relay"'
    line = queued.logged(response.headers["Relay-Delivery"])
    assert (line["cause"], line["outcome"], line["severity"]) == (cause, "rejected", "WARNING")
    assert pubsub.messages == {}


def _forged(token: str) -> str:
    head, payload, signature = token.split(".")
    return f"{head}.{payload}.{signature[:-4]}AAAA"


def _unsigned(token: str) -> str:
    payload = token.split(".")[1]
    return f"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}."


def _with_key_id(key_id: object) -> Callable[[str], str]:
    """Return a function that replaces the key ID of a token. None removes it."""

    def change(token: str) -> str:
        head, payload, signature = token.split(".")
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
        changed = {**header, "kid": key_id} if key_id is not None else {"alg": header["alg"]}
        return f"{base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip('=')}.{payload}.{signature}"

    return change


def _deep(token: str) -> str:
    payload, signature = token.split(".")[1:]
    return f"{base64.urlsafe_b64encode(b'[' * 5000).decode()}.{payload}.{signature}"


def _with_google_mark(token: str) -> str:
    head, payload, _ = token.split(".")
    return f"{head}.{payload}.SIGNATURE_REMOVED_BY_GOOGLE"


@pytest.mark.parametrize(
    "change",
    [
        _forged,
        _unsigned,
        _with_google_mark,
        _with_key_id(None),
        _with_key_id(["a"]),
        _with_key_id(7),
        _deep,
        lambda _: "x",
        lambda _: "a.b.c",
        lambda _: "",
    ],
)
def test_push_with_another_signature_is_401(queued: Relay, pubsub: PubSub, change: Callable[[str], str]) -> None:
    assert_problem(push(queued, b"{}", token=change(queued.cloud.google.token())), 401, "unauthenticated")
    assert pubsub.messages == {}


def test_push_without_a_token_is_401(queued: Relay) -> None:
    assert_problem(
        queued.send(b"{}", path="/deliveries", headers={"Content-Type": "application/json"}), 401, "unauthenticated"
    )


def test_push_allow_unauthenticated_never_applies(launch: Launch, pubsub: PubSub, cloud: Cloud) -> None:
    relay = launch(**in_variables(cloud), **queue_settings(pubsub.address), RELAY_ALLOW_UNAUTHENTICATED="true")
    assert_problem(push(relay, b"{}", token="x"), 401, "unauthenticated")


def test_push_with_a_new_key_fetches_the_certificates_once(launch: Launch, pubsub: PubSub, own_cloud: Cloud) -> None:
    relay = launch(**queue_settings(pubsub.address), RELAY_PUSH_CERTS_URL=own_cloud.google.certs_url)
    google = own_cloud.google
    assert push(relay, b"{}", token=google.token()).status_code == 204
    assert google.fetches == 1
    google.rotate("key-2")
    assert push(relay, b"{}", token=google.token()).status_code == 204
    assert google.fetches == 2
    # An unknown key of an attacker causes no further fetch within ten seconds.
    google.key_id = "key-3"
    for _ in range(3):
        assert_problem(push(relay, b"{}", token=google.token()), 401, "unauthenticated")
    assert google.fetches == 2
    line = relay.logged(str(relay.last_delivery))
    assert line["cause"] == "The key of the token is unknown."


def test_push_without_certificates_is_503(launch: Launch, pubsub: PubSub, own_cloud: Cloud) -> None:
    relay = launch(**queue_settings(pubsub.address), RELAY_PUSH_CERTS_URL=own_cloud.google.certs_url)
    own_cloud.google.status = 500
    assert_problem(push(relay, b"{}", token=own_cloud.google.token()), 503, "secret-unreachable", retryable=True)
    assert relay.logged(str(relay.last_delivery))["outcome"] == "rejected"
    own_cloud.google.status = 200
    assert push(relay, b"{}", token=own_cloud.google.token()).status_code == 204


def test_push_of_ten_megabytes_is_accepted(queued: Relay, pubsub: PubSub) -> None:
    """RELAY_MAX_BODY_BYTES doesn't limit a push."""
    dataset = queued.data_world_dataset()
    event = {"provider": "data.world", "dataset": dataset, "update": {"properties": {"a": "x" * 9_800_000}}, "id": "x"}
    # The local provider accepts 9 MB.
    assert push(queued, json.dumps(event).encode()).status_code == 204
    ((_, attributes),) = dead_letters(pubsub)
    assert attributes["relay-problem"] == "upstream-rejected"


def test_push_that_is_too_large_is_413_before_the_authentication(queued: Relay) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": "14000001"}
    response = queued.send(b"", path="/deliveries", headers=headers)
    assert_problem(response, 413, "too-large")


def test_push_with_another_method_or_media_type_is_rejected(queued: Relay) -> None:
    assert_problem(queued.send(b"", path="/deliveries", method="GET"), 405, "method-not-allowed")
    assert_problem(queued.send(b"{}", path="/deliveries"), 415, "unsupported-media-type")
