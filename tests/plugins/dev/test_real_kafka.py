"""What only a real broker has: offsets by time, markers of transactions, other compression."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from click.testing import CliRunner

from kafkaesk_core.cli import cli
from kafkaesk_testing import Kafka

FIRST = 1_767_225_600_000  # 2026-01-01T00:00:00Z


async def write(servers: list[str], topic: str) -> None:
    """Ten orders in five transactions, whose markers take the offsets 2, 5, 8, 11 and 14."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(
        bootstrap_servers=servers, transactional_id=topic, compression_type="gzip"
    ) as producer:
        for first in range(0, 10, 2):
            async with producer.transaction():
                for number in (first, first + 1):
                    at = FIRST + 1000 * number
                    await producer.send(topic, b'{"number": %d}' % number, timestamp_ms=at)


def test_places_by_time_and_offsets_without_records_are_right_on_kafka(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"tail-{uuid.uuid4().hex[:8]}"
    asyncio.run(write(list(kafka.servers), topic))
    monkeypatch.setenv("KAFKAESK_KAFKA_SERVERS", ",".join(kafka.servers))

    def tail(*arguments: str) -> list[int]:
        done = CliRunner().invoke(cli, ["tail", topic, "--json", *arguments])
        assert done.exit_code == 0, done.output
        return [json.loads(line)["data"]["number"] for line in done.output.splitlines()]

    everything = tail("--from", "begin")
    by_time = tail("--from", "2026-01-01T00:00:06+00:00", "--until", "2026-01-01T00:00:08+00:00")
    last = tail("-n", "3")
    future = tail("--from", "2100-01-01")

    assert everything == list(range(10))
    assert by_time == [6, 7]
    assert last == [8, 9]  # the third of the last offsets is a marker
    assert future == []
