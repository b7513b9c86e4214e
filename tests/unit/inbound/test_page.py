"""Tests of the page for browsers, without a server."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from handlers.inbound.page import accepts_page, page_response

PAGE = page_response("1.2.3", has_openapi=True)
#: The attributes with which a page loads a resource or sends a form.
LOADING = {"src", "srcset", "action", "formaction", "data", "poster", "background"}


class Elements(HTMLParser):
    """The elements of a page, with their attributes. Every element that isn't empty must have an end."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def accepts(accept: str | None) -> bool:
    headers = [] if accept is None else [("Accept", accept)]
    return accepts_page(Request(EnvironBuilder(headers=headers).get_environ()))


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "TEXT/HTML",
        " text/html ;q=0.001",
        "text/html;charset=utf-8",
        "text/html;level=1;q=0.3",
        "application/json, text/html;q=0.1",
        "*/*;q=0, text/html",
        "text/*;q=0, text/html",
        "text/*",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    ],
)
def test_accepts_page_html_in_header_returns_true(accept: str) -> None:
    assert accepts(accept)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/json",
        "application/json, text/plain, */*",
        "application/xhtml+xml",
        "text/html;q=0",
        "text/html;q=0.000, */*",
        "text/html;q=0, text/*",
        "text/*;q=0, */*",
        "text/html;q=high",
        "text/html5",
        "text",
        "html",
        ",",
        ";q=1",
    ],
)
def test_accepts_page_without_html_in_header_returns_false(accept: str | None) -> None:
    assert not accepts(accept)


def test_page_response_names_purpose_and_version() -> None:
    text = PAGE.get_data(as_text=True)
    assert PAGE.status_code == 200
    assert PAGE.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Version 1.2.3" in text
    assert "updates the record of a dataset" in text
    assert "$" not in text


def test_page_response_is_well_formed_and_loads_nothing() -> None:
    elements = Elements(PAGE.get_data(as_text=True))
    assert elements.open == []
    for tag, attributes in elements.found:
        assert tag not in ("script", "iframe", "img", "form", "object", "base")
        assert not LOADING & set(attributes)
        assert "style" not in attributes
        if tag == "link":
            assert attributes == {"rel": "icon", "href": "data:,"}
        if tag == "a":
            assert str(attributes["href"]).startswith("https://") or attributes["href"] == "openapi.json"


def test_page_response_policy_allows_only_the_style_of_the_page() -> None:
    (style,) = re.findall("<style>(.*?)</style>", PAGE.get_data(as_text=True), re.DOTALL)
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = dict(part.strip().split(" ", 1) for part in PAGE.headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{style_hash}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert PAGE.headers["X-Content-Type-Options"] == "nosniff"
    assert PAGE.headers["Referrer-Policy"] == "no-referrer"
    assert PAGE.headers["Vary"] == "Accept"


def test_page_response_without_openapi_document_has_no_link_to_it() -> None:
    assert "openapi" not in page_response("1.2.3", has_openapi=False).get_data(as_text=True)
