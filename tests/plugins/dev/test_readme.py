"""The README shows what the commands really print."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from kafkaesk_testing import EmbeddedBroker

from .conftest import Project

README = Path(__file__).parents[3] / "plugins/kafkaesk_dev/README.md"
OUTPUT = re.compile(r"<!-- output of: (\w+) -->\n```text\n(.*?)```", re.DOTALL)
ORDER = b'{"schema": "Order:1", "data": {"number": 1, "article": "tea", "cents": 350}}'


def without_times(text: str) -> list[str]:
    """The lines without what is different each time, and without spaces that align columns."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r"\d+ (?:s|min) ago", "AGE", text)
    return [" ".join(line.split()) for line in text.splitlines()]


async def write(broker: EmbeddedBroker) -> None:
    records: tuple[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]], ...] = (
        (2, b"customer-7", ORDER, [("tenant", b"blue")]),
        (0, b"customer-7", None, []),
        (1, None, b"\xff\xfe\x00", []),
    )
    async with AIOKafkaProducer(bootstrap_servers=broker.servers) as producer:
        await producer.partitions_for("orders.placed")
        for number, (partition, key, value, headers) in enumerate(records):
            at = int(time.time() - 3 + number) * 1000
            await producer.send_and_wait(
                "orders.placed", value, key, partition, at, headers=headers
            )


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("tail", "kafkaesk tail orders.placed"),
        ("inspect", "kafkaesk inspect corner-shop 'orders.placed[1]@0'"),
    ],
)
def test_the_readme_shows_what_a_command_prints(
    name: str, command: str, project: Project, embedded_kafka: EmbeddedBroker
) -> None:
    asyncio.run(write(embedded_kafka))
    servers = f"embedded://{embedded_kafka.host_port}"

    done = project.run(command, KAFKAESK_KAFKA_SERVERS=servers, COLUMNS="500")

    assert done.returncode == 0, done.stderr
    printed = without_times(done.stdout)
    shown = without_times(dict(OUTPUT.findall(README.read_text()))[name])
    assert len(shown) == len(printed)
    for line, real in zip(shown, printed, strict=True):
        assert real.startswith(line)
