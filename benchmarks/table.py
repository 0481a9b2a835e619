"""The figures of a run as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles

from .case import Case
from .task import Result

__all__ = ["cost", "quartiles", "ratios", "table", "verdicts"]

Measured = Mapping[str, Sequence[Result]]


def cost(result: Result) -> float:
    """Return the processor time per message, in microseconds."""
    return result.cpu / result.count * 1e6


def speed(result: Result) -> float:
    """Return the thousand messages per second."""
    return result.count / result.seconds / 1000


def ratios(measured: Measured, name: str, over: str) -> list[float]:
    """Return, by round, how many times less processor time one contestant takes than another."""
    pairs = zip(measured[name], measured[over], strict=True)
    return [cost(other) / cost(one) for one, other in pairs]


def table(case: Case, measured: Measured, bed: str) -> str:
    """Return the table of a case's contestants, and whether ours reaches its targets."""
    control = case.contestants[1].name
    lines = [
        f"**{case.title}** (`{case.name}`)",
        "",
        "| | thousand msg/s | us of processor each | quartiles | vs aiokafka | quartiles | |",
        "|---|---|---|---|---|---|---|",
    ]
    for contestant in case.contestants:
        results = measured[contestant.name]
        speeds, costs = [speed(r) for r in results], [cost(r) for r in results]
        others = ratios(measured, contestant.name, control)
        lines.append(
            f"| {contestant.name} | {median(speeds):.0f} | {median(costs):.1f} "
            f"| {_between(costs, 1)} | {median(others):.2f} | {_between(others, 2)} "
            f"| {contestant.note} |"
        )
    return "\n".join([*lines, "", *verdicts(case, measured, bed)])


def _between(values: Sequence[float], digits: int) -> str:
    """Return the first and the third quartile."""
    first, _, third = quartiles(values)
    return f"{first:.{digits}f} - {third:.{digits}f}"


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the three quartiles; of a single value, the value itself."""
    return quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3


def verdicts(case: Case, measured: Measured, bed: str) -> list[str]:
    """Return one line per target: the target and the result."""
    lines = []
    for target in case.targets:
        reached = ratios(measured, case.contestants[0].name, target.over)
        factor, middle = target.factor(bed), median(reached)
        word = "reached" if middle >= factor else "not reached"
        lines.append(
            f"- {target.over}: {middle:.2f}x ({_between(reached, 2)}), target {factor:g}x: {word}"
        )
    return [*lines, ""] if lines else []
