"""A workload with its processes: who publishes, who handles, and how far they are."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .journal import Tail
from .process import NoProgressError, Process
from .workload import Task, Workload

__all__ = ["Crew"]

JOIN_LIMIT, PROGRESS_LIMIT, DRAIN_LIMIT = 60.0, 90.0, 180.0


class Crew:
    """Runs one workload; every process it ever had is kept for the judge."""

    def __init__(
        self, workload: Workload, servers: Sequence[str], folder: Path, *, topic: str, seed: int
    ) -> None:
        self.workload = workload
        self.topic = topic
        self.servers = tuple(servers)
        self.folder = folder
        self._seed = seed
        self.random = random.Random(seed)
        self.members: list[Process] = []
        self.publishers: list[Process] = []
        self._tails: list[Tail] = []
        self.handled: dict[tuple[int, int], int] = {}
        self.acked: set[int] = set()

    @property
    def group(self) -> str:
        """The consumer group."""
        return self._task("").group

    def _task(self, name: str) -> Task:
        journal = str(self.folder / f"{name}.journal")
        return Task(self.workload, self.servers, self.topic, journal, self.random.getrandbits(32))

    # --- processes

    def publish(self) -> Process:
        """Start a publisher; one at a time, ids are its own."""
        process = self._new(f"{self.topic}-publisher{len(self.publishers)}", "publisher")
        self.publishers.append(process)
        process.start()
        return process

    def join(self) -> Process:
        """Start one more member."""
        process = self._new(f"{self.topic}-{len(self.members)}", self.workload.library)
        self.members.append(process)
        process.start()
        return process

    def _new(self, name: str, runs: str) -> Process:
        process = Process(name, self._task(name), self.folder, runs=runs)
        self._tails.append(Tail(process.journal))
        return process

    @property
    def present(self) -> list[Process]:
        """The members that run."""
        return [member for member in self.members if member.is_running]

    def pick(self) -> Process:
        """One of the members that run and have joined, by the seed."""
        joined = [member for member in self.present if member.has_joined()]
        return self.random.choice(joined)

    async def settled(self, count: int) -> None:
        """Wait until so many members have joined."""
        await self._until(
            lambda: sum(member.has_joined() for member in self.present) >= count,
            JOIN_LIMIT,
            f"{count} members that joined the group",
        )

    async def joined(self, *processes: Process) -> None:
        """Wait until these have partitions."""
        waiting = processes or tuple(self.present)
        await self._until(
            lambda: all(process.has_joined() for process in waiting), JOIN_LIMIT, "all have joined the group"
        )

    # --- progress

    def look(self) -> None:
        """Take in what has happened since the last look."""
        for tail in self._tails:
            for event in tail.read():
                if event.kind in ("end", "skipped"):
                    _, partition, offset = event.numbers
                    self.handled.setdefault((partition, offset), event.at)
                elif event.kind == "acked":
                    self.acked.add(event.numbers[0])

    async def progress(self, records: int, within: float = PROGRESS_LIMIT) -> None:
        """Wait until so many more records were handled.

        Raises:
            NoProgressError: they were not, or a process ended by itself.
        """
        self.look()
        goal = len(self.handled) + records
        await self._until(lambda: len(self.handled) >= goal, within, f"{records} more handled")

    async def finish(self, within: float = DRAIN_LIMIT) -> None:
        """Stop publishing, and wait until all that was acknowledged was handled."""
        for publisher in self.publishers:
            if publisher.is_running:
                await publisher.end(signal.SIGTERM)
        self.look()
        await self._until(
            lambda: len(self.handled) >= len(self.acked), within, "all handled that was published"
        )

    async def leave(self) -> None:
        """End all members, in order."""
        await asyncio.gather(*(member.end(signal.SIGTERM) for member in self.present))

    def kill(self) -> None:
        """End every process now."""
        for process in (*self.members, *self.publishers):
            process.kill()

    async def _until(self, condition: Callable[[], bool], within: float, what: str) -> None:
        deadline = time.monotonic() + within
        while True:
            self.look()
            if condition():
                return
            self._check()
            if time.monotonic() > deadline:
                raise NoProgressError(
                    f"{self.workload.name}: not within {within:g} s: {what} "
                    f"({len(self.handled)} handled, {len(self.acked)} acknowledged)"
                )
            await asyncio.sleep(0.05)

    def _check(self) -> None:
        for process in (*self.members, *self.publishers):
            if process.ended_by is None and not process.is_running:
                raise NoProgressError(
                    f"{process.name} has ended by itself, exit code {process.exit_code}: "
                    f"{process.last_words()}"
                )
