"""Tests of deploy/samples: each sender has a payload that works with a hook of the sender."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cloud import ROOT
from handlers.senders import SENDERS
from handlers.senders.delivery_id import delivery_id
from schemas.strict_json import parse_object

FOLDER = ROOT / "deploy/samples"
SAMPLES = sorted(path for path in FOLDER.glob("*.json") if path.name != "headers.json")
HEADERS: dict[str, dict[str, str]] = json.loads((FOLDER / "headers.json").read_bytes())

# The maximum size of a sample, in bytes.
MAX_SIZE = 4_000


def headers_of(sender: str) -> dict[str, str]:
    return {name.lower(): value for name, value in HEADERS.get(sender, {}).items()}


def test_samples_exist_for_every_sender() -> None:
    names = {path.stem for path in SAMPLES}
    assert set(SENDERS) <= names
    assert set(HEADERS) <= names


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_is_a_small_json_object(path: Path) -> None:
    raw = path.read_bytes()
    assert len(raw) <= MAX_SIZE
    assert raw.endswith(b"\n")
    assert parse_object(raw)


@pytest.mark.parametrize("sender", SENDERS)
def test_sample_is_no_test_message(sender: str) -> None:
    payload: Any = parse_object((FOLDER / f"{sender}.json").read_bytes())
    assert not SENDERS[sender].is_test_message(headers_of(sender), payload)
    assert "[THIS IS A TEST NOTIFICATION]" not in json.dumps(payload)


@pytest.mark.parametrize(
    "sender", [name for name, sender in SENDERS.items() if sender.id_headers or sender.id_fields], ids=str
)
def test_sample_has_the_delivery_id_of_its_sender(sender: str) -> None:
    payload = parse_object((FOLDER / f"{sender}.json").read_bytes())
    assert delivery_id(SENDERS[sender], headers_of(sender), payload)


@pytest.mark.parametrize("sender", [sender for sender in HEADERS if sender in SENDERS])
def test_sample_headers_have_no_credential(sender: str) -> None:
    assert SENDERS[sender].visible_headers(headers_of(sender)) == headers_of(sender)
