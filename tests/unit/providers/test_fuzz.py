"""Property tests of the calls to providers: any valid event, and any response.

Try more inputs: FUZZ_EXAMPLES=10000 pytest tests/unit/providers/test_fuzz.py --hypothesis-show-statistics
"""

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from handlers.delivery.retry import response_failure
from handlers.providers import PROVIDERS
from handlers.providers.base import event_schemas, read_response, response_error
from schemas.event import read_event
from schemas.problem import InvalidEventError, problem_body
from tests.support.strategies import JSON_VALUES, VALID_EVENTS, almost_valid_events

SCHEMAS = event_schemas(PROVIDERS)


@given(st.sampled_from(VALID_EVENTS) | almost_valid_events())
def test_update_request_any_valid_event_addresses_its_dataset(event: Any) -> None:
    if not isinstance(event, dict):
        return
    try:
        update = read_event(event, SCHEMAS)
    except InvalidEventError:
        return
    request = PROVIDERS[update.provider].update_request("https://provider.example/v1", update)
    assert request.body == event["update"]
    assert re.fullmatch(r"https://provider\.example/v1/datasets/[\w.~-]+(/[\w.~-]+)?", request.url, re.ASCII)
    assert "/.." not in request.url


@given(
    name=st.sampled_from(sorted(PROVIDERS)),
    status=st.integers(100, 999),
    retry_after=st.integers(0, 21_600),
    content=JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200),
)
def test_response_error_any_response_is_success_or_problem(
    name: str, status: int, retry_after: int, content: bytes
) -> None:
    response = read_response(status, retry_after, content)
    error = response_error(PROVIDERS[name], response)
    if error is None:
        assert 200 <= status < 300
        assert response.defect is None
        return
    problem = error.problem
    assert problem.status >= 400
    assert all(value.isascii() and value.isprintable() for value in problem.headers.values())
    json.dumps(problem_body(problem))
    failure = response_failure(error, response)
    # The function never retries a failure that it reports as permanent.
    assert failure.is_transient <= problem.retryable
