"""The modules that a start imports: each import makes a cold start longer."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from deploy.local.cloud import ROOT, free_port

# functions-framework and its server import their own modules before main.py. The probe counts only later imports.
PROBE = """
import json, os, sys
import functions_framework._cli, functions_framework._http.gunicorn

def new_packages():
    global before
    names = {name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
    before = set(sys.modules)
    return sorted(name for name in names if name[0].isalpha() and "__mypyc" not in name)

before = set(sys.modules)
import main
result = [new_packages()]
from handlers.deadline import Deadline
from handlers.secret_store.store import SecretStore, create_fetchers
from schemas.secret_reference import SecretReference
store = SecretStore(create_fetchers(os.environ, os.environ["SECRET_MANAGER_EMULATOR_HOST"]), 300)
store.get(SecretReference("env", "TOKEN"), Deadline.after(60))
result.append(new_packages())
try:
    store.get(SecretReference("manager", "projects/p/secrets/s/versions/latest"), Deadline.after(5))
except Exception:
    pass
result.append(new_packages())
print(json.dumps(result))
"""
PRODUCT = {"handlers", "main", "schemas"}
#: The libraries for a call and a schema. Of Jinja2, the framework imports all but the sandbox.
LIBRARIES = {"requests", "urllib3", "certifi", "charset_normalizer", "idna", "pycurl", "marshmallow", "jinja2"}
#: Libraries of the tests that the libraries of the function import where they are installed; Cython's runtime.
OPTIONAL = {"chardet", "backports", "cython_runtime"}


def imported_packages(**settings: str) -> Sequence[set[str]]:
    """Return the packages that are imported at startup, with the first variable, and with the first secret."""
    environ = {
        "PATH": os.environ["PATH"],
        "TOKEN": "CANARY-token",
        "HOOK_SECRET": "CANARY-hook-secret",
        "APIFY_TOKEN": "env:TOKEN",
        "RELAY_SECRET": "env:TOKEN",
        "SECRET_MANAGER_EMULATOR_HOST": f"127.0.0.1:{free_port()}",
        **settings,
    }
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [set(packages) for packages in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture(scope="module")
def without_hooks() -> Sequence[set[str]]:
    return imported_packages()


def test_startup_without_hooks_imports_only_needed_libraries(without_hooks: Sequence[set[str]]) -> None:
    at_startup, _, _ = without_hooks
    assert at_startup - PRODUCT - OPTIONAL <= LIBRARIES


def test_startup_with_hook_imports_yaml_in_addition(tmp_path: Path) -> None:
    update = {"provider": "apify", "dataset": "abc", "update": {"name": None}}
    hooks = {"build": {"sender": "token", "secret": "env:HOOK_SECRET", "updates": [update]}}
    config = tmp_path / "relay.yaml"
    config.write_text(yaml.safe_dump({"hooks": hooks}))
    at_startup, _, _ = imported_packages(RELAY_CONFIG=str(config))
    assert at_startup - PRODUCT - OPTIONAL <= LIBRARIES | {"yaml"}


def test_secret_in_variable_imports_nothing(without_hooks: Sequence[set[str]]) -> None:
    _, with_variable, _ = without_hooks
    assert not with_variable


def test_secret_in_secret_manager_imports_client(without_hooks: Sequence[set[str]]) -> None:
    """The client of Secret Manager takes as long to import as everything else."""
    at_startup, _, with_secret = without_hooks
    client = {"google", "google_crc32c", "grpc", "proto"}
    assert client <= with_secret
    assert not client & at_startup
