"""Taking records out of the client as its parser has made them."""

from __future__ import annotations

from collections import OrderedDict
from types import FunctionType
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from kafkaesk_core.records import ParsedRecord

__all__ = ["Fetched", "leave_parsed"]


def leave_parsed(consumer: AIOKafkaConsumer) -> Fetched:
    """Have a consumer hand out records without making a ConsumerRecord of each.

    It must be started, and subscribed to nothing yet. Where somebody has wrapped `getmany`, as
    instrumentations do, ConsumerRecords are made: what comes out of it is theirs to read.
    """
    consumer._fetcher._records = fetched = Fetched()
    return fetched


class Fetched(OrderedDict[TopicPartition, Any]):
    """What was fetched and not yet taken: as aiokafka keeps it, parsed when it is taken."""

    def __init__(self) -> None:
        super().__init__()
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
            if not _is_wrapped():
                records._consumer_record = _as_parsed
        super().__setitem__(partition, fetched)


def _is_wrapped() -> bool:
    getmany = AIOKafkaConsumer.getmany
    # Wrappers may look like what they wrap, but for their type, or their globals.
    is_plain = type(getmany) is FunctionType
    return not is_plain or getmany.__globals__["__name__"] != AIOKafkaConsumer.__module__


def _as_parsed(_: TopicPartition, record: ParsedRecord) -> ParsedRecord:
    return record
