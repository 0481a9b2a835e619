"""`uv run kills`: two processes of one group, one stopped and one killed, and what was lost.

Publishes orders to real Apache Kafka while two `kafkaesk orders` handle them; sends SIGTERM to
one and SIGKILL to the other, starts both again, and compares what was published with what was
handled. Exits 1 if an order was lost, or handled twice for another reason than the kill.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kafkaesk_core import Application
from kafkaesk_testing import KafkaCluster

from .orders import Order

__all__ = ["main"]

CUSTOMERS = 97
RATE = 6_000  # orders per second, at most
LIMIT, JOIN_LIMIT = 300.0, 30.0


def say(text: str) -> None:
    """Print one line of the transcript."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


class Worker:
    """One `kafkaesk orders` as a process of its own."""

    def __init__(self, name: str, servers: str, log: Path) -> None:
        self.name = name
        self.output = log.with_name(f"{name}.output")
        self._ended: set[int] = set()
        self._environment = {
            **os.environ,
            "ORDERS_LOG": str(log),
            "KAFKAESK_KAFKA_SERVERS": servers,
            "KAFKAESK_KAFKA_SETTINGS": '{"session_timeout_ms": 6000, "heartbeat_interval_ms": 500}',
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        command = [sys.executable, "-m", "kafkaesk_core", "orders"]
        self.output.write_text("")
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(command, env=self._environment, stderr=output)
        say(f"{self.name}: started, pid {self._process.pid}")

    async def joined(self) -> None:
        """Wait until it has partitions."""
        deadline = time.monotonic() + JOIN_LIMIT
        while "assigned" not in self.output.read_text():
            self.check()
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name} did not join:\n{self.output.read_text()}")
            await asyncio.sleep(0.1)
        say(f"{self.name}: has joined the group")

    def check(self) -> None:
        """Give up if the process ended by itself."""
        if self._process is not None and self._process.poll() not in (None, *self._ended):
            raise SystemExit(f"{self.name} has failed:\n{self.output.read_text()}")

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(number)
        code = await asyncio.to_thread(self._process.wait, 40)
        self._ended.add(code)
        seconds = time.monotonic() - began
        say(f"{self.name}: {number.name}, exit code {code} after {seconds:.1f} s")
        return code


def handled(log: Path) -> Counter[int]:
    """How often each order was handled."""
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(int(line.split()[2]) for line in lines if line.count(" ") == 2)


def disorder(log: Path) -> int:
    """How many orders were first handled after a later one of the same customer."""
    last: dict[int, int] = {}
    seen: set[int] = set()
    violations = 0
    for line in log.read_text().splitlines():
        _, customer, number = (int(part) for part in line.split())
        if number in seen:
            continue
        seen.add(number)
        violations += number < last.get(customer, -1)
        last[customer] = number
    return violations


async def publish(app: Application, first: int, last: int) -> None:
    """Publish orders with these numbers and wait until all are acknowledged."""
    deliveries = []
    for number in range(first, last):
        customer = number % CUSTOMERS
        order = Order(number=number, customer=customer)
        deliveries.append(await app.publish("orders", order, key=str(customer).encode()))
        if number % 500 == 0:
            await asyncio.sleep(500 / RATE)
    await asyncio.gather(*deliveries)


async def wait_for(log: Path, count: int, workers: Sequence[Worker]) -> None:
    """Wait until so many different orders were handled."""
    deadline = time.monotonic() + LIMIT
    while len(handled(log)) < count:
        for worker in workers:
            worker.check()
        if time.monotonic() > deadline:
            say(f"gave up after {LIMIT:.0f} s")
            return
        await asyncio.sleep(0.5)


async def scene(servers: list[str], messages: int, log: Path) -> bool:
    """Play it; returns whether nothing was lost and nothing doubled without a kill."""
    app = Application(servers, entry_points=False)
    app.schema("Order", version=1, streams=["orders"])(Order)
    one = Worker("one", ",".join(servers), log)
    two = Worker("two", ",".join(servers), log)
    workers = (one, two)
    async with app:
        for worker in workers:
            worker.start()
        for worker in workers:
            await worker.joined()
        publishing = asyncio.create_task(publish(app, 0, messages))
        await wait_for(log, messages // 5, workers)
        code = await one.end(signal.SIGTERM)
        one.start()
        await one.joined()
        await wait_for(log, messages // 2, workers)
        before_kill = sum(count > 1 for count in handled(log).values())
        say(f"{len(handled(log))} handled, {before_kill} of them twice")
        await two.end(signal.SIGKILL)
        two.start()
        await two.joined()
        await publishing
        await wait_for(log, messages, workers)
        for worker in workers:
            code += await worker.end(signal.SIGTERM)
    counts = handled(log)
    lost = messages - len(counts)
    twice = sum(count > 1 for count in counts.values())
    say(f"published {messages}, handled at least once {len(counts)}, lost {lost}")
    say(f"handled twice {twice}: {before_kill} before the kill, {twice - before_kill} after it")
    say(f"out of order within a customer: {disorder(log)}")
    return lost == 0 and before_kill == 0 and code == 0 and disorder(log) == 0


def main() -> None:
    """Run the scene on a broker of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, KafkaCluster(1) as cluster:
        say(f"Apache Kafka at {', '.join(cluster.servers)}")
        is_good = asyncio.run(scene(cluster.servers, arguments.messages, Path(folder) / "log"))
    sys.exit(0 if is_good else 1)
