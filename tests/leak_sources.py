"""Which secrets are in use: those in what tests send, and those behind what a function is set up with.

Written from what the contract calls a credential, not from the code that hides them: where the two differ, a test
fails. Each is given with a label, which may be shown.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

Labelled = Iterator[tuple[str, str | bytes]]

#: So many credentials of one event stand for all: some tests send tens of thousands, to see what they cost.
MOST = 500

_CREDENTIALS = {"credentials", "password"}
_CREDENTIAL_HEADER = re.compile(r"auth|cookie|token|key|secret|signature|session|passw|credential", re.IGNORECASE)
# A signature proves one body and opens nothing else; these are the secret itself.
_PROOF = re.compile(r"authorization|cookie|.*-token", re.IGNORECASE)
_USERINFO = re.compile(r"\b[a-z][a-z0-9+.-]*://([^/?#\s@\"]+)@", re.IGNORECASE)
_LOOKS_LIKE_A_TOKEN = re.compile(r"apify_api_|eyJ|whsec_|dw\.")


def of_secret(label: str, text: str) -> Labelled:
    """A secret, and what of it is as good as the whole: the key of `whsec_`, the password of a user."""
    yield label, text
    if text.startswith("whsec_"):
        with suppress(ValueError):
            yield f"{label}, its key", base64.b64decode(text.strip().removeprefix("whsec_"), validate=True)
    user, colon, password = text.strip().partition(":")
    if colon and re.fullmatch(r"[\w.@-]+", user):
        yield f"{label}, its password", password


def of_event(body: bytes) -> Labelled:
    """The credentials in a body that is JSON."""
    with suppress(ValueError, RecursionError):
        found = list(_walk(json.loads(body)))
        yield from found[:: len(found) // MOST + 1]


def _walk(value: Any) -> Labelled:
    if isinstance(value, dict):
        for key, each in value.items():
            if key.lower() in _CREDENTIALS:
                yield from _leaves(f"an event's {key.lower()}", each)
            elif key == "requestHeaders" and isinstance(each, dict):
                for name, text in each.items():
                    if isinstance(text, str) and _CREDENTIAL_HEADER.search(name):
                        yield from _of_header("a header in an event", text)
                    else:
                        yield from _walk(text)
            else:
                yield from _walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from _walk(each)
    elif isinstance(value, str):
        for userinfo in _USERINFO.findall(value):
            _, colon, password = userinfo.partition(":")
            for text in {userinfo, password if colon else userinfo}:
                yield "a URL's userinfo", text
                yield "a URL's userinfo", unquote(text)


def _leaves(label: str, value: Any) -> Labelled:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(label, each)
    elif isinstance(value, str):
        yield from _of_header(label, value)
    elif value is not None and not isinstance(value, bool):
        yield label, str(value)


def _of_header(label: str, text: str) -> Labelled:
    """`Bearer …`, `Basic …`, `a=…; b=…`: the whole, and what in it is the secret."""
    yield label, text
    scheme, space, rest = text.strip().partition(" ")
    if space and scheme.lower() in ("bearer", "basic", "token", "digest"):
        yield label, rest
    if scheme.lower() == "basic":
        with suppress(ValueError):
            yield from of_secret(label, base64.b64decode(rest, validate=True).decode())
    for pair in text.split(";"):
        name, equals, value = pair.partition("=")
        if equals and re.fullmatch(r"\s*[\w.-]+", name):
            yield label, value


def of_request(path: str, headers: Mapping[str, str]) -> Labelled:
    """What a sender proves itself with, where that is the secret itself."""
    for name, text in headers.items():
        if _PROOF.fullmatch(name):
            yield from _of_header(f"a sender's {name}", text)
    for name, text in parse_qsl(urlsplit(path).query):
        if name == "token":
            yield "a sender's ?token=", text


def of_settings(settings: Mapping[str, str], environ: Mapping[str, str]) -> Labelled:
    """The values behind `env:` and `file:`, in settings and in hooks, and tokens where such a reference belongs."""
    all_of_them = {**environ, **settings}
    for name, text in settings.items():
        for reference in text.split(","):
            yield from _referred(name, reference.strip(), all_of_them)
    with suppress(KeyError, OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        hooks = yaml.safe_load(Path(settings["RELAY_CONFIG"]).read_text())
        for key, reference in _references(hooks):
            yield from _referred(f"a hook's {key}", reference, all_of_them)


def _references(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("secret", "token"):
                for reference in each if isinstance(each, list) else [each]:
                    yield key, str(reference)
            else:
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _referred(label: str, reference: str, environ: Mapping[str, str]) -> Labelled:
    kind, _, rest = reference.partition(":")
    if kind == "env":
        yield from of_secret(f"{label} ({reference})", environ.get(rest, ""))
    elif kind == "file":
        with suppress(OSError, UnicodeDecodeError):
            yield from of_secret(f"{label} (a file)", Path(rest).read_text())
    elif _LOOKS_LIKE_A_TOKEN.match(reference):
        yield label, reference
