"""Topics and offsets that others change: deleted, made again, moved by an operator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Application, PartitionStatus, Subscriber
from kafkaesk_testing import Kafka, consuming, eventually


async def publish(app: Application, stream: str, count: int) -> None:
    deliveries = [await app.raw_publish(stream, b"value") for _ in range(count)]
    await asyncio.gather(*deliveries)


@asynccontextmanager
async def operator(kafka: Kafka, group: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Who commits for a group that has no member."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.servers, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@pytest.mark.f37
@pytest.mark.u9
async def test_an_offset_that_an_operator_moved_is_followed(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    """Back as well as on; what was committed before does not matter."""
    app = kafkaesk_app
    app.configure(partitions=1)
    group = f"{app.settings.topic_prefix}moved"
    partition = TopicPartition(f"{app.settings.topic_prefix}moved", 0)
    got: list[int] = []

    @app.subscribe("moved", group)
    async def handle(record: ConsumerRecord) -> None:
        got.append(record.offset)

    async with app:
        await publish(app, "moved", 10)
        await app.consume_for(10, seconds=20)
        async with operator(kafka, group) as consumer:
            assert await consumer.committed(partition) == 10
            consumer.assign([partition])
            await consumer.commit({partition: 3})
        await app.consume_for(7, seconds=20)
        await publish(app, "moved", 10)
        async with operator(kafka, group) as consumer:
            assert await consumer.committed(partition) == 10
            consumer.assign([partition])
            await consumer.commit({partition: 15})
        await app.consume_for(5, seconds=20)
        async with operator(kafka, group) as consumer:
            assert await consumer.committed(partition) == 20

    assert got == [*range(10), *range(3, 10), *range(15, 20)]


async def test_what_is_sought_with_the_client_is_followed_from_there_and_committed(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    """Within what was read ahead, beyond it, and to the ends of the log, whatever is open."""
    app = kafkaesk_app
    app.configure(partitions=1)
    group = f"{app.settings.topic_prefix}sought"
    partition = TopicPartition(f"{app.settings.topic_prefix}sought", 0)
    got: list[int] = []
    jumps: dict[int, Any] = {
        3: lambda raw: raw.seek(partition, 6),
        8: lambda raw: raw.seek(partition, 1000),
        1002: lambda raw: raw.seek_to_beginning(partition),
    }

    @app.subscribe("sought", group)
    async def handle(record: ConsumerRecord, subscriber: Subscriber) -> None:
        got.append(record.offset)
        if (jump := jumps.pop(record.offset, None)) is not None:
            if (waiting := jump(subscriber.consumer.raw)) is not None:
                sought.append(asyncio.ensure_future(waiting))
            await asyncio.Event().wait()

    sought: list[Any] = []
    async with app:
        await publish(app, "sought", 1004)
        running = asyncio.create_task(app.consume_forever())
        await eventually(lambda: 2 in got[8:], within=30)
        counts = app.status().groups[0].counts
        await app.stop()
        await running

    assert got[:11] == [0, 1, 2, 3, 6, 7, 8, 1000, 1001, 1002, 0]
    assert counts["positions_sought"] == 3
    assert counts["positions_given_up"] >= 3 + 1
    async with operator(kafka, group) as consumer:
        assert await consumer.committed(partition) == got[-1] + 1


@pytest.mark.f32
@pytest.mark.k18
async def test_a_topic_that_is_deleted_and_made_again_is_read_from_its_beginning(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    """A record of it ends when it is gone already; no commit hangs, the others go on."""
    app = kafkaesk_app
    app.configure(partitions=1, auto_commit_interval_ms=100)
    app.configure(commit_timeout=10.0, drain_timeout=5.0)
    prefix = app.settings.topic_prefix
    kept, gone = f"{prefix}kept", f"{prefix}gone"
    got: dict[str, list[int]] = {kept: [], gone: []}
    is_deleted = asyncio.Event()

    @app.subscribe("*", f"{prefix}readers")
    async def handle(record: ConsumerRecord) -> None:
        got[record.topic].append(record.offset)
        if (record.topic, record.offset) == (gone, 5):
            await is_deleted.wait()

    def committed(topic: str) -> int:
        partitions = (p for g in app.status().groups for p in g.partitions)
        return next((p.committed or 0 for p in partitions if p.topic == topic), -1)

    async def load() -> None:
        while True:
            await publish(app, "kept", 1)
            await asyncio.sleep(0.005)

    async with consuming(app):
        await publish(app, "gone", 6)
        await publish(app, "kept", 1)
        loading = asyncio.create_task(load())
        await eventually(lambda: committed(gone) == 5 and got[gone][-1] == 5, within=20)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
        await admin.start()
        await admin.delete_topics([gone])
        await admin.close()
        is_deleted.set()
        before = committed(kept)
        await eventually(lambda: committed(kept) > before + 20, within=8)
        await eventually(lambda: committed(gone) == -1, within=20)
        await publish(app, "gone", 3)
        await eventually(lambda: committed(gone) == 3, within=20)
        loading.cancel()

    assert got[gone] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert got[kept] == list(range(len(got[kept])))


# --- the end of the log is no record: markers, aborted and compacted records


READ_COMMITTED = {
    "isolation_level": "read_committed",
    "heartbeat_interval_ms": 300,
    "metadata_max_age_ms": 500,
}


async def transaction(
    kafka: Kafka,
    topic: str,
    *values: bytes,
    name: str = "one",
    is_aborted: bool = False,
    **options: Any,
) -> None:
    """Publish in a transaction of its own; its marker takes an offset."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers, transactional_id=f"{topic}.{name}")
    await producer.start()
    try:
        await producer.begin_transaction()
        for value in values:
            await producer.send(topic, value, **options)
        await (producer.abort_transaction() if is_aborted else producer.commit_transaction())
    finally:
        await producer.stop()


def the_partition(app: Application) -> PartitionStatus | None:
    """Where the one partition stands, once it is assigned."""
    return next((p for group in app.status().groups for p in group.partitions), None)


def stands_at(app: Application, offset: int) -> bool:
    found = the_partition(app)
    return found is not None and (found.position, found.end) == (offset, offset)


def lag_is_over(app: Application, end: int) -> bool:
    found = the_partition(app)
    return found is not None and (found.committed, found.end, found.lag) == (end, end, 0)


@pytest.mark.f38
@pytest.mark.rule_1
@pytest.mark.parametrize("auto_commit", [True, False])
async def test_the_lag_ends_at_0_behind_markers_and_aborted_records(
    kafkaesk_app: Application, kafka: Kafka, auto_commit: bool
) -> None:
    """What was committed stayed behind the last record, and the lag above 0."""
    app = kafkaesk_app
    app.configure(
        partitions=1,
        kafka_settings=READ_COMMITTED,
        auto_commit=auto_commit,
        auto_commit_interval_ms=100,
    )
    topic = group = f"{app.settings.topic_prefix}markers"
    got: list[bytes] = []

    @app.subscribe("markers", group)
    async def handle(data: bytes, subscriber: Subscriber) -> None:
        got.append(data)
        if not auto_commit:
            await subscriber.consumer.commit()

    async with app:
        await (await app.raw_publish("markers", b"plain"))
        await transaction(kafka, topic, b"1", b"2", b"3")
        await transaction(kafka, topic, *[b"aborted"] * 6, is_aborted=True)
        running = asyncio.create_task(app.consume_forever())
        await eventually(lambda: lag_is_over(app, 12), within=20)
        await transaction(kafka, topic, b"aborted", is_aborted=True)
        await eventually(lambda: lag_is_over(app, 14), within=20)
        await app.stop()
        await running
        async with operator(kafka, group) as consumer:
            assert await consumer.committed(TopicPartition(topic, 0)) == 14

    assert got == [b"plain", b"1", b"2", b"3"]


@pytest.mark.f38
async def test_a_log_of_nothing_but_aborted_records_is_passed_over(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    """From the committed offset to the end there is nothing to hand out."""
    app = kafkaesk_app
    app.configure(partitions=1, kafka_settings=READ_COMMITTED)
    topic = group = f"{app.settings.topic_prefix}aborted"
    partition = TopicPartition(topic, 0)

    @app.subscribe("aborted", group)
    async def handle(data: bytes) -> None: ...

    async with app:
        await (await app.raw_publish("aborted", b"first"))
        await app.consume_for(1, seconds=20)
        await transaction(kafka, topic, b"aborted", b"aborted", is_aborted=True)
        running = asyncio.create_task(app.consume_forever())
        await eventually(lambda: stands_at(app, 4), within=20)
        await app.stop()
        await running
        async with operator(kafka, group) as consumer:
            assert await consumer.committed(partition) == 4


@pytest.mark.f38
async def test_latest_loses_nothing_when_the_log_expires_up_to_markers(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    """The stored offset was behind the log's start: "latest" went on at its end, past a record."""
    app = kafkaesk_app
    app.configure(partitions=1, kafka_settings={**READ_COMMITTED, "auto_offset_reset": "latest"})
    topic = group = f"{app.settings.topic_prefix}expired"
    partition = TopicPartition(topic, 0)
    got: list[bytes] = []

    @app.subscribe("expired", group)
    async def handle(data: bytes) -> None:
        got.append(data)

    async with app:
        await (await app.raw_publish("expired", b"before the group"))
        running = asyncio.create_task(app.consume_forever())
        await eventually(lambda: stands_at(app, 1), within=20)
        await transaction(kafka, topic, b"1", b"2")
        await eventually(lambda: stands_at(app, 4), within=20)
        await app.stop()
        await running
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
        await admin.start()
        await admin.delete_records({partition: RecordsToDelete(4)})
        await admin.close()
        await transaction(kafka, topic, b"3", b"4", name="two")
        await app.consume_for(2, seconds=20)

    assert got == [b"1", b"2", b"3", b"4"]


@pytest.mark.rule_9
async def test_latest_skips_nothing_twice_after_its_offset_expired(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    """It went on at the end and committed nothing: the next start skipped what came meanwhile."""
    app = kafkaesk_app
    app.configure(partitions=1, kafka_settings={**READ_COMMITTED, "auto_offset_reset": "latest"})
    topic = group = f"{app.settings.topic_prefix}expired"
    got: list[bytes] = []

    @app.subscribe("expired", group)
    async def handle(data: bytes) -> None:
        got.append(data)

    async def start_and_stop(end: int) -> None:
        running = asyncio.create_task(app.consume_forever())
        await eventually(lambda: stands_at(app, end), within=20)
        await app.stop()
        await running

    async with app:
        await publish(app, "expired", 1)
        await start_and_stop(1)
        await publish(app, "expired", 3)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
        await admin.start()
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(4)})
        await admin.close()
        await start_and_stop(4)
        await (await app.raw_publish("expired", b"while it was away"))
        await app.consume_for(1, seconds=20)

    assert got == [b"while it was away"]


# --- "latest", and topics that are created while the group consumes


@pytest.mark.rule_25
@pytest.mark.parametrize("has_begun_with_a_topic", [True, False])
async def test_a_member_that_joins_later_reads_a_new_topic_from_its_beginning(
    kafkaesk_app: Application, kafka: Kafka, has_begun_with_a_topic: bool
) -> None:
    """10 of the 20 were skipped: those of the partitions that went to the second member."""
    first = kafkaesk_app
    # The first one looks for topics once an hour: it finds the new one in the rebalance.
    latest = {"heartbeat_interval_ms": 300, "auto_offset_reset": "latest"}
    first.configure(partitions=4, kafka_settings={**latest, "metadata_max_age_ms": 3_600_000})
    prefix, group = first.settings.topic_prefix, f"{first.settings.topic_prefix}latest"
    options: dict[str, Any] = {"entry_points": False, "partitions": 4}
    second = Application(kafka.servers, prefix, latest, **options)
    publisher = Application(kafka.servers, prefix, **options)
    got: list[tuple[Application, bytes]] = []

    for app in (first, second):

        @app.subscribe("orders.*", group)
        async def handle(data: bytes, app: Any) -> None:
            got.append((app, data))

    async with publisher, first:
        if has_begun_with_a_topic:
            await publish(publisher, "orders.one", 20)
        running = asyncio.create_task(first.consume_forever())
        await eventually(lambda: first.is_consuming and first.health().is_ready, within=20)
        deliveries = [
            await publisher.raw_publish("orders.two", b"%d" % n, partition=n % 4) for n in range(20)
        ]
        await asyncio.gather(*deliveries)
        async with consuming(second):
            await eventually(lambda: len(got) >= 20, within=20)
        await first.stop()
        await running

    assert sorted(data for _, data in got) == sorted(b"%d" % n for n in range(20))
    assert len({app for app, _ in got}) == 2, "each had its partitions"


COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "1",  # a record begins a segment if it is more than 1 ms younger
    "min.cleanable.dirty.ratio": "0.0",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1",
    "delete.retention.ms": "0",
}


async def create_compacted(kafka: Kafka, topic: str) -> None:
    """A topic whose broker compacts whatever it may: all but the active segment."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=COMPACTED)])
    finally:
        await admin.close()


async def offsets_that_are_left(kafka: Kafka, topic: str, end: int) -> list[int]:
    """What a plain consumer is given of the log, up to its end."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        found: list[int] = []
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record.offset for record in records]
        return found
    finally:
        await consumer.stop()


async def publish_compacted(app: Application, count: int, *, age: int) -> None:
    """Publish values of one key, each in a segment of its own; the first is `age` seconds old."""
    first = time.time_ns() // 1_000_000 - age * 1000
    for number in range(count):
        await (
            await app.raw_publish(
                "compacted", b"%d" % number, key=b"key", timestamp_ms=first + number * 1000
            )
        )


async def consume_up_to(app: Application, got: list[int], offset: int) -> None:
    """Consume and commit up to this record; the cleaner may remove those before it any time."""
    async with consuming(app):
        await eventually(lambda: offset in got, within=20)
        await app.stop()


async def until_compacted(kafka: Kafka, topic: str, end: int, *left: int) -> None:
    """Wait for the broker's cleaner, which looks every 15 s by default."""
    async with asyncio.timeout(90):
        while True:
            if await offsets_that_are_left(kafka, topic, end) == list(left):
                return
            await asyncio.sleep(0.2)


@pytest.mark.f38
@pytest.mark.rule_1
@pytest.mark.parametrize("isolation_level", ["read_committed", "read_uncommitted"])
async def test_the_lag_ends_at_0_where_the_records_before_the_last_were_compacted(
    kafkaesk_app: Application, kafka: Kafka, isolation_level: str
) -> None:
    """A broker never compacts the active segment, and keeps the latest value of each key below it.

    The group's committed offset, 4, is the first of eight holes.
    """
    app = kafkaesk_app
    app.configure(kafka_settings={**READ_COMMITTED, "isolation_level": isolation_level})
    topic = group = f"{app.settings.topic_prefix}compacted"
    await create_compacted(kafka, topic)
    got: list[int] = []

    @app.subscribe("compacted", group)
    async def handle(record: ConsumerRecord) -> None:
        got.append(record.offset)

    async with app:
        await publish_compacted(app, 4, age=60)
        await consume_up_to(app, got, 3)
        await publish_compacted(app, 10, age=30)
        await until_compacted(kafka, topic, 14, 12, 13)
        running = asyncio.create_task(app.consume_forever())
        await eventually(lambda: lag_is_over(app, 14), within=20)
        await app.stop()
        await running

    assert got[got.index(3) :] == [3, 12, 13]


@pytest.mark.f38
@pytest.mark.rule_1
@pytest.mark.parametrize("isolation_level", ["read_committed", "read_uncommitted"])
async def test_the_lag_ends_at_0_where_the_log_ends_in_compacted_records_and_a_marker(
    kafkaesk_app: Application, kafka: Kafka, isolation_level: str
) -> None:
    """The active segment holds a marker alone; the aborted records before it were removed.

    Nothing is left for a consumer from the committed offset to the end.
    """
    app = kafkaesk_app
    app.configure(kafka_settings={**READ_COMMITTED, "isolation_level": isolation_level})
    topic = group = f"{app.settings.topic_prefix}compacted"
    await create_compacted(kafka, topic)
    got: list[int] = []

    @app.subscribe("compacted", group)
    async def handle(record: ConsumerRecord) -> None:
        got.append(record.offset)

    async with app:
        await publish_compacted(app, 4, age=60)
        await consume_up_to(app, got, 3)
        at = time.time_ns() // 1_000_000 - 1000  # the marker is younger
        await transaction(
            kafka, topic, b"1", b"2", b"3", is_aborted=True, key=b"key", timestamp_ms=at
        )
        await until_compacted(kafka, topic, 8, 3)
        running = asyncio.create_task(app.consume_forever())
        await eventually(lambda: lag_is_over(app, 8), within=20)
        await app.stop()
        await running

    assert got[-1] == 3
