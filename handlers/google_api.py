"""The common parts of the calls to Google's APIs over gRPC.

The imports are inside the functions, because the imports are slow, and an instance that calls no API of Google never
needs the packages.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc


def transient_errors() -> tuple[type[Exception], ...]:
    """Return the errors after which another attempt can succeed: https://google.aip.dev/194.

    The tuple includes RetryError, which a client raises after its last attempt.
    """
    from google.api_core import exceptions

    return (
        exceptions.ServerError,
        exceptions.TooManyRequests,
        exceptions.Aborted,
        exceptions.Cancelled,
        exceptions.RetryError,
    )


def create_retry(seconds: float) -> Any:
    """Return the retries of a call. A retry begins at most `seconds` after the first attempt."""
    from google.api_core.retry import Retry, if_exception_type

    return Retry(if_exception_type(*transient_errors()), initial=0.1, maximum=1, multiplier=2, timeout=seconds)


def status_name(error: object) -> str:
    """Return the name of the gRPC status, such as `PERMISSION_DENIED`. The error's own message may contain a secret."""
    code = getattr(error, "grpc_status_code", None)
    return str(code.name if code is not None else type(error).__name__)


def open_emulator_channel(address: str) -> "grpc.Channel":
    """Return a channel without TLS to the emulator at `address`, which is host and port.

    A channel that a client creates from client_options always uses TLS. The channel ignores a proxy in the environment,
    because the emulator runs on this machine.
    """
    import grpc

    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    return grpc.insecure_channel(address, options=options)
