"""The filters that look at an attribute of each item: as Jinja2's, but each item is a step at which the time counts.

Jinja2's compute all their keys in one go, and let an attribute that is missing pass where there is one item.
"""

from collections.abc import Iterator
from typing import Any

from jinja2 import Environment
from jinja2.filters import ignore_case, make_attrgetter, make_multi_attrgetter

from schemas.bounds import Budget, Failed, present
from schemas.own_filters import several

#: Where an attribute stands among the arguments.
ATTRIBUTE_AT = {"sort": 2, "min": 1, "max": 1, "sum": 0}


def sort(
    environment: Environment,
    budget: Budget,
    value: object,
    reverse: bool = False,
    case_sensitive: bool = False,
    attribute: str | int | None = None,
) -> list[Any]:
    """The items in order, by themselves or by attributes with a ',' between; upper case like lower, unless told."""
    items = several(value, "sort")
    budget.room(len(items) * (str(attribute).count(",") + 1))
    get = make_multi_attrgetter(environment, attribute, postprocess=None if case_sensitive else ignore_case)
    keys = []
    for each in items:
        budget.check()
        keys.append(get(each))
        present(*keys[-1])
    return [items[position] for position in sorted(range(len(items)), key=keys.__getitem__, reverse=bool(reverse))]


def smallest(
    environment: Environment,
    budget: Budget,
    value: object,
    case_sensitive: bool = False,
    attribute: str | int | None = None,
) -> Any:
    """The smallest item, by itself or by an attribute; missing where there is none."""
    pairs = _pairs(environment, budget, value, "min", attribute, case_sensitive)
    return _value(environment, min(pairs, key=lambda pair: pair[0], default=None))


def largest(
    environment: Environment,
    budget: Budget,
    value: object,
    case_sensitive: bool = False,
    attribute: str | int | None = None,
) -> Any:
    """The largest item, by itself or by an attribute; missing where there is none."""
    pairs = _pairs(environment, budget, value, "max", attribute, case_sensitive)
    return _value(environment, max(pairs, key=lambda pair: pair[0], default=None))


def summed(
    environment: Environment, budget: Budget, value: object, attribute: str | int | None = None, start: float = 0
) -> Any:
    """The sum of numbers, or of an attribute of each item."""
    total = _number(start)
    for number, _ in _pairs(environment, budget, value, "sum", attribute, case_sensitive=True):
        total += _number(number)
    return total


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Failed("sum: sums numbers.")
    return value


def _pairs(
    environment: Environment, budget: Budget, value: object, name: str, attribute: Any, case_sensitive: bool
) -> Iterator[tuple[Any, Any]]:
    """Each item behind what it is judged by."""
    get = make_attrgetter(environment, attribute, postprocess=None if case_sensitive else ignore_case)
    for each in several(value, name):
        budget.check()
        key = get(each)
        present(key)
        yield key, each


def _value(environment: Environment, pair: tuple[Any, Any] | None) -> Any:
    return environment.undefined("There is none, in an empty list.") if pair is None else pair[1]
