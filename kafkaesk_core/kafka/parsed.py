"""Taking records out of the client as its parser has made them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import RecordTooLargeError
from aiokafka.structs import TopicPartition

from kafkaesk_core.message import ParsedRecord, Unreadable

from .unreadable import Salvage

__all__ = ["Fetched", "is_wrapped", "leave_parsed"]


def leave_parsed(consumer: AIOKafkaConsumer) -> Fetched:
    """Have a consumer hand out records without making a ConsumerRecord of each.

    It must be started, and subscribed to nothing yet. Where somebody has wrapped `getmany`, as
    instrumentations do, ConsumerRecords are made: what comes out of it is theirs to read.
    """
    consumer._fetcher._records = fetched = Fetched(consumer)
    return fetched


class Fetched(OrderedDict[TopicPartition, Any]):
    """What was fetched and not yet taken: as aiokafka keeps it, parsed when it is taken."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        super().__init__()
        self._consumer = consumer
        self.salvage = Salvage()
        self._starts: dict[TopicPartition, tuple[Any, int]] = {}

    def start(self, partition: TopicPartition, assignment: Any) -> int | None:
        """Where the first fetch of a partition in this assignment began, if it brought anything."""
        of, offset = self._starts.get(partition, (None, None))
        return offset if of is assignment else None

    def __setitem__(self, partition: TopicPartition, fetched: Any) -> None:
        records = getattr(fetched, "_partition_records", None)  # a buffered error has none
        if records is not None:
            if self.start(partition, fetched._assignment) is None:
                self._starts[partition] = (fetched._assignment, records.next_fetch_offset)
            if not is_wrapped():
                records._consumer_record = _as_parsed
            records._records_iterator = self.salvage.records(partition, records)
        elif isinstance(getattr(fetched, "_error", None), RecordTooLargeError):
            fetched = self._cut_off(partition)
        super().__setitem__(partition, fetched)

    def _cut_off(self, partition: TopicPartition) -> FetchResult:
        """In place of the error that is raised once, while the position passes over the record."""
        assignment = self._consumer._subscription.subscription.assignment
        offset = assignment.state_value(partition).position
        records = _Unparsed([self.salvage.too_large(partition, offset)], offset + 1)
        return FetchResult(partition, assignment=assignment, partition_records=records, backoff=0.1)


class _Unparsed:
    """As aiokafka's PartitionRecords, of what needs no parser."""

    def __init__(self, records: Sequence[Unreadable], next_fetch_offset: int) -> None:
        self._records = iter(records)
        self.next_fetch_offset = next_fetch_offset

    def __iter__(self) -> Iterator[Unreadable]:
        return self._records


def is_wrapped() -> bool:
    """Whether somebody has replaced the client's `getmany`, as instrumentations do."""
    getmany = AIOKafkaConsumer.getmany
    # Wrappers may look like what they wrap, but for their type, or their globals.
    is_plain = type(getmany) is FunctionType
    return not is_plain or getmany.__globals__["__name__"] != AIOKafkaConsumer.__module__


def _as_parsed(_: TopicPartition, record: ParsedRecord) -> ParsedRecord:
    return record
