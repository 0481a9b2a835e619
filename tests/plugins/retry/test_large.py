"""What takes a minute to show, with the numbers that users have.

LARGE=1 uv run pytest -n 0 -s tests/plugins/retry/test_large.py
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from kafkaesk_core import ConsumerRecord, Subscriber
from kafkaesk_retry import RetrySettings, retries
from kafkaesk_testing import eventually

from .conftest import Make, Service

LETTERS, SECONDS, MEGABYTES = 100_000, 10.0, 200
STACK = b"".join(b'  File "shop/billing.py", line %d, in bill\n' % line for line in range(20))


pytestmark = pytest.mark.skipif(not os.environ.get("LARGE"), reason="each takes a minute")


def tell(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")


async def test_100_000_dead_letters_are_listed_soon_and_in_little_memory(
    service: Make, tmp_path: Path
) -> None:
    one = service()
    (tmp_path / "shop.py").write_text(
        "import kafkaesk_core\napp = kafkaesk_core.Application(entry_points=False)\n"
    )
    await one.app.initialize()
    topic = f"{one.prefix}dlq.billing.orders.placed"
    await one.app.ensure_topic(topic)
    producer = AIOKafkaProducer(bootstrap_servers=list(one.servers), linger_ms=20)
    await producer.start()
    for number in range(LETTERS):
        sent = await producer.send(topic, b'{"data":{"number":%d}}' % number, headers=[
            ("__dlq.errors.topic", f"{one.prefix}orders.placed".encode()),
            ("__dlq.errors.partition", b"0"),
            ("__dlq.errors.offset", b"%d" % number),
            ("__dlq.errors.group", b"billing"),
            ("kafkaesk-dlq-fingerprint", b"ValueError@shop.bill%d" % (number % 50)),
            ("kafkaesk-dlq-stacktrace", STACK),
        ])  # fmt: skip
    await sent
    await producer.stop()

    took, megabytes = await asyncio.to_thread(listed, one, tmp_path)

    tell(f"{LETTERS} dead letters: {took:.1f} s, {megabytes:.0f} MB")
    kinds = json.loads((tmp_path / "kinds").read_text())
    assert sum(kind["count"] for kind in kinds) == LETTERS
    assert len(kinds) == 50
    assert (took < SECONDS, megabytes < MEGABYTES) == (True, True)


def listed(one: Service, folder: Path) -> tuple[float, float]:
    """Run the command; return the seconds and megabytes that it took."""
    began = time.monotonic()
    with (folder / "kinds").open("wb") as kinds:
        listing = subprocess.Popen(
            [
                *(sys.executable, "-m", "kafkaesk_core", "dead", "ls", "shop:app", "--json"),
                *("--kafka-servers", ",".join(one.servers), "--topic-prefix", one.prefix),
            ],
            cwd=folder,
            stdout=kinds,
        )
        _, listing.returncode, used = os.wait4(listing.pid, 0)
    return time.monotonic() - began, used.ru_maxrss / 1024


async def others_rate(one: Service, poison: bytes) -> tuple[float, list[float]]:
    """Records per second in the partitions 1 to 3, and the waits of the first one in 0."""
    stream, count, done, tries = f"in-{uuid4().hex[:6]}", 1200, 0, list[float]()
    times: list[float] = []

    @one.app.subscribe(stream, f"{one.prefix}{stream}")
    @retries(attempts=100, first=0.5, most=30)
    async def handle(record: ConsumerRecord) -> None:
        nonlocal done
        if record.value == b"poison":
            tries.append(time.monotonic())
            raise ConnectionError("of this customer's bank")
        await asyncio.sleep(0.005)
        if record.partition:
            done += 1
            times.append(time.monotonic())

    for number in range(count + count // 3):
        value = poison if number == 0 else b"." * 65_536
        await one.app.raw_publish(stream, value, partition=number % 4)
    await one.app.flush()
    await one.start()
    await eventually(lambda: done == count, within=120)
    await one.stop()
    return (count - 1) / (times[-1] - times[0]), [b - a for a, b in pairwise(tries)]


async def test_beside_a_partition_that_waits_the_others_keep_their_rate(service: Make) -> None:
    """Records of 64 kB; the waits grow, and each is a random part of the longest."""
    rates: dict[bytes, list[float]] = {b"fine": [], b"poison": []}
    waits: list[float] = []
    for _ in range(3):
        for poison, found in rates.items():
            rate, waited = await others_rate(service(), poison)
            found.append(rate)
            waits = waited or waits

    without, beside = (statistics.median(found) for found in rates.values())
    tell(f"others: {without:.0f} records/s without poison, {beside:.0f} beside it; {rates}")
    tell(f"waits of the poison: {', '.join(f'{wait:.2f}' for wait in waits)} s")
    assert beside > 0.9 * without
    longest = [min(30, 0.5 * 2**n) for n in range(len(waits))]
    assert all(wait < most + 0.5 for wait, most in zip(waits, longest, strict=True))


async def test_of_100_keys_one_fails_for_a_minute_and_nothing_else_notices(service: Make) -> None:
    """The minute stands for 20: all limits of the group and of records are a 20th of their own."""
    one, down = service(attempts=10_000, first=0.025, most=1.5, dead_limit=0), 60.0
    one.app.configure(
        max_record_age=300 / 20,
        kafka_settings={
            "max_poll_interval_ms": 300_000 // 20,
            "session_timeout_ms": 1500,
            "heartbeat_interval_ms": 300,
        },
    )
    began, done, lives, attempts = 0.0, list[tuple[bytes, int, float]](), set[bool](), list[int]()

    @one.app.subscribe("in", f"{one.prefix}g", ordering="key")
    async def handle(record: ConsumerRecord, subscriber: Subscriber) -> None:
        nonlocal began
        began = began or time.monotonic()
        if record.key == b"7" and time.monotonic() < began + down:
            attempts.append(subscriber.message.attempt)
            lives.add(one.app.health().is_live)
            raise ConnectionError("of this customer's bank")
        done.append((record.key or b"", record.offset, time.monotonic() - began))

    for number in range(10_000):
        await one.app.raw_publish("in", b"fine", key=b"%d" % (number % 100))
    await one.app.flush()
    await one.start()
    await eventually(lambda: len(done) == 10_000, within=down + 60)

    others = max(at for key, _, at in done if key != b"7")
    late = [(offset, at) for key, offset, at in done if key == b"7"]
    tell(
        f"99 keys: 9,900 records in {others:.1f} s; the failing one: {len(attempts)} attempts, "
        f"its 100 records from {late[0][1]:.1f} s on to {late[-1][1]:.1f} s"
    )
    assert others < down / 2
    assert [offset for offset, _ in late] == sorted(offset for offset, _ in late)
    assert late[0][1] >= down
    assert attempts == list(range(1, len(attempts) + 1)), "it never began anew"
    assert lives == {True}
    assert [group.counts["assigned"] for group in one.app.status().groups] == [1]


@pytest.mark.parametrize("ordering", ["key", "unordered"])
async def test_while_a_dependency_is_down_for_a_minute_few_of_100_000_records_die(
    service: Make, ordering: Any
) -> None:
    defaults = RetrySettings()
    one = service(attempts=defaults.attempts, first=0.5, most=30.0, probe=defaults.probe)
    began, tried, done, down, count = 0.0, 0, set[bytes](), 60.0, 100_000

    @one.app.subscribe("in", f"{one.prefix}g", ordering=ordering, concurrency=50)
    async def handle(record: ConsumerRecord) -> None:
        nonlocal began, tried
        tried += 1
        began = began or time.monotonic()
        if time.monotonic() < began + down:
            raise ConnectionError("the database is down")
        done.add(record.value or b"")

    for number in range(count):
        await one.app.raw_publish("in", b"%d" % number, key=b"%d" % (number % 1000))
    await one.app.flush()
    await one.start()
    await eventually(lambda: began and time.monotonic() > began + down, within=down + 30)
    attempts = tried
    await eventually(lambda: len(done) + one.plugin.counts["dead"] == count, within=120)

    dead, took = one.plugin.counts["dead"], time.monotonic() - began - down
    tell(
        f"{ordering}: {attempts} attempts while it was down; {dead} of {count} records dead; all "
        f"others handled {took:.1f} s after it was back"
    )
    assert dead <= defaults.dead_limit
    assert len(await one.read(f"dlq.{one.prefix}g.in")) == dead
    assert one.app.health().reasons == ()
