"""Processes that measure: one per contestant for all rounds, or several new ones at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from types import TracebackType

from kafkaesk_tools.peers import peer_python

from .task import Result, Task

__all__ = ["Processes", "measure", "measure_together"]

ROOT = Path(__file__).parents[1]
PEERS = {
    "kafkaesk08": "kafkaesk-0.8",
    "logs08": "kafkaesk-0.8",
    "faststream07": "faststream",
    "confluent": "confluent-kafka",
}
TIMEOUT_SECONDS = 120


class Processes:
    """One process per contestant, started at its first measurement; all are ended together.

    A kept process has already imported, compiled and warmed up everything for the next round.
    """

    def __init__(self) -> None:
        self._running: dict[object, subprocess.Popen[str]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def measure(self, who: object, module: str, task: Task, root: Path | None = None) -> Result:
        """Let the process of one contestant measure.

        Raises:
            RuntimeError: it failed, or did not answer in time.
        """
        process = self._running.get(who)
        if process is None:
            process = self._running[who] = _start(module, root or ROOT)
            self._stack.callback(_end, process)
        return _ask(process, module, task)


def measure(module: str, task: Task, root: Path = ROOT) -> Result:
    """Measure in a new process, in this tree or another tree.

    Raises:
        RuntimeError: it failed, or did not answer in time.
    """
    with Processes() as processes:
        return processes.measure(module, module, task, root)


def measure_together(module: str, tasks: Sequence[Task], root: Path = ROOT) -> list[Result]:
    """Measure in one new process per task, all at once.

    Raises:
        RuntimeError: one failed, or did not answer in time.
    """
    with ExitStack() as stack:
        started = []
        for task in tasks:
            process = _start(module, root)
            stack.callback(_end, process)
            _send(process, task)
            started.append(process)
        return [_read(process, module, task) for process, task in zip(started, tasks, strict=True)]


def _start(module: str, root: Path) -> subprocess.Popen[str]:
    peer = PEERS.get(module)
    python = sys.executable if peer is None else str(peer_python(peer))
    command = [python, "-W", "ignore", "-m", f"benchmarks.contestants.{module}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, text=True)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _ask(process: subprocess.Popen[str], module: str, task: Task) -> Result:
    _send(process, task)
    return _read(process, module, task)


def _send(process: subprocess.Popen[str], task: Task) -> None:
    assert process.stdin is not None
    process.stdin.write(task.to_json() + "\n")
    process.stdin.flush()


def _read(process: subprocess.Popen[str], module: str, task: Task) -> Result:
    assert process.stdout is not None
    limit = Timer(TIMEOUT_SECONDS, process.kill)
    limit.start()
    try:
        line = process.stdout.readline()
    finally:
        limit.cancel()
    if not line:
        raise RuntimeError(
            f"{module} ended, or gave no answer in {TIMEOUT_SECONDS} s, at {task}; what it said "
            "stands above"
        )
    return Result.from_json(line)
