"""Tests of handlers.hooks.templates.filter_names."""

from collections import Counter

import pytest

from handlers.hooks.templates.filter_names import _NAMES, _REMEDIES, remedy_for
from handlers.hooks.templates.filters import FILTERS
from handlers.hooks.templates.sandbox import TemplateMistakeError
from handlers.hooks.templates.template import compile_template


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("fromJson", "The names of filters are case-sensitive: write fromjson."),
        ("fromJSON", "The names of filters are case-sensitive: write fromjson."),
        ("toJSON", "The names of filters are case-sensitive: write tojson."),
        ("Date", "The names of filters are case-sensitive: write date."),
        ("to_json", "The name here is different: write tojson."),
        ("from_json", "The name here is different: write fromjson."),
        ("apifyName", "The name here is different: write apify_name."),
        ("regex_replace", "There are no regular expressions. Use replace for a fixed text"),
        ("regex_search", "There are no regular expressions. Use split"),
        ("strftime", "Use date: event.x | date('%Y-%m-%d', tz='Europe/Berlin')."),
        ("formatDate", "Use date:"),
        ("to_datetime", "Use date:"),
        ("now", "A template can't read the clock."),
        ("slugify", "Use apify_name for the name of a dataset on Apify, and tags for tags on data.world."),
        ("truncate", "Use limit: event.x | limit(60, '…')."),
        ("b64decode", "There is no filter that encodes, decodes, or hashes a text."),
        ("community.general.json_query", "Use a path or map"),
        ("ternary", "Use an inline if"),
        ("default_if_none", "Use default, which replaces null, too"),
        ("startsWith", "Use a range of characters"),
        ("groupby", "There is no filter for this purpose."),
    ],
)
def test_remedy_for_name_of_other_tool_names_filter(name: str, remedy: str) -> None:
    assert (remedy_for(name, FILTERS) or "").startswith(remedy)


def test_remedy_for_unknown_name_returns_none() -> None:
    assert remedy_for("zzz", FILTERS) is None


def test_remedies_each_name_has_one_remedy() -> None:
    names = [name for names in _NAMES.values() for name in names.split()]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_remedies_no_name_is_a_filter() -> None:
    assert {name.replace("_", "") for name in FILTERS} & set(_REMEDIES) == set()
    assert all(name == name.lower() and "_" not in name for name in _REMEDIES)


@pytest.mark.parametrize("name", sorted(_REMEDIES))
def test_compile_template_name_of_other_tool_gives_remedy(name: str) -> None:
    with pytest.raises(TemplateMistakeError) as caught:
        compile_template(f"{{{{ event.x | {name} }}}}", 1000)
    assert str(caught.value) == f'There is no filter "{name}". {_REMEDIES[name]}'
