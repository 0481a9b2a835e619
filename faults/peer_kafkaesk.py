"""A member with kafkaesk 0.8, set up as in its documentation to commit handled records."""

import asyncio  # no postponed annotations: the library reads them as they stand
import sys
from typing import Any

from .handling import Handling
from .journal import Journal
from .workload import Task


def main() -> None:
    """Consume until SIGTERM."""
    import kafkaesk
    from kafkaesk.consumer import BatchConsumer

    task = Task.load(sys.argv[1])
    journal = Journal(task.journal)
    handling = Handling(task, journal)
    _note_rebalances(BatchConsumer, journal)
    app = kafkaesk.Application(kafka_servers=list(task.servers))
    known = ("session_timeout_ms", "heartbeat_interval_ms", "request_timeout_ms")
    settings = {k: v for k, v in task.workload.kafka_settings.items() if k in known}
    app.configure(kafka_settings=settings)

    @app.subscribe(task.topic, group=task.group)  # type: ignore[untyped-decorator]  # of the other environment
    async def handle(data: bytes, record: Any) -> None:
        await handling.handle(record.value, f"{record.topic}:{record.partition}", record.offset)

    asyncio.run(kafkaesk.run_app(app))


def _note_rebalances(consumer: Any, journal: Journal) -> None:
    assigned, revoked = consumer.on_partitions_assigned, consumer.on_partitions_revoked

    async def on_assigned(self: Any, partitions: Any) -> None:
        journal.write("assigned", *(f"{tp.topic}:{tp.partition}" for tp in partitions))
        await assigned(self, partitions)

    async def on_revoked(self: Any, partitions: Any) -> None:
        await revoked(self, partitions)
        journal.write("revoked", *(f"{tp.topic}:{tp.partition}" for tp in partitions))

    consumer.on_partitions_assigned, consumer.on_partitions_revoked = on_assigned, on_revoked


if __name__ == "__main__":
    main()
