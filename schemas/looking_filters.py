"""The filters that look at an attribute of each item: as Jinja2's, but each item is a step at which the time counts.

Jinja2's compute all their keys in one go, and let an attribute that is missing pass where there is one item.
"""

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from jinja2 import Environment
from jinja2.filters import ignore_case, make_attrgetter, make_multi_attrgetter

from schemas.bounds import Budget, Failed, present
from schemas.own_filters import is_number, several

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


def _extreme(name: str, pick: Callable[..., Any]) -> Callable[..., Any]:
    """The filter `name`: the item that `pick` takes, by itself or by an attribute; missing where there is none."""

    def call(
        environment: Environment,
        budget: Budget,
        value: object,
        case_sensitive: bool = False,
        attribute: str | int | None = None,
    ) -> Any:
        pairs = _pairs(environment, budget, value, name, attribute, case_sensitive)
        found = pick(pairs, key=itemgetter(0), default=None)
        return environment.undefined("There is none, in an empty list.") if found is None else found[1]

    return call


smallest, largest = _extreme("min", min), _extreme("max", max)


def summed(
    environment: Environment, budget: Budget, value: object, attribute: str | int | None = None, start: float = 0
) -> Any:
    """The sum of numbers, or of an attribute of each item."""
    total = _number(start)
    for number, _ in _pairs(environment, budget, value, "sum", attribute, case_sensitive=True):
        total += _number(number)
    return total


def _number(value: Any) -> Any:
    if not is_number(value):
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
