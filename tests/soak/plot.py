"""A soak as a picture: latency and memory over time."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tests.drawing import save
from tests.soak.senders import Answered


def quantile(values: Sequence[float], part: float) -> float:
    """The value that `part` of `values` don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def draw(
    path: Path,
    began: float,
    answered: Sequence[Answered],
    memory: Sequence[tuple[float, float]],
    marks: Sequence[tuple[float, str]],
) -> None:
    """Writes the SVG. Times on the monotonic clock, in seconds; memory in MB."""
    span = max(each.at for each in answered) - began
    bucket = max(1.0, span / 120)
    buckets: dict[int, list[float]] = {}
    for each in answered:
        if each.status is not None:
            buckets.setdefault(int((each.at - began) / bucket), []).append(each.seconds * 1000)
    times = [number * bucket for number in sorted(buckets)]
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for part, name in ((0.5, "p50"), (0.99, "p99")):
        above.plot(times, [quantile(buckets[number], part) for number in sorted(buckets)], label=name)
    above.set_yscale("log")
    above.set_ylabel("answer after, ms")
    below.plot([at - began for at, _ in memory], [size for _, size in memory], color="tab:green", label="resident")
    below.set_ylim(0, 1.3 * max(size for _, size in memory))
    below.set_ylabel("memory, MB")
    below.set_xlabel("seconds")
    for axes in (above, below):
        for at, what in marks:
            axes.axvline(at - began, color="tab:red" if "kill" in what else "tab:gray", linewidth=0.6, linestyle=":")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right")
    above.set_title("dotted: the function was restarted (gray) or killed (red)", fontsize=9)
    save(figure, path)
