"""The contestant FastStream 0.7, in its own environment."""

import asyncio
import logging
from collections import deque
from typing import Any

from faststream import FastStream
from faststream.kafka import KafkaBroker

from benchmarks.idle import rest, topics_of
from benchmarks.order import Envelope, order
from benchmarks.task import Meter, Result, Task, answer


async def publish(task: Task, meter: Meter) -> None:
    """Publish one message per call without waiting for each, until all are acknowledged."""
    broker = KafkaBroker(task.servers, acks="all", enable_idempotence=True, logger=None)
    message = Envelope(schema="Order:1", data=order())

    async def burst(count: int) -> None:
        pending: deque[Any] = deque()
        for number in range(count):
            options = {"topic": task.topic, "key": task.key(number), "no_confirm": True}
            pending.append(await broker.publish(message, **options))
            if task.option("ticks", False):
                await asyncio.sleep(0)
        for one in pending:
            await one

    async with broker:
        await broker.start()
        await burst(task.warm_up)
        with meter.measured():
            await burst(task.count)


async def consume(task: Task, meter: Meter) -> None:
    """Consume with an empty handler of a model, one by one or in batches."""
    logging.disable(logging.WARNING)
    broker = KafkaBroker(task.servers, logger=None)
    app = FastStream(broker, logger=None)
    options: dict[str, Any] = {"group_id": task.option("group", "faststream")}
    options |= {"auto_offset_reset": "earliest"} | task.option("kafka_settings", {})

    async def handle(message: Envelope) -> None:
        if meter.saw():
            app.exit()

    async def handle_batch(messages: list[Envelope]) -> None:
        if meter.saw(len(messages)):
            app.exit()

    if task.job == "consume_batch":
        broker.subscriber(task.topic, batch=True, max_records=500, **options)(handle_batch)
    else:
        broker.subscriber(task.topic, **options)(handle)
    await app.run()


async def idle(task: Task, meter: Meter) -> None:
    """Run groups that receive no records."""
    broker = KafkaBroker(task.servers, logger=None)

    async def handle(message: Envelope) -> None:
        raise AssertionError("nothing is published")

    for topic in topics_of(task):
        broker.subscriber(topic, group_id=f"{topic}-group", auto_offset_reset="earliest")(handle)
    async with broker:
        await broker.start()
        await rest(task, meter)


def measured(task: Task) -> Result:
    """Do one job."""
    meter = Meter(task)
    jobs = {"publish": publish, "consume": consume, "consume_batch": consume, "idle": idle}
    asyncio.run(jobs[task.job](task, meter))
    return meter.final()


def main() -> None:
    """Answer the measurement tasks."""
    answer(measured)


if __name__ == "__main__":
    main()
