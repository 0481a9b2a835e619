"""What a log line costs: `uv run python -m benchmarks.logging`; with `--kafka` also how many go.

Medians of rounds in shuffled order; for each case microseconds of the calling thread, and of the
whole process's CPU, per line with a model of three fields.
"""

from __future__ import annotations

import asyncio
import json
import logging
import logging.handlers
import os
import queue
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median

import structlog
from pythonjsonlogger.json import JsonFormatter

from kafkaesk_core import Application
from kafkaesk_logging import Logging, LogModel, PydanticKafkaeskHandler
from kafkaesk_testing import KafkaCluster
from kafkaesk_tools.peers import peer_python

LINES, ROUNDS, SUSTAINED = 5000, 15, 50_000
PEER = Path(__file__).with_name("logging_peer.py")
Log = Callable[[], object]


class Order(LogModel):
    number: int = 7
    article: str = "a coffee"
    price: float = 2.5


ORDER = Order()


def logger_with(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("shop", logging.INFO)
    logger.addHandler(handler)
    return logger


@contextmanager
def stream(formatter: logging.Formatter | None = None) -> Iterator[Log]:
    with open(os.devnull, "w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(formatter)
        logger = logger_with(handler)
        yield lambda: logger.info("order placed", extra=ORDER.model_dump())


@contextmanager
def structured() -> Iterator[Log]:
    with open(os.devnull, "w") as nowhere:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.PrintLoggerFactory(nowhere),
            cache_logger_on_first_use=False,
        )
        logger = structlog.get_logger().bind()
        yield lambda: logger.info("order placed", **ORDER.model_dump())


@contextmanager
def queued() -> Iterator[Log]:
    with open(os.devnull, "w") as nowhere:
        target = logging.StreamHandler(nowhere)
        target.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        waiting: queue.Queue[logging.LogRecord] = queue.Queue()
        listener = logging.handlers.QueueListener(waiting, target)
        logger = logger_with(logging.handlers.QueueHandler(waiting))
        listener.start()
        yield lambda: logger.info("order placed", extra=ORDER.model_dump())
        listener.stop()


@contextmanager
def shipped(size: int = 2 * LINES) -> Iterator[Log]:
    handler = PydanticKafkaeskHandler(lambda: NOBODY, queue_size=size, fallback=None)
    logger = logger_with(handler)
    yield lambda: logger.info("order placed", ORDER)
    handler.close()


@contextmanager
def failing(size: int = 2 * LINES) -> Iterator[Log]:
    handler = PydanticKafkaeskHandler(lambda: NOBODY, queue_size=size, fallback=None)
    logger = logger_with(handler)

    def log() -> None:
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            logger.exception("order refused", ORDER)

    yield log
    handler.close()


NOBODY = Application(entry_points=False)
CASES: dict[str, Callable[[], AbstractContextManager[Log]]] = {
    "StreamHandler, text, to /dev/null": stream,
    "StreamHandler, python-json-logger": lambda: stream(
        JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    ),
    "structlog, JSON, to /dev/null": structured,
    "QueueHandler + python-json-logger": queued,
    "kafkaesk-logging": shipped,
    "kafkaesk-logging, queue full": lambda: shipped(100),
    "kafkaesk-logging, an exception": failing,
}


def measured(case: str) -> tuple[float, float]:
    """Microseconds per line: of the caller, and of CPU in all threads."""
    cpu = time.process_time()
    with CASES[case]() as log:
        started = time.perf_counter()
        for _ in range(LINES):
            log()
        took = time.perf_counter() - started
    return took / LINES * 1e6, (time.process_time() - cpu) / LINES * 1e6


def percentiles(
    full: Callable[[int], AbstractContextManager[Log]], clock: Callable[[], int]
) -> tuple[float, float]:
    """Median and 99th percentile of single calls while the queue is full, in microseconds."""
    with full(100) as log:
        took = []
        for _ in range(20 * LINES):
            started = clock()
            log()
            took.append(clock() - started)
    took.sort()
    return took[len(took) // 2] / 1000, took[int(len(took) * 0.99)] / 1000


def peer(*arguments: object) -> list[float]:
    command = [str(peer_python("kafkaesk-0.8")), "-P", str(PEER), *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: list[float] = json.loads(done.stdout)
    return found


async def sustained(servers: list[str]) -> float:
    """Lines per second until the broker has acknowledged them all."""
    app = Application(servers, entry_points=False, plugins=[Logging()], partitions=1)
    handler = PydanticKafkaeskHandler(app, queue_size=20_000)
    logger = logger_with(handler)
    async with app:
        logger.info("order placed", ORDER)
        await handler.drain(20)
        started = time.perf_counter()
        for _ in range(SUSTAINED // 1000):
            for _ in range(1000):
                logger.info("order placed", Order())
            while handler.stats().queue_size > 5000:
                await asyncio.sleep(0.001)
        assert await handler.drain(60)
        took = time.perf_counter() - started
    stats = handler.stats()
    assert stats.delivered == SUSTAINED + 1, stats
    handler.close()
    return SUSTAINED / took


def main() -> None:
    found: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    for number in range(ROUNDS + 1):
        for case in random.sample(list(CASES), len(CASES)):
            values = measured(case)
            if number:  # the first one warms up
                found[case].append(values)
    print(f"us per line, medians of {ROUNDS} rounds of {LINES}: caller (min-max), CPU in all")
    for case, rounds in found.items():
        caller = [value for value, _ in rounds]
        cpu = median(value for _, value in rounds)
        print(f"{case:36} {median(caller):7.2f} ({min(caller):.2f}-{max(caller):.2f}) {cpu:7.2f}")
    theirs = peer("emit", LINES, ROUNDS)
    print(f"{'kafkaesk 0.8.7, emit alone':36} {median(theirs):7.2f}")
    pairs = [
        (median(a), median(b))
        for a, b in zip(
            zip(*found["kafkaesk-logging"], strict=True),
            zip(*found["QueueHandler + python-json-logger"], strict=True),
            strict=True,
        )
    ]
    print(
        "of QueueHandler + python-json-logger: caller {:.2f}x, CPU {:.2f}x".format(
            *(mine / other for mine, other in pairs)
        )
    )
    for name, full in (("", shipped), (", an exception", failing)):
        middle, high = percentiles(full, time.perf_counter_ns)
        print(f"queue full{name}: p50 {middle:.1f} us, p99 {high:.1f} us")
        middle, high = percentiles(full, time.thread_time_ns)  # without waiting for a processor
        print(f"queue full{name}, CPU: p50 {middle:.1f} us, p99 {high:.1f} us")
    if "--kafka" in sys.argv:
        with KafkaCluster(1) as cluster:
            servers = [cluster.nodes[0].address]
            asyncio.run(sustained(servers))  # a broker is slow at first
            mine = [asyncio.run(sustained(servers)) for _ in range(3)]
            other = [peer("ship", servers[0], SUSTAINED // 5)[0] for _ in range(3)]
        print(
            f"sustained: {median(mine):,.0f} lines/s, kafkaesk 0.8.7 {median(other):,.0f}, "
            f"{median(mine) / median(other):.1f}x"
        )


if __name__ == "__main__":
    main()
