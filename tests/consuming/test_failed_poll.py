"""A poll that fails loses nothing of what the client had taken out of its buffers by then."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Application
from kafkaesk_core.kafka.consumer import GroupMember
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


class Rewound:
    """A member whose poll fails; its partition is at `position` then, and was at 10 before."""

    def __init__(self, position: int | None) -> None:
        self.partition = TopicPartition("content", 0)
        self.state = SimpleNamespace(_position=position)
        assignment = SimpleNamespace(state_value=lambda _: self.state)
        subscription = SimpleNamespace(assignment=assignment)
        self.client: Any = SimpleNamespace(
            _subscription=SimpleNamespace(subscription=subscription),
            _fetcher=SimpleNamespace(_records={}),
            assignment=lambda: {self.partition},
            seek=self._seek,
        )
        self.member = GroupMember([], "group", {})
        self.member._consumer = self.client

    def _seek(self, _: TopicPartition, offset: int) -> None:
        self.state._position = offset

    def rewind(self) -> int | None:
        before: Any = SimpleNamespace(get=lambda _: 10)
        self.member._rewind([self.partition], before)
        position: int | None = self.state._position
        return position


@pytest.mark.u9
@pytest.mark.parametrize("position", [3, 5], ids=["not read yet", "read and lost"])
async def test_what_is_sought_during_a_poll_that_fails_is_still_sought(position: int) -> None:
    """It was undone, without a word."""
    one = Rewound(position)
    one.member._sought = {one.partition: (10, 3)}

    assert one.rewind() == 3
    assert one.member.take_sought({}) == {one.partition: (10, 3)}


@pytest.mark.u9
async def test_the_beginning_that_is_sought_during_a_poll_that_fails_is_still_sought() -> None:
    one = Rewound(None)  # until the brokers have answered
    one.member._sought = {one.partition: (10, None)}

    assert one.rewind() is None
    one.state._position = 0
    assert one.member.take_sought({}) == {one.partition: (10, 0)}


async def test_what_was_sought_with_a_member_that_is_stopped_is_forgotten() -> None:
    """A stop that comes while a lost member is replaced asks for it, and failed."""
    one = Rewound(None)
    one.member._sought = {one.partition: (10, None)}
    one.member._consumer = None

    assert one.member.take_sought({}) == {}


async def test_where_nothing_was_sought_a_failed_poll_goes_back() -> None:
    assert Rewound(20).rewind() == 10
