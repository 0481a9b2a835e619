"""Records that end their process, by running out of memory or in C: each such end is an attempt.

After a crash nothing says which record it was. So for a few seconds after each assignment records
are handled one at a time, and a commit says of each that it has begun before it does. Before a
record of another group begins, a commit takes back what the last one said. So when the process
ends, at most one record is said to have begun: the one that ended it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import CommitError

from .commits import OffsetCommitter
from .dispatch import HandlerPipeline
from .fetched import FetchedMessage
from .handling import MessageHandling
from .notes import CommitNotes

__all__ = ["CrashCounter", "Turn"]

logger = logging.getLogger("kafkaesk.consumer")

WINDOW = 5.0
"""Seconds after an assignment: a crash that repeats does so at once."""

Layers = Callable[[FetchedMessage], Awaitable[Any]]


class Turn:
    """Which group's record may begin; all groups share it, because a crash ends them all."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self._last: CrashCounter | None = None

    async def take(self, counter: CrashCounter) -> bool:
        """Let a counter say that a record begins, unless the last one's is not taken back yet."""
        if self._last not in (None, counter) and not await self._last.commit():
            return False
        self._last = counter
        return True


class CrashCounter:
    """Puts a commit before each record that begins shortly after an assignment of one group.

    Handlers of batches are not delayed, and their crashes are not counted.
    """

    def __init__(
        self,
        turn: Turn,
        notes: CommitNotes,
        commits: OffsetCommitter,
        pipelines: Sequence[HandlerPipeline],
        *,
        window: float = WINDOW,
    ) -> None:
        self._turn = turn
        self._notes = notes
        self._commits = commits
        self._lanes = [pipeline.lanes for pipeline in pipelines]
        handlings = (pipeline.handling for pipeline in pipelines)
        self._handlings = [one for one in handlings if isinstance(one, MessageHandling)]
        self._loop = asyncio.get_running_loop()
        self._window = window
        self._end = 0.0

    def assigned(self) -> None:
        """Look at each record from here on, for a few seconds."""
        self._end = self._loop.time() + self._window
        self._notes.begun.is_counting = True
        for handling in self._handlings:
            handling.put_around(self._around)
        self._loop.call_at(self._end, self._leave)

    def _leave(self) -> None:
        if self._loop.time() >= self._end:
            for handling in self._handlings:
                handling.put_around(None)

    async def _around(self, layers: Layers, message: FetchedMessage) -> Any:
        """Handle a record alone, after a commit has said that it begins."""
        try:
            async with asyncio.timeout_at(self._end):
                await self._turn.lock.acquire()
        except TimeoutError:
            self._restart_clock()
            return await layers(message)
        partition = message.batch.partition
        try:
            await self._note_begin(partition, message)
            self._restart_clock()
            return await layers(message)
        finally:
            self._notes.begun.end(partition)
            self._turn.lock.release()

    async def _note_begin(self, partition: TopicPartition, message: FetchedMessage) -> None:
        if self._notes.begun.is_counting and await self._turn.take(self):
            self._notes.begun.begin(partition, message.offset, message.attempt, message.crashes)
            await self.commit()

    async def commit(self) -> bool:
        """Store which record has begun, or that none has; return whether it is stored."""
        try:
            await self._commits.commit("interval")
        except CommitError as error:
            logger.debug("%s; a crash now is not counted", error)
            return False
        return True

    def _restart_clock(self) -> None:
        """The time that the record has waited here is not its handler's."""
        for lanes in self._lanes:
            lanes.restart_clock(asyncio.current_task())
