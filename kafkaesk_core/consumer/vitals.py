"""Whether a group makes progress: its health, and a snapshot of where it stands (rule 32)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from aiokafka.structs import TopicPartition

from kafkaesk_core.kafka.consumer import GroupMember
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.status import GroupStatus, PartitionStatus

from .commits import Commits
from .freshness import Freshness
from .intake import Intake, Route
from .rebalance import Rebalance

__all__ = ["Vitals"]

logger = logging.getLogger("kafkaesk.consumer")

SILENCE = 10.0
"""Seconds without an answer about a partition; brokers answer fetches twice a second."""

POLL_AGE = 60.0
LOOP_LAG = 1.0


class Vitals:
    """Watches one group; `member` is the present one, it may be replaced."""

    def __init__(
        self,
        group: str,
        offsets: OffsetTracker[TopicPartition],
        intake: Intake,
        commits: Commits,
        rebalance: Rebalance,
        routes: Sequence[Route],
        member: Callable[[], GroupMember],
    ) -> None:
        self._group = group
        self._offsets = offsets
        self._intake = intake
        self._commits = commits
        self._rebalance = rebalance
        self._routes = routes
        self._member = member
        self._clock = asyncio.get_running_loop().time
        self._polled = self._clock()
        self.freshness = Freshness(self._clock)
        self._trouble: str | None = None
        self._loop_lag = 0.0
        self._awaited: tuple[str, ...] = ()
        self.was_joined = False

    # --- what the consumer tells

    def polled(self) -> None:
        """The client was asked for records and answered."""
        self._polled = self._clock()

    def joined(self) -> None:
        """The group has given us an assignment, possibly an empty one."""
        self.was_joined = True
        self.troubled(None)

    def troubled(self, reason: str | None) -> None:
        """Something hinders the consumer, which goes on trying; None: no longer. Told once."""
        if reason is not None and reason != self._trouble:
            logger.warning("group %s: %s; trying again", self._group, reason)
        self._trouble = reason

    def waits_for(self, topics: Sequence[str], patterns: Sequence[str]) -> None:
        """Topics that do not exist, and patterns that match none, are waited for; told once."""
        before = self._awaited
        self._awaited = (
            *(
                f"topic {topic} does not exist, or we are not authorized to see it"
                for topic in topics
            ),
            *(f"no topic matches {pattern}" for pattern in patterns),
        )
        for awaited in self._awaited:
            if awaited not in before:
                logger.warning("group %s: %s; waiting for it", self._group, awaited)

    def watch(self, lag: float) -> None:
        """Look after handlers that overrun and brokers that are silent.

        `lag` is how late the event loop was, in seconds.
        """
        self.freshness.look(list(self._offsets), self._intake.wanted(), self._member().last_answer)
        self._loop_lag = lag
        for route in self._routes:
            seconds = route.handling.subscription.timeout_seconds
            if seconds is None:
                continue
            for job in route.lanes.overdue(seconds + route.settings.cancel_grace):
                logger.error(
                    "%s[%d]@%d (group %s, handler %s) ignored its cancellation after "
                    "timeout_seconds=%g; its lane stays blocked, others continue",
                    *(job.topic, job.partition, job.offset, self._group),
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
            problems.append(f"not polled for {now - self._polled:.0f} s")
        stuck = sum(route.lanes.stuck for route in self._routes)
        if stuck:
            problems.append(f"{stuck} handlers ignored their cancellation")
        problems += self._overaged()
        return [f"group {self._group}: {problem}" for problem in problems]

    def hindrances(self) -> list[str]:
        """What is degraded but may mend itself."""
        hindrances = []
        if not self._member().is_joined:
            hindrances.append("waiting for partitions (joining, or a rebalance)")
        if self._trouble:
            hindrances.append(self._trouble)
        if self._commits.last_error:
            hindrances.append(f"the last commit failed: {self._commits.last_error}")
        hindrances += self._awaited
        if silent := self.freshness.silent(SILENCE):
            names = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in silent)
            hindrances.append(f"the brokers of {names} have not answered for {SILENCE:g} s")
        hindrances += self._delayed()
        if self._loop_lag > LOOP_LAG:
            hindrances.append(f"the event loop was blocked for {self._loop_lag:.1f} s")
        return [f"group {self._group}: {hindrance}" for hindrance in hindrances]

    def _overaged(self) -> list[str]:
        """Partitions of which a record runs for longer than it may (rule 11).

        One that waits for its retry does so on purpose, and a restart would begin anew with it.
        """
        ages = self._ages()
        found = []
        for partition in self._offsets:
            age, limit = ages.get(partition, 0.0), self._max_age(partition)
            if age > limit:
                found.append(
                    f"a record of {partition.topic}[{partition.partition}] is being handled for "
                    f"{age:.0f} s, longer than max_record_age {limit:g} s"
                )
        return found

    def _delayed(self) -> list[str]:
        """Partitions of which records wait for a turn, and none has had one for long."""
        ages, found, now = self._ages(), [], self._clock()
        for partition in self._offsets:
            limit, since = self._max_age(partition), self._offsets.state(partition).oldest_since
            is_parked = self._intake.route(partition.topic)[0].lanes.parked(partition) > 0
            is_waiting = partition not in ages and not is_parked
            if is_waiting and since is not None and now - since > limit:
                found.append(
                    f"a record of {partition.topic}[{partition.partition}] has waited for "
                    f"{now - since:.0f} s to be handled, longer than max_record_age {limit:g} s"
                )
        return found

    def _ages(self) -> dict[Hashable, float]:
        """For how long a record of each partition has been handled, in seconds."""
        return {tp: age for route in self._routes for tp, age in route.lanes.ages().items()}

    def _max_age(self, partition: TopicPartition) -> float:
        return self._intake.route(partition.topic)[0].settings.max_record_age

    def status(self) -> GroupStatus:
        """A snapshot of the group."""
        partitions = tuple(self._partition_status(p) for p in sorted(self._offsets))
        counts: Counter[str] = Counter(stale_completions=self._offsets.stale_completions)
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
            uncommitted=sum(self._offsets.state(p).uncommitted for p in self._offsets),
            buffered_bytes=self._intake.buffered_bytes,
            counts=dict(counts),
        )

    def _partition_status(self, partition: TopicPartition) -> PartitionStatus:
        state, member = self._offsets.state(partition), self._member()
        end = member.high_watermark(partition)
        lanes = self._intake.route(partition.topic)[0].lanes
        parked = lanes.parked(partition)
        age = lanes.ages().get(partition)
        if age is None and not parked and state.oldest_since is not None:
            age = self._clock() - state.oldest_since
        # Gaps at the end of the log are passed over by the client, and committed a little later.
        position = member.position(partition)
        position = state.position if position is None else position
        # Before the first record the client stands where the group has committed.
        start, _ = member.progress([partition]).get(partition, (position, position))
        committed = start if state.committed is None else state.committed
        known = end is not None and committed is not None
        return PartitionStatus(
            topic=partition.topic,
            partition=partition.partition,
            position=position,
            committed=committed,
            end=end,
            lag=max((end or 0) - (committed or 0), 0) if known else None,
            open=state.open,
            oldest_open_age=age,
            parked=parked,
            next_due=lanes.next_retry(partition),
        )
