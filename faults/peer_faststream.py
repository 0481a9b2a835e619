"""A member with FastStream, set up for at-least-once delivery as in its documentation."""

import asyncio  # no postponed annotations: the library reads them as they stand
import sys
from typing import Any

from .handling import Handling
from .journal import Journal
from .workload import Task


def main() -> None:
    """Consume until SIGTERM."""
    from aiokafka import ConsumerRebalanceListener
    from faststream import AckPolicy, FastStream
    from faststream.kafka import KafkaBroker, KafkaMessage

    task = Task.load(sys.argv[1])
    journal = Journal(task.journal)
    handling = Handling(task, journal)
    known = ("session_timeout_ms", "heartbeat_interval_ms", "rebalance_timeout_ms")
    settings = {k: v for k, v in task.workload.kafka_settings.items() if k in known}
    broker = KafkaBroker(list(task.servers))

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
        async def on_partitions_revoked(self, revoked: Any) -> None:
            journal.write("revoked", *(f"{tp.topic}:{tp.partition}" for tp in revoked))

        async def on_partitions_assigned(self, assigned: Any) -> None:
            journal.write("assigned", *(f"{tp.topic}:{tp.partition}" for tp in assigned))

    @broker.subscriber(  # type: ignore[untyped-decorator]  # of the other environment
        task.topic,
        group_id=task.group,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        listener=Listener(),
        **settings,
    )
    async def handle(message: KafkaMessage) -> None:
        record = message.raw_message
        place = f"{record.topic}:{record.partition}"
        await handling.handle(record.value, place, record.offset)

    asyncio.run(FastStream(broker).run())


if __name__ == "__main__":
    main()
