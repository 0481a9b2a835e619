"""From fetched records to the lanes that handle them, and how many more are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.errors import DecodeError, SubscriptionError
from kafkaesk_core.message import (
    IncomingMessage,
    ParsedRecord,
    PartlyUnreadable,
    Unreadable,
    consumer_record,
)
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.router import Ordering
from kafkaesk_core.scheduler import Lanes
from kafkaesk_core.settings import Settings

from .handling import Handling

__all__ = [
    "Dispatcher",
    "FetchedBatch",
    "FetchedMessage",
    "HandlerPipeline",
    "Holding",
    "UnreadableMessage",
]


class Holding:
    """The records of one partition that wait or run, in one time of owning it.

    `size` is how many bytes they take, roughly. `is_given_up` says that they are redelivered,
    here or elsewhere, whatever becomes of them: their errors no longer matter.
    """

    __slots__ = ("is_given_up", "size")

    def __init__(self) -> None:
        self.size = 0.0
        self.is_given_up = False


class FetchedBatch:
    """What records have in common that were taken together.

    `epoch` is the one in which their partition delivered them, `finish` closes their offsets in
    it; `room` is what each of them takes of the `holding`, on average, in bytes.
    """

    __slots__ = ("epoch", "finish", "holding", "partition", "room", "stream")

    def __init__(
        self,
        partition: TopicPartition,
        epoch: int,
        stream: str,
        *,
        finish: Callable[[int], bool],
        holding: Holding,
        room: float,
    ) -> None:
        self.partition = partition
        self.epoch = epoch
        self.stream = stream
        self.finish = finish
        self.holding = holding
        self.room = room


class FetchedMessage(IncomingMessage):
    """A record to be handled: the message of one attempt, and the batch that it came with.

    Layers may change the message, so each attempt has its own. A lane keeps the first one,
    whose `current_attempt` is the message of the present attempt, once that is a later one.
    """

    __slots__ = ("batch", "current_attempt", "offset")

    offset: int  # an attribute here, for it is read for each record

    def __init__(self, record: ParsedRecord, batch: FetchedBatch, attempt: int = 1) -> None:
        # As the class above does, without calling it: this is made for each record.
        self._record = record
        self.offset = record.offset
        self.value = record.value
        self.stream = batch.stream
        self.epoch = batch.epoch
        self.attempt = attempt
        self.is_closed = False
        self.turn = "waits"
        self.known_schema = None
        self._meta = None
        self.batch = batch
        self.current_attempt: FetchedMessage | None = None

    @property
    def record(self) -> ConsumerRecord:
        """The record as aiokafka hands it out; made when it is first asked for."""
        record = self._record = consumer_record(self.batch.partition, self._record)
        return record

    @property
    def topic(self) -> str:
        """The topic's name, with the prefix."""
        return self.batch.partition.topic  # type: ignore[no-any-return]  # aiokafka is untyped

    @property
    def partition(self) -> int:
        """The partition's number."""
        return self.batch.partition.partition  # type: ignore[no-any-return]  # aiokafka is untyped

    def begin_attempt_after(self, message: FetchedMessage) -> None:
        """Note that the attempt with this message is over and another one is to come."""
        self.current_attempt = type(self)(self._record, self.batch, message.attempt + 1)
        self.current_attempt.is_closed = message.is_closed  # by the handler itself


class UnreadableMessage(FetchedMessage):
    """The place of a record that cannot be read: its handling fails where it is decoded."""

    __slots__ = ()

    @property
    def value(self) -> bytes | None:
        """Never there.

        Raises:
            DecodeError: why the record cannot be read.
            Stop: it could be with a library that is not installed.
        """
        assert isinstance(self._record, Unreadable)
        raise self._record.error

    @value.setter
    def value(self, value: bytes | None) -> None:
        """Nothing can be put in its place."""

    @property
    def record(self) -> ConsumerRecord:
        """Not there either, as `value`."""
        return self.value

    def _parse_schema(self) -> str:
        raise DecodeError(f"{self.topic}[{self.partition}]@{self.offset} cannot be read")

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970, where they could be read, else 0."""
        return self._record.timestamp or 0


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

    def give_up(self, partitions: Collection[TopicPartition]) -> None:
        """Records of these partitions are redelivered: their handling can no longer fail."""
        for partition in partitions:
            if partition in self._holdings:
                self._holdings[partition].is_given_up = True

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop these partitions, with all that is queued of them."""
        self.give_up(partitions)
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
