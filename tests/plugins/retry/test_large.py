"""`kafkaesk dead ls` over very many dead letters, in time and memory that do not matter.

LARGE=1 uv run pytest -n 0 -s tests/plugins/retry/test_large.py
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from .conftest import Make, Service

LETTERS, SECONDS, MEGABYTES = 100_000, 10.0, 200
STACK = b"".join(b'  File "shop/billing.py", line %d, in bill\n' % line for line in range(20))


@pytest.mark.skipif(not os.environ.get("LARGE"), reason="it takes a minute")
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

    sys.stdout.write(f"{LETTERS} dead letters: {took:.1f} s, {megabytes:.0f} MB\n")
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
