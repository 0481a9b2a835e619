"""When a group commits by itself: now and then, and where it has just begun to read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from aiokafka.structs import TopicPartition

from kafkaesk_core.kafka.consumer import GroupMember
from kafkaesk_core.offsets import OffsetTracker

from .commits import Commits

__all__ = ["CommitLoop"]

logger = logging.getLogger("kafkaesk.consumer")


class CommitLoop:
    """Commits every `interval` seconds; with `only_gaps` nothing that handlers are to commit."""

    def __init__(
        self,
        commits: Commits,
        offsets: OffsetTracker[TopicPartition],
        member: Callable[[], GroupMember],
        *,
        interval: float,
        only_gaps: bool,
    ) -> None:
        self._commits = commits
        self._offsets = offsets
        self._member = member
        self._interval = interval
        self._only_gaps = only_gaps
        self._is_due = asyncio.Event()
        self.is_ended = False
        """To be set before it is cancelled: a layer, or asyncio below 3.12, may swallow that."""
        commits.catch_up = self._catch_up

    def hurry(self) -> None:
        """Commit now rather than at the next interval."""
        self._is_due.set()

    async def run(self) -> None:
        """Commit until it is ended or cancelled."""
        while not self.is_ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._is_due.wait()
            self._is_due.clear()
            if self._member().is_stable:
                try:
                    await self._commits.commit("interval", only_gaps=self._only_gaps)
                except Exception as error:
                    # What a layer raised is the commit's failure, never the consumer's (D4).
                    logger.warning("%s; trying again in %g seconds", error, self._interval)

    def _catch_up(self) -> None:
        # Always true between two steps: what getmany hands out is registered in the same one.
        for partition, (start, position) in self._member().progress(self._offsets).items():
            self._offsets.advance(partition, start, position)
