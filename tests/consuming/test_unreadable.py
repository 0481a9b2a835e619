"""A record that cannot be read, written by another producer, on a real broker (C7)."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchPy
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Application, DecodeError, HandlerError, IncomingMessage, Retry, Skip
from kafkaesk_testing import Kafka


async def write_latin_1(kafka: Kafka, topic: str) -> None:
    """Three records in one batch; the header of the second has a name in Latin-1."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 16)
    for n, name in enumerate(("plain", "caf??", "plain")):
        builder.append(n, 1_700_000_000_000, b"key", b"foreign %d" % n, [(name, b"x")])
    data = builder.build().replace(b"caf??", b"caf\xe9?")
    fields = _DefaultRecordBatchPy
    struct.pack_into(
        ">I", data, fields.CRC_OFFSET, calc_crc32c(bytes(data[fields.ATTRIBUTES_OFFSET :]))
    )
    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers)
    await producer.start()
    try:
        await producer.partitions_for(topic)
        leader = producer.client.cluster.leader_for_partition(TopicPartition(topic, 0))
        request = ProduceRequest(
            transactional_id=None,
            required_acks=-1,
            timeout=10_000,
            topics=[(topic, [(0, bytes(data))])],
        )
        answer = await producer.client.send(leader, request)
        assert answer.topics[0][1][0][1] == 0
    finally:
        await producer.stop()


def shape_of(shape: str, got: list[bytes | None]) -> Any:
    """A handler of each kind."""

    async def data(data: bytes) -> None:
        got.append(data)

    async def record(record: ConsumerRecord) -> None:
        got.append(record.value)

    async def batch(data: list[bytes]) -> None:
        got.extend(data)

    return {"data": data, "record": record, "batch": batch}[shape]


@pytest.mark.parametrize("shape", ["data", "record", "batch"])
@pytest.mark.parametrize("decision", ["skip", "asked"])
async def test_a_record_that_cannot_be_read_is_skipped_alone(
    kafkaesk_app: Application,
    kafka: Kafka,
    shape: str,
    decision: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The application ended with a raw UnicodeDecodeError, again after each restart."""
    app, got, asked = kafkaesk_app, list[bytes | None](), list[tuple[BaseException, int]]()
    app.configure(partitions=1)

    def decide(error: BaseException, message: IncomingMessage) -> Skip | Retry:
        asked.append((error, message.offset))
        return Skip() if message.attempt > 1 else Retry(delay=0)

    on_error: Any = decide if decision == "asked" else "skip"
    app.subscribe("latin", "latin", on_error=on_error)(shape_of(shape, got))

    async with app:
        await (await app.raw_publish("latin", b"first"))
        await write_latin_1(kafka, f"{app.settings.topic_prefix}latin")
        await (await app.raw_publish("latin", b"last"))
        await app.consume_for(5, seconds=20)

    assert got == [b"first", b"foreign 0", b"foreign 2", b"last"]
    assert caplog.text.count("; skipped: ") == 1
    if decision == "asked":
        assert [offset for _, offset in asked] == [2, 2]
        assert isinstance(asked[0][0], DecodeError)


async def test_a_record_that_cannot_be_read_stops_with_its_place(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    app, got = kafkaesk_app, list[bytes]()
    app.configure(partitions=1)
    topic = f"{app.settings.topic_prefix}latin"

    @app.subscribe("latin", "latin")
    async def handle(data: bytes) -> None:
        got.append(data)

    async with app:
        await (await app.raw_publish("latin", b"first"))
        await write_latin_1(kafka, topic)
        with pytest.raises(HandlerError, match="is not UTF-8") as failure:
            await app.consume_for(4, seconds=20)

    assert got == [b"first", b"foreign 0"]
    assert (failure.value.topic, failure.value.partition, failure.value.offset) == (topic, 0, 2)
