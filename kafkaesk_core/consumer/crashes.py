"""Records that crash their process, as out of memory or in C code: a crash counts as an attempt.

A crashed process cannot say which record it was handling. So for a few seconds after each
assignment, records run one at a time, and before each record starts, a commit stores that it has
begun. Before a record of another group starts, a commit withdraws the last such statement. So when
the process ends, at most one record is stored as begun: the one that crashed it.
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
"""Seconds after an assignment; a repeated crash happens at once."""
PATIENCE = 1.0
"""Seconds for a commit here, because the records of all groups wait for it."""

Layers = Callable[[FetchedMessage], Awaitable[Any]]


class Turn:
    """Decides which group's record may start; all groups share it: a crash ends them all."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self._last: CrashCounter | None = None

    async def take(self, counter: CrashCounter, topic: str) -> bool:
        """Let a counter store that a record begins, unless an earlier statement still holds.

        Its commit also withdraws earlier statements about topics that are committed together.
        """
        last = self._last
        if last is not None and not await last.take_back(topic if last is counter else None):
            return False
        self._last = counter
        return True


class CrashCounter:
    """Sends a commit before each record that starts shortly after an assignment of one group.

    Batch handlers are not delayed, and their crashes are not counted. If a commit fails, or a layer
    of `wrap_commit` delays it, crashes are not counted until the next assignment.
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
        self._stuck: set[str] = set()  # topics whose commits fail

    def assigned(self) -> None:
        """Count crashes of the records that start in the next few seconds."""
        self._end = self._loop.time() + self._window
        self._notes.begun.is_counting = True
        self._stuck.clear()
        for handling in self._handlings:
            handling.put_around(self._around)
        self._loop.call_at(self._end, self._leave)

    def _leave(self) -> None:
        if self._loop.time() >= self._end:
            for handling in self._handlings:
                handling.put_around(None)

    async def _around(self, layers: Layers, message: FetchedMessage) -> Any:
        """Handle a record alone, after a commit has stored that it begins."""
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
        topic, begun = partition.topic, self._notes.begun
        if topic in self._stuck or not begun.is_counting:
            return
        if await self._turn.take(self, topic) and begun.is_counting:
            begun.begin(partition, message.offset, message.attempt, message.crashes)
            await self._commit(topic)

    async def take_back(self, beside: str | None) -> bool:
        """Store that no record has begun; return whether the broker stored it.

        Topics that are committed together with `beside` are left to that commit.
        """
        for topic in self._notes.begun.topics:
            if beside is not None and self._commits.are_together(topic, beside):
                continue
            if not await self._commit(topic):
                return False
        return True

    async def _commit(self, topic: str) -> bool:
        """Store, for a topic's subscription, which record has begun, or that none has."""
        if topic in self._stuck:
            return False
        try:
            async with asyncio.timeout(PATIENCE):
                await self._commits.commit("interval", topic=topic)
        except (CommitError, TimeoutError) as error:
            self._stuck.add(topic)
            why = error if str(error) else f"no commit within {PATIENCE:g} s"
            logger.debug("%s: %s; crashes are not counted for now", topic, why)
            return False
        return True

    def _restart_clock(self) -> None:
        """Restart the record's clock: its wait for the commit is not the handler's time."""
        for lanes in self._lanes:
            lanes.restart_clock(asyncio.current_task())
