"""The contestant kafkaesk 0.8, in its own environment."""

import asyncio
import logging
from typing import Any

import kafkaesk
from benchmarks.order import Order, order
from benchmarks.task import Meter, Result, Task, answer


def application(task: Task) -> Any:
    """Return an application with the schema."""
    logging.disable(logging.WARNING)
    app = kafkaesk.Application(kafka_servers=[task.servers])
    app.configure(kafka_settings=task.option("kafka_settings", {}))
    app.schema("Order", version=1)(Order)
    return app


async def publish(task: Task, meter: Meter) -> None:
    """Publish one message per call without waiting for each, until all are acknowledged."""
    app, message = application(task), order()

    async def burst(count: int) -> None:
        for number in range(count):
            last = await app.publish(task.topic, message, key=task.key(number))
            if task.option("ticks", False):
                await asyncio.sleep(0)
        await app.flush()
        await last

    async with app:
        await burst(task.warm_up)
        with meter.measured():
            await burst(task.count)


async def consume(task: Task, meter: Meter) -> None:
    """Consume with an empty handler of a model."""
    app = application(task)
    options = {"concurrency": task.option("concurrency", 1)}

    @app.subscribe(task.topic, group=task.option("group", "kafkaesk08"), **options)  # type: ignore[untyped-decorator]  # of another environment
    async def handle(message: Order) -> None:
        meter.saw()

    async with app:
        await app.consume_for(task.warm_up + task.count, seconds=60)


def measured(task: Task) -> Result:
    """Do one job."""
    meter = Meter(task)
    jobs = {"publish": publish, "consume": consume}
    asyncio.run(jobs[task.job](task, meter))
    return meter.final()


def main() -> None:
    """Answer the measurement tasks."""
    answer(measured)


if __name__ == "__main__":
    main()
