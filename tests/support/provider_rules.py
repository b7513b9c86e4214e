"""Every rule of an update, with values on each side of its limit."""

from dataclasses import dataclass
from typing import Any

from schemas.apify import ApifyEvent
from schemas.data_world import LABELS, LICENSES, DataWorldEvent
from schemas.event import EventSchema

APIFY, DATA_WORLD = "apify", "data.world"
URL = "https://example.com/a.csv"

SCHEMAS: dict[str, EventSchema] = {APIFY: ApifyEvent(), DATA_WORLD: DataWorldEvent()}
#: A valid dataset of each provider.
DATASETS = {APIFY: "jane~products", DATA_WORLD: "acme/products"}


def make_event(provider: str, update: object, dataset: str | None = None) -> dict[str, Any]:
    """Return a native event. The default dataset is valid."""
    return {"provider": provider, "dataset": DATASETS[provider] if dataset is None else dataset, "update": update}


@dataclass(frozen=True, slots=True)
class Case:
    """Represent one rule: valid updates, invalid updates with the path of the error, and a part of the message."""

    provider: str
    rule: str
    valid: tuple[dict[str, Any], ...]
    invalid: tuple[tuple[dict[str, Any], str], ...]
    message: str
    #: The provider itself, by its documentation, accepts the invalid updates.
    stricter: bool = False
    #: The valid updates have a form of the function's own, which the provider itself doesn't accept.
    own_form: bool = False

    def __str__(self) -> str:
        return f"{self.provider}-{self.rule}"


def _one(
    provider: str, name: str, rule: str, valid: list[Any], invalid: list[Any], message: str, **kwargs: Any
) -> Case:
    return Case(
        provider,
        f"{name}: {rule}",
        tuple({name: value} for value in valid),
        tuple(({name: value}, f"update.{name}") for value in invalid),
        message,
        **kwargs,
    )


def _file(name: str, rule: str, valid: list[Any], invalid: list[Any], message: str, **kwargs: Any) -> Case:
    def wrap(value: Any) -> dict[str, Any]:
        return {"files": [{"name": "a.csv", name: value}]}

    return Case(
        DATA_WORLD,
        f"files[].{name}: {rule}",
        tuple(map(wrap, valid)),
        tuple((wrap(value), f"update.files.0.{name}") for value in invalid),
        message,
        **kwargs,
    )


def _source(name: str, rule: str, valid: list[Any], invalid: list[Any], message: str, **kwargs: Any) -> Case:
    def wrap(value: Any) -> dict[str, Any]:
        return {"files": [{"name": "a.csv", "source": {"url": URL, **value}}]}

    return Case(
        DATA_WORLD,
        f"source.{name}: {rule}",
        tuple(map(wrap, valid)),
        tuple((wrap(value), f"update.files.0.source.{name}") for value in invalid),
        message,
        **kwargs,
    )


def _url(length: int) -> str:
    return URL + "x" * (length - len(URL))


def _headers(size: int) -> dict[str, str]:
    """Return headers that have `size` bytes together with URL."""
    return {"X-É": "v" * (size - len(URL) - len("X-É: \r\n".encode()))}


NOT_STRINGS = [1, True, ["x"], {"x": "y"}]
UUID = "0a2d5f1e-7b1c-4c5e-9f3a-2b6d8e4c1a90"
OAUTH = {"owner": "jane", "site": "github", "id": UUID}
NOT_A_STRING = "Must be a string"
TYPED = {"requestHeaders": {"content-TYPE": "text/plain"}}

CASES = [
    _one(APIFY, "name", "a string or null", ["a", None], [1, False, [], {}], NOT_A_STRING),
    _one(APIFY, "name", "1 to 63 characters", ["a", "a" * 63], ["", "a" * 64], "1 to 63 characters"),
    _one(
        APIFY,
        "name",
        "letters, digits and '-'",
        ["a-Z-09", "0", "a--b"],
        ["a_b", "a b", "a.b", "é", "a/b", "a\n", "а", "a\u0000", "１"],
        "letters",
    ),
    _one(APIFY, "name", "no '-' at an end", ["a-b"], ["-a", "a-", "-", "--"], "begin or end"),
    _one(
        APIFY,
        "generalAccess",
        "one of four",
        ["ANYONE_WITH_ID_CAN_READ", "ANYONE_WITH_NAME_CAN_READ", "FOLLOW_USER_SETTING", "RESTRICTED"],
        ["restricted", "PUBLIC", "", "RESTRICTED "],
        "Must be one of",
    ),
    _one(APIFY, "generalAccess", "not null", ["RESTRICTED"], [None], "null"),
    Case(
        APIFY,
        "update: at least one field",
        ({"name": "a"}, {"generalAccess": "RESTRICTED"}, {"generalAccess": "RESTRICTED", "name": None}),
        (({}, "update"),),
        "At least one field",
    ),
    Case(
        APIFY,
        "update: unknown fields",
        ({"name": "a"},),
        (
            ({"Name": "a"}, "update.Name"),
            ({"name": "a", "title": "b"}, "update.title"),
            ({"general_access": "RESTRICTED"}, "update.general_access"),
        ),
        "Unknown field",
    ),
    _one(DATA_WORLD, "title", "a string or null", ["a", None], NOT_STRINGS, ""),
    _one(DATA_WORLD, "title", "1 to 60 characters", ["a", "a" * 60, "💶" * 60], ["", "a" * 61], "1 to 60 characters"),
    _one(DATA_WORLD, "description", "a string or null", ["a", None], NOT_STRINGS, ""),
    _one(DATA_WORLD, "description", "up to 120 characters", ["", "é" * 120], ["a" * 121], "at most"),
    _one(DATA_WORLD, "summary", "a string or null", ["# a\n\n*b*\n", None], NOT_STRINGS, ""),
    _one(DATA_WORLD, "summary", "up to 25 000 characters", ["", "💶" * 25_000], ["a" * 25_001], "at most 25000"),
    _one(DATA_WORLD, "tags", "a list or null", [[], ["ab"], None], ["ab", 1, {}], ""),
    Case(
        DATA_WORLD,
        "tags: an object with add, remove, or both",
        ({"tags": {"add": ["ab"]}}, {"tags": {"remove": []}}, {"tags": {"add": ["ab"], "remove": ["cd"]}}),
        (
            ({"tags": {"ab": 1}}, "update.tags.ab"),
            ({"tags": {"add": "ab"}}, "update.tags.add"),
            ({"tags": {"add": None}}, "update.tags.add"),
            ({"tags": {"add": ["open-data"]}}, "update.tags.add.0"),
            ({"tags": {"remove": ["ab", "a"]}}, "update.tags.remove.1"),
            ({"tags": {"add": ["ab", "ab"]}}, "update.tags.add.1"),
            ({"tags": {"add": ["ab", "cd"], "remove": ["cd"]}}, "update.tags.remove"),
        ),
        "",
        own_form=True,
    ),
    Case(
        DATA_WORLD,
        "tags: of strings",
        ({"tags": ["ab", "cd"]},),
        (({"tags": ["ab", 1]}, "update.tags.1"), ({"tags": [None]}, "update.tags.0")),
        "",
    ),
    Case(
        DATA_WORLD,
        "tags: 2 to 25 characters",
        ({"tags": ["ab", "a" * 25]},),
        (({"tags": ["ab", "a"]}, "update.tags.1"), ({"tags": ["a" * 26]}, "update.tags.0")),
        "2 to 25 characters",
    ),
    Case(
        DATA_WORLD,
        "tags: letters, digits and spaces",
        ({"tags": ["open data 26"]},),
        tuple(({"tags": [value]}, "update.tags.0") for value in ("open-data", "a_b", "été", "ab\n", "a,b", "ａｂ")),
        "letters",
    ),
    Case(
        DATA_WORLD,
        "tags: distinct",
        ({"tags": ["ab", "AB"]},),
        (({"tags": ["ab", "cd", "ab"]}, "update.tags.2"),),
        "distinct",
    ),
    _one(DATA_WORLD, "license", "one of the provider's", [*LICENSES, None], ["", "cc-by", "CC BY", "GPL"], ""),
    _one(DATA_WORLD, "visibility", "one of three", ["OPEN", "PRIVATE", "DISCOVERABLE", None], ["open", "", 1], ""),
    _one(DATA_WORLD, "autoSyncInterval", "one of four", ["NEVER", "HOURLY", "DAILY", "WEEKLY", None],
         ["never", "", 1, "MONTHLY"], ""),
    _one(
        DATA_WORLD,
        "assetStatusIri",
        "an IRI",
        ["https://example.com/status/approved", "urn:x:dätä", "a:b#c", None],
        ["", "approved", "https://example.com/a b", "ht tp://x", ":x", "1a:b", "a:b\n", 1],
        "",
        stricter=True,
    ),
    _one(DATA_WORLD, "files", "a list or null", [[], [{"name": "a"}], None], [{}, "a"], ""),
    Case(
        DATA_WORLD,
        "files: of objects",
        ({"files": [{"name": "a"}, {"name": "b"}]},),
        (({"files": ["a.csv"]}, "update.files.0"), ({"files": [{"name": "a"}, None]}, "update.files.1")),
        "",
    ),
    Case(
        DATA_WORLD,
        "files[]: unknown fields",
        ({"files": [{"name": "a"}]},),
        (
            ({"files": [{"name": "a", "url": URL}]}, "update.files.0.url"),
            ({"files": [{"name": "a", "label": []}]}, "update.files.0.label"),
        ),
        "Unknown field",
    ),
    Case(
        DATA_WORLD,
        "files[].name: required",
        ({"files": [{"name": "a"}]},),
        (({"files": [{"name": "a"}, {"description": "x"}]}, "update.files.1.name"),),
        "Required",
    ),
    Case(
        DATA_WORLD,
        "files[].name: 1 to 128 characters",
        ({"files": [{"name": "a" * 128}]},),
        (({"files": [{"name": ""}]}, "update.files.0.name"), ({"files": [{"name": "a" * 129}]}, "update.files.0.name")),
        "1 to 128 characters",
    ),
    Case(
        DATA_WORLD,
        "files[].name: no '/'",
        ({"files": [{"name": "a b.tar.gz"}, {"name": ".."}, {"name": "a\\b"}]},),
        (({"files": [{"name": "a/b"}]}, "update.files.0.name"), ({"files": [{"name": "/"}]}, "update.files.0.name")),
        "'/'",
    ),
    _file("description", "1 to 120 characters", ["a", "é" * 120], ["", "a" * 121], "1 to 120", stricter=True),
    _file("description", "a string", ["a"], [None, *NOT_STRINGS], ""),
    _file("labels", "a list", [[], ["script"]], [None, "script"], ""),
    Case(
        DATA_WORLD,
        "files[].labels: of the provider's",
        ({"files": [{"name": "a", "labels": list(LABELS)}]},),
        (
            ({"files": [{"name": "a", "labels": ["script", "Script"]}]}, "update.files.0.labels.1"),
            ({"files": [{"name": "a", "labels": [None]}]}, "update.files.0.labels.0"),
        ),
        "",
    ),
    Case(
        DATA_WORLD,
        "files[].labels: distinct",
        ({"files": [{"name": "a", "labels": ["script", "report"]}]},),
        (({"files": [{"name": "a", "labels": ["script", "script"]}]}, "update.files.0.labels.1"),),
        "distinct",
    ),
    _file("source", "an object", [{"url": URL}], [None, URL, [{"url": URL}]], ""),
    Case(
        DATA_WORLD,
        "source: unknown fields",
        ({"files": [{"name": "a", "source": {"url": URL}}]},),
        (({"files": [{"name": "a", "source": {"url": URL, "headers": {}}}]}, "update.files.0.source.headers"),),
        "Unknown field",
    ),
    Case(
        DATA_WORLD,
        "source.url: required",
        ({"files": [{"name": "a", "source": {"url": URL}}]},),
        (({"files": [{"name": "a", "source": {"method": "GET"}}]}, "update.files.0.source.url"),),
        "Required",
    ),
    _source("url", "1 to 4096 characters", [{"url": _url(4096)}], [{"url": ""}, {"url": _url(4097)}], ""),
    _source(
        "url",
        "http, https, ftp or ftps",
        [{"url": value} for value in ("http://h/a?b=c#d", "https://h?x", "ftp://[::1]:21", "ftps://u:p@h@dätä.example:8/@?@",
                                    "https://h")],
        [{"url": value} for value in ("HTTPS://example.com", "file:///etc/passwd", "example.com", "https:example.com",
                                    "https://", "https:///a", "javascript:alert(1)", " https://example.com",
                                    "https://u:p/w@h", "https://u:p#w@h", "https://u:p w@h", "https://h:x")],
        "Must be an http",
        stricter=True,
    ),
    _source("url", "not stream", [{"url": URL}], [{"url": "stream://example.com"}], "Must be an http", stricter=True),
    _source("url", "no control characters", [{"url": f"{URL}?q=a b"}], [{"url": f"{URL}\n"}], "Must be an http"),
    _source("method", "GET or POST", [{"method": "GET"}, {"method": "POST"}],
            [{"method": "PUT"}, {"method": "get"}], ""),
    _source("requestHeaders", "an object", [{"requestHeaders": {}}], [{"requestHeaders": "a: b"}], ""),
    Case(
        DATA_WORLD,
        "source.requestHeaders: of strings",
        ({"files": [{"name": "a", "source": {"url": URL, "requestHeaders": {"X-A": "1"}}}]},),
        (
            (
                {"files": [{"name": "a", "source": {"url": URL, "requestHeaders": {"X-A": 1}}}]},
                "update.files.0.source.requestHeaders.X-A",
            ),
        ),
        NOT_A_STRING,
    ),
    _source(
        "requestHeaders",
        "4096 bytes with the URL",
        [{"requestHeaders": _headers(4096)}],
        [{"requestHeaders": _headers(4097)}],
        "at most 4096 bytes, but have 4097",
    ),
    _source(
        "requestEntity",
        "up to 10 000 characters",
        [{"requestEntity": "é" * 10_000, **TYPED}],
        [{"requestEntity": "a" * 10_001, **TYPED}],
        "at most 10000 characters",
    ),
    _source(
        "requestEntity",
        "needs a Content-Type",
        [{"requestEntity": "", **TYPED}],
        [
            {"requestEntity": "a"},
            {"requestEntity": "a", "requestHeaders": {}},
            {"requestEntity": "", "requestHeaders": {"Accept": "text/csv"}},
        ],
        "Content-Type",
    ),
    _source("expandArchive", "true or false", [{"expandArchive": True}, {"expandArchive": False}],
            [{"expandArchive": value} for value in (1, 0, "true", None)], ""),
    _source("authorization", "an object", [{"authorization": {"type": "Bearer"}}], [{"authorization": "Bearer x"}], ""),
    _source(
        "authorization.type",
        "required",
        [{"authorization": {"type": "Bearer", "credentials": "x"}}],
        [{"authorization": {"credentials": "x"}}],
        "Required",
    ),
    _source("authorization.type", "up to 50 characters", [{"authorization": {"type": "a" * 50}}],
            [{"authorization": {"type": "a" * 51}}], "at most 50 characters"),
    _source(
        "authorization.credentials",
        "1 to 1024 characters",
        [{"authorization": {"type": "a", "credentials": value}} for value in ("x", "x" * 1024)],
        [{"authorization": {"type": "a", "credentials": value}} for value in ("", "x" * 1025)],
        "1 to 1024 characters",
    ),
    _source("credentials.user", "required", [{"credentials": {"user": "u"}}], [{"credentials": {"password": "p"}}],
            "Required"),
    _source("credentials.user", "up to 1024 characters", [{"credentials": {"user": "u" * 1024}}],
            [{"credentials": {"user": "u" * 1025}}], "at most 1024 characters"),
    _source(
        "credentials.password",
        "up to 1024 characters",
        [{"credentials": {"user": "u", "password": value}} for value in ("", "p" * 1024)],
        [{"credentials": {"user": "u", "password": "p" * 1025}}],
        "at most 1024 characters",
    ),
    _source("oauthToken", "an object", [{"oauthToken": OAUTH}], [{"oauthToken": UUID}, {"oauthToken": [UUID]}], ""),
    *(
        _source(f"oauthToken.{missing}", "required", [{"oauthToken": OAUTH}],
                [{"oauthToken": {name: value for name, value in OAUTH.items() if name != missing}}], "Required")
        for missing in OAUTH
    ),
    _source("oauthToken.id", "a UUID", [{"oauthToken": {**OAUTH, "id": UUID.upper()}}],
            [{"oauthToken": {**OAUTH, "id": value}} for value in ("", UUID[1:], UUID.replace("-", ""), f"{UUID}\n", 1)],
            ""),
    _one(DATA_WORLD, "properties", "a JSON object or null", [{}, {"a": {"b": [1, None, "c"]}}, None], [[], "a", 1], ""),
    Case(
        DATA_WORLD,
        "update: at least one field",
        ({"tags": []},),
        (({}, "update"),),
        "At least one field",
    ),
    Case(
        DATA_WORLD,
        "update: unknown fields",
        ({"license": "Other"},),
        (({"licence": "Other"}, "update.licence"), ({"owner": "x"}, "update.owner")),
        "Unknown field",
    ),
]  # fmt: skip

REFERENCES = [
    (APIFY, "an id", ["WkzbQMuFYuamGv3YF", "a", "0" * 64],
     ["", "a" * 65, "a-b", "a b", "é", "a/b", "..", "a%2Fb", "a?b"]),
    (
        APIFY,
        "username~dataset-name",
        ["abc~a", f"{'u' * 30}~{'n' * 63}", "a_b.c-d~x-y", "...~a", "~a", f"~{'n' * 63}"],
        ["ab~a", f"{'u' * 31}~a", "abc~", "~", "~~a", "~-a", f"~{'n' * 64}",
         f"abc~{'n' * 64}", "abc~-a", "abc~a-", "abc~a_b", "abc~a~b", "abc/a",
         "abc~a\n", "abc~..", "abc~a#b", "аbc~a", "abc∼a"],
    ),
    (
        DATA_WORLD,
        "owner/id",
        ["abc/def", "a-b/c-d", "a1b/1-2", "aaa/bbb", f"abc/{'d' * 300}"],
        ["", "abc", "abc/", "/abc", "ab/abc", "abc/ab", "abc/def/ghi", "Abc/def", "abc/d_f", "a--b/abc",
         "-ab/abc", "ab-/abc", "abc/..", "../abc", "abc/def\n", "abc/def?x", "abc%2Fdef", "abc/dëf", "abc\\def"],
    ),
]  # fmt: skip
