"""One member of a group as a process of its own: `python -m tests.faults.worker TASK.json`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

import kafkaesk_core
from kafkaesk_core import Application, Retry, hookimpl

from .handling import Handling, OrderFailedError, RetryRequestedError
from .journal import Journal
from .workload import Task

STATUS_SECONDS = 0.05
RETRY_SECONDS = 0.05

Offsets = Mapping[TopicPartition, int]


class Recorder:
    """Writes down commits that were acknowledged, and the partitions that come and go."""

    stage = "observe"

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @hookimpl
    async def wrap_commit(
        self, offsets: Offsets, call_next: Callable[[Offsets], Awaitable[None]], reason: str
    ) -> None:
        """Note what was stored."""
        await call_next(offsets)
        words = [word for tp, offset in offsets.items() for word in (tp.partition, offset)]
        self._journal.write("committed", reason, *words)

    @hookimpl
    def partitions_assigned(self, event: Any) -> None:
        """Note them."""
        self._journal.write("assigned", *sorted(tp.partition for tp in event.partitions))

    @hookimpl
    def partitions_revoked(self, event: Any) -> None:
        """Note them, and whether they were taken away."""
        self._journal.write(event.kind, *sorted(tp.partition for tp in event.partitions))


def new_application(task: Task, journal: Journal) -> Application:
    """The member, not started."""
    workload = task.workload
    app = Application(
        list(task.servers),
        kafka_settings={"metadata_max_age_ms": 1000, **workload.kafka_settings},
        auto_commit_interval_ms=500,
        entry_points=False,
        plugins=[Recorder(journal)],
        **workload.tuning,
    )
    handling = Handling(workload, journal, task.seed)
    options: dict[str, Any] = {
        "ordering": workload.ordering,
        "concurrency": workload.concurrency,
        "on_error": on_error,
    }
    attempts: dict[tuple[int, int], int] = {}

    async def handle(record: ConsumerRecord) -> None:
        place = (record.partition, record.offset)
        attempt = attempts.pop(place, 1)
        try:
            await handling.handle(record.value, *place, attempt)
        except (RetryRequestedError, OrderFailedError):
            attempts[place] = attempt + 1
            raise

    async def handle_batch(records: list[ConsumerRecord]) -> None:
        for record in records:
            await handle(record)

    app.subscribe_to_topics([task.topic], task.group, **options)(
        handle_batch if workload.is_batched else handle
    )
    return app


def on_error(error: BaseException, message: Any) -> Retry:
    """Whatever fails is tried again."""
    return Retry(RETRY_SECONDS)


async def report(app: Application, journal: Journal) -> None:
    """Write down what the engine says that a kill would cost, many times a second."""
    while True:
        for group in app.status().groups:
            journal.write("status", group.uncommitted, group.running)
        await asyncio.sleep(STATUS_SECONDS)


def main() -> None:
    """Consume until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    task = Task.load(sys.argv[1])
    journal = Journal(task.journal)
    app = new_application(task, journal)
    reports: list[asyncio.Task[None]] = []

    async def begin() -> None:
        reports.append(asyncio.create_task(report(app, journal)))

    async def end() -> None:
        for task in reports:
            task.cancel()

    app.on("initialize", begin)
    app.on("finalize", end)
    kafkaesk_core.run(app)


if __name__ == "__main__":
    main()
