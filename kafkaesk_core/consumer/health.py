"""The health and the status of a group, and the task that watches it (rule 32)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import BrokerError
from kafkaesk_core.kafka.consumer import GroupMember
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.status import GroupStatus, PartitionStatus, SubscriptionStatus
from kafkaesk_core.topics import Topics

from .commits import OffsetCommitter
from .dispatch import Dispatcher, HandlerPipeline
from .membership import Membership, Positions
from .rebalance import Rebalance

__all__ = ["Freshness", "GroupHealth", "HealthTicker"]

logger = logging.getLogger("kafkaesk.consumer")


class Freshness:
    """Notes when a broker last answered for each partition.

    The client does not report a broker that is cut off: its partitions make no progress until the
    broker is back. A broker without new records still answers twice a second.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stamps: dict[TopicPartition, Hashable] = {}
        self._heard: dict[TopicPartition, float] = {}

    def look(
        self,
        partitions: Collection[TopicPartition],
        wanted: Collection[TopicPartition],
        stamp: Callable[[TopicPartition], Hashable],
    ) -> None:
        """Compare the client's stamps of the last answers with the previous ones.

        A partition that is not wanted is not fetched, so its broker owes no answer.
        """
        now = self._clock()
        self._heard = {tp: at for tp, at in self._heard.items() if tp in partitions}
        for partition in partitions:
            last = stamp(partition)
            is_new = partition not in self._heard or last != self._stamps.get(partition)
            if is_new or partition not in wanted:
                self._heard[partition] = now
                self._stamps[partition] = last

    def silent(self, seconds: float) -> list[TopicPartition]:
        """Return the partitions without an answer for longer than this."""
        limit = self._clock() - seconds
        return sorted(tp for tp, at in self._heard.items() if at < limit)


SILENCE = 10.0
"""Seconds without an answer about a partition; brokers answer fetches twice a second."""

POLL_AGE = 60.0
LOOP_LAG = 1.0


class GroupHealth:
    """The health and status of one group; `member` returns the current member."""

    def __init__(
        self,
        group: str,
        offsets: OffsetTracker[TopicPartition],
        dispatcher: Dispatcher,
        commits: OffsetCommitter,
        rebalance: Rebalance,
        positions: Positions,
        pipelines: Sequence[HandlerPipeline],
        member: Callable[[], GroupMember],
    ) -> None:
        self._group = group
        self._offsets = offsets
        self._dispatcher = dispatcher
        self._commits = commits
        self._rebalance = rebalance
        self._positions = positions
        self._pipelines = pipelines
        self._member = member
        self._clock = asyncio.get_running_loop().time
        self._polled = self._clock()
        self.freshness = Freshness(self._clock)
        self._trouble: str | None = None
        self._loop_lag = 0.0
        self._awaited: tuple[str, ...] = ()
        self.paused: tuple[str, ...] = ()
        """The streams that `app.pause()` holds back, with the reasons."""

    # --- reports of the consumer

    def polled(self) -> None:
        """Note that a poll returned."""
        self._polled = self._clock()

    def report_trouble(self, reason: str | None) -> None:
        """Note a problem that the consumer retries, and log it once; None clears it.

        The reason names the group.
        """
        if reason is not None and reason != self._trouble:
            logger.warning("%s; trying again", reason)
        self._trouble = reason

    def report_missing(self, topics: Mapping[str, str | None], patterns: Sequence[str]) -> None:
        """Note topics that do not exist and patterns that match no topic; log each once.

        Each topic comes with an existing topic of a similar name, if there is one.
        """
        before = self._awaited
        self._awaited = (
            *(
                f"topic {topic} does not exist, or we are not authorized to see it"
                + (f"; did you mean {similar}?" if similar else "")
                for topic, similar in topics.items()
            ),
            *(f"no topic matches {pattern}" for pattern in patterns),
        )
        for awaited in self._awaited:
            if awaited not in before:
                logger.warning("group %s: %s; waiting for it", self._group, awaited)

    def watch(self, lag: float) -> None:
        """Find handlers that ignore their cancellation, and brokers that do not answer.

        `lag` is how late the event loop was, in seconds.
        """
        self.freshness.look(
            list(self._offsets), self._dispatcher.wanted(), self._member().last_answer
        )
        self._loop_lag = lag
        for pipeline in self._pipelines:
            seconds = pipeline.handling.subscription.timeout_seconds
            if seconds is None:
                continue
            for offset, _, batch in pipeline.lanes.overdue(
                seconds + pipeline.settings.cancel_grace
            ):
                logger.error(
                    "%s[%d]@%d (group %s, handler %s) ignored its cancellation after "
                    "timeout_seconds=%g; its lane stays blocked, others continue",
                    *(batch.partition.topic, batch.partition.partition, offset, self._group),
                    *(pipeline.handling.subscription.handler_name, seconds),
                )

    # --- answers

    @property
    def is_joined(self) -> bool:
        """Whether the group has given us an assignment, possibly empty, and still confirms it."""
        return self._member().is_joined and not self._member().is_cut_off

    def problems(self) -> list[str]:
        """Why the process should be restarted: the group makes no progress and will not recover."""
        now = self._clock()
        problems = []
        if now - self._polled > POLL_AGE and self._member().is_joined:
            problems.append(f"not polled for {now - self._polled:.0f} s")
        stuck = sum(pipeline.lanes.stuck for pipeline in self._pipelines)
        if stuck:
            problems.append(f"{stuck} handlers ignored their cancellation")
        problems += self._overaged()
        return [f"group {self._group}: {problem}" for problem in problems]

    def hindrances(self) -> list[str]:
        """Temporary problems of the group; it may recover by itself."""
        hindrances = []
        if not self._member().is_joined:
            hindrances.append("waiting for partitions (joining, or a rebalance)")
        elif self._member().is_cut_off:
            hindrances.append(
                f"no broker has confirmed its membership for {self._member().session_timeout:g} s "
                "(session_timeout_ms)"
            )
        if self._trouble:
            hindrances.append(self._trouble)
        hindrances += self._positions.problems
        if self._commits.last_error:
            hindrances.append(f"the last commit failed: {self._commits.last_error}")
        hindrances += self._awaited
        hindrances += self.paused
        if silent := self.freshness.silent(SILENCE):
            names = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in silent)
            hindrances.append(f"the brokers of {names} have not answered for {SILENCE:g} s")
        hindrances += self._delayed()
        if self._loop_lag > LOOP_LAG:
            hindrances.append(f"the event loop was blocked for {self._loop_lag:.1f} s")
        return [f"group {self._group}: {hindrance}" for hindrance in hindrances]

    def _overaged(self) -> list[str]:
        """The partitions with a record that has run for longer than `max_record_age` (rule 11).

        A record that waits for its retry is not counted: it waits on purpose, and a restart would
        only begin its handling again.
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
        """The partitions whose records have waited for too long while none of them is running."""
        ages, found, now = self._ages(), [], self._clock()
        for partition in self._offsets:
            limit, since = self._max_age(partition), self._offsets.state(partition).oldest_since
            lanes = self._dispatcher.pipeline(partition.topic)[0].lanes
            is_held_back = lanes.parked(partition) > 0 or lanes.is_paused(partition)
            is_waiting = partition not in ages and not is_held_back
            if is_waiting and since is not None and now - since > limit:
                found.append(
                    f"a record of {partition.topic}[{partition.partition}] has waited for "
                    f"{now - since:.0f} s to be handled, longer than max_record_age {limit:g} s"
                )
        return found

    def _ages(self) -> dict[Hashable, float]:
        """The seconds for which the oldest running record of each partition has been handled."""
        return {
            tp: age for pipeline in self._pipelines for tp, age in pipeline.lanes.ages().items()
        }

    def _max_age(self, partition: TopicPartition) -> float:
        return self._dispatcher.pipeline(partition.topic)[0].settings.max_record_age

    def status(self) -> GroupStatus:
        """A snapshot of the group."""
        partitions = tuple(self._partition_status(p) for p in sorted(self._offsets))
        counts: Counter[str] = Counter(stale_completions=self._offsets.stale_completions)
        counts.update(self._commits.counts)
        counts.update(self._rebalance.counts)
        counts.update({f"positions_{name}": n for name, n in self._positions.counts.items()})
        if self._dispatcher.notes is not None:
            counts.update(self._dispatcher.notes.counts)
        for pipeline in self._pipelines:
            counts.update(pipeline.handling.counts)
        return GroupStatus(
            group=self._group,
            is_joined=self.is_joined,
            partitions=partitions,
            running=sum(pipeline.lanes.running for pipeline in self._pipelines),
            stuck=sum(pipeline.lanes.stuck for pipeline in self._pipelines),
            uncommitted=sum(self._offsets.state(p).uncommitted for p in self._offsets),
            buffered_bytes=self._dispatcher.buffered_bytes,
            counts=dict(counts),
            generation=self._member().generation,
            subscriptions=tuple(map(self._subscription_status, self._pipelines)),
            paused=self.paused,
        )

    def _subscription_status(self, pipeline: HandlerPipeline) -> SubscriptionStatus:
        handling, lanes = pipeline.handling, pipeline.lanes
        return SubscriptionStatus(
            handler=handling.subscription.handler_name,
            streams=tuple(handling.subscription.streams),
            results=dict(handling.counts),
            running=lanes.running,
            parked=sum(map(lanes.parked, self._offsets)),
            last_error=handling.error_policy.last_error,
        )

    def _partition_status(self, partition: TopicPartition) -> PartitionStatus:
        state, member = self._offsets.state(partition), self._member()
        end = member.high_watermark(partition)
        lanes = self._dispatcher.pipeline(partition.topic)[0].lanes
        parked = lanes.parked(partition)
        age = lanes.ages().get(partition)
        if age is None and not parked and state.oldest_since is not None:
            age = self._clock() - state.oldest_since
        # The client passes over gaps at the end of the log; they are committed a little later.
        position = member.position(partition)
        position = state.position if position is None else position
        committed = member.committed(partition)
        if committed is None:  # the lag counts from where the group began
            start, _ = member.progress([partition]).get(partition, (position, position))
            base = start if state.committed is None else state.committed
        else:
            base = committed
        return PartitionStatus(
            topic=partition.topic,
            partition=partition.partition,
            position=position,
            committed=committed,
            end=end,
            lag=None if end is None or base is None else max(end - base, 0),
            open=state.open,
            oldest_open_age=age,
            parked=parked,
            next_due=lanes.next_retry(partition),
            is_paused=lanes.is_paused(partition),
        )


TICK = 1.0
REFRESH = 5.0
"""Seconds between two checks for topics that do not exist yet."""

FIRST_LOOK = 2.0
"""Seconds from the start to the first check: by then the group has usually joined."""


class HealthTicker:
    """Watches one group, once a second.

    A member is replaced if it gets no answer for a partition for `patience` seconds, although
    brokers return metadata every `metadata_age` seconds: its client is stuck.
    """

    def __init__(
        self,
        membership: Membership,
        pipelines: Sequence[HandlerPipeline],
        topics: Topics,
        health: GroupHealth,
        *,
        patience: float,
        metadata_age: float,
    ) -> None:
        self._membership = membership
        self._pipelines = pipelines
        self._topics = topics
        self._health = health
        self._patience = patience
        self._metadata_age = metadata_age
        self._metadata = 0.0
        self._answers: deque[float] = deque(maxlen=100)  # when brokers described it

    async def run(self) -> None:
        """Watch until cancelled."""
        clock = asyncio.get_running_loop().time
        looked = clock() - REFRESH + FIRST_LOOK
        while True:
            before = clock()
            await asyncio.sleep(TICK)
            now = clock()
            self._health.watch(now - before - TICK)
            if not self._membership.member.is_started:
                continue  # it is being replaced
            self._look_for_silence(now)
            if now - looked >= REFRESH:
                looked = now
                self._look_for_missing_topics()

    def _look_for_silence(self, now: float) -> None:
        member = self._membership.member
        if member.last_metadata != self._metadata:
            self._metadata = member.last_metadata
            self._answers.append(now)
        silent = self._health.freshness.silent(self._patience)
        if silent and self._brokers_answer(now):
            names = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in silent)
            member.break_off(
                BrokerError(
                    f"no answer about {names} for {self._patience:g} s, although brokers answer"
                )
            )

    def _brokers_answer(self, now: float) -> bool:
        """Whether brokers have answered for a while, not only since the end of an outage."""
        silence_began = now - self._patience
        is_settled = any(silence_began < at < now - SILENCE for at in self._answers)
        return is_settled and now - self._answers[-1] < self._metadata_age + SILENCE

    def _look_for_missing_topics(self) -> None:
        member = self._membership.member
        if not member.is_joined:
            return
        present = member.topics()
        missing = {
            topic: self._topics.declared_like(topic)
            for topic in self._literal_topics()
            if topic not in present
        }
        unmatched = self._unmatched_patterns(present)
        self._health.report_missing(missing, unmatched)
        if missing:
            member.refresh_metadata()

    def _literal_topics(self) -> list[str]:
        """The topics that the service names; plugins take care of their own streams' topics."""
        return [
            self._topics.topic_of(stream)
            for pipeline in self._pipelines
            for stream in pipeline.handling.subscription.literal_streams
            if not pipeline.is_claimed(stream)
        ]

    def _unmatched_patterns(self, present: Collection[str]) -> list[str]:
        streams = [self._topics.stream_of(topic) for topic in present]
        return [
            self._topics.topic_of(subscription.pattern)
            for pipeline in self._pipelines
            for subscription in (pipeline.handling.subscription,)
            if subscription.pattern and not subscription.literal_streams
            if not any(map(pipeline.takes, streams))
        ]
