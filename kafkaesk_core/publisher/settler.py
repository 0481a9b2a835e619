"""What the partitions of a publisher share: producer, send buffer, and the settling of batches."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakSet

from aiokafka.structs import RecordMetadata

from kafkaesk_core.delivery import BatchResult, copy_exception
from kafkaesk_core.errors import DeliveryError, DeliveryUnknownError
from kafkaesk_core.message import OutgoingMessage

from .producer_session import ProducerSupervisor
from .send_buffer import SendBuffer

if TYPE_CHECKING:
    from .partition import Batch

__all__ = ["BatchSettler", "OnPublished", "PublisherCounts", "Undelivered"]

logger = logging.getLogger("kafkaesk.publisher")

OnPublished = Callable[[OutgoingMessage, RecordMetadata | None, BaseException | None], None]


@dataclass(slots=True)
class PublisherCounts:
    """Messages by outcome, failures that were never awaited, and producers that were replaced."""

    acked: int = 0
    failed: int = 0
    unknown: int = 0
    unobserved: int = 0
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class Undelivered:
    """What a stop could not deliver: messages per topic, by what is known of them."""

    failed: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.failed or self.unknown)


class BatchSettler:
    """Settles batches: counts their messages, frees their room, notifies observers."""

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
        """Note that a batch was acknowledged, or why it was not."""
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
            self._tell(batch, error)

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
        """Do so now for the failures whose deliveries are still held by somebody."""
        for result in list(self._failures):
            result.report()

    def start_report(self) -> None:
        """Count what is undelivered from here on."""
        self._failed.clear()
        self._unknown.clear()

    def report(self) -> Undelivered:
        """Return what was not delivered since `start_report`."""
        return Undelivered(failed=dict(self._failed), unknown=dict(self._unknown))

    def _count_failure(self, error: DeliveryError, topic: str, count: int) -> None:
        if isinstance(error, DeliveryUnknownError):
            self.counts.unknown += count
            self._unknown[topic] += count
        else:
            self.counts.failed += count
            self._failed[topic] += count

    def _tell(self, batch: Batch, error: DeliveryError | None) -> None:
        tell = self.on_published
        for message, record in batch.messages if tell is not None else ():
            metadata = None
            if error is None:
                metadata = batch.result.metadata(record.offset - batch.first, record.timestamp)
            try:
                assert tell is not None
                tell(message, metadata, None if error is None else copy_exception(error))
            except Exception:
                logger.exception("an observer of the messages to %s failed", message.topic)
