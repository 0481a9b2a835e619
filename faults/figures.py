"""Outcomes of scenarios as plain values: saved to one file each, read back, and summed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .scenario import Outcome
from .verdict import Verdict

__all__ = ["Figures", "figures_of", "read_figures", "save_figures", "totals"]

SUMMED = [field.name for field in fields(Verdict) if field.type == "int"]


@dataclass(slots=True)
class Figures:
    """One run of one scenario; times in seconds."""

    row: str
    title: str
    bed: str
    library: str
    seed: int
    rounds: int
    seconds: float
    workloads: dict[str, dict[str, Any]]
    strikes: list[dict[str, Any]]
    pauses: dict[str, list[float]]
    commit_pauses: dict[str, list[float]]
    rebalances: int
    unexpected_rebalances: int
    repeats: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The unique name of the run."""
        return f"{self.row} {self.title} ({self.bed})"

    @property
    def sums(self) -> Counter[str]:
        """The sums over all workloads."""
        return Counter({name: sum(w[name] for w in self.workloads.values()) for name in SUMMED})

    @property
    def redelivered_by(self) -> Counter[str]:
        """The reasons why records were handled again."""
        found: Counter[str] = Counter()
        for workload in self.workloads.values():
            found.update(workload["redelivered_by"])
        return found

    @property
    def repeated(self) -> int:
        """The number of records handled again although their partition was handed over."""
        return self.redelivered_by["handover"]

    @property
    def kill_costs(self) -> list[tuple[int, int]]:
        """The cost of each kill, and the maximum that the engine had announced."""
        return [
            (cost, bound)
            for workload in self.workloads.values()
            for cost, bound in zip(workload["kill_costs"], workload["kill_bounds"], strict=True)
        ]

    @property
    def stops(self) -> list[float]:
        """The seconds that members took to stop gracefully."""
        kinds = ("member stopped", "member left", "stopped with brokers")
        return [(s["until"] - s["at"]) / 1e6 for s in self.strikes if s["kind"].startswith(kinds)]


def figures_of(outcome: Outcome) -> Figures:
    """Return the figures of an outcome."""
    scenario = outcome.scenario
    return Figures(
        row=scenario.row,
        title=scenario.title,
        bed=scenario.bed,
        library=scenario.workloads[0].library,
        seed=outcome.seed,
        rounds=outcome.rounds,
        seconds=round(outcome.seconds, 1),
        workloads={name: asdict(verdict) for name, verdict in outcome.verdicts.items()},
        strikes=[asdict(strike) for strike in outcome.strikes],
        pauses=outcome.pauses,
        commit_pauses=outcome.commit_pauses,
        rebalances=outcome.rebalances,
        unexpected_rebalances=outcome.unexpected_rebalances,
        repeats=scenario.limits.repeats,
        problems=outcome.problems,
    )


def save_figures(outcome: Outcome, folder: Path) -> Figures:
    """Save the figures to a file."""
    figures = figures_of(outcome)
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in f"{figures.name} {figures.library}")
    (folder / f"{name}.json").write_text(json.dumps(asdict(figures), indent=1))
    return figures


def read_figures(folder: Path) -> list[Figures]:
    """Return all saved figures, by row."""
    found = [Figures(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda figures: (int(figures.row[1:]), figures.title))


def totals(runs: Iterable[Figures]) -> Counter[str]:
    """Return the counts of several runs and of their faults."""
    total: Counter[str] = Counter()
    for run in runs:
        total.update(run.sums)
        total["unexpected rebalances"] += run.unexpected_rebalances
        for strike in run.strikes:
            total[f"fired: {strike['kind']}"] += 1
    return total
