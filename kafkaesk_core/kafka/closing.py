"""The end of a consumer that does not end by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from aiokafka import AIOKafkaConsumer

__all__ = ["force_close"]

logger = logging.getLogger("kafkaesk.kafka")

TIMEOUT = 2.0
"""Seconds for the tasks, and again for the connections."""

CANCELLATIONS = 4


async def force_close(consumer: AIOKafkaConsumer) -> None:
    """End every task of a consumer and close its connections, whatever state it is in.

    aiokafka's stop() marks itself done first and has no finally: failed once, it leaves its
    fetcher, heartbeat and metadata tasks behind.
    """
    consumer._closed = True
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    tasks = [consumer._client._sync_task]
    if coordinator is not None:
        tasks += [
            coordinator._coordination_task,
            coordinator._heartbeat_task,
            coordinator._commit_refresh_task,
        ]
    if fetcher is not None:
        fetcher._closed = True
        tasks += [fetcher._fetch_task, *fetcher._pending_tasks]
    pending = {task for task in tasks if task is not None and not task.done()}
    for _ in range(CANCELLATIONS):  # one may be swallowed
        for task in pending:
            task.cancel()
        if pending:
            _, pending = await asyncio.wait(pending, timeout=TIMEOUT / CANCELLATIONS)
    if pending:
        logger.error(
            "%d tasks of a Kafka consumer ignore their cancellation: %s", len(pending), pending
        )
    with contextlib.suppress(Exception):
        async with asyncio.timeout(TIMEOUT):
            await consumer._client.close()
