"""Starts aiokafka's clients within a time limit, and ends them without leaving tasks behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.group import LeaveGroupRequest

from kafkaesk_core.tasks import retrieve_exception, start_detached

__all__ = ["force_close", "leave_parked", "start_client"]

logger = logging.getLogger("kafkaesk.kafka")

TIMEOUT = 2.0
"""Seconds for cancelled tasks to end, and again for closed connections."""


async def start_client(
    starting: Coroutine[Any, Any, object], client: AIOKafkaClient, timeout: float
) -> None:
    """Start an object that uses `client`, in an empty context, so its tasks inherit no variables.

    aiokafka keeps its first connection, used for metadata, in a local variable of `bootstrap()`. A
    start that is cancelled, or takes longer than `timeout` seconds, would leave the connection open
    forever, so it is closed here. The caller closes everything else of the client.

    Raises:
        TimeoutError: the start took too long.
        KafkaConnectionError: the client started but knows no broker, as with an expired token.
        KafkaError: the start failed.
    """
    task = start_detached(starting)
    task.add_done_callback(retrieve_exception)  # if we are cancelled, its exception is never read
    try:
        await asyncio.wait([task], timeout=timeout)
    finally:
        is_late = not task.done()
        if is_late:
            await _give_up(task)
    if is_late:
        raise TimeoutError
    task.result()
    if not client.cluster.brokers():
        raise kafka_errors.KafkaConnectionError("no broker in the cluster's metadata")


async def _give_up(task: asyncio.Task[object]) -> None:
    connections = list(_connections(task.get_coro()))
    task.cancel()
    await asyncio.wait([task], timeout=TIMEOUT)
    closed = [future for c in connections if (future := c.close()) is not None]
    if closed:
        await asyncio.wait(closed, timeout=TIMEOUT)


def _connections(awaiting: Any) -> Iterator[AIOKafkaConnection]:
    """Find connections in the local variables of a suspended coroutine and those it awaits."""
    while awaiting is not None:
        frame = getattr(awaiting, "cr_frame", None)
        for value in frame.f_locals.values() if frame is not None else ():
            if isinstance(value, AIOKafkaConnection):
                yield value
        awaiting = getattr(awaiting, "cr_await", None)


PATIENCE = 0.1
"""Seconds for the client's own stop, which takes milliseconds, before we leave the group."""

CONNECTION = "kafkaesk-leave"
"""A separate connection; on the coordinator's, the request would wait behind the parked one."""


async def leave_parked(consumer: AIOKafkaConsumer, stopping: asyncio.Future[Any]) -> None:
    """Leave the group on behalf of a consumer whose stop is blocked, until that stop has ended.

    A coordinator answers JoinGroup and SyncGroup once all members have sent theirs. aiokafka waits
    for that answer before it leaves, and does not leave at all if it has not joined yet, so the
    other members would wait until our session expires. Once we have left, the coordinator answers
    the parked request at once. A static member stays in the group, because it is expected to
    return.
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
        with contextlib.suppress(kafka_errors.KafkaError, OSError):  # the next turn tries again
            await consumer._client.send(node, request, group=CONNECTION)
            left_as = member_id
            logger.debug("left group %s while joining", coordinator.group_id)


CANCELLATIONS = 4
COORDINATOR_TASKS = (
    "_coordination_task",
    "_heartbeat_task",
    "_commit_refresh_task",
    "_reset_committed_task",
)
"""The last one belongs to a consumer without a group, the others to a consumer in a group."""


async def force_close(consumer: AIOKafkaConsumer) -> None:
    """End every task of a consumer and close its connections, whatever its state.

    aiokafka's stop() first marks the consumer as closed and has no finally. A stop that fails
    leaves the fetcher, heartbeat and metadata tasks running, and a second stop does nothing.
    """
    consumer._closed = True
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    tasks = [consumer._client._sync_task]
    tasks += [getattr(coordinator, name, None) for name in COORDINATOR_TASKS]
    if fetcher is not None:
        fetcher._closed = True
        tasks += [fetcher._fetch_task, *fetcher._pending_tasks]
    pending = {task for task in tasks if task is not None and not task.done()}
    for _ in range(CANCELLATIONS):  # aiokafka may swallow a cancellation
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
