"""A service with the plugin, on real Kafka or the embedded broker, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Application
from kafkaesk_retry import RetryPlugin, RetrySettings

QUICK = {"attempts": 3, "first": 0.02, "most": 0.1, "probe": 0.3}


class Service:
    """One process of a service: declare handlers on `app`, then start it."""

    def __init__(self, servers: Any, prefix: str, plugins: Any, **settings: Any) -> None:
        self.plugin = RetryPlugin(RetrySettings(**{**QUICK, **settings}))
        self.prefix = prefix
        self.servers = servers
        self.group = ""
        self.app = Application(
            servers,
            topic_prefix=prefix,
            entry_points=False,
            plugins=[*plugins, self.plugin],
            partitions=4,
            auto_commit_interval_ms=200,
        )
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.app.initialize()
        self._running = asyncio.create_task(self.app.consume_forever())

    async def stop(self) -> None:
        await self.app.stop()
        if self._running is not None:
            await asyncio.wait([self._running])
            self._running.exception()
            self._running = None
        await self.app.finalize()

    async def read(self, stream: str) -> list[ConsumerRecord]:
        """All records of a stream, by partition and offset."""
        servers = list(self.app.servers)
        consumer = AIOKafkaConsumer(
            self.prefix + stream,
            bootstrap_servers=servers,
            group_id=None,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            partitions = consumer.assignment()
            ends = await consumer.end_offsets(partitions)
            found: list[ConsumerRecord] = []
            for partition, end in ends.items():
                consumer.seek(partition, 0)
                while await consumer.position(partition) < end:
                    records = await consumer.getmany(partition, timeout_ms=500)
                    found += [one for some in records.values() for one in some]
            return sorted(found, key=lambda one: (one.partition, one.offset))
        finally:
            await consumer.stop()


Make = Callable[..., Service]


@pytest_asyncio.fixture
async def service(kafka: Any) -> AsyncIterator[Make]:
    """Make services on real Kafka, which share a prefix of their own; they are stopped."""
    made: list[Service] = []
    prefix = f"t{uuid4().hex[:10]}."

    def make(*plugins: object, **settings: Any) -> Service:
        made.append(Service(kafka.servers, prefix, plugins, **settings))
        return made[-1]

    yield make
    for one in made:
        await one.stop()
