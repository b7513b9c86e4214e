"""The part of Cloud Logging's query language that the runbook and the alerts use.

https://cloud.google.com/logging/docs/view/logging-query-language
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

#: Return whether a log entry matches a query.
Match = Callable[[Mapping[str, Any]], bool]

_SEVERITIES = ["DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"]
_LOG_ID = re.compile(r'log_id\("([^"]+)"\)')
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|=~|!~|!=|>=|<=|[()=<>:]|[^\s()=<>!:~"]+')


def log_entry(line: str, service: str = "dataset-relay") -> dict[str, Any]:
    """Return the log entry that Cloud Logging makes of a line of the function's output.

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
    """Return the function that applies `query` to a log entry.

    Raises:
        ValueError: The query has a syntax error, or uses a part of the language that this module doesn't support.
    """
    parser = _Parser(query)
    match = parser.conjunction()
    if parser.next_token() is not None:
        raise ValueError(f"{parser.next_token()} is unexpected in: {query}")
    return match


class _Parser:
    """A recursive descent parser. OR binds tighter than AND, and lines are joined by AND."""

    def __init__(self, query: str) -> None:
        self._query = query
        without_comments = re.sub(r"--[^\n]*", "", query)
        self._tokens: list[str] = _TOKEN.findall(_LOG_ID.sub(r'logId="\1"', without_comments))
        self._position = 0

    def next_token(self) -> str | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def conjunction(self) -> Match:
        terms = [self._disjunction(self._term)]
        while self.next_token() not in (None, ")"):
            if self.next_token() == "AND":
                self._take()
            terms.append(self._disjunction(self._term))
        return lambda entry: all(term(entry) for term in terms)

    def _disjunction(self, operand: Callable[[], Match]) -> Match:
        operands = [operand()]
        while self.next_token() == "OR":
            self._take()
            operands.append(operand())
        return lambda entry: any(operand(entry) for operand in operands)

    def _term(self) -> Match:
        if self.next_token() in ("NOT", "-"):
            self._take()
            negated = self._term()
            return lambda entry: not negated(entry)
        if self.next_token() == "(":
            self._take()
            return self._closed(self.conjunction())
        path, operator = self._take(), self._take()
        if self.next_token() != "(":
            return _comparison(path, operator, self._take())
        self._take()
        return self._closed(self._disjunction(lambda: _comparison(path, operator, self._take())))

    def _closed(self, match: Match) -> Match:
        if self._take() != ")":
            raise ValueError(f"a closing bracket is missing in: {self._query}")
        return match

    def _take(self) -> str:
        token = self.next_token()
        if token is None:
            raise ValueError(f"the query ends too early: {self._query}")
        self._position += 1
        return token


def _comparison(path: str, operator: str, literal: str) -> Match:
    wanted = json.loads(literal) if literal.startswith('"') else literal
    if operator not in ("=", "!=", ":", "=~", ">=", "<=", ">", "<"):
        raise ValueError(f"the operator {operator} is not supported")

    def compare(value: Any) -> bool:
        if path == "severity":
            return _in_order(operator, _SEVERITIES.index(value), _SEVERITIES.index(wanted))
        if operator in ("=", "!="):
            return (str(value).lower() == str(wanted).lower()) is (operator == "=")
        if operator == ":":
            return wanted == "*" or str(wanted).lower() in str(value).lower()
        if operator == "=~":
            return re.search(wanted, str(value)) is not None
        return _in_order(operator, float(value), float(wanted))

    return lambda entry: any(compare(value) for value in _values(entry, path.split(".")))


def _in_order(operator: str, value: float, limit: float) -> bool:
    return {
        "=": value == limit, "!=": value != limit, ">=": value >= limit, "<=": value <= limit,
        ">": value > limit, "<": value < limit,
    }[operator]  # fmt: skip


def _values(entry: Any, path: list[str]) -> list[Any]:
    """Return the values at `path`. A path through a list leads into every element."""
    if isinstance(entry, list):
        return [value for element in entry for value in _values(element, path)]
    if not path:
        return [] if entry is None else [entry]
    if path == ["logId"]:
        return [entry["logName"].rpartition("/logs/")[2].replace("%2F", "/")]
    return _values(entry.get(path[0]), path[1:]) if isinstance(entry, Mapping) else []
