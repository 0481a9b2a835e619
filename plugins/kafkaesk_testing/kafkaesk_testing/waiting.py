"""Waits for a condition instead of a guessed time, and consumes meanwhile."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kafkaesk_core import Application

__all__ = ["consuming", "eventually"]


async def eventually(condition: Callable[[], object], *, within: float = 10.0) -> None:
    """Wait until the result of `condition()`, awaited if necessary, is true.

    Raises:
        AssertionError: the condition was not true within this many seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not await _value_of(condition()):
        if loop.time() > deadline:
            raise AssertionError(f"the condition was not true within {within:g} seconds")
        await asyncio.sleep(0.005)


async def _value_of(result: object) -> object:
    return await result if inspect.isawaitable(result) else result


@asynccontextmanager
async def consuming(app: Application, *, within: float = 20.0) -> AsyncIterator[None]:
    """Start an application and consume until the block ends, then stop it.

    The block begins when every group has joined and its partitions are assigned, or when consuming
    has failed; the error is then raised at the end of the block.

    Raises:
        AssertionError: the groups had not joined within this many seconds.
    """
    async with app:
        task = asyncio.create_task(app.consume_forever())
        try:
            await eventually(
                lambda: task.done() or (app.is_consuming and app.health().is_ready), within=within
            )
            yield
        finally:
            await app.stop()
            await task
