"""The publisher: encodes a message, puts it into the batch of its partition, returns a delivery."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafkaesk_core.delivery import Delivery, copy_exception, delivery_of
from kafkaesk_core.errors import DeliveryFailedError, NotRunningError
from kafkaesk_core.kafka.producer import Producer, room_for
from kafkaesk_core.message import OutgoingMessage
from kafkaesk_core.schema.encoding import Encoder
from kafkaesk_core.schema.registry import SchemaRegistration
from kafkaesk_core.tasks import retrieve_exception, start_detached
from kafkaesk_core.topics import Topics

from .batch import BatchSettler, OnPublished, PublisherCounts, Undelivered
from .model_writer import ModelWriter
from .partition import PartitionQueue
from .producer_session import ProducerSupervisor
from .send_buffer import SendBuffer
from .topic import TopicWriter, TopicWriters

__all__ = ["Publisher", "PublisherCounts", "Undelivered"]

logger = logging.getLogger("kafkaesk.publisher")

_WATCH_SECONDS = 1.0
_LATE_SECONDS = 30.0
_CLOSE_SECONDS = 1.0


class Publisher:
    """Publishes messages in batches, in the order of the calls for each partition.

    `encode` returns the bytes of a message, or None for a tombstone. `registration_of` returns the
    schema with which a message's topic is created. A message waits for its topic, for room in the
    send buffer, and for its acknowledgement, at most `delivery_timeout` seconds each.
    Unacknowledged messages take at most `send_buffer_bytes`.

    With `encoders`, the ones that `encode` uses, a model's message takes a fast path once a message
    like it took the full path; `model_writers` has the fast paths by stream. `validates` is as in
    `encode`.
    """

    def __init__(
        self,
        producer_factory: Callable[[], Producer],
        topics: Topics,
        encode: Callable[[OutgoingMessage], bytes | None],
        *,
        delivery_timeout: float = 120.0,
        send_buffer_bytes: int = 32 * 1024 * 1024,
        encoders: Mapping[type[Any], Encoder] | None = None,
        validates: bool = True,
        registration_of: Callable[[OutgoingMessage], SchemaRegistration | None] = lambda _: None,
    ) -> None:
        self._encode = encode
        self._encodes_before = False  # layers get what is written
        self._encoders = encoders
        self._validates = validates
        self._registration_of = registration_of
        self.model_writers: dict[str, ModelWriter] = {}
        self._delivery_timeout = delivery_timeout
        self._buffer = SendBuffer(send_buffer_bytes)
        self._stream_of = topics.stream_of
        self._supervisor = ProducerSupervisor(producer_factory)
        self._settler = BatchSettler(self._supervisor, self._buffer, delivery_timeout)
        self._writers = TopicWriters(topics, self._settler)
        self._appends = False  # also messages that have waited since before a stop
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[Undelivered] | None = None
        self._watching: asyncio.Task[None] | None = None

    def encode_before(self) -> None:
        """Expect messages that are already encoded; they cannot take the fast path."""
        self._encodes_before = True
        self.forget_model_writers()

    def forget_model_writers(self) -> None:
        """Let all messages take the full path, until a message like them has taken it."""
        for writer in self.model_writers.values():
            writer.close()
        self.model_writers.clear()

    def encode_itself(self) -> None:
        """Encode messages again, as by default, except those that are already encoded."""
        self._encodes_before = False

    @property
    def on_published(self) -> OnPublished | None:
        """Called once per message with its metadata or its error; None keeps no messages."""
        return self._settler.on_published

    @on_published.setter
    def on_published(self, callback: OnPublished | None) -> None:
        self._settler.on_published = callback

    @property
    def counts(self) -> PublisherCounts:
        """The counts of messages by result and of replaced producers, since creation."""
        self._settler.counts.replaced = self._supervisor.replaced
        return self._settler.counts

    async def start(self, timeout: float = 30.0) -> None:
        """Start the producer once, however many tasks call this; a call after a failure retries.

        Raises:
            BrokerUnreachableError: no broker answered within `timeout` seconds.
            AuthenticationError: the brokers refused our credentials, or we their certificate.
            AuthorizationError: idempotent writing is not authorized.
            NotRunningError: the publisher is stopped; it does not start again.
        """
        if self._buffer.accepts:
            return
        if self._stopping is not None:
            raise NotRunningError("the publisher was stopped and does not start again")
        if self._starting is None:
            self._starting = start_detached(self._start(timeout))
            self._starting.add_done_callback(retrieve_exception)
        starting = self._starting
        await asyncio.wait([starting])
        if starting.cancelled():
            raise NotRunningError("the publisher was stopped while it started")
        error = starting.exception()
        if error is not None:
            raise copy_exception(error)

    async def _start(self, timeout: float) -> None:
        try:
            await self._supervisor.start(timeout)
        finally:
            self._starting = None
        self._buffer.open()
        self._appends = True
        self._watching = start_detached(self._watch())

    async def send(self, message: OutgoingMessage) -> Delivery:
        """Put a message into the batch of its partition; wait only for a new topic or for room.

        Raises:
            NotRunningError: the publisher is not running.
            MessageTooLargeError: the message is larger than the producer or the topic allows.
            DeliveryFailedError: there was no room in time, the partition does not exist, or a
                message to a compacted topic has no key.
            TopicError: the topic cannot be created or used.
        """
        if not self._buffer.accepts:
            raise NotRunningError("nothing can be published: the publisher is not running")
        delivery = self._offer_to_model_writer(message)
        if delivery is not None:
            return delivery
        value = message.encoded if message.is_encoded else self._encode(message)
        writer = self._writers.get(message.topic)
        if writer is None or not writer.is_open:
            schema = self._registration_of(message)
            writer = await self._writers.admit(message.topic, schema, self._delivery_timeout)
        size = room_for(message.key, value, message.headers)
        if size > writer.max_bytes:
            self._writers.check_size(writer, message, value)
        if not self._buffer.take(size):
            await self._wait_for_room(message.topic, size)
        return self._append(message, value, size, writer)

    def offer(self, message: OutgoingMessage) -> Delivery | None:
        """Like `send` if that would not wait; otherwise do nothing and return None.

        Raises:
            MessageTooLargeError: as with `send`.
            DeliveryFailedError: as with `send`.
        """
        delivery = self._offer_to_model_writer(message)
        if delivery is not None:
            return delivery
        writer, buffer = self._writers.get(message.topic), self._buffer
        if writer is None or not (writer.is_open and buffer.is_free):
            return None
        if buffer.used >= buffer.limit:
            return None
        value = self._encode(message)
        size = room_for(message.key, value, message.headers)
        if size > writer.max_bytes:
            self._writers.check_size(writer, message, value)
        if buffer.used + size > buffer.limit and buffer.used:
            return None
        buffer.used += size
        return self._append(message, value, size, writer)

    def _offer_to_model_writer(self, message: OutgoingMessage) -> Delivery | None:
        """Try the fast path; return None if the message must take the full path."""
        short = self.model_writers.get(message.stream)
        if short is None or message.schema is not None or message.partition is not None:
            return None
        if message.topic != short.topic:  # a layer has changed it
            return None
        record = short.offer(message.data, message.key, message.headers, message.timestamp_ms)
        if record is None:
            return None
        message.schema, batch = short.schema, short.batch
        if self._settler.on_published is not None:
            batch.messages.append((message, record))
        return delivery_of(batch.result, record)

    def _add_model_writer(self, message: OutgoingMessage, writer: TopicWriter) -> None:
        """Let later messages take the fast path if they are like this one."""
        encoders = self._encoders
        if encoders is None or self._encodes_before:
            return
        if self._stream_of(message.topic) != message.stream:
            return  # a layer has changed it, which does not hold for others
        encoder = encoders.get(type(message.data))
        if encoder is not None and encoder.key == message.schema:
            short = ModelWriter(writer, self._buffer, encoder, encoders, validates=self._validates)
            self.model_writers[message.stream] = short

    def _append(
        self, message: OutgoingMessage, value: bytes | None, size: int, writer: TopicWriter
    ) -> Delivery:
        """Put a message into the batch of its partition; its room is already taken."""
        try:
            if not self._appends:
                raise NotRunningError("nothing was published: the publisher was stopped")
            producer = self._supervisor.producer
            queue = writer.queue_for(message.key, message.partition, producer)
            delivery = queue.append(message, value, size, producer)
        except BaseException:
            self._buffer.release(size)
            raise
        if message.stream not in self.model_writers:
            self._add_model_writer(message, writer)
        return delivery

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until every buffered message is acknowledged or has failed.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
        """
        flushes = [queue.flushed() for queue in self._queues() if queue.appended > queue.settled]
        if not flushes:
            return
        _, pending = await asyncio.wait(flushes, timeout=timeout)
        if pending:
            raise TimeoutError(f"{len(pending)} partitions were not flushed in {timeout} seconds")

    def health(self) -> list[str]:
        """Return the problems, one line each."""
        if not self._buffer.accepts:
            return ["the publisher is not running"]
        now = asyncio.get_running_loop().time()
        reasons = self._supervisor.health(now)
        age = now - min((queue.oldest or now for queue in self._queues()), default=now)
        if age > min(_LATE_SECONDS, self._delivery_timeout / 2):
            reasons.append(f"the oldest unacknowledged message is {age:.0f} seconds old")
        return reasons

    async def stop(self, timeout: float = 10.0) -> Undelivered:
        """Deliver the buffered messages within `timeout` seconds, then close in any case.

        Undelivered messages fail: as unknown if they were in flight, else as not written.
        Idempotent; a second call gets the same report. The publisher cannot be restarted.
        """
        if self._stopping is None:
            self._stopping = start_detached(self._stop(timeout))
        return await asyncio.shield(self._stopping)

    async def _stop(self, timeout: float) -> Undelivered:
        self._buffer.close()
        self._settler.start_report()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        is_drained = await self._drain(timeout - _CLOSE_SECONDS)
        self._appends = False
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self._writers.stop()
        self._buffer.queue.refuse(NotRunningError("nothing was published: the publisher stops"))
        await self._supervisor.stop(_CLOSE_SECONDS, is_drained=is_drained)
        with suppress(TimeoutError):
            await self.flush(_CLOSE_SECONDS)  # what was in flight fails now
        await asyncio.sleep(0)  # tasks that wait for a delivery look at it now
        self._settler.report_failures()
        return self._settler.report()

    async def _drain(self, timeout: float) -> bool:
        """Wait until nothing is left to send; return False if the time is over first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, timeout)):
                while self._is_busy:
                    await self.flush()
                    await asyncio.sleep(0.01 if self._is_busy else 0)
        return not self._is_busy

    @property
    def _is_busy(self) -> bool:
        return bool(self._buffer.queue) or any(writer.is_busy for writer in self._writers)

    def _queues(self) -> Sequence[PartitionQueue]:
        return [queue for writer in self._writers for queue in writer.queues.values()]

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_WATCH_SECONDS, self._delivery_timeout / 10))
            try:
                self._supervisor.check(loop.time())
                self._writers.refresh()
            except Exception:
                logger.exception("checking the producer failed; the check continues")

    async def _wait_for_room(self, topic: str, size: int) -> None:
        try:
            await self._buffer.enter(size, self._delivery_timeout)
        except TimeoutError as error:
            raise DeliveryFailedError(
                f"publishing {size} bytes to {topic} failed after "
                f"{self._delivery_timeout:g} seconds: {self._buffer.used} of "
                f"{self._buffer.limit} bytes of the send buffer still wait for acknowledgement; "
                "raise send_buffer_bytes, or publish more slowly",
                topic=topic,
            ) from error
