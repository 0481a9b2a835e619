"""Draws the pictures of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

from .figures import Figures

__all__ = ["draw"]

REBALANCES = ("member joined", "member left", "member stopped", "topic made", "partitions added")


def draw(runs: Sequence[Figures], soak: Mapping[str, Any] | None, folder: Path) -> None:
    """Draw all pictures that have figures."""
    ours = [run for run in runs if run.library == "kafkaesk"]
    pauses = _pauses(ours)
    faults = {kind: values for kind, values in pauses.items() if kind not in REBALANCES}
    _boxes(faults, "seconds to the next handled record", folder / "reliability-pauses.png")
    moves = {kind: values for kind, values in pauses.items() if kind in REBALANCES}
    _boxes(moves, "seconds without a handled record", folder / "reliability-rebalances.png")
    _kills(ours, folder / "reliability-kills.png")
    if soak is not None:
        _soak(soak, folder / "reliability-soak.png")


def _pauses(runs: Sequence[Figures]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        for kind, values in run.pauses.items():
            name = f"{kind} ({run.bed})" if run.bed == "stock" else kind
            found.setdefault(name, []).extend(values)
    return dict(sorted(found.items()))


def _boxes(values: Mapping[str, list[float]], label: str, path: Path) -> None:
    if not values:
        return
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.35 * len(values)), layout="constrained")
    axes.boxplot(list(values.values()), orientation="horizontal", whis=(0, 100))
    axes.set_yticklabels([f"{kind} ({len(all_)})" for kind, all_ in values.items()])
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _kills(runs: Sequence[Figures], path: Path) -> None:
    pairs = sorted(pair for run in runs for pair in run.kill_costs)
    if not pairs:
        return
    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    numbers = range(len(pairs))
    axes.plot(numbers, [bound for _, bound in pairs], ".", label="announced by status()")
    axes.plot(numbers, [cost for cost, _ in pairs], "-", label="redelivered")
    axes.set_xlabel("kills, by what they cost")
    axes.set_ylabel("records")
    axes.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _soak(soak: Mapping[str, Any], path: Path) -> None:
    samples = soak["samples"]
    minutes = [sample["at"] / 60 for sample in samples]
    figure, all_axes = pyplot.subplots(3, figsize=(9, 6), sharex=True, layout="constrained")
    for axes, name, label in zip(
        all_axes, ("memory", "descriptors", "tasks"), ("MiB", "descriptors", "tasks"), strict=True
    ):
        for member in range(len(samples[0][name])):
            axes.plot(minutes, [sample[name][member] for sample in samples])
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    all_axes[-1].set_xlabel("minutes")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
