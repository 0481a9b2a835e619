"""Draws the pictures of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from .case import Case
from .table import Measured, cost, speed
from .task import Result

__all__ = ["Curves", "draw", "draw_curves"]


@dataclass(frozen=True)
class Curves:
    """Lines to draw: the x and y values by name."""

    name: str
    along: str
    up: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]


def draw(cases: Sequence[tuple[Case, Measured]], path: Path) -> None:
    """Draw the throughput and processor time of all cases, with minima and maxima as error bars.

    The medians are shown beside the bars, whose scale is logarithmic.
    """
    rows = sum(len(case.contestants) + 1 for case, _ in cases)
    figure, both = pyplot.subplots(
        1, 2, figsize=(12, 1 + 0.24 * rows), sharey=True, layout="constrained"
    )
    _bars(both[0], cases, speed, "thousand messages per second")
    _bars(both[1], cases, cost, "us of processor time per message")
    both[0].invert_yaxis()  # both have one; the first case comes first
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_curves(curves: Curves, path: Path) -> None:
    """Draw the curves in one picture, from zero."""
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for name, (along, up) in curves.lines.items():
        axes.plot(along, up, label=name)
    axes.set_xlabel(curves.along)
    axes.set_ylabel(curves.up)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(
    axes: Axes,
    cases: Sequence[tuple[Case, Measured]],
    value: Callable[[Result], float],
    label: str,
) -> None:
    position, ticks, names = 0.0, [], []
    for case, measured in cases:
        for contestant in case.contestants:
            values = [value(result) for result in measured[contestant.name]]
            middle = median(values)
            error = [[middle - min(values)], [max(values) - middle]]
            color = "tab:blue" if contestant.is_ours else "tab:gray"
            bar = axes.barh(position, middle, xerr=error, color=color, capsize=2)
            axes.bar_label(bar, [_short(middle)], padding=3, fontsize=7)
            ticks.append(position)
            names.append(f"{case.name}: {contestant.name}")
            position += 1
        position += 1
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set_ylim(-1, position - 1)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
