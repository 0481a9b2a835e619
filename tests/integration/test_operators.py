"""What operators do to topics and groups while services run: delete, make again, move offsets."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Application, MessageTooLargeError
from kafkaesk_testing import eventually


class Service:
    """One application that consumes all streams of its prefix, and what it has handled."""

    def __init__(self, servers: Sequence[str]) -> None:
        self.servers = list(servers)
        self.prefix = f"{uuid.uuid4().hex[:8]}."
        self.group = f"group-{uuid.uuid4().hex[:8]}"
        self.handled: list[tuple[str, bytes | None, int]] = []

    def application(self) -> Application:
        settings = {
            "heartbeat_interval_ms": 300,
            "session_timeout_ms": 6000,
            "metadata_max_age_ms": 500,
        }
        return Application(
            self.servers,
            self.prefix,
            settings,
            entry_points=False,
            partitions=1,
            auto_commit_interval_ms=100,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Application]:
        app = self.application()

        @app.subscribe("*", self.group)
        async def handle(record: ConsumerRecord) -> None:
            stream = record.topic.removeprefix(self.prefix)
            self.handled.append((stream, record.value, record.offset))

        async with app:
            consuming = asyncio.create_task(app.consume_forever())
            try:
                yield app
            finally:
                await app.stop()
                await consuming

    async def delete(self, stream: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        try:
            await admin.delete_topics([self.prefix + stream])
        finally:
            await admin.close()

    async def move(self, stream: str, offset: int) -> None:
        """Commit another offset for the group, which has no member now."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.servers, group_id=self.group)
        await consumer.start()
        try:
            partition = TopicPartition(self.prefix + stream, 0)
            consumer.assign([partition])
            await consumer.commit({partition: offset})
        finally:
            await consumer.stop()

    def offsets(self, stream: str) -> list[int]:
        return [offset for name, _, offset in self.handled if name == stream]


async def publish(app: Application, stream: str, *values: bytes) -> None:
    deliveries = [await app.raw_publish(stream, value) for value in values]
    await asyncio.gather(*deliveries)


async def test_f32_a_topic_that_is_deleted_and_made_again_is_read_from_its_beginning(
    kafka: Any,
) -> None:
    """A6, D20: others go on, and no commit hangs on what is gone."""
    service = Service(kafka.servers)
    async with service.running() as app:
        await publish(app, "gone", *(b"old %d" % n for n in range(20)))
        await publish(app, "stays", b"1")
        await eventually(lambda: len(service.handled) == 21, within=30)

        await service.delete("gone")
        await publish(app, "stays", b"2")
        await eventually(lambda: ("stays", b"2", 1) in service.handled, within=30)
        await eventually(
            lambda: not any(p.topic.endswith("gone") for p in app.status().groups[0].partitions),
            within=30,
        )
        async with service.application() as publisher:
            await publish(publisher, "gone", b"new 0", b"new 1")
        await eventually(lambda: ("gone", b"new 1", 1) in service.handled, within=30)

    assert [value for name, value, _ in service.handled if name == "gone"][20:] == [
        b"new 0",
        b"new 1",
    ]
    assert service.offsets("stays") == [0, 1]


@pytest.mark.parametrize(("moved_to", "expected"), [(3, [3, 4, 5]), (8, [8])])
async def test_f37_an_offset_that_an_operator_moved_is_followed(
    kafka: Any, moved_to: int, expected: list[int]
) -> None:
    service = Service(kafka.servers)
    async with service.running() as app:
        await publish(app, "content", *(b"%d" % n for n in range(6)))
        await eventually(lambda: len(service.handled) == 6, within=30)
    await service.move("content", moved_to)
    async with service.application() as publisher:
        await publish(publisher, "content", b"6", b"7", b"8")
    del service.handled[:]

    async with service.running():
        await eventually(lambda: 8 in service.offsets("content"), within=30)
    async with service.running() as app:
        await publish(app, "content", b"9")
        await eventually(lambda: 9 in service.offsets("content"), within=30)

    before_nine = list(range(expected[0], 9))
    assert service.offsets("content") == [*before_nine, 9]


async def test_f39_a_message_of_the_largest_size_arrives_and_one_byte_more_is_refused(
    kafka: Any,
) -> None:
    """1 MiB is what the clients send at most, and what the brokers take: 12 bytes more (K36)."""
    service = Service(kafka.servers)
    async with service.application() as app:
        limit = 1024 * 1024
        await (await app.raw_publish("content", b"before"))
        with pytest.raises(MessageTooLargeError, match=str(limit)) as raised:
            await app.raw_publish("content", bytes(limit - 60))
        told = int(str(raised.value).split("message of ")[1].split()[0])
        largest = limit - (told - (limit - 60))  # without what a record takes beside its value
        with pytest.raises(MessageTooLargeError, match=f"message of {limit + 1} bytes"):
            await app.raw_publish("content", bytes(largest + 1))
        await (await app.raw_publish("content", bytes(largest)))
        await (await app.raw_publish("content", b"after"))

    async with service.running():
        await eventually(lambda: service.offsets("content") == [0, 1, 2], within=30)
    assert len(service.handled[1][1] or b"") == largest
