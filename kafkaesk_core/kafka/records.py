"""Fetched records: parses them, and replaces those that cannot be read."""

from __future__ import annotations

import logging
import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from types import FunctionType
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import RecordTooLargeError
from aiokafka.record.default_records import (  # the parser in Python: it can be looked into
    DefaultRecordBatch,
    _DefaultRecordBatchPy,
    _DefaultRecordPy,
)
from aiokafka.record.util import decode_varint_py
from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import DecodeError, Stop
from kafkaesk_core.message import Header, ParsedRecord, Unreadable

__all__ = ["Fetched", "Salvage", "is_wrapped", "leave_parsed", "take_records"]

logger = logging.getLogger("kafkaesk.kafka")

FRAME, MAGIC_AT = struct.Struct(">qi"), 16
"""Of a batch: its first offset and the length of its rest; the position of the format byte."""

TRIES = 3
"""Fetches of a batch with a wrong checksum before it counts as damaged on the broker."""

CODECS = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}


class Salvage:
    """Continues where the client's parser failed; each client has one.

    The parser raises for a whole fetch, and raises again whenever the fetch is repeated. The
    records around the bad one, and all partitions drained with it, would be lost or make no
    progress. Here the bad record becomes an Unreadable among the others, and fails when it is
    handled.
    """

    def __init__(self) -> None:
        self.found: set[TopicPartition] = set()
        """Partitions whose unreadable records were returned since this set was last emptied."""
        self._suspects: dict[TopicPartition, tuple[int, int]] = {}  # offset and fetches so far

    def records(self, partition: TopicPartition, parsed: Any) -> Iterator[Any]:
        """Yield the records of one fetch of a partition as `parsed` (PartitionRecords) does."""
        while True:
            try:
                yield from parsed._unpack_records()
            except Exception as error:
                batch = _batch_at(parsed)
                if batch is None or not _is_intact(batch):
                    # The network may have damaged it: it is fetched again, with what follows.
                    yield from self._suspect(partition, parsed, batch, error)
                    return
                yield from self._read(partition, parsed, batch)
            else:
                return

    def too_large(self, partition: TopicPartition, offset: int) -> Unreadable:
        """Return an Unreadable for a batch larger than a fetch: no fetch returns all of it."""
        return self._unreadable(partition, offset, offset, "its batch is cut off, or damaged")

    def _suspect(
        self, partition: TopicPartition, parsed: Any, batch: memoryview | None, error: Exception
    ) -> Iterator[Unreadable]:
        offset = parsed.next_fetch_offset
        at, tries = self._suspects.get(partition, (offset, 0))
        tries = tries + 1 if at == offset else 1
        self._suspects[partition] = (offset, tries)
        if tries < TRIES:
            logger.warning(
                "%s[%d]@%d: the fetched batch is damaged (%s); fetching it again",
                *(partition.topic, partition.partition, offset, error),
            )
            return
        del self._suspects[partition]
        last = offset if batch is None else _last_offset(batch, offset)
        parsed.next_fetch_offset = last + 1
        yield self._unreadable(partition, offset, last, f"its batch is damaged: {error}")

    def _read(self, partition: TopicPartition, parsed: Any, data: memoryview) -> Iterator[Any]:
        """Yield the remaining records of a batch whose checksum is right."""
        batch = _DefaultRecordBatchPy(data)
        offset, end = parsed.next_fetch_offset, batch.next_offset
        if batch.is_control_batch:  # never returned
            logger.warning(
                "%s[%d]@%d: a transaction's marker cannot be read",
                *(partition.topic, partition.partition, offset),
            )
            parsed.next_fetch_offset = end
            return
        try:
            batch._maybe_uncompress()
        except kafka_errors.UnsupportedCodecError as error:
            why = f"its batch has compression codec {batch.compression_type}, which is unknown"
            codec = CODECS.get(batch.compression_type)
            stop = None if codec is None else _remedy(partition, codec, error)
            parsed.next_fetch_offset = end
            yield self._unreadable(partition, offset, end - 1, why, stop=stop)
            return
        except Exception as error:
            parsed.next_fetch_offset = end
            why = f"its batch cannot be decompressed: {error!r}"
            yield self._unreadable(partition, offset, end - 1, why)
            return
        yield from self._read_records(partition, parsed, batch)
        parsed.next_fetch_offset = end

    def _read_records(
        self, partition: TopicPartition, parsed: Any, batch: _DefaultRecordBatchPy
    ) -> Iterator[Any]:
        buffer, at = bytes(batch._buffer), batch._pos
        last = batch.next_offset - 1
        for _ in range(batch._num_records):
            offset = parsed.next_fetch_offset
            try:
                length, start = decode_varint_py(buffer, at)
                at = start + length
                if length < 0 or at > len(buffer):
                    raise ValueError(f"it is {length} bytes long, {len(buffer) - start} are there")
            except (ValueError, IndexError) as error:
                # It is unknown where the next record begins.
                parsed.next_fetch_offset = last + 1
                yield self._unreadable(partition, offset, last, f"its size is wrong: {error}")
                return
            found = _Reader(buffer[start:at], batch)
            found.read()
            if found.offset is not None and batch.base_offset <= found.offset < offset:
                continue  # returned before
            if found.problem is None:
                record = found.record()
                parsed.next_fetch_offset = record.offset + 1
                yield parsed._consumer_record(partition, record)
                continue
            if found.offset is not None and offset <= found.offset <= last:
                offset = found.offset
            parsed.next_fetch_offset = offset + 1
            yield self._unreadable(partition, offset, offset, found.problem, found)

    def _unreadable(
        self,
        partition: TopicPartition,
        offset: int,
        last: int,
        why: str,
        found: _Reader | None = None,
        *,
        stop: Stop | None = None,
    ) -> Unreadable:
        self.found.add(partition)
        place = f"{partition.topic}[{partition.partition}]@{offset}"
        rest = "" if last == offset else f", with all up to offset {last}"
        error = stop or DecodeError(f"{place} cannot be read{rest}: {why}")
        topic, number = partition.topic, partition.partition
        if found is None:
            return Unreadable(topic, number, offset, error)
        key, value, headers = found.key, found.value, found.headers
        return Unreadable(topic, number, offset, error, key=key, value=value, headers=headers)


class _Reader:
    """Reads one record as far as possible; `problem` names the part that cannot be read."""

    def __init__(self, data: bytes, batch: _DefaultRecordBatchPy) -> None:
        self._data = data
        self._at = 1  # behind the attributes, of which there are none
        self._batch = batch
        self._timestamp = batch.max_timestamp
        self.offset: int | None = None
        self.key: bytes | None = None
        self.value: bytes | None = None
        self.headers: Sequence[Header] = []
        self.problem: str | None = None

    def read(self) -> None:
        """Read the record, up to the first part that cannot be read."""
        try:
            since = self._number()
            if self._batch.timestamp_type == self._batch.CREATE_TIME:
                self._timestamp = self._batch.first_timestamp + since
            self.offset = self._batch.base_offset + self._number()
            self.key = self._bytes()
            self.value = self._bytes()
            self.headers = [self._header() for _ in range(self._number())]
        except (ValueError, IndexError) as error:
            self.problem = f"its fields are wrong: {error}"
        else:
            if self._at != len(self._data):
                self.problem = f"it has {len(self._data) - self._at} bytes too many"

    def record(self) -> _DefaultRecordPy:
        """Return the record in the form of the client's parser."""
        return _DefaultRecordPy(
            self.offset,
            self._timestamp,
            self._batch.timestamp_type,
            self.key,
            self.value,
            self.headers,
        )

    def _number(self) -> int:
        number, self._at = decode_varint_py(self._data, self._at)
        return int(number)

    def _bytes(self) -> bytes | None:
        size = self._number()
        if size < 0:
            return None
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise ValueError(f"a field of {size} bytes does not fit into the record")
        return self._data[start : self._at]

    def _header(self) -> Header:
        name = self._bytes()
        if name is None:
            raise ValueError("a header has no name")
        try:
            return name.decode(), self._bytes()
        except UnicodeDecodeError:
            if self.problem is None:
                self.problem = f"the header name {name!r} is not UTF-8"
            return name.decode(errors="backslashreplace"), self._bytes()


def _remedy(partition: TopicPartition, codec: str, error: Exception) -> Stop:
    stop = Stop(
        f"topic {partition.topic} has records compressed with {codec}, for which no library "
        f"is installed; pip install kafkaesk-core[{codec}]"
    )
    stop.__cause__ = error
    return stop


def _batch_at(parsed: Any) -> memoryview | None:
    """Return the batch with the next offset to return; None if its place is unknown."""
    data, at = memoryview(_data_of(parsed._records)), 0
    while at + FRAME.size <= len(data):
        base, length = FRAME.unpack_from(data, at)
        end = at + FRAME.size + length
        if length < _DefaultRecordBatchPy.HEADER_STRUCT.size - FRAME.size or end > len(data):
            return None
        if data[at + MAGIC_AT] < 2:
            return None  # of the two older formats
        if base + _last_delta(data[at:end]) >= parsed.next_fetch_offset:
            return data[at:end]
        at = end
    return None


def _data_of(records: Any) -> bytes:
    """Return a parser's fetched bytes from its pickled state, which C and Python parsers have."""
    data = getattr(records, "_buffer", None)
    if data is None:
        parts = (part for state in records.__reduce__()[1:] if state for part in _flat(state))
        data = next((part for part in parts if isinstance(part, bytes)), None)
    if data is None:
        raise kafka_errors.CorruptRecordException("neither a batch nor its parts can be read")
    return bytes(data)


def _flat(state: tuple[Any, ...]) -> Iterator[Any]:
    for part in state:
        if isinstance(part, tuple):
            yield from _flat(part)
        else:
            yield part


def _is_intact(batch: memoryview) -> bool:
    return bool(DefaultRecordBatch(batch.tobytes()).validate_crc())


def _last_delta(batch: memoryview) -> int:
    return int(_DefaultRecordBatchPy(batch).last_offset_delta)


def _last_offset(batch: memoryview, offset: int) -> int:
    """Return the last offset of a damaged batch; the current one if its header is implausible."""
    damaged = _DefaultRecordBatchPy(batch)
    count, last = damaged._num_records, damaged.next_offset - 1
    is_plausible = damaged.base_offset <= offset <= last and count - 1 == damaged.last_offset_delta
    return last if is_plausible else offset


def leave_parsed(consumer: AIOKafkaConsumer) -> Fetched:
    """Let a consumer return parsed records without creating a ConsumerRecord for each.

    The consumer must be started and not subscribed yet. If `getmany` is wrapped, as
    instrumentations do, it still creates ConsumerRecords, because the wrapper reads them.
    """
    consumer._fetcher._records = fetched = Fetched(consumer)
    return fetched


class Fetched(OrderedDict[TopicPartition, Any]):
    """The fetched records that were not taken yet, in aiokafka's form; parsed only when taken."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        super().__init__()
        self._consumer = consumer
        self.salvage = Salvage()
        self._starts: dict[TopicPartition, tuple[Any, int]] = {}

    def start(self, partition: TopicPartition, assignment: Any) -> int | None:
        """Return the offset of a partition's first fetch in this assignment, if there was one."""
        of, offset = self._starts.get(partition, (None, None))
        return offset if of is assignment else None

    def __setitem__(self, partition: TopicPartition, fetched: Any) -> None:
        records = getattr(fetched, "_partition_records", None)  # a buffered error has none
        if records is not None:
            if self.start(partition, fetched._assignment) is None:
                self._starts[partition] = (fetched._assignment, records.next_fetch_offset)
            if not is_wrapped():
                records._consumer_record = _as_parsed
            records._records_iterator = iterator = self.salvage.records(partition, records)
            fetched.getall = partial(take_records, fetched, iterator)
        elif isinstance(getattr(fetched, "_error", None), RecordTooLargeError):
            fetched = self._cut_off(partition)
        super().__setitem__(partition, fetched)

    def _cut_off(self, partition: TopicPartition) -> FetchResult:
        """Return a result with an Unreadable, instead of an error that would skip the record."""
        assignment = self._consumer._subscription.subscription.assignment
        offset = assignment.state_value(partition).position
        records = _Unparsed([self.salvage.too_large(partition, offset)], offset + 1)
        return FetchResult(partition, assignment=assignment, partition_records=records, backoff=0.1)


class _Unparsed:
    """Behaves like aiokafka's PartitionRecords, for records that need no parser."""

    def __init__(self, records: Sequence[Unreadable], next_fetch_offset: int) -> None:
        self._records = iter(records)
        self.next_fetch_offset = next_fetch_offset

    def __iter__(self) -> Iterator[Unreadable]:
        return self._records


def is_wrapped() -> bool:
    """Whether the client's `getmany` was replaced, as instrumentations do."""
    getmany = AIOKafkaConsumer.getmany
    # A wrapper may look like the wrapped function, but has another type, or other globals.
    is_plain = type(getmany) is FunctionType
    return not is_plain or getmany.__globals__["__name__"] != AIOKafkaConsumer.__module__


def take_records(
    fetched: FetchResult, records: Iterator[ParsedRecord], max_records: int | None = None
) -> list[ParsedRecord]:
    """Do what `FetchResult.getall` does, without three calls for each record."""
    if not fetched.check_assignment(fetched._topic_partition) or not fetched.has_more():
        return []
    taken = list(islice(records, max_records))
    fetched._update_position()
    if max_records is None or len(taken) < max_records:
        fetched._partition_records = None
    return taken


def _as_parsed(_: TopicPartition, record: ParsedRecord) -> ParsedRecord:
    return record
