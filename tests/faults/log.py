"""What a plain client finds afterwards: the topic's records, and what the group has committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from .workload import Order

__all__ = ["Log", "read_log"]


@dataclass(slots=True)
class Log:
    """`orders` by partition and offset; `ends` and `committed` are next-to-read offsets."""

    orders: dict[tuple[int, int], Order] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)


async def read_log(servers: Sequence[str], topic: str, group: str) -> Log:
    """Read a whole topic, without a group, and a group's offsets, without joining it."""
    log = Log()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(servers), auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        await consumer._client.set_topics([topic])
        partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        for tp, end in (await consumer.end_offsets(partitions)).items():
            log.ends[tp.partition] = end
        for tp in partitions:
            await consumer.seek_to_beginning(tp)
        for tp in partitions:
            while await consumer.position(tp) < log.ends[tp.partition]:
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                    log.orders[tp.partition, record.offset] = Order.decode(record.value)
    finally:
        await consumer.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=list(servers))
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
        for tp, stored in offsets.items():
            if tp.topic == topic:
                log.committed[tp.partition] = stored.offset
    finally:
        await admin.close()
    return log
