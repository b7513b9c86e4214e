"""Tests of the routes, and of the order of the checks."""

import json
import re
from pathlib import Path

import pytest

from handlers import VERSION
from tests.support.canary import secret
from tests.support.hooks import hook, update, written
from tests.support.raw_http import connect, is_complete, receive_until_closed
from tests.support.relay import JSON_TYPE, Launch, Relay, assert_problem


@pytest.mark.parametrize("path", ["/health", "/health/", "/health?x=1"])
def test_health_returns_ok(relay: Relay, path: str) -> None:
    response = relay.send(b"", method="GET", path=path)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["Relay-Delivery"]
    assert relay.send(b"", method="HEAD", path=path).content == b""


@pytest.mark.parametrize(
    "path",
    [
        "/x",
        "/health/x",
        "/index.html",
        "/deliveries",
        "/hooks/a",
        "/openapi.yaml",
        "/robots.txt",
        "/favicon.ico",
        "/a%0Ab",
        "/health%0A",
        "/hooks/a%0D%0A/",
        "/%2e%2e/",
        "/health//",
        "//health",
        "//",
        "/é",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_unknown_route_is_not_found(relay: Relay, path: str, method: str) -> None:
    response = relay.send(b"{}" if method in ("POST", "PUT") else b"", method=method, path=path)
    assert_problem(response, 404, "not-found")


@pytest.mark.parametrize("path", [b"/x", b"/robots.txt"])
def test_unknown_route_keeps_the_connection(relay: Relay, path: bytes) -> None:
    # functions-framework itself handles /robots.txt, and calls the function outside of its usual route.
    with connect(relay) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        received = b""
        while not is_complete(received):
            received += connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 404 ")
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert receive_until_closed(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        *[(method, "/", "POST") for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")],
        *[(method, "/health", "GET, HEAD") for method in ("POST", "PUT", "OPTIONS")],
        *[(method, "/openapi.json", "GET, HEAD") for method in ("POST", "DELETE", "OPTIONS")],
    ],
)
def test_wrong_method_names_the_allowed_methods(relay: Relay, method: str, path: str, allow: str) -> None:
    response = relay.send(b"", method=method, path=path)
    problem = assert_problem(response, 405, "method-not-allowed")
    remedy = f"Use one of: {allow}." if "," in allow else f"Use {allow}."
    assert problem["detail"] == f"This path doesn't support the method. {remedy}"
    assert response.headers["Allow"] == allow


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("path", ["/", "/?x=1", ""])
def test_page_in_browser_is_returned_with_its_version(relay: Relay, path: str) -> None:
    response = relay.send(b"", method="GET", path=path, headers={"Accept": BROWSER})
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert f"Version {VERSION}" in response.text
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none';")
    entry = relay.logged(response.headers["Relay-Delivery"])
    assert (entry["severity"], entry["status"]) == ("INFO", 200)
    head = relay.send(b"", method="HEAD", path=path, headers={"Accept": BROWSER})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(response.content))


def test_page_links_to_own_documents_exist(relay: Relay) -> None:
    page = relay.send(b"", method="GET", headers={"Accept": "text/html"}).text
    own = [link for link in re.findall('href="([^"]+)"', page) if ":" not in link]
    assert own == ["openapi.json"]
    for link in own:
        assert relay.send(b"", method="GET", path=f"/{link}").status_code == 200


def test_page_with_hooks_reveals_no_setting(launch: Launch, relay: Relay, tmp_path: Path) -> None:
    hooks = {"build": hook(update("apify", "abc", {"name": None}))}
    other = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=secret("hook-"), DATA_WORLD_TOKEN=None)
    pages = [each.send(b"", method="GET", headers={"Accept": "text/html"}).content for each in (relay, other)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html;q=0, */*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_page_without_html_in_accept_is_405(relay: Relay, method: str, accept: str) -> None:
    response = relay.send(b"", method=method, headers={"Accept": accept})
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("PUT", "/", 405), ("OPTIONS", "/", 405), ("POST", "/", 415), ("GET", "/x", 404), ("GET", "/health", 200)],
)
def test_page_is_only_for_reading_the_root(relay: Relay, method: str, path: str, status: int) -> None:
    response = relay.send(b"", method=method, path=path, headers={"Accept": "text/html"})
    assert response.status_code == status
    assert "text/html" not in response.headers["Content-Type"]


def test_request_with_several_mistakes_gets_the_first_problem(launch: Launch) -> None:
    relay = launch(RELAY_MAX_BODY_BYTES="1000")
    large, text, long = b"x" * 1001, {"Content-Type": "text/plain"}, f"?{'x' * 9000}"
    wrong = {"Content-Type": JSON_TYPE, "Authorization": "Bearer no"}
    right = {"Content-Type": JSON_TYPE, **relay.bearer}
    event = json.dumps({"provider": "apify", "dataset": "", "update": {}})
    assert relay.send(large, path=f"/x{long}", headers=text).status_code == 404
    assert relay.send(large, path=f"/{long}", method="PUT", headers=text).status_code == 405
    assert relay.send(large, path=f"/{long}", headers=text).status_code == 414
    assert relay.send(large, headers=text).status_code == 413
    assert relay.send(b"not json", headers=text).status_code == 415
    assert relay.send(b"not json", headers=wrong).status_code == 401
    assert relay.send(b"not json", path="/?dry_run=x", headers=right).status_code == 400
    assert relay.send(event, path="/?dry_run=x", headers=right).status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/", 401), ("POST", "/hooks/build", 401), ("GET", "/health", 200), ("GET", "/openapi.json", 200)],
)
def test_query_on_each_side_of_the_limit(launch: Launch, tmp_path: Path, method: str, path: str, status: int) -> None:
    hooks = {"build": hook(update("apify", "abc", {"name": None}))}
    relay = launch(RELAY_CONFIG=written(tmp_path, hooks), HOOK_SECRET=secret("hook-"))
    headers = {"Content-Type": JSON_TYPE}
    for query in ("token=".ljust(8192, "x"), "&" * 8192):
        assert relay.send(b"", method=method, path=f"{path}?{query}", headers=headers).status_code == status
    for query in ("token=".ljust(8193, "x"), "&" * 8193, "%ff" * 3000):
        response = relay.send(b"", method=method, path=f"{path}?{query}", headers=headers)
        problem = assert_problem(response, 414, "query-too-long")
        assert "8192 bytes" in problem["detail"]
        assert relay.logged(response.headers["Relay-Delivery"])["outcome"] == "rejected"
