"""The house's rules, and that what is written about the project is true of it."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from deploy.local.cloud import ROOT

PRODUCT = [ROOT / "main.py", *sorted((ROOT / "handlers").rglob("*.py")), *sorted((ROOT / "schemas").rglob("*.py"))]
PURE = [
    *(ROOT / f"handlers/{name}.py" for name in ("hooks", "senders", "signatures", "proofs", "retries")),
    *sorted((ROOT / "handlers/providers").glob("*.py")),
    *sorted((ROOT / "schemas").glob("*.py")),
]

#: From left to right, as data goes; a module imports only from those to its right, and from schemas.
ORDER = ["main", "receive", "body", "exchange", "results", "authenticate", "check", "senders", "signatures", "proofs",
         "hooks", "patience", "answers", "together", "deliver", "tries", "retries", "wire", "connections", "upstream",
         "providers", "tokens", "secret_manager", "configuration", "logs", "deadline"]  # fmt: skip
IO_MODULES = {
    "os",
    "socket",
    "time",
    "requests",
    "flask",
    "werkzeug",
    "logging",
    "threading",
    "grpc",
    "urllib3",
    "pathlib",
}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, at any level of it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "handlers" else {module}
    return found


def place(module: str) -> int:
    name = module.removeprefix("handlers.").split(".")[0]
    return ORDER.index(name)


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_data_goes_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for module in imports(path):
        top = module.split(".")[0]
        if top == "handlers":
            assert not own.startswith("schemas"), f"{own} imports {module}"
            if own != "handlers":
                assert place(module) > place(own) or place(module) == place(own) == ORDER.index("providers")
        assert top not in ("deploy", "tests", "main"), f"{own} imports {module}"


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_decides_does_no_io(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path)} & IO_MODULES
    assert "open(" not in path.read_text()
    assert "environ[" not in path.read_text()


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_holds_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 250


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="LOUD: no git checkout; what is at its top is NOT checked")
def test_only_what_belongs_at_the_top() -> None:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    top = {name.split("/")[0] for name in names}
    allowed = {"main.py", "requirements.txt", "README.md", "handlers", "schemas", "tests", "deploy", "pyproject.toml",
               "Makefile", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}  # fmt: skip
    assert {name for name in top if not name.startswith(".")} <= allowed


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[a-z,]+\])?==([^ ;\\]+)", path.read_text(), re.MULTILINE))


def test_requirements_hold_what_pyproject_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run, dev = pins(ROOT / "requirements.txt"), pins(ROOT / "tests/requirements.txt")
    for wanted, compiled in ((project["project"]["dependencies"], run), (project["dependency-groups"]["dev"], dev)):
        for requirement in wanted:
            name, _, version = requirement.partition("==")
            assert compiled[name.lower()] == version
    assert {name: version for name, version in dev.items() if name in run} == {
        name: version for name, version in run.items() if name in dev
    }
    development = {requirement.partition("==")[0] for requirement in project["dependency-groups"]["dev"]}
    assert not development & set(run)


@pytest.mark.parametrize(("group", "own"), [("airflow", "apache-airflow"), ("terraform", "tf")])
def test_some_tests_have_requirements_of_their_own(group: str, own: str) -> None:
    """They have no say in the versions of all else."""
    for wanted in tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"][group]:
        name, _, version = wanted.partition("==")
        assert pins(ROOT / f"tests/{group}.txt")[name] == version
    assert own not in pins(ROOT / "tests/requirements.txt")


@pytest.mark.parametrize(
    ("path", "least"),
    [("requirements.txt", 31), ("tests/requirements.txt", 31), ("tests/airflow.txt", 31), ("tests/terraform.txt", 5)],
)
def test_requirements_are_pinned_and_hashed_without_addresses(path: str, least: int) -> None:
    text = (ROOT / path).read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.split("make lock\n")[1].strip())
    assert len(entries) >= least
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)


def test_the_platform_sees_which_framework_it_is() -> None:
    """Without such a line the buildpack puts in a version of its own."""
    assert re.search(r"^functions-framework==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)


READ_ME = (ROOT / "README.md").read_text()
DEPLOY_SH = (ROOT / "deploy/gcp/deploy.sh").read_text()


def test_the_readme_has_every_setting_and_its_default() -> None:
    source = (ROOT / "schemas/settings.py").read_text()
    names = set(re.findall(r'"((?:RELAY|SECRET_MANAGER)_[A-Z_]+|LOG_LEVEL|THREADS|GOOGLE_CLOUD_PROJECT)":', source))
    names |= {"APIFY_TOKEN", "APIFY_BASE_URL", "DATA_WORLD_TOKEN", "DATA_WORLD_BASE_URL"}
    assert len(names) == 15
    for name in names:
        assert f"`{name}`" in READ_ME


def test_the_readme_names_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for requirement in project["project"]["dependencies"]:
        assert f"`{requirement.partition('==')[0]}`" in READ_ME


def test_what_make_help_lists_is_there() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[1] for line in said.splitlines()}
    assert targets >= {"demo", "run", "test", "lint", "lock", "openapi", "soak", "clean"}


def test_every_test_that_security_names_is_there() -> None:
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"
