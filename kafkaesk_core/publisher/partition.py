"""Queues the messages of one partition in order, and sends one batch at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial

import aiokafka.errors as kafka

from kafkaesk_core.delivery import BatchResult, Delivery, RecordMark, delivery_of
from kafkaesk_core.errors import (
    DeliveryError,
    DeliveryFailedError,
    DeliveryUnknownError,
    MessageTooLargeError,
    NotRunningError,
)
from kafkaesk_core.kafka.errors import (
    ProduceErrorKind,
    classify_produce_error,
    explain,
    is_retryable,
    is_too_large,
)
from kafkaesk_core.kafka.producer import Producer, SentBatch
from kafkaesk_core.message import Headers, OutgoingMessage
from kafkaesk_core.structs import RecordMetadata, TopicPartition
from kafkaesk_core.tasks import Backoff, start_detached

from .batch import Batch, BatchSettler
from .producer_session import ProducerSession

__all__ = ["BatchSender", "PartitionQueue"]

logger = logging.getLogger("kafkaesk.publisher")

_ANSWER_SECONDS = 5.0  # the least that a batch waits for its answer, if it was sent late
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


class PartitionQueue:
    """The messages of one partition.

    A message is added to the open batch. The batch is sealed on the event loop's next tick (or
    after `linger_seconds`), when it is full, or when the previous batch was answered. The producer
    has one batch at a time, so no batch is queued behind a refused one.

    Callbacks of the event loop hand a batch to the producer and settle it. A task does so only if
    something must be waited for, or if the batch was not acknowledged.
    """

    __slots__ = (
        "_due",
        "_flushes",
        "_is_hurried",
        "_is_lingering",
        "_loop",
        "_sealed",
        "_sealed_records",
        "_sending",
        "_settler",
        "_task",
        "batch_limit",
        "on_sealed",
        "open",
        "settled",
        "topic_partition",
    )

    def __init__(
        self,
        topic_partition: TopicPartition,
        settler: BatchSettler,
        on_sealed: Callable[[PartitionQueue], None],
    ) -> None:
        self.topic_partition = topic_partition
        self.on_sealed = on_sealed
        self.batch_limit = 2**31
        self._sealed_records = 0
        self.settled = 0
        self._settler = settler
        self._loop = asyncio.get_running_loop()
        self.open: Batch | None = None
        self._sealed: deque[Batch] = deque()
        self._sending: Batch | None = None
        self._due: asyncio.Handle | None = None  # the call that sends the next batch
        self._task: asyncio.Task[None] | None = None  # asyncio itself keeps no reference
        self._is_hurried = False  # the next batch does not linger
        self._is_lingering = False  # that call is a timer's
        self._flushes: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def backlog(self) -> int:
        """The number of batches to send before a new one."""
        return len(self._sealed) + (self._sending is not None)

    @property
    def oldest(self) -> float | None:
        """When the first unsettled message was published, on the loop's clock."""
        batch = self._sending or (self._sealed[0] if self._sealed else self.open)
        return None if batch is None else batch.opened

    @property
    def appended(self) -> int:
        """The number of records so far."""
        return self._sealed_records + (0 if self.open is None else self.open.count)

    def append(
        self, message: OutgoingMessage, value: bytes | None, size: int, producer: Producer
    ) -> Delivery:
        """Add a message to the open batch; `size` is its size in the send buffer.

        Raises:
            TypeError: the key, the value or a header is of a type that cannot be sent.
        """
        batch, record = self.open, None
        if batch is not None:
            record = batch.builder.append(
                message.timestamp_ms, message.key, value, message.headers, size
            )
        if batch is None or record is None:
            batch, record = self.begin(
                message.timestamp_ms, message.key, value, message.headers, size, producer
            )
        if self._settler.on_published is not None and not message.is_internal:
            batch.messages.append((message, record))
        return delivery_of(batch.result, record)

    def begin(
        self,
        timestamp_ms: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        size: int,
        producer: Producer,
    ) -> tuple[Batch, RecordMark]:
        """Open a batch with this record; it is sent on the next tick, or when its turn comes.

        Raises:
            TypeError: as with `append`.
        """
        now = self._loop.time()
        result = BatchResult(self.topic_partition, self._settler.note_unobserved, self._loop)
        deadline = now + self._settler.delivery_timeout
        batch = Batch(producer.create_batch(), result, opened=now, deadline=deadline)
        record = batch.builder.append(timestamp_ms, key, value, headers, size)
        assert record is not None  # an empty batch takes a record of any size
        batch.builder.max_held_bytes = self.batch_limit
        if self.open is not None:
            self._sealed.append(self._seal(self.open))
            self._hurry()
        self.open = batch
        if self._sending is None and self._due is None:
            # On the next tick: messages published until then go into this batch.
            self._due = self._loop.call_soon(self._send_next, context=Context())
        return batch, record

    def flushed(self) -> asyncio.Future[None]:
        """Stop lingering; return a future that is done once all messages so far are settled."""
        self._hurry()
        future = self._loop.create_future()
        if self.settled >= self.appended:
            future.set_result(None)
        else:
            self._flushes.append((self.appended, future))
        return future

    def _note_settled(self, count: int) -> None:
        """Count settled records, and wake the flushes that wait for them."""
        self.settled += count
        while self._flushes and self._flushes[0][0] <= self.settled:
            _, future = self._flushes.pop(0)
            if not future.done():
                future.set_result(None)

    # --- one batch after the other

    def _send_next(self) -> None:
        """Send the next batch, unless there is none or it lingers."""
        self._due, self._is_lingering = None, False
        batch = self._next()
        if batch is None:
            return
        self._sending = batch
        sender = BatchSender(batch, self._settler)
        sent = sender.hand_over()
        if sent is None:
            self._start(sender, None)
        else:
            answered = partial(self._answered, sender, sent)
            sent.future.add_done_callback(answered, context=Context())

    def _next(self) -> Batch | None:
        if self._sealed:
            return self._sealed.popleft()
        batch = self.open
        if batch is None or self._lingers(batch):
            return None
        self._is_hurried = False
        self.open = None
        return self._seal(batch)

    def _lingers(self, batch: Batch) -> bool:
        """Whether the open batch waits for more messages; then a timer sends it."""
        linger = self._settler.supervisor.producer.linger_seconds
        end = batch.opened + linger
        if not linger or self._is_hurried or end <= self._loop.time():
            return False
        self._due = self._loop.call_at(end, self._end_linger, context=Context())
        self._is_lingering = True
        return True

    def _end_linger(self) -> None:
        self._is_hurried = True
        self._send_next()

    def _hurry(self) -> None:
        """Send the open batch as soon as the batches before it are answered."""
        self._is_hurried = True
        if self._is_lingering and self._due is not None:
            self._due.cancel()
            self._due = self._loop.call_soon(self._send_next, context=Context())
            self._is_lingering = False

    def _answered(
        self, sender: BatchSender, sent: SentBatch, future: asyncio.Future[RecordMetadata | None]
    ) -> None:
        """Settle a batch that the broker has answered, and send the next one."""
        if future.cancelled() or future.exception() is not None:
            self._start(sender, sent)
            return
        try:
            sender.acknowledge(future.result())
        except Exception as error:
            self._note_defect(sender.batch, error)
        self._go_on(sender.batch.count)

    def _go_on(self, settled: int) -> None:
        """Note that a batch has ended with this number of settled messages; send the next one."""
        self._note_settled(settled)
        self._sending = None
        self._send_next()

    def _start(self, sender: BatchSender, sent: SentBatch | None) -> None:
        """Start the task that sends this batch, or sends it again after its failure."""
        self._task = start_detached(self._send(sender, sent))

    def _seal(self, batch: Batch) -> Batch:
        batch.builder.close()
        self._sealed_records += batch.count
        self.on_sealed(self)
        return batch

    async def _send(self, sender: BatchSender, sent: SentBatch | None) -> None:
        batch = sender.batch
        settled = batch.count
        try:
            rest = await sender.run(sent)
        except asyncio.CancelledError:
            self._sending = None
            raise
        except Exception as error:
            self._note_defect(batch, error)
        else:
            if sender.was_too_large:  # so that the next batches are smaller
                self.batch_limit = max(1, min(self.batch_limit, batch.bytes // 2))
                if self.open is not None:
                    self.open.builder.max_held_bytes = self.batch_limit
            if rest:
                self._sealed.extendleft(reversed(rest))
                settled = 0
        self._task = None
        self._go_on(settled)

    def _note_defect(self, batch: Batch, error: Exception) -> None:
        """Let the deliveries of a batch end all the same after a defect of this library."""
        topic, partition = self.topic_partition
        logger.error("sending to %s[%d] failed", topic, partition, exc_info=error)
        if not batch.result.is_settled:
            unknown = DeliveryUnknownError(
                f"publishing to {topic}[{partition}] failed: {error!r}; it may have been written",
                topic=topic,
                partition=partition,
            )
            self._settler.settle(batch, None, unknown)


class BatchSender:
    """Sends one batch, resends it if it was certainly not written, and settles it once."""

    __slots__ = ("_backoff", "_session", "_settler", "_trouble", "batch", "was_too_large")

    def __init__(self, batch: Batch, settler: BatchSettler) -> None:
        self.batch = batch
        self._settler = settler
        self._session: ProducerSession  # the last one that got the batch
        self._backoff: Backoff | None = None  # after a first failure
        self._trouble: Exception | None = None
        self.was_too_large = False
        """Whether the broker refuses batches of this size."""

    def hand_over(self) -> SentBatch | None:
        """Hand the batch to the producer if that needs no wait; else return None, and `run` it."""
        batch, session = self.batch, self._settler.supervisor.session
        now = asyncio.get_running_loop().time()
        if session is None or now >= batch.deadline:
            return None
        try:
            sent = session.producer.offer_batch(batch.builder, *batch.topic_partition)
        except Exception:
            return None  # `run` meets the same error, and reports it
        if sent is not None:
            self._note_sent(session, now)
        return sent

    def acknowledge(self, metadata: RecordMetadata | None) -> None:
        """Settle the batch that was handed over: the broker wrote it."""
        self._session.remove_in_flight(self)
        self._settler.settle(self.batch, metadata, None)

    async def run(self, sent: SentBatch | None) -> tuple[Batch, ...]:
        """Send and settle the batch, or return the halves to send instead.

        `sent` is what `hand_over` returned.
        """
        while True:
            try:
                sent = sent or await self._in_time()
            except (TimeoutError, NotRunningError, _CannotBeSentError) as error:
                self._fail(error)
                return ()
            session = self._session
            metadata, failure = await self._answer(sent)
            if failure is None:
                self._settler.settle(self.batch, metadata, None)
                return ()
            rest = await self._react(session, failure, sent.attempts)
            if rest is not None:
                return rest
            sent = None

    async def _in_time(self) -> SentBatch:
        loop = asyncio.get_running_loop()
        if loop.time() >= self.batch.deadline:
            raise TimeoutError  # asyncio.timeout_at does not interrupt code that does not wait
        async with asyncio.timeout_at(self.batch.deadline):
            session, sent = await self._hand_to_producer()
        self._note_sent(session, loop.time())
        return sent

    def _note_sent(self, session: ProducerSession, now: float) -> None:
        """Note that the batch is in flight, and when it is late."""
        self._session = session
        soonest = now + min(_ANSWER_SECONDS, self._settler.delivery_timeout / 2)
        session.add_in_flight(self, max(self.batch.deadline, soonest))

    async def _hand_to_producer(self) -> tuple[ProducerSession, SentBatch]:
        topic, partition = self.batch.topic_partition
        while True:
            session = await self._settler.supervisor.wait_for_session()
            try:
                return session, await session.producer.send_batch(
                    self.batch.builder, topic, partition
                )
            except Exception as error:
                error.__traceback__ = None
                self._trouble = error
                if not is_retryable(error) and session.producer.is_alive:
                    raise _CannotBeSentError from error
                self._settler.supervisor.check(asyncio.get_running_loop().time())
            await self._pause()

    async def _answer(self, sent: SentBatch) -> tuple[RecordMetadata | None, Exception | None]:
        try:
            return await sent.future, None
        except Exception as error:
            error.__traceback__ = None  # it refers to this frame, and so to the batch
            self._trouble = error
            return None, error
        finally:
            self._session.remove_in_flight(self)

    async def _react(
        self, session: ProducerSession, error: Exception, attempts: int
    ) -> tuple[Batch, ...] | None:
        """Return the batches to send instead; None to send the same one again."""
        kind = classify_produce_error(error, attempts)
        if kind is ProduceErrorKind.UNKNOWN:
            await self._give_up(session, error)
            return ()
        if attempts:
            self._undo(session, kind)
        if kind is ProduceErrorKind.CULPRIT and self.batch.count > 1:
            self.was_too_large = is_too_large(error)
            return self.batch.halves(session.producer.create_batch)
        if kind in (ProduceErrorKind.REFUSED, ProduceErrorKind.CULPRIT):
            self._fail(error)
            return ()
        if attempts:
            self.batch.repack(session.producer.create_batch)
        await self._pause()
        return None

    async def _pause(self) -> None:
        """Wait before the next attempt."""
        if self._backoff is None:
            self._backoff = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        await self._backoff.wait()

    def _undo(self, session: ProducerSession, kind: ProduceErrorKind) -> None:
        supervisor, (topic, partition) = self._settler.supervisor, self.batch.topic_partition
        if kind is ProduceErrorKind.RENEW:
            supervisor.retire(
                session, f"the broker accepts no more batches for {topic}[{partition}]"
            )
        else:
            session.producer.undo(topic, partition, self.batch.count)

    async def _give_up(self, session: ProducerSession, error: Exception) -> None:
        """Settle the batch as unknown, once this session can write nothing more."""
        topic, partition = self.batch.topic_partition
        self._settler.supervisor.retire(session, f"{topic}[{partition}]: {explain(error)}")
        await session.closed.wait()
        reason = session.reason if isinstance(error, kafka.ProducerClosed) else explain(error)
        unknown = DeliveryUnknownError(
            f"publishing {self._subject} was not acknowledged: {reason}; "
            "it may or may not have been written",
            topic=topic,
            partition=partition,
        )
        self._settle(unknown, error)

    def _fail(self, error: Exception) -> None:
        """Settle the batch as certainly not written."""
        topic, partition = self.batch.topic_partition
        kind: type[DeliveryFailedError] = DeliveryFailedError
        trouble = error if self._trouble is None else self._trouble
        reason = explain(trouble)
        if is_too_large(error):
            kind = MessageTooLargeError
            reason += "; raise max.message.bytes of the topic, or publish smaller messages"
        elif isinstance(error, TimeoutError):
            reason = f"no broker accepted it within {self._settler.delivery_timeout:g} seconds"
            reason += f"; the last error was {explain(trouble)}" if self._trouble else ""
        elif isinstance(error, NotRunningError):
            reason = "the publisher was stopped first"
        text = f"publishing {self._subject} failed, nothing was written: {reason}"
        self._settle(kind(text, topic=topic, partition=partition), trouble)

    @property
    def _subject(self) -> str:
        topic, partition = self.batch.topic_partition
        count = self.batch.count
        return f"{count} message{'s' if count != 1 else ''} to {topic}[{partition}]"

    def _settle(self, error: DeliveryError, cause: Exception) -> None:
        if not isinstance(cause, (TimeoutError, NotRunningError)):
            cause.__traceback__ = None
            error.__cause__ = cause
        self._settler.settle(self.batch, None, error)


class _CannotBeSentError(Exception):
    """The producer can never send this batch."""
