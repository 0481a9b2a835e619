"""Records as aiokafka packs them into batches: their size, and how to read them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from kafkaesk_core.message import Header

__all__ = ["BatchBuilder", "Record", "read_records", "record_bytes", "room_for"]

_RECORD_OVERHEAD_BYTES = 96  # above a batch's header (61) and a record's frame (21)
_HEADER_OVERHEAD_BYTES = 10


class Record(NamedTuple):
    """One record of a batch, as it was appended."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    timestamp_ms: int


def read_records(batch: BatchBuilder) -> list[Record]:
    """Return the records of a closed batch, in their order."""
    parsed = MemoryRecords(bytes(batch._build())).next_batch()
    return [Record(r.key, r.value, r.headers, r.timestamp) for r in parsed]


def record_bytes(key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> int:
    """Return the largest size, in bytes, of a batch of this one record before compression."""
    return int(DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers))


def room_for(key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> int:
    """Return about how many bytes a message takes in memory; never less than `record_bytes`.

    Quick. Names of headers that are not ASCII may take more.
    """
    size = _RECORD_OVERHEAD_BYTES
    if value is not None:
        size += len(value)
    if key is not None:
        size += len(key)
    for name, content in headers:
        size += len(name) + len(content or b"") + _HEADER_OVERHEAD_BYTES
    return size
