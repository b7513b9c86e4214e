"""Tests of each rule of an update through the function, and at the local provider."""

import json

import pytest
import requests

from deploy.local.provider import LocalProvider
from tests.support.provider_rules import APIFY, CASES, Case, make_event
from tests.support.relay import Relay, assert_problem, unique


@pytest.mark.parametrize("case", CASES, ids=str)
def test_relay_provider_receives_only_valid_updates(case: Case, relay: Relay) -> None:
    cloud = relay.cloud
    provider: LocalProvider
    if case.provider == APIFY:
        dataset, provider, method, token = relay.apify_dataset(), cloud.apify, "PUT", cloud.apify_token
        name = unique("n")
    else:
        dataset, provider, method, token = relay.data_world_dataset(), cloud.data_world, "PATCH", cloud.data_world_token
        name = "unused"
    path = f"/datasets/{dataset}"
    for valid in case.valid[:5]:
        # The name of a dataset is unique for its owner, and the tests share the owner.
        update = json.loads(json.dumps(valid).replace('"name": "a"', f'"name": "{name}"'))
        response = relay.post(make_event(case.provider, update, dataset))
        assert response.status_code == 200, response.text
        assert case.own_form or provider.seen(path)[-1].json == update
    calls = len(provider.seen(path))
    for invalid, error_path in case.invalid[:5]:
        body = assert_problem(relay.post(make_event(case.provider, invalid, dataset)), 422, "invalid")
        assert list(body["errors"]) == [error_path]
        assert len(provider.seen(path)) == calls
        if not case.stricter and invalid:
            response = requests.request(
                method,
                provider.base_url + path,
                data=json.dumps(invalid).encode(),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                timeout=10,
            )
            has_own_licenses = "license" in invalid and response.status_code == 200
            assert response.status_code in (400, 422) or has_own_licenses, (invalid, response.text)
            calls += 1
