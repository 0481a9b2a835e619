"""Records that are written as they are, past all layers, and the topics that plugins need."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import RecordMetadata, TopicPartition

from kafkaesk_core import Application, Delivery, NotRunningError, OutgoingMessage, hookimpl
from kafkaesk_testing import Kafka

HEADERS: list[tuple[str, bytes | None]] = [("a", b"\x00\xff"), ("a", b""), ("b", None), ("a", b"1")]


class Watching:
    """Adds a header in its layer, and notes what its observer sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int | None]] = []

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: Any) -> Delivery:
        message.headers.append(("layer", b"1"))
        delivery: Delivery = await call_next(message)
        return delivery

    @hookimpl
    def published(self, message: OutgoingMessage, metadata: RecordMetadata | None) -> None:
        self.seen.append((message.stream, metadata and metadata.offset))


async def records(kafka: Kafka, topic: str, partition: int, count: int) -> list[Any]:
    async with AIOKafkaConsumer(bootstrap_servers=kafka.servers) as consumer:
        consumer.assign([TopicPartition(topic, partition)])
        await consumer.seek_to_beginning()
        async with asyncio.timeout(20):
            return [await consumer.getone() for _ in range(count)]


async def test_a_forwarded_record_is_written_byte_for_byte(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    watching = Watching()
    kafkaesk_app.plugins.register(watching)
    topic = kafkaesk_app.settings.topic_prefix + "copies"

    async with kafkaesk_app as app:
        delivery = await app.forward(
            topic, b"\xff{", b"key", HEADERS, partition=2, timestamp_ms=1_600_000_000_000
        )
        metadata = await delivery
        await (await app.forward(topic, None, b"key", partition=2))

    found, tombstone = await records(kafka, topic, 2, 2)
    assert (metadata.topic, metadata.partition, metadata.offset) == (topic, 2, 0)
    assert (found.value, found.key, list(found.headers)) == (b"\xff{", b"key", HEADERS)
    assert found.timestamp == 1_600_000_000_000
    assert (tombstone.value, tombstone.headers) == (None, ())
    assert watching.seen == [("copies", 0), ("copies", 1)]


async def test_a_topic_is_created_with_its_partitions_and_configs_and_never_altered(
    kafkaesk_app: Application,
) -> None:
    topic = kafkaesk_app.settings.topic_prefix + "made"

    async with kafkaesk_app as app:
        made = await app.ensure_topic(topic, partitions=5, configs={"cleanup.policy": "compact"})
        again = await app.ensure_topic(topic, partitions=9)
        default = await app.ensure_topic(topic + ".other")
        # A compacted topic takes no record without a key, so the config has reached the broker.
        with pytest.raises(Exception, match="key"):
            await (await app.forward(topic, b"x"))

    assert (made, again, default) == (5, 5, 3)


async def test_embedded_brokers_create_topics_on_their_first_use(
    embedded_app: Application,
) -> None:
    async with embedded_app as app:
        assert await app.ensure_topic("made") is None
        await (await app.forward("made", b"x"))


async def test_neither_starts_the_application(kafkaesk_app: Application) -> None:
    with pytest.raises(NotRunningError, match="nothing is written to copies"):
        await kafkaesk_app.forward("copies", b"x")
    with pytest.raises(NotRunningError, match="topic copies is not created"):
        await kafkaesk_app.ensure_topic("copies")
    assert kafkaesk_app.loop is None


async def test_only_bytes_are_forwarded(embedded_app: Application) -> None:
    wrong: Any = "text"
    async with embedded_app as app:
        with pytest.raises(Exception, match="forward to copies got str, not bytes"):
            await app.forward("copies", wrong)
