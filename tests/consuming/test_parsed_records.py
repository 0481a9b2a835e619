"""Records come out of the client as it has parsed them; who asks gets aiokafka's ConsumerRecord."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
import wrapt
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Application
from kafkaesk_core.consumer.dispatch import Dispatcher
from kafkaesk_core.consumer.fetched import consumer_record
from kafkaesk_testing import EmbeddedBroker, eventually

PARTITION = TopicPartition("content", 3)


def fetched(data: bytes) -> PartitionRecords:
    """What the client makes of a response, as its fetcher calls it."""
    return PartitionRecords(PARTITION, MemoryRecords(data), [], 0, None, None, False, 0)


def batch_of_today() -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 16)
    for offset, (key, value, headers) in enumerate(
        [
            (b"key", b"value", [("trace", b"1"), ("trace", None)]),
            (None, b"", []),
            (b"", None, [("trace", b"2")]),
        ]
    ):
        builder.append(offset, 1700 + offset, key, value, headers)
    return bytes(builder.build())


def batch_of_old(magic: int) -> bytes:
    builder = LegacyRecordBatchBuilder(magic=magic, compression_type=0, batch_size=1 << 16)
    for offset, (key, value) in enumerate([(b"key", b"value"), (None, b"value"), (b"key", None)]):
        builder.append(offset, 1700, key, value)
    return bytes(builder.build())


@pytest.mark.parametrize(
    "data",
    [batch_of_today(), batch_of_old(1), batch_of_old(0)],
    ids=["v2", "v1", "v0"],
)
def test_a_record_made_later_is_the_one_that_the_client_makes(data: bytes) -> None:
    plain, parsed = fetched(data), fetched(data)
    parsed._consumer_record = lambda _, record: record

    later = [consumer_record(PARTITION, record) for record in parsed]

    assert len(later) == 3
    assert later == list(plain)


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The types of all records that are taken in."""
    noted: list[type] = []
    take = Dispatcher.take

    def noting(self: Dispatcher, partition: TopicPartition, records: Any) -> None:
        noted.extend(map(type, records))
        take(self, partition, records)

    monkeypatch.setattr(Dispatcher, "take", noting)
    return noted


async def consumed(count: int) -> list[ConsumerRecord]:
    """Publish so many records, and return what a handler of ConsumerRecord gets."""
    got: list[ConsumerRecord] = []
    with EmbeddedBroker(topics={"content": 1}) as broker:
        app = Application(broker.servers, entry_points=False)

        @app.subscribe("content", "group")
        async def handle(record: ConsumerRecord) -> None:
            await asyncio.sleep(0)
            got.append(record)

        async with app:
            for number in range(count):
                await app.raw_publish("content", b"%d" % number, headers=[("number", b"n")])
            await app.flush()
            task = asyncio.create_task(app.consume_forever())
            await eventually(lambda: len(got) == count, within=20)
            await app.stop()
            await task
    return got


async def test_records_come_as_they_were_parsed(kinds: list[type]) -> None:
    """It lies on private names of aiokafka: where they are not, consuming is only slower."""
    got = await consumed(3000)

    assert len(kinds) == 3000
    assert ConsumerRecord not in kinds
    assert {type(record) for record in got} == {ConsumerRecord}
    assert [record.offset for record in got] == list(range(3000))
    assert got[7].value == b"7"
    assert got[7].topic == "content"
    assert got[7].headers == (("number", b"n"),)


def by_function(getmany: Any) -> Any:
    @functools.wraps(getmany)
    async def wrapper(*args: Any, **options: Any) -> Any:
        return await getmany(*args, **options)

    return wrapper


def by_proxy(getmany: Any) -> Any:
    """As the instrumentations of opentelemetry and others do."""
    return wrapt.FunctionWrapper(
        getmany, lambda wrapped, _, args, options: wrapped(*args, **options)
    )


@pytest.mark.parametrize("wrap", [by_function, by_proxy])
async def test_who_wraps_getmany_is_given_what_aiokafka_promises(
    wrap: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, kinds: list[type]
) -> None:
    monkeypatch.setattr(AIOKafkaConsumer, "getmany", wrap(AIOKafkaConsumer.getmany))

    got = await consumed(100)

    assert set(kinds) == {ConsumerRecord}
    assert [record.offset for record in got] == list(range(100))
