"""Secrets in use, and any copy of one in a text.

The judge of what the function shows. It shares nothing with schemas/redaction.py, which it judges.
"""

import base64
import html
import re
import threading
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

#: In bytes. Of a secret as long as this, a part tells too much; of a shorter one, only the whole is looked for.
LONG = 24
#: In bytes of the secret, however they are written: the least part that is a leak.
PART = 12

# What is looked for in a text first: eight bytes, read as one number, so that a look is an addition to a loop in C.
_SEED = 8
# Encodings around encodings: `%255C%2522` is JSON's `\"`, percent-encoded twice.
_ROUNDS = 3
# What tokens of a kind begin with tells nothing of any of them.
_PUBLIC_PREFIX = re.compile(rb"(?:apify_api_|whsec_|dw\.|ghp_|glpat-)?(.*)", re.DOTALL)
_ONE_KIND = re.compile(rb"[A-Za-z ]*|[0-9 .:-]*")


@dataclass(frozen=True)
class Found:
    """A copy of a secret: whose, how it is written, and where it stands, if that is in the text as it is."""

    label: str
    how: str
    place: tuple[int, int] | None


@dataclass(frozen=True)
class _Form:
    """A way to write a secret; `least` of its bytes in a row are a leak."""

    label: str
    how: str
    text: bytes
    least: int


def is_telling(value: bytes) -> bool:
    """Whether `value` can be told from ordinary text.

    Six bytes that are letters and digits are no word; a word or a number of less than eight, like `second`, is in
    texts that know of no secret; so is what has hardly any variety, like a row of dashes.
    """
    found = _PUBLIC_PREFIX.fullmatch(value)
    bare = found[1] if found else value
    return len(bare) >= (8 if _ONE_KIND.fullmatch(bare) else 6) and len(set(bare)) >= 4


def _written(value: bytes) -> Iterator[tuple[str, bytes, int]]:
    """How, the bytes, and how many of them say PART bytes of the secret."""
    yield "plain", value, PART
    yield "reversed", value.decode("utf-8", "surrogateescape")[::-1].encode("utf-8", "surrogateescape"), PART
    yield "form-encoded", value.replace(b" ", b"+"), PART
    yield "hex", value.hex().encode(), PART * 2
    yield "hex", value.hex().upper().encode(), PART * 2
    for before in range(3):
        # What stands before the secret, and what comes behind it, has a say in the digits on its edges.
        digits = base64.b64encode(bytes(before) + value)[(0, 2, 3)[before] : (before + len(value)) * 8 // 6]
        yield "base64", digits, PART * 4 // 3
        yield "base64", digits.replace(b"+", b"-").replace(b"/", b"_"), PART * 4 // 3


_CONTROLS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _unescaped(found: re.Match[bytes]) -> bytes:
    run, code, wide, letter = found.groups()
    if run:
        units = bytes.fromhex(run.replace(b"\\u", b"").decode())
        return units.decode("utf-16-be", "replace").encode()
    if code:
        # A repr() of bytes has UTF-8 here, one of text has code points.
        raw = bytes.fromhex(code.replace(b"\\x", b"").decode())
        text = raw.decode("utf-8", "replace")
        return raw.decode("latin-1").encode() if "\ufffd" in text else raw
    return chr(int(wide, 16)).encode("utf-8", "replace") if wide else _CONTROLS.get(letter, letter)


# JSON's, and those that Python's repr() has beside them.
_ESCAPE = re.compile(
    rb"""((?:\\u[0-9a-fA-F]{4})+)|((?:\\x[0-9a-fA-F]{2})+)|\\U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|\\(["'\\/bfnrt])"""
)


def _from_json(text: bytes) -> bytes:
    return _ESCAPE.sub(_unescaped, text)


def _from_html(text: bytes) -> bytes:
    return html.unescape(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


_DECODERS: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\\", "JSON-escaped", _from_json),
    (b"%", "percent-encoded", unquote_to_bytes),
    (b"&", "as HTML", _from_html),
    (b"\0", "UTF-16", lambda text: text.replace(b"\0", b"")),
)


def _views(text: bytes) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """`text`, and all that it can be decoded to, each with what was decoded, the outermost first."""
    seen, layer = {text}, [((), text)]  # type: tuple[set[bytes], list[tuple[tuple[str, ...], bytes]]]
    yield (), text
    for _ in range(_ROUNDS):
        inner: list[tuple[tuple[str, ...], bytes]] = []
        for names, each in layer:
            for mark, name, decode in _DECODERS:
                if mark in each and (decoded := decode(each)) not in seen:
                    seen.add(decoded)
                    inner.append(((*names, name), decoded))
        yield from inner
        layer = inner


class Secrets:
    """All secrets in use, and how often and at what cost they were looked for. Threads may share it."""

    def __init__(self) -> None:
        self.labels: dict[bytes, str] = {}
        self.scanned = 0
        self._seeds: dict[int, list[tuple[_Form, int]]] = {}
        self._short: list[_Form] = []
        self._lock = threading.Lock()

    def add(self, label: str, value: str | bytes) -> None:
        """From now on `value` is looked for; `label` says whose it is, and is shown."""
        raw = (value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value).rstrip(b"\r\n")
        if not is_telling(raw):
            return
        with self._lock:
            if raw in self.labels:
                return
            self.labels[raw] = label
            texts: set[bytes] = set()
            for how, text, part in _written(raw):
                if text not in texts:
                    texts.add(text)
                    self._index(_Form(label, how, text, part if len(raw) >= LONG else len(text)))

    def _index(self, form: _Form) -> None:
        if len(form.text) < _SEED:
            self._short.append(form)
            return
        # Whatever part of it is long enough holds one of these seeds whole.
        for start in range(0, len(form.text) - _SEED + 1, form.least - _SEED + 1):
            seed = array("Q", form.text[start : start + _SEED])[0]
            self._seeds.setdefault(seed, []).append((form, start))

    def found(self, text: bytes) -> list[Found]:
        """Every copy of a secret in `text`; one that is found in several ways more than once."""
        self.scanned += len(text)
        copies = []
        for names, view in _views(text):
            for form, start, end in self._copies(view):
                how = ", ".join((*names, form.how)) if names and form.how != "plain" else ", ".join(names) or form.how
                part = "a part, " if end - start < len(form.text) else ""
                copies.append(Found(form.label, part + how, None if names else (start, end)))
        return copies

    def _copies(self, text: bytes) -> Iterator[tuple[_Form, int, int]]:
        seeds = self._seeds.keys()
        for shift in range(min(_SEED, len(text))):
            numbers = array("Q", text[shift : len(text) - (len(text) - shift) % _SEED])
            if seeds.isdisjoint(numbers):
                continue
            for index, number in enumerate(numbers):
                for form, offset in self._seeds.get(number, ()):
                    start, end = _run(form.text, offset, text, shift + index * _SEED)
                    if end - start >= form.least:
                        yield form, start, end
        for form in list(self._short):
            if (at := text.find(form.text)) >= 0:
                yield form, at, at + len(form.text)

    def cleaned(self, text: str) -> str:
        """`text` without any copy of a secret; where a copy can't be cut out, without all of it."""
        raw = text.encode("utf-8", "surrogatepass")
        # As often as one of a few bytes that is there twice needs.
        for _ in range(100):
            places = sorted(each.place for each in self.found(raw) if each.place)
            if not places:
                break
            raw = _cut(raw, places)
        return "[taken out: a secret is in it]" if self.found(raw) else raw.decode("utf-8", "surrogatepass")


def _run(wanted: bytes, offset: int, text: bytes, at: int) -> tuple[int, int]:
    """How far `text` says what `wanted` says, around `at`, where it does from `offset` on."""
    before, behind = 0, _SEED
    while before < min(offset, at) and wanted[offset - before - 1] == text[at - before - 1]:
        before += 1
    most = min(len(wanted) - offset, len(text) - at)
    while behind < most and wanted[offset + behind] == text[at + behind]:
        behind += 1
    return at - before, at + behind


def _cut(text: bytes, places: list[tuple[int, int]]) -> bytes:
    """`text` with a mark in place of each of these, which are in order and may overlap."""
    kept, last = [], 0
    for start, end in places:
        if end > last:
            # Two that overlap have one mark.
            kept += [text[last:start], b"[secret]"] if start >= last else []
            last = end
    return b"".join([*kept, text[last:]])
