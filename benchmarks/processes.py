"""Measurements as processes: one after the other, or several at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kafkaesk_tools.peers import peer_python

from .task import Result, Task

__all__ = ["measure", "measure_together"]

ROOT = Path(__file__).parents[1]
PEERS = {
    "kafkaesk08": "kafkaesk-0.8",
    "logs08": "kafkaesk-0.8",
    "faststream07": "faststream",
    "confluent": "confluent-kafka",
}
TIMEOUT_SECONDS = 120


def measure(module: str, task: Task, root: Path = ROOT) -> Result:
    """Run one process, in this tree or another one.

    Raises:
        RuntimeError: it failed.
    """
    (result,) = measure_together(module, [task], root)
    return result


def measure_together(module: str, tasks: Sequence[Task], root: Path = ROOT) -> list[Result]:
    """Run one process for each task, all at once.

    Raises:
        RuntimeError: one failed.
    """
    started = [_start(module, task, root) for task in tasks]
    results = []
    try:
        for task, process in zip(tasks, started, strict=True):
            output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
            if process.returncode != 0:
                raise RuntimeError(f"{module} failed at {task}:\n{errors[-2000:]}")
            results.append(Result.from_output(output))
    finally:
        for process in started:
            process.kill()
    return results


def _start(module: str, task: Task, root: Path) -> subprocess.Popen[str]:
    peer = PEERS.get(module)
    python = sys.executable if peer is None else str(peer_python(peer))
    command = [python, "-W", "ignore", "-m", f"benchmarks.contestants.{module}", task.to_json()]
    return subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
