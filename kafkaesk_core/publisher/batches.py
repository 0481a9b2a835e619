"""Messages of one partition, packed to be written together."""

from __future__ import annotations

from collections.abc import Callable

from aiokafka.structs import TopicPartition

from kafkaesk_core.batch_outcome import BatchOutcome
from kafkaesk_core.delivery import RecordMark
from kafkaesk_core.kafka.records import BatchBuilder, Record, read_records
from kafkaesk_core.message import OutgoingMessage

__all__ = ["Batch"]


class Batch:
    """Records in aiokafka's form, and what became of them.

    `bytes` is the room they take in the send buffer; `opened` and `deadline` are times of the
    event loop's clock; `first` is the index that the first record had before batches were split.
    `messages` are kept, with their records, only where somebody wants to be told.
    """

    __slots__ = ("builder", "bytes", "deadline", "first", "messages", "opened", "outcome")

    def __init__(
        self, builder: BatchBuilder, outcome: BatchOutcome, *, opened: float, deadline: float
    ) -> None:
        self.builder = builder
        self.outcome = outcome
        self.opened = opened
        self.deadline = deadline
        self.bytes = 0
        self.first = 0
        self.messages: list[tuple[OutgoingMessage, RecordMark]] = []

    @property
    def count(self) -> int:
        """How many records it has."""
        return int(self.builder.record_count())

    @property
    def topic_partition(self) -> TopicPartition:
        """Where it goes."""
        return self.outcome.topic_partition

    def repack(self, create_builder: Callable[[], BatchBuilder]) -> None:
        """Pack the same records again: a builder that was sent cannot be handed over twice."""
        self.builder = _pack(create_builder(), read_records(self.builder))

    def halves(self, create_builder: Callable[[], BatchBuilder]) -> tuple[Batch, Batch]:
        """Split into two batches, which take over the deliveries; this one is of no more use."""
        records = read_records(self.builder)
        middle = len(records) // 2
        outcomes = self.outcome.split([middle, len(records) - middle])
        first, second = (
            Batch(
                _pack(create_builder(), part), outcome, opened=self.opened, deadline=self.deadline
            )
            for part, outcome in zip((records[:middle], records[middle:]), outcomes, strict=True)
        )
        first.bytes = self.bytes * middle // len(records)
        second.bytes = self.bytes - first.bytes
        first.first, second.first = self.first, self.first + middle
        for message, record in self.messages:
            half = first if record.offset < second.first else second
            half.messages.append((message, record))
        return first, second


def _pack(builder: BatchBuilder, records: list[Record]) -> BatchBuilder:
    for record in records:
        builder.append(
            timestamp=record.timestamp_ms,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
    builder.close()
    return builder
