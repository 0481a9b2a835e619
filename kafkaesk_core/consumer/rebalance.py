"""Rebalances: taking over partitions, and releasing them to other members (rules 18 to 23)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from aiokafka.structs import TopicPartition

from kafkaesk_core.message import RebalanceEvent
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.scheduler import Lanes
from kafkaesk_core.shutdown import Shutdown

from .commits import OffsetCommitter, Reason
from .dispatch import Dispatcher
from .fetched import FetchedRecord

__all__ = ["Limits", "Rebalance", "list_partitions"]

logger = logging.getLogger("kafkaesk.consumer")

LOSSES, LOSS_WINDOW = 3, 120.0
"""This many losses within this many seconds suggest two processes with the same instance id."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The seconds that each phase of a handover may take."""

    drain: float
    grace: float
    commit: float


class Rebalance:
    """Reacts to assignments and revocations, then notifies the observers.

    A handover is a sequence of steps: take no more records, let running handlers finish, commit,
    cancel the handlers that still run, forget the partitions. Only one handover runs at a time; a
    stop waits for a revocation in progress.
    """

    def __init__(
        self,
        group: str,
        offsets: OffsetTracker[TopicPartition],
        commits: OffsetCommitter,
        dispatcher: Dispatcher,
        lanes: Sequence[Lanes[FetchedRecord]],
        *,
        limits: Limits,
        commits_automatically: bool,
        notify: Callable[[RebalanceEvent], None],
    ) -> None:
        self._group = group
        self._offsets = offsets
        self._commits = commits
        self._dispatcher = dispatcher
        self._lanes = lanes
        self._limits = limits
        self._commits_automatically = commits_automatically
        self._notify = notify
        self.follow_seeks: Callable[[], None] = lambda: None
        """Called before the commit of a handover, because a handler may have sought."""
        self._lock = asyncio.Lock()
        self._losses: deque[float] = deque(maxlen=LOSSES)
        self._loop = asyncio.get_running_loop()
        self._is_stopping = False
        self.counts: Counter[str] = Counter()

    # --- from the coordinator

    def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Start with partitions, without an await: no heartbeat is sent meanwhile (rule 20)."""
        if self._is_stopping:
            return
        self._offsets.revoke(list(self._offsets))
        self._offsets.assign(partitions)
        self._commits.resume()
        self._dispatcher.is_open = True
        self.counts["assigned"] += 1
        logger.info("group %s: assigned %s", self._group, list_partitions(partitions))
        self._notify(RebalanceEvent("assigned", partitions, self._group))

    async def revoked(self, partitions: frozenset[TopicPartition], *, is_lost: bool) -> None:
        """Hand over partitions before other members get them; forget partitions that are lost."""
        if not partitions:
            return
        async with self._lock:
            if not is_lost:
                self.counts["revoked"] += 1
                await self._hand_over("revoke", self._limits.drain)
            elif self._offsets:
                await self._lose()
        event = RebalanceEvent("lost" if is_lost else "revoked", partitions, self._group)
        logger.info("group %s: %s %s", self._group, event.kind, list_partitions(partitions))
        self._notify(event)

    async def _lose(self) -> None:
        """Forget partitions that other members may already own; do not wait or commit."""
        owned = list(self._offsets)
        self._dispatcher.is_open = False
        self._dispatcher.release(owned)  # before the first await: failures no longer count
        self._offsets.revoke(owned)
        await self._commits.suspend()
        self.forget(owned)
        self._count_loss()

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop the queued records of partitions and cancel the running ones; no result counts.

        If a handler ignores its cancellation, new records of its lane wait for `grace` seconds.
        """
        self._dispatcher.release(partitions)
        for lanes in self._lanes:
            lanes.cancel(partitions)
        self._discard(partitions)
        self._loop.call_later(self._limits.grace, self._abandon, partitions)

    def _count_loss(self) -> None:
        self.counts["lost"] += 1
        now = self._loop.time()
        self._losses.append(now)
        if len(self._losses) == LOSSES and now - self._losses[0] < LOSS_WINDOW:
            logger.error(
                "group %s: lost its membership %d times within %d seconds; is the event loop "
                "blocked longer than session_timeout_ms, or another process running with the "
                "same group_instance_id?",
                *(self._group, LOSSES, LOSS_WINDOW),
            )

    # --- from the application

    async def stop(self, shutdown: Shutdown) -> None:
        """Hand over everything for good, within the remaining time of `shutdown`."""
        self._is_stopping = True
        self._dispatcher.is_open = False
        async with self._lock:
            await self._hand_over("stop", min(self._limits.drain, shutdown.left("drain")))

    # --- the handover

    async def _hand_over(self, reason: Reason, drain: float) -> None:
        owned = list(self._offsets)
        self._dispatcher.is_open = False
        try:
            await self._finish(owned, reason, drain)
        finally:
            # Also after an error: from here on no completion of these partitions counts.
            self._offsets.revoke(owned)
            self._discard(owned)
            self._abandon(owned)

    async def _finish(self, owned: list[TopicPartition], reason: Reason, drain: float) -> None:
        # Commits stay allowed: handlers that commit by hand need them to finish. The commit below
        # waits for one that is in flight, within its own time limit.
        for lanes in self._lanes:
            lanes.drain(owned)
        if not await self._wait_idle(owned, drain):
            running = [record for lanes in self._lanes for record in lanes.running_items]
            logger.warning(
                "group %s: handlers still run after %g of drain_timeout %g seconds, and are "
                "cancelled; their records will be redelivered: %s",
                self._group,
                drain,
                self._limits.drain,
                ", ".join(
                    f"{batch.partition.topic}[{batch.partition.partition}]@{offset}"
                    for offset, _, batch in running[:10]
                ),
            )
        self._dispatcher.stop_counting_crashes()
        self.follow_seeks()
        await self._commit(reason)
        self._dispatcher.release(owned)
        for lanes in self._lanes:
            lanes.cancel(owned)
        await self._wait_idle(owned, self._limits.grace)
        await self._commits.suspend()
        self._count_redelivered(owned)

    async def _wait_idle(self, owned: Collection[TopicPartition], timeout: float) -> bool:
        deadline = self._loop.time() + timeout
        idle = [await lanes.wait_idle(owned, deadline - self._loop.time()) for lanes in self._lanes]
        return all(idle)

    async def _commit(self, reason: Reason) -> None:
        try:
            await self._commits.commit(reason, only_gaps=not self._commits_automatically)
        except Exception as error:
            logger.warning(
                "%s; on %s: records since the last commit will be redelivered", error, reason
            )

    def _count_redelivered(self, owned: Collection[TopicPartition]) -> None:
        """Count the records that the next owner will handle again, as far as this member knows."""
        finished = sum(self._offsets.state(partition).uncommitted for partition in owned)
        running = sum(lanes.size(partition) for lanes in self._lanes for partition in owned)
        self.counts["redelivered_finished"] += finished
        self.counts["redelivered_running"] += running

    def _discard(self, owned: Collection[TopicPartition]) -> None:
        self._dispatcher.forget(owned)
        for lanes in self._lanes:
            self.counts["zombies"] += lanes.discard(owned)

    def _abandon(self, owned: Collection[TopicPartition]) -> None:
        for lanes in self._lanes:
            lanes.abandon(owned)


def list_partitions(partitions: Collection[TopicPartition]) -> str:
    """Return the partitions by topic: "orders[0,1,2], content[0]"."""
    by_topic: dict[str, list[int]] = {}
    for partition in sorted(partitions):
        by_topic.setdefault(partition.topic, []).append(partition.partition)
    listed = (f"{topic}[{','.join(map(str, numbers))}]" for topic, numbers in by_topic.items())
    return ", ".join(listed) or "no partitions"
