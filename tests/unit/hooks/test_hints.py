"""Tests of handlers.hooks.hints, and of the hints about common mistakes in relay.yaml from all layers."""

from pathlib import Path

import pytest

from handlers.hooks import ConfigError
from tests.support.configuration import load_file

FILE = """\
hooks:
  a:
    sender: github
    secret: s
    updates:
      - provider: data.world
        dataset: acme/products
        update:
          title: x
"""
APIFY = FILE.replace("data.world", "apify").replace("acme/products", "jane~products")
INSIDE_QUOTES = "The value has double quotes inside double quotes, and so ends too early. Put the whole value in single"
IN_QUOTES = "Put the whole value in quotes. In YAML, { begins an object."
NOT_VALID = "Not valid YAML: expected <block end>, but found"
SAME = "The line has the wrong indentation. Begin all keys of an object in the same column."
MORE_INDENTATION = (
    "Not valid YAML: mapping values are not allowed here (column 12). The line has more indentation than line 4, whose "
    "key already has a value. Correct the indentation of one of these lines."
)
HOOK_OUTSIDE = (
    "A hook must be a key of hooks. Write the line hooks: above the hooks, and give each line of a hook more "
    "indentation."
)
RENAME = (
    "9: hook a: updates.0.update.name can work only once: after a change of the name, there is no dataset {}. Refer to "
    "the dataset by its ID."
)
KEY_OF_HOOK = "This is not a hook, but a key of a hook. Give the line more indentation."


def mistakes(folder: Path, text: str) -> list[str]:
    """Return the mistakes in a file: the line, the hook, the path, and the reason."""
    path = folder / "relay.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_file(path)
    return [line.removeprefix(f"{path}:") for line in caught.value.lines]


def notes(folder: Path, text: str) -> list[str]:
    """Return the notes about a valid file."""
    path = folder / "relay.yaml"
    path.write_text(text)
    return [note.removeprefix(f"{path}:") for note in load_file(path).notes(set())]


def test_load_file_without_mistakes_returns_no_note(tmp_path: Path) -> None:
    assert notes(tmp_path, FILE) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # One brace, and the form of GitHub
        ("{ event.x }}", "9: Not valid YAML: expected <block end>, but found '}' (column 29). A template begins"),
        ("'{ event.x }}'", "9: hook a: updates.0.update.title: A template begins with {{, not with {: {{ event.x }}."),
        ("Run { event.x }}", "9: hook a: updates.0.update.title: A template begins with {{, not with {"),
        ("'{{ event.x }'", "9: hook a: updates.0.update.title: Not a valid template: unexpected '}'. A"),
        ("{event.x}", "9: hook a: updates.0.update.title: A template begins with {{, and must be in quotes."),
        ("{{ event.x }}", "9: hook a: updates.0.update.title: A value that begins with {{ must be in quotes."),
        ("{{ event.x }} y", IN_QUOTES),
        ("{{ event.x | limit(3) ~ 'a, b' }}", "9: hook a: updates.0.update.title: A value that begins with {{"),
        ("{% if event.x %}{% endif %}", IN_QUOTES),
        # Comments
        ("{#123}", "In line 9, {# begins an object and a comment. Put the whole value in quotes."),
        ("Ticket {#123}", "Missing end of comment tag. {# begins a comment, up to #}. For the text {#, write"),
        ("'{#123}'", "Missing end of comment tag. {# begins a comment, up to #}. For the text {#, write"),
        # Quotes inside quotes
        ("\"{{ event.t | date(\"%Y\") }}\"", INSIDE_QUOTES),
        ("\"Run {{ event.t | date(\"%Y\") }}.\"", INSIDE_QUOTES),
        ("\"{{ event[\"x\"] }}\"", INSIDE_QUOTES),
        ("'{{ event['x'] }}'", "The value has single quotes inside single quotes"),
        # Names
        ("'{{ event.x | fromJson }}'", 'There is no filter "fromJson". The names of filters are case-sensitive'),
        ("'{{ event.x | regex_replace(\"a\", \"b\") }}'", 'There is no filter "regex_replace". There are no regular'),
        ("'{{ event.x | date(tz=\"Europe/Berln\") }}'", "Did you mean Europe/Berlin?"),
    ],
)  # fmt: skip
def test_load_mistake_in_value_names_mistake(tmp_path: Path, value: str, expected: str) -> None:
    first = mistakes(tmp_path, FILE.replace("title: x", f"title: {value}"))[0]
    assert expected in first
    assert first.startswith("9: ") or "{#" in first


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("evnt.x == 1", 'There is no name "evnt". Did you mean event?'),
        ("event.action == completed", "Write a key of the payload as event.completed, and text in quotes."),
        ("action == 'completed'", "Write a key of the payload as event.action, and text in quotes."),
        ("'{{ event.x }}'", "A condition has no braces: event.x == 'y'."),
        ("'{ event.x }}'", "A condition has no braces: event.x == 'y'."),
        ("${{ event.x }}", "A condition has no braces: event.x == 'y'."),
        ('"event.x == "y""', "If the value contains quotes, use other quotes around it."),
    ],
)
def test_load_mistake_in_condition_names_mistake(tmp_path: Path, when: str, expected: str) -> None:
    (line,) = mistakes(tmp_path, FILE.replace("    updates:", f"    when: {when}\n    updates:"))
    assert line.startswith("5: ")
    assert expected in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Keys of a hook
        (
            FILE.replace("    s", "  s").replace("    updates", "  updates"),
            ["2: hook a: Must not be null.", *(f"{number}: hook {name}: {KEY_OF_HOOK}" for number, name in
             [(3, "sender"), (4, "secret"), (5, "updates")])],
        ),
        (
            "hooks:\n  a:\n    sender: github\n    secret: s\n  updates:\n    - provider: x\n",
            ["2: hook a: updates: Required: add this field.", f"5: hook updates: {KEY_OF_HOOK}"],
        ),
        (
            "hooks:\nevents:\nsender: github\nsecret: s\nname: x\nallow: []\n",
            [
                "2: events: Must not be null.",
                "3: sender: This is a key of a hook. Give the line more indentation.",
                "4: secret: This is a key of a hook. Give the line more indentation.",
                "5: name: Unknown field; the known fields are: events, hooks.",
                "6: allow: This is a key of events. Give the line more indentation.",
            ],
        ),
        # Keys of an update
        (
            FILE.replace("      - ", "    - ").replace("        dataset", "    dataset"
            ).replace("        update", "    update"),
            [
                "6: hook a: updates.0.dataset: Required: add this field.",
                "6: hook a: updates.0.update: Required: add this field.",
                "7: hook a: dataset: This is a key of an item of updates. Give the line more indentation.",
                "8: hook a: update: This is a key of an item of updates. Give the line more indentation.",
            ],
        ),
        (
            FILE.replace("          title", "        title"),
            [
                "8: hook a: updates.0.update: Must not be null.",
                "9: hook a: updates.0.title: This is a key of update. Give the line more indentation.",
            ],
        ),
        # Keys of a part of an update
        (
            FILE.replace("title: x", "files:\n          - name: x\n          labels: []"),
            ["11: hook a: updates.0.update.labels: This is a key of an item of files. Give the line more indentation."],
        ),
        (
            FILE.replace("title: x", "files:\n            - name: x\n              source:\n              url: http://h/"),
            [
                "11: hook a: updates.0.update.files.0.source: Must not be null.",
                "12: hook a: updates.0.update.files.0.url: This is a key of source. Give the line more indentation.",
            ],
        ),
        # YAML itself detects these mistakes.
        (
            FILE.replace("        dataset", "       dataset"),
            [f"7: {NOT_VALID} '<block mapping start>' (column 8). {SAME}"],
        ),
        (FILE.replace("        update", "      update"), [f"8: {NOT_VALID} '?' (column 7). {SAME}"]),
        (FILE.replace("    secret", "  secret"), [f"5: {MORE_INDENTATION}"]),
        # A hook outside hooks
        (FILE.removeprefix("hooks:\n"), [f"1: a: {HOOK_OUTSIDE}"]),
        (FILE + "b:\n  secret: s\n", [f"10: b: {HOOK_OUTSIDE}"]),
    ],
)  # fmt: skip
def test_load_wrong_indentation_names_place(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert sorted(mistakes(tmp_path, text)) == sorted(expected)


@pytest.mark.parametrize(
    "text",
    [
        FILE.replace("  a:", "  secret:"),
        FILE.replace("data.world", "data.wrold").replace("title", "titel"),
        FILE.replace("data.world", "[x]").replace("title: x", "titel: x"),
        FILE.replace("updates:", "update:"),
        FILE.replace("title: x", "files: [{name: x, url: http://h/}]"),
        "sender: github",
        "- a",
        "hooks: []",
        "events: {secret: x, allow: []}",
        "hooks: {a: [], b: {updates: {}}, c: {updates: [x, {update: []}]}}",
    ],
)
def test_load_other_file_has_no_hint_about_indentation(tmp_path: Path, text: str) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(text)
    try:
        load_file(path)
    except ConfigError as error:
        assert "indentation" not in str(error)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("${{ event.x }}", "has a $ before {{. The $ becomes part of the text. The form ${{ … }} is GitHub's."),
        (
            "'a {# b #} c'",
            "has a comment, {# … #}, which is not part of the result. For the text {#, write {{ '{#' }}.",
        ),
        ("'{# {{ event.x }} #}'", "has a comment, {# … #}, which is not part of the result."),
        ("'Run {event.x}'", "is literal text, not a template. Did you mean {{ event.… }}?"),
    ],
)
def test_notes_value_of_probable_mistake_names_mistake(tmp_path: Path, title: str, expected: str) -> None:
    (note,) = notes(tmp_path, FILE.replace("title: x", f"title: {title}"))
    assert note.startswith(f"9: hook a: updates.0.update.title {expected}")


@pytest.mark.parametrize("dataset", ["jane~products", "~products"])
@pytest.mark.parametrize("name", ["products-2", "'{{ event.x }}'", "'products{{ event.x }}'", "null"])
def test_notes_rename_by_name_advises_id(tmp_path: Path, dataset: str, name: str) -> None:
    text = APIFY.replace("jane~products", dataset).replace("title: x", f"name: {name}")
    assert notes(tmp_path, text) == [RENAME.format(dataset)]


@pytest.mark.parametrize(
    "text",
    [
        APIFY.replace("title: x", "name: products"),
        APIFY.replace("title: x", "generalAccess: RESTRICTED"),
        APIFY.replace("title: x", "name: new").replace("jane~products", "WkzbQMuFYuamGv3YF"),
        APIFY.replace("title: x", "name: new").replace("jane~products", "'jane~{{ event.x }}'"),
        APIFY.replace("\n          title: x", " '{{ event.x }}'"),
    ],
)
def test_notes_update_without_certain_rename_returns_no_note(tmp_path: Path, text: str) -> None:
    assert notes(tmp_path, text) == []
