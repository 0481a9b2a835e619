"""The start of one of aiokafka's clients: bounded, and without a rest if it does not succeed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import aiokafka.errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection

from kafkaesk_core.tasks import retrieve_exception, start_detached

__all__ = ["start_client"]

TIMEOUT = 2.0
"""Seconds for what has to be given up to end."""


async def start_client(
    starting: Coroutine[Any, Any, object], client: AIOKafkaClient, timeout: float
) -> None:
    """Run the start of what uses `client`, in an empty context: its tasks inherit nothing.

    A start that is cancelled, or takes longer than `timeout` seconds, leaves the connection that
    it is asking for metadata in a local variable of `bootstrap()`, for ever open: it is closed
    here. What else the client has is for the caller to close.

    Raises:
        TimeoutError: not done in time.
        kafka.KafkaConnectionError: it started and knows of no broker, as with an expired token.
        kafka.KafkaError: what the start raised.
    """
    task = start_detached(starting)
    task.add_done_callback(retrieve_exception)  # nobody looks at it if we are cancelled
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
        raise kafka.KafkaConnectionError("no broker in the cluster's metadata")


async def _give_up(task: asyncio.Task[object]) -> None:
    connections = list(_connections(task.get_coro()))
    task.cancel()
    await asyncio.wait([task], timeout=TIMEOUT)
    closed = [future for c in connections if (future := c.close()) is not None]
    if closed:
        await asyncio.wait(closed, timeout=TIMEOUT)


def _connections(awaiting: Any) -> Iterator[AIOKafkaConnection]:
    """The connections in the local variables of a suspended coroutine and those it awaits."""
    while awaiting is not None:
        frame = getattr(awaiting, "cr_frame", None)
        for value in frame.f_locals.values() if frame is not None else ():
            if isinstance(value, AIOKafkaConnection):
                yield value
        awaiting = getattr(awaiting, "cr_await", None)
