"""In which order a reader yields records, and that it waits for nobody to read new partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from aiokafka.consumer.subscription_state import SubscriptionState

from kafkaesk_core import Application, Cluster, ConsumerRecord, Settings, TopicPartition
from kafkaesk_core.kafka.reader import RecordReader
from kafkaesk_testing import EmbeddedBroker

TIMES = {0: [50, 10, 40, 20, 60], 1: [30, 30, 5, 70, 1]}
"""Timestamps that go backwards, as producers with different clocks set them."""


def of_partition(number: int, records: Collection[ConsumerRecord]) -> list[int]:
    return [record.offset for record in records if record.partition == number]


async def test_a_reader_keeps_the_order_of_offsets_where_timestamps_go_backwards() -> None:
    """A follower sorted the records of a fetch by their timestamps."""
    with EmbeddedBroker(topics={"orders": 2}) as broker:
        async with Application(broker.servers, entry_points=False) as app:
            for number, times in TIMES.items():
                for time in times:
                    await app.raw_publish("orders", b"1", partition=number, timestamp_ms=time)
        begins = {TopicPartition("orders", number): 0 for number in TIMES}
        followed: list[ConsumerRecord] = []

        cluster = Cluster(Settings(kafka_servers=broker.servers))
        async with cluster, cluster.reader() as reader:
            ends = await cluster.ends(["orders"])
            read = [record async for batch in reader.records(ends) for record in batch]
            async with aclosing(reader.follow(begins)) as following:
                while len(followed) < 10:
                    followed += await asyncio.wait_for(anext(following), 10)

    for records in (read, followed):
        assert of_partition(0, records) == of_partition(1, records) == [0, 1, 2, 3, 4]
    assert [record.timestamp for record in read] == [30, 30, 5, 50, 10, 40, 20, 60, 70, 1]


class Unanswered:
    """A client of two partitions; the brokers do not say where the first one begins."""

    def __init__(self) -> None:
        self.subscriptions: Any = SubscriptionState()
        self._subscription = self.subscriptions
        self.polls = 0

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        self.subscriptions.assign_from_user(set(partitions))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.subscriptions.seek(partition, offset)

    def assignment(self) -> Collection[TopicPartition]:
        return self.subscriptions.assigned_partitions()  # type: ignore[no-any-return]

    def partitions_for_topic(self, topic: str) -> Collection[int]:
        return {0, 1} if self.polls == 0 else {0, 1, 2}

    def state(self, number: int) -> Any:
        assignment = self.subscriptions.subscription.assignment
        return assignment.state_value(TopicPartition("orders", number))

    async def position(self, partition: TopicPartition) -> int:
        state = self.state(partition.partition)
        await state.wait_for_position()
        return state.position  # type: ignore[no-any-return]

    async def getmany(self, *_: Any, **__: Any) -> dict[TopicPartition, list[Any]]:
        self.polls += 1
        if self.polls == 1:
            self.state(0).await_reset(-2)  # its offset is out of range
            return {}
        record = SimpleNamespace(timestamp=1, offset=self.state(1).position)
        return {TopicPartition("orders", 1): [record]}


async def test_a_follower_waits_for_no_answer_to_read_partitions_that_are_added() -> None:
    """It waited without a limit for the position of each known partition."""
    reader = RecordReader(["localhost:9092"], {}, timeout=1)
    client: Any = Unanswered()
    unused, reader._consumer = reader._consumer, client
    await unused.stop()
    begins = {TopicPartition("orders", 0): 7, TopicPartition("orders", 1): 5}

    async with aclosing(reader.follow(begins)) as following:
        records = await asyncio.wait_for(anext(following), 5)

    assert [record.offset for record in records] == [5]
    assert {one.partition for one in client.assignment()} == {0, 1, 2}
    assert [client.state(number).position for number in (0, 1, 2)] == [0, 5, 0]
