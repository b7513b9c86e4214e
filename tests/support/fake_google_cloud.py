"""A local server with the parts of Google Cloud's APIs that gcloud calls for deploy.sh.

The server records all requests. A resource exists once it has been created. Operations are always done, and a build
always succeeds.
"""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import google_crc32c
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Request, Response

PROJECT, NUMBER = "acme-data", "123456789012"


@dataclass
class Call:
    """A request of gcloud."""

    method: str
    path: str
    query: str
    body: bytes = field(repr=False)

    @property
    def is_change(self) -> bool:
        """Return whether the request changes a resource."""
        return self.method != "GET" and not self.path.endswith(":getIamPolicy")

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeGoogleCloud:
    """A project that is empty at first; `service_url` is the address of the deployed service."""

    service_url: str
    calls: list[Call] = field(default_factory=list, repr=False)
    accounts: set[str] = field(default_factory=set)
    #: The IAM policies, by the paths of the resources.
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, list[str]] = field(default_factory=dict, repr=False)
    service: dict[str, Any] | None = None
    generation: int = 0
    sink: dict[str, Any] = field(default_factory=lambda: {"name": "_Default", "destination": "x", "filter": ""})
    #: The topics and the subscriptions, by their full names.
    topics: dict[str, Any] = field(default_factory=dict)
    subscriptions: dict[str, Any] = field(default_factory=dict)
    buckets: set[str] = field(default_factory=set)
    upload: bytes = b""
    billing: bool = True
    #: Status and body of a response that replaces the usual one for each path that contains the key.
    overrides: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    _server: BaseWSGIServer = field(init=False)

    def start(self) -> "FakeGoogleCloud":
        self._server = make_server("127.0.0.1", 0, self._respond, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_port

    def changes(self) -> list[Call]:
        """Return the requests that change a resource."""
        return [call for call in self.calls if call.is_change]

    def granted(self) -> set[tuple[str, str, str]]:
        """Return the role, the member and the path of the resource of every grant."""
        return {
            (binding["role"], member, path)
            for path, policy in self.policies.items()
            for binding in policy.get("bindings", ())
            for member in binding["members"]
        }

    def _respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        path = unquote(request.path)
        call = Call(request.method, path, request.query_string.decode(), request.get_data())
        self.calls.append(call)
        for part, (status, body) in self.overrides.items():
            if part in path:
                return Response(json.dumps(body), status, mimetype="application/json")(environ, start_response)
        for method, pattern, handler in self._routes():
            if method in (call.method, "*") and (match := re.fullmatch(pattern, path)):
                body = handler(call, *match.groups())
                if isinstance(body, Response):
                    return body(environ, start_response)
                return Response(json.dumps(body), 200, mimetype="application/json")(environ, start_response)
        return not_found(path)(environ, start_response)

    def _routes(self) -> list[tuple[str, str, Callable[..., Any]]]:
        number = f"(?:{PROJECT}|{NUMBER})"
        return [
            ("GET", rf"/v1/projects/{number}", lambda _: self._project()),
            ("GET", rf"/v1/projects/{number}/billingInfo", lambda _: {"billingEnabled": self.billing}),
            ("*", r"/v[12]/(.+):getIamPolicy", lambda _, path: self._policy(path)),
            ("POST", r"/v[12]/(.+):setIamPolicy", self._set_policy),
            ("GET", r"/v1/operations/.*", lambda _: {"name": "operations/x", "done": True, "response": {}}),
            ("GET", rf"/v1/projects/{PROJECT}/locations/[a-z0-9-]+/operations/b1", lambda _: self._built()),
            ("POST", rf"/v1/projects/{number}/services:batchEnable", lambda _: {"name": "operations/e", "done": True}),
            ("GET", rf"/v1/projects/{number}/services.*", lambda _: {"state": "ENABLED", "services": []}),
            ("GET", rf"/v1/projects/{number}/serviceAccounts", lambda _: self._list_accounts()),
            ("POST", rf"/v1/projects/{number}/serviceAccounts", self._create_account),
            ("GET", rf"/v1/projects/(?:-|{number})/serviceAccounts/([^/:]+)", lambda _, email: self._account(email)),
            ("GET", rf"/v1/projects/{number}/secrets", lambda _: self._list_secrets()),
            ("POST", rf"/v1/projects/{number}/secrets", self._create_secret),
            ("GET", rf"/v1/projects/{number}/secrets/([^/]+)/versions/latest", self._latest),
            ("POST", rf"/v1/projects/{number}/secrets/([^/:]+):addVersion", self._add_version),
            ("GET", rf"/v1/projects/{number}/secrets/([^/]+)/versions/latest:access", self._access),
            ("GET", rf"/v2/projects/{PROJECT}/sinks/_Default", lambda _: self.sink),
            ("*", rf"/v2/projects/{PROJECT}/sinks/_Default", self._update_sink),
            ("GET", rf"/v1/projects/{PROJECT}/topics", lambda _: {"topics": list(self.topics.values())}),
            ("PUT", rf"/v1/(projects/{PROJECT}/topics/[^/]+)", self._create_topic),
            (
                "GET",
                rf"/v1/projects/{PROJECT}/subscriptions",
                lambda _: {"subscriptions": list(self.subscriptions.values())},
            ),
            ("*", rf"/v1/(projects/{PROJECT}/subscriptions/[^/]+)", self._write_subscription),
            ("GET", r"/storage/v1/b/([^/]+)", lambda _, name: self._bucket(name)),
            ("GET", r"/storage/v1/b", lambda _: {"items": [self._bucket(name) for name in self.buckets]}),
            ("POST", r"/storage/v1/b", self._create_bucket),
            ("*", r"/(?:resumable/)?upload/storage/v1/b/([^/]+)/o", self._store),
            (
                "GET",
                rf"/v1/projects/{number}/locations/[a-z0-9-]+/repositories/.*",
                lambda _: {"name": "r", "format": "DOCKER"},
            ),
            ("POST", rf"/v2/projects/{PROJECT}/locations/([a-z0-9-]+)/builds:submit", self._submit),
            ("GET", rf"/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services/[^/]+", lambda _: self._service()),
            ("POST", rf"/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services", self._deploy),
            ("PUT", rf"/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services/[^/]+", self._deploy),
        ]

    def _project(self) -> Any:
        return {"projectId": PROJECT, "projectNumber": NUMBER, "lifecycleState": "ACTIVE"}

    def _policy(self, path: str) -> Any:
        return self.policies.get(path, {"etag": "BwY=", "version": 1})

    def _set_policy(self, call: Call, path: str) -> Any:
        self.policies[path] = call.json()["policy"]
        return self.policies[path]

    def _list_accounts(self) -> Any:
        name = f"projects/{PROJECT}/serviceAccounts"
        return {"accounts": [{"email": email, "name": f"{name}/{email}"} for email in self.accounts]}

    def _create_account(self, call: Call) -> Any:
        email = f"{call.json()['accountId']}@{PROJECT}.iam.gserviceaccount.com"
        self.accounts.add(email)
        return {"email": email, "name": f"projects/{PROJECT}/serviceAccounts/{email}"}

    def _account(self, email: str) -> Any:
        return {"email": email} if email in self.accounts else not_found(email)

    def _list_secrets(self) -> Any:
        return {"secrets": [{"name": f"projects/{NUMBER}/secrets/{name}"} for name in self.secrets]}

    def _create_secret(self, call: Call) -> Any:
        name = call.query.partition("secretId=")[2].partition("&")[0]
        self.secrets[name] = []
        return {"name": f"projects/{NUMBER}/secrets/{name}"}

    def _latest(self, _: Call, name: str) -> Any:
        count = len(self.secrets.get(name, ()))
        full = f"projects/{NUMBER}/secrets/{name}/versions/{count}"
        return {"name": full, "state": "ENABLED"} if count else not_found(full)

    def _add_version(self, call: Call, name: str) -> Any:
        self.secrets[name].append(base64.b64decode(call.json()["payload"]["data"]).decode())
        return {
            "name": f"projects/{NUMBER}/secrets/{name}/versions/{len(self.secrets[name])}",
            "state": "ENABLED",
            "clientSpecifiedPayloadChecksum": True,
        }

    def _access(self, _: Call, name: str) -> Any:
        data = self.secrets[name][-1].encode()
        payload = {"data": base64.b64encode(data).decode(), "dataCrc32c": str(google_crc32c.value(data))}
        return {"name": f"projects/{NUMBER}/secrets/{name}/versions/{len(self.secrets[name])}", "payload": payload}

    def _update_sink(self, call: Call) -> Any:
        self.sink = {**self.sink, **call.json()}
        return self.sink

    def _create_topic(self, _: Call, name: str) -> Any:
        self.topics[name] = {"name": name}
        return self.topics[name]

    def _write_subscription(self, call: Call, name: str) -> Any:
        body = call.json()
        change = body if call.method == "PUT" else body["subscription"]
        self.subscriptions[name] = {**self.subscriptions.get(name, {}), **change, "name": name}
        return self.subscriptions[name]

    def _bucket(self, name: str) -> Any:
        if name not in self.buckets:
            return not_found(name)
        return {"id": name, "name": name, "location": "EUROPE-WEST1", "projectNumber": NUMBER}

    def _create_bucket(self, call: Call) -> Any:
        self.buckets.add(call.json()["name"])
        return self._bucket(call.json()["name"])

    def _store(self, call: Call, bucket: str) -> Any:
        if b"PK\x03\x04" in call.body:
            # A multipart body: the zip file is the second part, in front of the last boundary.
            self.upload = call.body[call.body.index(b"PK\x03\x04") : call.body.rindex(b"\n--")]
        return {"name": "source.zip", "bucket": bucket, "generation": "1", "size": str(len(self.upload))}

    def _submit(self, _: Call, region: str) -> Any:
        name = f"projects/{NUMBER}/locations/{region}/builds/b1"
        metadata = {
            "@type": "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata",
            "build": {"name": name, "id": "b1", "projectId": PROJECT, "status": "SUCCESS"},
        }
        return {
            "buildOperation": {"name": "operations/build/b1", "metadata": metadata},
            "baseImageUri": f"{region}-base",
        }

    def _built(self) -> Any:
        build = {
            "@type": "type.googleapis.com/google.devtools.cloudbuild.v1.Build",
            "name": f"projects/{NUMBER}/locations/europe-west1/builds/b1",
            "id": "b1",
            "status": "SUCCESS",
            "results": {"images": [{"name": "relay", "digest": f"sha256:{'0' * 64}"}]},
        }
        return {"name": "operations/b1", "done": True, "response": build}

    def _deploy(self, call: Call) -> Any:
        self.service = call.json()
        self.generation += 1
        return self._service()

    def _service(self) -> Any:
        if not self.service:
            return not_found("service")
        service = json.loads(json.dumps(self.service))
        name = service["metadata"]["name"]
        service["metadata"] |= {"generation": 1, "resourceVersion": "a", "namespace": NUMBER}
        service["spec"]["template"].setdefault("metadata", {}).setdefault("name", f"{name}-{self.generation:05}")
        service["spec"].setdefault("traffic", [{"latestRevision": True, "percent": 100}])
        ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ConfigurationsReady", "RoutesReady")]
        revision = service["spec"]["template"]["metadata"]["name"]
        service["status"] = {
            "observedGeneration": 1, "conditions": ready, "latestCreatedRevisionName": revision,
            "latestReadyRevisionName": revision, "url": self.service_url, "address": {"url": self.service_url},
            "traffic": [{"revisionName": revision, **target} for target in service["spec"]["traffic"]],
        }  # fmt: skip
        return service


def not_found(name: str) -> Response:
    error = {"error": {"code": 404, "message": f"{name} was not found", "status": "NOT_FOUND"}}
    return Response(json.dumps(error), 404, mimetype="application/json")
