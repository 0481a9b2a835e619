"""How a consumer ends: it leaves its group while that rebalances, or is closed by force."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.protocol.group import LeaveGroupRequest

__all__ = ["force_close", "leave_parked"]

logger = logging.getLogger("kafkaesk.kafka")

PATIENCE = 0.1
"""Seconds for a stop, which takes milliseconds, before we leave the group ourselves."""

CONNECTION = "kafkaesk-leave"
"""A connection of its own: on the coordination one it would wait behind the parked request."""


async def leave_parked(consumer: AIOKafkaConsumer, stopping: asyncio.Future[Any]) -> None:
    """Leave the group on behalf of a consumer whose stop takes long, until that stop has ended.

    A coordinator answers JoinGroup and SyncGroup when all members have sent theirs. aiokafka
    waits for that answer before it leaves, and does not leave at all if it has not joined yet: the
    other members would wait until our session expires. Once we have left, the coordinator answers
    the parked request at once. A static member stays in the group: it is expected to return.
    """
    left_as = ""
    while not stopping.done():
        await asyncio.wait([stopping], timeout=PATIENCE)
        coordinator = consumer._coordinator
        member_id, node = coordinator.member_id, coordinator.coordinator_id
        is_known = bool(member_id) and node is not None and member_id != left_as
        if stopping.done() or not is_known or coordinator._group_instance_id is not None:
            continue
        request = LeaveGroupRequest(coordinator.group_id, member_id)
        with contextlib.suppress(kafka_errors.KafkaError, OSError):  # the loop retries it
            await consumer._client.send(node, request, group=CONNECTION)
            left_as = member_id
            logger.debug("left group %s while joining", coordinator.group_id)


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
    for _ in range(CANCELLATIONS):  # aiokafka may swallow one
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
