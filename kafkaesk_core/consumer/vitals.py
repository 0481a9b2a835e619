"""Whether a group makes progress: its health, and a snapshot of where it stands (rule 32)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from aiokafka.structs import TopicPartition

from kafkaesk_core.kafka.consumer import GroupMember
from kafkaesk_core.ledger import Ledger
from kafkaesk_core.settings import Settings
from kafkaesk_core.status import GroupStatus, PartitionStatus

from .commits import Commits
from .intake import Intake, Route
from .rebalance import Rebalance

__all__ = ["Vitals"]

logger = logging.getLogger("kafkaesk.consumer")

STALLED = 30.0
"""Seconds without a record of a partition that has more to give."""

POLL_AGE = 60.0
LOOP_LAG = 1.0


class Vitals:
    """Watches one group; `member` is the present one, it may be replaced."""

    def __init__(
        self,
        group: str,
        ledger: Ledger[TopicPartition],
        intake: Intake,
        commits: Commits,
        rebalance: Rebalance,
        routes: Sequence[Route],
        settings: Settings,
        member: Callable[[], GroupMember],
    ) -> None:
        self._group = group
        self._ledger = ledger
        self._intake = intake
        self._commits = commits
        self._rebalance = rebalance
        self._routes = routes
        self._settings = settings
        self._member = member
        self._clock = asyncio.get_running_loop().time
        self._polled = self._started = self._clock()
        self._took: dict[TopicPartition, float] = {}
        self._trouble: str | None = None
        self._loop_lag = 0.0
        self.missing_topics: tuple[str, ...] = ()
        self.was_joined = False

    # --- what the consumer tells

    def polled(self) -> None:
        """The client was asked for records and answered."""
        self._polled = self._clock()

    def joined(self) -> None:
        """The group has given us an assignment, possibly an empty one."""
        self.was_joined = True
        self.troubled(None)

    def took(self, partition: TopicPartition) -> None:
        """Records of a partition came in."""
        self._took[partition] = self._polled

    def troubled(self, reason: str | None) -> None:
        """Something hinders the consumer, which goes on trying; None: no longer. Told once."""
        if reason is not None and reason != self._trouble:
            logger.warning("group %s: %s; trying again", self._group, reason)
        self._trouble = reason

    def watch(self, lag: float) -> None:
        """Look after handlers that overrun; `lag` is how late the event loop was, in seconds."""
        self._loop_lag = lag
        if lag > LOOP_LAG:
            logger.warning(
                "the event loop was blocked for %.1fs; use asyncio.to_thread for work that does "
                "not await, or the group takes this process for dead",
                lag,
            )
        for route in self._routes:
            seconds = route.handling.subscription.timeout_seconds
            if seconds is None:
                continue
            for job in route.lanes.overdue(seconds + self._settings.cancel_grace):
                logger.error(
                    "%s[%d]@%d (group %s, handler %s) ignored its cancellation after "
                    "timeout_seconds=%g; its lane waits for it, others go on",
                    *(job.record.topic, job.record.partition, job.record.offset, self._group),
                    *(route.handling.subscription.handler_name, seconds),
                )

    # --- what others ask

    @property
    def is_joined(self) -> bool:
        """Whether the group has given us our partitions, possibly none."""
        return self._member().is_joined

    def problems(self) -> list[str]:
        """Why this group should be restarted: it makes no progress and will not by itself."""
        now = self._clock()
        problems = []
        if now - self._polled > POLL_AGE and self._member().is_joined:
            problems.append(f"not polled for {now - self._polled:.0f}s")
        stuck = sum(route.lanes.stuck for route in self._routes)
        if stuck:
            problems.append(f"{stuck} handlers ignored their cancellation")
        oldest = self._oldest_age(now)
        if oldest is not None and oldest > self._settings.max_record_age:
            problems.append(
                f"a record is being handled or waits for {oldest:.0f}s, longer than "
                f"max_record_age {self._settings.max_record_age:g}s"
            )
        return [f"group {self._group}: {problem}" for problem in problems]

    def hindrances(self) -> list[str]:
        """What is degraded but may mend itself."""
        hindrances = []
        if not self._member().is_joined:
            hindrances.append("waits for its partitions (joining, or a rebalance)")
        if self._trouble:
            hindrances.append(self._trouble)
        if self._commits.last_error:
            hindrances.append(f"the last commit failed: {self._commits.last_error}")
        if self.missing_topics:
            names = ", ".join(self.missing_topics)
            hindrances.append(f"topic {names} does not exist yet, or may not be seen by us")
        stalled = self._stalled()
        if stalled:
            hindrances.append(f"no records for {STALLED:g}s from {', '.join(stalled)}")
        if self._loop_lag > LOOP_LAG:
            hindrances.append(f"the event loop was blocked for {self._loop_lag:.1f}s")
        return [f"group {self._group}: {hindrance}" for hindrance in hindrances]

    def _stalled(self) -> list[str]:
        now = self._clock()
        found = []
        for partition in self._ledger:
            state = self._ledger.state(partition)
            end = self._member().high_watermark(partition)
            has_more = end is not None and state.position is not None and end > state.position
            quiet = now - self._took.get(partition, self._started) > STALLED
            if has_more and quiet and not state.open:
                found.append(f"{partition.topic}[{partition.partition}]")
        return found

    def _oldest_age(self, now: float) -> float | None:
        since = [self._ledger.state(partition).oldest_since for partition in self._ledger]
        known = [at for at in since if at is not None]
        return now - min(known) if known else None

    def status(self) -> GroupStatus:
        """A snapshot of the group."""
        partitions = tuple(self._partition_status(p) for p in sorted(self._ledger))
        counts: Counter[str] = Counter(stale_completions=self._ledger.stale_completions)
        counts.update(self._commits.counts)
        counts.update(self._rebalance.counts)
        for route in self._routes:
            counts.update(route.handling.counts)
        return GroupStatus(
            group=self._group,
            is_joined=self._member().is_joined,
            partitions=partitions,
            running=sum(route.lanes.running for route in self._routes),
            stuck=sum(route.lanes.stuck for route in self._routes),
            uncommitted=sum(self._ledger.state(p).uncommitted for p in self._ledger),
            buffered_bytes=self._intake.buffered_bytes,
            counts=dict(counts),
        )

    def _partition_status(self, partition: TopicPartition) -> PartitionStatus:
        state = self._ledger.state(partition)
        end = self._member().high_watermark(partition)
        age = None if state.oldest_since is None else self._clock() - state.oldest_since
        known = end is not None and state.committed is not None
        return PartitionStatus(
            topic=partition.topic,
            partition=partition.partition,
            position=state.position,
            committed=state.committed,
            end=end,
            lag=max((end or 0) - (state.committed or 0), 0) if known else None,
            open=state.open,
            oldest_open_age=age,
        )
