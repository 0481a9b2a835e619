"""Log calls with this library's handler, and with handlers of Python and others, to /dev/null."""

import asyncio
import logging
import logging.handlers
import os
import queue
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import NamedTuple, TextIO

import structlog
from pythonjsonlogger.json import JsonFormatter

from benchmarks.log_calls import BURST, fed, in_bursts
from benchmarks.percentiles import percentiles
from benchmarks.task import Meter, Result, Task, answer
from kafkaesk_core import Application
from kafkaesk_logging import LogModel, PydanticKafkaeskHandler
from kafkaesk_testing import EmbeddedBroker

QUEUE = 10_000


class Placed(LogModel):
    """The logged model."""

    number: int
    article: str
    price: float


class Way(NamedTuple):
    """A log call, and the wait until the logged lines are delivered."""

    log: Callable[[int], object]
    settle: Callable[[], Awaitable[object]]


def nowhere() -> TextIO:
    """Open /dev/null."""
    return open(os.devnull, "w")


async def nothing() -> None:
    """Do not wait: the call has written the line."""


def logger_with(handler: logging.Handler) -> logging.Logger:
    """Return a new logger with one handler."""
    logger = logging.Logger("shop", logging.INFO)
    logger.addHandler(handler)
    return logger


def with_extra(logger: logging.Logger, number: int) -> None:
    """Log the fields with `extra`, without models."""
    logger.info("order placed", extra={"number": number, "article": "a coffee", "price": 2.5})


@asynccontextmanager
async def stream(_: Task, formatter: logging.Formatter | None = None) -> AsyncIterator[Way]:
    """A `logging.StreamHandler`."""
    with nowhere() as output:
        handler = logging.StreamHandler(output)
        handler.setFormatter(formatter)
        yield Way(partial(with_extra, logger_with(handler)), nothing)


def json_formatter() -> JsonFormatter:
    """Return a JSON formatter with the common fields."""
    return JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")


@asynccontextmanager
async def structured(_: Task) -> AsyncIterator[Way]:
    """Log with structlog, set up for JSON."""
    with nowhere() as output:
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.PrintLoggerFactory(output),
        )
        logger = structlog.get_logger().bind()

        def log(number: int) -> None:
            logger.info("order placed", number=number, article="a coffee", price=2.5)

        yield Way(log, nothing)


@asynccontextmanager
async def queued(_: Task) -> AsyncIterator[Way]:
    """A `QueueHandler` whose listener writes JSON."""
    with nowhere() as output:
        target = logging.StreamHandler(output)
        target.setFormatter(json_formatter())
        waiting: queue.Queue[logging.LogRecord] = queue.Queue()
        listener = logging.handlers.QueueListener(waiting, target)
        listener.start()

        async def settle() -> None:
            while waiting.unfinished_tasks:
                await asyncio.sleep(0.0005)

        logger = logger_with(logging.handlers.QueueHandler(waiting))
        yield Way(partial(with_extra, logger), settle)
        listener.stop()


@asynccontextmanager
async def ours(task: Task) -> AsyncIterator[Way]:
    """Log with our handler, in a running application."""
    app = Application([task.servers], entry_points=True)
    handler = PydanticKafkaeskHandler(app, task.topic, queue_size=QUEUE)
    logger = logger_with(handler)

    async def settle() -> None:
        if not await handler.drain(60):
            raise RuntimeError(f"lines were not delivered: {handler.stats()}")

    def log(number: int) -> None:
        logger.info("order placed", Placed(number=number, article="a coffee", price=2.5))

    async with app:
        yield Way(log, settle)
    if handler.stats().dropped:
        raise RuntimeError(f"lines were dropped: {handler.stats()}")
    handler.close()


WAYS: dict[str, Callable[[Task], AbstractAsyncContextManager[Way]]] = {
    "stream": stream,
    "json": lambda task: stream(task, json_formatter()),
    "structlog": structured,
    "queue": queued,
    "ours": ours,
}


async def calls(task: Task, meter: Meter) -> None:
    """Make calls in bursts; return the caller's cost, and the total cost until delivery."""
    async with WAYS[task.option("way", "ours")](task) as way:
        await in_bursts(task.warm_up, way.log, way.settle)
        with meter.measured():
            caller = await in_bursts(task.count, way.log, way.settle)
        assert meter.result is not None
        meter.result.details.update(caller=caller)


async def sustained(task: Task, meter: Meter) -> None:
    """Log as fast as possible, until the broker has acknowledged all lines."""
    app = Application([task.servers], entry_points=True)
    handler = PydanticKafkaeskHandler(app, task.topic, queue_size=QUEUE)
    logger = logger_with(handler)

    def log(number: int) -> None:
        logger.info("order placed", Placed(number=number, article="a coffee", price=2.5))

    async with app:
        await fed(task.warm_up, log, lambda: handler.stats().queue_size)
        await handler.drain(60)
        with meter.measured():
            await fed(task.count, log, lambda: handler.stats().queue_size)
            await handler.drain(60)
        stats = handler.stats()
    if stats.delivered < task.warm_up + task.count:
        raise RuntimeError(f"lines were not delivered: {stats}")
    handler.close()


async def full(task: Task, meter: Meter) -> None:
    """Time single calls while the queue is full and the broker is gone, in microseconds."""
    with EmbeddedBroker() as broker:
        app = Application(broker.servers, entry_points=True, shutdown_timeout=25.0)
        handler = PydanticKafkaeskHandler(
            app, task.topic, queue_size=QUEUE, fallback=None, drain_timeout=0.1
        )
        logger = logger_with(handler)
        async with app:
            logger.info("order placed", Placed(number=0, article="a coffee", price=2.5))
            await handler.drain(20)
            broker.set_down()
            log = partial(_failing if task.option("exception", False) else _plain, logger)
            while not handler.stats().dropped.get("queue_full"):
                await in_bursts(BURST, log, partial(asyncio.sleep, 0.01))
            wall, cpu = [], []
            with meter.measured():
                for number in range(task.count):
                    started, used = time.perf_counter_ns(), time.thread_time_ns()
                    log(number)
                    cpu.append((time.thread_time_ns() - used) / 1000)
                    wall.append((time.perf_counter_ns() - started) / 1000)
                    if number % BURST == 0:
                        await asyncio.sleep(0)
            assert meter.result is not None
            meter.result.details.update(wall=percentiles(wall), cpu=percentiles(cpu))
        handler.close()


def _plain(logger: logging.Logger, number: int) -> None:
    logger.info("order placed", Placed(number=number, article="a coffee", price=2.5))


def _failing(logger: logging.Logger, number: int) -> None:
    try:
        raise ValueError("no coffee")
    except ValueError:
        logger.exception("refused", Placed(number=number, article="a coffee", price=2.5))


def measured(task: Task) -> Result:
    """Do one job."""
    meter = Meter(task)
    jobs = {"calls": calls, "sustained": sustained, "full": full}
    asyncio.run(jobs[task.job](task, meter))
    return meter.final()


def main() -> None:
    """Answer the measurement tasks."""
    answer(measured)


if __name__ == "__main__":
    main()
