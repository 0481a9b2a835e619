"""`uv run --with py-spy bench profile`: where the time of a message goes.

py-spy samples a process that publishes, and one that consumes, on the embedded broker. A sample
counts for the innermost Python function, with the C code that it calls (pydantic, aiokafka's
parser). Its microseconds are its share of what the process measured per message.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .bed import BEDS, make_topic
from .processes import measure
from .task import Result, Task

__all__ = ["main"]

TOPIC = "bench-profile"
COUNT, WARM_UP = 200_000, 2_000
SHOWN = 14
KEPT = 60_000
"""Messages that are there to be consumed: the embedded broker keeps about 5 MB of a partition."""
STARTS = ("importlib", "Meter.start (")
"""What a sample of the start has in it: imports on first use, and the collection before."""

TASKS = {
    "publish": Task("publish", "", TOPIC, COUNT, WARM_UP, {"validate": False}),
    "consume": Task("consume", "", TOPIC, KEPT, WARM_UP),
}


def sampled(task: Task, folder: Path) -> tuple[Result, Counter[str]]:
    """Run a contestant under py-spy; return its result and samples by innermost function.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    found = folder / "stacks"
    command = ["py-spy", "record", "--rate", "500", "--format", "raw", "--output", str(found)]
    command += ["--", sys.executable, "-W", "ignore", "-m", "benchmarks.contestants.ours"]
    done = subprocess.run(
        command, input=task.to_json() + "\n", capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not found.exists():
        raise RuntimeError(f"py-spy failed:\n{done.stderr[-2000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return Result.from_json(lines[-1]), innermost(found.read_text().splitlines())


def innermost(stacks: Sequence[str]) -> Counter[str]:
    """Count samples by innermost function, of those within the event loop and not of a start."""
    samples: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        is_working = any("run_forever (" in frame for frame in frames)
        if is_working and not any(start in stack for start in STARTS):
            function, _, place = frames[-1].partition(" (")
            samples[f"`{function}`, {place.partition(':')[0].rstrip(')')}"] += int(count)
    return samples


def table(result: Result, samples: Counter[str]) -> str:
    """Markdown: functions by what they take of a message."""
    each, total = result.cpu / result.count * 1e6, samples.total()
    rows = ["| function | share | us of a message |", "|---|---|---|"]
    most = samples.most_common(SHOWN)
    most.append(("all others", total - sum(count for _, count in most)))
    for function, count in most:
        share = count / total
        rows.append(f"| {function} | {share:.1%} | {share * each:.2f} |")
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print Markdown."""
    argparse.ArgumentParser(prog="bench profile").parse_args(argv)
    if shutil.which("py-spy") is None:
        sys.exit("py-spy is not installed; run `uv run --with py-spy bench profile`")
    for name, task in TASKS.items():
        with BEDS["embedded"]() as servers, tempfile.TemporaryDirectory() as folder:
            make_topic(servers, TOPIC)
            filled = Task("publish", servers, TOPIC, KEPT, WARM_UP, {"validate": False})
            measure("ours", filled)
            here = Task(task.job, servers, TOPIC, task.count, task.warm_up, task.options)
            result, samples = sampled(here, Path(folder))
            each = result.cpu / result.count * 1e6
            text = f"**{name}**, {each:.1f} us of the processor per message while sampled"
            sys.stdout.write(f"{text}\n\n{table(result, samples)}\n\n")
