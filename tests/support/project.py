"""The files of the project that several tests read."""

import re
from pathlib import Path

from deploy.local.cloud import ROOT

README = (ROOT / "README.md").read_text()
DEPLOY_README = (ROOT / "deploy/README.md").read_text()
RUNBOOK = (ROOT / "deploy/gcp/RUNBOOK.md").read_text()
DEPLOY_SH = (ROOT / "deploy/gcp/deploy.sh").read_text()

#: The paths of all files that are deployed, relative to ROOT.
DEPLOYED = {
    "main.py", "requirements.txt", "deploy/relay.yaml", "deploy/openapi.json",
    *(path.relative_to(ROOT).as_posix() for top in ("handlers", "schemas") for path in (ROOT / top).rglob("*.py")),
}  # fmt: skip


def pinned_versions(path: Path) -> dict[str, str]:
    """Return the versions in a requirements file, by the names of the packages."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[a-z,]+\])?==([^ ;\\]+)", path.read_text(), re.MULTILINE))


def settings_of_readme() -> set[str]:
    """Return the names of the settings in the table of deploy/README.md."""
    table = DEPLOY_README.partition("## Settings")[2].partition("A **secret reference**")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}
