"""Compares this tree with another revision: the same benchmarks, alternating, in one run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from .case import Case
from .processes import ROOT
from .table import Measured, cost, quartiles

__all__ = ["beside", "checked_out", "compared"]

NOW = "this tree"


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Provide a working tree of a revision, with the benchmarks of this tree."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(tree), revision)
        try:
            shutil.rmtree(tree / "benchmarks", ignore_errors=True)
            shutil.copytree(ROOT / "benchmarks", tree / "benchmarks")
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True)


def beside(case: Case, revision: str, tree: Path) -> Case:
    """Return a case in which this library runs twice: from this tree and from the other tree."""
    ours = case.contestants[0]
    both = replace(ours, name=NOW), replace(ours, name=revision, root=tree)
    return Case(case.name, case.title, both, ())


def compared(cases: Sequence[Case], results: Mapping[str, Measured]) -> str:
    """Return both processor times per message with quartiles, and whether one is slower."""
    lines = [
        "| case | us now: quartiles | us before: quartiles | before / now | slower |",
        "|---|---|---|---|---|",
    ]
    for case in cases:
        now, before = (
            [cost(result) for result in results[case.name][contestant.name]]
            for contestant in case.contestants
        )
        ratio = median(b / n for n, b in zip(now, before, strict=True))
        is_slower = median(now) > quartiles(before)[2]
        lines.append(
            f"| {case.name} | {_told(now)} | {_told(before)} | {ratio:.2f} | "
            f"{'YES' if is_slower else 'no'} |"
        )
    return "\n".join([*lines, ""])


def _told(values: Sequence[float]) -> str:
    low, middle, high = quartiles(values)
    return f"{middle:.1f} ({low:.1f} - {high:.1f})"
