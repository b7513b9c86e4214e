"""Pictures for the README."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure


def save(figure: Figure, path: Path) -> None:
    """Writes `figure` as an SVG in which nothing changes but what is drawn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Text stays text: smaller, and it can be searched.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dataset-relay"}):
        figure.savefig(path, metadata={"Date": None})
