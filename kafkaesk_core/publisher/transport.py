"""What the publisher needs of a producer; a test may give it one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from aiokafka.structs import RecordMetadata

from kafkaesk_core.kafka.records import BatchBuilder

__all__ = ["HandedBatch", "ProducerLike"]


class HandedBatch(Protocol):
    """A batch in a producer's hands."""

    future: asyncio.Future[RecordMetadata | None]

    @property
    def attempts(self) -> int:
        """How many requests it was put into; 0 means that it was certainly not sent."""


class ProducerLike(Protocol):
    """What is needed of a producer; see `kafka.producer.Producer`."""

    @property
    def max_request_size(self) -> int:
        """The largest record, in bytes, before compression."""

    @property
    def is_compressing(self) -> bool:
        """Whether batches shrink on their way out."""

    @property
    def linger_seconds(self) -> float:
        """How long a batch waits for more records."""

    @property
    def is_sticky(self) -> bool:
        """Whether the partitions of keyless messages are ours to choose."""

    @property
    def is_alive(self) -> bool:
        """Whether it sends."""

    async def start(self, timeout: float) -> None:
        """Connect; raises KafkaeskError, cleaned up."""

    async def partitions(self, topic: str) -> Sequence[int]:
        """Wait for the topic's partitions; raises aiokafka's errors."""

    def known_partitions(self, topic: str) -> Sequence[int] | None:
        """Return the topic's partitions, empty if it is gone, None if nobody asked for it."""

    def available_partitions(self, topic: str) -> Sequence[int]:
        """Return those that have a leader."""

    def partition_for(
        self, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        """Return the partition of a key."""

    def create_batch(self) -> BatchBuilder:
        """Return an empty batch; also when closed."""

    async def send_batch(self, batch: BatchBuilder, topic: str, partition: int) -> HandedBatch:
        """Hand over; an aiokafka error means that nothing was handed over."""

    def undo(self, topic: str, partition: int, count: int) -> None:
        """Take back the sequence numbers of a batch that was not written."""

    async def close(self, timeout: float) -> None:
        """Send all and disconnect, bounded."""

    def force_close(self) -> Coroutine[Any, Any, None]:
        """Send nothing more, fail all futures, disconnect; bounded."""
