"""The results of published messages: of one message, of its batch, and of many messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeVar

from .errors import DeliveryUnknownError
from .structs import RecordMetadata, TopicPartition
from .tasks import check_loop

__all__ = [
    "BatchResult",
    "Delivery",
    "PendingDeliveries",
    "RecordMark",
    "copy_exception",
    "delivery_of",
    "metadata_of_batch",
]

Error = TypeVar("Error", bound=BaseException)
Function = Callable[["Delivery"], object]
Callback = tuple[Function, Context, asyncio.AbstractEventLoop]
_CREATE_TIME, _APPEND_TIME = 0, 1  # aiokafka: RecordMetadata.timestamp_type


class RecordMark(Protocol):
    """The object that a batch builder returns for a record."""

    @property
    def offset(self) -> int:
        """The record's index in its batch, from 0."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970."""


class Delivery:
    """An awaitable for the broker's acknowledgement of one message.

    Awaiting it returns aiokafka's `RecordMetadata`, or raises DeliveryFailedError (certainly not
    written) or DeliveryUnknownError (may have been written). It may be awaited any number of times
    and by several tasks; each of them gets its own error object. Cancelling a waiting task ends the
    wait, not the delivery. A delivery may be passed to `asyncio.wait`, `gather`, `wait_for` and
    `shield`. It need not be awaited: an unobserved failure is logged and counted. `batch` is the
    result of the whole batch, for callers that wait for many deliveries.
    """

    __slots__ = ("__weakref__", "_record", "batch")

    _record: RecordMark
    batch: BatchResult

    @classmethod
    def settled(cls, metadata: RecordMetadata) -> Delivery:
        """Return an acknowledged delivery, for a layer that has published the message itself."""
        batch = BatchResult(metadata.topic_partition)
        batch.acknowledge(metadata_of_batch(metadata), 1)
        return delivery_of(batch, _Mark(0, metadata.timestamp or 0))

    @classmethod
    def deferred(
        cls, future: asyncio.Future[RecordMetadata], topic: str = "", partition: int = -1
    ) -> Delivery:
        """Return a delivery that follows a future, for a layer that publishes later.

        `topic` and `partition` say where the message will be written, as far as known. A cancelled
        future results in a DeliveryUnknownError.
        """
        batch, mark = BatchResult(TopicPartition(topic, partition)), _LateMark()
        future.add_done_callback(partial(_settle_as, batch, mark))
        return delivery_of(batch, mark)

    def done(self) -> bool:
        """Return whether the message was acknowledged or has failed."""
        return self.batch.find(self._record.offset)[0].is_settled

    def cancelled(self) -> bool:
        """Return False: a buffered message will be published and cannot be withdrawn."""
        return False

    def result(self) -> RecordMetadata:
        """Return topic, partition, offset and timestamp of the message.

        Raises:
            DeliveryFailedError: the message was certainly not written.
            DeliveryUnknownError: the message may or may not have been written.
            asyncio.InvalidStateError: the delivery is not done.
        """
        batch, index = self._settled()
        if batch.error is not None:
            batch.observe(index)
            raise copy_exception(batch.error)
        return batch.metadata(index, self._record.timestamp)

    def exception(self) -> BaseException | None:
        """Return why the message was not acknowledged, or None if it was.

        Raises:
            asyncio.InvalidStateError: the delivery is not done.
        """
        batch, index = self._settled()
        if batch.error is None:
            return None
        batch.observe(index)
        return copy_exception(batch.error)

    def peek(self) -> tuple[RecordMetadata | None, BaseException | None] | None:
        """Return the metadata or the error; None while the delivery is not done.

        For observers: unlike `exception`, this does not mark a failure as observed. The error is
        shared, so it must not be raised.
        """
        batch, index = self.batch.find(self._record.offset)
        if not batch.is_settled:
            return None
        if batch.error is not None:
            return None, batch.error
        return batch.metadata(index, self._record.timestamp), None

    @property
    def index(self) -> int:
        """The index of the message's record in `batch`."""
        return self._record.offset

    @property
    def topic(self) -> str:
        """The topic's name, with the prefix."""
        return str(self.batch.topic_partition.topic)

    @property
    def partition(self) -> int:
        """The number of the message's partition."""
        return int(self.batch.topic_partition.partition)

    @property
    def offset(self) -> int | None:
        """The message's offset once it is acknowledged; None before.

        It is also None if the broker did not report it (acks=0, or the broker already had the
        batch).
        """
        batch, index = self.batch.find(self._record.offset)
        if not batch.is_settled or batch.error is not None:
            return None
        offset: int = batch.metadata(index, self._record.timestamp).offset
        return offset if offset >= 0 else None

    def add_done_callback(
        self, callback: Callable[[Delivery], object], *, context: Context | None = None
    ) -> None:
        """Call `callback(delivery)` soon after the delivery is done, as asyncio's futures do."""
        check_loop(self.batch.loop, f"the delivery to {self.topic}")
        loop = asyncio.get_running_loop()
        context = copy_context() if context is None else context
        batch, index = self.batch.find(self._record.offset)
        if batch.is_settled:
            loop.call_soon(callback, self, context=context)
        else:
            batch.add_callback(self, index, (callback, context, loop))

    def remove_done_callback(self, callback: Callable[[Delivery], object]) -> int:
        """Remove this callback; return how many times it had been added."""
        return self.batch.find(self._record.offset)[0].remove_callback(self, callback)

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        batch, index = self.batch.find(self._record.offset)
        if not batch.is_settled:
            check_loop(self.batch.loop, f"the delivery to {self.topic}")
            waiter = asyncio.get_running_loop().create_future()
            batch.add_waiter(waiter, index)
            try:
                yield from waiter
            except BaseException:
                # The batch may have been split meanwhile.
                self.batch.find(self._record.offset)[0].discard_waiter(waiter)
                raise
        return self.result()

    def __repr__(self) -> str:
        batch, _ = self.batch.find(self._record.offset)
        state = "pending"
        if batch.is_settled:
            state = f"offset={self.offset}" if batch.error is None else repr(batch.error)
        return f"<Delivery {self.topic}[{self.partition}] {state}>"

    def _settled(self) -> tuple[BatchResult, int]:
        batch, index = self.batch.find(self._record.offset)
        if not batch.is_settled:
            raise asyncio.InvalidStateError("the delivery is not done")
        return batch, index


def delivery_of(batch: BatchResult, record: RecordMark) -> Delivery:
    """Return the delivery of one record of a batch.

    It takes two thirds of the time of a constructor in Python.
    """
    delivery = Delivery()
    delivery.batch = batch
    delivery._record = record  # noqa: SLF001 (in place of a constructor)
    return delivery


@dataclass(slots=True)
class _Callbacks:
    """The done callbacks of one delivery, whose record has this index in the batch."""

    index: int
    entries: list[Callback] = field(default_factory=list)


class BatchResult:
    """The result of one batch, which the deliveries of its records share.

    It is settled once, by `acknowledge`, `fail` or `split`. If the batch failed and some of its
    deliveries were never observed, `on_unobserved` is called once with their number: when the last
    delivery is garbage-collected, as asyncio does with futures, or when `report` is called.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_metadata",
        "_observed",
        "_on_unobserved",
        "_parts",
        "_waiters",
        "count",
        "error",
        "is_settled",
        "loop",
        "topic_partition",
    )

    def __init__(
        self,
        topic_partition: TopicPartition,
        on_unobserved: Callable[[BatchResult, int], None] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.topic_partition = topic_partition
        self.loop = loop  # the event loop that settles it
        self.is_settled = False
        self.count = 0
        self.error: BaseException | None = None
        self._metadata: RecordMetadata | None = None
        self._parts: tuple[tuple[int, BatchResult], ...] = ()
        self._observed: set[int] | None = None
        self._on_unobserved = on_unobserved
        self._waiters: dict[asyncio.Future[None], int] | None = None
        self._callbacks: dict[Delivery, _Callbacks] | None = None

    def acknowledge(self, metadata: RecordMetadata | None, count: int) -> None:
        """Settle: the broker wrote all `count` records, the first at the offset in `metadata`.

        The metadata is None if the broker was not asked for an answer (acks=0).
        """
        self._metadata = metadata
        self._settle(count)

    def fail(self, error: BaseException, count: int) -> None:
        """Settle: none of the `count` records was acknowledged, for this reason."""
        error.__traceback__ = None  # its frames refer to the batch, and so to this object
        self.error = error
        self._settle(count)

    def split(self, counts: Sequence[int]) -> list[BatchResult]:
        """Divide the records among new results; the first one gets `counts[0]` records."""
        parts, start = [], 0
        for count in counts:
            parts.append((start, BatchResult(self.topic_partition, self._on_unobserved, self.loop)))
            start += count
        self._parts = tuple(parts)
        waiters, self._waiters = self._waiters, None
        for waiter, index in (waiters or {}).items():
            part, inner = self.find(index)
            part.add_waiter(waiter, inner)
        callbacks, self._callbacks = self._callbacks, None
        for delivery, added in (callbacks or {}).items():
            part, inner = self.find(added.index)
            for callback in added.entries:
                part.add_callback(delivery, inner, callback)
        return [part for _, part in parts]

    def find(self, index: int) -> tuple[BatchResult, int]:
        """Return the result that holds the record at this index, and its index in that result."""
        batch = self
        while batch._parts:
            start, batch = next(p for p in reversed(batch._parts) if p[0] <= index)
            index -= start
        return batch, index

    @property
    def is_done(self) -> bool:
        """Whether every record was acknowledged or has failed."""
        return self.is_settled or (bool(self._parts) and all(p.is_done for _, p in self._parts))

    @property
    def is_acknowledged(self) -> bool:
        """Whether the broker wrote all records, in one batch."""
        return self.is_settled and self.error is None

    def metadata(self, index: int, timestamp: int) -> RecordMetadata:
        """Return the metadata of one record; `timestamp` is the record's own, in milliseconds."""
        base, tp = self._metadata, self.topic_partition
        if base is None:
            return RecordMetadata(*tp, tp, -1, timestamp, _CREATE_TIME, None)
        # aiokafka reports offset -1 for a batch that the broker had already. It reports timestamp
        # -1 unless the topic is configured for the time of the append.
        offset = base.offset + index if base.offset >= 0 else -1
        kind = _CREATE_TIME
        if base.timestamp is not None and base.timestamp >= 0:
            timestamp, kind = base.timestamp, _APPEND_TIME
        return RecordMetadata(*tp, tp, offset, timestamp, kind, base.log_start_offset)

    def observe(self, index: int) -> None:
        """Note that a caller has observed the failure of this record."""
        if self._observed is None:
            self._observed = set()
        self._observed.add(index)

    def report(self) -> None:
        """Call `on_unobserved` once if this batch failed and some deliveries were not observed."""
        notify, self._on_unobserved = self._on_unobserved, None
        if notify is None or self.error is None:
            return
        unobserved = self.count - (0 if self._observed is None else len(self._observed))
        if unobserved > 0:
            notify(self, unobserved)

    def __del__(self) -> None:
        self.report()

    def add_waiter(self, waiter: asyncio.Future[None], index: int) -> None:
        """Resolve this future when the record at this index is settled."""
        if self._waiters is None:
            self._waiters = {}
        self._waiters[waiter] = index

    def discard_waiter(self, waiter: asyncio.Future[None]) -> None:
        """Forget a future that no task awaits any more."""
        if self._waiters is not None:
            self._waiters.pop(waiter, None)

    def add_callback(self, delivery: Delivery, index: int, callback: Callback) -> None:
        """Call the function with the delivery soon after the record at this index is settled."""
        if self._callbacks is None:
            self._callbacks = {}
        self._callbacks.setdefault(delivery, _Callbacks(index)).entries.append(callback)

    def remove_callback(self, delivery: Delivery, function: Function) -> int:
        """Remove a callback of this delivery; return how many times it had been added."""
        added = (self._callbacks or {}).get(delivery)
        if added is None:
            return 0
        kept = [entry for entry in added.entries if entry[0] != function]
        removed = len(added.entries) - len(kept)
        added.entries = kept
        return removed

    def _settle(self, count: int) -> None:
        self.count = count
        self.is_settled = True
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        callbacks, self._callbacks = self._callbacks, None
        for delivery, added in (callbacks or {}).items():
            for function, context, loop in added.entries:
                loop.call_soon(function, delivery, context=context)


def metadata_of_batch(metadata: RecordMetadata) -> RecordMetadata:
    """Return a batch's metadata as brokers send it: -1 if each record has its own timestamp."""
    is_of_append = metadata.timestamp_type == _APPEND_TIME
    return metadata if is_of_append else metadata._replace(timestamp=-1)


class _LateMark:
    """A record whose timestamp is set when the batch is written."""

    __slots__ = ("offset", "timestamp")

    def __init__(self) -> None:
        self.offset, self.timestamp = 0, -1


def _settle_as(batch: BatchResult, mark: _LateMark, future: asyncio.Future[RecordMetadata]) -> None:
    """Settle a batch of one record with the outcome of a finished future."""
    topic = batch.topic_partition.topic
    if future.cancelled():
        text = f"the delivery to {topic or 'its topic'} was cancelled by what publishes it later"
        batch.fail(DeliveryUnknownError(text, topic=topic), 1)
    elif (error := future.exception()) is not None:
        batch.fail(copy_exception(error), 1)
    else:
        metadata = future.result()
        batch.topic_partition, mark.timestamp = metadata.topic_partition, metadata.timestamp or 0
        batch.acknowledge(metadata_of_batch(metadata), 1)


class _Mark(NamedTuple):
    """A record with only its index known."""

    offset: int
    timestamp: int = -1


class PendingDeliveries:
    """Counts acknowledgements, and keeps only the deliveries that are not done.

    They are kept as ranges of indexes per batch, because all records of a batch are done at once.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self._pending: dict[
            BatchResult, list[list[int]]
        ] = {}  # each the first, and behind the last

    def add(self, batch: BatchResult, first: int, after: int) -> None:
        """Add the deliveries of the records at the indexes of a batch from `first` up to `after`.

        `after` is not included. Nothing happens if both are the same.
        """
        if first == after:
            return
        ranges = self._pending.setdefault(batch, [])
        if ranges and ranges[-1][1] == first:
            ranges[-1][1] = after
        else:
            ranges.append([first, after])

    def take_done(self) -> None:
        """Count the deliveries of batches that are done, and forget them.

        Raises:
            DeliveryError: a message was not acknowledged.
        """
        for batch in [batch for batch in self._pending if batch.is_done]:
            self._take(batch)

    async def wait(self) -> int:
        """Wait for all deliveries; return the number of acknowledged messages.

        Raises:
            DeliveryError: a message was not acknowledged.
        """
        while self._pending:
            batch, ranges = next(iter(self._pending.items()))
            indexes = _indexes(ranges)
            while not batch.is_done and (index := next(indexes, None)) is not None:
                await delivery_of(batch, _Mark(index))
            self._take(batch)
        return self.acknowledged

    def _take(self, batch: BatchResult) -> None:
        ranges = self._pending.pop(batch)
        if not batch.is_acknowledged:
            for index in _indexes(ranges):
                if (error := delivery_of(batch, _Mark(index)).exception()) is not None:
                    raise error
        self.acknowledged += sum(end - first for first, end in ranges)


def _indexes(ranges: Iterable[list[int]]) -> Iterator[int]:
    return chain.from_iterable(range(first, end) for first, end in ranges)


def copy_exception(error: Error) -> Error:
    """Return a copy of an error without its traceback, to be raised in its place.

    An error that several tasks share is never raised itself. Each raise would add frames to its
    traceback; the frames would keep the tasks' local variables alive, and these the error.
    """
    copied = type(error).__new__(type(error), *error.args)
    copied.args = error.args
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__
    copied.__suppress_context__ = True
    return copied
