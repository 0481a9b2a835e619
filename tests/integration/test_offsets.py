"""Topics and offsets that others change: deleted, made again, moved by an operator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Application
from kafkaesk_testing import Kafka, eventually


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


async def test_f37_an_offset_that_an_operator_moved_is_followed(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    """U9: back as well as on; what was committed before does not matter."""
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


async def test_f32_a_topic_that_is_deleted_and_made_again_is_read_from_its_beginning(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    """K18: a record of it ends when it is gone already; no commit hangs, the others go on."""
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

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
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
        await app.stop()
        await consuming

    assert got[gone] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert got[kept] == list(range(len(got[kept])))
