"""The page that a browser shows for the address of the function. It contains no settings."""

import base64
import hashlib
from string import Template

from flask import Request, Response

_STYLE = "body { max-width: 40em; margin: 4em auto; padding: 0 1em; font-family: sans-serif; line-height: 1.5 }"
# An empty icon, because otherwise a browser requests /favicon.ico.
_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Dataset Relay</title>
<link rel="icon" href="data:,">
<style>$style</style>
</head>
<body>
<h1>Dataset Relay</h1>
<p>This function updates the record of a dataset on Apify or data.world when a data pipeline finishes. Pipelines and
webhooks send their events to this address with <code>POST</code>.</p>
<p>Version $version</p>
<h2>Documentation</h2>
<ul>
$links
</ul>
</body>
</html>
""")
_OPENAPI_LINK = '<li><a href="openapi.json">The interface of the function (OpenAPI)</a></li>'
_LINKS = """\
<li><a href="https://docs.apify.com/api/v2/dataset-put">The fields of an update on Apify</a></li>
<li><a href="https://developer.data.world/reference/patchdataset">The fields of an update on data.world</a></li>
<li><a href="https://www.standardwebhooks.com/">Standard Webhooks, one of the ways to sign an event</a></li>"""

# The page loads nothing, and only its own style applies.
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    # The query of the address can contain the secret of a sender.
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}


def accepts_page(request: Request) -> bool:
    """Return True if the `Accept` header names HTML (RFC 9110, 12.5.1).

    The range `*/*` is not enough, because programs that don't want HTML, such as curl, also send this range.
    """
    qualities = {media_range.partition(";")[0].lower(): quality for media_range, quality in request.accept_mimetypes}
    return qualities.get("text/html", qualities.get("text/*", 0)) > 0


def page_response(version: str, *, has_openapi: bool) -> Response:
    """Return the page, with a link to the OpenAPI document if the function serves it."""
    links = f"{_OPENAPI_LINK}\n{_LINKS}" if has_openapi else _LINKS
    html = _PAGE.substitute(style=_STYLE, version=version, links=links)
    return Response(html, headers=_HEADERS, content_type="text/html; charset=utf-8")
