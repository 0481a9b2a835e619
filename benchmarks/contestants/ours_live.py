"""kafkaesk under other conditions: latency, memory with a slow handler, shares of a group."""

import asyncio
import contextlib
import time
from typing import Any

from benchmarks.idle import memory_mib
from benchmarks.order import Order, order
from benchmarks.percentiles import curve
from benchmarks.task import Result, Task, answer
from kafkaesk_core import Application


def application(task: Task) -> Application:
    """Return an application without plugins."""
    settings = task.option("kafka_settings", {})
    app = Application([task.servers], kafka_settings=settings, entry_points=False)
    app.schema("Order", version=1)(Order)
    return app


async def latency(task: Task) -> Result:
    """Publish at a rate; measure from each call to its acknowledgement and to its handler."""
    app, acks, handled = application(task), list[float](), list[float]()

    @app.subscribe(task.topic, group=task.option("group", "latency"))
    async def handle(message: Order) -> None:
        handled.append(time.perf_counter() - float(message.note))

    def acknowledged(started: float) -> Any:
        return lambda _: acks.append(time.perf_counter() - started)

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        while not app.health().is_ready:
            await asyncio.sleep(0.05)
        start, cpu = time.perf_counter(), time.process_time()
        for number in range(task.warm_up + task.count):
            await asyncio.sleep(start + number / task.option("rate", 1000) - time.perf_counter())
            now = time.perf_counter()
            message = order().model_copy(update={"note": repr(now)})
            (await app.publish(task.topic, message)).add_done_callback(acknowledged(now))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        while len(handled) < task.warm_up + task.count:
            await asyncio.sleep(0.01)
        await app.stop()
        await consuming
    details = {
        "ack": curve(acks[task.warm_up :]),
        "handler": curve(handled[task.warm_up :]),
    }
    return Result(task.count, seconds, cpu, details)


async def memory(task: Task) -> Result:
    """Publish ten times as fast as a handler handles, and measure the memory."""
    app, samples, handled = application(task), list[float](), 0

    @app.subscribe(task.topic, group=task.option("group", "memory"), concurrency=1)
    async def handle(message: Order) -> None:
        nonlocal handled
        handled += 1
        await asyncio.sleep(0.005)

    async def publish() -> None:
        message = order(padding=1000)
        while True:
            await app.publish_many(task.topic, (message for _ in range(200)))
            await asyncio.sleep(0.1)

    async with app:
        tasks = [asyncio.create_task(app.consume_forever()), asyncio.create_task(publish())]
        start = time.perf_counter()
        while time.perf_counter() < start + task.option("seconds", 30):
            await asyncio.sleep(0.5)
            samples.append(memory_mib())
        published = app.status().published["acked"]
        tasks[1].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[1]
        await app.stop()
        await tasks[0]
    details = {"samples": samples, "published": published, "handled": handled}
    return Result(handled, time.perf_counter() - start, time.process_time(), details)


async def share(task: Task) -> Result:
    """Run one member of a group from a given moment until no more records arrive."""
    app, begin, last, handled = application(task), task.option("begin", 0.0), 0.0, 0

    @app.subscribe(task.topic, group=task.option("group", "share"))
    async def handle(message: Order) -> None:
        nonlocal last, handled
        if time.time() < begin:
            await asyncio.sleep(begin - time.time())
        handled += 1
        last = time.time()

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await asyncio.sleep(max(begin - time.time(), 0) + 2)
        while time.time() < last + 2:
            await asyncio.sleep(0.1)
        await app.stop()
        await consuming
    return Result(handled, max(last - begin, 0.0), time.process_time(), {})


def measured(task: Task) -> Result:
    """Do one job."""
    jobs = {"latency": latency, "memory": memory, "share": share}
    return asyncio.run(jobs[task.job](task))


def main() -> None:
    """Answer the measurement tasks."""
    answer(measured)


if __name__ == "__main__":
    main()
