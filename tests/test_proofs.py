"""Every sender: accepted when right, refused when anything is off by one, its delivery id, its test messages."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.signing import proven, signed_headers
from handlers.proofs import BadKey, Incoming, QueryToken
from handlers.senders import SENDERS, delivery_id, has_proof, is_test_message, prove, visible_headers
from handlers.signatures import TOLERANCE_SECONDS, Signature, SignedOrPlain, StandardWebhooks, TimedSignature

NOW = 1_790_000_000
BODY = '{"event": "done", "größe": 1}'.encode()
BASIC = {name for name, sender in SENDERS.items() if sender.challenge.startswith("Basic")}
URL = {name for name, sender in SENDERS.items() if isinstance(sender.proof, QueryToken)}
CASES = [*SENDERS, "gitlab:whsec_"]


def kind_of(case: str) -> Any:
    """The kind of proof that a case is about: of two, the signature where the secret is for signing."""
    proof = SENDERS[case.partition(":")[0]].proof
    if not isinstance(proof, SignedOrPlain):
        return type(proof)
    return type(proof.plain if case == "gitlab" else proof.signed)


TIMED = {case for case in CASES if kind_of(case) in (StandardWebhooks, TimedSignature)}
SIGNING = TIMED | {case for case in CASES if kind_of(case) is Signature}


def secret_of(case: str) -> str:
    if case in BASIC:
        return "relay:pass:wörd with spaces"
    return "whsec_bm90IGEgc2VjcmV0IHRvIGtlZXA=" if case in ("standard-webhooks", "gitlab:whsec_") else "s3cret/ü+ %41"


def incoming(case: str, *, body: bytes = BODY, secret: str | None = None, at: float = NOW) -> Incoming:
    """What the sender sends, headers as WSGI gives them."""
    headers, query = proven(case.partition(":")[0], secret or secret_of(case), body, at=at)
    wire = {name.lower(): value.encode().decode("latin-1") for name, value in headers.items()}
    return Incoming(wire, query.removeprefix("?"), body, NOW)


def accepted(case: str, sent: Incoming, secret: str | None = None) -> bool:
    name = case.partition(":")[0]
    return prove([name], sent, secret or secret_of(case)) == name


def changed(sent: Incoming, **changes: Any) -> Incoming:
    return sent._replace(**changes)


@pytest.mark.parametrize("case", CASES)
def test_accepted_when_right(case: str) -> None:
    assert accepted(case, incoming(case))
    assert has_proof([case.partition(":")[0]], incoming(case))


@pytest.mark.parametrize("case", sorted(SIGNING))
@pytest.mark.parametrize("body", [BODY[:-1], BODY + b" ", BODY.replace(b"1", b"2"), BODY.replace(b" ", b""), b""])
def test_refused_when_the_body_is_off(case: str, body: bytes) -> None:
    assert not accepted(case, changed(incoming(case), body=body))


@pytest.mark.parametrize("case", CASES)
def test_refused_when_the_secret_is_off(case: str) -> None:
    secret = secret_of(case)
    if secret.startswith("whsec_"):
        others = ["whsec_bm90IGEgc2VjcmV0IHRvIGtlZXE=", "whsec_bm90IGEgc2VjcmV0IHRvIGtlZQ=="]
    else:
        others = [secret[:-1], f"{secret}x", secret.replace("s", "S"), f"x{secret}"]
    for other in others:
        assert not accepted(case, incoming(case, secret=other)), other
        assert not accepted(case, incoming(case), other), other


@pytest.mark.parametrize("case", sorted(TIMED))
def test_refused_when_the_time_is_off(case: str) -> None:
    for drift in (-TOLERANCE_SECONDS, TOLERANCE_SECONDS):
        assert accepted(case, incoming(case, at=NOW + drift))
        assert not accepted(case, incoming(case, at=NOW + drift + (1 if drift > 0 else -1)))


@pytest.mark.parametrize("case", CASES)
def test_refused_without_a_proof(case: str) -> None:
    nothing = Incoming({}, "", BODY, NOW)
    assert not accepted(case, nothing)
    assert not has_proof([case.partition(":")[0]], nothing)


@pytest.mark.parametrize(
    ("case", "header", "wrong"),
    [
        ("github", "x-hub-signature-256", ["sha1=", "SHA256=", "sha256:", "", "sha256= x"]),
        ("bitbucket", "x-hub-signature", ["sha1=", "SHA256=", ""]),
        ("circleci", "circleci-signature", ["v0=", "V1=", ""]),
        ("standard-webhooks", "webhook-signature", ["v1a,", "v2,", "V1,", ""]),
        ("azure-devops", "authorization", ["Bearer ", "Basic", ""]),
        ("apify", "authorization", ["Basic ", "Bearer", ""]),
    ],
)
def test_refused_when_the_prefix_is_off(case: str, header: str, wrong: list[str]) -> None:
    sent = incoming(case)
    right = {"github": "sha256=", "bitbucket": "sha256=", "circleci": "v1=", "standard-webhooks": "v1,",
             "azure-devops": "Basic ", "apify": "Bearer "}[case]  # fmt: skip
    assert right in sent.headers[header]
    for prefix in wrong:
        headers = {**sent.headers, header: sent.headers[header].replace(right, prefix)}
        assert not accepted(case, changed(sent, headers=headers)), prefix


@pytest.mark.parametrize("case", ["github", "bitbucket", "dbt", "fivetran", "circleci"])
def test_hexadecimal_digits_in_either_case(case: str) -> None:
    sent = incoming(case)
    for change in (str.lower, str.upper):
        headers = {
            name: "=".join([*value.split("=")[:-1], change(value.split("=")[-1])])
            for name, value in sent.headers.items()
        }
        assert accepted(case, changed(sent, headers=headers))


def test_the_vectors_that_vendors_publish() -> None:
    """https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries, CircleCI's outbound webhooks."""
    github = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    sent = Incoming({"x-hub-signature-256": github}, "", b"Hello, World!", NOW)
    assert accepted("github", sent, "It's a Secret to Everybody")
    circleci = "v1=773ba44693c7553d6ee20f61ea5d2757a9a4f4a44d2841ae4e95b52e4cd62db4"
    assert accepted("circleci", Incoming({"circleci-signature": circleci}, "", b"foo", NOW), "secret")


@pytest.mark.parametrize("case", CASES)
@given(st.data())
def test_a_malformed_proof_is_a_wrong_one(case: str, data: st.DataObject) -> None:
    """Whatever is in the headers and the query: no error, and no way in."""
    name = case.partition(":")[0]
    headers = SENDERS[name].proof.headers | {"webhook-id", "webhook-timestamp"}
    text = st.text(st.characters(codec="latin-1"), max_size=60)
    shaped = st.sampled_from(
        ["sha256=", "v1=", "v1,", "timestamp=1,signature=", "Basic ", "Bearer ", "timestamp=", ","]
    )
    sent = data.draw(
        st.dictionaries(st.sampled_from(sorted(headers)), st.one_of(text, st.builds(str.__add__, shaped, text)))
    )
    query = data.draw(st.one_of(text, st.builds("token={}".format, text)))
    assert not accepted(case, Incoming(sent, query, BODY, NOW))


# Each one's own


def test_gitlab_a_signature_that_is_there_alone_decides() -> None:
    signing, token = secret_of("gitlab:whsec_"), "a plain token"
    signed, plain = incoming("gitlab:whsec_"), {"x-gitlab-token": token}
    assert accepted("gitlab", Incoming(plain, "", BODY, NOW), token)
    spoilt = {**signed.headers, "webhook-signature": "v1,AAAA", **plain}
    assert not accepted("gitlab", changed(signed, headers=spoilt), token)
    assert accepted("gitlab", changed(signed, headers={**signed.headers, "x-gitlab-token": "wrong"}), signing)
    # A signing secret in clear is no token, and a token signs nothing.
    assert not accepted("gitlab", Incoming({"x-gitlab-token": signing}, "", BODY, NOW), signing)
    by_token = signed_headers("whsec_" + "YSBwbGFpbiB0b2tlbg==", "m", BODY, at=NOW)
    assert not accepted("gitlab", Incoming(by_token, "", BODY, NOW), token)
    # Svix's names are not GitLab's.
    svix = {name.replace("webhook-", "svix-"): value for name, value in signed.headers.items()}
    assert not accepted("gitlab", changed(signed, headers=svix), signing)


def test_buildkite_token_or_signature() -> None:
    sent = incoming("buildkite")
    token = {"x-buildkite-token": secret_of("buildkite").encode().decode("latin-1")}
    assert accepted("buildkite", Incoming(token, "", BODY, NOW))
    assert not accepted(
        "buildkite", Incoming({**token, "x-buildkite-signature": "timestamp=1,signature=00"}, "", BODY, NOW)
    )
    value = sent.headers["x-buildkite-signature"]
    for wrong in (value.replace(",", ";"), value.replace("signature=", "sig="), f"{value},{value}", value + "0",
                  value.replace("timestamp=", "timestamp=0"), "", ",", "timestamp=,signature="):  # fmt: skip
        assert not accepted("buildkite", changed(sent, headers={"x-buildkite-signature": wrong})), wrong
    assert accepted("buildkite", changed(sent, headers={"x-buildkite-signature": value.replace(",", ", ")}))


def test_circleci_one_right_signature_among_others() -> None:
    sent = incoming("circleci")
    right = sent.headers["circleci-signature"].rpartition(",")[2]
    for value in (right, f"v1=00, {right}", f"{right},v2=zz", f"junk,{right},"):
        assert accepted("circleci", changed(sent, headers={"circleci-signature": value})), value


def test_a_secret_that_cannot_be_of_that_kind() -> None:
    with pytest.raises(BadKey):
        prove(["basic"], incoming("basic"), "no colon in it")
    with pytest.raises(BadKey):
        prove(["gitlab"], incoming("gitlab:whsec_"), "whsec_")


def test_basic_in_the_forms_that_clients_send() -> None:
    sent = incoming("basic")
    value = sent.headers["authorization"]
    for form in (value, value.replace("Basic", "basic"), value.replace("Basic ", "BASIC  "), value.rstrip("=")):
        assert accepted("basic", changed(sent, headers={"authorization": form})), form


@pytest.mark.parametrize(
    ("query", "right"),
    [
        ("token=s3cret/%C3%BC%2B%20%2541", True),
        ("token=s3cret/%C3%BC%2B+%2541", True),
        ("a=b&token=s3cret%2F%C3%BC%2B%20%2541&dry_run=true", True),
        ("%74oken=s3cret/%C3%BC%2B%20%2541", True),
        ("token=s3cret/%C3%BC%2B%20%2541&token=s3cret/%C3%BC%2B%20%2541", False),
        ("token=s3cret/%C3%BC%2B%20%41", False),
        ("Token=s3cret/%C3%BC%2B%20%2541", False),
        ("token=", False),
        ("token", False),
        ("", False),
    ],
)
def test_a_token_in_the_query(query: str, right: bool) -> None:
    assert accepted("airbyte", Incoming({}, query, BODY, NOW)) is right


def test_a_plus_in_a_query_may_stand_for_itself() -> None:
    assert accepted("airbyte", Incoming({}, "token=a+b/c=", BODY, NOW), "a+b/c=")
    assert accepted("airbyte", Incoming({}, "token=a+b", BODY, NOW), "a b")


def test_a_proof_of_one_sender_is_none_of_another() -> None:
    """With the same secret, which nobody should do: only those that send the very same thing pass for each other."""
    secret = "user:password"
    alike = [BASIC, URL, {"apify", "airflow", "prefect", "dagster", "token"}]
    for sender in SENDERS:
        own = f"whsec_{base64.b64encode(secret.encode()).decode()}" if sender == "standard-webhooks" else secret
        headers, query = proven(sender, own, BODY, at=NOW)
        sent = Incoming({name.lower(): value for name, value in headers.items()}, query.removeprefix("?"), BODY, NOW)
        passing = {other for other in SENDERS if prove([other], sent, secret)}
        assert passing == next((each for each in alike if sender in each), {sender})


# Delivery ids


@pytest.mark.parametrize(
    ("sender", "headers", "payload", "expected"),
    [
        ("github", {"x-github-delivery": "72d3162e"}, {}, "72d3162e"),
        ("bitbucket", {"x-request-uuid": "c0ffee"}, {}, "c0ffee"),
        ("gitlab", {"idempotency-key": "i-1", "webhook-id": "w-1", "x-gitlab-webhook-uuid": "new"}, {}, "i-1"),
        ("gitlab", {"webhook-id": "w-1"}, {}, "w-1"),
        ("apify", {"x-apify-webhook-dispatch-id": "d-1"}, {}, "d-1"),
        ("hookdeck", {"x-hookdeck-eventid": "evt_1"}, {}, "evt_1"),
        ("standard-webhooks", {"webhook-id": "msg_1"}, {}, "msg_1"),
        ("standard-webhooks", {"svix-id": "msg_2"}, {}, "msg_2"),
        ("dbt", {}, {"eventId": "wev_1"}, "wev_1"),
        ("circleci", {}, {"id": "8bd71c28"}, "8bd71c28"),
        ("azure-devops", {}, {"id": "4a5d99d6"}, "4a5d99d6"),
        ("fivetran", {}, {"sync_id": "b47", "data": {"status": "SUCCESSFUL"}}, "b47:SUCCESSFUL"),
        ("airbyte", {}, {"data": {"connection": {"id": "64d9"}, "jobId": 9988, "success": True}}, "64d9:9988:true"),
        ("airbyte", {}, {"data": {"jobId": 9988, "success": True}}, None),
        ("databricks", {}, {"event_type": "jobs.on_success", "run": {"run_id": 7}}, "jobs.on_success:7"),
        ("buildkite", {}, {"event": "build.finished", "build": {"id": "f62", "finished_at": "2026-11-22"}},
         "f62:build.finished:2026-11-22"),
        ("buildkite", {}, {"event": "build.running", "build": {"id": "f62", "finished_at": None}}, "f62:build.running"),
        ("jenkins", {}, {"build": {"full_url": "http://j/18/", "phase": "COMPLETED"}}, "http://j/18/:COMPLETED"),
        ("prefect", {"webhook-id": "w-2"}, {"id": "not its"}, "w-2"),
        ("airflow", {}, {}, None),
        ("github", {"x-github-delivery": "  é\x00\u2028"}, {}, None),
        ("github", {"x-github-delivery": "a\u00e9b\tc"}, {}, "abc"),
        ("github", {"x-github-delivery": "x" * 300}, {}, "x" * 200),
        ("github", {"x-github-delivery": "x" * 199 + " y"}, {}, "x" * 199),
        ("dbt", {}, {"eventId": ["no", "text"]}, None),
        ("dbt", {}, {"eventId": {"a": 1}}, None),
        ("fivetran", {}, {"sync_id": "b47", "data": "no object"}, "b47"),
    ],
)  # fmt: skip
def test_delivery_ids(sender: str, headers: dict[str, str], payload: Any, expected: str | None) -> None:
    assert delivery_id(sender, headers, payload) == expected


# Test messages


@pytest.mark.parametrize(
    ("sender", "headers", "payload"),
    [
        ("github", {"x-github-event": "ping"}, {"zen": "Keep it simple.", "hook_id": 1}),
        ("fivetran", {}, {"event": "test_event", "created": "timestamp"}),
        ("buildkite", {}, {"event": "ping", "service": {}}),
        ("apify", {}, {"eventType": "TEST", "resource": {}}),
        ("circleci", {"circleci-event-type": "ping"}, {}),
        ("circleci", {}, {"type": "ping", "webhook": {}}),
    ],
)
def test_a_test_message(sender: str, headers: dict[str, str], payload: Any) -> None:
    assert is_test_message(sender, headers, payload)
    assert not is_test_message("token", headers, payload)


@pytest.mark.parametrize("sender", SENDERS)
def test_an_event_is_no_test_message(sender: str) -> None:
    events: list[Any] = [{}, {"event": "done", "type": "done", "eventType": "DONE"}, {"event": {"ping": 1}}]
    for payload in events:
        assert not is_test_message(sender, {"x-github-event": "push"}, payload)


# What a template may see


def test_no_proof_is_visible() -> None:
    headers = {"x-github-event": "push", "webhook-id": "m", "webhook-timestamp": "1", "x-request-id": "r"}
    hidden = {"cookie": "c", "proxy-authorization": "p", "authorization": "a"}
    for case in CASES:
        hidden |= incoming(case).headers
    hidden = {name: value for name, value in hidden.items() if name not in headers}
    assert {
        "standard-webhooks",
        "github",
        "bitbucket",
        "dbt",
        "fivetran",
        "circleci",
        "buildkite",
        "hookdeck",
    } <= SIGNING
    assert {"standard-webhooks", "buildkite", "gitlab:whsec_"} == TIMED
    hidden |= {"svix-signature": "v1,x", "x-buildkite-token": "t", "x-serverless-authorization": "Bearer b"}
    assert visible_headers({**headers, **hidden}) == headers
    carrying = set().union(*(sender.proof.headers for sender in SENDERS.values()))
    assert carrying | {"cookie", "proxy-authorization", "x-serverless-authorization"} == set(hidden)
    assert json.dumps(visible_headers({})) == "{}"
