"""`uv run bench clients`: how fast a service consumes while hostile clients use its probes.

Each round consumes the same records twice, in shuffled order: alone, and beside a hostile process.
That process opens 500 connections and sends nothing, an endless line, or a head of a megabyte, and
repeats this every second. Everything runs on this machine, so the processor time of the service's
thread is more meaningful than its rate.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import NamedTuple

from kafkaesk_core import Application
from kafkaesk_ops import OpsPlugin, OpsSettings
from kafkaesk_testing import EmbeddedBroker

CONNECTIONS = 500
SECONDS = 60.0
HOSTILE = (b"", b"GET /live", b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000)
TOPIC = "orders"


class Pace(NamedTuple):
    """The rate of a run, the cost of a record, and the answer of the last probe."""

    rate: float
    microseconds: float
    probe: bytes


async def _consume(servers: list[str], count: int, *, is_attacked: bool) -> Pace:
    ops = OpsPlugin(OpsSettings(port=0))
    app = Application(servers, plugins=[ops], entry_points=False, create_topics=False)
    marks: list[tuple[float, float]] = []
    handled = 0

    @app.subscribe(TOPIC, uuid.uuid4().hex)
    async def handle(order: bytes) -> None:
        nonlocal handled
        handled += 1
        if handled in (1, count):
            marks.append((time.perf_counter(), time.thread_time()))

    async with app:
        assert ops.port is not None
        with _attacked(ops.port) if is_attacked else nullcontext():
            await app.consume_for(count, seconds=SECONDS)
            probe = await _ask(ops.port)
    (began, spent), (ended, spent_in_the_end) = marks
    cost = (spent_in_the_end - spent) / (count - 1) * 1e6
    return Pace((count - 1) / (ended - began), cost, probe)


async def _ask(port: int) -> bytes:
    """Return the answer of /live within ten seconds."""
    for _ in range(20):
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /live HTTP/1.0\r\n\r\n")
            answer = await reader.readline()
            writer.close()
            if answer:
                return answer.strip()
        await asyncio.sleep(0.5)
    return b"no answer"


@contextmanager
def _attacked(port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.clients", "--attack", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # all have connected once
            yield
        finally:
            process.kill()


async def _attack(port: int) -> None:
    """Attack the probes for a limited time."""

    async def connect(number: int) -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HOSTILE[number % len(HOSTILE)])
            with suppress(OSError):
                await reader.read()
            writer.close()

    async def connect_again_and_again(number: int) -> None:
        while True:
            began = time.monotonic()
            await connect(number)
            await asyncio.sleep(max(0.0, began + 1 - time.monotonic()))

    clients = [asyncio.create_task(connect_again_and_again(n)) for n in range(CONNECTIONS)]
    await asyncio.sleep(1)
    print("connected", flush=True)
    await asyncio.wait(clients, timeout=SECONDS)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="bench clients")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--attack", type=int, metavar="PORT", help="be the hostile clients")
    options = parser.parse_args(argv)
    if options.attack:
        asyncio.run(_attack(options.attack))
        return
    found: dict[bool, list[Pace]] = {False: [], True: []}
    with EmbeddedBroker() as broker:
        broker.create_topic(TOPIC, partitions=3)
        asyncio.run(_publish(broker.servers, options.messages))
        for number in range(options.rounds):
            for is_attacked in random.sample((False, True), 2):
                pace = _consume(broker.servers, options.messages, is_attacked=is_attacked)
                found[is_attacked].append(asyncio.run(pace))
            sys.stderr.write(f"\rround {number + 1} of {options.rounds}")
    sys.stderr.write("\n")
    print(f"{'':24}{'records/s':>12}{'us of CPU':>12}   /live")
    for name, is_attacked in (("beside nobody", False), (f"{CONNECTIONS} hostile clients", True)):
        paces = found[is_attacked]
        answers = b", ".join(sorted({pace.probe for pace in paces})).decode()
        rate, cost = (statistics.median(each) for each in list(zip(*paces, strict=True))[:2])
        print(f"{name:24}{rate:12,.0f}{cost:12.2f}   {answers}")


async def _publish(servers: list[str], count: int) -> None:
    app = Application(servers, entry_points=False, create_topics=False)
    async with app:
        for number in range(count):
            await app.raw_publish(TOPIC, b"an order", partition=number % 3)
        await app.flush()


if __name__ == "__main__":
    main()
