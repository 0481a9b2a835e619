"""The publisher, as a separate process: `python -m faults.publisher TASK.json`."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from kafkaesk_core import Application, DeliveryUnknownError, KafkaeskError
from kafkaesk_core.delivery import Delivery

from .journal import Journal
from .workload import Order, Task, Workload

__all__ = ["IDS", "KEYS", "Sender", "new_application"]

TICK = 0.01
IDS, KEYS = 10**9, 10**6
"""The number of ids and keys reserved for each publisher."""


class Sender:
    """Publishes orders through an application, and logs each outcome in the journal."""

    def __init__(self, app: Application, task: Task, journal: Journal) -> None:
        self._app = app
        self._topic = task.topic
        self._keys = task.workload.keys
        self._journal = journal
        self._next = task.number * IDS  # of each publisher its own, ids and keys
        self._first_key = task.number * KEYS
        self._seqs: dict[int, int] = {}

    @property
    def own_key(self) -> int:
        """A key that no other publisher uses."""
        return self._first_key

    async def send(
        self, do: str = "", *, key: int | None = None, partition: int | None = None
    ) -> int:
        """Publish the next order; returns its id."""
        number, self._next = self._next, self._next + 1
        key = self._first_key + number % self._keys if key is None else key
        seq = self._seqs[key] = self._seqs.get(key, -1) + 1
        self._journal.write("sent", number, key, seq)
        value = Order(number, key, seq, do).encode()
        try:
            delivery = await self._app.raw_publish(
                self._topic, value, str(key).encode(), partition=partition
            )
        except KafkaeskError as error:
            self._journal.write("failed", number, type(error).__name__)
        else:
            delivery.add_done_callback(partial(self._done, number))
        return number

    async def poison(self, value: bytes, *, partition: int) -> None:
        """Publish a value that is not an order, and wait for its acknowledgement."""
        delivery = await self._app.raw_publish(self._topic, value, partition=partition)
        await delivery

    def _done(self, number: int, delivery: Delivery) -> None:
        error = delivery.exception()
        if error is None:
            metadata = delivery.result()
            partition = f"{metadata.topic}:{metadata.partition}"
            self._journal.write("acked", number, partition, metadata.offset)
        elif isinstance(error, DeliveryUnknownError):
            self._journal.write("unknown", number, type(error).__name__)
        else:
            self._journal.write("failed", number, type(error).__name__)


def new_application(task: Task) -> Application:
    """Return the publishing application, not started."""
    workload: Workload = task.workload
    return Application(
        list(task.servers),
        kafka_settings=dict(workload.publisher_settings),
        entry_points=False,
        partitions=workload.partitions,
        **workload.publishing,
    )


async def publish(task: Task, is_over: Callable[[], bool]) -> None:
    """Publish at the workload's rate until its end, then deliver the buffered messages."""
    journal = Journal(task.journal)
    per_tick = task.workload.rate * TICK
    chance = random.Random(task.seed)
    async with new_application(task) as app:
        sender = Sender(app, task, journal)
        began, sent = time.monotonic(), 0
        while not is_over():
            due = int((time.monotonic() - began) / TICK * per_tick)
            # After a stall it goes on at twice the rate, not at any: the fault is elsewhere.
            for _ in range(min(due - sent, int(2 * per_tick) + 1)):
                await sender.send("die" if chance.random() < task.workload.dying else "")
                sent += 1
            await asyncio.sleep(TICK)


def main() -> None:
    """Publish until SIGTERM."""
    logging.basicConfig(level=logging.WARNING)
    task = Task.load(sys.argv[1])

    async def run() -> None:
        over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        await publish(task, over.is_set)

    asyncio.run(run())


if __name__ == "__main__":
    main()
