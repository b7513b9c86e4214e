"""Hypothesis strategies for JSON values and for almost valid events."""

from typing import Any

from hypothesis import strategies as st

from schemas.strict_json import JSON

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=70)
    | st.sampled_from(
        ["", "a" * 64, "a" * 30_000, "http://x", "~", "/", "a/b", "OPEN", "apify", "data.world", "\0", "-"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=10,
)
JSON_OBJECTS = st.dictionaries(st.text(), JSON_VALUES, max_size=5)

#: A valid event of each provider, with every field.
VALID_EVENTS: list[dict[str, JSON]] = [
    {"provider": "apify", "dataset": "jane~a", "update": {"name": "b", "generalAccess": "RESTRICTED"}},
    {
        "provider": "data.world",
        "dataset": "acme/products",
        "id": "run-1",
        "type": "done",
        "time": "2026-11-22T08:30:00Z",
        "update": {
            "title": "Products",
            "description": "x",
            "summary": "# x",
            "tags": ["ab", "cd"],
            "license": "CC-BY",
            "visibility": "OPEN",
            "files": [
                {
                    "name": "a.csv",
                    "labels": ["raw data"],
                    "description": "x",
                    "source": {
                        "url": "https://user:CANARY-password@example.com/a.csv?x=1",
                        "method": "POST",
                        "requestHeaders": {"Content-Type": "text/csv", "Authorization": "Bearer CANARY-token"},
                        "requestEntity": "a=b",
                        "authorization": {"type": "Bearer", "credentials": "CANARY-credentials"},
                        "credentials": {"user": "u", "password": "CANARY-password"},
                        "expandArchive": True,
                    },
                }
            ],
            "properties": {"a": [1, None, {"b": 1.5}]},
        },
    },
]


def _paths(value: JSON, parent: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of `value` and of everything in it."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [parent, *(path for key, member in members for path in _paths(member, (*parent, key)))]


def _changed(value: Any, path: tuple[Any, ...], replacement: Any, change: str) -> Any:
    """Return a copy of `value` with a change at `path`: "replace", "remove", or "add" next to `path`."""
    if not path:
        return replacement
    copy = dict(value) if isinstance(value, dict) else list(value)
    key = path[0]
    if len(path) > 1:
        copy[key] = _changed(value[key], path[1:], replacement, change)
    elif change == "replace":
        copy[key] = replacement
    elif change == "remove":
        del copy[key]
    elif isinstance(copy, dict):
        copy[replacement if isinstance(replacement, str) else "x"] = replacement
    else:
        copy.append(replacement)
    return copy


@st.composite
def almost_valid_events(draw: st.DrawFn) -> Any:
    """Draw a valid event with one to three changes."""
    event: Any = draw(st.sampled_from(VALID_EVENTS))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths(event)))
        event = _changed(event, path, draw(JSON_VALUES), draw(st.sampled_from(["replace", "remove", "add"])))
    return event
