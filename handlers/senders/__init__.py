"""The senders that can call the function: one row of the table per sender.

A row states the method by which the sender authenticates its requests, the source of the delivery ID, and the form of
the sender's test messages. The comment before a row has the URL of the sender's own documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from handlers.senders.shared_secrets import Authorization, HeaderSecret, QuerySecret, Verifier
from handlers.senders.signatures import (
    STANDARD_WEBHOOKS,
    STANDARD_WEBHOOKS_ONLY,
    AnyVerifier,
    BodySignature,
    PreferredVerifier,
    SignedMessage,
    TimestampedSignature,
)
from schemas.strict_json import JSON, value_at

# Headers that can carry a credential regardless of the sender. Cloud Run accepts x-serverless-authorization:
# https://cloud.google.com/run/docs/authenticating/service-to-service
_CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "x-serverless-authorization", "cookie"})


@dataclass(frozen=True, slots=True)
class Sender:
    """A system that sends events to the function, such as GitHub.

    The delivery ID is in one of the headers `id_headers`, or consists of the values of the payload's fields
    `id_fields`. `test_header` and `test_field` are the name and the value of the header and of the field that mark a
    test message. Each of `test_texts` is a field, and the beginning of its value in a test message. The names of
    headers are lowercase. A field is a path such as `data.status` or `blocks.0.text`.
    """

    name: str
    verifier: Verifier
    id_headers: tuple[str, ...] = ()
    id_fields: tuple[str, ...] = ()
    test_header: tuple[str, str] | None = None
    test_field: tuple[str, str] | None = None
    test_texts: tuple[tuple[str, str], ...] = ()

    @property
    def scheme(self) -> str:
        """The authentication scheme in a 401 response (RFC 9110, 11.6.1)."""
        return self.verifier.scheme if isinstance(self.verifier, Authorization) else "Bearer"

    def is_test_message(self, headers: Mapping[str, str], payload: JSON) -> bool:
        """Return True if the message only tests the webhook. The names in `headers` are lowercase."""
        if self.test_header:
            name, value = self.test_header
            if headers.get(name) == value:
                return True
        for path, beginning in self.test_texts:
            text = value_at(payload, *path.split("."))
            if isinstance(text, str) and text.startswith(beginning):
                return True
        if self.test_field:
            path, value = self.test_field
            return value_at(payload, *path.split(".")) == value
        return False

    def visible_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return `headers` without the headers that carry a credential of any sender."""
        hidden = hidden_headers() | self.verifier.headers
        return {name: value for name, value in headers.items() if name not in hidden}


_BEARER = Authorization("Bearer")
_BASIC = Authorization("Basic")
_URL_TOKEN = QuerySecret("token")

_ROWS = (
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    Sender("standard-webhooks", STANDARD_WEBHOOKS),
    # https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    Sender(
        "github",
        BodySignature("x-hub-signature-256", prefix="sha256="),
        id_headers=("x-github-delivery",),
        test_header=("x-github-event", "ping"),
    ),
    # https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/. Bitbucket Data Center has another header for
    # the ID, and has a test: https://confluence.atlassian.com/bitbucketserver/manage-webhooks-938025878.html. The
    # test is often unsigned, and then gets 401 like every unsigned request.
    Sender(
        "bitbucket",
        BodySignature("x-hub-signature", prefix="sha256="),
        id_headers=("x-request-uuid", "x-request-id"),
        test_header=("x-event-key", "diagnostics:ping"),
    ),
    # https://docs.gitlab.com/user/project/integrations/webhooks/
    Sender(
        "gitlab",
        PreferredVerifier(STANDARD_WEBHOOKS_ONLY, HeaderSecret("x-gitlab-token"), by_prefix=True),
        id_headers=("idempotency-key",),
    ),
    # https://docs.getdbt.com/docs/deploy/webhooks. A test message can't be told from a real one.
    Sender("dbt", BodySignature("authorization"), id_fields=("eventId",)),
    # https://fivetran.com/docs/rest-api/webhooks. POST /webhooks/{id}/test sends an event that looks real.
    Sender(
        "fivetran",
        BodySignature("x-fivetran-signature-256"),
        id_fields=("sync_id", "data.status"),
        test_field=("event", "test_event"),
    ),
    # https://circleci.com/docs/guides/integration/outbound-webhooks/
    Sender(
        "circleci",
        BodySignature("circleci-signature", prefix="v1=", separator=","),
        id_fields=("id",),
        test_header=("circleci-event-type", "ping"),
        test_field=("type", "ping"),
    ),
    # https://buildkite.com/docs/apis/webhooks
    Sender(
        "buildkite",
        PreferredVerifier(TimestampedSignature("x-buildkite-signature"), HeaderSecret("x-buildkite-token")),
        id_fields=("build.id", "event", "build.finished_at"),
        test_field=("event", "ping"),
    ),
    # https://hookdeck.com/docs/receive-webhooks. The second header exists while a secret is rotated.
    Sender(
        "hookdeck",
        AnyVerifier(
            (
                BodySignature("x-hookdeck-signature", encoding="base64"),
                BodySignature("x-hookdeck-signature-2", encoding="base64"),
            )
        ),
        id_headers=("x-hookdeck-eventid",),
    ),
    # https://docs.apify.com/platform/integrations/webhooks/actions
    Sender("apify", _BEARER, id_headers=("x-apify-webhook-dispatch-id",), test_field=("eventType", "TEST")),
    # https://docs.databricks.com/aws/en/admin/workspace-settings/notification-destinations
    Sender("databricks", _BASIC, id_fields=("event_type", "run.run_id")),
    # https://learn.microsoft.com/azure/devops/service-hooks/services/webhooks
    Sender("azure-devops", _BASIC, id_fields=("id",)),
    # https://plugins.jenkins.io/notification/. Jenkins sends the user and the password as they are in the URL.
    Sender("jenkins", Authorization("Basic", may_be_encoded=True), id_fields=("build.full_url", "build.phase")),
    # https://docs.airbyte.com/platform/cloud/managing-airbyte-cloud/manage-airbyte-cloud-notifications
    Sender(
        "airbyte",
        _URL_TOKEN,
        id_fields=("data.connection.id", "data.jobId", "data.success"),
        test_texts=(
            ("blocks.0.text.text", "[THIS IS A TEST NOTIFICATION]"),
            ("text", "Hello World! This is a test from Airbyte"),
        ),
    ),
    # https://docs.gitea.com/usage/webhooks, https://forgejo.org/docs/latest/user/webhooks/
    Sender(
        "gitea",
        PreferredVerifier(BodySignature("x-gitea-signature"), BodySignature("x-hub-signature-256", prefix="sha256=")),
        id_headers=("x-gitea-delivery", "x-github-delivery"),
    ),
    # https://huggingface.co/docs/hub/webhooks
    Sender("huggingface", HeaderSecret("x-webhook-secret")),
    # https://mlflow.org/docs/latest/ml/webhooks/
    Sender(
        "mlflow",
        SignedMessage((("x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"),)),
        id_headers=("x-mlflow-delivery-id",),
    ),
    # https://docs.wandb.ai/guides/automations/create-automations/webhook/
    Sender("wandb", BodySignature("x-wandb-signature")),
    # https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions, https://cloud.google.com/eventarc/docs.
    # handlers.queue.identity verifies the ID token. Every message has an ID, and so has every event of Eventarc.
    Sender("google", _BEARER, id_headers=("ce-id",), id_fields=("message.messageId",)),
    # https://airflow.apache.org/docs/apache-airflow-providers-http/stable/operators.html
    Sender("airflow", _BEARER),
    # https://docs.prefect.io/api-ref/prefect/blocks/webhook/
    Sender("prefect", _BEARER),
    # https://docs.dagster.io/guides/automate/sensors/run-status-sensors
    Sender("dagster", _BEARER),
    # Any other sender that can set a header. https://www.rfc-editor.org/rfc/rfc6750, https://www.rfc-editor.org/rfc/rfc7617
    Sender("token", _BEARER),
    Sender("basic", _BASIC),
    # Any other sender that can set nothing but the URL.
    Sender("url-token", _URL_TOKEN),
)

#: The senders by name.
SENDERS: Mapping[str, Sender] = {sender.name: sender for sender in _ROWS}

#: The senders of native events. Either credential is enough.
NATIVE_SENDERS = (SENDERS["token"], SENDERS["standard-webhooks"])


@cache
def hidden_headers() -> frozenset[str]:
    """Return the lowercase names of the headers that carry a credential of any sender."""
    return _CREDENTIAL_HEADERS.union(*(sender.verifier.headers for sender in SENDERS.values()))


def custom_sender(declaration: Mapping[str, Any]) -> Sender:
    """Return the sender that `declaration` describes in relay.yaml, in the form of `CustomSenderSchema`."""
    header = declaration["header"].lower()
    if "hmac" not in declaration:
        return Sender("custom", HeaderSecret(header))
    signature = BodySignature(
        header,
        prefix=declaration.get("prefix", ""),
        encoding=declaration.get("encoding", "hex"),
        algorithm=declaration["hmac"],
    )
    return Sender("custom", signature)
