"""A request's body: how much of it is read, and what it may say that it is; and what its query asks for."""

from flask import Request

from handlers.exchange import Exchange
from handlers.patience import Patience, connection_of
from schemas.problem import BodyTooSlow, Invalid, NotJSON, TooLarge, WrongMediaType
from schemas.strict import closest

#: A CloudEvent in structured mode.
CLOUD_EVENT = "application/cloudevents+json"

# A body of up to this size, in bytes, costs little; one that nobody wants is read nevertheless, for so many seconds.
_SMALL_BYTES = 64 * 1024
_SMALL_SECONDS = 1.0
_CLOUD_EVENTS = "application/cloudevents-batch+json"
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def may_be_large(exchange: Exchange) -> bool:
    """Whether the body is large, or comes in chunks, without saying how long it is."""
    return (exchange.length or 0) > _SMALL_BYTES or "transfer-encoding" in exchange.headers


def read_body(exchange: Exchange, limit: int, patience: Patience) -> bytes:
    """The body, of at most `limit` bytes.

    Raises TooLarge, having read no more; NotJSON: it ends early; BodyTooSlow: it takes longer than `patience`.
    """
    request, length = exchange.request, exchange.length
    if (length or 0) > limit:
        raise _too_large(limit)
    exchange.body_is_begun = True
    # Without a length werkzeug stops reading at this, in silence: one byte more than allowed tells.
    request.max_content_length = limit + 1
    try:
        with patience.reading(connection_of(request)):
            body = request.get_data()
    except TimeoutError:
        raise BodyTooSlow("The body had not arrived when the time was up (RELAY_DEADLINE_SECONDS).") from None
    except Exception:
        # The connection broke, or chunks are no chunks; each server has errors of its own for that.
        raise NotJSON("The body could not be read to its end.") from None
    if len(body) > limit:
        raise _too_large(limit)
    exchange.body_is_read, exchange.body_bytes = True, len(body)
    if length not in (None, len(body)):
        raise NotJSON("The body is shorter than its Content-Length.")
    return body


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body may be at most {limit} bytes (RELAY_MAX_BODY_BYTES).")


def is_out_of_the_way(exchange: Exchange, patience: Patience) -> bool:
    """Whether nothing is left of the body: a small one that nobody wanted is read, so that the connection can go on."""
    request = exchange.request
    length = exchange.length or 0
    if exchange.body_is_read or not (length or "transfer-encoding" in exchange.headers):
        return True
    if exchange.body_is_begun or length > _SMALL_BYTES:
        return False
    request.max_content_length = _SMALL_BYTES + 1
    try:
        with patience.reading(connection_of(request), _SMALL_SECONDS):
            read = len(request.get_data())
    except Exception:
        return False
    return read == length if length else read <= _SMALL_BYTES


def check_encoding(exchange: Exchange) -> None:
    """Raises WrongMediaType for any Content-Encoding."""
    if "content-encoding" in exchange.headers:
        raise WrongMediaType("The body must not be encoded: no Content-Encoding is taken.")


def check_media_type(request: Request) -> None:
    """Raises WrongMediaType for what doesn't say that it is one event, as a native one must."""
    if not request.is_json or request.mimetype == _CLOUD_EVENTS:
        raise WrongMediaType(
            "The Content-Type must be application/json, or application/cloudevents+json for one event."
        )


def check_no_form(request: Request) -> None:
    """Raises WrongMediaType for a form: a hook takes JSON, whatever else its header says."""
    if request.mimetype in _FORMS:
        raise WrongMediaType(
            "The body is a form. On GitHub, set the webhook's content type to application/json; "
            "elsewhere, send JSON with that Content-Type."
        )


def is_dry_run(request: Request) -> bool:
    """Whether the query asks for one. Raises Invalid: it is misspelt, or neither true nor false."""
    if not request.query_string:
        return False
    # Who misspells it wants nothing to be sent.
    for name in request.args:
        if name != "dry_run" and closest(name, ["dry_run"], cutoff=0.8):
            raise Invalid("dry_run is misspelt.", errors={name: ["Unknown parameter; did you mean dry_run?"]})
    values = request.args.getlist("dry_run")
    if values not in ([], ["true"], ["false"]):
        raise Invalid("dry_run must be true or false.", errors={"dry_run": ["Must be true or false, once."]})
    return values == ["true"]
