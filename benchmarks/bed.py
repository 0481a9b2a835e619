"""The brokers: an embedded one in a separate process, or Apache Kafka."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from kafkaesk_testing import EmbeddedBroker, KafkaCluster

__all__ = ["BEDS", "PARTITIONS", "make_topic"]

PARTITIONS = 4

KAFKA = {
    "log.segment.bytes": str(64 * 1024 * 1024),
    "log.retention.bytes": str(128 * 1024 * 1024),
    "log.retention.check.interval.ms": "10000",
}
"""The retention of our broker; published records of a measurement are not read again."""


@contextmanager
def embedded() -> Iterator[str]:
    """Run an embedded broker in another process, so its processor time is not counted."""
    command = [sys.executable, "-m", "benchmarks.bed"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def kafka() -> Iterator[str]:
    """Provide the broker that KAFKA names, or start one."""
    address = os.environ.get("KAFKA")
    if address:
        yield address
        return
    with KafkaCluster(1, properties=KAFKA) as cluster:
        yield cluster.host_port


BEDS = {"embedded": embedded, "kafka": kafka}


def make_topic(servers: str, topic: str, partitions: int = PARTITIONS) -> None:
    """Create a topic; an embedded broker has no controller and creates it on first use."""

    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        try:
            if admin._client.cluster.controller is not None:
                await admin.create_topics([NewTopic(topic, partitions, 1)])
        finally:
            await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=servers)
        await producer.start()
        try:
            await producer.partitions_for(topic)
        finally:
            await producer.stop()

    asyncio.run(make())


def main() -> None:
    """Run the embedded broker until stdin ends."""
    with EmbeddedBroker() as broker:
        sys.stdout.write(broker.host_port + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
