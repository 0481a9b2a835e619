"""A poll that fails loses nothing of what the client had taken out of its buffers by then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Application
from kafkaesk_core.message import ParsedRecord
from kafkaesk_testing import EmbeddedBroker, eventually

Place = tuple[int, int]


class Corruption:
    """Lets a checksum be wrong in the second partition that one call of getmany drains."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fell_on: set[TopicPartition] = set()
        self.lost: list[Place] = []
        self._drained: list[Place] = []
        getmany, getall = AIOKafkaConsumer.getmany, FetchResult.getall

        async def call(consumer: Any, *partitions: TopicPartition, **options: Any) -> Any:
            self._drained = []
            return await getmany(consumer, *partitions, **options)

        def drain(result: Any, max_records: int | None = None) -> list[ParsedRecord]:
            if self._drained and not self.fell_on:
                self.fell_on.add(result._topic_partition)
                self.lost = self._drained
                raise CorruptRecordException("a checksum is wrong")
            records: list[ParsedRecord] = getall(result, max_records)
            number = result._topic_partition.partition
            self._drained += [(number, record.offset) for record in records]
            return records

        monkeypatch.setattr(AIOKafkaConsumer, "getmany", call)
        monkeypatch.setattr(FetchResult, "getall", drain)


async def test_what_a_failed_poll_had_drained_of_others_is_read_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """getmany drains one partition after the other: the positions of the first had moved on."""
    got: list[Place] = []
    with EmbeddedBroker(topics={"content": 2}) as broker:
        app = Application(broker.servers, entry_points=False)

        @app.subscribe("content", "group", ordering="partition")
        async def handle(record: ConsumerRecord) -> None:
            got.append((record.partition, record.offset))

        async with app:
            for number in range(40):
                await app.raw_publish("content", b"value", partition=number % 2)
            await app.flush()
            corruption = Corruption(monkeypatch)
            consuming = asyncio.create_task(app.consume_forever())
            await eventually(lambda: len(set(got)) == 40, within=20)
            await app.stop()
            await consuming

    assert corruption.fell_on, "the poll that was to fail did not"
    assert corruption.lost, "it had drained nothing of the other partition"
    assert sorted(got) == [(partition, offset) for partition in (0, 1) for offset in range(20)]
    assert "a checksum is wrong" in caplog.text
