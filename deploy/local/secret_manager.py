"""A Secret Manager on this machine: the real protocol, gRPC with the library's own messages, in memory.

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
_VERSION_NAME = re.compile(r"(projects/[^/]+/secrets/[^/]+)/versions/([^/]+)")


@dataclass
class SecretManager:
    """Secrets with their versions, counted from 1; `None` in place of a version's data: destroyed."""

    secrets: dict[str, list[bytes | None]] = field(default_factory=dict, repr=False)
    #: Version names that were asked for, in order.
    accesses: list[str] = field(default_factory=list)
    #: A status to answer instead, by secret; and one for all, under "".
    refusals: dict[str, grpc.StatusCode] = field(default_factory=dict)
    #: Secrets whose data arrives changed, with the checksum of what it was.
    damaged: set[str] = field(default_factory=set)
    #: Waited before each answer, in seconds.
    delay: float = 0.0
    address: str = ""
    _server: grpc.Server | None = None

    def add_version(self, secret: str, text: str | bytes) -> str:
        """Adds a version to `secret`, a full name without one; the version's name."""
        versions = self.secrets.setdefault(secret, [])
        versions.append(text.encode() if isinstance(text, str) else text)
        return f"{secret}/versions/{len(versions)}"

    def start(self, port: int = 0) -> "SecretManager":
        """Listens on `port`, or on a free one, until `stop`."""
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8))
        handler = grpc.unary_unary_rpc_method_handler(
            self._access,
            request_deserializer=AccessSecretVersionRequest.deserialize,
            response_serializer=AccessSecretVersionResponse.serialize,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"AccessSecretVersion": handler}),)
        )
        bound = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{bound}"
        self._server.start()
        return self

    def stop(self) -> None:
        """Stops listening, at once."""
        assert self._server is not None
        self._server.stop(grace=None).wait()

    def _access(
        self, request: AccessSecretVersionRequest, context: grpc.ServicerContext
    ) -> AccessSecretVersionResponse:
        self.accesses.append(request.name)
        found = _VERSION_NAME.fullmatch(request.name)
        # What is there now is what is answered, however late: an answer can be older than a version.
        versions = list(self.secrets.get(found[1], [])) if found else []
        if self.delay:
            threading.Event().wait(self.delay)
        if not found:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The resource name does not match the pattern.")
        assert found
        secret, version = found.groups()
        refusal = self.refusals.get(secret, self.refusals.get(""))
        if refusal:
            context.abort(refusal, f"Refused: {secret}.")
        number = len(versions) if version == "latest" else int(version) if version.isdigit() else 0
        if not 1 <= number <= len(versions):
            context.abort(grpc.StatusCode.NOT_FOUND, f"Secret [{secret}] not found or has no version [{version}].")
        stored = versions[number - 1]
        if stored is None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"Secret version [{number}] is in DESTROYED state.")
        assert stored is not None
        checksum = google_crc32c.value(stored)
        sent = stored[::-1] if secret in self.damaged else stored
        return AccessSecretVersionResponse(
            name=f"{secret}/versions/{number}", payload=SecretPayload(data=sent, data_crc32c=checksum)
        )
