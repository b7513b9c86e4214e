"""The official emulator of Pub/Sub: https://cloud.google.com/pubsub/docs/emulator.

The emulator pushes, keeps the order of the messages with an ordering key, and sends a message again after a refusal. It
sends no ID token, and supports no dead-letter policy of an ordered subscription.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

import grpc
from google.pubsub_v1 import PublisherClient, PushConfig, SubscriberClient, Subscription
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from deploy.local.cloud import PROJECT, free_port, queue_settings
from handlers.google_api import open_emulator_channel

#: The command that installs the emulator.
INSTALL = "gcloud components install pubsub-emulator beta"


def find_gcloud() -> str | None:
    """Return the path of a `gcloud` that has the emulator, or None."""
    gcloud = shutil.which("gcloud")
    if gcloud is None or shutil.which("java") is None:
        return None
    root = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return gcloud if Path(root, "platform/pubsub-emulator").is_dir() else None


class Emulator:
    """A running emulator. The state is in memory."""

    def __init__(self, gcloud: str) -> None:
        """Start the emulator on a free port. `gcloud` is the result of `find_gcloud`."""
        self.address = f"127.0.0.1:{free_port()}"
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [
                gcloud, "beta", "emulators", "pubsub", "start", f"--host-port={self.address}", f"--project={PROJECT}",
                f"--data-dir={self._folder.name}", "--quiet",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # gcloud starts Java as a further process. `stop` ends both of them.
            start_new_session=True,
        )  # fmt: skip
        self._channel = open_emulator_channel(self.address)
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self._channel))

    def wait_until_up(self, seconds: float = 60) -> "Emulator":
        """Wait until the emulator accepts connections. Return the emulator itself."""
        grpc.channel_ready_future(self._channel).result(timeout=seconds)
        return self

    def create_queue(self, push_url: str, *, ack_seconds: int = 120) -> None:
        """Create the topics of a queue, whose updates go to `push_url`. The dead letters stay in a subscription."""
        settings = queue_settings(self.address)
        for name in ("APIFY_TOPIC", "DATA_WORLD_TOPIC", "RELAY_DEAD_LETTER_TOPIC"):
            is_dead_letter = name == "RELAY_DEAD_LETTER_TOPIC"
            self.create_topic(settings[name])
            self.create_subscription(settings[name], None if is_dead_letter else push_url, ack_seconds=ack_seconds)

    def create_topic(self, name: str) -> None:
        """Create the topic with this full name."""
        self._publisher.create_topic(name=name)

    def create_subscription(self, topic: str, push_url: str | None = None, *, ack_seconds: int = 120) -> str:
        """Create a subscription with the name of its topic, and return its full name.

        With `push_url`, the subscription pushes, in the order of the messages with the same ordering key.
        """
        subscription = topic.replace("/topics/", "/subscriptions/")
        self.subscriber.create_subscription(
            request=Subscription(
                name=subscription,
                topic=topic,
                ack_deadline_seconds=ack_seconds,
                enable_message_ordering=push_url is not None,
                push_config=PushConfig(push_endpoint=push_url or ""),
                retry_policy={"minimum_backoff": timedelta(seconds=1), "maximum_backoff": timedelta(seconds=10)},
            )
        )
        return subscription

    def stop(self) -> None:
        """Stop the emulator."""
        self._channel.close()
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._folder.cleanup()
