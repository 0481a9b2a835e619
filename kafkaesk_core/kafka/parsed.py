"""Taking records out of the client as its parser has made them."""

from __future__ import annotations

from collections import OrderedDict
from types import FunctionType
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from kafkaesk_core.records import ParsedRecord

__all__ = ["leave_parsed"]


def leave_parsed(consumer: AIOKafkaConsumer) -> None:
    """Have a consumer hand out records without making a ConsumerRecord of each.

    It must be started, and subscribed to nothing yet. Where somebody has wrapped `getmany`, as
    instrumentations do, ConsumerRecords are made: what comes out of it is theirs to read.
    """
    consumer._fetcher._records = _Buffers()


class _Buffers(OrderedDict[TopicPartition, Any]):
    """What was fetched and not yet taken: as aiokafka keeps it, parsed when it is taken."""

    def __setitem__(self, partition: TopicPartition, fetched: Any) -> None:
        records = getattr(fetched, "_partition_records", None)  # a buffered error has none
        if records is not None and not _is_wrapped():
            records._consumer_record = _as_parsed
        super().__setitem__(partition, fetched)


def _is_wrapped() -> bool:
    getmany = AIOKafkaConsumer.getmany
    # Wrappers may look like what they wrap, but for their type, or their globals.
    is_plain = type(getmany) is FunctionType
    return not is_plain or getmany.__globals__["__name__"] != AIOKafkaConsumer.__module__


def _as_parsed(_: TopicPartition, record: ParsedRecord) -> ParsedRecord:
    return record
