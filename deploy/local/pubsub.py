"""A Pub/Sub on this machine: a gRPC server with the messages of the official library, which only receives messages.

https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1. The server produces the faults that the official
emulator can't produce. It doesn't push: `deploy.local.emulator` runs the emulator, which does.
"""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from google.pubsub_v1 import PublishRequest, PublishResponse, PubsubMessage

_SERVICE = "google.pubsub.v1.Publisher"


@dataclass
class PubSub:
    """A server with the published messages in memory. The attributes control its responses."""

    #: The messages of each topic, in the order of their arrival.
    messages: dict[str, list[PubsubMessage]] = field(default_factory=dict, repr=False)
    #: The error status to return, by topic, or by "" for every topic.
    refusals: dict[str, grpc.StatusCode] = field(default_factory=dict)
    #: The topics whose messages the server keeps, but whose responses it loses.
    lossy: set[str] = field(default_factory=set)
    #: The number of requests for each topic.
    requests: dict[str, int] = field(default_factory=dict)
    #: The time before each response, in seconds.
    delay: float = 0.0
    #: The host and the port of the server.
    address: str = ""
    _server: grpc.Server | None = None
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1), repr=False)

    def start(self, port: int = 0) -> "PubSub":
        """Serve on a port of the loopback interface, by default on a free port. Return the server itself."""
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=32), options=[("grpc.max_receive_message_length", -1)]
        )
        handler = grpc.unary_unary_rpc_method_handler(
            self._publish,
            request_deserializer=PublishRequest.deserialize,
            response_serializer=PublishResponse.serialize,
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Publish": handler}),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop the server at once, without waiting for requests in progress."""
        assert self._server is not None
        self._server.stop(grace=None).wait()

    def _publish(self, request: PublishRequest, context: grpc.ServicerContext) -> PublishResponse:
        self.requests[request.topic] = self.requests.get(request.topic, 0) + 1
        if self.delay:
            threading.Event().wait(self.delay)
        if status := self.refusals.get(request.topic, self.refusals.get("")):
            context.abort(status, f"Refused: {request.topic}.")
        if context.is_active():
            self.messages.setdefault(request.topic, []).extend(request.messages)
        if request.topic in self.lossy:
            context.abort(grpc.StatusCode.UNAVAILABLE, "The response was lost.")
        return PublishResponse(message_ids=[str(next(self._ids)) for _ in request.messages])
