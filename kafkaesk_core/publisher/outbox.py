"""One partition's messages on their way: in order, one batch at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context

from aiokafka.structs import TopicPartition

from kafkaesk_core.batch_outcome import BatchOutcome
from kafkaesk_core.delivery import Delivery, RecordMark
from kafkaesk_core.errors import DeliveryUnknownError
from kafkaesk_core.message import OutgoingMessage

from .batches import Batch
from .desk import Desk
from .handover import Handover
from .transport import ProducerLike

__all__ = ["Outbox"]

logger = logging.getLogger("kafkaesk.publisher")


class Outbox:
    """The messages of one partition.

    A message goes into the open batch. That is sealed on the loop's next tick (or after
    `linger_seconds`), or when it is full, or when the batch before it was answered: exactly one
    batch is in the producer's hands, so nothing is ever queued behind a refused one.
    """

    __slots__ = (
        "_desk",
        "_flushes",
        "_hurry",
        "_loop",
        "_open",
        "_sealed",
        "_sending",
        "_task",
        "appended",
        "batch_limit",
        "on_sealed",
        "settled",
        "topic_partition",
    )

    def __init__(
        self, topic_partition: TopicPartition, desk: Desk, on_sealed: Callable[[Outbox], None]
    ) -> None:
        self.topic_partition = topic_partition
        self.on_sealed = on_sealed
        self.batch_limit = 2**31
        self.appended = 0
        self.settled = 0
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._open: Batch | None = None
        self._sealed: deque[Batch] = deque()
        self._sending: Batch | None = None
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._flushes: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def backlog(self) -> int:
        """How many batches are in front of a new one."""
        return len(self._sealed) + (self._sending is not None)

    @property
    def oldest(self) -> float | None:
        """When the first message that is not settled was published, by the loop's clock."""
        batch = self._sending or (self._sealed[0] if self._sealed else self._open)
        return None if batch is None else batch.opened

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What sends, while there is anything to send."""
        return self._task

    def append(
        self, message: OutgoingMessage, value: bytes | None, size: int, producer: ProducerLike
    ) -> Delivery:
        """Add a message to the open batch; `size` is the room that it has in the send buffer.

        Raises:
            TypeError: the key, the value or a header is of a type that cannot be sent.
        """
        batch, record = self._open, None
        if batch is not None and batch.bytes + size <= self.batch_limit:
            record = batch.builder.append(
                timestamp=message.timestamp_ms,
                key=message.key,
                value=value,
                headers=message.headers,
            )
        if batch is None or record is None:
            batch, record = self._append_to_new(message, value, producer)
        batch.bytes += size
        self.appended += 1
        if self._desk.on_published is not None and not message.is_internal:
            batch.messages.append((message, record))
        return Delivery(batch.outcome, record)

    def _append_to_new(
        self, message: OutgoingMessage, value: bytes | None, producer: ProducerLike
    ) -> tuple[Batch, RecordMark]:
        now = self._loop.time()
        outcome = BatchOutcome(self.topic_partition, self._desk.note_unobserved, self._loop)
        deadline = now + self._desk.delivery_timeout
        batch = Batch(producer.create_batch(), outcome, opened=now, deadline=deadline)
        record: RecordMark = batch.builder.append(
            timestamp=message.timestamp_ms, key=message.key, value=value, headers=message.headers
        )
        if self._open is not None:
            self._sealed.append(self._seal(self._open))
            self._hurry.set()
        self._open = batch
        if self._task is None:
            # Its first step is the next tick: what is published until then goes into this batch.
            self._task = self._loop.create_task(self._send_all(), context=Context())
        return batch, record

    def flushed(self) -> asyncio.Future[None]:
        """Return a future for the end of all that was published before; nothing lingers on."""
        self._hurry.set()
        future = self._loop.create_future()
        if self.settled >= self.appended:
            future.set_result(None)
        else:
            self._flushes.append((self.appended, future))
        return future

    def _note_settled(self, count: int) -> None:
        """Count records whose outcome is known, and tell those who wait for it."""
        self.settled += count
        while self._flushes and self._flushes[0][0] <= self.settled:
            _, future = self._flushes.pop(0)
            if not future.done():
                future.set_result(None)

    async def _send_all(self) -> None:
        try:
            while (batch := await self._next()) is not None:
                self._sending = batch
                count = batch.count
                if not await self._send(batch):
                    self._note_settled(count)
                self._sending = None
        finally:
            self._sending = None
            self._task = None  # no await since the queue was empty: nothing was added

    async def _next(self) -> Batch | None:
        if not self._sealed and self._open is not None:
            await self._linger(self._open)
        if self._sealed:
            return self._sealed.popleft()
        batch, self._open = self._open, None
        return None if batch is None else self._seal(batch)

    async def _linger(self, batch: Batch) -> None:
        end = batch.opened + self._desk.link.producer.linger_seconds
        if end > self._loop.time():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await self._hurry.wait()
        self._hurry.clear()

    def _seal(self, batch: Batch) -> Batch:
        batch.builder.close()
        self.on_sealed(self)
        return batch

    async def _send(self, batch: Batch) -> bool:
        """Send a batch; return whether its halves are to be sent in its stead."""
        handover = Handover(batch, self._desk)
        try:
            rest = await handover.run()
        except Exception as error:
            # A defect of ours: no delivery stays open for it.
            logger.exception("sending to %s[%d] failed", *self.topic_partition)
            topic, partition = self.topic_partition
            unknown = DeliveryUnknownError(
                f"publishing to {topic}[{partition}] failed: {error!r}; it may have been written",
                topic=topic,
                partition=partition,
            )
            if not batch.outcome.is_settled:
                self._desk.settle(batch, None, unknown)
            return False
        if handover.was_too_large:  # so the next ones are made smaller at once
            self.batch_limit = max(1, min(self.batch_limit, batch.bytes // 2))
        self._sealed.extendleft(reversed(rest))
        return bool(rest)
