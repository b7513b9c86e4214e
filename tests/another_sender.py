"""The function with one more sender, made as CONTRIBUTING says: for FUNCTION_SOURCE."""

from typing import cast

from handlers.senders import SENDERS, Sender
from handlers.signatures import Signature

cast(dict[str, Sender], SENDERS)["some-pipeline"] = Sender(
    Signature("x-some-signature", prefix="hmac "), id_fields=("run",)
)

from main import relay as relay  # noqa: E402 - the table is read when it is imported
