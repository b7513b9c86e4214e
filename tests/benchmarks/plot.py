"""What was measured, as a picture."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.benchmarks.throughput import SUBJECTS, ratio
from tests.drawing import save

_COLORS = {"answer": "0.85", "forward": "0.65", "native": "tab:blue", "forward_hook": "0.65", "hook": "tab:orange"}
_AXES = {"hooks": "hooks configured", "kilobytes": "payload, kB", "updates": "updates an event"}


def draw(path: Path, found: dict[str, Any]) -> None:
    """Writes the SVG of a run's throughput, profile and growth."""
    figure = Figure(figsize=(9, 10), layout="constrained")
    grid = figure.add_gridspec(3, 3, height_ratios=(3, 3, 2.5))
    _draw_throughput(figure.add_subplot(grid[0, :]), found["throughput"])
    _draw_profile(figure.add_subplot(grid[1, :]), found["profile"])
    panels = [figure.add_subplot(grid[2, column]) for column in range(3)]
    highest = max(each["cpu_us"] for costs in found["growth"].values() for each in costs.values())
    for axes, (what, costs) in zip(panels, found["growth"].items(), strict=True):
        numbers = [int(each) for each in costs]
        axes.loglog(numbers, [each["cpu_us"] for each in costs.values()], marker="o")
        axes.set_xticks(numbers, [str(each) for each in numbers])
        axes.minorticks_off()
        axes.set_ylim(300, 2 * highest)
        axes.set_xlabel(_AXES[what])
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("µs of CPU an event")
    save(figure, path)


def _draw_throughput(axes: Axes, found: dict[str, Any]) -> None:
    places = list(found)
    for position, (name, (label, _)) in enumerate(SUBJECTS.items()):
        heights = [found[place][name]["per_second"] for place in places]
        at = [number + (position - 2) * 0.18 for number in range(len(places))]
        bars = axes.bar(at, heights, 0.16, label=label, color=_COLORS[name])
        axes.bar_label(bars, [f"{ratio(found[place], name):.2f}" for place in places], fontsize=6)
    axes.set_xticks(range(len(places)), [place.replace(", ", "\n") for place in places])
    axes.set_xlabel("platforms, connections")
    axes.set_ylabel("events a second, one core")
    axes.set_title("above each: times the bare forward of the same events", fontsize=9)
    axes.legend(loc="upper right", fontsize=8, ncols=3)
    axes.margins(y=0.3)


def _draw_profile(axes: Axes, found: dict[str, Any]) -> None:
    stages = list(dict.fromkeys(stage for each in found.values() for stage in each))[::-1]
    for position, name in enumerate(found):
        at = [number + (0.5 - position) * 0.4 for number in range(len(stages))]
        bars = axes.barh(
            at, [found[name].get(stage, 0) for stage in stages], 0.36, label=SUBJECTS[name][0], color=_COLORS[name]
        )
        axes.bar_label(bars, fontsize=7, padding=2)
    axes.set_yticks(range(len(stages)), stages, fontsize=8)
    axes.set_xlabel("µs of CPU an event")
    axes.legend(loc="lower right", fontsize=8)
