"""Property tests of the responses and the log lines."""

import json
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from handlers.deadline import Deadline
from handlers.delivery.delivery import Delivery, DeliveryContext
from handlers.inbound.request_log import trace_fields
from handlers.inbound.response import redact, result_items
from handlers.providers import PROVIDERS
from handlers.providers.base import read_response, response_error
from handlers.redaction import mask
from handlers.secret_store.store import Secret
from schemas.event import Update
from schemas.settings import Settings
from tests.support.strategies import JSON_VALUES

TOKEN = "apify_api_CANARYfuzzfuzz0123456789"


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Draw the body of a provider's response. Most bodies contain the token."""
    content = draw(JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
    position = draw(st.integers(0, len(content)))
    repeated = draw(st.sampled_from([TOKEN, TOKEN.encode().hex(), f'"{TOKEN}"', ""])).encode()
    return content[:position] + repeated + content[position:]


@given(st.sampled_from(sorted(PROVIDERS)), st.integers(200, 999), contents())
def test_redact_any_response_contains_no_token(name: str, status: int, content: bytes) -> None:
    context = DeliveryContext(cast(Settings, None), PROVIDERS, cast(Any, None), cast(Any, None), {}, cast(Any, None))
    delivery = Delivery(Update(name, "abc", {}), Deadline.after(60), context)
    delivery.tokens.append(Secret(TOKEN, "env:TOKEN"))
    response = read_response(status, 0, content)
    error = response_error(delivery.provider, response)
    if error:
        delivery.problem = error.problem
    else:
        delivery.response = response
    masked = mask([(delivery.provider.update_schema, delivery.update.body)])
    redact([delivery], masked, Deadline.after(60))
    shown = json.dumps(result_items([delivery]), ensure_ascii=False)
    assert TOKEN not in shown
    assert TOKEN.encode().hex() not in shown


@given(
    st.dictionaries(
        st.sampled_from(["traceparent", "x-cloud-trace-context"]),
        st.text(st.characters(codec="latin-1"), max_size=80)
        | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,9}"),
    )
)
def test_trace_fields_any_header_is_one_line(headers: dict[str, str]) -> None:
    assert all("\n" not in str(value) for value in trace_fields(headers, "p").values())
