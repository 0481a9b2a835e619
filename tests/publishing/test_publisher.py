"""The publisher against a scripted producer, which keeps sequence numbers as brokers do."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import aiokafka.errors as kafka
import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata, TopicPartition

from kafkaesk_core.delivery import BatchResult, Delivery
from kafkaesk_core.errors import (
    BrokerUnreachableError,
    DeliveryFailedError,
    DeliveryUnknownError,
    MessageTooLargeError,
    NotRunningError,
    TopicError,
)
from kafkaesk_core.kafka.admin import CreateResult, TopicState
from kafkaesk_core.kafka.producer import Record, RecordBatch, read_records
from kafkaesk_core.message import OutgoingMessage
from kafkaesk_core.publisher.batch import Batch
from kafkaesk_core.publisher.publisher import Publisher
from kafkaesk_core.publisher.send_buffer import SendBuffer
from kafkaesk_core.topics import Topics
from kafkaesk_testing import eventually

LIMIT = 5.0  # seconds that a wait may take before a test gives up
Reply = Callable[[list[Record]], Exception | None]


@dataclass(eq=False)
class Handed:
    """A batch in the fake producer's hands."""

    future: asyncio.Future[RecordMetadata | None]
    tp: TopicPartition
    records: list[Record]
    sequence: int
    attempts: int = 1


@dataclass
class Cluster:
    """What the brokers have, and what they are told to answer."""

    topics: dict[str, int] = field(default_factory=lambda: {"orders": 3})
    log: dict[TopicPartition, list[Record]] = field(default_factory=lambda: defaultdict(list))
    replies: deque[Reply] = field(default_factory=deque)
    refusals: deque[Exception] = field(default_factory=deque)
    start_errors: deque[Exception] = field(default_factory=deque)
    producers: list[FakeProducer] = field(default_factory=list)
    expected: dict[tuple[int, TopicPartition], int] = field(default_factory=dict)
    answers: bool = True
    takes: bool = True
    takes_time: bool = False
    held: list[Handed] = field(default_factory=list)
    batches: list[tuple[TopicPartition, int]] = field(default_factory=list)
    linger: float = 0.0
    max_request_size: int = 100_000
    partitioner: Callable[[bytes | None], int] | None = None
    start_gate: asyncio.Event = field(default_factory=asyncio.Event)

    def values(self, partition: int, topic: str = "orders") -> list[bytes | None]:
        return [record.value for record in self.log[TopicPartition(topic, partition)]]

    def everything(self) -> list[bytes | None]:
        return [record.value for records in self.log.values() for record in records]

    def release(self, *, topic_partition: TopicPartition | None = None) -> None:
        """Answer what is held, and all that follows if no partition is named."""
        held, self.held = self.held, []
        self.answers = topic_partition is None
        for handed in held:
            if topic_partition in (None, handed.tp):
                self.producers[-1].answer(handed)
            else:
                self.held.append(handed)


class FakeProducer:
    """Takes one batch per partition and refuses out-of-order sequence numbers."""

    is_compressing = False

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.number = len(cluster.producers)
        cluster.producers.append(self)
        self.in_flight: dict[TopicPartition, Handed] = {}
        self.sequences: dict[TopicPartition, int] = defaultdict(int)
        self.is_alive = False
        self.was_forced = False
        self.was_closed = False
        self.contexts: list[str] = []

    @property
    def max_request_size(self) -> int:
        return self.cluster.max_request_size

    @property
    def linger_seconds(self) -> float:
        return self.cluster.linger

    @property
    def is_sticky(self) -> bool:
        return self.cluster.partitioner is None

    async def start(self, timeout: float) -> None:
        self.contexts.append(variable.get())
        if not self.cluster.start_gate.is_set():
            await self.cluster.start_gate.wait()
        if self.cluster.start_errors:
            raise self.cluster.start_errors.popleft()
        self.is_alive = True

    async def partitions(self, topic: str) -> Sequence[int]:
        if topic not in self.cluster.topics:
            raise kafka.UnknownTopicOrPartitionError(topic)
        return range(self.cluster.topics[topic])

    def known_partitions(self, topic: str) -> Sequence[int] | None:
        return range(self.cluster.topics.get(topic, 0))

    def available_partitions(self, topic: str) -> Sequence[int]:
        return range(self.cluster.topics.get(topic, 0))

    def has_leader(self, topic: str, partition: int) -> bool:
        return partition in self.available_partitions(topic)

    def partition_for(
        self, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        if self.cluster.partitioner is not None:
            return self.cluster.partitioner(key)
        return int(DefaultPartitioner()(key, list(partitions), list(available)))

    def create_batch(self) -> RecordBatch:
        return RecordBatch(4096, 0)

    async def send_batch(self, batch: RecordBatch, topic: str, partition: int) -> Handed:
        self.contexts.append(variable.get())
        if self.was_forced:
            raise kafka.ProducerClosed
        if self.cluster.refusals:
            raise self.cluster.refusals.popleft()
        if topic not in self.cluster.topics:
            raise kafka.UnknownTopicOrPartitionError(topic)
        return self._take(batch, topic, partition)

    def offer_batch(self, batch: RecordBatch, topic: str, partition: int) -> Handed | None:
        self.contexts.append(variable.get())
        if self.cluster.takes_time or self.was_forced or self.cluster.refusals:
            return None
        if topic not in self.cluster.topics:
            return None
        return self._take(batch, topic, partition)

    def _take(self, batch: RecordBatch, topic: str, partition: int) -> Handed:
        tp = TopicPartition(topic, partition)
        assert tp not in self.in_flight, "two batches of one partition at a time"
        assert batch.closed()
        records = read_records(batch)
        assert records
        future: asyncio.Future[RecordMetadata | None] = asyncio.get_running_loop().create_future()
        handed = Handed(future, tp, records, self.sequences[tp])
        self.in_flight[tp] = handed
        if not self.cluster.takes:
            handed.attempts = 0
        else:
            self.sequences[tp] += len(records)
            if self.cluster.answers:
                asyncio.get_running_loop().call_soon(self.answer, handed)
            else:
                self.cluster.held.append(handed)
        return handed

    def answer(self, handed: Handed) -> None:
        if handed.future.done():
            return
        del self.in_flight[handed.tp]
        cluster, tp = self.cluster, handed.tp
        if handed.sequence != cluster.expected.get((self.number, tp), 0):
            handed.future.set_exception(kafka.OutOfOrderSequenceNumber())
            return
        reply = cluster.replies.popleft() if cluster.replies else accept
        error = reply(handed.records)
        if error is not None:
            handed.future.set_exception(error)
            return
        base = len(cluster.log[tp])
        cluster.expected[self.number, tp] = handed.sequence + len(handed.records)
        cluster.log[tp].extend(handed.records)
        cluster.batches.append((tp, len(handed.records)))
        handed.future.set_result(RecordMetadata(tp.topic, tp.partition, tp, base, -1, 0, 0))

    def undo(self, topic: str, partition: int, count: int) -> None:
        self.sequences[TopicPartition(topic, partition)] -= count

    async def close(self, timeout: float) -> None:
        self.was_closed = True
        self.is_alive = False

    async def force_close(self) -> None:
        await asyncio.sleep(0)
        self.was_forced = True
        self.is_alive = False
        self.cluster.held = [h for h in self.cluster.held if h.tp not in self.in_flight]
        for handed in self.in_flight.values():
            if not handed.future.done():
                handed.future.set_exception(kafka.ProducerClosed())


def accept(_: list[Record]) -> Exception | None:
    return None


def refuse(error: Exception) -> Reply:
    return lambda _: error


def refuse_above(size: int) -> Reply:
    """Refuse a batch as a broker with this max.message.bytes."""

    def reply(records: list[Record]) -> Exception | None:
        total = sum(len(record.value or b"") for record in records)
        return kafka.MessageSizeTooLargeError() if total > size else None

    return reply


variable: ContextVar[str] = ContextVar("variable", default="empty")


@asynccontextmanager
async def publishing(
    cluster: Cluster, topics: Topics | None = None, **options: Any
) -> AsyncIterator[Publisher]:
    """A running publisher; afterwards nothing of it may be left."""
    before = asyncio.all_tasks()
    publisher = publisher_of(cluster, topics, **options)
    cluster.start_gate.set()
    await publisher.start()
    try:
        yield publisher
    finally:
        cluster.answers = True
        await publisher.stop(0.5)
        assert asyncio.all_tasks() == before


def publisher_of(cluster: Cluster, topics: Topics | None = None, **options: Any) -> Publisher:
    topics = topics or Topics("", None, create_on_use=True)
    return Publisher(_made_by(lambda: FakeProducer(cluster)), topics, encode, **options)


def _made_by(factory: Callable[[], Any]) -> Callable[[], Any]:
    """A producer is whatever has its methods."""
    return factory


def topics_of(admin: Any) -> Topics:
    return Topics("", admin)


def encode(message: OutgoingMessage) -> bytes | None:
    assert message.data is None or isinstance(message.data, bytes)
    return message.data


def message(value: bytes | None = b"x", *, topic: str = "orders", **fields: Any) -> OutgoingMessage:
    return OutgoingMessage(topic, topic, value, **fields)


async def send_all(publisher: Publisher, count: int, **fields: Any) -> list[Delivery]:
    return [await publisher.send(message(b"%d" % n, **fields)) for n in range(count)]


def numbers(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % n for n in range(first, first + count)]


async def soon(awaitable: Delivery | Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> Any:
    return await asyncio.wait_for(awaitable, LIMIT)


# --- batches, partitions, order


async def test_a_message_is_acknowledged_with_its_place_in_the_partition() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        first = await publisher.send(message(b"a", partition=1, timestamp_ms=500))
        second = await publisher.send(message(b"b", partition=1))
        metadata = await soon(first)

        assert (metadata.topic, metadata.partition, metadata.offset) == ("orders", 1, 0)
        assert metadata.timestamp == 500
        assert (second.partition, (await soon(second)).offset) == (1, 1)
        assert publisher.counts.acked == 2


async def test_what_is_published_in_one_tick_is_one_batch() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        await soon(await publisher.send(message()))
        deliveries = await send_all(publisher, 10)
        await publisher.flush(LIMIT)

        assert [count for _, count in cluster.batches] == [1, 10]
        assert len({delivery.partition for delivery in deliveries}) == 1


async def test_a_batch_stays_open_while_the_one_before_it_is_in_flight() -> None:
    cluster = Cluster(answers=False)
    async with publishing(cluster) as publisher:
        await publisher.send(message(b"first", partition=0))
        await eventually(lambda: cluster.held)
        for n in range(3):
            await publisher.send(message(b"%d" % n, partition=0))
            await asyncio.sleep(0)
        cluster.release()
        await publisher.flush(LIMIT)

        assert [count for _, count in cluster.batches] == [1, 3]


async def test_a_full_batch_is_followed_by_another_in_order() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        values = [b"%04d" % n + b"." * 500 for n in range(40)]
        for value in values:
            await publisher.send(message(value, partition=2))
        await publisher.flush(LIMIT)

        assert cluster.values(2) == values
        assert len(cluster.batches) > 4


async def test_a_batch_that_needs_no_wait_takes_no_task() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        await soon(await publisher.send(message(partition=0)))
        before, seen = asyncio.all_tasks(), set[asyncio.Task[Any]]()

        delivery = await publisher.send(message(partition=0))
        while not delivery.done():
            seen |= asyncio.all_tasks()
            await asyncio.sleep(0)

        assert seen == before


async def test_batches_keep_their_order_when_some_of_them_must_wait() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        for n in range(40):
            cluster.takes_time = n % 3 == 0
            if n % 7 == 0:
                cluster.replies.append(refuse(kafka.NotEnoughReplicasError()))
            await publisher.send(message(b"%d" % n, partition=0))
            for _ in range(n % 4):
                await asyncio.sleep(0)
        await publisher.flush(LIMIT)

        assert cluster.values(0) == numbers(40)


async def test_a_batch_in_flight_outlives_the_cancellation_of_all_tasks() -> None:
    cluster = Cluster(answers=False)
    async with publishing(cluster) as publisher:
        first = await publisher.send(message(b"0", partition=0))
        await eventually(lambda: cluster.held)
        second = await publisher.send(message(b"1", partition=0))

        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        cluster.release()

        assert [(await soon(first)).offset, (await soon(second)).offset] == [0, 1]


async def test_a_batch_lingers_for_more_records_until_it_is_flushed() -> None:
    cluster = Cluster(linger=30.0)
    async with publishing(cluster) as publisher:
        for n in range(5):
            await publisher.send(message(b"%d" % n, partition=0))
            await asyncio.sleep(0.001)
        assert cluster.batches == []
        await publisher.flush(LIMIT)

        assert [count for _, count in cluster.batches] == [5]


async def test_a_lingering_batch_goes_when_it_is_full_or_its_time_is_over() -> None:
    cluster = Cluster(linger=30.0)
    async with publishing(cluster) as publisher:
        deliveries = [await publisher.send(message(b"." * 900, partition=0)) for _ in range(5)]
        await soon(deliveries[0])
        assert cluster.batches[0][1] < len(deliveries)

        cluster.linger = 0.01
        await soon(await publisher.send(message(partition=1)))


async def test_a_batch_that_gets_full_while_it_lingers_goes_at_once() -> None:
    cluster = Cluster(linger=30.0)
    async with publishing(cluster) as publisher:
        first = await publisher.send(message(b"." * 900, partition=0))
        for _ in range(3):
            await asyncio.sleep(0)  # it has begun to linger
        for _ in range(4):
            await publisher.send(message(b"." * 900, partition=0))

        await soon(first)

        assert cluster.batches[0][1] < 5


class OtherTimer:
    """A timer that is of no class of asyncio's, as those of uvloop."""

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self._timer = timer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._timer, name)


class OtherLoop(asyncio.SelectorEventLoop):
    """An event loop with timers of its own."""

    def call_at(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        return OtherTimer(super().call_at(*args, **options))


def test_a_batch_stops_lingering_on_every_event_loop() -> None:
    with asyncio.Runner(loop_factory=OtherLoop) as runner:
        runner.run(test_a_batch_lingers_for_more_records_until_it_is_flushed())
        runner.run(test_a_batch_that_gets_full_while_it_lingers_goes_at_once())


async def test_messages_of_a_key_go_where_aiokafkas_partitioner_says() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        keys = [b"key-%d" % (n % 20) for n in range(60)]
        deliveries = [await publisher.send(message(key=key)) for key in keys]

        expected = [DefaultPartitioner()(key, [0, 1, 2], [0, 1, 2]) for key in keys]
        assert [delivery.partition for delivery in deliveries] == expected


async def test_keys_are_distributed_anew_when_partitions_are_added() -> None:
    cluster = Cluster()
    async with publishing(cluster, delivery_timeout=1.0) as publisher:
        await publisher.send(message(key=b"key"))
        cluster.topics["orders"] = 50
        expected = DefaultPartitioner()(b"key", list(range(50)), [])

        chosen: list[int] = []
        while not chosen or chosen[-1] != expected:
            chosen.append((await publisher.send(message(key=b"key"))).partition)
            await asyncio.sleep(0.01)


async def test_a_partitioner_of_the_users_own_is_asked_for_each_message() -> None:
    asked: list[bytes | None] = []

    def choose(key: bytes | None) -> int:
        asked.append(key)
        return 2

    cluster = Cluster(partitioner=choose)
    async with publishing(cluster) as publisher:
        deliveries = [await publisher.send(message(key=key)) for key in (b"a", b"a", None)]

        assert [delivery.partition for delivery in deliveries] == [2, 2, 2]
        assert asked == [b"a", b"a", None]


async def test_a_partition_that_does_not_exist_is_refused_with_the_number_of_those() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        with pytest.raises(DeliveryFailedError, match="no partition 3: it has 3, from 0"):
            await publisher.send(message(partition=3))
        await soon(await publisher.send(message(partition=2)))


async def test_the_first_messages_of_a_topic_keep_their_order() -> None:
    cluster = Cluster()
    admin = SlowAdmin()
    async with publishing(cluster, topics_of(admin)) as publisher:
        waiting = [asyncio.create_task(send_all(publisher, 1, partition=0)) for _ in range(3)]
        await eventually(lambda: admin.asked)

        async def late() -> None:
            for n in range(3):
                await publisher.send(message(b"late %d" % n, partition=0))

        admin.gate.set()
        waiting.append(asyncio.create_task(late()))  # type: ignore[arg-type]  # only awaited
        await asyncio.gather(*waiting)
        await publisher.flush(LIMIT)

        assert cluster.values(0) == [b"0"] * 3 + [b"late 0", b"late 1", b"late 2"]


@pytest.mark.rule_39
async def test_a_tombstone_and_headers_are_written_as_they_were_at_the_call() -> None:
    """Headers are copied."""
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        headers: list[tuple[str, bytes | None]] = [("trace", b"1"), ("empty", None)]
        delivery = await publisher.send(message(None, key=b"k", partition=0, headers=headers))
        headers.append(("later", b"2"))  # U38
        await soon(delivery)

        (record,) = cluster.log[TopicPartition("orders", 0)]
        assert (record.key, record.value) == (b"k", None)
        assert list(record.headers) == [("trace", b"1"), ("empty", None)]


# --- what is refused before it is buffered


@pytest.mark.f39
@pytest.mark.rule_39
@pytest.mark.k36
async def test_a_message_larger_than_the_limit_is_refused_and_no_neighbour_with_it() -> None:
    """Nothing else checks the size before the batch takes the record."""
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        before = await publisher.send(message(partition=0))
        with pytest.raises(MessageTooLargeError) as caught:
            await publisher.send(message(b"." * 100_000, partition=0))
        after = await publisher.send(message(partition=0))

        assert "a message of 100087 bytes" in str(caught.value)
        assert "max_request_size, 100000 bytes" in str(caught.value)
        assert [(await soon(before)).offset, (await soon(after)).offset] == [0, 1]
        assert publisher.counts.failed == 0


@pytest.mark.rule_39
@pytest.mark.parametrize(
    "fields", [{"key": b"." * 100_000}, {"headers": [("name", b"." * 100_000)]}]
)
async def test_the_key_and_the_headers_count_for_the_size_of_a_message(
    fields: dict[str, Any],
) -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        with pytest.raises(MessageTooLargeError):
            await publisher.send(message(partition=0, **fields))

        assert cluster.everything() == []
        assert publisher.counts.failed == 0


@pytest.mark.f39
@pytest.mark.k36
async def test_the_limit_of_the_topic_holds_and_is_asked_for_again() -> None:
    admin = SlowAdmin(configs={"max.message.bytes": "1000"})
    admin.gate.set()
    cluster = Cluster()
    async with publishing(cluster, topics_of(admin)) as publisher:
        await publisher.send(message())
        with pytest.raises(MessageTooLargeError, match=r"max\.message\.bytes, 1000 bytes"):
            await publisher.send(message(b"." * 2000))
        await publisher.send(message(b"." * (1000 - 200)))
        assert admin.asked == 1

        writer = publisher._writers.get("orders")
        assert writer is not None
        writer.limits_at = -1000.0  # that was a while ago
        admin.configs["max.message.bytes"] = "4000"
        with pytest.raises(MessageTooLargeError):
            await publisher.send(message(b"." * 2000))
        await eventually(lambda: writer.max_bytes == 4000)

        await soon(await publisher.send(message(b"." * 2000)))


async def test_a_value_of_the_wrong_type_is_refused_and_takes_no_room() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        with pytest.raises(TypeError):
            await publisher.send(message(key="text", partition=0))
        with pytest.raises(TypeError):
            await publisher.send(message(headers=[("name", 5)], partition=0))
        assert publisher._buffer.used == 0

        await soon(await publisher.send(message(partition=0)))


async def test_a_message_without_a_key_is_refused_by_a_compacted_topic() -> None:
    admin = SlowAdmin(configs={"cleanup.policy": "compact"})
    admin.gate.set()
    async with publishing(Cluster(), topics_of(admin)) as publisher:
        with pytest.raises(DeliveryFailedError, match="compacted, so each of its messages needs"):
            await publisher.send(message())

        await soon(await publisher.send(message(key=b"k")))
        assert publisher._buffer.used == 0


# --- outcomes (rules 36 and 37)


@pytest.mark.k33
async def test_a_refused_batch_does_not_poison_its_partition() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        await soon(await publisher.send(message(b"before", partition=0)))
        cluster.replies.append(refuse(kafka.TopicAuthorizationFailedError("orders")))
        refused = await publisher.send(message(b"refused", partition=0))
        await asyncio.sleep(0)
        after = await publisher.send(message(b"after", partition=0))

        with pytest.raises(DeliveryFailedError, match="nothing was written: TopicAuthorization"):
            await soon(refused)
        assert (await soon(after)).offset == 1
        assert cluster.values(0) == [b"before", b"after"]
        counts = publisher.counts
        assert (counts.acked, counts.failed, counts.unknown, counts.replaced) == (2, 1, 0, 0)


@pytest.mark.f51
async def test_only_the_culprit_of_a_batch_that_is_too_large_fails() -> None:
    cluster = Cluster(replies=deque([refuse_above(100)] * 50))
    async with publishing(cluster) as publisher:
        values = [b"%02d" % n for n in range(20)]
        values[7] = b"7" * 200
        deliveries = [await publisher.send(message(value, partition=0)) for value in values]
        await publisher.flush(LIMIT)

        with pytest.raises(MessageTooLargeError, match=r"1 message to orders\[0\]"):
            await deliveries[7]
        good = [delivery for n, delivery in enumerate(deliveries) if n != 7]
        assert [(await delivery).offset for delivery in good] == list(range(19))
        assert cluster.values(0) == values[:7] + values[8:]
        assert (publisher.counts.acked, publisher.counts.failed) == (19, 1)


@pytest.mark.f51
async def test_only_the_culprit_of_a_batch_with_a_bad_timestamp_fails() -> None:
    def reply(records: list[Record]) -> Exception | None:
        bad = any(record.timestamp_ms == 1 for record in records)
        return kafka.InvalidTimestampError() if bad else None

    cluster = Cluster(replies=deque([reply] * 50))
    async with publishing(cluster) as publisher:
        deliveries = [
            await publisher.send(message(b"%d" % n, partition=0, timestamp_ms=1 if n == 2 else 9))
            for n in range(5)
        ]
        await publisher.flush(LIMIT)

        assert [delivery.exception() is None for delivery in deliveries] == [
            n != 2 for n in range(5)
        ]
        assert cluster.values(0) == [b"0", b"1", b"3", b"4"]


async def test_batches_are_made_smaller_after_one_was_too_large() -> None:
    cluster = Cluster(replies=deque([refuse_above(1000)] * 100))
    async with publishing(cluster) as publisher:
        for n in range(30):
            await publisher.send(message(b"%03d" % n + b"." * 97, partition=0))
        await publisher.flush(LIMIT)
        refused_before = 100 - len(cluster.replies) - len(cluster.batches)
        for n in range(30):
            await publisher.send(message(b"%03d" % n + b"." * 97, partition=0))
        await publisher.flush(LIMIT)

        refused = 100 - len(cluster.replies) - len(cluster.batches)
        assert refused_before > 0
        assert refused - refused_before < refused_before
        assert publisher.counts.failed == 0


async def test_a_batch_that_was_not_taken_is_tried_again_in_order() -> None:
    cluster = Cluster(refusals=deque([kafka.KafkaTimeoutError(), kafka.NodeNotReadyError()]))
    async with publishing(cluster) as publisher:
        deliveries = []
        for n in range(4):
            deliveries.append(await publisher.send(message(b"%d" % n, partition=0)))
            await asyncio.sleep(0)
        await publisher.flush(LIMIT)

        assert cluster.values(0) == numbers(4)
        assert [delivery.offset for delivery in deliveries] == [0, 1, 2, 3]


async def test_a_batch_that_will_never_be_taken_fails_at_once() -> None:
    cluster = Cluster(refusals=deque([kafka.TopicAuthorizationFailedError("orders")]))
    async with publishing(cluster) as publisher:
        refused = await publisher.send(message(partition=0))

        with pytest.raises(DeliveryFailedError, match="TopicAuthorizationFailedError"):
            await soon(refused)
        await soon(await publisher.send(message(partition=0)))


async def test_a_batch_that_nobody_takes_in_time_fails_as_not_written() -> None:
    cluster = Cluster(refusals=deque([kafka.NodeNotReadyError("all down")] * 1000))
    async with publishing(cluster, delivery_timeout=0.2) as publisher:
        delivery = await publisher.send(message(partition=0))

        with pytest.raises(DeliveryFailedError, match=r"within 0\.2 seconds.*all down"):
            await soon(delivery)
        cluster.refusals.clear()
        assert publisher.counts.replaced == 0


async def test_a_batch_that_had_no_leader_is_sent_again_by_the_same_producer() -> None:
    cluster = Cluster(replies=deque([refuse(kafka.LeaderNotAvailableError())]))
    async with publishing(cluster) as publisher:
        delivery = await publisher.send(message(b"a", partition=0))

        assert (await soon(delivery)).offset == 0
        assert cluster.values(0) == [b"a"]
        assert publisher.counts.replaced == 0


@pytest.mark.f40
async def test_a_lost_sequence_is_repaired_by_a_new_producer_without_a_failure() -> None:
    cluster = Cluster(replies=deque([refuse(kafka.OutOfOrderSequenceNumber())]))
    async with publishing(cluster) as publisher:
        deliveries = await send_all(publisher, 3, partition=0)
        await publisher.flush(LIMIT)

        assert [delivery.offset for delivery in deliveries] == [0, 1, 2]
        assert cluster.values(0) == numbers(3)
        assert len(cluster.producers) == 2
        assert publisher.counts.replaced == 1


@pytest.mark.k39
async def test_unknown_is_reported_only_after_the_producer_was_closed_by_force() -> None:
    cluster = Cluster(answers=False)
    async with publishing(cluster, delivery_timeout=0.2) as publisher:
        lost = await publisher.send(message(b"lost", partition=0))
        await eventually(lambda: cluster.held)
        queued = await publisher.send(message(b"queued", partition=0))
        forced: list[bool] = []
        lost.add_done_callback(lambda _: forced.append(cluster.producers[0].was_forced))
        await asyncio.wait([lost], timeout=LIMIT)  # type: ignore[type-var]  # not a future
        cluster.release()

        with pytest.raises(DeliveryUnknownError, match="not answered in time"):
            await soon(lost)
        assert forced == [True]
        assert isinstance((await asyncio.gather(queued, return_exceptions=True))[0], object)
        assert b"lost" not in cluster.everything()
        assert publisher.counts.unknown == 1


@pytest.mark.f40
async def test_an_unknown_error_replaces_the_producer_and_the_queue_goes_on_in_order() -> None:
    cluster = Cluster(answers=False)
    async with publishing(cluster) as publisher:
        unknown = await publisher.send(message(b"unknown", partition=0))
        await eventually(lambda: cluster.held)
        deliveries = await send_all(publisher, 30, partition=0)
        cluster.replies.append(refuse(kafka.UnknownError()))
        cluster.release()
        await publisher.flush(LIMIT)

        with pytest.raises(DeliveryUnknownError, match="UnknownError"):
            await unknown
        assert [delivery.offset for delivery in deliveries] == list(range(30))
        assert cluster.values(0) == numbers(30)
        assert [producer.was_forced for producer in cluster.producers] == [True, False]


async def test_healthy_partitions_end_before_the_producer_is_closed() -> None:
    cluster = Cluster(answers=False)
    async with publishing(cluster, delivery_timeout=30.0) as publisher:
        healthy = await publisher.send(message(b"healthy", partition=1))
        await eventually(lambda: cluster.held)
        bad = await publisher.send(message(b"bad", partition=0))
        await eventually(lambda: len(cluster.held) == 2)
        cluster.held[1].future.set_exception(kafka.UnknownError())
        await eventually(
            lambda: publisher.health() and "no working producer" in publisher.health()[0]
        )
        held_up = await publisher.send(message(b"held up", partition=2))
        await asyncio.sleep(0.05)
        assert not bad.done()
        assert not held_up.done()
        cluster.release()
        await publisher.flush(LIMIT)

        assert (healthy.offset, held_up.offset) == (0, 0)
        assert isinstance(bad.exception(), DeliveryUnknownError)
        assert publisher.counts.unknown == 1


async def test_a_batch_that_was_never_sent_goes_to_the_next_producer() -> None:
    cluster = Cluster(takes=False)
    async with publishing(cluster, delivery_timeout=30.0) as publisher:
        deliveries = await send_all(publisher, 3, partition=0)
        await eventually(lambda: cluster.producers[0].in_flight)
        cluster.takes = True
        cluster.producers[0].is_alive = False
        await publisher.flush(10)

        assert [delivery.offset for delivery in deliveries] == [0, 1, 2]
        assert (publisher.counts.replaced, publisher.counts.unknown) == (1, 0)


async def test_new_producers_are_tried_until_one_starts() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        cluster.start_errors.extend([BrokerUnreachableError("still down")] * 2)
        cluster.replies.append(refuse(kafka.UnknownError()))
        unknown = await publisher.send(message(partition=0))
        await eventually(unknown.done)
        queued = await publisher.send(message(b"queued", partition=0))
        await eventually(lambda: "still down" in str(publisher.health()))

        assert (await soon(queued)).offset == 0
        assert len(cluster.producers) == 4
        assert "replaced 1 times" in publisher.health()[0]
        assert unknown.exception() is not None


async def test_messages_fail_as_not_written_while_there_is_no_producer() -> None:
    cluster = Cluster()
    async with publishing(cluster, delivery_timeout=0.3) as publisher:
        cluster.start_errors.extend([BrokerUnreachableError("still down")] * 100)
        cluster.replies.append(refuse(kafka.UnknownError()))
        await eventually((await publisher.send(message(partition=0))).done)
        queued = await publisher.send(message(b"queued", partition=0))

        with pytest.raises(DeliveryFailedError, match="nothing was written"):
            await soon(queued)
        cluster.start_errors.clear()


async def test_a_defect_in_here_leaves_no_delivery_open(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeProducer):
        def undo(self, topic: str, partition: int, count: int) -> None:
            raise ZeroDivisionError("a defect")

    cluster = Cluster(replies=deque([refuse(kafka.InvalidTopicError())]))
    cluster.start_gate.set()
    topics = Topics("", None, create_on_use=True)
    publisher = Publisher(_made_by(lambda: Broken(cluster)), topics, encode)
    await publisher.start()

    delivery = await publisher.send(message(partition=0))
    with pytest.raises(DeliveryUnknownError, match="a defect"):
        await soon(delivery)
    await publisher.stop(1)

    assert "sending to orders[0] failed" in caplog.text


async def test_a_defect_while_a_batch_is_settled_does_not_hold_up_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Cluster(answers=False)
    async with publishing(cluster) as publisher:
        publisher.on_published = lambda *_: None
        await publisher.send(message(b"0", partition=0))
        await eventually(lambda: cluster.held)
        cluster.held[0].future.set_result(object())  # the defect
        del cluster.producers[0].in_flight[TopicPartition("orders", 0)]
        cluster.producers[0].sequences.clear()
        cluster.release()

        assert (await soon(await publisher.send(message(b"1", partition=0)))).offset == 0
        await publisher.flush(LIMIT)

    assert "sending to orders[0] failed" in caplog.text


# --- room (rule 39)


@pytest.mark.rule_39
def test_a_batch_that_is_split_or_packed_again_gives_back_the_room_that_it_took() -> None:
    builder = RecordBatch(10_000, 0)
    for n in range(5):
        builder.append(1_000, None, b"%d" % n, [], 101 + n)
    builder.close()
    batch = Batch(builder, BatchResult(TopicPartition("orders", 0)), opened=0.0, deadline=1.0)
    taken = batch.bytes
    assert taken == 101 + 102 + 103 + 104 + 105

    batch.repack(lambda: RecordBatch(10_000, 0))
    assert batch.bytes == taken
    halves = batch.halves(lambda: RecordBatch(10_000, 0))
    assert [half.count for half in halves] == [2, 3]
    assert sum(half.bytes for half in halves) == taken


@pytest.mark.rule_39
async def test_the_buffer_is_not_free_while_a_caller_waits_for_room() -> None:
    """The fast path asks only this, and would overtake the caller."""
    buffer = SendBuffer(100)
    buffer.open()
    assert buffer.take(90)
    waiting = asyncio.create_task(buffer.enter(50, LIMIT))
    await asyncio.sleep(0)

    assert not buffer.is_free
    buffer.release(90)
    assert not buffer.is_free  # it is admitted, and has not run yet
    await soon(waiting)

    assert buffer.is_free
    assert buffer.used == 50


@pytest.mark.rule_39
async def test_publishing_waits_for_room_in_the_order_of_the_calls() -> None:
    """A bounded buffer."""
    cluster = Cluster(answers=False)
    async with publishing(cluster, send_buffer_bytes=1000) as publisher:
        waiting = [
            asyncio.create_task(publisher.send(message(b"%02d" % n + b"." * 300, partition=0)))
            for n in range(12)
        ]
        await eventually(lambda: cluster.held)
        assert publisher._buffer.used <= 1000
        assert sum(task.done() for task in waiting) == 2
        late = asyncio.create_task(publisher.send(message(b"99", partition=0)))  # it would fit
        await asyncio.sleep(0)
        assert not late.done()
        cluster.release()
        await asyncio.gather(*waiting, late)
        await publisher.flush(LIMIT)

        assert [(value or b"")[:2] for value in cluster.values(0)] == [
            *(b"%02d" % n for n in range(12)),
            b"99",
        ]
        assert publisher._buffer.used == 0


async def test_a_publish_that_finds_no_room_in_time_fails() -> None:
    cluster = Cluster(answers=False)
    async with publishing(cluster, send_buffer_bytes=400, delivery_timeout=1.0) as publisher:
        await publisher.send(message(b"." * 300, partition=0))

        with pytest.raises(DeliveryFailedError, match="raise send_buffer_bytes"):
            await publisher.send(message(b"." * 300, partition=0))
        assert len(publisher._buffer.queue) == 0


async def test_a_cancelled_publish_gives_its_place_to_the_next() -> None:
    cluster = Cluster(answers=False)
    async with publishing(cluster, send_buffer_bytes=400) as publisher:
        await publisher.send(message(b"." * 250, partition=0))
        await eventually(lambda: cluster.held)
        first = asyncio.create_task(publisher.send(message(b"cancelled", partition=0)))
        second = asyncio.create_task(publisher.send(message(b"second", partition=0)))
        await asyncio.sleep(0)
        cluster.release()
        await eventually(lambda: publisher._buffer.used < 400)
        first.cancel()
        await soon(second)
        await publisher.flush(LIMIT)

        assert publisher._buffer.used == 0
        assert b"second" in cluster.values(0)


@pytest.mark.rule_39
async def test_who_is_cancelled_once_let_in_gives_the_room_back() -> None:
    """Before its next step: the room would be gone for ever."""
    buffer = SendBuffer(100)
    assert buffer.take(80)
    first = asyncio.create_task(buffer.enter(60, LIMIT))
    second = asyncio.create_task(buffer.enter(60, LIMIT))
    await asyncio.sleep(0)

    buffer.release(80)
    first.cancel()
    await soon(second)

    assert first.cancelled()
    assert buffer.used == 60


async def test_one_message_larger_than_all_the_room_may_enter_when_it_is_empty() -> None:
    cluster = Cluster()
    async with publishing(cluster, send_buffer_bytes=100) as publisher:
        deliveries = [await publisher.send(message(b"." * 500, partition=0)) for _ in range(3)]

        assert [(await soon(delivery)).offset for delivery in deliveries] == [0, 1, 2]


# --- failures that nobody looks at (rule 38, U7)


@pytest.mark.u7
async def test_failures_that_nobody_looked_at_are_logged_once_per_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Cluster(replies=deque([refuse(kafka.InvalidTopicError("no"))] * 2))
    async with publishing(cluster) as publisher:
        with caplog.at_level(logging.ERROR, "kafkaesk.publisher"):
            await send_all(publisher, 5, partition=0)
            seen = await publisher.send(message(partition=1))
            with pytest.raises(DeliveryFailedError):
                await soon(seen)
            await publisher.flush(LIMIT)
            await eventually(lambda: caplog.records)

        (record,) = caplog.records
        assert "5 of 5 failed deliveries were never awaited: topic=orders partition=0" in (
            record.getMessage()
        )
        assert "InvalidTopicError" in record.getMessage()
        assert publisher.counts.unobserved == 5


async def test_failures_whose_deliveries_are_still_held_are_told_at_the_stop() -> None:
    cluster = Cluster(replies=deque([refuse(kafka.InvalidTopicError("no"))]))
    async with publishing(cluster) as publisher:
        held = await send_all(publisher, 3, partition=0)
        await publisher.flush(LIMIT)
        assert publisher.counts.unobserved == 0
        assert held[0].exception() is not None
        await publisher.stop(1)

        assert publisher.counts.unobserved == 2


# --- start and stop (rules 34 and 35)


@pytest.mark.u33
async def test_concurrent_starts_make_one_producer() -> None:
    cluster = Cluster()
    publisher = publisher_of(cluster)
    starting = [asyncio.create_task(publisher.start()) for _ in range(5)]
    await asyncio.sleep(0.01)
    with pytest.raises(NotRunningError):
        await publisher.send(message())
    cluster.start_gate.set()
    await asyncio.gather(*starting)
    await publisher.start()

    await soon(await publisher.send(message()))
    assert len(cluster.producers) == 1
    assert not await publisher.stop(1)


@pytest.mark.u33
async def test_a_failed_start_is_told_to_all_and_can_be_tried_again() -> None:
    cluster = Cluster(start_errors=deque([BrokerUnreachableError("down", servers=["a:1"])]))
    cluster.start_gate.set()
    publisher = publisher_of(cluster)

    failures = await asyncio.gather(*(publisher.start() for _ in range(3)), return_exceptions=True)
    await publisher.start()

    assert [str(failure) for failure in failures] == ["down"] * 3
    assert len({id(failure) for failure in failures}) == 3
    await soon(await publisher.send(message()))
    await publisher.stop(1)


async def test_a_cancelled_start_does_not_end_it_for_the_others() -> None:
    cluster = Cluster()
    publisher = publisher_of(cluster)
    first, second = (asyncio.create_task(publisher.start()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    cluster.start_gate.set()
    await second

    assert first.cancelled()
    assert publisher.health() == []
    await publisher.stop(1)


async def test_a_stop_ends_a_start_that_hangs() -> None:
    publisher = publisher_of(Cluster())
    starting = asyncio.create_task(publisher.start())
    await asyncio.sleep(0.01)

    await soon(publisher.stop(1))

    with pytest.raises(NotRunningError, match="stopped while it started"):
        await starting
    with pytest.raises(NotRunningError):
        await publisher.start()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_publishing_before_the_start_or_after_the_stop_is_an_error() -> None:
    cluster = Cluster()
    cluster.start_gate.set()
    publisher = publisher_of(cluster)
    with pytest.raises(NotRunningError):
        await publisher.send(message())
    assert publisher.health() == ["the publisher is not running"]

    await publisher.start()
    await publisher.stop(1)

    with pytest.raises(NotRunningError):
        await publisher.send(message())


async def test_a_stop_delivers_what_is_buffered() -> None:
    cluster = Cluster(linger=30.0)
    cluster.start_gate.set()
    publisher = publisher_of(cluster, send_buffer_bytes=500)
    await publisher.start()
    sending = asyncio.create_task(send_all(publisher, 20, partition=0))
    await eventually(lambda: publisher._buffer.queue)

    report, again = await asyncio.gather(publisher.stop(5), publisher.stop(1))

    # what waited for room when the stop began is delivered; the call after it is refused
    with pytest.raises(NotRunningError):
        await sending
    assert not report
    assert report is again
    written = cluster.values(0)
    assert written == numbers(len(written))
    assert len(written) == publisher.counts.acked > 4
    assert cluster.producers[0].was_closed


async def test_a_stop_is_bounded_and_reports_what_it_could_not_deliver() -> None:
    cluster = Cluster(answers=False, topics={"orders": 3, "bills": 1})
    cluster.start_gate.set()
    publisher = publisher_of(cluster, send_buffer_bytes=1000)
    await publisher.start()
    in_flight = [
        await publisher.send(message(partition=0)),
        await publisher.send(message(topic="bills")),
    ]
    await eventually(lambda: len(cluster.held) == 2)
    queued = await send_all(publisher, 2, partition=0)
    waiting = asyncio.create_task(publisher.send(message(b"." * 900)))
    awaiting = asyncio.ensure_future(queued[0])
    await asyncio.sleep(0)

    started = asyncio.get_running_loop().time()
    report = await publisher.stop(0.1)
    took = asyncio.get_running_loop().time() - started

    assert took < 2
    assert (report.unknown, report.failed) == ({"orders": 1, "bills": 1}, {"orders": 2})
    assert report
    assert [type(delivery.exception()) for delivery in in_flight] == [DeliveryUnknownError] * 2
    assert all(isinstance(delivery.exception(), DeliveryFailedError) for delivery in queued)
    with pytest.raises(DeliveryFailedError, match="the publisher was stopped first"):
        await awaiting
    with pytest.raises(NotRunningError):
        await waiting
    assert cluster.producers[0].was_forced
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert cluster.everything() == []


async def test_a_stop_while_there_is_no_producer_is_bounded() -> None:
    cluster = Cluster()
    cluster.start_gate.set()
    publisher = publisher_of(cluster)
    await publisher.start()
    cluster.replies.append(refuse(kafka.UnknownError()))
    cluster.start_errors.extend([BrokerUnreachableError("down")] * 1000)
    await eventually((await publisher.send(message(partition=0))).done)
    queued = await publisher.send(message(partition=0))

    report = await soon(publisher.stop(0.1))

    assert report.failed == {"orders": 1}
    assert isinstance(queued.exception(), DeliveryFailedError)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_flush_waits_for_what_is_there_at_most_so_long() -> None:
    cluster = Cluster(answers=False)
    async with publishing(cluster) as publisher:
        await publisher.flush()
        await publisher.send(message(partition=0))
        with pytest.raises(TimeoutError, match="1 partitions were not flushed"):
            await publisher.flush(0.01)
        flushing = asyncio.create_task(publisher.flush())
        await asyncio.sleep(0)
        await publisher.send(message(partition=1))
        cluster.release(topic_partition=TopicPartition("orders", 0))

        await soon(flushing)
        cluster.release()


async def test_tasks_start_in_an_empty_context() -> None:
    cluster = Cluster()
    cluster.start_gate.set()
    token = variable.set("a handler's")
    try:
        publisher = publisher_of(cluster)
        await publisher.start()
        await soon(await publisher.send(message()))
        cluster.replies.append(refuse(kafka.OutOfOrderSequenceNumber()))
        await soon(await publisher.send(message(partition=0)))
        await publisher.stop(1)
    finally:
        variable.reset(token)

    assert len(cluster.producers) == 2
    assert {seen for producer in cluster.producers for seen in producer.contexts} == {"empty"}


# --- who wants to know


async def test_each_message_is_told_with_its_outcome() -> None:
    cluster = Cluster()
    told: list[tuple[Any, int | None, str | None]] = []

    def note(
        sent: OutgoingMessage, metadata: RecordMetadata | None, error: BaseException | None
    ) -> None:
        offset = None if metadata is None else metadata.offset
        told.append((sent.data, offset, type(error).__name__ if error else None))
        if sent.data == b"1":
            raise RuntimeError("an observer's mistake")

    async with publishing(cluster) as publisher:
        publisher.on_published = note
        assert publisher.on_published is note
        await send_all(publisher, 3, partition=0)
        await publisher.flush(LIMIT)
        cluster.replies.append(refuse(kafka.InvalidTopicError()))
        await publisher.send(message(b"bad", partition=0))
        await publisher.flush(LIMIT)

    assert told == [
        (b"0", 0, None),
        (b"1", 1, None),
        (b"2", 2, None),
        (b"bad", None, "DeliveryFailedError"),
    ]


async def test_each_message_of_a_split_batch_is_told_with_its_own_offset() -> None:
    cluster = Cluster(replies=deque([refuse_above(100)] * 50))
    told: list[tuple[Any, int | None]] = []

    async with publishing(cluster) as publisher:
        publisher.on_published = lambda m, metadata, _: told.append(
            (m.data, None if metadata is None else metadata.offset)
        )
        for value in (b"a", b"b", b"c" * 200, b"d", b"e"):
            await publisher.send(message(value, partition=0))
        await publisher.flush(LIMIT)

    assert told == [(b"a", 0), (b"b", 1), (b"c" * 200, None), (b"d", 2), (b"e", 3)]


async def test_health_tells_of_messages_that_wait_for_long() -> None:
    cluster = Cluster(answers=False)
    async with publishing(cluster, delivery_timeout=0.4) as publisher:
        assert publisher.health() == []
        await publisher.send(message(partition=0))

        await eventually(
            lambda: "the oldest unacknowledged message" in str(publisher.health()), within=0.4
        )
        cluster.release()


async def test_health_tells_of_a_sender_that_has_ended() -> None:
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        cluster.producers[0].is_alive = False

        assert publisher.health() == ["the producer's sending task has ended"]
        await eventually(lambda: publisher.counts.replaced == 1)


# --- topics


class SlowAdmin:
    """Topics appear when they are asked for; the first answer waits for the gate."""

    def __init__(self, configs: dict[str, str] | None = None) -> None:
        self.gate = asyncio.Event()
        self.asked = 0
        self.created: list[str] = []
        self.configs = {"max.message.bytes": "1000000", "cleanup.policy": "delete"}
        self.configs.update(configs or {})
        self.error: Exception | None = None

    async def describe_topic(self, topic: str, *, timeout: float) -> TopicState:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return TopicState(0, range(3), range(3))

    async def create_topic(self, name: str, *_: Any, **__: Any) -> CreateResult:
        raise AssertionError("nothing has to be created here")

    async def describe_topic_configs(self, topic: str, *_: Any, **__: Any) -> Any:
        return dict(self.configs)

    async def cluster_id(self, *, timeout: float) -> str:
        return "a real one"

    async def broker_count(self, *, timeout: float) -> int:
        return 1


async def test_a_topic_that_cannot_be_used_fails_the_publish_and_is_tried_again() -> None:
    admin = SlowAdmin()
    admin.gate.set()
    admin.error = kafka.UnsupportedVersionError("too old")
    async with publishing(Cluster(), topics_of(admin)) as publisher:
        failures = await asyncio.gather(
            publisher.send(message()), publisher.send(message()), return_exceptions=True
        )
        admin.error = None

        assert [type(failure).__name__ for failure in failures] == ["BrokerError"] * 2
        await soon(await publisher.send(message()))


async def test_a_topic_that_does_not_become_ready_in_time_fails_the_publish() -> None:
    topics = topics_of(SlowAdmin())
    async with publishing(Cluster(), topics, delivery_timeout=0.1) as publisher:
        with pytest.raises(DeliveryFailedError, match="the topic was not ready"):
            await publisher.send(message())
        await topics.stop()


async def test_a_topic_of_an_invalid_name_is_refused() -> None:
    async with publishing(Cluster()) as publisher:
        with pytest.raises(TopicError, match="not a valid topic name"):
            await publisher.send(message(topic="a b"))


@pytest.mark.u43
async def test_a_deleted_topic_is_ensured_again() -> None:
    cluster = Cluster(topics={"orders": 3})
    admin = SlowAdmin()
    admin.gate.set()
    topics = topics_of(admin)
    async with publishing(cluster, topics, delivery_timeout=30.0) as publisher:
        await soon(await publisher.send(message(partition=0)))
        assert admin.asked == 1
        del cluster.topics["orders"]
        lost = await publisher.send(message(b"meanwhile", partition=0))
        await eventually(lambda: admin.asked > 1)
        cluster.topics["orders"] = 3

        await soon(lost)
        await soon(await publisher.send(message(b"after", partition=0)))
        assert cluster.values(0) == [b"x", b"meanwhile", b"after"]


async def test_a_topic_deleted_while_its_limits_are_asked_for_is_made_ready_for_who_waits() -> None:
    """The question and the making ready are the same task: the one must not replace the other."""
    cluster = Cluster(topics={"orders": 3})
    admin = SlowAdmin({"max.message.bytes": "1000"})
    admin.gate.set()
    topics = topics_of(admin)
    async with publishing(cluster, topics, delivery_timeout=3.0) as publisher:
        await soon(await publisher.send(message(partition=0)))
        (writer,) = publisher._writers
        writer.limits_at = -1000.0  # that was a while ago
        admin.gate.clear()
        with pytest.raises(MessageTooLargeError):
            await publisher.send(message(b"x" * 2000))
        del cluster.topics["orders"]
        await eventually(lambda: not writer.is_ready)
        cluster.topics["orders"] = 3
        waiting = asyncio.create_task(publisher.send(message(b"after", partition=0)))
        await asyncio.sleep(0)
        admin.gate.set()

        await asyncio.wait([waiting], timeout=1.0)
        assert waiting.done()
        await soon(await waiting)


@pytest.mark.rule_37
async def test_a_new_producer_is_tried_again_whatever_the_last_one_failed_of() -> None:
    cluster = Cluster()
    async with publishing(cluster, delivery_timeout=5.0) as publisher:
        cluster.start_errors.append(OSError("not an error of Kafka"))
        cluster.producers[0].is_alive = False  # its sending task has ended
        await eventually(lambda: publisher.counts.replaced == 1)

        await soon(await publisher.send(message(partition=0)))

        assert cluster.values(0) == [b"x"]


async def test_a_start_that_fails_when_nobody_waits_for_it_any_more_is_no_surprise() -> None:
    """The end of a stop cancels who waits; asyncio said that the exception was never retrieved."""
    cluster = Cluster()
    publisher = Publisher(_made_by(lambda: Refused(cluster)), topics_of(None), encode)
    starting = asyncio.create_task(publisher.start())
    await eventually(lambda: publisher._starting is not None)
    task: Any = publisher._starting
    starting.cancel()
    await asyncio.wait([starting])
    cluster.start_gate.set()
    await asyncio.wait([task])
    await asyncio.sleep(0)  # its callbacks have been called

    assert starting.cancelled()
    assert not task._log_traceback  # what asyncio asks before it says so
    assert isinstance(task.exception(), BrokerUnreachableError)


class Refused(FakeProducer):
    """Fails to start, once it may."""

    async def start(self, timeout: float) -> None:
        await super().start(timeout)
        raise BrokerUnreachableError("cannot use Kafka")


async def test_a_batch_whose_time_is_over_is_not_handed_over() -> None:
    """As after the event loop was blocked for longer than the time limit of a delivery."""
    cluster = Cluster()
    async with publishing(cluster) as publisher:
        await (await publisher.send(message(b"in time")))
        publisher._settler.delivery_timeout = -1.0
        late = await publisher.send(message(b"late"))

        with pytest.raises(DeliveryFailedError, match="no broker accepted it within"):
            await late
        assert cluster.everything() == [b"in time"]
