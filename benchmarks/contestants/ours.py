"""The contestant kafkaesk, from this file's tree."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.idle import rest, topics_of
from benchmarks.order import Order, order
from benchmarks.task import Meter, Result, Task, answer
from kafkaesk_core import Application, hookimpl

DEFAULT = gc.get_threshold()


class Layer:
    """A plugin that passes each message on."""

    def __init__(self, number: int) -> None:
        self.name = f"layer-{number}"

    @hookimpl
    async def wrap_publish(self, message: Any, call_next: Any) -> Any:
        """Call the next layer."""
        return await call_next(message)


@asynccontextmanager
async def running(task: Task, **settings: Any) -> AsyncIterator[Application]:
    """Run an application with only the given plugins."""
    layers = [Layer(number) for number in range(task.option("layers", 0))]
    app = Application([task.servers], entry_points=False, plugins=layers, **settings)
    app.schema("Order", version=1)(Order)
    async with app:
        yield app


async def publish(task: Task, meter: Meter) -> None:
    """Publish one message per call without waiting for each, until all are acknowledged."""
    validate = task.option("validate", True)
    ticks, topics = task.option("ticks", False), task.option("topics", 1)
    message = order(padding=task.option("padding", 0))
    async with running(task, validate_published=validate) as app:
        names = [task.topic] if topics == 1 else [f"{task.topic}-{n}" for n in range(topics)]

        async def burst(count: int) -> None:
            for number in range(count):
                await app.publish(names[number % topics], message, task.key(number))
                if ticks:
                    await asyncio.sleep(0)
            await app.flush()

        await burst(max(task.warm_up, topics))
        with meter.measured():
            await burst(task.count)


async def publish_many(task: Task, meter: Meter) -> None:
    """Publish all messages in one call, until all are acknowledged."""
    message = order()
    async with running(task, validate_published=task.option("validate", True)) as app:
        await app.publish_many(task.topic, (message for _ in range(task.warm_up)))
        await app.flush()
        with meter.measured():
            await app.publish_many(task.topic, (message for _ in range(task.count)))
            await app.flush()


def application(task: Task) -> Application:
    """Return an application without plugins that consumes the topic from its beginning."""
    settings = task.option("kafka_settings", {})
    app = Application([task.servers], entry_points=False, kafka_settings=settings)
    app.schema("Order", version=1)(Order)
    return app


def subscription(task: Task) -> dict[str, Any]:
    """Return the arguments of `subscribe`."""
    names = ("ordering", "concurrency")
    return {"group": task.option("group", "ours")} | {
        name: task.options[name] for name in names if name in task.options
    }


async def serve(app: Application, ended: asyncio.Event) -> None:
    """Consume as a service does, until the last message was handled."""
    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        async with asyncio.timeout(60):
            await ended.wait()
        await app.stop()
        await consuming


async def consume(task: Task, meter: Meter) -> None:
    """Consume with an empty handler of a model, one by one."""
    app, ended = application(task), asyncio.Event()

    @app.subscribe(task.topic, **subscription(task))
    async def handle(message: Order) -> None:
        if meter.saw():
            ended.set()

    await serve(app, ended)


async def consume_batch(task: Task, meter: Meter) -> None:
    """Consume with an empty handler of a list of models."""
    app, ended = application(task), asyncio.Event()

    @app.subscribe(task.topic, batch_size=500, batch_timeout=0.1, **subscription(task))
    async def handle(messages: list[Order]) -> None:
        if meter.saw(len(messages)):
            ended.set()

    await serve(app, ended)


async def consume_waiting(task: Task, meter: Meter) -> None:
    """Consume with a handler that waits a millisecond."""
    app, ended = application(task), asyncio.Event()

    @app.subscribe(task.topic, **subscription(task))
    async def handle(message: Order) -> None:
        await asyncio.sleep(0.001)
        if meter.saw():
            ended.set()

    await serve(app, ended)


async def idle(task: Task, meter: Meter) -> None:
    """Run groups that receive no records."""
    app = application(task)
    for topic in topics_of(task):

        @app.subscribe(topic, f"{topic}-group")
        async def handle(message: Order) -> None:
            raise AssertionError("nothing is published")

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await rest(task, meter)
        await app.stop()
        await consuming


def measured(task: Task) -> Result:
    """Do one job."""
    meter = Meter(task)
    gc.set_threshold(*task.option("collector", DEFAULT))
    jobs = {
        "publish": publish,
        "publish_many": publish_many,
        "consume": consume,
        "consume_batch": consume_batch,
        "consume_waiting": consume_waiting,
        "idle": idle,
    }
    asyncio.run(jobs[task.job](task, meter))
    return meter.final()


def main() -> None:
    """Answer the measurement tasks."""
    answer(measured)


if __name__ == "__main__":
    main()
