"""What the partitions of one publisher share: the way out, the room, the accounts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from weakref import WeakSet

from aiokafka.structs import RecordMetadata

from kafkaesk_core.batch_outcome import BatchOutcome, fresh
from kafkaesk_core.errors import DeliveryError, DeliveryUnknownError
from kafkaesk_core.message import OutgoingMessage

from .batches import Batch
from .line import SendBuffer
from .link import Link

__all__ = ["Desk", "OnPublished", "PublisherCounts", "Undelivered"]

logger = logging.getLogger("kafkaesk.publisher")

OnPublished = Callable[[OutgoingMessage, RecordMetadata | None, BaseException | None], None]


@dataclass(slots=True)
class PublisherCounts:
    """Messages by outcome, failures that nobody looked at, and producers that were replaced."""

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


class Desk:
    """Settles batches: counts them, gives their room back, tells who wants to know."""

    def __init__(self, link: Link, buffer: SendBuffer, delivery_timeout: float) -> None:
        self.link = link
        self.buffer = buffer
        self.delivery_timeout = delivery_timeout
        self.on_published: OnPublished | None = None
        self.counts = PublisherCounts()
        self._failed: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._failures: WeakSet[BatchOutcome] = WeakSet()

    def settle(
        self, batch: Batch, metadata: RecordMetadata | None, error: DeliveryError | None
    ) -> None:
        """Note that a batch was acknowledged, or why it was not."""
        count = batch.count
        if error is None:
            self.counts.acked += count
            batch.outcome.acknowledge(metadata, count)
        else:
            self._count_failure(error, batch.topic_partition.topic, count)
            batch.outcome.fail(error, count)
            self._failures.add(batch.outcome)
        self.buffer.release(batch.bytes)
        if batch.messages:
            self._tell(batch, error)

    def note_unobserved(self, outcome: BatchOutcome, count: int) -> None:
        """Log and count failures that nobody looked at."""
        self.counts.unobserved += count
        logger.error(
            "%d of %d failed deliveries were never awaited: topic=%s partition=%d: %s",
            count,
            outcome.count,
            *outcome.topic_partition,
            outcome.error,
        )

    def report_failures(self) -> None:
        """Do so now for the failures whose deliveries are still held by somebody."""
        for outcome in list(self._failures):
            outcome.report()

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
                metadata = batch.outcome.metadata(record.offset - batch.first, record.timestamp)
            try:
                assert tell is not None
                tell(message, metadata, None if error is None else fresh(error))
            except Exception:
                logger.exception("an observer of the messages to %s failed", message.topic)
