"""A local provider with the datasets API of Apify: https://docs.apify.com/api/v2/dataset-put."""

import json
import re
import secrets
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response

from deploy.local.provider import LocalProvider, RejectedError, json_body, now


@dataclass(kw_only=True)
class Apify(LocalProvider):
    """A local Apify with the datasets API. The accounts in `tokens` are usernames."""

    prefix: str = "/v2"
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: The maximum number of updates of a dataset per second.
    rate_limit: int = 60
    recent: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def add(self, owner: str, name: str | None = None, dataset_id: str | None = None) -> str:
        """Create a dataset of `owner`, and return its ID."""
        alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        new_id = dataset_id or "".join(secrets.choice(alphabet) for _ in range(17))
        created = now()
        self.datasets[new_id] = {
            "id": new_id,
            "name": name,
            "userId": f"user-of-{owner}",
            "createdAt": created,
            "modifiedAt": created,
            "accessedAt": created,
            "itemCount": 3,
            "cleanItemCount": 3,
            "generalAccess": "FOLLOW_USER_SETTING",
            "urlSigningSecretKey": secrets.token_hex(16),
            "consoleUrl": f"https://console.apify.com/storage/datasets/{new_id}",
            "stats": {"readCount": 0, "writeCount": 3, "storageBytes": 512},
        }
        return new_id

    def routes(self, app: Flask) -> None:
        """Add *Get dataset* and *Update dataset*."""
        app.add_url_rule("/v2/datasets/<reference>", "get", self._get, methods=["GET"])
        app.add_url_rule("/v2/datasets/<reference>", "put", self._put, methods=["PUT"])

    def error(self, error: RejectedError) -> Response:
        """Return `{"error": {"type", "message"}}`."""
        body = {"error": {"type": error.kind, "message": error.message}}
        response = Response(json.dumps(body), error.status, mimetype="application/json")
        response.headers.update(error.headers)
        return response

    def _get(self, reference: str) -> Response:
        with self.lock:
            return self._response(self._find(reference, self.owner()))

    def _put(self, reference: str) -> Response:
        owner = self.owner()
        change = json_body()
        with self.lock:
            dataset = self._find(reference, owner)
            self._check_rate(dataset["id"])
            self._check(change, dataset)
            dataset.update(change, modifiedAt=now())
            self.applied.append((dataset["id"], change))
            return self._response(dataset)

    def _response(self, dataset: dict[str, Any]) -> Response:
        body = json.dumps({"data": {key: value for key, value in dataset.items() if value is not None}})
        return Response(body, mimetype="application/json", headers={"X-RateLimit-Limit": str(self.rate_limit)})

    def _find(self, reference: str, owner: str) -> dict[str, Any]:
        user, tilde, name = reference.partition("~")
        for dataset in self.datasets.values():
            is_match = (user in (owner, "") and dataset["name"] == name) if tilde else dataset["id"] == reference
            if is_match and dataset["userId"] == f"user-of-{owner}":
                return dataset
        raise RejectedError(404, "record-or-token-not-found", "Dataset was not found")

    def _check_rate(self, dataset_id: str) -> None:
        recent, moment = self.recent[dataset_id], time.monotonic()
        while recent and recent[0] < moment - 1:
            recent.popleft()
        if len(recent) >= self.rate_limit:
            raise RejectedError(
                429,
                "rate-limit-exceeded",
                f"You have exceeded the rate limit of {self.rate_limit} requests per second",
                {"X-RateLimit-Limit": str(self.rate_limit)},
            )
        recent.append(moment)

    def _check(self, change: Any, dataset: dict[str, Any]) -> None:
        if not isinstance(change, dict) or set(change) - {"name", "generalAccess"}:
            raise RejectedError(400, "schema-validation-error", "The body has a property that is not allowed")
        name = change.get("name")
        if name is not None:
            if not isinstance(name, str) or not re.fullmatch("[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?", name):
                raise RejectedError(400, "invalid-value", "The dataset name is not valid")
            if len(name) > 63:
                raise RejectedError(400, "invalid-value", "The dataset name is longer than 63 characters")
            others = (other for other in self.datasets.values() if other is not dataset)
            if any(other["name"] == name and other["userId"] == dataset["userId"] for other in others):
                raise RejectedError(400, "name-not-unique", f"A dataset with the name {name} exists already")
        access = change.get("generalAccess", "RESTRICTED")
        levels = {"ANYONE_WITH_ID_CAN_READ", "ANYONE_WITH_NAME_CAN_READ", "FOLLOW_USER_SETTING", "RESTRICTED"}
        if access not in levels:
            raise RejectedError(400, "param-not-one-of", "generalAccess is not one of the allowed values")
