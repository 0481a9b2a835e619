"""The deliveries that a plugin makes for the messages that it publishes itself."""

from __future__ import annotations

from typing import NamedTuple

from .delivery import BatchResult, Delivery, delivery_of, metadata_of_batch
from .structs import RecordMetadata, TopicPartition

__all__ = ["PendingDelivery", "acknowledged_delivery"]


class _OnlyRecord(NamedTuple):
    """The position of a record that is alone in its batch."""

    offset: int
    timestamp: int


class PendingDelivery:
    """A delivery that its creator settles, for a layer of `wrap_publish` that publishes elsewhere.

    `timestamp_ms` is the record's timestamp, unless the broker reports the append time.
    """

    def __init__(self, topic_partition: TopicPartition, timestamp_ms: int = 0) -> None:
        self._result = BatchResult(topic_partition)
        self.delivery = delivery_of(self._result, _OnlyRecord(0, timestamp_ms))

    def acknowledge(self, metadata: RecordMetadata | None) -> None:
        """Settle the delivery: the record was written; pass None if its offset is unknown."""
        self._result.acknowledge(None if metadata is None else metadata_of_batch(metadata), 1)

    def fail(self, error: BaseException) -> None:
        """Settle the delivery with the reason why the record was, or may be, not written."""
        self._result.fail(error, 1)


def acknowledged_delivery(metadata: RecordMetadata) -> Delivery:
    """Return an acknowledged delivery, for a layer of `wrap_publish` that publishes itself.

    It is also useful in tests of layers.
    """
    return Delivery.settled(metadata)
