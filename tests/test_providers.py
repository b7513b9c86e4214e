"""What is sent to a platform, and what its answers mean."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.providers import PROVIDERS, apify, data_world
from handlers.providers.call import PASSED_ON, Answer, Request, Result, result, retry_after, text_at
from schemas.event import Update
from schemas.problem import RelayError
from schemas.redactor import Redactor
from schemas.strict_json import JSON

NOTHING = Redactor([])


def outcome(status: int, body: bytes = b"", **headers: str) -> Result | RelayError:
    answer = Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
    try:
        return result(apify, answer, NOTHING)
    except RelayError as error:
        return error


def problem(status: int, body: bytes = b"", **headers: str) -> Any:
    found = outcome(status, body, **headers)
    assert isinstance(found, RelayError)
    return found.problem


def test_requests() -> None:
    body: Any = {"name": None}
    assert apify.request("http://h/v2", Update("apify", "jane~a-b", body)) == Request(
        "PUT", "http://h/v2/datasets/jane~a-b", body
    )
    assert data_world.request("http://h/v0", Update("data.world", "acme/products", body)) == Request(
        "PATCH", "http://h/v0/datasets/acme/products", body
    )


@pytest.mark.parametrize("dataset", ["../../v2/users/me", "a/b?c=d#e", "a%2fb", "é\r\n", "http://evil.example/"])
def test_a_reference_is_one_segment_whatever_it_holds(dataset: str) -> None:
    url = apify.request("http://h/v2", Update("apify", dataset, {})).url
    assert url.startswith("http://h/v2/datasets/")
    assert not set(url.removeprefix("http://h/v2/datasets/")) & set("/?#\r\n")
    url = data_world.request("http://h/v0", Update("data.world", f"o/{dataset}", {})).url
    assert url.startswith("http://h/v0/datasets/o/")
    assert not set(url.removeprefix("http://h/v0/datasets/o/")) & set("/?#\r\n")


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_success(status: int) -> None:
    assert outcome(status, b'{"data": {"id": "x", "urlSigningSecretKey": "s"}}') == Result(
        status, {"data": {"id": "x"}}
    )
    assert outcome(status) == Result(status, None, empty=True)
    assert outcome(status, b" \n") == Result(status, None, empty=True)
    assert outcome(status, b"null") == Result(status, None)


@pytest.mark.parametrize("body", [b"<html>ok</html>", b"\xff", b"{", b"NaN", b"[" * 100])
def test_nonsense(body: bytes) -> None:
    found = problem(200, body)
    assert (found.status, found.retryable, found.upstream.status) == (502, True, 200)


TABLE = {
    **dict.fromkeys(PASSED_ON, (None, False)),
    **dict.fromkeys((401, 403, 406, 411, 412, 414, 417, 418, 423, 426, 428, 431, 451, 499), (502, False)),
    **dict.fromkeys((408, 500, 501, 502, 503, 504, 599), (502, True)),
    **dict.fromkeys((300, 301, 302, 303, 304, 307, 308), (502, False)),
    429: (429, True),
    **dict.fromkeys((101, 199, 600, 999), (502, True)),
}


@pytest.mark.parametrize(("status", "expected"), TABLE.items())
def test_failures(status: int, expected: tuple[int | None, bool]) -> None:
    found = problem(status, b'{"error": {"type": "t", "message": "Not so."}}')
    assert (found.status, found.retryable) == (expected[0] or status, expected[1])
    assert found.upstream.status == status
    assert found.upstream.body == {"error": {"type": "t", "message": "Not so."}}
    assert "Apify answered" in found.detail
    assert "Not so" in found.detail


def test_error_bodies() -> None:
    assert problem(404).upstream.body is None
    assert problem(404).detail == "Apify answered 404."
    assert problem(502, b"<h1>Bad gateway</h1>").upstream.body == "<h1>Bad gateway</h1>"
    assert len(problem(500, b"x" * 5000).upstream.body) == 2000
    assert problem(500, "gehëim".encode("latin-1")).upstream.body == "[redacted]"
    assert problem(500, "token".encode("utf-16")).upstream.body == "[redacted]"
    assert problem(500, "token".encode("utf-16-be")).upstream.body == "[redacted]"


@pytest.mark.parametrize(
    "body",
    [b'{"urlSigningSecretKey": "s3cr3t", broken',
     b'{"error": {"message": "{\\"urlSigningSecretKey\\": \\"s3cr3t\\"}"}}',
     b"<urlSigningSecretKey>s3cr3t</urlSigningSecretKey>", b'x urlSigningSecretKey&quot;: [&quot;s3cr3t&quot;]',
     b'{"a": {"urlSigningSecretKey": ["s3cr3t"]}}'],
)  # fmt: skip
def test_signing_keys_are_out_of_every_part(body: bytes) -> None:
    assert "s3cr3t" not in str(problem(500, body))
    assert "s3cr3t" not in str(outcome(200, body))


def test_a_secret_is_out_before_a_text_is_cut() -> None:
    answer = Answer(500, {}, b"x" * 1995 + b"tok-1234567890")
    with pytest.raises(RelayError) as caught:
        result(apify, answer, Redactor(["tok-1234567890"]))
    upstream = caught.value.problem.upstream
    assert upstream is not None
    assert "tok" not in str(upstream.body)


def test_secrets_are_out_of_every_part() -> None:
    body = b'{"error": {"message": "bad token tok-1234", "echo": {"tok-1234": ["Bearer tok-1234"]}}}'
    for status in (200, 400, 401, 429, 500):
        try:
            shown = str(result(apify, Answer(status, {}, body), Redactor(["tok-1234"])))
        except RelayError as error:
            shown = str(error.problem)
        assert "tok-1234" not in shown
        assert "[redacted]" in shown


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("0", "0"),
        (" 120 ", "120"),
        ("Sun, 22 Nov 2026 08:30:30 GMT", "Sun, 22 Nov 2026 08:30:30 GMT"),
        ("Sun, 22 Nov 2026 08:30:30 -0000", "Sun, 22 Nov 2026 08:30:30 GMT"),
        ("Sun, 22 Nov 2026 09:30:30 +0100", "Sun, 22 Nov 2026 08:30:30 GMT"),
        ("Sunday, 22-Nov-26 08:30:30 GMT", "Sun, 22 Nov 2026 08:30:30 GMT"),
        ("Sun, 22 Nov 2026 08:30:30 GMT \x01\x7f\xe4 x", "Sun, 22 Nov 2026 08:30:30 GMT"),
    ],
)
def test_retry_after(text: str, sent: str) -> None:
    assert retry_after(text) == sent
    assert problem(429, retry_after=text).headers == {"Retry-After": sent}


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1.5", "soon", "1, 2", "١", "9" * 400, "Sun, 99 Nov 2026 08:30:30 GMT",
     "Wed, 21 Oct 2026 07:28:00 +99999999999999999999", "Fri, 31 Dec 9999 23:59:59 -2359"],
)  # fmt: skip
def test_no_retry_after(text: str) -> None:
    assert retry_after(text) is None
    assert problem(429, retry_after=text).headers == {}


@given(st.text(max_size=60) | st.from_regex(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d .{0,9}"))
def test_any_retry_after_is_a_header_or_none(text: str) -> None:
    sent = retry_after(text)
    assert sent is None or (sent.isascii() and sent.isprintable())


def test_reasons() -> None:
    assert apify.reason({"error": {"message": "m"}}) == "m"
    assert data_world.reason({"code": 404, "message": "m", "details": "d"}) == "m"
    bodies: list[Any] = [None, [], "x", {}, {"error": "x"}, {"error": {"message": 1}}, {"error": {"message": ""}}]
    for body in bodies:
        assert apify.reason(body) is None
    assert text_at({"a": {"b": "c"}}, "a", "b") == "c"


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_registry(name: str) -> None:
    provider = PROVIDERS[name]
    assert provider.TITLE
    assert provider.BASE_URL.startswith("https://")
    assert not provider.BASE_URL.endswith("/")
    assert set(provider.EVENT.fields) == {"provider", "dataset", "update", "id", "type", "time"}


# Looking, after a 404, whether an earlier try has moved the dataset away


@pytest.mark.parametrize(
    ("dataset", "body", "url"),
    [
        ("jane~old", {"name": "new"}, "https://base/datasets/jane~new"),
        ("j.a_n-e~old", {"name": "new", "generalAccess": "RESTRICTED"}, "https://base/datasets/j.a_n-e~new"),
        ("jane~old", {"name": None}, None),
        ("jane~old", {"generalAccess": "RESTRICTED"}, None),
        ("WkzbQMuFYuamGv3YF", {"name": "new"}, None),
    ],
)
def test_where_a_rename_is_looked_for(dataset: str, body: dict[str, JSON], url: str | None) -> None:
    look = apify.look("https://base", Update("apify", dataset, body))
    assert look == (Request("GET", url) if url else None)


def test_what_a_rename_looks_like_when_it_is_done() -> None:
    update = Update("apify", "jane~old", {"name": "new", "generalAccess": "RESTRICTED"})
    there: dict[str, JSON] = {"id": "x", "name": "new", "generalAccess": "RESTRICTED", "actId": None}
    assert apify.is_done(update, {"data": there})
    others: list[JSON] = [
        {"data": {**there, "name": "old"}},
        {"data": {"name": "new"}},
        {"data": []},
        there,
        {},
        [],
        "new",
        None,
    ]
    assert not any(apify.is_done(update, each) for each in others)


def test_on_data_world_nothing_is_looked_for() -> None:
    update = Update("data.world", "acme/products", {"title": "x"})
    assert PROVIDERS["data.world"].look("https://base", update) is None
    assert not data_world.is_done(update, {"title": "x"})


@pytest.mark.parametrize("size", [64 * 1024, 64 * 1024 + 1])
def test_a_long_page_is_no_message(size: int) -> None:
    error = outcome(503, b"<p>" + b"x" * (size - 3))
    assert isinstance(error, RelayError)
    assert error.problem.upstream
    assert (error.problem.upstream.body == "[redacted]") == (size > 64 * 1024)
