"""data.world's datasets on this machine; https://developer.data.world/reference/patchdataset"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response

from deploy.local.upstream import Platform, Refused, json_body, now


@dataclass(kw_only=True)
class DataWorld(Platform):
    """data.world's datasets: `tokens` lead to owners."""

    prefix: str = "/v0"
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, reference: str) -> str:
        """A new dataset, as owner/id; the reference."""
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
        """Get dataset, update dataset."""
        app.add_url_rule("/v0/datasets/<owner>/<name>", "get", self._get, methods=["GET"])
        app.add_url_rule("/v0/datasets/<owner>/<name>", "patch", self._patch, methods=["PATCH"])

    def error(self, refused: Refused) -> Response:
        """`{"code", "message", "details"}`."""
        body = {"code": refused.status, "message": refused.message, "details": refused.kind}
        return Response(json.dumps(body), refused.status, mimetype="application/json")

    def _get(self, owner: str, name: str) -> Response:
        with self.lock:
            return Response(json.dumps(self._find(owner, name)), mimetype="application/json")

    def _patch(self, owner: str, name: str) -> Response:
        with self.lock:
            dataset = self._find(owner, name)
            change = json_body()
            if wrong := _data_world_violation(change):
                raise Refused(422, "validation", wrong)
            files = {each["name"]: each for each in dataset["files"]}
            for each in change.get("files", []):
                files[each["name"]] = files.get(each["name"], {}) | each
            dataset.update(change, files=list(files.values()), updated=now())
            self.applied.append((f"{owner}/{name}", change))
            answer = {"message": "Dataset successfully updated."}
            return Response(json.dumps(answer), mimetype="application/json")

    def _find(self, owner: str, name: str) -> dict[str, Any]:
        account = self.owner()
        dataset = self.datasets.get(f"{owner}/{name}")
        if dataset is None:
            raise Refused(404, "not_found", "Dataset not found")
        if owner != account:
            raise Refused(403, "forbidden", "You are not allowed to edit this dataset")
        return dataset


def _text(low: int, high: int, pattern: str = "(?s:.*)") -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and low <= len(value) <= high and bool(re.fullmatch(pattern, value))


def _list_of(item: Callable[[Any], bool], *, unique: bool) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, list) or not all(map(item, value)):
            return False
        return not unique or len({json.dumps(each) for each in value}) == len(value)

    return check


def _object(required: set[str], members: Mapping[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and required <= set(value) <= set(members)
            and all(members[key](each) for key, each in value.items())
        )

    return check


def _source(value: Any) -> bool:
    well_formed = _object(
        {"url"},
        {
            "url": _text(1, 4096, "(https?|ftps?|stream):.*"),
            "method": lambda each: each in ("GET", "POST"),
            "requestHeaders": lambda each: isinstance(each, dict) and all(isinstance(v, str) for v in each.values()),
            "requestEntity": _text(0, 10_000),
            "authorization": _object({"type"}, {"type": _text(0, 50), "credentials": _text(1, 1024)}),
            "credentials": _object({"user"}, {"user": _text(0, 1024), "password": _text(0, 1024)}),
            "expandArchive": lambda each: isinstance(each, bool),
        },
    )
    if not well_formed(value):
        return False
    headers = value.get("requestHeaders", {})
    size = sum(len(each.encode()) for each in [value["url"], *headers, *headers.values()])
    typed = "requestEntity" not in value or any(each.lower() == "content-type" for each in headers)
    return size <= 4096 and typed


_LABELS = {"raw data", "documentation", "visualization", "clean data", "script", "report"}
_DATA_WORLD_RULES: Mapping[str, Callable[[Any], bool]] = {
    "title": _text(1, 60),
    "description": _text(0, 120),
    "summary": _text(0, 25_000),
    "tags": _list_of(_text(2, 25, "[a-zA-Z0-9 ]*"), unique=True),
    "license": _text(1, 30),
    "visibility": lambda value: value in ("OPEN", "PRIVATE", "DISCOVERABLE"),
    "properties": lambda value: isinstance(value, dict),
    "files": _list_of(
        _object(
            {"name"},
            {
                "name": _text(1, 128, "[^/]*"),
                # What its API description says; its documentation, and so our schema, says 120.
                "description": _text(1, 240),
                "labels": _list_of(lambda value: value in _LABELS, unique=True),
                "source": _source,
            },
        ),
        unique=False,
    ),
}


def _data_world_violation(change: Any) -> str | None:
    if not isinstance(change, dict):
        return "The body must be an object"
    for key, value in change.items():
        if key not in _DATA_WORLD_RULES:
            return f"{key} is not a property of a dataset"
        if not _DATA_WORLD_RULES[key](value):
            return f"{key} is not valid"
    return None
