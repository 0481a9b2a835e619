"""Sequences of events on a real broker in which a record could be lost, or a member get stuck."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Application
from kafkaesk_testing import eventually


def application(servers: list[str], prefix: str, **client: Any) -> Application:
    options = {"heartbeat_interval_ms": 300, "session_timeout_ms": 6000, **client}
    return Application(servers, prefix, options, entry_points=False, partitions=1)


def new_prefix() -> str:
    return f"review-{uuid.uuid4().hex[:8]}."


@asynccontextmanager
async def admin_of(servers: list[str]) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def consuming(app: Application) -> AsyncIterator[None]:
    async with app:
        work = asyncio.create_task(app.consume_forever())
        try:
            yield
        finally:
            await app.stop()
            await work


async def publish(app: Application, stream: str, count: int) -> None:
    deliveries = [await app.raw_publish(stream, b"%d" % n) for n in range(count)]
    await asyncio.gather(*deliveries)


async def test_a_partition_that_cannot_be_read_costs_others_no_record(kafka: Any) -> None:
    """Rule 1, A23: getmany moves positions on, raises, and forgets what it had drained."""
    prefix = new_prefix()
    async with admin_of(kafka.servers) as admin:
        packed = NewTopic(f"{prefix}packed", 1, 1, topic_configs={"compression.type": "lz4"})
        await admin.create_topics([packed])  # its codec is not installed here
    app = application(kafka.servers, prefix, metadata_max_age_ms=500)
    plain: list[int] = []

    @app.subscribe("*", "group")
    async def handle(data: bytes, record: ConsumerRecord) -> None:
        plain.append(record.offset)

    async with consuming(app):
        await publish(app, "plain", 1)
        await eventually(lambda: plain == [0], within=20)
        await publish(app, "packed", 1)
        await eventually(lambda: "lz4" in str(app.health().reasons), within=20)
        for count in range(2, 12):
            await publish(app, "plain", 1)
            await eventually(lambda: len(plain) == count, within=10)  # noqa: B023

    assert plain == list(range(11))
