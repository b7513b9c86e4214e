"""A Secret Manager on this machine: a gRPC server with the messages of the official library, and secrets in memory.

https://cloud.google.com/secret-manager/docs/reference/rpc/google.cloud.secretmanager.v1
"""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import google_crc32c
import grpc
from google.cloud.secretmanager import AccessSecretVersionRequest, AccessSecretVersionResponse, SecretPayload

_SERVICE = "google.cloud.secretmanager.v1.SecretManagerService"
_VERSION_NAME = re.compile(r"(projects/[^/]+/(?:locations/[^/]+/)?secrets/[^/]+)/versions/([^/]+)")


@dataclass
class SecretManager:
    """A server with secrets in memory. The attributes control its responses."""

    #: The versions of each secret, by the full name of the secret. The first item is version 1, and None is a destroyed
    #: version.
    secrets: dict[str, list[bytes | None]] = field(default_factory=dict, repr=False)
    #: The names of the requested versions, in the order of the requests.
    accesses: list[str] = field(default_factory=list)
    #: The error status to return, by the full name of a secret, or by "" for every secret.
    refusals: dict[str, grpc.StatusCode] = field(default_factory=dict)
    #: The full names of the secrets whose bytes the server changes in its responses, but whose checksum it keeps.
    damaged: set[str] = field(default_factory=set)
    #: The time before each response, in seconds.
    delay: float = 0.0
    #: The host and the port of the server.
    address: str = ""
    _server: grpc.Server | None = None

    def add_version(self, secret: str, text: str | bytes) -> str:
        """Add a version to a secret, given by its full name without a version. Return the name of the version."""
        versions = self.secrets.setdefault(secret, [])
        versions.append(text.encode() if isinstance(text, str) else text)
        return f"{secret}/versions/{len(versions)}"

    def start(self, port: int = 0) -> "SecretManager":
        """Serve on a port of the loopback interface, by default on a free port. Return the server itself."""
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8))
        handler = grpc.unary_unary_rpc_method_handler(
            self._access,
            request_deserializer=AccessSecretVersionRequest.deserialize,
            response_serializer=AccessSecretVersionResponse.serialize,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"AccessSecretVersion": handler}),)
        )
        bound_port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{bound_port}"
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop the server at once, without waiting for requests in progress."""
        assert self._server is not None
        self._server.stop(grace=None).wait()

    def _access(
        self, request: AccessSecretVersionRequest, context: grpc.ServicerContext
    ) -> AccessSecretVersionResponse:
        self.accesses.append(request.name)
        match = _VERSION_NAME.fullmatch(request.name)
        # Read the versions before the delay: like a real response, a slow response can be older than a new version.
        versions = list(self.secrets.get(match[1], [])) if match else []
        if self.delay:
            threading.Event().wait(self.delay)
        if not match:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The resource name does not match the pattern.")
        assert match
        secret, version = match.groups()
        if status := self.refusals.get(secret, self.refusals.get("")):
            context.abort(status, f"Refused: {secret}.")
        number = len(versions) if version == "latest" else int(version) if version.isdigit() else 0
        if not 1 <= number <= len(versions):
            context.abort(grpc.StatusCode.NOT_FOUND, f"Secret [{secret}] not found or has no version [{version}].")
        stored = versions[number - 1]
        if stored is None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"Secret version [{number}] is in DESTROYED state.")
        assert stored is not None
        sent = stored[::-1] if secret in self.damaged else stored
        return AccessSecretVersionResponse(
            name=f"{secret}/versions/{number}",
            payload=SecretPayload(data=sent, data_crc32c=google_crc32c.value(stored)),
        )
