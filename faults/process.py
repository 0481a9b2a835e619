"""A process of a workload: starts it, signals it, and reads its outcome."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals

from kafkaesk_tools.peers import peer_python

from .journal import Event, Tail, now
from .launch import Running, launch, launch_command
from .workload import Task

__all__ = ["NoProgressError", "Process"]

MODULES = {"kafkaesk": "faults.worker", "publisher": "faults.publisher"}
OTHERS = {
    "kafkaesk-0.8": "faults.peer_kafkaesk",
    "faststream": "faults.peer_faststream",
}
END_LIMIT = 60.0


class NoProgressError(AssertionError):
    """An expected event did not happen in time."""


class Process:
    """One worker or publisher. `ended_by` is the signal that ended it, None if it ended itself.

    `silenced` has the intervals in which it was frozen or blocked. `heard` is called with each
    event in its journal.
    """

    def __init__(self, name: str, task: Task, folder: Path, *, runs: str) -> None:
        self.name = name
        self.task = task
        self.output = folder / f"{name}.output"
        self.journal = Path(task.journal)
        self._folder = folder
        self._runs = runs
        self._running: Running | None = None
        self._tail = Tail(self.journal)
        self.heard: Callable[[Event], None] = lambda _: None
        self._partitions: tuple[str, ...] | None = None
        self._told: tuple[str, ...] = ()
        self.tasks = 0
        self.started_at = self.ended_at = 0
        self.ended_by: Signals | None = None
        self.silenced: list[tuple[int, int]] = []

    def start(self) -> None:
        """Start the process; it runs until it is signalled."""
        file = self._folder / f"{self.name}.json"
        self.task.save(file)
        if self._runs in MODULES:
            self._running = launch(MODULES[self._runs], file, self.output)
        else:
            command = [str(peer_python(self._runs)), "-m", OTHERS[self._runs], str(file)]
            self._running = launch_command(command, self.output)
        self.started_at = now()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._running is not None
        assert self._running.pid is not None
        return self._running.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._running is not None and self._running.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while the process runs."""
        return None if self._running is None else self._running.poll()

    def signal(self, number: Signals) -> None:
        """Send a signal.

        Raises:
            NoProgressError: the process has ended by itself.
        """
        if not self.is_running:
            raise NoProgressError(f"{self.name} has ended by itself: {self.last_words()}")
        os.kill(self.pid, number)

    async def end(self, number: Signals) -> float:
        """Signal the process and wait for its end; return the seconds that it took."""
        began = time.monotonic()
        self.signal(number)
        if number is signal.SIGKILL:
            self.ended_at = now()
        self.ended_by = number
        await self.wait()
        return time.monotonic() - began

    async def wait(self, within: float = END_LIMIT) -> None:
        """Wait for the end of the process.

        Raises:
            NoProgressError: the process has not ended within this many seconds; it is killed.
        """
        deadline = time.monotonic() + within
        while self.is_running:
            if time.monotonic() > deadline:
                self.kill()
                raise NoProgressError(
                    f"{self.name} did not end in {within:g} s: {self.last_words()}"
                )
            await asyncio.sleep(0.01)
        self.ended_at = self.ended_at or now()

    def freeze(self) -> None:
        """Freeze the process."""
        self.signal(signal.SIGSTOP)
        self.silenced.append((now(), 0))

    def thaw(self) -> None:
        """Continue the process."""
        self.silenced[-1] = (self.silenced[-1][0], now())
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process if it runs."""
        if self.is_running:
            self.ended_at = now()
            self.ended_by = signal.SIGKILL
            os.kill(self.pid, signal.SIGKILL)

    # --- what it has written down

    def look(self) -> None:
        """Read the events since the last call."""
        for event in self._tail.read():
            if event.kind in ("assigned", "revoked", "lost"):
                self._partitions = event.words if event.kind == "assigned" else ()
            elif event.kind == "vitals":
                self.tasks, self._told = int(event.words[0]), event.words[1:]
            self.heard(event)

    def has_joined(self) -> bool:
        """Whether the group has given it an assignment, possibly empty."""
        self.look()
        return self._partitions is not None

    def partitions(self) -> tuple[str, ...]:
        """Its current partitions."""
        self.look()
        return self._partitions or ()

    def has_told(self, word: str) -> bool:
        """Whether its health currently names a reason."""
        self.look()
        return any(word in reason for reason in self._told)

    def last_words(self) -> str:
        """Return the end of its output."""
        if not self.output.exists():
            return "nothing written"
        return self.output.read_text(errors="replace")[-1500:]
