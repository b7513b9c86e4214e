"""The function with one more sender, added as CONTRIBUTING.md describes. A test sets FUNCTION_SOURCE to this file."""

from typing import cast

from handlers.senders import SENDERS, Sender
from handlers.senders.signatures import BodySignature

cast(dict[str, Sender], SENDERS)["some-pipeline"] = Sender(
    "some-pipeline", BodySignature("x-some-signature", prefix="hmac "), id_fields=("run",)
)

from main import relay as relay  # noqa: E402 - main.py reads the table of senders at its import
