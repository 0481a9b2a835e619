"""The outcome of one published message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from typing import Any, Protocol

from .batch_outcome import BatchOutcome, fresh
from .event_loop import check_loop
from .structs import RecordMetadata

__all__ = ["Delivery"]


class RecordMark(Protocol):
    """What a batch builder returns for a record."""

    @property
    def offset(self) -> int:
        """The record's index in its batch, from 0."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970."""


class Delivery:
    """An awaitable for the broker's acknowledgement of one message.

    Awaiting it gives aiokafka's `RecordMetadata`, or raises DeliveryFailedError (certainly not
    written) or DeliveryUnknownError (may have been written). It may be awaited any number of
    times and by several tasks; each gets an error object of its own. Cancelling a task that
    waits ends the wait, not the delivery. It may be given to `asyncio.wait`, `gather`, `wait_for`
    and `shield`. It need not be awaited: a failure that nobody looks at is logged and counted.
    `outcome` is that of the whole batch, for who waits for many.
    """

    __slots__ = ("__weakref__", "_record", "outcome")

    def __init__(self, outcome: BatchOutcome, record: RecordMark) -> None:
        self.outcome = outcome
        self._record = record

    def done(self) -> bool:
        """Say whether the message was acknowledged or has failed."""
        return self.outcome.find(self._record.offset)[0].is_settled

    def cancelled(self) -> bool:
        """Return False: what is buffered is published, it cannot be taken back."""
        return False

    def result(self) -> RecordMetadata:
        """Return topic, partition, offset and timestamp of the message.

        Raises:
            DeliveryFailedError: it was certainly not written.
            DeliveryUnknownError: it may or may not have been written.
            asyncio.InvalidStateError: neither is known yet.
        """
        outcome, index = self._settled()
        if outcome.error is not None:
            outcome.observe(index)
            raise fresh(outcome.error)
        return outcome.metadata(index, self._record.timestamp)

    def exception(self) -> BaseException | None:
        """Return why the message was not acknowledged, or None if it was.

        Raises:
            asyncio.InvalidStateError: neither is known yet.
        """
        outcome, index = self._settled()
        if outcome.error is None:
            return None
        outcome.observe(index)
        return fresh(outcome.error)

    def peek(self) -> tuple[RecordMetadata | None, BaseException | None] | None:
        """Return the metadata, or why there is none; None while neither is known.

        Unlike `exception`, for observers: a failure counts as looked at by nobody. The error is
        shared, so it must not be raised.
        """
        outcome, index = self.outcome.find(self._record.offset)
        if not outcome.is_settled:
            return None
        if outcome.error is not None:
            return None, outcome.error
        return outcome.metadata(index, self._record.timestamp), None

    @property
    def topic(self) -> str:
        """The topic's name, with the prefix."""
        return str(self.outcome.topic_partition.topic)

    @property
    def partition(self) -> int:
        """The partition that the message goes to."""
        return int(self.outcome.topic_partition.partition)

    @property
    def offset(self) -> int | None:
        """The message's offset once it is acknowledged, else None.

        None also if the broker did not say (acks=0, or it had the batch already).
        """
        outcome, index = self.outcome.find(self._record.offset)
        if not outcome.is_settled or outcome.error is not None:
            return None
        offset: int = outcome.metadata(index, self._record.timestamp).offset
        return offset if offset >= 0 else None

    def add_done_callback(
        self, callback: Callable[[Delivery], object], *, context: Context | None = None
    ) -> None:
        """Call `callback(delivery)` soon after the delivery is done, as asyncio's futures do."""
        check_loop(self.outcome.loop, f"the delivery to {self.topic}")
        loop = asyncio.get_running_loop()
        context = copy_context() if context is None else context
        outcome, index = self.outcome.find(self._record.offset)
        if outcome.is_settled:
            loop.call_soon(callback, self, context=context)
        else:
            outcome.add_callback(self, index, (callback, context, loop))

    def remove_done_callback(self, callback: Callable[[Delivery], object]) -> int:
        """Forget this callback; return how many times it had been added."""
        return self.outcome.find(self._record.offset)[0].remove_callback(self, callback)

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        outcome, index = self.outcome.find(self._record.offset)
        if not outcome.is_settled:
            check_loop(self.outcome.loop, f"the delivery to {self.topic}")
            waiter = asyncio.get_running_loop().create_future()
            outcome.add_waiter(waiter, index)
            try:
                yield from waiter
            except BaseException:
                # the batch may have been split meanwhile
                self.outcome.find(self._record.offset)[0].discard_waiter(waiter)
                raise
        return self.result()

    def __repr__(self) -> str:
        outcome, _ = self.outcome.find(self._record.offset)
        state = "pending"
        if outcome.is_settled:
            state = f"offset={self.offset}" if outcome.error is None else repr(outcome.error)
        return f"<Delivery {self.topic}[{self.partition}] {state}>"

    def _settled(self) -> tuple[BatchOutcome, int]:
        outcome, index = self.outcome.find(self._record.offset)
        if not outcome.is_settled:
            raise asyncio.InvalidStateError("the delivery is not done")
        return outcome, index
