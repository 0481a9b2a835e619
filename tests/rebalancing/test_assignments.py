"""An assignment that is taken back at once ends no part of the client."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.structs import TopicPartition

from kafkaesk_core.kafka.clients import force_close
from kafkaesk_core.kafka.consumer import await_settled

PARTITION = TopicPartition("orders", 0)


class Fetching:
    """The client's fetcher, subscribed by a pattern, without brokers: what it asks for is kept."""

    def __init__(self) -> None:
        consumer = AIOKafkaConsumer()
        await_settled(consumer)
        self.subscription = consumer._subscription
        self.subscription.subscribe_pattern(re.compile(".*"))
        self._consumer = consumer
        self.fetcher = consumer._fetcher = Fetcher(consumer._client, self.subscription)
        self.asked: list[Any] = []
        self.fetcher._get_actions_per_node = self._actions

    def _actions(self, assignment: Any) -> Any:
        self.asked.append(assignment.tps)
        return [], {}, 60.0, False, []

    async def close(self) -> None:
        await force_close(self._consumer)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_topic_that_appears_as_partitions_are_assigned_does_not_end_the_fetcher() -> None:
    """It ended the member, and the application if that was its first assignment."""
    fetching = Fetching()
    fetching.subscription.subscribe_from_pattern({"orders"})
    await settle()

    fetching.subscription.assign_from_subscribed([PARTITION])
    fetching.subscription.subscribe_from_pattern({"orders", "new"})  # before the fetcher's step
    await settle()

    assert not fetching.fetcher._fetch_task.done()
    assert fetching.asked == []
    fetching.subscription.assign_from_subscribed([PARTITION])
    await settle()
    assert fetching.asked == [{PARTITION}]
    await fetching.close()


async def test_a_poll_that_waits_for_partitions_waits_for_those_that_stay() -> None:
    fetching = Fetching()
    fetching.subscription.subscribe_from_pattern({"orders"})
    polling = asyncio.ensure_future(fetching.fetcher.fetched_records([], timeout=0))
    await settle()

    fetching.subscription.assign_from_subscribed([PARTITION])
    fetching.subscription.subscribe_from_pattern({"orders", "new"})
    await settle()

    assert not polling.done()
    fetching.subscription.assign_from_subscribed([PARTITION])
    assert await polling == {}
    await fetching.close()
