"""Taking records out of the client as its parser has made them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from kafkaesk_core.records import ParsedRecord

__all__ = ["leave_parsed"]


def leave_parsed(consumer: AIOKafkaConsumer) -> None:
    """Have a consumer hand out records without making a ConsumerRecord of each.

    It must be started, and subscribed to nothing yet.
    """
    consumer._fetcher._records = _Buffers()


class _Buffers(OrderedDict[TopicPartition, Any]):
    """What was fetched and not yet taken: as aiokafka keeps it, parsed when it is taken."""

    def __setitem__(self, partition: TopicPartition, fetched: Any) -> None:
        records = getattr(fetched, "_partition_records", None)  # a buffered error has none
        if records is not None:
            records._consumer_record = _as_parsed
        super().__setitem__(partition, fetched)


def _as_parsed(_: TopicPartition, record: ParsedRecord) -> ParsedRecord:
    return record
