"""One member of a group, as a separate process: `python -m faults.worker TASK.json`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Application, CommitError, Retry, Skip, Stop, Subscriber, hookimpl
from kafkaesk_core.process import run_app
from kafkaesk_retry import RetryPlugin, RetrySettings

from .handling import Handling, OrderFailedError, RetryRequestedError
from .journal import Journal
from .points import DeadLetters, Failures
from .workload import ATTEMPTS, Task

STATUS_SECONDS, VITALS_SECONDS = 0.05, 1.0
RETRY_SECONDS = 0.05

Offsets = Mapping[TopicPartition, int]


class Recorder:
    """Logs acknowledged commits, and assigned and revoked partitions, in the journal."""

    stage = "observe"

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @hookimpl
    async def wrap_commit(
        self, offsets: Offsets, call_next: Callable[[Offsets], Awaitable[None]], reason: str
    ) -> None:
        """Note the stored offsets."""
        await call_next(offsets)
        words = [word for tp, offset in offsets.items() for word in (told(tp), offset)]
        self._journal.write("committed", reason, *words)

    @hookimpl
    def partitions_assigned(self, event: Any, app: Any) -> None:
        """Note the partitions and the group's generation."""
        self._journal.write("assigned", *sorted(map(told, event.partitions)))
        (group,) = app.status().groups
        self._journal.write("generation", group.generation)

    @hookimpl
    def partitions_revoked(self, event: Any) -> None:
        """Note the partitions, and whether they were lost."""
        self._journal.write(event.kind, *sorted(map(told, event.partitions)))


def new_application(task: Task, journal: Journal) -> Application:
    """Return the member's application, not started."""
    workload = task.workload
    start = {"auto_offset_reset": "latest"} if workload.starts_at_end else {}
    app = Application(
        list(task.servers),
        kafka_settings={"metadata_max_age_ms": 1000, **start, **workload.kafka_settings},
        auto_commit_interval_ms=500,
        entry_points=False,
        plugins=[Recorder(journal), *dying(task, journal)],
        **workload.tuning,
    )
    handling = Handling(task, journal)
    options: dict[str, Any] = {
        "ordering": workload.ordering,
        "concurrency": workload.concurrency,
        "on_error": "stop" if workload.dying else on_error,
    }
    attempts: dict[tuple[str, int], int] = {}

    async def handle(record: ConsumerRecord, subscriber: Subscriber) -> None:
        place = (told(record), record.offset)
        attempt = attempts.pop(place, 1)
        try:
            await handling.handle(record.value, *place, attempt)
        except (RetryRequestedError, OrderFailedError):
            attempts[place] = attempt + 1
            raise
        if workload.answers:
            await app.raw_publish(f"answers-{task.topic}", record.value, key=record.key)
        if workload.commits_by_hand:
            await subscriber.consumer.commit()

    async def handle_batch(records: list[ConsumerRecord], subscriber: Subscriber) -> None:
        for record in records:
            await handle(record, subscriber)

    handler = handle_batch if workload.is_batched else handle
    if workload.is_pattern:
        app.subscribe(f"{task.topic}*", task.group, **options)(handler)
    else:
        app.subscribe_to_topics([task.topic], task.group, **options)(handler)
    return app


def dying(task: Task, journal: Journal) -> list[object]:
    """Return the plugins for dead letters, and for points at which their member stops."""
    if not task.workload.dying:
        return []
    letters = DeadLetters(task, journal)
    settings = RetrySettings(attempts=ATTEMPTS, first=0.05, most=0.2, dead_limit=0)
    return [letters, RetryPlugin(settings), Failures(letters.points)]


def told(place: Any) -> str:
    """Return the partition of a record or a TopicPartition, as in journals."""
    return f"{place.topic}:{place.partition}"


def on_error(error: BaseException, message: Any) -> Retry | Skip | Stop:
    """Skip unreadable records, stop after a failed commit, and retry after any other failure."""
    if isinstance(error, CommitError):
        return Stop(str(error))
    if isinstance(error, (ValueError, KeyError, TypeError)):
        return Skip(f"no order: {error!r}")
    return Retry(delay=RETRY_SECONDS)


async def report(app: Application, journal: Journal) -> None:
    """Log the engine's status and health in the journal, many times a second."""
    last: tuple[str, ...] = ()
    while True:
        for group in app.status().groups:
            journal.write("status", group.uncommitted, group.running)
        reasons = tuple(reason.replace(" ", "_") for reason in app.health().reasons)
        if reasons != last or random.random() < STATUS_SECONDS / VITALS_SECONDS:
            last = reasons
            journal.write("vitals", len(asyncio.all_tasks()), *reasons)
        await asyncio.sleep(STATUS_SECONDS)


async def serve(app: Application, journal: Journal) -> None:
    """Consume until SIGTERM, and log the remaining tasks and sockets."""
    reporting = asyncio.create_task(report(app, journal))
    try:
        await run_app(app)
    finally:
        reporting.cancel()
        await asyncio.wait([reporting])
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        journal.write("left", len(tasks), sockets())


def sockets() -> int:
    """Return the number of TCP connections of this process."""
    inodes = {line.split()[9] for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]}
    links = []
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(file))
    return sum(link.startswith("socket:[") and link[8:-1] in inodes for link in links)


def step_clock() -> None:
    """Let the wall clock jump forward and back by an hour, each second."""
    real = time.time

    def stepped() -> float:
        at = real()
        return at + 3600 * (int(at) % 3 - 1)

    time.time = stepped


def main() -> None:
    """Consume until SIGTERM."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    task = Task.load(sys.argv[1])
    if task.workload.steps_clock:
        step_clock()
    journal = Journal(task.journal)
    asyncio.run(serve(new_application(task, journal), journal))


if __name__ == "__main__":
    main()
