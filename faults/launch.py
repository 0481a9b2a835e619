"""Starts processes: ours by forking a preloaded server, others by their command."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

__all__ = ["Running", "launch", "launch_command"]

PRELOADED = ["faults.worker", "faults.publisher"]
ROOT = Path(__file__).parents[1]


class Running(Protocol):
    """A process of any origin."""

    @property
    def pid(self) -> int | None:
        """The process's id."""

    def poll(self) -> int | None:
        """Return the exit code, or minus the signal's number; None while the process runs."""


class _Forked:
    """A child of the fork server; it starts in milliseconds, while an import takes a second."""

    def __init__(self, module: str, task: Path, output: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        # No daemon: what is killed here is killed by name, and the server ends with us.
        self._process = context.Process(target=_run, args=(module, str(task), str(output)))
        self._process.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode


def launch(module: str, task: Path, output: Path) -> Running:
    """Run the `main` of a module of this suite, as `python -m MODULE TASK` does."""
    return _Forked(module, task, output)


def launch_command(command: list[str], output: Path) -> Running:
    """Run a command."""
    with output.open("ab") as file:
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )


def _run(module: str, task: str, output: str) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started us
    sys.argv = [module, task]
    importlib.import_module(module).main()
