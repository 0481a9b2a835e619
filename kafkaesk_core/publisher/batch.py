"""Batches of records: splits and settles them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from weakref import WeakSet

from kafkaesk_core.delivery import BatchResult, RecordMark, copy_exception
from kafkaesk_core.errors import DeliveryError, DeliveryUnknownError
from kafkaesk_core.kafka.producer import Record, RecordBatch, read_records
from kafkaesk_core.message import OutgoingMessage
from kafkaesk_core.structs import RecordMetadata, TopicPartition

from .producer_session import ProducerSupervisor
from .send_buffer import SendBuffer

__all__ = ["Batch", "BatchSettler", "OnPublished", "PublisherCounts", "Undelivered"]

logger = logging.getLogger("kafkaesk.publisher")


class Batch:
    """Records in aiokafka's form, with their result.

    `opened` and `deadline` are times of the event loop's
    clock. `first` is the index of the first record before the batch was split. `messages` and their
    records are kept only for observers.
    """

    __slots__ = ("builder", "deadline", "first", "messages", "opened", "result")

    def __init__(
        self, builder: RecordBatch, result: BatchResult, *, opened: float, deadline: float
    ) -> None:
        self.builder = builder
        self.result = result
        self.opened = opened
        self.deadline = deadline
        self.first = 0
        self.messages: list[tuple[OutgoingMessage, RecordMark]] = []

    @property
    def count(self) -> int:
        """The number of records."""
        return int(self.builder.record_count())

    @property
    def bytes(self) -> int:
        """The size of the records in the send buffer."""
        return self.builder.held_bytes

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition that the batch is sent to."""
        return self.result.topic_partition

    def repack(self, create_builder: Callable[[], RecordBatch]) -> None:
        """Pack the same records into a new builder, because a builder cannot be sent twice."""
        self.builder = _pack(create_builder(), read_records(self.builder), self.bytes)

    def halves(self, create_builder: Callable[[], RecordBatch]) -> tuple[Batch, Batch]:
        """Split the batch into two that take over its deliveries; it must not be used again."""
        records = read_records(self.builder)
        middle = len(records) // 2
        results = self.result.split([middle, len(records) - middle])
        share = self.bytes * middle // len(records)
        parts = (records[:middle], share), (records[middle:], self.bytes - share)
        first, second = (
            Batch(
                _pack(create_builder(), *part), result, opened=self.opened, deadline=self.deadline
            )
            for part, result in zip(parts, results, strict=True)
        )
        first.first, second.first = self.first, self.first + middle
        for message, record in self.messages:
            half = first if record.offset < second.first else second
            half.messages.append((message, record))
        return first, second


OnPublished = Callable[[OutgoingMessage, RecordMetadata | None, BaseException | None], None]


@dataclass(slots=True)
class PublisherCounts:
    """Counts of messages by result, of failures never awaited, and of replaced producers."""

    acked: int = 0
    failed: int = 0
    unknown: int = 0
    unobserved: int = 0
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class Undelivered:
    """The messages that a stop could not deliver, by topic: not written, or unknown."""

    failed: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.failed or self.unknown)


class BatchSettler:
    """Settles batches: counts their messages, releases their room, and notifies observers."""

    def __init__(
        self, supervisor: ProducerSupervisor, buffer: SendBuffer, delivery_timeout: float
    ) -> None:
        self.supervisor = supervisor
        self.buffer = buffer
        self.delivery_timeout = delivery_timeout
        self.on_published: OnPublished | None = None
        self.counts = PublisherCounts()
        self._failed: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._failures: WeakSet[BatchResult] = WeakSet()

    def settle(
        self, batch: Batch, metadata: RecordMetadata | None, error: DeliveryError | None
    ) -> None:
        """Settle a batch as acknowledged, or as failed with `error`."""
        count = batch.count
        if error is None:
            self.counts.acked += count
            batch.result.acknowledge(metadata, count)
        else:
            self._count_failure(error, batch.topic_partition.topic, count)
            batch.result.fail(error, count)
            self._failures.add(batch.result)
        self.buffer.release(batch.bytes)
        if batch.messages:
            self._notify(batch, error)

    def note_unobserved(self, result: BatchResult, count: int) -> None:
        """Log and count failures that were never awaited."""
        self.counts.unobserved += count
        logger.error(
            "%d of %d failed deliveries were never awaited: topic=%s partition=%d: %s",
            count,
            result.count,
            *result.topic_partition,
            result.error,
        )

    def report_failures(self) -> None:
        """Log and count unobserved failures whose deliveries still exist."""
        for result in list(self._failures):
            result.report()

    def start_report(self) -> None:
        """Count undelivered messages from here on."""
        self._failed.clear()
        self._unknown.clear()

    def report(self) -> Undelivered:
        """Return the messages that were not delivered since `start_report`."""
        return Undelivered(failed=dict(self._failed), unknown=dict(self._unknown))

    def _count_failure(self, error: DeliveryError, topic: str, count: int) -> None:
        if isinstance(error, DeliveryUnknownError):
            self.counts.unknown += count
            self._unknown[topic] += count
        else:
            self.counts.failed += count
            self._failed[topic] += count

    def _notify(self, batch: Batch, error: DeliveryError | None) -> None:
        observe = self.on_published
        for message, record in batch.messages if observe is not None else ():
            metadata = None
            if error is None:
                metadata = batch.result.metadata(record.offset - batch.first, record.timestamp)
            try:
                assert observe is not None
                observe(message, metadata, None if error is None else copy_exception(error))
            except Exception:
                logger.exception("an observer of the messages to %s failed", message.topic)


def _pack(builder: RecordBatch, records: list[Record], size: int) -> RecordBatch:
    for record in records:
        builder.append(record.timestamp_ms, record.key, record.value, record.headers)
    builder.held_bytes = size
    builder.close()
    return builder
