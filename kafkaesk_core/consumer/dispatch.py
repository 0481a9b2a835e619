"""Back-pressure: takes records from the client as there is room, and queues them in lanes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Sequence
from fnmatch import fnmatchcase
from itertools import repeat
from typing import Any

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import SubscriptionError
from kafkaesk_core.message import ParsedRecord, PartlyUnreadable, Unreadable
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.router import Ordering
from kafkaesk_core.scheduler import UNORDERED, Lanes
from kafkaesk_core.settings import Settings

from .fetched import FetchedBatch, FetchedRecord, Holding, NotedBatch, UnreadableMessage
from .handling import Handling
from .notes import CommitNotes

__all__ = ["Dispatcher", "HandlerPipeline"]


QUEUE_HIGH = 2_000
"""At this many waiting or running records of a partition no more are taken, until half are left.
Records that wait for a retry, or behind one, do not count if others may overtake them."""

READ_AHEAD = 100
"""With `ordering="partition"`: records that are taken while the first one waits for a retry."""

RECORD_OVERHEAD = 200
"""The approximate bytes of a record in addition to its key and value."""


class HandlerPipeline:
    """A subscription's handling, its lanes, and its settings."""

    __slots__ = ("_claimed", "handling", "lanes", "ordering", "settings")

    def __init__(
        self,
        handling: Handling[Any],
        lanes: Lanes[FetchedRecord],
        settings: Settings,
        claimed: Collection[str] = (),
    ) -> None:
        self.handling = handling
        self.lanes = lanes
        self.settings = settings
        self.ordering: Ordering = handling.subscription.ordering
        self._claimed = claimed  # streams of plugins, which no pattern takes

    def takes(self, stream: str | None) -> bool:
        """Whether the subscription takes a stream."""
        return stream is not None and self.handling.subscription.matches(stream, self._claimed)

    def is_claimed(self, stream: str) -> bool:
        """Whether a plugin owns a stream."""
        return any(fnmatchcase(stream, pattern) for pattern in self._claimed)

    @property
    def stream_regex(self) -> str:
        """A regular expression that matches the names of the subscription's streams."""
        return self.handling.subscription.regex_without(self._claimed)


class Dispatcher:
    """Registers records and queues them in lanes, within limits of number and of bytes."""

    def __init__(
        self,
        offsets: OffsetTracker[TopicPartition],
        pipelines: Sequence[HandlerPipeline],
        *,
        stream_of: Callable[[str], str | None],
        max_bytes: int,
    ) -> None:
        self._offsets = offsets
        self._pipelines = pipelines
        self._stream_of = stream_of
        self._max_bytes = max_bytes
        self._by_topic: dict[str, tuple[HandlerPipeline, str]] = {}
        self._holdings: dict[TopicPartition, Holding] = {}
        self._full: set[TopicPartition] = set()
        self._clock = asyncio.get_running_loop().time
        self.notes: CommitNotes | None = None
        """The notes that commits store about records; None if commits store none."""
        self.is_open = False

    @property
    def buffered_bytes(self) -> int:
        """The approximate size of the waiting and running records, in bytes."""
        self._offsets.settle()
        return round(sum(one.size for one in self._holdings.values()))

    def pipeline(self, topic: str) -> tuple[HandlerPipeline, str]:
        """Return the pipeline that handles a topic, and the name of its stream.

        Raises:
            SubscriptionError: two handlers of the group match the topic; each would get only a part
                of its records.
        """
        found = self._by_topic.get(topic)
        if found is None:
            found = self._by_topic[topic] = self._find_pipeline(topic)
        return found

    def _find_pipeline(self, topic: str) -> tuple[HandlerPipeline, str]:
        stream = self._stream_of(topic)
        matches = [pipeline for pipeline in self._pipelines if pipeline.takes(stream)]
        if stream is None or len(matches) != 1:
            names = " and by ".join(r.handling.subscription.handler_name for r in matches)
            group = self._pipelines[0].handling.subscription.group
            raise SubscriptionError(
                f"stream {stream or topic!r} is subscribed by {names or 'no handler'} in group "
                f"{group!r}, but a group has one handler per stream; give one of them another group"
            )
        return matches[0], stream

    # --- room

    def wanted(self) -> list[TopicPartition]:
        """The partitions that have room for more records now."""
        if not self.is_open or not self._offsets:
            return []
        # All partitions share half of the bytes. Each partition has its own share of the other
        # half, so a slow partition does not stop the others from being read.
        count = len(self._offsets)
        common = self._max_bytes / 2 if count > 1 else self._max_bytes
        share = common / count
        is_common_full = self.buffered_bytes >= common  # settles the offsets, once for all below
        return [
            partition
            for partition in self._offsets
            if not (is_common_full and self._size(partition) >= share) and self._has_room(partition)
        ]

    def _size(self, partition: TopicPartition) -> float:
        holding = self._holdings.get(partition)
        return 0.0 if holding is None else holding.size

    def _has_room(self, partition: TopicPartition) -> bool:
        pipeline, _ = self.pipeline(partition.topic)
        if self._offsets.open_count(partition) >= pipeline.settings.max_uncommitted:
            return False
        if pipeline.lanes.is_paused(partition):
            return False
        waiting, parked = pipeline.lanes.size(partition), pipeline.lanes.parked(partition)
        if parked and pipeline.ordering == "partition":
            return waiting < READ_AHEAD
        waiting -= parked
        if partition in self._full:
            if waiting > QUEUE_HIGH // 2:
                return False
            self._full.discard(partition)
        elif waiting >= QUEUE_HIGH:
            self._full.add(partition)
            return False
        return True

    # --- records

    def take(self, partition: TopicPartition, records: Sequence[ParsedRecord]) -> None:
        """Register and queue one partition's records; no rebalance intervenes (rule 20)."""
        pipeline, stream = self.pipeline(partition.topic)
        offsets = [record.offset for record in records]
        epoch = self._offsets.register(partition, offsets, self._clock())
        total = RECORD_OVERHEAD * len(records)
        total += sum([len(r.value or b"") + len(r.key or b"") for r in records])
        holding = self._holding(partition)
        holding.size += total
        room = total / len(records)
        finish = self._offsets.finisher(partition)
        notes = self.notes
        is_noted = notes is not None and notes.found and partition in notes.found
        kind = NotedBatch if is_noted else FetchedBatch
        batch = kind(partition, epoch, stream, finish=finish, holding=holding, room=room)
        if isinstance(records, PartlyUnreadable):
            for record in records:
                if isinstance(record, Unreadable):
                    batch.keep(UnreadableMessage(record, batch))
        entries = list(zip(offsets, records, repeat(batch)))
        if notes is not None and isinstance(batch, NotedBatch):
            entries = notes.apply(partition, entries, batch)
        self._queue(pipeline, partition, entries)

    @staticmethod
    def _queue(
        pipeline: HandlerPipeline, partition: TopicPartition, entries: Sequence[FetchedRecord]
    ) -> None:
        if pipeline.ordering != "key":
            lane = None if pipeline.ordering == "partition" else UNORDERED
            pipeline.lanes.submit(partition, lane, entries)
            return
        by_lane: dict[Hashable, list[FetchedRecord]] = {}
        for entry in entries:
            key: Hashable = entry[1].key
            by_lane.setdefault(UNORDERED if key is None else key, []).append(entry)
        for key, of_lane in by_lane.items():
            pipeline.lanes.submit(partition, key, of_lane)

    def _holding(self, partition: TopicPartition) -> Holding:
        found = self._holdings.get(partition)
        if found is None:
            notes = self.notes
            found = Holding(None if notes is None else notes.attempts(partition))
            self._holdings[partition] = found
        return found

    def stop_counting_crashes(self) -> None:
        """Stop counting crashes until the next assignment: handlers are about to be cancelled."""
        if self.notes is not None:
            self.notes.begun.stop_counting()

    def release(self, partitions: Collection[TopicPartition]) -> None:
        """Note that these partitions' records are redelivered: failures no longer count."""
        for partition in partitions:
            if partition in self._holdings:
                self._holdings[partition].is_released = True

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Forget these partitions and their records."""
        self.release(partitions)
        for partition in partitions:
            self._holdings.pop(partition, None)
            self._full.discard(partition)
        if self.notes is not None:
            self.notes.forget(partitions)
