"""Leaving a group while the group keeps us waiting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.protocol.group import LeaveGroupRequest

__all__ = ["leave_parked"]

logger = logging.getLogger("kafkaesk.kafka")

PATIENCE = 0.1
"""Seconds that a stop may take before the group is told; it takes few milliseconds."""

CONNECTION = "kafkaesk-leave"
"""A connection of its own: on the coordination one it would wait behind the parked request."""


async def leave_parked(consumer: AIOKafkaConsumer, stopping: asyncio.Future[Any]) -> None:
    """Leave the group for a consumer whose stop takes long, until that has ended.

    A coordinator answers JoinGroup and SyncGroup when all members have sent theirs. aiokafka
    waits for the answer before it leaves, and does not leave at all if it has not joined yet:
    the others would wait until our session is over. Left, the parked request is answered at once.
    A static member stays in the group, as its next life is expected.
    """
    told = ""
    while not stopping.done():
        await asyncio.wait([stopping], timeout=PATIENCE)
        coordinator = consumer._coordinator
        member_id, node = coordinator.member_id, coordinator.coordinator_id
        is_known = bool(member_id) and node is not None and member_id != told
        if stopping.done() or not is_known or coordinator._group_instance_id is not None:
            continue
        request = LeaveGroupRequest(coordinator.group_id, member_id)
        with contextlib.suppress(kafka_errors.KafkaError, OSError):  # asked again below
            await consumer._client.send(node, request, group=CONNECTION)
            told = member_id
            logger.debug("left group %s while joining", coordinator.group_id)
