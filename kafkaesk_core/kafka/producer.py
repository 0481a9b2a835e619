"""aiokafka's producer: sends batches of records; every call has a time limit."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import aiokafka.errors as kafka
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import RecordMetadata, TopicPartition

from kafkaesk_core.delivery import RecordMark
from kafkaesk_core.errors import AuthorizationError
from kafkaesk_core.message import Header

from .clients import start_client
from .diagnose import diagnose
from .errors import translate

__all__ = [
    "MESSAGE_OVERHEAD_BYTES",
    "Producer",
    "Record",
    "RecordBatch",
    "SentBatch",
    "read_records",
    "record_bytes",
    "room_for",
]

logger = logging.getLogger("kafkaesk.kafka.producer")

Result = TypeVar("Result")
_SEQUENCES = 2**31  # a producer's sequence number goes back to 0 there (KIP-98)
_PATIENCE_SECONDS = 0.5  # for answers on their way, and for connections to close
MESSAGE_OVERHEAD_BYTES = 96  # above a batch's header (61) and a record's frame (21)
_HEADER_OVERHEAD_BYTES = 10
_DEFAULTS: Mapping[str, Any] = {"request_timeout_ms": 30_000, "max_batch_size": 64 * 1024}


class RecordBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka is untyped
    """aiokafka's batch builder, for keys and values that are already bytes.

    aiokafka's own builder looks for serializers at each record, which takes as long as appending
    it. `held_bytes` is the sum of the sizes that were passed with the records; a record that would
    raise it above `max_held_bytes` does not fit.
    """

    held_bytes = 0
    max_held_bytes = sys.maxsize
    _closed: bool
    _relative_offset: int

    def append(
        self,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        size: int = 0,
    ) -> RecordMark | None:
        """Append a record; return None if it does not fit or the batch is closed.

        aiokafka's own limit closes the batch.

        Raises:
            TypeError: the key, the value or a header is of a type that cannot be sent.
        """
        held = self.held_bytes + size
        if self._closed or held > self.max_held_bytes:
            return None
        index = self._relative_offset
        record: RecordMark | None = self._builder.append(index, timestamp, key, value, headers)
        if record is None:
            self._closed = True
            return None
        self._relative_offset = index + 1
        self.held_bytes = held
        return record


class SentBatch:
    """A batch that aiokafka sends; `future` returns the metadata of its first record."""

    __slots__ = ("_entry", "future")

    def __init__(self, entry: Any) -> None:
        self._entry = entry  # aiokafka's MessageBatch
        # Not the shielded future that aiokafka returns: it is done one turn of the loop later.
        self.future: asyncio.Future[RecordMetadata | None] = entry.future

    @property
    def attempts(self) -> int:
        """The number of produce requests for the batch, including those that found no leader."""
        return int(self._entry.retry_count)


class Producer:
    """One aiokafka producer: idempotent and acks=all unless `options` say otherwise.

    AIOKafkaProducer gets all of `options`. It starts once and is closed once. Its tasks start in an
    empty context; otherwise they would keep the context variables of a handler.
    """

    def __init__(self, servers: Sequence[str], options: Mapping[str, Any] | None = None) -> None:
        self._servers = list(servers)
        self._options = {**_DEFAULTS, **(options or {})}
        # "all" and -1 mean the same; with less than that aiokafka refuses idempotence.
        if self._options.setdefault("acks", "all") in ("all", -1):
            self._options.setdefault("enable_idempotence", True)
        self._partitioner = self._options.get("partitioner", DefaultPartitioner())
        self.is_sticky = isinstance(self._partitioner, DefaultPartitioner)
        """Whether it has aiokafka's partitioner: then we choose partitions for keyless records."""
        self.linger_seconds = float(self._options.get("linger_ms", 0)) / 1000
        """How long a batch waits for more records."""
        self._client = AIOKafkaProducer(bootstrap_servers=self._servers, **self._options)
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def max_request_size(self) -> int:
        """The size of the largest record that can be sent, in bytes, before compression."""
        return int(self._client._max_request_size)

    @property
    def is_compressing(self) -> bool:
        """Whether batches are compressed."""
        return self._options.get("compression_type") is not None

    @property
    def is_alive(self) -> bool:
        """Whether the task that sends is running.

        aiokafka does not watch that task: after it has ended, batches are accepted but never sent
        (aiokafka#1039).
        """
        task = self._client._sender.sender_task
        return task is not None and not task.done() and not self._closed.done()

    async def start(self, timeout: float) -> None:
        """Connect. A failed start is cleaned up, and this object must not be used again.

        Raises:
            BrokerUnreachableError: no broker answered within `timeout` seconds.
            AuthenticationError: the brokers refused our credentials, or we their certificate.
            AuthorizationError: idempotent writing is not authorized.
        """
        try:
            await start_client(self._client.start(), self._client.client, timeout)
        except BaseException as error:
            await self.force_close()
            # aiokafka reports the reason only in its log: find it out again.
            if isinstance(error, (kafka.KafkaConnectionError, TimeoutError)):
                raise await diagnose(self._servers, self._options) from error
            if isinstance(error, kafka.ClusterAuthorizationFailedError):
                raise AuthorizationError(
                    "starting the producer failed: idempotent writing is not authorized; grant "
                    "Write on a topic, or set enable_idempotence to false"
                ) from error
            if isinstance(error, kafka.KafkaError):
                raise translate(error, "starting the producer", servers=self._servers) from error
            raise

    async def partitions(self, topic: str) -> Sequence[int]:
        """Return the topic's partitions; wait for the metadata for up to request_timeout_ms.

        Raises:
            kafka.KafkaError: the topic is unknown, or this producer is closed.
        """
        return sorted(await self._unless_closed(self._client.partitions_for(topic)))

    def known_partitions(self, topic: str) -> Sequence[int] | None:
        """Return the topic's partitions from the last fetched metadata.

        The set is empty if the topic does not exist, and None if the topic was not requested yet.
        """
        client = self._client.client
        known = client.cluster.partitions_for_topic(topic)
        if known is None:
            return () if topic in client._topics else None
        return sorted(known)

    def available_partitions(self, topic: str) -> Sequence[int]:
        """Return the topic's known partitions that have a leader."""
        return list(self._client.client.cluster.available_partitions_for_topic(topic) or ())

    def has_leader(self, topic: str, partition: int) -> bool:
        """Whether a partition has a leader, as far as known."""
        leader = self._client.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        return leader is not None and leader != -1

    def partition_for(
        self, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        """Return the partition that the partitioner chooses for this key."""
        return int(self._partitioner(key, list(partitions), list(available)))

    def create_batch(self) -> RecordBatch:
        """Return an empty batch; this also works after the producer was closed."""
        accumulator = self._client._message_accumulator
        return RecordBatch(accumulator._batch_size, accumulator._compression_type)

    async def send_batch(self, batch: RecordBatch, topic: str, partition: int) -> SentBatch:
        """Send a non-empty batch; at most one per partition at a time.

        aiokafka would queue several batches behind one another, and lose the batches behind a
        refused one (K32, K33). A batch that was never sent may be passed again.

        Raises:
            kafka.KafkaError: the batch was not accepted, and none of it will be written.
        """
        if self._closed.done():
            raise kafka.ProducerClosed
        known = self._client.client.cluster.partitions_for_topic(topic)
        if known is None:
            known = await self._unless_closed(self._client.partitions_for(topic))
        if partition not in known:
            raise kafka.UnknownTopicOrPartitionError(f"{topic} has no partition {partition}")
        sent = self.offer_batch(batch, topic, partition)
        if sent is not None:
            return sent
        tp = TopicPartition(topic, partition)
        self._wrap_sequence(tp)
        shielded = await self._client.send_batch(batch, topic, partition=partition)
        shielded.cancel()  # not used, see SentBatch: its exception is never read
        return SentBatch(self._client._message_accumulator._batches[tp][-1])

    def offer_batch(self, batch: RecordBatch, topic: str, partition: int) -> SentBatch | None:
        """Like `send_batch` if that would neither wait nor fail; otherwise return None."""
        accumulator = self._client._message_accumulator
        if self._closed.done() or accumulator._closed or accumulator._exception is not None:
            return None
        tp = TopicPartition(topic, partition)
        is_known = self._client.client.cluster.leader_for_partition(tp) is not None
        if not is_known or accumulator._batches.get(tp):
            return None
        self._wrap_sequence(tp)
        # The end of aiokafka's `send_batch`, without a future that is never read.
        return SentBatch(accumulator._append_batch(batch, tp))

    def undo(self, topic: str, partition: int, count: int) -> None:
        """Take back the sequence numbers of a batch that was certainly not written.

        Otherwise the broker refuses all later batches of the partition, because a number is missing
        (K33).
        """
        manager = self._client._txn_manager
        if manager is not None:
            numbers, tp = manager._sequence_numbers, TopicPartition(topic, partition)
            numbers[tp] = (numbers[tp] - count) % _SEQUENCES

    def _wrap_sequence(self, tp: TopicPartition) -> None:
        # aiokafka wraps from 2**31 - 1 to -2**31, which brokers refuse (aiokafka#1039).
        manager = self._client._txn_manager
        if manager is not None and manager._sequence_numbers[tp] < 0:
            manager._sequence_numbers[tp] %= _SEQUENCES

    async def close(self, timeout: float) -> None:
        """Send the accepted batches and disconnect; disconnect by force after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._client.stop()
        except TimeoutError:
            logger.warning("the producer did not stop in %.1f seconds, closing by force", timeout)
        finally:
            await self.force_close()

    async def force_close(self) -> None:
        """Stop sending now: every future fails, and unsent batches are never sent.

        A batch that a broker has received may still be written. The order matters (K40): the sender
        is stopped first, because it would continue with queued batches; the client is closed last.
        """
        if self._closed.done():
            return
        self._closed.set_result(None)
        await self._stop_sending()
        accumulator = self._client._message_accumulator
        # A batch that waits for its retry is in none of aiokafka's sets of pending batches, so that
        # the callback of its future would raise KeyError.
        retried = (b for waiting in accumulator._batches.values() for b in waiting if b.retry_count)
        accumulator._pending_batches.update(retried)
        batches = [b for waiting in accumulator._batches.values() for b in waiting]
        batches += accumulator._pending_batches
        accumulator.fail_all(kafka.ProducerClosed())
        for batch in batches:  # or asyncio reports their exceptions
            batch.future.exception()
            batch._drain_waiter.exception()
        self._client._closed = True
        client = self._client.client
        for connection in client._conns.values():
            if connection._writer is not None:
                connection._writer.transport.abort()  # closing would wait until all is written
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await client.close()

    async def _stop_sending(self) -> None:
        sender = self._client._sender
        if sender.sender_task is None:
            return
        sender.sender_task.cancel()  # it then waits for the requests in flight
        done, _ = await asyncio.wait([sender.sender_task], timeout=_PATIENCE_SECONDS)
        if not done:
            # They wait for a broker that does not answer. aiokafka keeps them in a local variable.
            requests = [task for task in asyncio.all_tasks() if _is_request_of(sender, task)]
            for request in requests:
                request.cancel()
            await asyncio.wait([sender.sender_task, *requests], timeout=_PATIENCE_SECONDS)

    async def _unless_closed(self, work: Coroutine[Any, Any, Result]) -> Result:
        # aiokafka's waits for metadata never end once the client is closed.
        task = asyncio.get_running_loop().create_task(work)
        try:
            waiting: list[asyncio.Future[Any]] = [task, self._closed]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise kafka.ProducerClosed
            return task.result()
        finally:
            task.cancel()


def _is_request_of(sender: object, task: asyncio.Task[Any]) -> bool:
    coroutine: Any = task.get_coro()
    frame = getattr(coroutine, "cr_frame", None)
    is_request = getattr(coroutine, "__name__", "") == "_send_produce_req"
    return is_request and frame is not None and frame.f_locals.get("self") is sender


# --- records, as aiokafka packs them into batches


class Record(NamedTuple):
    """One record of a batch, as appended."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    timestamp_ms: int


def read_records(batch: RecordBatch) -> list[Record]:
    """Return the records of a closed batch, in order."""
    parsed = MemoryRecords(bytes(batch._build())).next_batch()
    return [Record(r.key, r.value, r.headers, r.timestamp) for r in parsed]


def record_bytes(key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> int:
    """Return the largest possible size, in bytes, of a batch of one record before compression."""
    return int(DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers))


def room_for(key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> int:
    """Return the approximate bytes of a message in memory; never less than `record_bytes`.

    It is fast. Header names that are not ASCII may take more.
    """
    size = MESSAGE_OVERHEAD_BYTES
    if value is not None:
        size += len(value)
    if key is not None:
        size += len(key)
    return size + header_room(headers) if headers else size


def header_room(headers: Sequence[Header]) -> int:
    """Return the approximate bytes of headers in memory, as a part of `room_for`."""
    size = 0
    for name, content in headers:
        size += len(name) + len(content or b"") + _HEADER_OVERHEAD_BYTES
    return size
