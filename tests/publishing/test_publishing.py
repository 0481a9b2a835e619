"""Publishing to real Apache Kafka: outcomes, order, topics (rules 36 to 41; K33, K39)."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import (
    Application,
    DeliveryError,
    MessageTooLargeError,
    TopicError,
)
from kafkaesk_core.kafka.producer import record_bytes
from kafkaesk_testing import ApiKey, EmbeddedBroker, KafkaCluster, eventually


async def log_of(servers: Sequence[str], topic: str) -> dict[int, list[ConsumerRecord]]:
    """Everything in a topic, by partition, as a plain client reads it."""
    consumer = AIOKafkaConsumer(bootstrap_servers=list(servers), auto_offset_reset="earliest")
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        numbers = await consumer._client._wait_on_metadata(topic)
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[int, list[ConsumerRecord]] = {p.partition: [] for p in partitions}
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                batch = await consumer.getmany(partition, timeout_ms=500)
                found[partition.partition] += batch.get(partition, [])
        return found
    finally:
        await consumer.stop()


async def create_topic(servers: Sequence[str], topic: str, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=list(servers))
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs)])
    finally:
        await admin.close()
    assert answer.topic_errors[0][1] == 0


def application(servers: Sequence[str], prefix: str = "", **options: Any) -> Application:
    return Application(servers, prefix or f"{uuid.uuid4().hex[:8]}.", entry_points=False, **options)


@pytest.mark.f51
@pytest.mark.k33
async def test_one_message_that_is_too_large_harms_no_other(kafka: Any) -> None:
    """A refused batch poisons its partition for ever, without the undo."""
    app = application(kafka.servers)
    topic = f"{app.settings.topic_prefix}orders"
    await create_topic(kafka.servers, topic, **{"max.message.bytes": "20000"})
    values = [b"%d" % number for number in range(200)]
    values[100] = b"." * 50_000
    outcomes: list[Any] = []

    async with app:
        for value in values:
            try:
                outcomes.append(await app.raw_publish("orders", value))
            except MessageTooLargeError as error:
                outcomes.append(error)
        await app.flush()
    (records,) = (await log_of(kafka.servers, topic)).values()

    assert [record.value for record in records] == values[:100] + values[101:]
    assert isinstance(outcomes[100], MessageTooLargeError)
    others = outcomes[:100] + outcomes[101:]
    assert [(await delivery).offset for delivery in others] == list(range(199))


@pytest.mark.f51
@pytest.mark.k36
async def test_a_batch_that_the_broker_finds_too_large_is_split(kafka: Any) -> None:
    """Several records that fit one by one, and one that the broker alone refuses."""
    app = application(kafka.servers, kafka_settings={"linger_ms": 20})
    topic = f"{app.settings.topic_prefix}orders"
    await create_topic(kafka.servers, topic, **{"max.message.bytes": "3000"})
    values = [b"%04d" % number + b"." * 500 for number in range(40)]

    async with app:
        deliveries = [await app.raw_publish("orders", value) for value in values]
        offsets = [(await delivery).offset for delivery in deliveries]
    (records,) = (await log_of(kafka.servers, topic)).values()

    assert [record.value for record in records] == values
    assert offsets == list(range(40))


@pytest.mark.f39
@pytest.mark.rule_39
async def test_a_message_of_the_largest_size_is_written_and_one_byte_more_is_refused(
    kafka: Any,
) -> None:
    """1 MiB with all that Kafka adds; the neighbours of both are written."""
    app = application(kafka.servers, partitions=1)
    limit = 1024 * 1024
    size = limit - (record_bytes(None, b"." * (limit - 100), []) - (limit - 100))

    async with app:
        before = await app.raw_publish("orders", b"before")
        largest = await app.raw_publish("orders", b"." * size)
        with pytest.raises(MessageTooLargeError, match=f"a message of {limit + 1} bytes"):
            await app.raw_publish("orders", b"." * (size + 1))
        after = await app.raw_publish("orders", b"after")
        offsets = [(await delivery).offset for delivery in (before, largest, after)]
        counts = app.status().published
    (records,) = (await log_of(kafka.servers, f"{app.settings.topic_prefix}orders")).values()

    assert offsets == [0, 1, 2]
    assert [len(record.value) for record in records] == [6, size, 5]
    assert (counts["acked"], counts["failed"], counts["unknown"]) == (3, 0, 0)


@pytest.mark.f40
@pytest.mark.rule_37
@pytest.mark.parametrize("code", [45, 47, 59], ids=["out of order", "fenced", "unknown producer"])
async def test_a_producer_that_lost_its_sequence_is_replaced_and_publishing_goes_on(
    embedded_kafka: EmbeddedBroker, code: int
) -> None:
    """What the broker refused for certain is sent again, once and in order."""
    embedded_kafka.create_topic("orders", partitions=1)
    app = application(embedded_kafka.servers, create_topics=False)
    app.configure(topic_prefix="")
    values = [b"%d" % number for number in range(30)]
    deliveries = []

    async with app:
        await (await app.raw_publish("orders", b"first"))
        embedded_kafka.push_errors(ApiKey.PRODUCE, code)
        for value in values:
            deliveries.append(await app.raw_publish("orders", value))
            await asyncio.sleep(0)
        await app.flush()
        counts = app.status().published
    (records,) = (await log_of(embedded_kafka.servers, "orders")).values()

    assert [record.value for record in records] == [b"first", *values]
    assert [delivery.offset for delivery in deliveries] == list(range(1, 31))
    assert (counts["acked"], counts["replaced"]) == (31, 1)


@pytest.mark.f34
@pytest.mark.rule_40
@pytest.mark.u43
async def test_many_applications_make_one_topic_at_once(
    kafka: Any, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = f"{uuid.uuid4().hex[:8]}."
    apps = [application(kafka.servers, prefix, partitions=5) for _ in range(5)]

    deliveries = await asyncio.gather(
        *(app.raw_publish("orders", b"x") for app in apps for _ in range(4))
    )
    await asyncio.gather(*deliveries)
    await asyncio.gather(*(app.finalize() for app in apps))

    log = await log_of(kafka.servers, f"{prefix}orders")
    assert len(log) == 5
    assert sum(len(records) for records in log.values()) == 20
    assert caplog.text.count("exists with") == 0


@pytest.mark.f35
async def test_a_topic_that_cannot_be_made_is_told_in_kafkas_words(kafka: Any) -> None:
    app = application(kafka.servers, replication_factor=3)

    async with app:
        with pytest.raises(TopicError, match=r"orders failed: .*replication factor.*code 38"):
            await app.raw_publish("orders", b"x")


@pytest.mark.f35
async def test_a_missing_topic_that_may_not_be_made_names_the_remedy(kafka: Any) -> None:
    app = application(kafka.servers, create_topics=False)

    async with app:
        with pytest.raises(TopicError, match=r"does not exist.*create_topics=True"):
            await app.raw_publish("orders", b"x")


async def test_an_existing_topic_that_differs_is_reported_and_used(
    kafka: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(kafka.servers, partitions=3)
    topic = f"{app.settings.topic_prefix}orders"
    await create_topic(kafka.servers, topic, **{"retention.ms": "5000"})
    app.schema("Any", retention=60, streams=["orders"])({"type": "object"})
    caplog.set_level(logging.WARNING)

    async with app:
        await app.publish_and_wait("orders", {})

    assert "1 partitions instead of 3" in caplog.text
    assert "retention.ms 5000 instead of 60000" in caplog.text


@pytest.mark.u38
async def test_key_headers_partition_and_timestamp_arrive(kafka: Any) -> None:
    """And the caller's headers are not touched."""
    app = application(kafka.servers, kafka_settings={"compression_type": "gzip"}, partitions=3)
    headers = [("trace", b"1"), ("trace", b"2"), ("empty", None)]

    async with app:
        delivery = await app.raw_publish(
            "orders", b"value", b"key", headers, partition=2, timestamp_ms=1_700_000_000_000
        )
        metadata = await delivery
    log = await log_of(kafka.servers, f"{app.settings.topic_prefix}orders")

    (record,) = log[2]
    assert (record.key, record.value, record.timestamp) == (b"key", b"value", 1_700_000_000_000)
    assert list(record.headers) == headers
    assert (metadata.partition, metadata.offset) == (2, 0)
    assert len(headers) == 3


async def test_the_same_key_goes_to_the_same_partition_in_the_order_of_the_calls(
    kafka: Any,
) -> None:
    app = application(kafka.servers)

    async with app:
        for number in range(2000):
            await app.raw_publish("orders", b"%d" % number, key=b"%d" % (number % 13))
        await app.flush()
    log = await log_of(kafka.servers, f"{app.settings.topic_prefix}orders")

    by_key: dict[bytes, list[int]] = {}
    for records in log.values():
        for record in records:
            by_key.setdefault(record.key, []).append(int(record.value))
    assert {key: sorted(numbers) for key, numbers in by_key.items()} == by_key
    assert sum(map(len, by_key.values())) == 2000
    assert len(by_key) == 13


async def test_publishing_after_the_end_starts_anew_and_a_late_delivery_is_done(
    kafka: Any,
) -> None:
    app = application(kafka.servers)
    async with app:
        delivery = await app.raw_publish("orders", b"1")

    assert delivery.done()
    again = await app.raw_publish("orders", b"2")
    await again
    await app.finalize()


@pytest.mark.k39
@pytest.mark.rule_36
@pytest.mark.rule_37
async def test_what_was_reported_unknown_is_not_written_later(broker: KafkaCluster) -> None:
    """The old producer is closed by force before anything is reported."""
    app = application(
        broker.servers,
        "unknown.",
        kafka_settings={"request_timeout_ms": 40_000},
        delivery_timeout=45.0,
        drain_timeout=0.5,
        cancel_grace=0.2,
        commit_timeout=0.5,
        shutdown_timeout=2.0,
        partitions=1,
    )
    await app.initialize()
    await (await app.raw_publish("orders", b"acknowledged"))
    await asyncio.to_thread(broker.nodes[0].kill)
    lost = [await app.raw_publish("orders", b"%d" % number) for number in range(50)]

    await app.finalize()
    errors = [delivery.exception() for delivery in lost]
    await asyncio.to_thread(broker.nodes[0].restart)
    log = await log_of(broker.servers, "unknown.orders")

    assert all(isinstance(error, DeliveryError) for error in errors)
    assert [record.value for record in log[0]] == [b"acknowledged"]


async def test_messages_published_while_the_broker_is_away_arrive_in_order(
    broker: KafkaCluster,
) -> None:
    app = application(broker.servers, "away.", partitions=1)

    async with app:
        deliveries = [await app.raw_publish("orders", b"0")]
        await asyncio.wait_for(deliveries[0], 15)
        await asyncio.to_thread(broker.nodes[0].kill)
        deliveries += [await app.raw_publish("orders", b"%d" % n) for n in range(1, 300)]
        await asyncio.to_thread(broker.nodes[0].restart)
        await asyncio.wait_for(asyncio.gather(*deliveries), 60)
    log = await log_of(broker.servers, "away.orders")

    assert [int(record.value) for record in log[0]] == list(range(300))


@pytest.mark.u7
@pytest.mark.rule_38
async def test_a_failed_delivery_that_nobody_looked_at_is_logged_once_per_batch(
    broker: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(
        broker.servers,
        "unseen.",
        drain_timeout=0.5,
        cancel_grace=0.2,
        commit_timeout=0.5,
        shutdown_timeout=2.0,
        partitions=1,
    )
    await app.initialize()
    await (await app.raw_publish("orders", b"acknowledged"))
    await asyncio.to_thread(broker.nodes[0].kill)
    for _ in range(100):
        await app.raw_publish("orders", b"never looked at")

    await app.finalize()

    await eventually(lambda: "were never awaited" in caplog.text)
    assert 1 <= caplog.text.count("were never awaited") <= 3
