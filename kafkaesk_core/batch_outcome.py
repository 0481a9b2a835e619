"""What became of one batch of published messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .structs import RecordMetadata, TopicPartition

__all__ = ["BatchOutcome", "fresh"]

Error = TypeVar("Error", bound=BaseException)
Function = Callable[[Any], object]  # its argument is the delivery, which is a module further up
Callback = tuple[Function, Context, asyncio.AbstractEventLoop]
_CREATE_TIME, _APPEND_TIME = 0, 1  # aiokafka: RecordMetadata.timestamp_type


def fresh(error: Error) -> Error:
    """Return a copy of an error without its traceback, to be raised in its stead.

    An error that several tasks share is never raised itself: each raise adds to its traceback,
    and the frames in there would keep those tasks' locals, and through them the error, alive.
    """
    copied = type(error).__new__(type(error), *error.args)
    copied.args = error.args
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__
    copied.__suppress_context__ = True
    return copied


@dataclass(slots=True)
class _Callbacks:
    """The done callbacks of one delivery, whose record has this index in the batch."""

    index: int
    entries: list[Callback] = field(default_factory=list)


class BatchOutcome:
    """What became of one batch; shared by the deliveries of its records.

    Settled once, by `acknowledge`, `fail` or `split`. An outcome that failed and of whose
    deliveries nobody looked at some tells `on_unobserved` how many, once: when the last delivery
    is dropped (as asyncio does with futures), or when `report` is called.
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
        on_unobserved: Callable[[BatchOutcome, int], None] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.topic_partition = topic_partition
        self.loop = loop  # on which it is settled
        self.is_settled = False
        self.count = 0
        self.error: BaseException | None = None
        self._metadata: RecordMetadata | None = None
        self._parts: tuple[tuple[int, BatchOutcome], ...] = ()
        self._observed: set[int] | None = None
        self._on_unobserved = on_unobserved
        self._waiters: dict[asyncio.Future[None], int] | None = None
        self._callbacks: dict[object, _Callbacks] | None = None

    def acknowledge(self, metadata: RecordMetadata | None, count: int) -> None:
        """Settle: the broker wrote all `count` records, the first at the offset in `metadata`.

        None for the metadata means that the broker was not asked to say (acks=0).
        """
        self._metadata = metadata
        self._settle(count)

    def fail(self, error: BaseException, count: int) -> None:
        """Settle: none of the `count` records was acknowledged, for this reason."""
        error.__traceback__ = None  # its frames would hold the batch, and so this outcome
        self.error = error
        self._settle(count)

    def split(self, counts: Sequence[int]) -> list[BatchOutcome]:
        """Hand the records on to new outcomes, the first taking the first `counts[0]` of them."""
        parts, start = [], 0
        for count in counts:
            parts.append(
                (start, BatchOutcome(self.topic_partition, self._on_unobserved, self.loop))
            )
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

    def find(self, index: int) -> tuple[BatchOutcome, int]:
        """Return the outcome that decides on the record of this index, and the index in there."""
        outcome = self
        while outcome._parts:
            start, outcome = next(p for p in reversed(outcome._parts) if p[0] <= index)
            index -= start
        return outcome, index

    @property
    def is_done(self) -> bool:
        """Whether every record was acknowledged or has failed."""
        return self.is_settled or (bool(self._parts) and all(p.is_done for _, p in self._parts))

    @property
    def is_acknowledged(self) -> bool:
        """Whether the broker wrote all records, and the batch as it was."""
        return self.is_settled and self.error is None

    def metadata(self, index: int, timestamp: int) -> RecordMetadata:
        """Return the metadata of one record, `timestamp` being its own in milliseconds."""
        base, tp = self._metadata, self.topic_partition
        if base is None:
            return RecordMetadata(*tp, tp, -1, timestamp, _CREATE_TIME, None)
        # aiokafka gives -1 as the offset of a batch that the broker had already, and as the
        # timestamp unless the topic is configured to carry the time of append.
        offset = base.offset + index if base.offset >= 0 else -1
        kind = _CREATE_TIME
        if base.timestamp is not None and base.timestamp >= 0:
            timestamp, kind = base.timestamp, _APPEND_TIME
        return RecordMetadata(*tp, tp, offset, timestamp, kind, base.log_start_offset)

    def observe(self, index: int) -> None:
        """Note that somebody has seen how this record failed."""
        if self._observed is None:
            self._observed = set()
        self._observed.add(index)

    def report(self) -> None:
        """Tell `on_unobserved` if this failed and not every delivery was looked at; once."""
        tell, self._on_unobserved = self._on_unobserved, None
        if tell is None or self.error is None:
            return
        unobserved = self.count - (0 if self._observed is None else len(self._observed))
        if unobserved > 0:
            tell(self, unobserved)

    def __del__(self) -> None:
        self.report()

    def add_waiter(self, waiter: asyncio.Future[None], index: int) -> None:
        """Resolve this future when the record of this index is settled."""
        if self._waiters is None:
            self._waiters = {}
        self._waiters[waiter] = index

    def discard_waiter(self, waiter: asyncio.Future[None]) -> None:
        """Forget a future whose owner no longer waits."""
        if self._waiters is not None:
            self._waiters.pop(waiter, None)

    def add_callback(self, delivery: object, index: int, callback: Callback) -> None:
        """Call the function with the delivery soon after the record of this index is settled."""
        if self._callbacks is None:
            self._callbacks = {}
        self._callbacks.setdefault(delivery, _Callbacks(index)).entries.append(callback)

    def remove_callback(self, delivery: object, function: Function) -> int:
        """Forget a callback of this delivery; return how many times it had been added."""
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
