"""The final state as a plain client sees it: the topics' records and the group's commits."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from .workload import Order

__all__ = ["Log", "read_ends", "read_log"]


@dataclass(slots=True)
class Log:
    """The orders by partition and offset; `ends` and `committed` are next-to-read offsets.

    `letters` counts the dead letters of each order, by its id.
    """

    orders: dict[tuple[str, int], Order] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)
    letters: Counter[int] = field(default_factory=Counter)


async def read_log(
    servers: Sequence[str], topics: Sequence[str], group: str, *, letters: str = ""
) -> Log:
    """Read whole topics, without a group, and a group's offsets, without joining it.

    `letters` is the topic of its dead letters, if there is one.
    """
    log = Log()
    log.orders, log.ends = await _read(servers, topics)
    if letters:
        dead, _ = await _read(servers, [letters])
        log.letters = Counter(order.id for order in dead.values())
    admin = AIOKafkaAdminClient(bootstrap_servers=list(servers))
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
        log.committed = {told(tp): stored.offset for tp, stored in offsets.items()}
    finally:
        await admin.close()
    return log


async def _read(
    servers: Sequence[str], topics: Sequence[str]
) -> tuple[dict[tuple[str, int], Order], dict[str, int]]:
    """The orders in topics, and the ends of these."""
    orders: dict[tuple[str, int], Order] = {}
    async with _reading(servers, topics) as (consumer, ends):
        for tp in ends:
            await consumer.seek_to_beginning(tp)
        for tp, end in ends.items():
            while await consumer.position(tp) < end:
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                    with contextlib.suppress(ValueError, KeyError, TypeError):  # poison
                        orders[told(tp), record.offset] = Order.decode(record.value)
        return orders, {told(tp): end for tp, end in ends.items()}


async def read_ends(servers: Sequence[str], topics: Sequence[str]) -> dict[str, int]:
    """The next-to-read offsets of topics."""
    async with _reading(servers, topics) as (_, ends):
        return {told(tp): end for tp, end in ends.items()}


@asynccontextmanager
async def _reading(
    servers: Sequence[str], topics: Sequence[str]
) -> AsyncIterator[tuple[AIOKafkaConsumer, dict[TopicPartition, int]]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(servers), auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        await consumer._client.set_topics(topics)
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in consumer.partitions_for_topic(topic) or ()
        ]
        consumer.assign(partitions)
        yield consumer, await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()


def told(tp: TopicPartition) -> str:
    """A partition as journals write it."""
    return f"{tp.topic}:{tp.partition}"
