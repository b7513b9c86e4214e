"""Tests of handlers.hooks.templates.sandbox: mistakes in a template, and attacks by a payload."""

import json
import resource
import subprocess
import sys
import time

import pytest

from deploy.local.cloud import ROOT
from handlers.hooks.templates.limits import Budget, RenderError
from handlers.hooks.templates.sandbox import TemplateMistakeError
from handlers.hooks.templates.template import compile_template
from schemas.strict_json import JSON
from tests.support.templates import EVENT, HEADERS, LIMIT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Names
        ("{{ evnt.x }}", 'There is no name "evnt". Did you mean event?'),
        (
            "{{ x }}",
            "The names are: event, headers. Write a key of the payload as event.x, and text in quotes.",
        ),
        ("{{ Event.x }}", "Did you mean event?"),
        ("{{ self }}", 'There is no name "self".'),
        ("{{ loop.index }}", 'There is no name "loop".'),
        ("{{ range }}", 'There is no name "range".'),
        ("{{ lipsum.__globals__ }}", 'There is no name "lipsum".'),
        ("{{ null }}", "Did you mean none?"),
        ("{{ event.x if undefined else 1 }}", "Did you mean is defined?"),
        ("{{ headers.x-github-event }}", "Put a name with a '-' in brackets: headers['x-name']."),
        ("{{ headers.x-event }}", "in brackets"),
        ("{{ event.full-name }}", "in brackets"),
        ("{% set a = 1 %}{{ headers.x-a }}", "in brackets"),
        ("{{ event.a - event.b - nothing }}", "in brackets"),
        ("{{ 1 - nothing }}", "in brackets"),
        ("{{ headers['X-GitHub-Event'] }}", 'Write the names of headers in lowercase: headers["x-github-event"].'),
        (
            "{% if event.x %}{% set y = 1 %}{% endif %}{{ y }}",
            '"y" isn\'t always set. Set the name before the if, too.',
        ),
        ("{% for loop in event %}{% endfor %}", "Not a valid template: Can't assign to special loop variable"),
        # Syntax
        ("{{ event.x ", "Not a valid template: unexpected end of template"),
        ("{% if event.x %}", "Not a valid template: Unexpected end of template"),
        ("{% " + "x" * 1000 + " %}", "Not a valid template: Encountered unknown tag"),
        ("{{ 'a' if event.x }}", "An inline if needs an else: 'a' if event.x else ''."),
        ("{{ event.get('x') }}", "A template can't call anything, as in get(). Use a path or map"),
        ("{{ event.x.upper() }}", "A template can't call anything, as in upper(). Use a filter: x | upper."),
        ("{{ now() }}", "as in now(). A template can't read the clock."),
        ("{{ fromJSON(event.x) }}", "as in fromJSON(). The names of filters are case-sensitive: write fromjson."),
        ("{{ f(event.x) }}", "as in f(). Use a filter: x | upper, x | length"),
        ("{{ event[0]() }}", "A template can't call anything. Use a filter: x | upper"),
        ("{{ event.x }", "unexpected '}'. A template ends with }}."),
        ("{{ event.x }\n", "unexpected '}'. A template ends with }}."),
        ("a\n{{ event.x }", "unexpected '}' (line 2). A template ends with }}."),
        ("{% event.x %}", "{% begins a statement. To insert a value, write {{ … }}."),
        ("Ticket {#123}", "{# begins a comment, up to #}. For the text {#, write {{ '{#' }}."),
        ("Run { event.x }}", "A template begins with {{, not with {: {{ event.x }}."),
        ("{headers['x']}}", "A template begins with {{, not with {"),
        ("{{ event.y }}{ event.x | upper }}", "A template begins with {{, not with {"),
        ("{% include 'x' %}", "Include isn't available in templates."),
        ("{% from 'os' import system %}", "FromImport isn't available in templates."),
        ("{% extends event.text %}", "Extends isn't available in templates."),
        ("{% macro m() %}x{% endmacro %}", "Macro isn't available in templates."),
        ("{% set x %}y{% endset %}", "AssignBlock isn't available in templates."),
        ("{% filter upper %}x{% endfilter %}", "FilterBlock isn't available in templates."),
        ("{% for a in event.list recursive %}{{ loop(event.list) }}{% endfor %}", "A template can't call anything"),
        # Filters and tests
        ("{{ event.x | dat }}", 'There is no filter "dat". Did you mean date?'),
        ("{% if event.x %}{{ event.x | dat }}{% endif %}", 'There is no filter "dat". Did you mean date?'),
        ("{{ event.x | zzz }}", 'There is no filter "zzz". The filters are: abs, apify_name, capitalize,'),
        ("{{ event.x | attr('__class__') }}", 'There is no filter "attr".'),
        ("{{ event.x is defind }}", 'There is no test "defind". Did you mean defined?'),
        ("{{ event.x is eq }}", "The test eq doesn't accept these arguments."),
        ("{{ 1e999 }}", "A number in the template is out of range."),
        ("{{ event.x is divisibleby(num=3, x=4) }}", "The test divisibleby doesn't accept these arguments."),
        ("{{ event.x | limit }}", "The filter limit doesn't accept these arguments."),
        ("{{ event.x | upper(1) }}", "The filter upper doesn't accept these arguments."),
        ("{{ event.x | join(', ', attribute='name') }}", "The filter join doesn't accept these arguments."),
        ("{{ event.x | tojson(indent=2) }}", "The filter tojson doesn't accept these arguments."),
        ("{{ event.x | default(*event.y) }}", "The filter default doesn't accept these arguments."),
        ("{{ event.x | default(**event.y) }}", "The filter default doesn't accept these arguments."),
        ("{{ event.x | date('%05d') }}", "date: the format must be like '%Y-%m-%d'"),
        ("{{ event.x | date('YYYY-MM-DD') }}", "date: the format must be like '%Y-%m-%d'"),
        ("{{ event.x | date(format='YYYY') }}", "date: the format must be like '%Y-%m-%d'"),
        ("{{ event.x | map('date', '%Q') | list }}", "date: the format must be like '%Y-%m-%d'"),
        ("{{ event.x | date('%Y', tz='Europe/Berln') }}", 'no time zone "Europe/Berln". Did you mean Europe/Berlin?'),
        ("{{ event.x | date(tz='europe/berlin') }}", 'no time zone "europe/berlin". Did you mean Europe/Berlin?'),
        ("{{ event.x | date('%Y', 'Asia/Tokio') }}", 'no time zone "Asia/Tokio". Did you mean Asia/Tokyo?'),
        ("{{ event.x | date(tz='%') }}", "date: there is no time zone with this name."),
        ("{{ event.x | date(tz=3) }}", "date: there is no time zone with this name."),
        ("{{ event.x | map('date', tz='Mars') | list }}", "date: there is no time zone"),
        ("{{ event.x | fromJson }}", "The names of filters are case-sensitive: write fromjson."),
        ("{{ event.x | to_json }}", 'There is no filter "to_json". The name here is different: write tojson.'),
        ("{{ event.x | map('slugify') | list }}", 'There is no filter "slugify". Use apify_name'),
        ("{{ event.x | map('uppr') | list }}", 'There is no filter "uppr". Did you mean upper?'),
        ("{{ event.x | select('strng') | list }}", 'There is no test "strng". Did you mean string?'),
        ("{{ event.x | selectattr('a', 'equals', 1) | list }}", 'There is no test "equals".'),
        # A payload can't choose a filter, a test, or an attribute.
        ("{{ event.x | map(event.y) | list }}", "The attributes, filters, and tests of map must be literals"),
        ("{{ event.x | map(attribute=event.y) | list }}", "The attributes, filters, and tests of map must be literals"),
        ("{{ event.x | select(event.y) | list }}", "The attributes, filters, and tests of select must be literals"),
        (
            "{{ event.x | selectattr('a', event.y) | list }}",
            "The attributes, filters, and tests of selectattr must be literals",
        ),
        ("{{ event.x | sum(event.y) }}", "The attributes, filters, and tests of sum must be literals"),
        ("{{ event.x | sort(attribute=event.y) }}", "The attributes, filters, and tests of sort must be literals"),
        ("{{ event.x | map('sort', false, false, event.y) | list }}", 'There is no filter "sort".'),
        ("{{ event.x | map('attr', '__class__') | list }}", 'There is no filter "attr".'),
        ("{{ event.x | map('=charge') | list }}", 'There is no filter "=charge".'),
    ],
)
def test_parse_mistake_names_reason_and_remedy(text: str, message: str) -> None:
    with pytest.raises(TemplateMistakeError) as caught:
        compile_template(text, LIMIT)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "text",
    [
        "{{ " + "9" * 5000 + " }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "[" * 300 + "]" * 300 + " }}",
        "{{ event" + ".a" * 5000 + " }}",
        "{{ 1" + " + 1" * 5000 + " }}",
        "{% if event %}" * 500 + "{% endif %}" * 500,
        "{% for a in event %}" * 60 + "{% endfor %}" * 60,
        "{{ event[1:2, 3] }}",
    ],
    ids=lambda text: text[:20],
)
def test_compile_template_too_large_raises(text: str) -> None:
    with pytest.raises(TemplateMistakeError, match="Not a valid template"):
        compile_template(text, LIMIT)


# Attacks. No payload makes a template reach anything but the payload, or end the process.

#: The maximum size of a value in the attacks, in characters. PAYLOAD is larger: each value is within the limit.
SIZE = 262_144
PAYLOAD: dict[str, JSON] = {
    **EVENT,
    "n": 10**9,
    "thousand": 1000,
    "huge": 10**300,
    "long": "a" * 200_000,
    "marks": "a" + "\u0301" * 90_000 + "\u0323" * 90_000,
    "ligatures": "\ufdfa" * 200_000,
    "zeros": [0] * 60_000,
    "equal": [0] * 60_000,
    "nulls": [None] * 1000,
    "items": [{"a": 1}] * 1000,
    "same_hash": [number * (2**61 - 1) for number in range(1, 40_000)],
    "lists": [[0]] * 60_000,
    "dunder": "__class__",
    "spaces": "a " * 100_000,
    "brackets": "[" * 100_000,
    "json": "[" + "[], " * 50_000 + "0]",
    "zone": "../../etc/passwd",
}
LIMIT_ERROR, MISSING, FAILURE, NO_ERROR = "RenderLimitError", "MissingKeyError", "RenderError", "no error"
#: Templates that a trusted author could write, and the error for PAYLOAD.
ATTACKS = {
    # Operators
    "{{ 'a' * event.n }}": LIMIT_ERROR,
    "{{ event.n * 'a' }}": LIMIT_ERROR,
    "{{ [1] * event.n }}": LIMIT_ERROR,
    "{{ [event.zeros] * event.thousand }}": LIMIT_ERROR,
    "{{ ([event.zeros] * event.thousand) == ([event.equal] * event.thousand) }}": LIMIT_ERROR,
    "{{ [event.huge] * 500000 }}": LIMIT_ERROR,
    "{{ 2 ** event.n }}": LIMIT_ERROR,
    "{{ event.huge ** event.thousand }}": LIMIT_ERROR,
    "{{ event.huge * event.huge }}": LIMIT_ERROR,
    "{{ 2 ** -event.n }}": NO_ERROR,
    "{{ event.padding % 1 }}": FAILURE,
    "{{ event.long ~ event.long }}": LIMIT_ERROR,
    "{{ event.zeros ~ event.zeros ~ event.zeros }}": LIMIT_ERROR,
    "{{ event.zeros + event.zeros + event.zeros }}": LIMIT_ERROR,
    # Tests
    "{{ event.padding is odd }}": FAILURE,
    "{{ [event.padding] | select('even') | list }}": FAILURE,
    # Filters
    "{{ event.time | date(event.padding) }}": FAILURE,
    "{{ event.long | date }}": FAILURE,
    "{{ 1 | round(event.n) }}": FAILURE,
    "{{ 1 | round(-event.n) }}": FAILURE,
    "{{ event.long | limit(event.n) | length }}": NO_ERROR,
    "{{ event.marks | apify_name }}": NO_ERROR,
    "{{ event.ligatures | apify_name }}": FAILURE,
    "{{ event.same_hash | unique | length }}": LIMIT_ERROR,
    "{{ event.long | trim(event.long) }}": FAILURE,
    "{{ event.long | replace('a', event.long) }}": LIMIT_ERROR,
    "{{ event.long | replace('', event.long) }}": LIMIT_ERROR,
    "{{ event.long | list | join(event.long) }}": LIMIT_ERROR,
    "{{ event.long | urlencode | urlencode }}": NO_ERROR,
    "{{ event.marks | urlencode | length }}": LIMIT_ERROR,
    "{{ event.long | title | wordcount }}": NO_ERROR,
    "{{ event.zeros | map('replace', '0', event.long) | list }}": LIMIT_ERROR,
    "{{ event.nulls | map('default', event.long, true) | list }}": LIMIT_ERROR,
    "{{ event.nulls | map('default', event.zeros, true) | list }}": LIMIT_ERROR,
    "{{ event.long | split('a') | length }}": LIMIT_ERROR,
    "{{ event.long | split(event.long ~ 'b') | length }}": NO_ERROR,
    "{{ event.spaces | split | length }}": LIMIT_ERROR,
    "{{ event.brackets | fromjson }}": FAILURE,
    "{{ event.json | fromjson | length }}": NO_ERROR,
    "{{ [event.json] * 1 | map('fromjson') | length }}": FAILURE,
    "{% for a in event.nulls %}{% set b = event.json | fromjson %}{% endfor %}": LIMIT_ERROR,
    "{{ event.ligatures | tags }}": NO_ERROR,
    "{{ event.marks | list | tags }}": LIMIT_ERROR,
    "{{ event.long | list | tags }}": LIMIT_ERROR,
    "{{ event.time | date(tz=event.long) }}": FAILURE,
    "{{ event.time | date(tz=event.zone) }}": FAILURE,
    "{{ event.zeros | sum(start=event.lists) }}": FAILURE,
    "{{ event.lists | sum }}": FAILURE,
    "{{ event.zeros | sort(attribute='z') }}": MISSING,
    "{{ event.zeros | sort | length }}": NO_ERROR,
    "{{ event.zeros | select('in', event.zeros) | list | length }}": NO_ERROR,
    "{{ event.long | int(0, 36) }}": NO_ERROR,
    "{{ event.long | int(0, 16) }}": LIMIT_ERROR,
    # Loops
    "{% for a in event.long %}{% endfor %}": LIMIT_ERROR,
    "{% for a in event.nulls %}{% for b in event.nulls %}{% endfor %}{% endfor %}": LIMIT_ERROR,
    "{% for a in event.nulls %}{{ event.long }}{% endfor %}": LIMIT_ERROR,
    "{% for a in event.nulls %}{% set b = event.long ~ a %}{% endfor %}": LIMIT_ERROR,
    "{% for a in event.nulls %}{% if 1 in event.zeros %}{% endif %}{% endfor %}": LIMIT_ERROR,
    # Attributes of Python objects
    "{{ event.__class__ }}": MISSING,
    "{{ event['__class__'] }}": MISSING,
    "{{ event[event.dunder] }}": MISSING,
    "{{ event.text[event.dunder] }}": MISSING,
    "{{ event.list | map(attribute='__class__') | list }}": MISSING,
    "{{ event.keys | sort(attribute='__class__.__mro__') }}": MISSING,
    "{{ event.list | selectattr('__class__') | list }}": MISSING,
    "{% for a in event.list %}{{ loop._iterator }}{% endfor %}": MISSING,
    "{% for a in event.list %}{{ loop[event.dunder] }}{% endfor %}": MISSING,
    "{% for a in event.list %}{{ loop }}{% endfor %}": FAILURE,
    # Only the author can cause these, but they have to end.
    "{{ 'a' * 400000000 }}": LIMIT_ERROR,
    "{{ 9 ** (9 ** 9) }}": LIMIT_ERROR,
    "{% set a = 'a' %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}": LIMIT_ERROR,
    "{% set a = ['a'] %}" + "{% set a = a + a %}" * 60 + "{{ a }}": LIMIT_ERROR,
    "{% set a = {} %}" + "{% set a = {'a': a, 'b': a} %}" * 60 + "{{ a }}": LIMIT_ERROR,
    "{% set a = ['a'] %}{% set b = ['a'] %}" + "{% set a = [a, a] %}{% set b = [b, b] %}" * 60 + "{{ a == b }}":
        LIMIT_ERROR,
}  # fmt: skip

PROGRAM = """
import json, resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from tests.unit.hooks.templates.test_sandbox import ATTACKS, attack
for text in ATTACKS:
    print(json.dumps([text, attack(text)]), flush=True)
"""


def attack(text: str) -> str:
    """Render a template with PAYLOAD until a short deadline, and return the class of the error."""
    end = time.monotonic() + 0.3
    try:
        budget = Budget(SIZE, expired=lambda: time.monotonic() > end)
        compile_template(text, LIMIT).render({"event": PAYLOAD, "headers": HEADERS}, budget)
        return NO_ERROR
    except RenderError as error:
        assert len(str(error)) < 300
        return type(error).__name__


def test_render_attack_ends_with_error() -> None:
    """The process has 1 GB of memory. The time limit only ends a test that hangs."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-3000:]
    errors = dict(map(json.loads, done.stdout.splitlines()))
    assert list(errors) == list(ATTACKS)
    for text, expected in ATTACKS.items():
        # A slow machine needs longer than the deadline for a template that is no error.
        assert errors[text] in ({NO_ERROR, LIMIT_ERROR} if expected == NO_ERROR else {expected}), text


def test_attack_program_limits_memory() -> None:
    program = PROGRAM.partition("from tests")[0] + "bytearray(2 << 30)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr
    assert resource.RLIMIT_AS
