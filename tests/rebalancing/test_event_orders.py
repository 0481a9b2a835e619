"""Sequences of events on a real broker in which a record could be lost, or a member get stuck."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Application, HandlerError
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


async def publish(app: Application, stream: str, count: int) -> None:
    deliveries = [await app.raw_publish(stream, b"%d" % n) for n in range(count)]
    await asyncio.gather(*deliveries)


@pytest.mark.parametrize("on_error", ["stop", "skip"])
async def test_c28_a_codec_without_its_library_stops_and_costs_no_record(
    kafka: Any, on_error: Any
) -> None:
    """Whatever on_error says: a deployment without the library must not skip a whole topic."""
    prefix = new_prefix()
    async with admin_of(kafka.servers) as admin:
        packed = NewTopic(f"{prefix}packed", 1, 1, topic_configs={"compression.type": "lz4"})
        await admin.create_topics([packed])  # its codec is not installed here
    app = application(kafka.servers, prefix, metadata_max_age_ms=500)
    plain: list[int] = []

    @app.subscribe("*", "group", on_error=on_error)
    async def handle(data: bytes, record: ConsumerRecord) -> None:
        plain.append(record.offset)

    async with app:
        work = asyncio.create_task(app.consume_forever())
        await publish(app, "plain", 10)
        await eventually(lambda: len(plain) == 10, within=20)
        await publish(app, "packed", 1)
        with pytest.raises(HandlerError, match=r"lz4.*pip install kafkaesk-core\[lz4\]") as failure:
            await asyncio.wait_for(work, 20)
        await publish(app, "plain", 1)
        with pytest.raises(HandlerError):
            await asyncio.wait_for(app.consume_forever(), 20)

    assert (failure.value.topic, failure.value.offset) == (f"{prefix}packed", 0)
    assert set(plain) <= set(range(11))
    assert len(plain) == len(set(plain)), "what was done before was committed"
