"""Who calls: what proves each sender, where it names its delivery, and how its test messages look. Pure.

One row a sender. What they send is compiled from their own documentation; each row has its address.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import NamedTuple

from handlers.proofs import Authorization, Incoming, Plain, Proof, QueryToken
from handlers.signatures import Signature, SignedOrPlain, StandardWebhooks, TimedSignature
from schemas.event import LONGEST_ID
from schemas.strict_json import JSON, at

#: Headers that carry a credential, whoever the sender is; a template sees neither these nor those of any proof.
_CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "x-serverless-authorization", "cookie"})
_STANDARD_IDS = {f"{each}-id": f"{each}-signature" for each in StandardWebhooks().spellings}


class Sender(NamedTuple):
    """One row.

    A delivery's id is in one of `id_headers`, else what is at `id_fields` of the payload, put together. A test
    message has one of the `pings`, a header or a field of the payload with this value.
    """

    proof: Proof
    id_headers: tuple[str, ...] = ()
    id_fields: tuple[str, ...] = ()
    pings: tuple[tuple[str, str], ...] = ()

    @property
    def challenge(self) -> str:
        """What WWW-Authenticate asks for."""
        scheme = self.proof.scheme if isinstance(self.proof, Authorization) else "Bearer"
        return f'{scheme} realm="dataset-relay"'


_BEARER, _BASIC = Authorization("authorization", "Bearer"), Authorization("authorization", "Basic")
_URL = QueryToken("token")

SENDERS: Mapping[str, Sender] = {
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    "standard-webhooks": Sender(StandardWebhooks()),
    # https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    "github": Sender(
        Signature("x-hub-signature-256", prefix="sha256="),
        id_headers=("x-github-delivery",),
        pings=(("header:x-github-event", "ping"),),
    ),
    # https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/
    "bitbucket": Sender(Signature("x-hub-signature", prefix="sha256="), id_headers=("x-request-uuid",)),
    # https://docs.gitlab.com/user/project/integrations/webhooks/
    "gitlab": Sender(
        SignedOrPlain(StandardWebhooks(("webhook",)), Plain("x-gitlab-token"), by_prefix=True),
        id_headers=("idempotency-key",),
    ),
    # https://docs.getdbt.com/docs/deploy/webhooks
    "dbt": Sender(Signature("authorization"), id_fields=("eventId",)),
    # https://fivetran.com/docs/rest-api/webhooks
    "fivetran": Sender(
        Signature("x-fivetran-signature-256"), id_fields=("sync_id", "data.status"), pings=(("event", "test_event"),)
    ),
    # https://circleci.com/docs/guides/integration/outbound-webhooks/
    "circleci": Sender(
        Signature("circleci-signature", prefix="v1=", separator=","),
        id_fields=("id",),
        pings=(("header:circleci-event-type", "ping"), ("type", "ping")),
    ),
    # https://buildkite.com/docs/apis/webhooks
    "buildkite": Sender(
        SignedOrPlain(TimedSignature("x-buildkite-signature"), Plain("x-buildkite-token")),
        id_fields=("build.id", "event", "build.finished_at"),
        pings=(("event", "ping"),),
    ),
    # https://hookdeck.com/docs/receive-webhooks
    "hookdeck": Sender(Signature("x-hookdeck-signature", encoding="base64"), id_headers=("x-hookdeck-eventid",)),
    # https://docs.apify.com/platform/integrations/webhooks/actions
    "apify": Sender(_BEARER, id_headers=("x-apify-webhook-dispatch-id",), pings=(("eventType", "TEST"),)),
    # https://docs.databricks.com/aws/en/admin/workspace-settings/notification-destinations
    "databricks": Sender(_BASIC, id_fields=("event_type", "run.run_id")),
    # https://learn.microsoft.com/azure/devops/service-hooks/services/webhooks
    "azure-devops": Sender(_BASIC, id_fields=("id",)),
    # https://plugins.jenkins.io/notification/
    "jenkins": Sender(_BASIC, id_fields=("build.full_url", "build.phase")),
    # https://docs.airbyte.com/platform/cloud/managing-airbyte-cloud/manage-airbyte-cloud-notifications
    "airbyte": Sender(_URL, id_fields=("data.connection.id", "data.jobId", "data.success")),
    "airflow": Sender(_BEARER),
    "prefect": Sender(_BEARER),
    "dagster": Sender(_BEARER),
    "token": Sender(_BEARER),
    "basic": Sender(_BASIC),
    "url-token": Sender(_URL),
}

#: What proves a native event: either is enough.
NATIVE = ("token", "standard-webhooks")


def has_proof(names: Sequence[str], incoming: Incoming) -> bool:
    """Whether there is anything to check of what proves the senders `names`, right or wrong."""
    return any(SENDERS[name].proof.given(incoming) for name in names)


def prove(names: Sequence[str], incoming: Incoming, secret: str) -> str | None:
    """The first of the senders `names` whose proof shows that it knows `secret`, or None. Raises BadKey."""
    return next((name for name in names if SENDERS[name].proof.holds(incoming, secret)), None)


def is_test_message(name: str, headers: Mapping[str, str], payload: JSON) -> bool:
    """Whether this is what the sender sends to try a webhook out. `headers` have lower-case names."""
    for where, value in SENDERS[name].pings:
        header = where.removeprefix("header:")
        found = headers.get(header) if header != where else at(payload, *where.split("."))
        if found == value:
            return True
    return False


@cache
def hidden_headers() -> frozenset[str]:
    """The headers that carry a credential, or any sender's proof."""
    return _CREDENTIAL_HEADERS.union(*(sender.proof.headers for sender in SENDERS.values()))


def visible_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """`headers` as templates may see them: without the hidden ones."""
    hidden = hidden_headers()
    return {name: value for name, value in headers.items() if name not in hidden}


def standard_id(headers: Mapping[str, str]) -> str | None:
    """The id that Standard Webhooks headers give to a delivery, if any. `headers` have lower-case names."""
    given = [(signature in headers, named) for each, signature in _STANDARD_IDS.items() if (named := headers.get(each))]
    # Where both are there, that of the spelling that is signed.
    return max(given, key=itemgetter(0))[1] if given else None


def delivery_id(name: str, headers: Mapping[str, str], payload: JSON = None) -> str | None:
    """The id that the sender `name` gives to a delivery: its own, else the standard one, cut to what can be printed.

    `headers` have lower-case names.
    """
    names = _names(SENDERS[name], headers, payload)
    return next((printable for each in names if each and (printable := _printable(each))), None)


def _names(sender: Sender, headers: Mapping[str, str], payload: JSON) -> Iterator[str | None]:
    yield from map(headers.get, sender.id_headers)
    yield _composite(payload, sender.id_fields)
    yield standard_id(headers)


def _composite(payload: JSON, paths: tuple[str, ...]) -> str | None:
    """What is at `paths`, with a ':' between; None without the first of them."""
    found = [_text(at(payload, *path.split("."))) for path in paths]
    return ":".join(each for each in found if each) if found and found[0] else None


def _text(value: JSON) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None


def _printable(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        text = "".join(each for each in text if " " <= each <= "~")
    return text.strip()[:LONGEST_ID].rstrip()
