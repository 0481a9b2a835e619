"""Points between a record's failure and its commit, at which its member can be stopped.

A fault requests a point by a file. The first member that reaches the point removes the file, logs
the point, and stops its own process, so that it is killed exactly there.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kafkaesk_core import Retry, hookimpl

from .journal import Journal
from .workload import ATTEMPTS, Order, Task

__all__ = ["POINTS", "DeadLetters", "Failures", "point_file"]

POINTS = (
    "failed",  # its handler has raised, and nobody has decided yet
    "decided",  # to try it again
    "waiting",  # for the next attempt
    "exhausted",  # its last attempt has failed
    "writing",  # its dead letter is on its way
    "acknowledged",  # its dead letter is written
    "settled",  # that is known; its offset is still open
    "committing",  # its offset is closed
    "committed",
)
SHORTLY = {"waiting": 0.01, "writing": 0.001}
"""Seconds after the point before it, at which nothing else can be hooked."""


def point_file(folder: Path, topic: str, point: str) -> Path:
    """Return the file that requests a point."""
    return folder / f"{topic}-{point}.point"


class Points:
    """The points at which the members of one workload stop."""

    def __init__(self, task: Task, journal: Journal) -> None:
        self._folder = Path(task.journal).parent
        self._topic = task.topic
        self._journal = journal

    def reach(self, point: str) -> None:
        """Stop the process if this point is requested."""
        try:
            point_file(self._folder, self._topic, point).unlink()
        except FileNotFoundError:
            return
        self._journal.write("reached", point)
        os.kill(os.getpid(), signal.SIGSTOP)

    def reach_shortly(self, point: str) -> None:
        """Do the same once the next step has begun."""
        asyncio.get_running_loop().call_later(SHORTLY[point], self.reach, point)


class Failures:
    """A layer inside the retries; it sees a failure before any decision on it."""

    stage = "transform"

    def __init__(self, points: Points) -> None:
        self._points = points

    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        """Reach the point where a record fails."""
        try:
            return await call_next(message)
        except Exception:
            if message.attempt < ATTEMPTS:
                self._points.reach("failed")
            else:
                self._points.reach("exhausted")
                self._points.reach_shortly("writing")
            raise


class DeadLetters:
    """A layer around the retries; it logs dead letters, and reaches the points about them."""

    stage = "observe"

    def __init__(self, task: Task, journal: Journal) -> None:
        self._journal = journal
        self.points = Points(task, journal)
        self._has_died: set[tuple[str, int]] = set()  # and is not committed

    @hookimpl
    def published(self, message: Any, metadata: Any) -> None:
        """Note acknowledged dead letters."""
        if metadata is None or not message.stream.startswith("dlq."):
            return
        told = {name: value.decode() for name, value in message.headers if name.startswith("__dlq")}
        topic, number, offset = (
            told[f"__dlq.errors.{name}"] for name in ("topic", "partition", "offset")
        )
        place = f"{topic}:{number}", int(offset)
        self._journal.write("dead", Order.decode(message.data).id, *place)
        self._has_died.add(place)
        self.points.reach("acknowledged")

    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        """Reach the points around the decision on a record."""
        try:
            result = await call_next(message)
        except Retry:
            self.points.reach("decided")
            self.points.reach_shortly("waiting")
            raise
        if (f"{message.topic}:{message.partition}", message.offset) in self._has_died:
            self.points.reach("settled")
        return result

    @hookimpl
    async def wrap_commit(self, offsets: Any, call_next: Callable[[Any], Awaitable[None]]) -> None:
        """Reach the point where a commit passes a dead record."""
        ends = {f"{place.topic}:{place.partition}": offset for place, offset in offsets.items()}
        passed = {one for one in self._has_died if one[1] < ends.get(one[0], 0)}
        if passed:
            self.points.reach("committing")
        await call_next(offsets)
        if passed:
            self._has_died -= passed
            self.points.reach("committed")
