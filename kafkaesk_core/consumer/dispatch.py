"""From fetched records to the lanes that handle them, and how many more are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import SubscriptionError
from kafkaesk_core.message import ParsedRecord, PartlyUnreadable, Unreadable
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.router import Ordering
from kafkaesk_core.scheduler import Lanes
from kafkaesk_core.settings import Settings

from .fetched import FetchedBatch, FetchedMessage, Holding, UnreadableMessage
from .handling import Handling

__all__ = ["Dispatcher", "HandlerPipeline"]


QUEUE_HIGH = 2_000
"""Records of one partition that wait or run before no more of it are taken; again at half.

Those that wait for a retry, or behind one, are not counted where others may overtake them.
"""

READ_AHEAD = 100
"""Records of a partition in order that are held while its head waits for a retry."""

RECORD_OVERHEAD = 200
"""Bytes that a record costs beside its key and value, roughly."""


class HandlerPipeline:
    """A handling, the lanes in which its records run, and the settings that hold for it."""

    __slots__ = ("handling", "lanes", "ordering", "settings")

    def __init__(
        self, handling: Handling[Any], lanes: Lanes[FetchedMessage], settings: Settings
    ) -> None:
        self.handling = handling
        self.lanes = lanes
        self.settings = settings
        self.ordering: Ordering = handling.subscription.ordering


class Dispatcher:
    """Registers and queues records, bounded in number and in bytes."""

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
        self.is_open = False

    @property
    def is_full(self) -> bool:
        """Whether partitions are assigned and no more of any of them is wanted now."""
        return self.is_open and len(self._offsets) > 0 and not self.wanted()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the records that wait or run, roughly."""
        return round(sum(one.size for one in self._holdings.values()))

    def pipeline(self, topic: str) -> tuple[HandlerPipeline, str]:
        """The pipeline that handles a topic, and the name of its stream.

        Raises:
            SubscriptionError: two handlers of the group match it; each would get half of it.
        """
        found = self._by_topic.get(topic)
        if found is None:
            found = self._by_topic[topic] = self._find_pipeline(topic)
        return found

    def _find_pipeline(self, topic: str) -> tuple[HandlerPipeline, str]:
        stream = self._stream_of(topic)
        matches = [
            pipeline
            for pipeline in self._pipelines
            if stream is not None and pipeline.handling.subscription.matches(stream)
        ]
        if stream is None or len(matches) != 1:
            names = " and by ".join(r.handling.subscription.handler_name for r in matches)
            group = self._pipelines[0].handling.subscription.group
            raise SubscriptionError(
                f"stream {stream or topic!r} is subscribed by {names or 'no handler'} in group "
                f"{group!r}, but a group has one handler per stream; give one of them another group"
            )
        return matches[0], stream

    # --- how much more

    def wanted(self) -> list[TopicPartition]:
        """Partitions of which more records may be taken now."""
        if not self.is_open or not self._offsets:
            return []
        # One half is for whoever comes first; of the other, each partition has a share that no
        # other can take: one that waits, or is slow, keeps nobody from reading.
        count = len(self._offsets)
        common = self._max_bytes / 2 if count > 1 else self._max_bytes
        share = common / count
        is_common_full = self.buffered_bytes >= common
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

    # --- in

    def take(self, partition: TopicPartition, records: Sequence[ParsedRecord]) -> None:
        """Register and queue records of one partition, without a wait in between (rule 20)."""
        pipeline, stream = self.pipeline(partition.topic)
        offsets = [record.offset for record in records]
        epoch = self._offsets.register(partition, offsets, self._clock())
        contents = [len(r.value or b"") + len(r.key or b"") for r in records]
        total = RECORD_OVERHEAD * len(records) + sum(contents)
        holding = self._holdings.setdefault(partition, Holding())
        holding.size += total
        room = total / len(records)
        finish = self._offsets.finisher(partition)
        batch = FetchedBatch(partition, epoch, stream, finish=finish, holding=holding, room=room)
        key_of = _KEYS[pipeline.ordering]
        if isinstance(records, PartlyUnreadable):
            messages = [
                (UnreadableMessage if isinstance(record, Unreadable) else FetchedMessage)(
                    record, batch
                )
                for record in records
            ]
        else:
            messages = [FetchedMessage(record, batch) for record in records]
        entries = zip(offsets, messages, strict=True)
        by_lane: dict[Hashable, list[tuple[int, FetchedMessage]]] = {}
        if key_of is None:
            by_lane[None] = list(entries)
        else:
            for record, entry in zip(records, entries, strict=True):
                by_lane.setdefault(key_of(record), []).append(entry)
        for key, of_lane in by_lane.items():
            pipeline.lanes.submit(partition, key, of_lane)

    def release(self, partitions: Collection[TopicPartition]) -> None:
        """Records of these partitions are redelivered: their handling can no longer fail."""
        for partition in partitions:
            if partition in self._holdings:
                self._holdings[partition].is_released = True

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop these partitions, with all that is queued of them."""
        self.release(partitions)
        for partition in partitions:
            self._holdings.pop(partition, None)
            self._full.discard(partition)


def _own_key(record: ParsedRecord) -> Hashable:
    return int(record.offset)


def _record_key(record: ParsedRecord) -> Hashable:
    # A record without a key has no order to keep: a lane of its own.
    key: bytes | None = record.key
    return int(record.offset) if key is None else key


_KEYS: dict[str, Callable[[ParsedRecord], Hashable] | None] = {
    "partition": None,  # one lane for all
    "key": _record_key,
    "unordered": _own_key,
}
