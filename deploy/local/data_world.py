"""A local provider with the datasets API of data.world: https://developer.data.world/reference/patchdataset."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response

from deploy.local.provider import LocalProvider, RejectedError, json_body, now

#: The account of a token that can edit the datasets of every owner, as a member of several organizations can.
ANY_OWNER = "*"


@dataclass(kw_only=True)
class DataWorld(LocalProvider):
    """A local data.world with the datasets API. The accounts in `tokens` are owners of datasets, or ANY_OWNER."""

    prefix: str = "/v0"
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, reference: str) -> str:
        """Create the dataset `reference` (`owner/id`), and return the reference."""
        owner, _, name = reference.partition("/")
        created = now()
        self.datasets[reference] = {
            "owner": owner,
            "id": name,
            "title": name,
            "tags": [],
            "visibility": "PRIVATE",
            "files": [],
            "status": "LOADED",
            "accessLevel": "ADMIN",
            "created": created,
            "updated": created,
        }
        return reference

    def routes(self, app: Flask) -> None:
        """Add *Get dataset* and *Update dataset*."""
        app.add_url_rule("/v0/datasets/<owner>/<name>", "get", self._get, methods=["GET"])
        app.add_url_rule("/v0/datasets/<owner>/<name>", "patch", self._patch, methods=["PATCH"])

    def error(self, error: RejectedError) -> Response:
        """Return `{"code", "message", "details"}`."""
        body = {"code": error.status, "message": error.message, "details": error.kind}
        return Response(json.dumps(body), error.status, mimetype="application/json")

    def _get(self, owner: str, name: str) -> Response:
        with self.lock:
            return Response(json.dumps(self._find(owner, name)), mimetype="application/json")

    def _patch(self, owner: str, name: str) -> Response:
        with self.lock:
            dataset = self._find(owner, name)
            change = json_body()
            if violation := _violation(change):
                raise RejectedError(422, "validation", violation)
            files = {file["name"]: file for file in dataset["files"]}
            for file in change.get("files") or []:
                files[file["name"]] = files.get(file["name"], {}) | file
            if "files" in change and change["files"] is None:
                files = {}
            dataset.update(change, files=list(files.values()), updated=now())
            # null deletes a value, and all values of a list.
            dataset["tags"] = dataset["tags"] or []
            for key in [key for key, value in dataset.items() if value is None]:
                del dataset[key]
            self.applied.append((f"{owner}/{name}", change))
            body = {"message": "Dataset successfully updated."}
            return Response(json.dumps(body), mimetype="application/json")

    def _find(self, owner: str, name: str) -> dict[str, Any]:
        account = self.owner()
        dataset = self.datasets.get(f"{owner}/{name}")
        if dataset is None:
            raise RejectedError(404, "not_found", "Dataset not found")
        if account not in (owner, ANY_OWNER):
            raise RejectedError(403, "forbidden", "You are not allowed to edit this dataset")
        return dataset


def _text(low: int, high: int, pattern: str = "(?s:.*)") -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and low <= len(value) <= high and bool(re.fullmatch(pattern, value))


def _list_of(item: Callable[[Any], bool], *, unique: bool) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, list) or not all(map(item, value)):
            return False
        return not unique or len({json.dumps(element) for element in value}) == len(value)

    return check


def _object(required: set[str], members: Mapping[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and required <= set(value) <= set(members)
            and all(members[key](member) for key, member in value.items())
        )

    return check


def _source(value: Any) -> bool:
    well_formed = _object(
        {"url"},
        {
            "url": _text(1, 4096, "(https?|ftps?|stream):.*"),
            "method": lambda method: method in ("GET", "POST"),
            "requestHeaders": lambda headers: (
                isinstance(headers, dict) and all(isinstance(v, str) for v in headers.values())
            ),
            "requestEntity": _text(0, 10_000),
            "authorization": _object({"type"}, {"type": _text(0, 50), "credentials": _text(1, 1024)}),
            "credentials": _object({"user"}, {"user": _text(0, 1024), "password": _text(0, 1024)}),
            "oauthToken": _object(
                {"owner", "site", "id"},
                {"owner": _text(1, 100), "site": _text(1, 100), "id": _text(36, 36, "[0-9a-fA-F-]*")},
            ),
            "expandArchive": lambda value: isinstance(value, bool),
        },
    )
    if not well_formed(value):
        return False
    headers = value.get("requestHeaders", {})
    size = len(value["url"].encode()) + sum(len(f"{name}: {text}\r\n".encode()) for name, text in headers.items())
    has_type = "requestEntity" not in value or any(name.lower() == "content-type" for name in headers)
    return size <= 4096 and has_type


_LABELS = {"raw data", "documentation", "visualization", "clean data", "script", "report"}
_RULES: Mapping[str, Callable[[Any], bool]] = {
    "title": _text(1, 60),
    "description": _text(0, 120),
    "summary": _text(0, 25_000),
    "tags": _list_of(_text(2, 25, "[a-zA-Z0-9 ]*"), unique=True),
    "license": _text(1, 30),
    "visibility": lambda value: value in ("OPEN", "PRIVATE", "DISCOVERABLE"),
    "properties": lambda value: isinstance(value, dict),
    "autoSyncInterval": lambda value: value in ("NEVER", "HOURLY", "DAILY", "WEEKLY"),
    "assetStatusIri": _text(1, 4096),
    "files": _list_of(
        _object(
            {"name"},
            {
                "name": _text(1, 128, "[^/]*"),
                # The limit in the API description. The documentation, and so the schema of the function, has 120.
                "description": _text(1, 240),
                "labels": _list_of(lambda value: value in _LABELS, unique=True),
                "source": _source,
            },
        ),
        unique=False,
    ),
}


def _violation(change: Any) -> str | None:
    if not isinstance(change, dict):
        return "The body must be an object"
    for key, value in change.items():
        if key not in _RULES:
            return f"{key} is not a property of a dataset"
        if value is not None and not _RULES[key](value):
            return f"{key} is not valid"
    return None
