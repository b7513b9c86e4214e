"""The table of permissions in deploy/gcp/RUNBOOK.md."""

import re

from tests.support.project import RUNBOOK


def permissions(granted_by: str | None = None) -> set[tuple[str, str, str]]:
    """Return role, member and resource of each row, or only of the rows whose last column is `granted_by`."""
    (rows,) = re.findall(r"<!-- test: grants -->\n(.*?)\n\n", RUNBOOK, re.DOTALL)
    cells = [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows.splitlines()[2:]]
    assert all(reason for _, _, _, reason, _ in cells)
    return {(role, member, on) for role, member, on, _, by in cells if granted_by in (None, by)}
