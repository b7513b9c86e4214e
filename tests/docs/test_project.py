"""Tests of the rules of the project, and of the statements about it in the documentation."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cloud import ROOT
from handlers import VERSION
from tests.benchmarks.bench import picture
from tests.support.markdown import blocks_named, broken_links, code_blocks, count_code_blocks
from tests.support.project import DEPLOY_README, DEPLOYED, pinned_versions, settings_of_readme

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = [contract["id"] for contract in PROJECT["tool"]["importlinter"]["contracts"]]

#: For each import contract, a module and an import in this module that breaks the contract.
FORBIDDEN_IMPORTS = [
    ("schemas", "schemas/base.py", "import handlers.deadline"),
    ("layers", "handlers/deadline.py", "import handlers.redaction"),
    ("layers", "handlers/delivery/retry.py", "import handlers.hooks.mapping"),
    ("layers", "handlers/new.py", ""),  # a module without a layer
    ("cycles", "schemas/problem.py", "import schemas.settings"),
    ("providers", "handlers/providers/apify.py", "import handlers.providers.data_world"),
    ("provider-schemas", "schemas/data_world.py", "import schemas.apify"),
    ("pure", "schemas/event.py", "import os"),
    ("pure", "handlers/senders/signatures.py", "import time"),
    ("pure", "handlers/hooks/mapping.py", "from pathlib import Path"),
    ("pure", "handlers/providers/base.py", "import handlers.logs"),
    ("product", "handlers/app.py", "import main"),
    ("product", "schemas/base.py", "from deploy.local import openapi"),
]


def lint_imports(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo", "--contract", contract]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(("contract", "module", "statement"), FORBIDDEN_IMPORTS)
def test_import_contract_forbidden_import_is_broken(contract: str, module: str, statement: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("handlers", "schemas"):
        shutil.copytree(ROOT / package, tmp_path / package)
    kept = lint_imports(tmp_path, contract)
    assert kept.returncode == 0, kept.stdout
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{statement}\n")
    broken = lint_imports(tmp_path, contract)
    assert broken.returncode == 1
    assert "1 broken" in broken.stdout, broken.stdout


def test_import_contracts_are_all_tested() -> None:
    assert {contract for contract, _, _ in FORBIDDEN_IMPORTS} == set(CONTRACTS)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no git checkout: its top folder is NOT tested")
def test_top_folder_has_only_the_allowed_files() -> None:
    paths = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    names = {path.split("/")[0] for path in paths}
    allowed = {"main.py", "requirements.txt", "README.md", "handlers", "schemas", "tests", "deploy", "pyproject.toml",
               "Makefile", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}  # fmt: skip
    assert {name for name in names if not name.startswith(".")} <= allowed


# The requirements


def test_requirements_have_the_versions_of_pyproject() -> None:
    runtime, development = pinned_versions(ROOT / "requirements.txt"), pinned_versions(ROOT / "tests/requirements.txt")
    groups = ((PROJECT["project"]["dependencies"], runtime), (PROJECT["dependency-groups"]["dev"], development))
    for requirements, compiled in groups:
        for requirement in requirements:
            name, _, version = requirement.partition("==")
            assert compiled[name.lower()] == version


def test_requirements_of_the_tests_agree_with_the_runtime() -> None:
    runtime, development = pinned_versions(ROOT / "requirements.txt"), pinned_versions(ROOT / "tests/requirements.txt")
    assert all(development[name] == version for name, version in runtime.items() if name in development)
    direct = {requirement.partition("==")[0] for requirement in PROJECT["dependency-groups"]["dev"]}
    assert not direct & set(runtime)


@pytest.mark.parametrize("path", ["requirements.txt", "tests/requirements.txt"])
def test_requirements_are_pinned_with_hashes_and_without_addresses(path: str) -> None:
    text = (ROOT / path).read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.split("make lock\n")[1].strip())
    assert len(entries) > 30
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)


@pytest.mark.parametrize(("environment", "name"), [("airflow", "apache-airflow"), ("terraform", "tf")])
def test_separate_requirements_are_pinned_and_not_in_the_requirements(environment: str, name: str) -> None:
    lines = (ROOT / f"tests/requirements-{environment}.txt").read_text().splitlines()
    requirements = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z-]+==\d+(\.\d+)+", requirement) for requirement in requirements)
    assert name in {requirement.partition("==")[0] for requirement in requirements}
    assert name not in pinned_versions(ROOT / "tests/requirements.txt")


# The environments


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the files that the commands of the environments read, and those that are deployed."""
    more = ("pyproject.toml", "README.md", "Makefile", "tests/requirements.txt", "deploy/local/install.py")
    for path in (*DEPLOYED, *more):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [("lock",), ("pip", "install", "--no-deps", "--target", "target", ".")],
    ids=["uv sync", "pip install ."],
)
def test_installation_without_make_succeeds(arguments: tuple[str, ...], copy: Path) -> None:
    """`uv lock` is the part of `uv sync` that can fail. uv builds the project for `pip install .` as pip does."""
    command = [str(Path(sys.executable).parent / "uv"), *arguments, "--python", sys.executable, "--no-progress"]
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(command, cwd=copy, env=environ, capture_output=True, text=True)
    if "Failed to fetch" in done.stderr:
        pytest.skip("PyPI is unreachable: the installation is NOT tested")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr


def test_make_python_that_is_too_old_or_missing_says_so_in_one_line(copy: Path) -> None:
    old = copy / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for python in (str(old), "missing-python"):
        done = subprocess.run(["make", "run", f"PYTHON={python}"], cwd=copy, capture_output=True, text=True)
        message, end = done.stderr.splitlines()
        assert message == f"{python} isn't Python 3.11 or newer. Name a newer one: make PYTHON=python3.13 ..."
        assert end.startswith("make")
        assert done.stdout == ""


def test_make_in_an_environment_without_pip_installs_pip(copy: Path) -> None:
    """`uv sync` makes such an environment. The requirements are empty, so that the test needs no network."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", copy / ".venv"], check=True)
    (copy / "requirements.txt").write_text("")
    done = subprocess.run(["make", ".venv/run"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (copy / ".venv/run").exists()


def test_version_is_the_version_of_pyproject() -> None:
    assert PROJECT["project"]["version"] == VERSION
    assert f'org.opencontainers.image.version="{VERSION}"' in (ROOT / "deploy/Dockerfile").read_text()


def test_requirements_name_the_framework() -> None:
    # Without this line, the buildpack of Cloud Run functions installs a version of its own.
    assert re.search(r"^functions-framework==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)


# The documentation


#: All pages, except the recipes, the runbook, and deploy/README.md, which have tests of their own.
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "deploy/gcp/SCALE.md",
    "tests/benchmarks/README.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_page_links_lead_to_files_and_headings(page: str) -> None:
    assert broken_links(ROOT / page) == []


@pytest.mark.parametrize("page", ["SECURITY.md", "CHANGELOG.md", "tests/benchmarks/README.md"])
def test_page_every_block_of_code_is_tested(page: str) -> None:
    text = (ROOT / page).read_text()
    assert count_code_blocks(text) == len(code_blocks(text))


def test_benchmarks_readme_command_is_a_target() -> None:
    text = (ROOT / "tests/benchmarks/README.md").read_text()
    assert blocks_named(text, "make") == ["make bench\n"]
    assert re.search("^bench:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_benchmarks_picture_shows_the_figures_of_the_page() -> None:
    page = (ROOT / "tests/benchmarks/README.md").read_text()
    tables = re.split(r"^\| ---.*\n", page, flags=re.MULTILINE)
    rows = [line.strip("| ").split(" | ") for line in tables[1].partition("\n\n")[0].splitlines()]
    assert picture(rows) == (ROOT / "tests/benchmarks/results.svg").read_text()


#: A calculation, such as `1 / 1.15 ms = 870`, and the factor of each unit.
CALCULATION = re.compile(r"((?:[\d.,$()+×/^ ]|million|kB|bytes|threads|ms|\bs\b)+) = \$?(\d[\d.,]*)( ms)?")
UNITS = {"ms": 1e-3, "s": 1, "kB": 1e3, "bytes": 1, "threads": 1, "million": 1e6}


def test_scale_calculations_have_the_stated_results() -> None:
    calculations = CALCULATION.findall((ROOT / "deploy/gcp/SCALE.md").read_text())
    assert len(calculations) >= 20
    for expression, stated, unit_of_result in calculations:
        python = re.sub(r"[,$]", "", expression).replace("×", "*").replace("^", "**").strip()
        for unit, factor in UNITS.items():
            python = re.sub(rf"([\d.]+) {unit}\b", rf"(\1 * {factor})", python)
        actual = eval(python) * (1000 if unit_of_result else 1)
        rounded = float(stated.strip(".,").replace(",", ""))
        assert abs(actual - rounded) <= max(0.02 * rounded, 0.005), expression


def test_deploy_readme_names_every_setting() -> None:
    source = (ROOT / "schemas/settings.py").read_text()
    names = r"(?:RELAY|SECRET_MANAGER|PUBSUB)_[A-Z_]+|LOG_LEVEL|THREADS|GOOGLE_CLOUD_PROJECT"
    settings = set(re.findall(rf'"({names})"', source))
    settings |= {f"{name}_{part}" for name in ("APIFY", "DATA_WORLD") for part in ("TOKEN", "BASE_URL", "TOPIC")}
    assert len(settings) == 25
    assert settings <= settings_of_readme()


def test_deploy_readme_names_every_direct_dependency() -> None:
    for requirement in PROJECT["project"]["dependencies"]:
        assert f"| `{requirement.partition('==')[0]}` |" in DEPLOY_README


#: Arguments that hold a secret. Every user of a machine can list the arguments of all commands with `ps`.
SECRET_ARGUMENTS = re.compile(
    r"""(-H|--header)[ =]?["'](Proxy-)?(Authorization|X-[\w-]*(Token|Key|Secret))\b"""
    r"""|\bcurl\b.*\s(-u|--user|--oauth2-bearer)\b|\s-(hmac|macopt)\b|--from-literal|(--env|-e)[ =]\w+=["']?\$"""
)


def test_documented_commands_have_no_secret_as_an_argument() -> None:
    paths = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "Makefile")]
    paths.append(ROOT / "tests/benchmarks/README.md")
    for top in ("deploy", ".github"):
        paths += [path for path in (ROOT / top).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    found = [
        (path.relative_to(ROOT).as_posix(), line)
        for path in paths
        for line in path.read_text().splitlines()
        if SECRET_ARGUMENTS.search(line)
    ]
    assert found == []


def test_make_help_lists_the_targets() -> None:
    output = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[1] for line in output.splitlines()}
    assert targets >= {"demo", "run", "check", "test", "lint", "unit", "lock", "openapi", "soak", "clean"}


def test_security_md_names_existing_tests() -> None:
    references = re.findall(r"`([\w/]*test_\w+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text())
    assert len(references) > 20
    for path, name in references:
        assert f"def {name}" in (ROOT / "tests" / path).read_text(), f"{path}::{name}"
