"""Cloud Logging's query language, as far as the runbook and the alerts use it: whether a log entry matches.

https://cloud.google.com/logging/docs/view/logging-query-language
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

#: What an entry is matched by.
Match = Callable[[Mapping[str, Any]], bool]

_SEVERITIES = ["DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"]
_LOG_ID = re.compile(r'log_id\("([^"]+)"\)')


def entry(line: str, service: str = "dataset-relay") -> dict[str, Any]:
    """A line of the function's output, as it lies in Cloud Logging.

    https://cloud.google.com/logging/docs/structured-logging
    """
    common: dict[str, Any] = {
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": service}},
        "logName": "projects/p/logs/run.googleapis.com%2Fstdout",
    }
    try:
        payload = json.loads(line)
    except ValueError:
        return {**common, "severity": "DEFAULT", "textPayload": line}
    special = {name: payload.pop(name) for name in ("severity", "httpRequest") if name in payload}
    return {**common, **special, "jsonPayload": payload}


def parse(query: str) -> Match:
    """What `query` asks for. Raises ValueError for what isn't known here."""
    text = _LOG_ID.sub(r'logId="\1"', re.sub(r"--[^\n]*", "", query))
    tokens: list[str] = re.findall(r'"(?:[^"\\]|\\.)*"|=~|!~|!=|>=|<=|[()=<>:]|[^\s()=<>!:~"]+', text)
    position = 0

    def peek() -> str | None:
        return tokens[position] if position < len(tokens) else None

    def take() -> str:
        nonlocal position
        if position >= len(tokens):
            raise ValueError(f"ends too soon: {query}")
        position += 1
        return tokens[position - 1]

    def either(part: Callable[[], Match]) -> Match:
        parts = [part()]
        while peek() == "OR":
            take()
            parts.append(part())
        return lambda found: any(each(found) for each in parts)

    def term() -> Match:
        if peek() in ("NOT", "-"):
            take()
            inner = term()
            return lambda found: not inner(found)
        if peek() == "(":
            take()
            inner = every()
            if take() != ")":
                raise ValueError(f"a bracket is open: {query}")
            return inner
        path, operator = take(), take()
        if peek() != "(":
            return _compare(path, operator, take())
        take()
        values = either(lambda: _compare(path, operator, take()))
        if take() != ")":
            raise ValueError(f"a bracket is open: {query}")
        return values

    def every() -> Match:
        parts = [either(term)]
        while peek() not in (None, ")"):
            # Lines below each other are joined by AND; OR binds tighter than AND.
            if peek() == "AND":
                take()
            parts.append(either(term))
        return lambda found: all(each(found) for each in parts)

    match = every()
    if peek() is not None:
        raise ValueError(f"what is {peek()}? {query}")
    return match


def _compare(path: str, operator: str, quoted: str) -> Match:
    wanted = json.loads(quoted) if quoted.startswith('"') else quoted
    if operator not in ("=", "!=", ":", "=~", ">=", "<=", ">", "<"):
        raise ValueError(f"what is {operator}?")

    def holds(value: Any) -> bool:
        if path == "severity":
            value, limit = _SEVERITIES.index(value), _SEVERITIES.index(wanted)
            return _ordered(operator, value, limit)
        if operator in ("=", "!="):
            return (str(value).lower() == str(wanted).lower()) is (operator == "=")
        if operator == ":":
            return wanted == "*" or str(wanted).lower() in str(value).lower()
        if operator == "=~":
            return re.search(wanted, str(value)) is not None
        return _ordered(operator, float(value), float(wanted))

    return lambda found: any(holds(value) for value in _values(found, path.split(".")))


def _ordered(operator: str, value: float, limit: float) -> bool:
    return {
        "=": value == limit, "!=": value != limit, ">=": value >= limit, "<=": value <= limit,
        ">": value > limit, "<": value < limit,
    }[operator]  # fmt: skip


def _values(found: Any, path: list[str]) -> list[Any]:
    """What is at `path`; of a list, each element's."""
    if isinstance(found, list):
        return [value for each in found for value in _values(each, path)]
    if not path:
        return [] if found is None else [found]
    if path == ["logId"]:
        return [found["logName"].rpartition("/logs/")[2].replace("%2F", "/")]
    return _values(found.get(path[0]), path[1:]) if isinstance(found, Mapping) else []
