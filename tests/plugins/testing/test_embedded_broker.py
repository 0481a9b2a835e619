import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import IncompatibleBrokerVersion, TopicAuthorizationFailedError
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_testing import DISCONNECT, ApiKey, EmbeddedBroker, KafkaTestingError, Request


@asynccontextmanager
async def producing(broker: EmbeddedBroker) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(
        bootstrap_servers=broker.servers, enable_idempotence=True, acks="all"
    ) as producer:
        yield producer


@asynccontextmanager
async def consuming(
    broker: EmbeddedBroker, pattern: str, group: str = "readers"
) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **broker.consumer_settings,
    )
    consumer.subscribe(pattern=pattern)
    async with consumer:
        yield consumer


async def values(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    return [record.value for record in await records(consumer, count)]


async def records(consumer: AIOKafkaConsumer, count: int) -> Sequence[ConsumerRecord]:
    async with asyncio.timeout(20):
        return [await consumer.getone() for _ in range(count)]


async def test_a_record_keeps_its_key_headers_and_timestamp(embedded_kafka: EmbeddedBroker) -> None:
    async with producing(embedded_kafka) as producer:
        await producer.send_and_wait(
            "orders",
            b"value",
            key=b"key",
            headers=[("trace", b"1")],
            timestamp_ms=1_700_000_000_000,
        )

    async with consuming(embedded_kafka, ".*") as consumer:
        (record,) = await records(consumer, 1)

    assert (record.key, record.value) == (b"key", b"value")
    assert record.headers == (("trace", b"1"),)
    assert record.timestamp == 1_700_000_000_000


async def test_a_pattern_finds_topics_made_before_and_after_it(
    embedded_kafka: EmbeddedBroker,
) -> None:
    async with producing(embedded_kafka) as producer:
        await producer.send_and_wait("orders.made", b"1")
        await producer.send_and_wait("other", b"-")
        async with consuming(embedded_kafka, r"^orders\..*$") as consumer:
            assert await values(consumer, 1) == [b"1"]
            await consumer.commit()

            await producer.send_and_wait("orders.paid", b"2")

            assert await values(consumer, 1) == [b"2"]


async def test_a_restarted_consumer_goes_on_at_the_committed_offset(
    embedded_kafka: EmbeddedBroker,
) -> None:
    embedded_kafka.create_topic("orders", partitions=1)
    async with producing(embedded_kafka) as producer:
        for number in range(5):
            await producer.send_and_wait("orders", b"%d" % number)
    async with consuming(embedded_kafka, "^orders$") as consumer:
        assert await values(consumer, 5) == [b"0", b"1", b"2", b"3", b"4"]
        await consumer.commit({TopicPartition("orders", 0): 3})

    async with consuming(embedded_kafka, "^orders$") as consumer:
        assert await values(consumer, 2) == [b"3", b"4"]


async def test_topics_have_the_partitions_they_were_made_with() -> None:
    with EmbeddedBroker(brokers=3, topics={"orders": 7}) as broker:
        broker.create_topic("audit", partitions=2)
        async with producing(broker) as producer:
            await producer.send_and_wait("used", b"x")

            assert len(await producer.partitions_for("orders")) == 7
            assert len(await producer.partitions_for("audit")) == 2
            assert len(await producer.partitions_for("used")) == 4


async def test_scripted_errors_come_once_each_in_order(embedded_kafka: EmbeddedBroker) -> None:
    async with producing(embedded_kafka) as producer:
        await producer.send_and_wait("orders", b"0", partition=0)
        embedded_kafka.track_requests()
        embedded_kafka.push_errors(ApiKey.PRODUCE, 7, DISCONNECT, 19)

        sent = await producer.send_and_wait("orders", b"1", partition=0)

    assert sent.offset == 1
    assert embedded_kafka.requests().count(Request(1, ApiKey.PRODUCE)) == 4


async def test_errors_that_were_not_used_can_be_cleared(embedded_kafka: EmbeddedBroker) -> None:
    async with producing(embedded_kafka) as producer:
        embedded_kafka.push_errors(ApiKey.PRODUCE, 29, 29)
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait("orders", b"0", partition=0)

        embedded_kafka.clear_errors(ApiKey.PRODUCE)

        await producer.send_and_wait("audit", b"1", partition=0)


async def test_answers_can_be_delayed_while_the_event_loop_runs_on(
    embedded_kafka: EmbeddedBroker,
) -> None:
    async with producing(embedded_kafka) as producer:
        await producer.send_and_wait("orders", b"0", partition=0)
        embedded_kafka.push_broker_errors(1, ApiKey.PRODUCE, (0, 0.3))
        started, turns = time.monotonic(), 0

        delivery = await producer.send("orders", b"1", partition=0)
        while not delivery.done():
            await asyncio.wait([delivery], timeout=0.01)
            turns += 1

        assert time.monotonic() - started >= 0.3
        assert turns > 10
        embedded_kafka.set_rtt(0.1)
        started = time.monotonic()
        await producer.send_and_wait("orders", b"2", partition=0)
        assert time.monotonic() - started >= 0.1


async def test_a_broker_that_is_down_comes_back_with_its_records(
    embedded_kafka: EmbeddedBroker,
) -> None:
    async with producing(embedded_kafka) as producer:
        await producer.send_and_wait("orders", b"0", partition=0)
        embedded_kafka.set_down()
        delivery = await producer.send("orders", b"1", partition=0)
        await asyncio.wait([delivery], timeout=0.3)
        assert not delivery.done()

        embedded_kafka.set_up()

        assert (await delivery).offset == 1


async def test_a_coordinator_can_be_moved() -> None:
    with EmbeddedBroker(brokers=3) as broker:
        broker.track_requests()
        for broker_id in (1, 3):
            broker.set_coordinator(f"group-{broker_id}", broker_id)
            async with consuming(broker, ".*", f"group-{broker_id}"):
                pass

        joined = [one.broker_id for one in broker.requests() if one.api_key == ApiKey.JOIN_GROUP]
        assert sorted(set(joined)) == [1, 3]


async def test_deleted_records_are_skipped(embedded_kafka: EmbeddedBroker) -> None:
    embedded_kafka.create_topic("orders", partitions=1)
    async with producing(embedded_kafka) as producer:
        for number in range(3):
            await producer.send_and_wait("orders", b"%d" % number)

    embedded_kafka.delete_records("orders", 0, before_offset=2)

    async with consuming(embedded_kafka, "^orders$") as consumer:
        assert await values(consumer, 1) == [b"2"]


async def test_topics_cannot_be_made_through_the_protocol(embedded_kafka: EmbeddedBroker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=embedded_kafka.servers)
    await admin.start()
    try:
        with pytest.raises((AttributeError, IncompatibleBrokerVersion)):
            await admin.create_topics([NewTopic("orders", 1, 1)])
    finally:
        await admin.close()


def test_refusals_of_librdkafka_are_errors(embedded_kafka: EmbeddedBroker) -> None:
    embedded_kafka.create_topic("orders")

    with pytest.raises(KafkaTestingError, match="already exists"):
        embedded_kafka.create_topic("orders")
    with pytest.raises(KafkaTestingError, match="Unknown topic"):
        embedded_kafka.delete_topic("missing")


def test_a_stopped_broker_refuses_calls_and_can_start_again() -> None:
    broker = EmbeddedBroker()
    with broker:
        assert broker.host_port.startswith("127.0.0.1:")

    with pytest.raises(KafkaTestingError, match="not running"):
        broker.set_down()
    with broker:
        assert broker.servers == [broker.host_port]


def test_one_line_in_the_log_states_the_limits(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    with EmbeddedBroker() as broker:
        (line,) = caplog.messages

    assert line.startswith("embedded broker at 127.0.0.1:")
    for limit in ("4 partitions", "one member", "5 MB", "nothing survives"):
        assert limit in line
    assert broker
